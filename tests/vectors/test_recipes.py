import numpy as np
import pytest
from spacy.strings import StringStore
from spacy.vectors import Vectors

from trfnb import corpora
from trfnb.experiments.pipelines import build_config
from trfnb.experiments.training import train
from trfnb.vectors import VectorsError, convert
from trfnb.vectors.recipes import EMBEDDINGS, with_embedding

from .tables import table, write_text


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_trains_with_each(name, tmp_path):
    data = corpora.load(limit=20, dev_limit=10)
    words = sorted({word for sentence in data.train for word in sentence.words})[:50]
    convert(
        write_text(tmp_path / "v.vec", words, table(len(words))), tmp_path / "t", normalise=True
    )
    base = build_config(["tagger"], max_steps=4, eval_frequency=4, batch_words=50)
    config = with_embedding(base, name, str(tmp_path / "t"), corpus="newsroom", depth=1)
    run = train(config, data, progress=False)
    assert run.scores["tag_acc"] >= 0
    assert base["components"]["tok2vec"]["model"] != config["components"]["tok2vec"]["model"]


def test_wrong_arguments_are_named():
    with pytest.raises(VectorsError, match=r"embedding: expected one of none.*table: expected"):
        with_embedding(build_config(["tagger"]), "best")


def test_neighbours_widget():
    from trfnb.widgets.neighbours import Neighbours

    words = ["cat", "dog", "<b>"]
    vectors = Vectors(
        strings=StringStore(words), data=np.array([[1, 0], [1, 0.1], [0, 1]], "f4"), keys=words
    )
    floret = Vectors(data=np.random.default_rng(0).normal(size=(50, 4)).astype("f4"), mode="floret",
                     minn=2, maxn=3)  # fmt: skip
    view = Neighbours({"a<": vectors, "floret": floret}, "cat", n=2, among=["cats", "dog"])
    assert [word for word, _ in view.found["a<"]] == ["dog", "<b>"]
    assert view.found["floret"][0][0] == "cats"
    assert "&lt;b&gt;" in view._columns.value
    view.word.value = "unknown"
    assert view.found["a<"] == []
    assert "no vector for unknown" in view._columns.value
    view.n.value = 1
    view.word.value = "dog"
    assert len(view.found["a<"]) == 1
