"""Options, reports, broken files, what is left behind."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trfnb.vectors import VectorsError, convert, fingerprint, load
from trfnb.vectors.readers import rows as row_reader
from trfnb.vectors.readers.rows import parse

from . import tables
from .tables import WIDTH, WORDS, table, write_text


def _read(path):
    return np.load(path / "vocab" / "vectors")


# -- exactness ---------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
            st.floats(-1e30, 1e30).map(lambda v: f"{v:.5f}"),
            st.floats(-1e30, 1e30).map(lambda v: f"{v:.17e}"),
            st.from_regex(
                r"[-+]?[0-9]{1,25}(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,2})?", fullmatch=True
            ),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_numbers_are_read_as_python_reads_them(texts):
    with np.errstate(over="ignore"):
        expected = np.array([float(text) for text in texts]).astype(np.float32)
    rows = parse(f"key {' '.join(texts)}\n".encode(), 1, len(texts))
    if np.isfinite(expected).all():
        assert rows.blocks[0].vectors[0].tobytes() == expected.tobytes()
    else:
        assert rows.problems[0][0] == "a value is not a finite float32"


def test_with_and_without_arrow(monkeypatch):
    data = tables.lines(WORDS, table()).encode() * 3
    fast = parse(data, 1, WIDTH)
    monkeypatch.setattr(row_reader, "pa", None)
    slow = parse(data, 1, WIDTH)
    assert fast.lines == slow.lines == 3 * len(WORDS)
    for name in ("vectors", "lines"):
        a, b = (np.concatenate([getattr(x, name) for x in r.blocks]) for r in (fast, slow))
        assert a.tobytes() == b.tobytes()


# -- robustness --------------------------------------------------------------------------------

BROKEN = {
    "short": ("bad 1 2\n", "too few values"),
    "long": ("bad 1 2 3 4\n", "too many values"),
    "word": ("bad 1 x 3\n", "a value is not a number"),
    "underscore": ("bad 1 1_0 3\n", "a value is not a number"),
    "nan": ("bad 1 nan 3\n", "a value is not a finite float32"),
    "overflow": ("bad 1 1e39 3\n", "a value is not a finite float32"),
    "empty line": ("\n", "empty line"),
    "empty key": (" 1 2 3\n", "empty key"),
    "duplicate": ("a 7 8 9\n", "the key is a duplicate"),
}


@pytest.mark.parametrize("form", BROKEN)
def test_a_broken_row_is_skipped_by_line(form, tmp_path):
    line, reason = BROKEN[form]
    path = tmp_path / "v.vec"
    path.write_text(f"5 3\na 1 2 3\nb 4 5 6\n{line}c d 7 8 9\n\u00a0e 1 1 1\n", "utf8")
    report = convert(path, tmp_path / "out")
    assert {k: (v.count, v.lines) for k, v in report.skipped.items()} == {reason: (1, [4])}
    assert _read(tmp_path / "out").tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1]]
    assert "c d" in load(tmp_path / "out").strings
    assert json.loads((tmp_path / "out" / "conversion.json").read_text())["skipped"]
    assert "line 4" in str(report)
    with pytest.raises(VectorsError, match=f"line 4: {reason}"):
        convert(path, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_broken_utf8_is_skipped_by_line(tmp_path):
    path = tmp_path / "v.vec"
    path.write_bytes(b"a 1 2\n\xc3 3 4\n\xa9 5 6\nb 7 8\n")
    report = convert(path, tmp_path / "out")
    assert report.skipped["key is not UTF-8"].lines == [2, 3]
    assert _read(tmp_path / "out").tolist() == [[1, 2], [7, 8]]


@pytest.mark.parametrize(
    ("header", "note"),
    [("7 3", "header says 7 rows, the file has 2"), ("2 50", "header says width 50")],
)
def test_a_wrong_header_is_noted(header, note, tmp_path):
    path = tmp_path / "v.vec"
    path.write_text(f"{header}\na 1 2 3\nb 4 5 6\n")
    report = convert(path, tmp_path / "out")
    assert note in report.notes[0]
    assert _read(tmp_path / "out").tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(VectorsError, match="header says"):
        convert(path, tmp_path / "strict", strict=True)


def test_keys_with_spaces_without_a_header(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2 3\n. . . 4 5 6\nat name@x.org 7 8 9\nlast 1 1 1\n")
    convert(path, tmp_path / "out")
    got = load(tmp_path / "out")
    assert got[". . ."].tolist() == [4, 5, 6]
    assert got["at name@x.org"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"3 0\n", b"word\n", b"\0" * 50, b"2 2\nx y\n"])
def test_nothing_usable_is_a_clear_error(content, tmp_path):
    path = tmp_path / "v.vec"
    path.write_bytes(content)
    with pytest.raises(VectorsError):
        convert(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["gz", "xz", "bz2"])
def test_a_truncated_archive_keeps_what_came_before(how, tmp_path):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40_000)]
    data = rng.normal(size=(len(words), 4)).astype("f4")
    whole = tables.packed(write_text(tmp_path / "v.vec", words, data), how)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    report = convert(whole, tmp_path / "out")
    assert "truncated" in report.notes[0]
    assert 0 < report.rows < len(words)
    assert _read(tmp_path / "out").tobytes() == data[: report.rows].tobytes()
    with pytest.raises(VectorsError, match="truncated"):
        convert(whole, tmp_path / "strict", strict=True)


def test_truncated_binaries(tmp_path):
    word2vec = tables.write_word2vec(tmp_path / "v.bin")
    word2vec.write_bytes(word2vec.read_bytes()[:-20])
    report = convert(word2vec, tmp_path / "out")
    assert report.rows == len(WORDS) - 1
    assert f"ends after {len(WORDS) - 1}" in report.notes[0]
    whole = tables.write_fasttext(tmp_path / "m.bin").read_bytes()
    for cut in (5, 60, 120, 200, len(whole) - 9):
        (tmp_path / "m.bin").write_bytes(whole[:cut])
        with pytest.raises(VectorsError):
            convert(tmp_path / "m.bin", tmp_path / "out2", form="fasttext")
    assert not (tmp_path / "out2").exists()
    zipped = tables.packed(write_text(tmp_path / "v.vec"), "zip")
    zipped.write_bytes(zipped.read_bytes()[:-40])
    with pytest.raises(VectorsError, match="zip"):
        convert(zipped, tmp_path / "out3")


def test_one_of_several_tables_in_a_zip_archive(tmp_path):
    one = write_text(tmp_path / "v.vec")
    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        archive.write(one, "tables/v.50d.txt")
        archive.writestr("tables/v.100d.txt", "other 1 2\n")
    convert(tmp_path / "glove.zip" / "tables" / "v.50d.txt", tmp_path / "out")
    convert(one, tmp_path / "whole")
    found, expected = (
        (tmp_path / name / "vocab" / "vectors").read_bytes() for name in ("out", "whole")
    )
    assert found == expected
    for wanted in ("", "/tables", "/v.50d.txt"):
        with pytest.raises(VectorsError, match=r"tables/v\.50d\.txt, tables/v\.100d\.txt"):
            convert(f"{tmp_path / 'glove.zip'}{wanted}", tmp_path / "none")
    with pytest.raises(VectorsError, match="none"):
        convert(tmp_path / "v.vec" / "inside", tmp_path / "none")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), form=st.sampled_from(["text", "word2vec", "fasttext", "npy", "safetensors"]))
def test_damage_never_crashes(data, form, tmp_path_factory):
    """Bytes changed, cut or put in anywhere give a table or a VectorsError, nothing else."""
    folder = tmp_path_factory.mktemp("fuzz")
    make = getattr(tables, f"write_{form}")
    path = make(folder / f"v.{form if form != 'text' else 'vec'}")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        junk = data.draw(st.binary(max_size=6))
        content[place : place + data.draw(st.integers(0, 8))] = junk
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        report = convert(path, folder / "out")
    except VectorsError:
        assert not (folder / "out").exists()
    else:
        assert len(load(folder / "out")) == report.rows
    assert not list(folder.glob(".*"))


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_as_a_file(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "v").write_bytes(content)
    try:
        convert(folder / "v", folder / "out")
    except VectorsError:
        assert not (folder / "out").exists()


def test_an_error_says_why_nothing_is_left(tmp_path):
    (tmp_path / "page.html").write_text("<html> <body>\nnot found\n")
    with pytest.raises(VectorsError, match="not a number, first in line 1"):
        convert(tmp_path / "page.html", tmp_path / "out")
    short = tables.packed(write_text(tmp_path / "v.vec"), "gz")
    short.write_bytes(short.read_bytes()[:12])
    with pytest.raises(VectorsError, match="truncated"):
        convert(short, tmp_path / "out")


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_target(tmp_path):
    class Failing(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(VectorsError, match="could not be read"):
        convert(Failing(), tmp_path / "out")


def test_no_room_to_unpack(tmp_path, monkeypatch):
    """Formats that are mapped are unpacked first; that directory may be the full one."""
    packed = tables.packed(tables.write_npy(tmp_path / "v.npy"), "gz")
    opened = tempfile.NamedTemporaryFile
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **o: _Full(opened(**o)))
    with pytest.raises(VectorsError, match="TMPDIR"):
        convert(packed, tmp_path / "out")


class _Full:
    def __init__(self, file):
        self.file, self.name = file, file.name

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.file.close()

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_nothing(tmp_path):
    """A limit on file size stands in for the disk: the system refuses the write all the same."""
    path = write_text(tmp_path / "v.vec", [f"w{i}" for i in range(5000)], table(5000, 20))
    code = (
        "import resource, signal, sys, spacy\n"
        "from trfnb.vectors import convert\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "convert(sys.argv[1], sys.argv[2])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert "could not be written" in run.stderr
    assert "Nothing was left behind" in run.stderr
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
    with pytest.raises(VectorsError, match="expected a table or an empty directory"):
        convert(path, out, overwrite=True)
    assert mine.read_text() == "mine"
    mine.unlink()
    out.mkdir(exist_ok=True)
    assert convert(path, out, overwrite=True).rows == len(WORDS)


def test_the_old_table_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = write_text(tmp_path / "v.vec")
    convert(path, tmp_path / "out", limit=3)
    rename = Path.rename

    def refused(self, target):
        if ".partial-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(VectorsError, match="could not be written"):
        convert(path, tmp_path / "out", overwrite=True)
    assert len(load(tmp_path / "out")) == 3
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out", path]


def test_a_path_without_a_name_and_a_link(tmp_path, monkeypatch):
    path = write_text(tmp_path / "v.vec")
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert convert(path, ".", overwrite=True).rows == len(WORDS)
    assert convert(path, tmp_path / "link", overwrite=True, limit=3).rows == 3
    assert len(load(tmp_path / "here")) == 3
    assert {p.name for p in tmp_path.iterdir()} == {"v.vec", "here", "link"}


# -- options -----------------------------------------------------------------------------------


def test_limit_words_and_corpus(tmp_path):
    path = write_text(tmp_path / "v.vec")
    assert convert(path, tmp_path / "a", limit=3).rows == 3
    report = convert(path, tmp_path / "b", words=["café", "missing", "1999"])
    assert (report.rows, report.missing) == (2, 1)
    (tmp_path / "words.txt").write_text("café\n1999\n", "utf8")
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


def test_lower_keeps_the_first_spelling(tmp_path):
    path = write_text(tmp_path / "v.vec", ["The", "the", "OF", "ÜBER"], table(4))
    report = convert(path, tmp_path / "out", lower=True, attr="lower", strict=True)
    assert report.rows == 3
    assert np.array_equal(_read(tmp_path / "out"), table(4)[[0, 2, 3]])
    nlp = spacy.load(tmp_path / "out")
    assert nlp("THE über")[1].vector.tobytes() == table(4)[3].tobytes()
    nlp.to_disk(tmp_path / "again")
    assert spacy.load(tmp_path / "again")("THE")[0].has_vector


def test_normalise_and_reduce(tmp_path):
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 20)) + 1).astype("f4")
    path = write_text(tmp_path / "v.vec", [f"w{i}" for i in range(200)], data)
    convert(path, tmp_path / "unit", normalise=True)
    np.testing.assert_allclose(np.linalg.norm(_read(tmp_path / "unit"), axis=1), 1, rtol=1e-6)
    report = convert(path, tmp_path / "slim", width=3)
    slim = _read(tmp_path / "slim")
    assert slim.shape == (200, 3)
    assert report.measures["variance_kept"] == pytest.approx(1, abs=1e-5)
    centred = data - data.mean(axis=0)
    np.testing.assert_allclose(slim @ slim.T, centred @ centred.T, atol=1e-2)
    assert load(tmp_path / "slim").shape == (200, 3)
    with pytest.raises(VectorsError, match="from 1 to 19"):
        convert(path, tmp_path / "wide", width=20)


def test_all_wrong_options_at_once(tmp_path):
    with pytest.raises(VectorsError, match=r"dtype.*limit.*width.*attr"):
        convert("x", tmp_path, dtype="int4", limit=0, width=0, attr="FOO")
    with pytest.raises(VectorsError, match="lang"):
        convert(write_text(tmp_path / "v.vec"), tmp_path / "out", lang="qq")


def test_an_unknown_language_where_spacy_is_not_loaded(tmp_path):
    command = [sys.executable, "-m", "trfnb", "vectors", "convert", "--lang", "qq"]
    command += [str(write_text(tmp_path / "v.vec")), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "lang='qq' could not be made" in run.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("dtype", "width"), [("float16", None), ("int8", None), ("int8", 4)])
def test_smaller_numbers(dtype, width, tmp_path):
    data = np.random.default_rng(0).normal(size=(300, 12)).astype("f4")
    words = [f"w{i}" for i in range(300)]
    path = write_text(tmp_path / "v.vec", words, data)
    report = convert(path, tmp_path / "out", dtype=dtype, width=width)
    plain = convert(path, tmp_path / "plain", width=width)
    vectors = load(tmp_path / "out")
    expected = _read(tmp_path / "plain")
    got = np.stack([vectors[word] for word in words])
    assert got.dtype == np.float32
    error = np.abs(got - expected).max()
    assert error == pytest.approx(report.measures["rounding_largest_error"])
    assert error <= (2e-3 if dtype == "float16" else np.abs(expected).max() / 127)
    assert report.measures["rounding_mean_cosine"] > 0.999
    assert report.fingerprint == fingerprint(vectors) != plain.fingerprint
    small = (tmp_path / "out" / "vocab" / "vectors").stat().st_size
    assert small < 0.6 * (tmp_path / "plain" / "vocab" / "vectors").stat().st_size


def test_numbers_beyond_float16_stay_finite(tmp_path):
    path = write_text(tmp_path / "v.vec", ["a"], np.array([[1e6, -1e6]], dtype="f4"))
    convert(path, tmp_path / "out", dtype="float16")
    assert load(tmp_path / "out")["a"].tolist() == [65504, -65504]


def _convert_alone(source, out, **environment):
    code = (
        "import sys; from trfnb.vectors import convert; convert(sys.argv[1], sys.argv[2])\n"
        "assert not {'spacy', 'torch', 'thinc'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(source), str(out)]
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


def test_an_empty_pipeline_is_begun_before_anything_loads(tmp_path):
    """The process that makes it is at work while this one loads numpy and Arrow."""
    code = (
        "import subprocess, sys\n"
        "loaded, start = [], subprocess.Popen\n"
        "def watched(*args, **options):\n"
        "    loaded.extend({'numpy', 'pyarrow'} & set(sys.modules))\n"
        "    return start(*args, **options)\n"
        "subprocess.Popen = watched\n"
        "from trfnb.cli import main\n"
        "assert main(['vectors', 'convert', *sys.argv[1:]]) == 0\n"
        "assert 'numpy' in sys.modules and not loaded, loaded\n"
    )
    command = [sys.executable, "-c", code, str(write_text(tmp_path / "v.vec")), str(tmp_path / "o")]
    subprocess.run(
        command, check=True, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    )


def test_lines_are_numbered_through_all_stretches(tmp_path, monkeypatch):
    monkeypatch.setattr("trfnb.vectors.readers.text._BYTES", 64)
    rows = [f"w{i} {i} 1\n" for i in range(200)]
    for broken in (3, 77, 150):
        rows[broken] = "w 1 x\n"
    (tmp_path / "v.vec").write_text("200 2\n" + "".join(rows))
    report = convert(tmp_path / "v.vec", tmp_path / "out")
    assert report.skipped["a value is not a number"].lines == [5, 79, 152]
    assert report.notes == []


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    path = write_text(tmp_path / "v.vec")
    _convert_alone(path, tmp_path / "out", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert spacy.load(tmp_path / "out").vocab["café"].has_vector


@pytest.mark.parametrize("lang", ["de", "zh"])
def test_the_pipeline_is_spacys_own(lang, tmp_path):
    """Made in a process that loads little of spaCy, and for zh with a tokenizer of its own."""
    out, cache = tmp_path / "out", {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = (
        "import sys; from trfnb.vectors import convert; convert(*sys.argv[1:3], lang=sys.argv[3])"
    )
    command = [sys.executable, "-c", code, str(write_text(tmp_path / "v.vec")), str(out), lang]
    subprocess.run(command, check=True, env=os.environ | cache)
    nlp, blank = spacy.load(out), spacy.blank(lang)
    text = "Das ist's, z.B. am 3. Mai!" if lang == "de" else "这是句子。"
    assert [t.text for t in nlp(text)] == [t.text for t in blank(text)]
    assert nlp.config["nlp"]["tokenizer"] == blank.config["nlp"]["tokenizer"]


def test_a_command_that_is_terminated_leaves_nothing(tmp_path):
    call = [sys.executable, "-m", "trfnb", "vectors", "convert", "-", str(tmp_path / "out")]
    process = subprocess.Popen(call, stdin=subprocess.PIPE)
    process.stdin.write(b"one 1 2 3\n" * 10)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.name.startswith(".out.partial") for path in tmp_path.iterdir()] == [True]
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    process.stdin.close()
    assert not list(tmp_path.iterdir())
