"""What engines without docs share: sorted, padded blocks of a model's wordpieces."""

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

BUDGET = 1024


class Raw:
    """A tokenizer and something that runs a block; words come in, states of wordpieces come out.

    Args:
        path: The model's directory.
        run: Takes ids and mask, (texts, longest) int64 each; returns (texts, longest, width).
        budget: Wordpieces of a block, about.
    """

    def __init__(self, path, run, budget=BUDGET):
        self.tokenizer, self.run = AutoTokenizer.from_pretrained(path), run
        self.budget = budget

    def embed(self, texts):
        """Return the last layer's states of every text, in blocks of about the budget."""
        found = [None] * len(texts)
        ids = self.tokenizer([" ".join(words) for words in texts], truncation=True)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        while order:
            longest = len(ids[order[0]])
            few = max(self.budget // longest, 1)
            group, order = order[:few], order[few:]
            block = np.zeros((len(group), longest), dtype="int64")
            mask = np.zeros_like(block)
            for row, i in enumerate(group):
                block[row, : len(ids[i])] = ids[i]
                mask[row, : len(ids[i])] = 1
            states = self.run(block, mask)
            for row, i in enumerate(group):
                found[i] = states[row, : len(ids[i])]
        return found


class LastLayer(torch.nn.Module):
    """What engines convert: (ids, mask) -> the last layer's states."""

    example = torch.arange(1000, 1018).view(2, 9), torch.ones(2, 9, dtype=torch.int64)

    def __init__(self, path):
        super().__init__()
        self.body = AutoModel.from_pretrained(path)
        self.eval()

    def forward(self, ids, mask):
        """Run a block."""
        return self.body(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
