"""The bound: a raw HuggingFace model over length-sorted batches, without tokens, without docs."""

import os

import torch
from raw import BUDGET, LastLayer, Raw

DEVICE = os.environ.get("TRFNB_DEVICE", "cpu")
# On a GPU larger blocks pay.
CHOICES: list[int] = [4096, 16384] if DEVICE != "cpu" else []
DEFAULT = BUDGET


def build(path, precision, choice, train=False, dropout=True):
    """Load the model."""
    model = LastLayer(path).to(DEVICE)
    if precision == "bf16":
        model.to(torch.bfloat16)

    def run(ids, mask):
        with torch.inference_mode():
            block = (torch.from_numpy(one).to(DEVICE) for one in (ids, mask))
            return model(*block).float().cpu().numpy()

    return Raw(path, run, choice or DEFAULT)
