from pathlib import Path

import pytest

from trfnb.corpora.errors import CorpusError
from trfnb.corpora.lines import read_lines


def test_only_newlines_split_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("\ufeffa\u2028b\r\nc\x85\n".encode())
    assert read_lines(path) == ["a\u2028b", "c\x85", ""]


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"", None, "an empty file"),
        (b" \n\n", None, "an empty file"),
        ("a\nb\ncafé".encode("latin-1"), 3, "0xe9"),
        ("abc".encode("utf-16"), None, "UTF-16"),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, line: int | None, says: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=says) as caught:
        read_lines(path)
    assert caught.value.line == line


def test_a_missing_file_is_a_corpus_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No such file"):
        read_lines(tmp_path / "none")
