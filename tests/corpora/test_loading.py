"""From a name or a path to three splits: which sentences fall where."""

import gzip
import hashlib
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import pytest

from trfnb.corpora import CorpusError, Sentence, fetch, load, loading

from .conftest import GOOD, Write, conllu


def _many(n: int, docs: int = 0) -> str:
    parts = []
    for i in range(n):
        newdoc = f"# newdoc id = d{i * docs // n}\n" if docs and i % (n // docs) == 0 else ""
        parts.append(f"{newdoc}# sent_id = s{i}\n{GOOD}")
    return "".join(parts)


def _ids(sentences: Sequence[Sentence]) -> list[str | None]:
    return [s.sent_id for s in sentences]


def test_one_file_gives_three_splits_and_only_train_is_shuffled(write: Write) -> None:
    path = write("a.conllu", _many(100))
    one, same, two = load(path), load(path), load(path, seed=1)
    assert one == same
    assert (len(one.train), len(one.dev), len(one.test)) == (80, 10, 10)
    assert _ids(one.train) != _ids(two.train)
    assert sorted(map(str, _ids(one.train))) == sorted(map(str, _ids(two.train)))
    assert (one.dev, one.test) == (two.dev, two.test)
    assert one.notes == ("a: dev and test held out of train by blocks of neighbouring sentences.",)


def test_held_out_documents_stay_whole(write: Write) -> None:
    corpus = load(write("a.conllu", _many(120, docs=40)))
    train, dev, test = (
        {s.doc_id for s in part} for part in (corpus.train, corpus.dev, corpus.test)
    )
    assert (len(corpus.dev), len(corpus.test)) == (12, 12)
    assert len(train) + len(dev) + len(test) == len(train | dev | test)
    assert corpus.notes == ("a: dev and test held out of train by whole documents.",)
    single = load(write("c.conllu", _many(10, docs=1)))
    assert "blocks of neighbouring sentences (all of one document, 'd0')" in single.notes[0]
    few = load(write("b.conllu", _many(10, docs=2)))
    assert (len(few.train), len(few.dev), few.test) == (5, 5, ())
    assert few.notes[-1] == "b: too few documents for a test split."
    long = "".join("# newdoc id = long\n" * (i == 0) + GOOD for i in range(900))
    uneven = load(write("d.conllu", long + _many(160, docs=4)))
    assert (len(uneven.train), len(uneven.dev), len(uneven.test)) == (900, 120, 40)


def test_neighbours_without_documents_stay_together(write: Write) -> None:
    corpus = load(write("a.conllu", _many(2000)))
    numbers = {int(str(s.sent_id)[1:]) // 20 for s in corpus.test}
    assert (len(corpus.test), len(numbers)) == (200, 10)
    large = load(write("b.conllu", _many(7000)))
    assert [len(part) for part in (large.train, large.dev, large.test)] == [5800, 600, 600]


def test_texts_sorted_by_category_are_held_out_one_by_one(write: Write) -> None:
    rows = "".join(f"text {i},{'abcde'[i // 100]}\n" for i in range(500))
    corpus = load(write("a.csv", "text,label\n" + rows))
    per_category = Counter(c for s in corpus.test for c, value in (s.cats or {}).items() if value)
    assert sorted(per_category) == list("abcde")
    assert "single texts" in corpus.notes[0]


def test_limits(write: Write) -> None:
    path = write("a.conllu", _many(100))
    corpus = load(path, limit=5, dev_limit=3)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (5, 3, 10)
    more = load(path, limit=9, dev_limit=3)
    assert _ids(more.train)[:5] == _ids(corpus.train), "a larger limit keeps the smaller's"
    assert _ids(load(path, dev_limit=3, seed=4).dev) == _ids(corpus.dev)


@pytest.mark.parametrize(
    ("train", "dev"),
    [
        ("en-ud-train.conllu", "en-ud-dev.conllu"),
        ("training.conllu", "development.conllu"),
        ("x.train.conllu", "x.devel.conllu"),
        ("train_set.conllu", "validation_set.conllu"),
    ],
)
def test_files_by_name(write: Write, train: str, dev: str) -> None:
    write(f"c/{train}", _many(4))
    path = write(f"c/{dev}", _many(2)).parent
    write("c/en-test.conllu", _many(3))
    write("c/notes.txt", "hello")
    corpus = load(path)
    assert (corpus.name, len(corpus.train), len(corpus.dev), len(corpus.test)) == ("c", 4, 2, 3)
    assert corpus.notes == ()
    write("c/other-train.conllu", _many(1))
    with pytest.raises(CorpusError, match=r"one with 'train'.*en-test\.conllu"):
        load(path)


def test_dev_as_test(write: Write) -> None:
    write("c/train.conllu", _many(20))
    path = write("c/dev.conllu", _many(4)).parent
    corpus = load(path, dev_as_test=True)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (18, 2, 4)
    write("c/test.conllu", _many(7))
    assert len(load(path, dev_as_test=True).test) == 4  # the test file is kept aside


def test_entities_to_keep(write: Write) -> None:
    def names(label: str, n: int) -> str:
        return "".join(f"Ann{i} B-{label}\nleft O\n\n" for i in range(n))

    write("c/train.conll", names("PER", 40) + names("MISC", 40))
    path = write("c/test.conll", names("PER", 20)).parent
    corpus = load(path)
    assert any("Train has entities MISC, test has none" in note for note in corpus.notes)
    kept = load(path, entities=["PER"])
    labels = {ent[2] for s in (*kept.train, *kept.dev, *kept.test) for ent in s.ents or ()}
    assert labels == {"PER"}
    assert len(kept.train) == len(corpus.train)  # the sentences stay, their names become O
    assert not any("MISC" in note for note in kept.notes)
    with pytest.raises(
        CorpusError, match=r"entities: expected labels of the corpus, MISC, PER, got LOC"
    ):
        load(path, entities=["LOC"])


def test_a_task_that_the_test_split_cannot_score_is_left_out_and_told(write: Write) -> None:
    named = "".join(f"Rose\tB-PER\nrose{n}\tO\n\n" for n in range(12))
    folder = write("n/train.iob", named).parent
    write("n/dev.iob", named)
    write("n/test.conllu", _tree("a"))
    corpus = load(folder)
    assert corpus.tasks == ()
    assert corpus.notes == ("Test has nothing annotated for ner: it is left out of the tasks.",)


def test_a_split_without_an_entity_tells_nothing_of_a_recogniser(tmp_path):
    rows = {"train": "Ada\tB-PER\nwon\tO\n\n", "dev": "she\tO\nwon\tO\n\n"}
    for split, text in (rows | {"test": rows["train"]}).items():
        (tmp_path / f"{split}.iob").write_text(text * 3)
    corpus = load(tmp_path)
    assert corpus.tasks == ()
    assert corpus.notes == ("Dev has nothing annotated for ner: it is left out of the tasks.",)


def test_packed_files_and_urls(write: Write, tmp_path: Path) -> None:
    path = write("a.conllu", _many(10))
    packed = tmp_path / "b.conllu.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert load(packed).train == load(path).train == load(f"file://{path}").train
    assert load(packed).name == "b"
    with ZipFile(tmp_path / "c.conllu.zip", "w") as archive:
        archive.write(path, "train.conllu")
        archive.write(path, "dev.conllu")
    with pytest.raises(CorpusError, match=r"one file in the zip archive, got 2: dev\.conllu, "):
        load(tmp_path / "c.conllu.zip")


def test_skipped_are_counted_and_nothing_left_is_an_error(write: Write) -> None:
    bad = conllu("1 a X X 7 root")
    corpus = load(write("a.conllu", GOOD * 5 + bad * 2), on_error="skip")
    assert corpus.skipped == {"bad head": 2}
    with pytest.raises(CorpusError, match=r"left out: \{'bad head': 2\}"):
        load(write("b.conllu", bad * 2), on_error="skip")
    with pytest.raises(CorpusError, match="got 1 and 0"):
        load(write("c.conllu", GOOD))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("newsrom", r"one of newsroom, ud_ewt.*no such file"),
        ("no/such.conllu", "No such file"),
        ("a.txt", r"a file that ends in \.conllu"),
        (".", "a folder of one such"),
        ("broken.spacy", "DocBin"),
        ("comments.conllu", "none"),
    ],
)
def test_bad_sources(write: Write, monkeypatch: pytest.MonkeyPatch, source: str, says: str) -> None:
    root = write("x/a.txt", "hello").parent
    write("y/broken.spacy", "hello")
    write("y/comments.conllu", "# nothing\n")
    here = root.with_name("y") if source in ("broken.spacy", "comments.conllu") else root
    monkeypatch.chdir(here)
    with pytest.raises(CorpusError, match=says):
        load(source)


def test_all_bad_options_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)limit.*dev_limit.*on_error"):
        load(limit=0, dev_limit=-1, on_error="no")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="a int: expected a name, a path, a HuggingFace dataset"):
        load(3)


def _tree(sent_id: str) -> str:
    return f"# sent_id = {sent_id}\n{GOOD}"


def _names(sent_id: str, words: str = "Rose rose .") -> str:
    first, *rest = words.split()
    return f"# sent_id = {sent_id}\n{first}\tB-PER\n" + "".join(f"{w}\tO\n" for w in rest) + "\n"


@pytest.fixture
def folders(write: Write) -> tuple[str, str]:
    write("trees/x-train.conllu", _tree("a") + _tree("b") + _tree("c"))
    write("trees/x-dev.conllu", _tree("d"))
    write("trees/x-test.conllu", _tree("e"))
    write("names/x-train.iob2", _names("c") + _names("a", "Rose fell .") + _names("d"))
    path = write("names/x-dev.iob2", _names("e")).parent
    return str(path.with_name("trees")), str(path)


def test_layers_join_by_sent_id_across_splits(folders: tuple[str, str]) -> None:
    trees, names = folders
    corpus = load(trees, layers=(names,))
    assert corpus.tasks == ("tagger", "morphologizer", "parser", "ner")
    assert [_ids(part) for part in (corpus.train, corpus.dev, corpus.test)] == [["c"], ["d"], ["e"]]
    assert corpus.dev[0].ents == ((0, 1, "PER"),)
    assert corpus.dev[0].tags == ("NNP", "VBD", ".")
    assert corpus.dev[0].spaces == (True, False, True)
    assert corpus.skipped == {"tokens differ in layer names": 1, "not in layer names": 1}


def test_a_layer_of_another_corpus(write: Write) -> None:
    base = write("a.conllu", _tree("a") + _tree("b"))
    other = write("b.iob2", _names("x"))
    with pytest.raises(CorpusError, match="none of them"):
        load(base, layers=(other,))
    with pytest.raises(CorpusError, match="sent_id"):
        load(write("c.conllu", GOOD + GOOD), layers=(other,))


def test_a_layer_whose_ids_begin_again(write: Write) -> None:
    base = write("a.conllu", _tree("a"))
    write("n/train.iob2", _names("a"))
    other = write("n/dev.iob2", _names("a").replace("PER", "ORG")).parent
    with pytest.raises(CorpusError, match="two of sent_id 'a' with the same words"):
        load(base, layers=(other,))


def test_one_id_used_twice_joins_by_words(write: Write) -> None:
    other = GOOD.replace("Rose", "May")
    base = write("a.conllu", f"# sent_id = a\n{GOOD}# sent_id = a\n{other}")
    names = write("b.iob2", _names("a", "May rose .") + _names("a", "Rose rose ."))
    corpus = load(base, layers=(names,))
    assert corpus.skipped == {}
    assert {s.words[0] for s in corpus.train + corpus.dev} == {"May", "Rose"}


DATA = {"x-train.conllu": GOOD * 3, "x-dev.conllu": GOOD}


class Handler(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  (one list a server is meant)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a treebank with DATA at an address into the registry; its cache is tmp_path/cache."""
    monkeypatch.setenv("TRFNB_DATA", str(tmp_path / "cache"))

    def _register(url: str, **other: str) -> None:
        sums = {split: DATA[f"x-{split}.conllu"] for split in ("train", "dev")}
        hashes = {split: hashlib.sha256(text.encode()).hexdigest() for split, text in sums.items()}
        bank = (url, "x-{}.conllu", hashes | other)
        monkeypatch.setitem(loading.TREEBANKS, "ud_x", bank)

    return _register


def test_treebanks_are_downloaded_once_and_checked(
    tmp_path: Path, write: Write, register: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "asked", [])
    for name, text in DATA.items():
        write(f"served/{name}", text)
    handler = partial(Handler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        register(url, train="0" * 64)
        with pytest.raises(CorpusError, match=r"the file with sha256:000.*got ValueError"):
            fetch("ud_x")
        folder = tmp_path / "cache" / "ud_x"
        assert list(folder.iterdir()) == [], "a file of another hash is not kept"
        register(url)
        assert fetch("ud_x") == fetch("ud_x") == folder
        assert sorted(Handler.asked) == ["/x-dev.conllu", "/x-train.conllu", "/x-train.conllu"]
        server.shutdown()
    corpus = load("ud_x")
    assert (corpus.name, len(corpus.train), len(corpus.dev)) == ("ud_x", 2, 1)
    changed = folder / "x-dev.conllu"
    changed.write_text("changed")
    with pytest.raises(CorpusError, match="Remove a file that is another"):
        fetch("ud_x")
    assert changed.read_text() == "changed"


def test_without_a_network_files_are_put_there_by_hand(
    tmp_path: Path, write: Write, register: Callable[..., None]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        register(f"http://127.0.0.1:{free.getsockname()[1]}/")
        with pytest.raises(CorpusError, match="TRFNB_DATA") as caught:
            fetch("ud_x")
        assert f"put it at {tmp_path / 'cache' / 'ud_x' / 'x-train.conllu'}" in str(caught.value)
        for name, text in DATA.items():
            write(f"cache/ud_x/{name}", text)
        assert fetch("ud_x") == tmp_path / "cache" / "ud_x"


def test_the_registry_is_sound() -> None:
    for url, pattern, sums in loading.TREEBANKS.values():
        assert re.fullmatch(r"https://.*/r[\d.]+/", url)
        assert pattern.format("dev").endswith("-ud-dev.conllu")
        assert list(sums) == ["train", "dev", "test"]
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in sums.values())
