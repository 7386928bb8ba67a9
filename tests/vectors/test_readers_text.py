"""Text and word2vec: numbers as Python reads them, odd lines, and layouts that may mislead."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trfnb.vectors import VectorsError, convert, load
from trfnb.vectors.blocks import ConversionReport
from trfnb.vectors.conversion import open_source
from trfnb.vectors.readers_text import Layout, parse

from . import tables
from .tables import WIDTH, WORDS, table, write_text


def read(path, **options):
    """Return a source's words with their rows, and the report."""
    report = ConversionReport(str(path), strict=options.pop("strict", False))
    found = {}
    for block in open_source(path, report, path.with_name(".scratch"), **options).blocks:
        assert not set(block.keys) & set(found)
        found.update(zip(block.keys, block.vectors[block.rows], strict=True))
    return found, report


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
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
    keys, vectors, _, _ = parse(f"key {' '.join(texts)}\n".encode(), Layout(len(texts)))
    assert keys == ["key"]
    assert vectors[0].tobytes() == expected.tobytes()


BROKEN = {
    "short": ("bad 1 2\n", "too few values"),
    "long": ("bad 1.5 2 3 4\n", "too many values"),
    "word": ("bad 1 x 3\n", "a value is not a number"),
    "underscore": ("bad 1 1_0 3\n", "a value is not a number"),
    "nan": ("bad 1 nan 3\n", "a value is not a finite float32"),
    "overflow": ("bad 1 1e39 3\n", "a value is not a finite float32"),
    "two spaces": ("bad  1 2 3\n", "an empty value"),
    "no key": (" 1 2 3\n", "no key"),
    "duplicate": ("a 7 8 9\n", "the key is a duplicate"),
}


@pytest.mark.parametrize("form", BROKEN)
def test_a_broken_row_is_skipped_by_line(form, tmp_path):
    line, reason = BROKEN[form]
    path = tmp_path / "v.vec"
    path.write_text(f"5 3\na 1 2 3\nb 4 5 6\n{line}c d 7 8 9\n\u00a0e 1 1 1\n", "utf8")
    report = convert(path, tmp_path / "out")
    assert report.skipped == {reason: [4]}
    got = np.load(tmp_path / "out" / "vocab" / "vectors")
    assert got.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1]]
    assert "c d" in load(tmp_path / "out").strings
    assert "line 4" in str(report)
    with pytest.raises(VectorsError, match=f"line 4: {reason}"):
        convert(path, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("header", [b"", b"2 3\n"])
def test_a_table_without_its_last_line_end_says_so(header, tmp_path):
    """Nothing else tells a last number that was cut off from a short one."""
    path, note = tmp_path / "v.vec", "rows without a line end; cut off there, their last value is"
    content = header + b"the 0.25 0.5 0.75\nof 0.25 0.5 0.125"
    for text, told in ((content + b"\n", 0), (content, 1), (content[:-1], 1)):
        path.write_bytes(text)
        found, report = read(path)
        assert len(found) == 2
        assert [bool(told)] * told == [name.startswith(note) for name in report.measures]
        assert (note in str(report)) == bool(told)


def test_empty_lines_and_broken_utf8(tmp_path):
    path = tmp_path / "v.vec"
    path.write_bytes(b"4 2\na 1 2\n\n\xc3 3 4\n\xa9 5 6\nb 7 8\n\n")
    found, report = read(path)
    assert {key: row.tolist() for key, row in found.items()} == {"a": [1, 2], "b": [7, 8]}
    assert report.skipped["key is not UTF-8"] == [4, 5]
    assert report.skipped["empty line"] == [3, 7]


LAYOUTS = {
    "a tab behind the key": ("the\t0.1 0.2 0.3\nof\t0.4 0.5 0.6\n", ["the", "of"], 3),
    "keys between tabs": ("the\t1\t2\nwindows 10\t3\t4\nbad\t1\n", ["the", "windows 10"], 2),
    "keys with numbers": (
        "3 2\nthe 1 2\nwindows 10 3 4\ncatch 22 5 6\n", ["the", "windows 10", "catch 22"], 2,
    ),
    "keys with spaces": (
        "the 1 2 3\n. . . 4 5 6\nat a@x.org 7 8 9\n", ["the", ". . .", "at a@x.org"], 3,
    ),
    "one value and a header": ("2 1\na 1\nb 2\n", ["a", "b"], 1),
    "other line ends": ("a 1 2\n\x85 3 4\n\u2028 5 6\n", ["a", "\x85", "\u2028"], 2),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, tmp_path):
    text, words, width = LAYOUTS[name]
    (tmp_path / "v").write_text(text, "utf8")
    found, _ = read(tmp_path / "v")
    assert list(found) == words
    assert {len(row) for row in found.values()} == {width}


REFUSED = {
    "nothing": (b"", "found none in the first 0 bytes"),
    "blank": (b"\n\n", "found none"),
    "no value": (b"3 0\n", "found none"),
    "no numbers": (b"2 2\nx y\n", "too few values"),
    "a page": (b"<html> <body> x\nnot found at all\n", "not a number"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "lfs"),
    "binary": (b"\x89HDF\r\n\x1a\n\0\0 1 2\n", "binary data at byte 8"),
    "one value": (b"size 12\noid 13\n", "too few values"),
    "another width": (b"2 50\na 1 2 3\nb 4 5 6\n", "header says 50"),
    "too few rows": (b"7 3\na 1 2 3\nb 4 5 6\n", "header says 7 rows, the file has 2"),
    "too many rows": (b"1 3\na 1 2 3\nb 4 5 6\n", "header says 1 rows, the file has 2"),
    "floret's settings": (b"1 2 2 4 9 1 < >\n0 1 2\n", "floret's settings"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused(name, tmp_path):
    content, message = REFUSED[name]
    path = tmp_path / "v.vec"
    path.write_bytes(content)
    with pytest.raises(VectorsError, match=message):
        convert(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_numbered_through_all_stretches(tmp_path, monkeypatch):
    monkeypatch.setattr("trfnb.vectors.readers_text._BYTES", 64)
    rows = [f"w{i} {i} 1\n" for i in range(200)]
    for broken in (3, 77, 150):
        rows[broken] = "w 1 x\n"
    (tmp_path / "v.vec").write_text("200 2\n" + "".join(rows))
    found, report = read(tmp_path / "v.vec")
    assert report.skipped["a value is not a number"] == [5, 79, 152]
    assert len(found) == 197


@pytest.mark.parametrize("how", ["gz", "xz", "bz2", "zip"])
def test_an_archive_that_is_cut_off_is_refused(how, tmp_path):
    words = [f"w{i}" for i in range(4000)]
    rows = np.random.default_rng(0).normal(size=(len(words), 4)).astype("f4")
    whole = tables.packed(write_text(tmp_path / "v.vec", words, rows), how)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(VectorsError, match="cut off or broken"):
        convert(whole, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tar_archive_is_refused(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "g.tar.gz", "w:gz") as archive:
        archive.add(write_text(tmp_path / "v.vec"), "v.vec")
    with pytest.raises(VectorsError, match="Unpack an archive"):
        convert(tmp_path / "g.tar.gz", tmp_path / "out")


def test_one_of_several_tables_in_a_zip_archive(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        archive.write(write_text(tmp_path / "v.vec"), "tables/v.50d.txt")
        archive.writestr("tables/v.100d.txt", "other 1 2\n")
    out = tmp_path / "out"
    convert(f"zip://tables/v.50d.txt::{tmp_path / 'glove.zip'}", out)
    assert np.load(out / "vocab" / "vectors").tobytes() == table().tobytes()
    with pytest.raises(VectorsError, match=r"zip://TABLE.txt::"):
        convert(tmp_path / "glove.zip", tmp_path / "none")
    with pytest.raises(VectorsError, match="could not be read"):
        convert(f"zip://nothing.txt::{tmp_path / 'glove.zip'}", tmp_path / "none")


def test_a_source_that_is_not_there(tmp_path):
    for source in (tmp_path / "none.vec.gz", "nothing://here/v.vec"):
        with pytest.raises(VectorsError, match=r"could not be read|expected a file with vectors"):
            convert(source, tmp_path / "out")
    with pytest.raises(VectorsError, match="Expected a path"):
        convert(3, tmp_path / "out")


@pytest.mark.parametrize("count", [b"3 ", b"13 "])
def test_a_word2vec_header_that_does_not_fit(count, tmp_path):
    path = tables.write_word2vec(tmp_path / "v.bin", end=b"\n")
    path.write_bytes(path.read_bytes().replace(f"{len(WORDS)} ".encode(), count, 1))
    with pytest.raises(VectorsError, match=r"goes on after them|row 13, or the file ends"):
        read(path)


def test_a_word_with_a_space_in_word2vecs_binary_is_refused(tmp_path):
    """gensim reads such a file as other words with other vectors."""
    path = tables.write_word2vec(tmp_path / "v.bin", ["new york", "b"], np.ones((2, WIDTH), "f4"))
    with pytest.raises(VectorsError, match="save the table as text"):
        read(path)


def damaged(data, content):
    """Change, cut or put in bytes anywhere."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    return bytes(content[: data.draw(st.one_of(st.none(), st.integers(0, len(content))))])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), header=st.booleans(), space=st.sampled_from(" \t"))
def test_damaged_text_is_read_right_or_refused(data, header, space, tmp_path_factory):
    """Every word's row is what Python reads at the end of a line that begins with the word."""
    path = tmp_path_factory.mktemp("fuzz") / "v.vec"
    write_text(path, header=header, space=space)
    path.write_bytes(damaged(data, path.read_bytes()))
    try:
        found, _ = read(path)
    except VectorsError:
        return
    width = len(next(iter(found.values()), ()))
    rows = set()
    for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        key, *values = line.rstrip(b" \t\r").replace(b"\t", b" ").rsplit(b" ", width)
        with suppress(ValueError):
            row = np.array([float(value) for value in values]).astype("f4")
            rows.add((key.decode("utf8", "replace"), row.tobytes()))
    for word, row in found.items():
        assert (word.replace("\t", " "), row.tobytes()) in rows
        # No torn value behind a word; what stands first in a line may begin with a digit.
        behind = word.split()[1:]
        assert "." not in word or not any(part[:1].isdigit() for part in behind)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_word2vec_is_read_as_by_gensim_or_refused(data, tmp_path_factory):
    keyed = pytest.importorskip("gensim.models").KeyedVectors
    path = tables.write_word2vec(tmp_path_factory.mktemp("fuzz") / "v.bin")
    path.write_bytes(damaged(data, path.read_bytes()))
    try:
        found, report = read(path, form="word2vec")
    except VectorsError:
        return
    expected = keyed.load_word2vec_format(str(path), binary=True)
    for word, row in found.items():
        assert row.tobytes() == expected[word].tobytes()
    assert len(found) + sum(map(len, report.skipped.values())) >= len(expected)
