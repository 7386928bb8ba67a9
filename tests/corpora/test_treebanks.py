import hashlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trfnb.corpora import CorpusError, load
from trfnb.corpora.treebanks import Treebank, fetch, known, registry

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


def test_downloads_once_and_loads(server: str, tmp_path: Path) -> None:
    bank = Treebank("UD_X", server, SUMS)
    folder = fetch(bank)
    assert fetch(bank) == folder == tmp_path / "cache" / "UD_X"
    assert sorted(Handler.asked) == ["/x-dev.conllu", "/x-train.conllu"]
    assert sorted(p.name for p in folder.iterdir()) == ["SHA256SUMS", *sorted(DATA)]
    corpus = load(folder)
    assert (len(corpus.train), len(corpus.dev)) == (3, 1)


def test_another_checksum_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    bank = Treebank("UD_X", server, dict.fromkeys(SUMS, "0" * 64))
    with pytest.raises(CorpusError, match=r"expected a file with SHA-256 000.*got [0-9a-f]{64}"):
        fetch(bank)
    assert list((tmp_path / "cache" / "UD_X").iterdir()) == []
    fetch(bank, sha256=SUMS)  # the caller may know better


def test_unknown_checksums_hold_from_the_first_download(server: str) -> None:
    bank = Treebank("UD_X", server, dict.fromkeys(SUMS, ""))
    folder = fetch(bank)
    assert SUMS["x-dev.conllu"] in (folder / "SHA256SUMS").read_text()
    (folder / "x-dev.conllu").write_text("changed")
    with pytest.raises(CorpusError, match="Remove the file"):
        fetch(bank)


def test_a_server_without_the_file(server: str, tmp_path: Path) -> None:
    bank = Treebank("UD_X", server + "no/", SUMS)
    place = tmp_path / "cache" / "UD_X" / "x-train.conllu"
    with pytest.raises(CorpusError, match="404") as caught:
        fetch(bank)
    assert f"put it at {place}" in str(caught.value)
    assert list(place.parent.iterdir()) == []


def test_no_network_says_where_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRFNB_DATA", str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        bank = Treebank("UD_X", f"http://127.0.0.1:{free.getsockname()[1]}/", SUMS)
        with pytest.raises(CorpusError, match="TRFNB_DATA") as caught:
            fetch(bank)
        assert f"put it at {tmp_path / 'UD_X' / 'x-train.conllu'}" in str(caught.value)
        for name, text in DATA.items():  # by hand
            (tmp_path / "UD_X" / name).write_text(text, encoding="utf-8", newline="")
        assert load(fetch(bank)).tasks == ("tagger", "parser")


def test_the_registry_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRFNB_DATA", str(tmp_path))
    assert "UD_English-EWT" in known()
    for bank in registry().values():
        assert bank.url.startswith("https://")
        assert bank.url.endswith("/")
        assert {name.rpartition("-ud-")[2] for name in bank.files} == {
            "train.conllu",
            "dev.conllu",
        }
        assert all(
            len(s) in (0, 64) and set(s) <= set("0123456789abcdef") for s in bank.files.values()
        )
    with pytest.raises(CorpusError, match=r"one of UD_English-EWT.*unknown treebank"):
        fetch("UD_English-EWTT")


def test_load_takes_a_registered_name(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trfnb.corpora.treebanks.registry", lambda: {"UD_X": Treebank("UD_X", server, SUMS)}
    )
    corpus = load("UD_X")
    assert (corpus.name, len(corpus.train)) == ("UD_X", 3)
