"""Two processes of torchrun train as one does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from first_gradients import save
from small_runs import config
from thinc.api import Config

from trfnb.pretraining import load_weights, pretrain
from trfnb.pretraining.setup import set_up

PROGRAM = Path(__file__).parent / "first_gradients.py"


def torchrun(processes, *arguments, cwd):
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={processes}", *map(str, arguments)]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=200, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["words", "wordpieces"])
def test_gradients_of_two_processes_are_those_of_one(kind, lines, tmp_path, tiny):
    given = without_dropout(config(lines))
    if kind == "wordpieces":
        given["pretraining"]["objective"] = {"@architectures": "trfnb.PretrainWordpieces.v1"}
        given["components"]["tok2vec"] = {
            "factory": "trfnb_transformer",
            "model": {"@architectures": "trfnb.TransformerModel.v1", "name": tiny},
        }
    given.to_disk(tmp_path / "config.cfg")
    save(tmp_path / "config.cfg", tmp_path / "one")
    torchrun(2, PROGRAM, "config.cfg", "two", cwd=tmp_path)
    one, first, second = (
        dict(np.load(tmp_path / f"{name}.npz")) for name in ("one-0", "two-0", "two-1")
    )
    assert sum(gradient.any() for gradient in one.values()) > 10
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[name])
        # What nothing reaches has no gradient in one process, and zeros among several.
        expected = one.get(name, np.zeros_like(gradient))
        np.testing.assert_allclose(gradient, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_the_command_under_torchrun_ends_with_the_weights_of_one(lines, tmp_path):
    given = without_dropout(config(lines, max_steps=6))
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 0.1}
    given.to_disk(tmp_path / "config.cfg")
    torchrun(2, "-m", "trfnb", "pretrain", "config.cfg", "two", "--quiet", cwd=tmp_path)
    pretrain(Config().from_disk(tmp_path / "config.cfg"), tmp_path / "one", progress=False)
    loaded = []
    for name in ("one", "two"):
        setup = set_up(given)
        assert load_weights(setup.nlp, tmp_path / name / "model-last.bin").whole
        loaded.append([n.get_param(p) for n in setup.tok2vec.walk() for p in n.param_names])
    for a, b in zip(*loaded, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert (tmp_path / "two/log.csv").read_text().count("\n") > 1


def without_dropout(given):
    given["pretraining"]["dropout"] = 0.0
    return given
