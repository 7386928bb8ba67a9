"""torch's fused AdamW, stepped by Thinc's optimizer, beside Thinc's own Adam."""

import numpy as np
import pytest
import torch
from thinc.api import Adam, Optimizer, RAdam, warmup_linear

from trfnb.experiments.weights import EncoderAdam
from trfnb.flow import optimizer as optimizer_module

SHAPES = {"layer.weight": (7, 5), "layer.bias": (5,), "embeddings": (11, 3)}
SETTINGS = {
    "plain": {"L2": 0.0, "grad_clip": 0.0, "use_averages": False},
    "decay and clipping": {"L2": 0.05, "grad_clip": 1.0, "use_averages": False},
    "penalty": {"L2": 0.05, "L2_is_weight_decay": False, "grad_clip": 1.0, "use_averages": False},
    "averages": {"L2": 0.01, "grad_clip": 1.0, "use_averages": True},
    "betas and eps": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "use_averages": False},
}


def steps(optimizer, count=100, skip=None):
    """Step made-up parameters by made-up gradients; some get none now and then."""
    draw = np.random.default_rng(3)
    parameters = {
        name: torch.nn.Parameter(torch.from_numpy(draw.normal(size=shape).astype("float32")))
        for name, shape in SHAPES.items()
    }
    for number in range(count):
        for name, parameter in parameters.items():
            gradient = torch.from_numpy(draw.normal(0, 0.5, parameter.shape).astype("float32"))
            parameter.grad = None if name == skip and number % 3 else gradient
        optimizer_module.step(optimizer, 1, parameters.items())
        optimizer.step_schedules()
        assert all(parameter.grad is None for parameter in parameters.values())
    return {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}


def by_thinc(optimizer, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr(optimizer_module, "_is_adam", lambda optimizer: False)
        return steps(optimizer, **options)


@pytest.mark.parametrize("skip", [None, "layer.bias"])
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_thinc_over_a_hundred_steps(name, skip, monkeypatch):
    def optimizer():
        return Adam(warmup_linear(0.01, 10, 100), **SETTINGS[name])

    ours, theirs = optimizer(), optimizer()
    found, expected = steps(ours, skip=skip), by_thinc(theirs, monkeypatch, skip=skip)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)
    assert ours.nr_update == theirs.nr_update
    for key in theirs.averages or {}:
        np.testing.assert_allclose(ours.averages[key], theirs.averages[key], atol=1e-5)


def test_the_encoder_has_a_rate_of_its_own(monkeypatch):
    found = steps(EncoderAdam(0.01, encoder_factor=0.5))
    expected = by_thinc(EncoderAdam(0.01, encoder_factor=0.5), monkeypatch)
    whole = steps(EncoderAdam(0.01, encoder_factor=1.0))
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)
    assert np.abs(found["layer.weight"] - whole["layer.weight"]).max() > 0.01
    np.testing.assert_allclose(found["embeddings"], whole["embeddings"], atol=1e-5)


def test_the_two_ways_may_follow_each_other(monkeypatch):
    optimizer, expected = Adam(0.01), steps(Adam(0.01), 20)
    calls = []

    def now_and_then(optimizer):
        calls.append(optimizer)
        return len(calls) % 2 == 0

    monkeypatch.setattr(optimizer_module, "_is_adam", now_and_then)
    for key, value in steps(optimizer, 20).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-5)


def test_other_optimizers_step_as_they_do():
    class Own(Optimizer):
        def __call__(self, key, weights, gradient, *, lr_scale=1.0):
            weights -= 0.1 * gradient
            return weights, gradient

    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer_module.step(Own(0.1), 1, [("w", parameter)])
    np.testing.assert_allclose(parameter.detach().numpy(), 0.9)
    steps(RAdam(0.01), 3)
