import numpy
import pytest
from spacy.util import registry

import trfnb.registration  # noqa: F401

BLOCK = {"@optimizers": "trfnb.Adam.v1", "learn_rate": 0.01}


def stepped(block, key):
    optimizer = registry.resolve({"optimizer": block})["optimizer"]
    weights, gradient = numpy.ones(4, dtype="f"), numpy.full(4, 0.5, dtype="f")
    return optimizer(key, weights, gradient)[0]


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_only_torch_modules_are_slowed_down(factor):
    block = {**BLOCK, "encoder_factor": factor, "L2": 0.1}
    plain = stepped({**BLOCK, "@optimizers": "Adam.v1", "L2": 0.1, "use_averages": False}, (1, "W"))
    assert stepped(block, (1, "W")) == pytest.approx(plain)
    encoder = stepped(block, (1, "encoder.layer.0.attention.self.query.weight"))
    assert 1 - encoder == pytest.approx(factor * (1 - plain), rel=1e-2, abs=1e-7)


def test_a_schedule_sets_both_rates():
    schedule = {"@schedules": "compounding.v1", "start": 1.0, "stop": 0.1, "compound": 0.1}
    optimizer = registry.resolve({"optimizer": {**BLOCK, "learn_rate": schedule}})["optimizer"]
    optimizer.step_schedules()
    assert optimizer.learn_rate == pytest.approx(0.1)
