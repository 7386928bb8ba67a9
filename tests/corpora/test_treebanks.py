import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trfnb.corpora import CorpusError, load, treebanks
from trfnb.corpora.treebanks import fetch, known, registry

from .conftest import GOOD

DATA = {"x-train.conllu": GOOD * 3, "x-dev.conllu": GOOD}
SUMS = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in DATA.items()}


class Handler(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  (one list a server is meant)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve DATA on this machine; keep downloads under tmp_path/cache."""
    monkeypatch.setenv("TRFNB_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(Handler, "asked", [])
    folder = tmp_path / "served"
    folder.mkdir()
    for name, text in DATA.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a treebank UD_X into the registry."""

    def _register(url: str, files: dict[str, str] = SUMS) -> None:
        entry = {"name": "UD_X", "url": url, "files": files}
        monkeypatch.setattr(treebanks, "registry", lambda: {"UD_X": entry, "ud_x": entry})

    return _register


def test_downloads_once_and_loads(
    server: str, register: Callable[..., None], tmp_path: Path
) -> None:
    register(server)
    folder = fetch("UD_X")
    assert fetch("ud_x") == folder == tmp_path / "cache" / "UD_X"
    assert sorted(Handler.asked) == ["/x-dev.conllu", "/x-train.conllu"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(DATA)
    corpus = load("ud_x")
    assert (corpus.name, len(corpus.train), len(corpus.dev)) == ("ud_x", 2, 1)


def test_another_checksum_is_refused_and_not_kept(
    server: str, register: Callable[..., None], tmp_path: Path
) -> None:
    register(server, dict.fromkeys(SUMS, "0" * 64))
    with pytest.raises(CorpusError, match=r"the file with SHA-256 000.*got ValueError"):
        fetch("UD_X")
    assert list((tmp_path / "cache" / "UD_X").iterdir()) == []


def test_a_changed_file_is_told_of_and_kept(server: str, register: Callable[..., None]) -> None:
    register(server)
    path = fetch("UD_X") / "x-dev.conllu"
    path.write_text("changed")
    with pytest.raises(CorpusError, match="Remove a file that is another"):
        fetch("UD_X")
    assert path.read_text() == "changed"


def test_no_network_says_where_the_file_goes(
    register: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRFNB_DATA", str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        register(f"http://127.0.0.1:{free.getsockname()[1]}/")
        with pytest.raises(CorpusError, match="TRFNB_DATA") as caught:
            fetch("UD_X")
        assert f"put it at {tmp_path / 'UD_X' / 'x-train.conllu'}" in str(caught.value)
        for name, text in DATA.items():  # by hand
            (tmp_path / "UD_X" / name).write_text(text, encoding="utf-8", newline="")
        assert fetch("UD_X") == tmp_path / "UD_X"


def test_the_registry_is_sound() -> None:
    assert {"UD_English-EWT", "ud_ewt"} <= set(known())
    for bank in registry().values():
        assert bank["url"].startswith("https://")
        assert bank["url"].endswith("/")
        assert [name.rpartition("-ud-")[2] for name in bank["files"]] == [
            "train.conllu",
            "dev.conllu",
            "test.conllu",
        ]
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in bank["files"].values())
    with pytest.raises(CorpusError, match=r"one of UD_English-EWT.*unknown treebank"):
        fetch("UD_English-EWTT")
