"""A frozen encoder's hidden states on disk: read once, the same, never stale."""

from dataclasses import replace

import numpy as np
import pytest
from small_pipelines import examples, transformer_pipeline
from thinc.api import Adam

import trfnb
from trfnb.flow.packed import PackedBert

TEXTS = ["paris meets april in the bank", "the river", "", "unable plans of the river bank"]


@pytest.fixture
def texts_read(monkeypatch):
    states, read = PackedBert.states, []

    def watched(self, pack, *rest, **options):
        read.append(sum(count for count, _ in pack.runs))
        return states(self, pack, *rest, **options)

    monkeypatch.setattr(PackedBert, "states", watched)
    return read


def cached(tiny, file, **settings):
    nlp = transformer_pipeline(tiny, **settings)
    component = nlp.get_pipe("transformer")
    for node in component._encoder_layers():
        node.attrs["runtime"] = replace(node.attrs["runtime"], cache=str(file))
    return nlp


def vectors(nlp, texts=TEXTS):
    return [trfnb.token_vectors(doc) for doc in nlp.pipe(texts)]


def test_texts_are_embedded_once_across_pipelines(tiny, tmp_path, texts_read):
    file = tmp_path / "new" / "states.sqlite"
    expected = vectors(transformer_pipeline(tiny))
    two, four, four_again = (cached(tiny, file) for _ in range(3))
    for nlp in (two, four, four_again):
        nlp("plans")  # the first pass compares with the whole model
    texts_read.clear()
    first = vectors(two, TEXTS[:2])
    assert sum(texts_read) == 2
    again = vectors(four)
    assert sum(texts_read) == 3
    third = vectors(four_again)
    assert sum(texts_read) == 3
    for found in (first, again, third):
        for a, b in zip(found, expected, strict=False):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_other_weights_and_layers_never_meet(tiny, tmp_path):
    file = tmp_path / "states.sqlite"
    nlp = cached(tiny, file, ner={"layer": 1})
    before = vectors(nlp)
    nlp.update(examples(nlp), sgd=Adam(0.01))
    nlp.update(examples(nlp), sgd=Adam(0.01))
    fresh = transformer_pipeline(tiny, ner={"layer": 1})
    fresh.from_bytes(nlp.to_bytes())
    moved = vectors(nlp)
    assert max(np.abs(a - b).max() for a, b in zip(before, moved, strict=True) if a.size) > 1e-3
    for a, b in zip(moved, vectors(fresh), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    nlp.get_pipe("transformer").model.layers[0].attrs["layers"] = [-1, 2]
    nlp("the river")
