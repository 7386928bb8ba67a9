"""The same vectors through every format give the same table, bit for bit."""

import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from tokenizers import Tokenizer
from tokenizers.models import Unigram, WordLevel

from trfnb.vectors import VectorsError, convert, fingerprint, load
from trfnb.vectors.blocks import fasttext_ngram_rows

from . import tables
from .tables import WIDTH, WORDS, table
from .test_readers_text import damaged, read


def _gensim(path, **options):
    gensim = pytest.importorskip("gensim.models")
    keyed = gensim.KeyedVectors(WIDTH)
    keyed.add_vectors(WORDS, table())
    keyed.save(str(path), **options)
    return path


def _live_gensim(path):
    gensim = pytest.importorskip("gensim.models")
    keyed = gensim.KeyedVectors(WIDTH)
    keyed.add_vectors(WORDS, table())
    return keyed


def _spacy(path):
    nlp = spacy.blank("en")
    for word in WORDS:
        nlp.vocab.strings.add(word)
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=table(), keys=WORDS)
    return nlp


def _spacy_directory(path):
    _spacy(path).to_disk(path)
    return path


FORMATS = {
    "text with header": lambda p: tables.write_text(p / "v.vec"),
    "glove": lambda p: tables.write_text(p / "v.txt", header=False),
    "windows": lambda p: tables.write_text(p / "v.vec", end="\r\n"),
    "trailing spaces": lambda p: tables.write_text(p / "v.vec", end=" \n"),
    "tabs": lambda p: tables.write_text(p / "v.tsv", space="\t"),
    "gz": lambda p: tables.packed(tables.write_text(p / "v.vec"), "gz"),
    "zip": lambda p: tables.packed(tables.write_text(p / "v.vec"), "zip"),
    "xz": lambda p: tables.packed(tables.write_text(p / "v.vec"), "xz"),
    "bz2": lambda p: tables.packed(tables.write_text(p / "v.vec"), "bz2"),
    "word2vec": lambda p: tables.write_word2vec(p / "v.bin"),
    "word2vec newlines": lambda p: tables.write_word2vec(p / "v.bin", end=b"\n"),
    "fasttext": lambda p: tables.write_fasttext(p / "v.bin"),
    "fasttext gz": lambda p: tables.packed(tables.write_fasttext(p / "v.bin"), "gz"),
    "npy": lambda p: tables.write_npy(p / "v.npy"),
    "safetensors": lambda p: tables.write_safetensors(p / "v.safetensors"),
    "gensim": lambda p: _gensim(p / "v.kv"),
    "gensim apart": lambda p: _gensim(p / "v.kv", sep_limit=0),
    "gensim live": _live_gensim,
    "spacy": _spacy,
    "spacy directory": lambda p: _spacy_directory(p / "pipe"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_same_table_bit_for_bit(form, tmp_path):
    report = convert(FORMATS[form](tmp_path), tmp_path / "out", strict=True)
    assert (report.rows, report.keys, report.skipped) == (len(WORDS), len(WORDS), {})
    raw = np.load(tmp_path / "out" / "vocab" / "vectors")
    assert raw.dtype == np.float32
    assert raw.tobytes() == table().tobytes()
    nlp = spacy.load(tmp_path / "out")
    for word, row in zip(WORDS, table(), strict=True):
        assert nlp.vocab[word].vector.tobytes() == row.tobytes()
    assert fingerprint(nlp.vocab.vectors) == report.fingerprint
    assert isinstance(nlp.vocab.vectors, Vectors)


def test_fingerprints_agree_across_formats(tmp_path):
    prints = {
        convert(FORMATS[form](tmp_path), tmp_path / "out", overwrite=True).fingerprint
        for form in ("glove", "word2vec", "npy")
    }
    assert len(prints) == 1


@pytest.mark.parametrize("zeros", [False, True])
def test_every_key_of_a_spacy_row(tmp_path, zeros):
    """spaCy's tables give one row to many keys; rows without a key fall away."""
    vocab = Vocab(strings=["a", "b", "c"])
    vectors = Vectors(strings=vocab.strings, data=np.arange(8, dtype="f4").reshape(4, 2))
    for word, row in [("a", 3), ("b", 1), ("c", 3)]:
        vectors.add(word, row=row)
    vocab.vectors = vectors
    report = convert(vocab, tmp_path / "out")
    assert (report.rows, report.keys) == (2, 3)
    got = load(tmp_path / "out")
    assert [got[word].tolist() for word in "abc"] == [[6, 7], [2, 3], [6, 7]]
    only = convert(vocab, tmp_path / "few", words=["c"])
    assert (only.rows, only.keys) == (1, 1)


def test_floret_table_is_spacys(tmp_path):
    data = table(50, 6, seed=3)
    report = convert(tables.write_floret(tmp_path / "v.floret", data), tmp_path / "out")
    expected = Vectors(data=data, mode="floret", minn=2, maxn=4, hash_count=2, hash_seed=2166136261)
    got = spacy.load(tmp_path / "out").vocab
    for word in ["the", "unseen", "日本語"]:
        expected.strings.add(word)
        assert got[word].vector.tobytes() == expected[word].tobytes()
    assert got.vectors.mode == "floret"
    assert fingerprint(got.vectors) == report.fingerprint
    with pytest.raises(VectorsError, match="hash buckets, not words"):
        convert(tmp_path / "v.floret", tmp_path / "few", words=["the"])
    assert (
        convert(spacy.load(tmp_path / "out"), tmp_path / "again").fingerprint == report.fingerprint
    )


def test_floret_table_with_a_gap_is_refused(tmp_path):
    path = tables.write_floret(tmp_path / "v.floret", table(9, 4))
    path.write_text(path.read_text().replace("\n4 ", "\n5 ", 1))
    with pytest.raises(VectorsError, match="without a gap"):
        convert(path, tmp_path / "out")


def test_gensim_fasttext_and_facebook_models(tmp_path):
    fasttext = pytest.importorskip("gensim.models.fasttext")
    model = fasttext.FastText(
        [["the", "café", "sat"]] * 50,
        vector_size=6,
        min_n=2,
        max_n=3,
        bucket=30,
        min_count=1,
        epochs=1,
    )
    fasttext.save_facebook_model(model, str(tmp_path / "m.bin"))
    model.save(str(tmp_path / "m.model"))
    model.wv.save(str(tmp_path / "m.kv"))
    asked = ["the", "café", "unseen"]
    for name in ("m.bin", "m.model", "m.kv"):
        convert(tmp_path / name, tmp_path / "out", words=asked, overwrite=True)
        got = load(tmp_path / "out")
        for word in asked:
            np.testing.assert_allclose(got[word], model.wv.get_vector(word), atol=1e-6)


def test_a_pickle_cannot_run_code(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (eval, ("1/0",))

    path = tmp_path / "gensim.kv"
    path.write_bytes(pickle.dumps({"gensim": Evil()}))
    with pytest.raises(VectorsError, match=r"builtins\.eval"):
        convert(path, tmp_path / "out")


@pytest.mark.parametrize("form", ["word2vec", "npy", "safetensors", "gensim"])
def test_formats_that_need_a_file_come_packed_too(form, tmp_path):
    source = tables.packed(FORMATS[form](tmp_path), "gz")
    keys = WORDS if form in ("npy", "safetensors") else None
    report = convert(source, tmp_path / "out", keys=keys, strict=True)
    assert np.load(tmp_path / "out" / "vocab" / "vectors").tobytes() == table().tobytes()
    assert report.keys == len(WORDS)
    assert not (tmp_path / "out" / ".source").exists()


def test_keys_that_are_missing_broken_or_not_wanted(tmp_path):
    path = tables.write_npy(tmp_path / "v.npy")
    (tmp_path / "v.keys").unlink()
    with pytest.raises(VectorsError, match="its rows have no keys"):
        convert(path, tmp_path / "out")
    (tmp_path / "k.json").write_text("{broken")
    with pytest.raises(VectorsError, match=r"k\.json: expected words"):
        convert(path, tmp_path / "out", keys=tmp_path / "k.json")
    with pytest.raises(VectorsError, match="text has its own"):
        convert(tables.write_text(tmp_path / "v.vec"), tmp_path / "out", keys=WORDS)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_tables_is_none(tmp_path):
    for name in ("a", "b"):
        convert(tables.write_text(tmp_path / "v.vec"), tmp_path / "tables" / name)
    with pytest.raises(VectorsError, match="found none"):
        load(tmp_path / "tables")


def test_model2vecs_mapping_weights_and_unigram_vocabulary(tmp_path):
    """model2vec 0.10: a token's vector is its weight times the row that it is mapped to."""
    save = pytest.importorskip("safetensors.numpy").save_file
    mapping, weights = np.array([0, 0, 1]), np.array([1, 2, 3], dtype="f4")
    folder = tmp_path / "m2v"
    folder.mkdir()
    arrays = {"embeddings": np.eye(2, dtype="f4"), "mapping": mapping, "weights": weights}
    save(arrays, folder / "model.safetensors")
    words = WordLevel({"b": 1, "a": 0, "c": 2}, unk_token="a")
    Tokenizer(words).save(str(folder / "tokenizer.json"))
    convert(folder, tmp_path / "out")
    assert [load(tmp_path / "out")[word].tolist() for word in "abc"] == [[1, 0], [2, 0], [0, 3]]
    save({"embeddings": np.eye(2, dtype="f4")}, folder / "model.safetensors")
    Tokenizer(Unigram([("a", 0.0), ("b", -1.0)])).save(str(folder / "tokenizer.json"))
    convert(folder, tmp_path / "uni")
    assert load(tmp_path / "uni")["b"].tolist() == [0, 1]
    for nowhere in (2, -1):
        save({**arrays, "mapping": np.array([0, 0, nowhere])}, folder / "model.safetensors")
        with pytest.raises(VectorsError, match="mapping"):
            convert(folder, tmp_path / "none", keys=["a", "b", "c"])


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float8_e4m3fn", "float64", "int8"])
def test_kinds_of_numbers_in_safetensors(kind, tmp_path):
    """NumPy itself has no bf16 and no floats of eight bits."""
    table = torch.arange(-3.0, 3.0).mul(1.37).reshape(3, 2).to(getattr(torch, kind))
    save_file({"embeddings": table}, tmp_path / "t.safetensors")
    convert(tmp_path / "t.safetensors", tmp_path / "out", keys=["a", "b", "c"])
    got = [load(tmp_path / "out")[word].tolist() for word in "abc"]
    assert got == table.float().tolist()
    weights = torch.tensor([1, 2, 3]).to(table.dtype)
    mapped = {"embeddings": table, "weights": weights, "mapping": torch.tensor([0, 0, 2])}
    save_file(mapped, tmp_path / "m.safetensors")
    convert(tmp_path / "m.safetensors", tmp_path / "mapped", keys=["a", "b", "c"])
    got = [load(tmp_path / "mapped")[word].tolist() for word in "abc"]
    expected = table.double()[[0, 0, 2]] * torch.tensor([1.0, 2.0, 3.0])[:, None]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_keys_and_rows_must_be_as_many(tmp_path):
    path = tables.write_npy(tmp_path / "v.npy")
    with pytest.raises(VectorsError, match="a key for each of 12 rows, got 2"):
        convert(path, tmp_path / "out", keys=["a", "b"])
    path.write_bytes(path.read_bytes() + b"1")
    with pytest.raises(VectorsError, match="in a file of another size"):
        convert(path, tmp_path / "out")


def test_old_supervised_fasttext_has_no_subwords(tmp_path):
    """As `FastText::loadModel`: version 11 and supervised sets maxn to 0."""
    data, buckets = table(), np.ones((5, WIDTH), dtype="f4")
    for version, model, own in [(11, 3, True), (12, 3, False), (11, 1, False)]:
        path = tables.write_fasttext(
            tmp_path / "m.bin", buckets=buckets, minn=2, maxn=3, version=version, model=model
        )
        convert(path, tmp_path / "out", overwrite=True)
        got = load(tmp_path / "out")["the"]
        assert (got.tobytes() == data[0].tobytes()) is own


def test_fasttext_by_hand(tmp_path):
    """`ab` has the bigrams `<a`, `ab`, `b>`: its vector is the mean of four rows."""
    words, buckets = np.eye(1, 6, dtype="f4"), np.eye(5, 6, 1, dtype="f4")
    path = tables.write_fasttext(tmp_path / "m.bin", ["ab"], words, buckets=buckets, minn=2, maxn=2)
    convert(path, tmp_path / "out", words=["ab", "q"])
    got = load(tmp_path / "out")
    own, rows = fasttext_ngram_rows(["ab", "q"], buckets=5, minn=2, maxn=2)
    expected = np.mean([words[0], *buckets[rows[own == 0]]], axis=0)
    np.testing.assert_allclose(got["ab"], expected, rtol=1e-6)
    np.testing.assert_allclose(got["q"], buckets[rows[own == 1]].mean(axis=0), rtol=1e-6)


def test_the_first_spelling_of_a_subword_table_stands_for_its_key(tmp_path):
    words = np.eye(2, 6, dtype="f4")
    path = tables.write_fasttext(tmp_path / "m.bin", ["the", "The"], words, minn=0, maxn=0)
    convert(path, tmp_path / "out", words=["The", "the"], attr="LOWER")
    assert load(tmp_path / "out")["the"].tolist() == words[0].tolist()


def test_a_fasttext_model_that_is_cut_off(tmp_path):
    path = tables.write_fasttext(tmp_path / "m.bin")
    whole = path.read_bytes()
    for cut in (5, 60, 120, 200, 300, -9):
        path.write_bytes(whole[:cut])
        with pytest.raises(VectorsError, match="expected fastText's whole model"):
            read(path, form="fasttext")


@pytest.mark.parametrize(
    "options", [{"pickle_protocol": 2}, {"pickle_protocol": 5}, {"name": "k.gz", "sep_limit": 1}]
)
def test_gensim_files_of_other_protocols_and_packed(options, tmp_path):
    path = _gensim(tmp_path / options.pop("name", "v.kv"), **options)
    convert(path, tmp_path / "out", strict=True)
    assert np.load(tmp_path / "out" / "vocab" / "vectors").tobytes() == table().tobytes()
    for file in tmp_path.glob("*.npz"):
        file.unlink()
        with pytest.raises(VectorsError, match=r"k\.gz\.vectors\.npz, which is missing"):
            convert(path, tmp_path / "none")


def test_gensims_reserved_places_have_no_key(tmp_path):
    keyed = pytest.importorskip("gensim.models").KeyedVectors(2, count=3)
    keyed.add_vectors(["a"], np.full((1, 2), 5, dtype="f4"))
    report = convert(keyed, tmp_path / "out")
    assert (report.rows, report.keys) == (1, 1)
    assert load(tmp_path / "out")["a"].tolist() == [5, 5]


def test_gensim_3_and_python_2(tmp_path):
    """Version 3 kept words in index2word; Python 2 wrote old names and arrays as text."""
    import pickle

    data = np.arange(4, dtype="f4").reshape(2, 2)
    state = {"index2word": ["a", "b"], "vectors": data, "__numpys": [], "gensim": "3.8"}
    kind = type("Word2VecKeyedVectors", (), {"__module__": "gensim_three"})
    found = kind()
    found.__dict__.update(state)
    with pytest.MonkeyPatch.context() as patch:
        module = type(sys)("gensim_three")
        module.Word2VecKeyedVectors = kind
        patch.setitem(sys.modules, "gensim_three", module)
        content = pickle.dumps(found, protocol=2)
    content = content.replace(b"gensim_three\n", b"gensim.models.keyedvectors\n")
    (tmp_path / "old.kv").write_bytes(content)
    convert(tmp_path / "old.kv", tmp_path / "out")
    assert load(tmp_path / "out")["b"].tolist() == [2, 3]
    (tmp_path / "bad.kv").write_bytes(content.replace(b"index2word", b"index3word"))
    with pytest.raises(VectorsError, match=r"bad\.kv: expected gensim's words and vectors"):
        convert(tmp_path / "bad.kv", tmp_path / "none")


@cache
def _content(form):
    """Return a file's bytes, the same at every call: gensim's hold the time of day."""
    with tempfile.TemporaryDirectory() as folder:
        make = _gensim if form == "gensim" else getattr(tables, f"write_{form}")
        return make(Path(folder) / "v.npy").read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data(), form=st.sampled_from(["fasttext", "npy", "safetensors", "gensim"]))
def test_damaged_binaries_are_read_right_or_refused(data, form, tmp_path_factory):
    """Every row that is read lies in the file as it is."""
    path = tmp_path_factory.mktemp("fuzz") / f"v.{form}"
    path.with_suffix(".keys").write_text("\n".join(WORDS) + "\n", "utf8")
    path.write_bytes(damaged(data, _content(form)))
    try:
        found, _ = read(path)
    except VectorsError:
        return
    content = path.read_bytes()
    for row in found.values():
        shapes = [row.astype(kind).tobytes() for kind in ("<f4", ">f4", "<f8", ">f8", "<f2", "<i4")]
        assert form == "npy" or any(shape in content for shape in shapes)
    if form == "npy":
        expected = np.load(path).astype("f4")
        assert np.stack(list(found.values())).tobytes() == expected.tobytes()
