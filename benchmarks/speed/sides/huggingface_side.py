"""The bound: a raw HuggingFace model over length-sorted batches, without tokens, without docs."""

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

CHOICES: list[int] = []
DEFAULT = 0
BUDGET = 1024


class Raw:
    """A tokenizer and a model; words come in, padded states of wordpieces go nowhere."""

    def __init__(self, path, precision):
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.body = AutoModel.from_pretrained(path).eval()
        if precision == "bf16":
            self.body.to(torch.bfloat16)

    def embed(self, texts):
        """Run every text; return the last layer's states, text by text."""
        found = [None] * len(texts)
        ids = self.tokenizer([" ".join(words) for words in texts], truncation=True)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        while order:
            longest = len(ids[order[0]])
            group, order = order[: max(BUDGET // longest, 1)], order[max(BUDGET // longest, 1) :]
            block = np.zeros((len(group), longest), dtype="int64")
            mask = np.zeros_like(block)
            for row, i in enumerate(group):
                block[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            with torch.inference_mode():
                states = self.body(
                    input_ids=torch.from_numpy(block), attention_mask=torch.from_numpy(mask)
                ).last_hidden_state
            for row, i in enumerate(group):
                found[i] = states[row, : len(ids[i])]
        return found


def build(path, precision, choice, train=False, dropout=True):
    """Load the model."""
    return Raw(path, precision)
