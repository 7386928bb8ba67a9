"""Options, reports, and what is left behind."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import spacy

from trfnb.vectors import VectorsError, convert, fingerprint, load

from .tables import WORDS, table, write_text


def _read(path):
    return np.load(path / "vocab" / "vectors")


def _into_a_full_disk(source, out, said):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        convert(source, out)
    except VectorsError as error:
        said.send(str(error))


def test_a_full_disk_leaves_nothing(tmp_path):
    """A limit on file size stands in for the disk: the system refuses the write all the same."""
    path = write_text(tmp_path / "v.vec", [f"w{i}" for i in range(5000)], table(5000, 20))
    fork = multiprocessing.get_context("fork")
    found, said = fork.Pipe(duplex=False)
    process = fork.Process(target=_into_a_full_disk, args=(path, tmp_path / "out", said))
    process.start()
    said.close()
    message = found.recv()
    process.join()
    assert "could not be written" in message
    assert "Nothing was left behind" in message
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_table_stays_unless_overwritten(tmp_path):
    path = write_text(tmp_path / "v.vec")
    convert(path, tmp_path / "out")
    with pytest.raises(VectorsError, match="already there"):
        convert(path, tmp_path / "out")
    (tmp_path / "bad.vec").write_text("")
    with pytest.raises(VectorsError):
        convert(tmp_path / "bad.vec", tmp_path / "out", overwrite=True)
    assert len(load(tmp_path / "out")) == len(WORDS)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_only_a_table_is_overwritten(what, tmp_path):
    """A wrong path must not cost anybody their files."""
    path, out = write_text(tmp_path / "v.vec"), tmp_path / "out"
    mine = out if what == "file" else out / "thesis.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(VectorsError, match="where it is a table or an empty"):
        convert(path, out, overwrite=True)
    assert mine.read_text() == "mine"
    mine.unlink()
    out.mkdir(exist_ok=True)
    assert convert(path, out, overwrite=True).rows == len(WORDS)


def test_limit_words_and_corpus(tmp_path):
    path = write_text(tmp_path / "v.vec")
    assert convert(path, tmp_path / "a", limit=3).rows == 3
    report = convert(path, tmp_path / "b", words=["café", "missing", "1999"])
    assert (report.rows, report.missing) == (2, 1)
    (tmp_path / "words.txt").write_text("\ufeffcafé\r\n1999\r\n", "utf8", newline="")
    assert convert(path, tmp_path / "c", words=tmp_path / "words.txt").rows == 2
    docs = [spacy.blank("en")("the café of 1999"), ["the", "missing", "naïve"]]
    report = convert(path, tmp_path / "d", corpus=docs)
    assert (report.rows, report.missing) == (5, 1)
    assert np.array_equal(_read(tmp_path / "a"), table()[:3])


def test_words_that_were_not_looked_for_are_not_missing(tmp_path):
    path = write_text(tmp_path / "v.vec")
    report = convert(path, tmp_path / "out", limit=2, words=WORDS)
    assert (report.rows, report.missing) == (2, 0)


def test_no_words_to_keep(tmp_path):
    path = write_text(tmp_path / "v.vec")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(VectorsError, match="Expected words to keep"):
        convert(path, tmp_path / "out", words=tmp_path / "empty.txt")
    with pytest.raises(VectorsError, match=r"bad\.txt: expected words in UTF-8"):
        convert(path, tmp_path / "out", words=tmp_path / "bad.txt")


def test_a_words_file_may_hold_other_line_ends(tmp_path):
    words = ["the", "a\x85b", "\u2028"]
    path = write_text(tmp_path / "v.vec", words, table(3))
    (tmp_path / "words.txt").write_text("\n".join(words[1:]) + "\n", "utf8")
    report = convert(path, tmp_path / "out", words=tmp_path / "words.txt")
    assert (report.rows, report.missing) == (2, 0)


def test_keys_by_lower_are_lower_cased(tmp_path):
    """A key in capitals would be found by no token."""
    path = write_text(tmp_path / "v.vec", ["Apple", "COPD"], table(2))
    convert(path, tmp_path / "out", attr="LOWER")
    assert [token.has_vector for token in spacy.load(tmp_path / "out")("Apple COPD x")] == [
        True, True, False,
    ]  # fmt: skip


def test_lower_keeps_the_first_spelling(tmp_path):
    path = write_text(tmp_path / "v.vec", ["The", "the", "OF", "ÜBER"], table(4))
    report = convert(path, tmp_path / "out", lower=True, attr="lower", strict=True)
    assert report.rows == 3
    assert np.array_equal(_read(tmp_path / "out"), table(4)[[0, 2, 3]])
    nlp = spacy.load(tmp_path / "out")
    assert nlp("THE über")[1].vector.tobytes() == table(4)[3].tobytes()
    nlp.to_disk(tmp_path / "again")
    assert spacy.load(tmp_path / "again")("THE")[0].has_vector
    convert(tmp_path / "out", tmp_path / "once more", normalise=True)  # keys stay what they are
    assert spacy.load(tmp_path / "once more")("THE")[0].has_vector


def test_normalise(tmp_path):
    path = write_text(tmp_path / "v.vec", ["a", "b"], np.array([[3, 4], [0, 0]], dtype="f4"))
    convert(path, tmp_path / "unit", normalise=True)
    assert _read(tmp_path / "unit").tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]


def test_duplicates_far_apart(tmp_path):
    """Within a block and in another one."""
    words = [f"w{i % 4500}" for i in range(5000)]
    words[:100] = [f"w{i % 60}" for i in range(100)]
    np.save(tmp_path / "v.npy", np.arange(10000, dtype="f4").reshape(5000, 2))
    report = convert(tmp_path / "v.npy", tmp_path / "out", keys=words)
    kept = [place for place, word in enumerate(words) if word not in words[:place]]
    again = sorted({*range(1, 5001)} - {place + 1 for place in kept})
    assert report.skipped["the key is a duplicate"] == again
    assert np.array_equal(_read(tmp_path / "out")[:, 0], 2 * np.array(kept))
    last = convert(tmp_path / "v.npy", tmp_path / "few", keys=[*words[:-1], "last"], words=["last"])
    assert last.rows == 1
    assert load(tmp_path / "few")["last"].tolist() == [9998, 9999]


def test_all_wrong_options_at_once(tmp_path):
    with pytest.raises(VectorsError, match=r"dtype.*float16, got 'int8'.*attr.*limit"):
        convert("x", tmp_path, dtype="int8", limit=0, attr="FOO")
    with pytest.raises(VectorsError, match="lang"):
        convert(write_text(tmp_path / "v.vec"), tmp_path / "out", lang="qq")


def test_float16(tmp_path):
    data = np.random.default_rng(0).normal(size=(300, 12)).astype("f4")
    words = [f"w{i}" for i in range(300)]
    path = write_text(tmp_path / "v.vec", words, data)
    report = convert(path, tmp_path / "out", dtype="float16")
    plain = convert(path, tmp_path / "plain")
    vectors = load(tmp_path / "out")
    expected = _read(tmp_path / "plain")
    got = np.stack([vectors[word] for word in words])
    assert got.dtype == np.float32
    error = np.abs(got - expected).max()
    assert error == pytest.approx(report.measures["rounding_largest_error"])
    assert got.tobytes() == expected.astype("f2").astype("f4").tobytes()
    assert report.fingerprint == fingerprint(vectors) != plain.fingerprint
    small = (tmp_path / "out" / "vocab" / "vectors").stat().st_size
    assert small < 0.6 * (tmp_path / "plain" / "vocab" / "vectors").stat().st_size


def test_numbers_beyond_float16_stay_finite(tmp_path):
    path = write_text(tmp_path / "v.vec", ["a"], np.array([[1e6, -1e6]], dtype="f4"))
    convert(path, tmp_path / "out", dtype="float16")
    assert load(tmp_path / "out")["a"].tolist() == [65504, -65504]


def _convert_alone(source, out, lang="en", **environment):
    code = (
        "import sys; from trfnb.vectors import convert; convert(*sys.argv[1:3], lang=sys.argv[3])\n"
        "assert not {'spacy', 'torch', 'thinc'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(source), str(out), lang]
    subprocess.run(command, check=True, env=os.environ | environment)


def test_conversion_loads_neither_spacy_nor_torch(tmp_path):
    """An empty pipeline is made once, then kept: the second table is the first, file by file."""
    path, cache = write_text(tmp_path / "v.vec"), tmp_path / "cache"
    _convert_alone(path, tmp_path / "out", XDG_CACHE_HOME=str(cache))
    kept = [file for file in cache.rglob("*") if file.is_file()]
    assert {file.name for file in kept} == {"config.cfg", "tokenizer", "symbols.json"}
    made = kept[0].stat().st_mtime_ns
    _convert_alone(path, tmp_path / "again", XDG_CACHE_HOME=str(cache))
    assert kept[0].stat().st_mtime_ns == made
    files = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()]
    for file in files:
        if file.name != "conversion.json":
            assert (tmp_path / "out" / file).read_bytes() == (
                tmp_path / "again" / file
            ).read_bytes()
    assert len(files) == 8
    nlp = spacy.load(tmp_path / "again")
    assert [t.text for t in nlp("It isn't café.")] == ["It", "is", "n't", "café", "."]
    assert nlp.vocab["nsubj"].vector.tobytes() == table()[WORDS.index("nsubj")].tobytes()


def test_the_pipeline_is_spacys_own_also_where_no_copy_of_it_can_be_kept(tmp_path):
    """Made in a process that loads little of spaCy, and for zh with a tokenizer of its own."""
    (tmp_path / "file").write_text("")
    path, cache = write_text(tmp_path / "v.vec"), {"XDG_CACHE_HOME": str(tmp_path / "file")}
    _convert_alone(path, tmp_path / "out", "zh", **cache)
    nlp, blank = spacy.load(tmp_path / "out"), spacy.blank("zh")
    assert nlp.vocab["café"].has_vector
    text = "这是句子。"
    assert [t.text for t in nlp(text)] == [t.text for t in blank(text)]
    assert nlp.config["nlp"]["tokenizer"] == blank.config["nlp"]["tokenizer"]
