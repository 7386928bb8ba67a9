import pytest

from trfnb.corpora import CorpusError, load

from .conftest import GOOD, Write


def _tree(sent_id: str) -> str:
    return f"# sent_id = {sent_id}\n{GOOD}"


def _names(sent_id: str, words: str = "Rose rose .") -> str:
    first, *rest = words.split()
    return f"# sent_id = {sent_id}\n{first}\tB-PER\n" + "".join(f"{w}\tO\n" for w in rest) + "\n"


@pytest.fixture
def folders(write: Write) -> tuple[str, str]:
    write("trees/x-train.conllu", _tree("a") + _tree("b") + _tree("c"))
    write("trees/x-dev.conllu", _tree("d"))
    write("names/x-train.iob2", _names("c") + _names("a", "Rose fell .") + _names("d"))
    path = write("names/x-dev.iob2", _names("e")).parent
    return str(path.with_name("trees")), str(path)


def test_layers_join_by_sent_id_across_splits(folders: tuple[str, str]) -> None:
    trees, names = folders
    corpus = load(trees, layers=(names,))
    assert corpus.tasks == ("tagger", "parser", "ner")
    assert [s.sent_id for s in corpus.train] == ["c"]
    assert [s.sent_id for s in corpus.dev] == ["d"]
    assert corpus.dev[0].ents == ((0, 1, "PER"),)
    assert corpus.dev[0].tags == ("NNP", "VBD", ".")
    assert corpus.dev[0].spaces == (True, False, True)
    assert corpus.skipped == {"tokens differ in layer names": 1, "not in layer names": 1}


def test_mismatch_can_raise(folders: tuple[str, str]) -> None:
    trees, names = folders
    with pytest.raises(CorpusError, match=r"word 2 on \('rose', '\.'\), got \('fell', '\.'\)"):
        load(trees, layers=(names,), on_mismatch="raise")


def test_a_layer_of_another_corpus(write: Write) -> None:
    base = write("a.conllu", _tree("a") + _tree("b"))
    other = write("b.iob2", _names("x"))
    with pytest.raises(CorpusError, match="none of them"):
        load(base, layers=(other,))
    with pytest.raises(CorpusError, match="sent_id"):
        load(write("c.conllu", GOOD + GOOD), layers=(other,))


def test_one_id_used_twice_joins_by_words(write: Write) -> None:
    other = GOOD.replace("Rose", "May")
    base = write("a.conllu", f"# sent_id = a\n{GOOD}# sent_id = a\n{other}")
    names = write("b.iob2", _names("a", "May rose .") + _names("a", "Rose rose ."))
    corpus = load(base, layers=(names,))
    assert corpus.skipped == {}
    assert {s.words[0] for s in corpus.train + corpus.dev} == {"May", "Rose"}
