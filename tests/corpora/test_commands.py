from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trfnb.corpora import load
from trfnb.corpora.commands import add_commands

from .conftest import Write

app = typer.Typer()
add_commands(app)


@pytest.fixture
def texts(write: Write) -> str:
    rows = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))
    return str(write("a.csv", f"words of it,stars\n{rows}"))


def test_convert_writes_what_spacy_train_reads(texts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--text-column", "words of it", "--column", "stars", "--split", "5,3,2"]
    done = CliRunner().invoke(app, ["corpus", "convert", texts, str(out), *options])
    assert done.exit_code == 0, done.output
    corpus = load(out)
    assert [len(part) for part in (corpus.train, corpus.dev, corpus.test)] == [10, 6, 4]
    assert corpus.tasks == ("textcat",)


def test_inspect_shows_labels_leaks_and_cuts(write: Write) -> None:
    line = '["Mayor May won", {"entities": [[0, 3, "A"], [6, 9, "B"]]}]\n'
    path = write("a.jsonl", line * 3)
    done = CliRunner().invoke(app, ["corpus", "inspect", str(path)])
    assert done.exit_code == 0, done.output
    for shown in ("ner, spancat", "Texts that train, dev share: 1", "3 × spans cut by tokens", "B"):
        assert shown in done.output


def test_errors_are_one_line_and_help_has_an_example(texts: str) -> None:
    done = CliRunner().invoke(app, ["corpus", "inspect", texts])
    assert done.exit_code == 1
    assert f"Error: {texts}:1: expected a column text and a column label" in done.output
    assert (
        "trfnb corpus inspect conll2003/"
        in CliRunner().invoke(app, ["corpus", "inspect", "--help"]).output
    )
