"""The same vectors through every format give the same table, bit for bit."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import spacy
from spacy.vectors import Vectors
from spacy.vocab import Vocab

from trfnb.vectors import VectorsError, convert, fingerprint, load

from . import tables
from .tables import WIDTH, WORDS, table


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
    "stream": lambda p: tables.write_text(p / "v.vec").open("rb"),
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
    few = convert(tmp_path / "v.floret", tmp_path / "few", words=["the", "unseen"])
    assert few.rows == 2
    assert load(tmp_path / "few")["unseen"].tobytes() == expected["unseen"].tobytes()


def test_floret_models_and_tables_agree(tmp_path):
    floret = pytest.importorskip("floret")
    text = tmp_path / "text.txt"
    text.write_text("the café sat on the naïve mat\n" * 100, "utf8")
    model = floret.train_unsupervised(
        str(text), mode="floret", dim=6, minn=2, maxn=3, bucket=40, hashCount=2,
        minCount=1, thread=1, epoch=1, verbose=0,
    )  # fmt: skip
    model.save_model(str(tmp_path / "m.bin"))
    model.save_floret_vectors(str(tmp_path / "m.floret"))
    convert(tmp_path / "m.floret", tmp_path / "text")
    convert(tmp_path / "m.bin", tmp_path / "binary")
    texts, binary = load(tmp_path / "text"), load(tmp_path / "binary")
    for word in ["the", "café", "unseen"]:
        for vectors in (texts, binary):
            vectors.strings.add(word)
        np.testing.assert_allclose(texts[word], binary[word], atol=1e-5)
    np.testing.assert_allclose(binary["unseen"], model.get_word_vector("unseen"), atol=1e-7)


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


def test_a_gensim_model_with_subwords_is_not_copied_into_memory(tmp_path):
    """gensim makes two million n-gram rows unless told otherwise: 2.4 GB at width 300."""
    fasttext = pytest.importorskip("gensim.models.fasttext")
    model = fasttext.FastText(
        [["the", "café"]], vector_size=250, min_n=2, max_n=3, bucket=100_000, min_count=1, epochs=1
    )
    model.wv.save(str(tmp_path / "m.kv"), sep_limit=0)
    code = (
        "import sys; from trfnb.vectors import convert\n"
        "convert(*sys.argv[1:])\n"
        "(peak,) = (l for l in open('/proc/self/status') if l.startswith('VmHWM:'))\n"
        "print(peak.split()[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.kv"), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) * 1024 < 1.5 * model.wv.vectors_ngrams.nbytes
    np.testing.assert_allclose(load(tmp_path / "out")["café"], model.wv["café"], atol=1e-6)


def test_a_pickle_cannot_run_code(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (eval, ("1/0",))

    path = tmp_path / "gensim.kv"
    path.write_bytes(pickle.dumps({"gensim": Evil()}))
    with pytest.raises(VectorsError, match=r"builtins\.eval"):
        convert(path, tmp_path / "out")


@pytest.mark.parametrize("how", ["gz", "zip", "xz", "stream", "npz"])
@pytest.mark.parametrize("form", ["npy", "safetensors", "gensim"])
def test_formats_that_need_a_file_come_packed_too(form, how, tmp_path):
    path = FORMATS[form](tmp_path)
    if how == "npz":
        if form != "npy":
            pytest.skip("a .npz holds .npy")
        path = tmp_path / "v.npz"
        np.savez_compressed(path, table())
    source = path.open("rb") if how == "stream" else path
    if how in ("gz", "zip", "xz"):
        source = tables.packed(path, how)
    keys = WORDS if how == "stream" and form == "npy" else None
    report = convert(source, tmp_path / "out", keys=keys, strict=True)
    assert np.load(tmp_path / "out" / "vocab" / "vectors").tobytes() == table().tobytes()
    assert report.keys == len(WORDS)


def test_keys_that_are_missing_broken_or_not_wanted(tmp_path):
    path = tables.write_npy(tmp_path / "v.npy")
    with pytest.raises(VectorsError, match="its rows have no keys"):
        convert(io.BytesIO(path.read_bytes()), tmp_path / "out")
    (tmp_path / "k.json").write_text("{broken")
    with pytest.raises(VectorsError, match=r"k\.json: expected keys as JSON"):
        convert(path, tmp_path / "out", keys=tmp_path / "k.json")
    with pytest.raises(VectorsError, match="text has its own"):
        convert(tables.write_text(tmp_path / "v.vec"), tmp_path / "out", keys=WORDS)
    from safetensors.numpy import save_file

    save_file({"vectors": table()}, tmp_path / "v.safetensors", {"keys": "the, of"})
    with pytest.raises(VectorsError, match="JSON list of strings"):
        convert(tmp_path / "v.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("count", [b"3 ", b"13 "])
def test_a_word2vec_header_that_does_not_fit(count, end, tmp_path):
    path = tables.write_word2vec(tmp_path / "v.bin", end=end)
    path.write_bytes(path.read_bytes().replace(f"{len(WORDS)} ".encode(), count, 1))
    with pytest.raises(VectorsError, match="goes on after them|ends after 12"):
        convert(path, tmp_path / "out")


def test_a_folder_of_tables_is_none(tmp_path):
    for name in ("a", "b"):
        convert(tables.write_text(tmp_path / "v.vec"), tmp_path / "tables" / name)
    with pytest.raises(VectorsError, match="found none"):
        load(tmp_path / "tables")


@pytest.mark.parametrize("form", ["text with header", "gz", "zip", "word2vec", "fasttext"])
def test_a_named_pipe(form, tmp_path):
    """As a shell's ``<(command)``: opened once, read once."""
    content = FORMATS[form](tmp_path).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    report = convert(tmp_path / "pipe", tmp_path / "out", strict=True)
    writer.join()
    assert report.rows == len(WORDS)
    assert np.load(tmp_path / "out" / "vocab" / "vectors").tobytes() == table().tobytes()
