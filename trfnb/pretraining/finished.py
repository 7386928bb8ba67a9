"""What a run leaves for training: weights as ``spacy pretrain`` writes them, or a directory."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinc.api import Model, Optimizer

from trfnb.flow.encoder import EncoderShim
from trfnb.pretraining.checkpoints import write_aside


@contextmanager
def averaged(model: Model, optimizer: Optimizer) -> Iterator[None]:
    """Put the averages of the weights in their place, where the optimiser keeps any."""
    if optimizer.averages:
        with model.use_params(optimizer.averages):
            yield
    else:
        yield


def save_body(model: Model, optimizer: Optimizer, path: Path) -> None:
    """Write the body's weights, averaged, to ``path`` (a .bin).

    A transformer is written as a directory too, beside the file and named like it, which
    HuggingFace opens.
    """
    with averaged(model, optimizer):
        body = model.get_ref("tok2vec")
        write_aside(path, body.to_bytes())
        shims = [s for node in body.walk() for s in node.shims if isinstance(s, EncoderShim)]
        if shims:
            _save_folder(shims[0], path.with_suffix(""))


def _save_folder(shim: EncoderShim, folder: Path) -> None:
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    shim.save(aside)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
