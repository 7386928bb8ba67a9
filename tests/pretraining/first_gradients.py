"""The summed gradients of a run's first update: what each process of torchrun saves."""

import sys

import numpy as np
import torch
from thinc.api import Config, fix_random_seed

import trfnb.registration  # noqa: F401  what the configs name
from trfnb.pretraining.checkpoint import parameters
from trfnb.pretraining.config import set_up
from trfnb.pretraining.loop import processes, sum_gradients
from trfnb.pretraining.text import Position


def save(config, path):
    setup = set_up(Config().from_disk(config))
    model, noise = setup.model, np.random.default_rng(0)
    for _, _, value, _ in parameters(model):  # heads begin at zero and would send nothing down
        if isinstance(value, np.ndarray):
            value += noise.normal(size=value.shape, scale=0.1).astype("f")
    with processes() as share:
        model.attrs["share"] = share
        _, docs = next(setup.stream.batches(Position(), 1))
        fix_random_seed(3)
        prediction, backprop = model.begin_update(docs)
        _, gradient = model.attrs["loss"](model.ops, docs, prediction)
        backprop(gradient)
        if share[1] > 1:
            sum_gradients(model)
        found = {n: g for n, _, _, g in parameters(model) if g is not None}
        found = {n: g.numpy() if isinstance(g, torch.Tensor) else g for n, g in found.items()}
        np.savez(f"{path}-{share[0]}.npz", **found)


if __name__ == "__main__":
    save(*sys.argv[1:])
