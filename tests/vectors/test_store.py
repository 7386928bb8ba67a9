"""Memory-mapped tables behave as spaCy's own."""

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.ml.staticvectors import StaticVectors
from spacy.tokens import Doc
from spacy.vectors import Vectors
from thinc.api import fix_random_seed

from trfnb.vectors import VectorsError, convert, fingerprint, load
from trfnb.vectors.embed import static_vectors

from .tables import WORDS, table, write_text


@pytest.fixture(params=["float32", "float16"])
def converted(request, tmp_path):
    path = write_text(tmp_path / "v.vec", data=table() / np.abs(table()).max(1, keepdims=True))
    convert(path, tmp_path / "out", dtype=request.param)
    return tmp_path / "out"


def test_is_mapped_and_ordinary(converted):
    nlp = spacy.load(converted)
    vectors = nlp.vocab.vectors
    assert isinstance(vectors, Vectors)
    assert vectors.data.dtype == np.float32
    stored = np.load(converted / "vocab" / "vectors")
    assert isinstance(vectors.data, np.memmap) == (stored.dtype == np.float32)
    assert vectors.get_batch(WORDS[:3]).shape == (3, 7)
    keys, _, scores = vectors.most_similar(vectors.data[:2], n=3)
    assert [nlp.vocab.strings[k] for k in keys[:, 0]] == WORDS[:2]
    assert scores[0, 0] == 1
    assert nlp("the café").vector.shape == (7,)


def test_static_vectors_and_round_trips(converted, tmp_path):
    nlp = spacy.load(converted)
    doc = Doc(nlp.vocab, words=["the", "café", "unseen"])
    fix_random_seed(0)
    layer = StaticVectors(nO=4).initialize([doc])
    before = layer.predict([doc]).data
    seen = fingerprint(nlp.vocab.vectors)
    nlp.to_disk(tmp_path / "saved")
    nlp.to_disk(converted)  # over the very file that is mapped
    for again in (spacy.load(tmp_path / "saved"), spacy.load(converted)):
        doc2 = Doc(again.vocab, words=[t.text for t in doc])
        assert layer.predict([doc2]).data.tobytes() == before.tobytes()
        assert fingerprint(again.vocab.vectors) == seen
    plain = spacy.blank("en").from_bytes(nlp.to_bytes())
    assert fingerprint(plain.vocab.vectors) == seen


def test_multi_hash_embed_and_initialize_vectors(converted):
    config = {
        "tagger": {
            "model": {
                "@architectures": "spacy.Tagger.v2",
                "tok2vec": {
                    "@architectures": "spacy.Tok2Vec.v2",
                    "embed": {
                        "@architectures": "spacy.MultiHashEmbed.v1",
                        "width": 16,
                        "attrs": ["NORM", "SHAPE"],
                        "rows": [50, 50],
                        "include_static_vectors": True,
                    },
                    "encode": {
                        "@architectures": "spacy.MaxoutWindowEncoder.v2",
                        "width": 16, "depth": 1, "window_size": 1, "maxout_pieces": 2,
                    },
                },
            }
        }
    }  # fmt: skip
    nlp = spacy.blank("en", config={"nlp": {"vectors": {"@vectors": "trfnb.Vectors.v1"}}})
    nlp.config["initialize"]["vectors"] = str(converted)
    tagger = nlp.add_pipe("tagger", config=config["tagger"])
    tagger.add_label("X")
    nlp.initialize()
    assert nlp("the café")[0].has_vector
    assert type(nlp.vocab.vectors).__name__ == "MappedVectors"


def test_plain_spacy_vectors_read_float32(tmp_path):
    convert(write_text(tmp_path / "v.vec"), tmp_path / "out")
    nlp = spacy.blank("en")
    nlp.config["initialize"]["vectors"] = str(tmp_path / "out")
    nlp.initialize()
    assert type(nlp.vocab.vectors) is Vectors
    assert nlp.vocab["café"].vector.tobytes() == table()[WORDS.index("café")].tobytes()


def test_a_vector_may_be_set_and_the_file_stays(tmp_path):
    convert(write_text(tmp_path / "v.vec"), tmp_path / "out")
    before = (tmp_path / "out" / "vocab" / "vectors").read_bytes()
    nlp = spacy.load(tmp_path / "out")
    nlp.vocab.set_vector("the", np.ones(7, dtype="f4"))
    assert nlp.vocab["the"].vector.tolist() == [1] * 7
    assert (tmp_path / "out" / "vocab" / "vectors").read_bytes() == before


@pytest.mark.parametrize("how", ["set", "merge"])
def test_a_new_word_is_no_other_table(how, converted):
    """spaCy's retokenizer sets a vector for every entity it merges."""
    nlp = spacy.load(converted)
    doc = nlp("the café here")
    ours = static_vectors(4).initialize(X=[doc])
    theirs = StaticVectors(nO=4).initialize([doc])
    before, spacys = ours.predict([doc])[0], theirs.predict([doc]).data
    if how == "set":
        nlp.vocab.set_vector("new", np.ones(7, dtype="f4"))
    else:
        other = nlp("the café")
        with other.retokenize() as retokenizer:
            retokenizer.merge(other[0:2])
    assert ours.predict([doc])[0].tobytes() == before.tobytes()
    assert theirs.predict([doc]).data.tobytes() == spacys.tobytes()
    again = static_vectors(4).from_bytes(ours.to_bytes())
    assert again.predict([doc])[0].tobytes() == before.tobytes()


@pytest.mark.parametrize("how", ["changed", "removed", "swapped"])
def test_a_changed_word_is_another_table(how, converted):
    nlp = spacy.load(converted)
    doc = nlp("the café here")
    layer = static_vectors(4).initialize(X=[doc])
    layer.predict([doc])
    vectors = nlp.vocab.vectors
    if how == "changed":
        nlp.vocab.set_vector("1999", np.ones(7, dtype="f4"))
    elif how == "removed":
        del vectors.key2row[nlp.vocab.strings["1999"]]
    else:
        vectors.data = np.array(vectors.data)[::-1]
    with pytest.raises(VectorsError, match="was trained with the vector table"):
        layer.predict([doc])


def test_a_fingerprint_sees_numbers_keys_and_settings(tmp_path):
    convert(write_text(tmp_path / "v.vec"), tmp_path / "out")
    vectors = load(tmp_path / "out")
    same = fingerprint(vectors)
    assert fingerprint(load(tmp_path / "out")) == same
    vectors.data[1, 1] = 5
    other = fingerprint(vectors)
    vectors.add("new", row=0)
    assert fingerprint(vectors, len(WORDS)) == other
    assert len({same, other, fingerprint(vectors)}) == 3
    convert(write_text(tmp_path / "v.vec"), tmp_path / "low", attr="NORM")
    assert fingerprint(load(tmp_path / "low")) != same


def _own_memory():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def _grown_by_reading(small, large, said):
    load(small).data.sum()
    before = _own_memory()
    vectors = load(large)
    vectors.data.sum()
    said.send(_own_memory() - before)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells which pages are shared")
def test_processes_share_one_copy(tmp_path):
    """Reading the whole table leaves a process with next to no memory of its own."""
    rows = 5000
    data = np.random.default_rng(0).normal(size=(rows, 2000)).astype("f4")
    np.save(tmp_path / "v.npy", data)
    convert(tmp_path / "v.npy", tmp_path / "out", keys=[f"w{i}" for i in range(rows)])
    np.save(tmp_path / "one.npy", data[:1])
    convert(tmp_path / "one.npy", tmp_path / "one", keys=["w0"])
    fork = multiprocessing.get_context("fork")
    found, said = fork.Pipe(duplex=False)
    process = fork.Process(
        target=_grown_by_reading, args=(tmp_path / "one", tmp_path / "out", said)
    )
    process.start()
    said.close()
    assert found.recv() * 1024 < 0.2 * data.nbytes
    process.join()


def test_no_table_there(tmp_path):
    with pytest.raises(VectorsError, match="found none"):
        load(tmp_path)
