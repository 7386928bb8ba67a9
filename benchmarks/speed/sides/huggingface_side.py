"""The bound: a raw HuggingFace model over length-sorted batches, without tokens, without docs."""

import torch
from raw import LastLayer, Raw

CHOICES: list[int] = []
DEFAULT = 0


def build(path, precision, choice, train=False, dropout=True):
    """Load the model."""
    model = LastLayer(path)
    if precision == "bf16":
        model.to(torch.bfloat16)

    def run(ids, mask):
        with torch.inference_mode():
            return model(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()

    return Raw(path, run)
