from pathlib import Path

import typer
from typer.testing import CliRunner

from trfnb.corpora import load
from trfnb.corpora.commands import add_commands

from .conftest import Write

app = typer.Typer()
add_commands(app)


def test_convert_writes_what_spacy_train_reads(write: Write, tmp_path: Path) -> None:
    rows = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))
    texts = str(write("a.csv", f"words of it,stars\n{rows}"))
    options = ["--text-column", "words of it", "--column", "stars"]
    done = CliRunner().invoke(app, ["corpus", "convert", texts, str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    corpus = load(tmp_path / "out")
    assert [len(part) for part in (corpus.train, corpus.dev, corpus.test)] == [16, 2, 2]
    assert corpus.tasks == ("textcat",)
    failed = CliRunner().invoke(app, ["corpus", "inspect", texts])
    assert f"{texts}:1: expected a column text" in str(failed.exception)


def test_inspect_shows_labels_leaks_and_cuts(write: Write) -> None:
    line = '["Mayor May won", {"entities": [[0, 3, "A"], [6, 9, "B"]]}]\n'
    path = write("a.jsonl", line * 3)
    done = CliRunner().invoke(app, ["corpus", "inspect", str(path)])
    assert done.exit_code == 0, done.output
    for shown in ("ner, spancat", "Texts that train, dev share: 1", "3 × spans cut by tokens", "B"):
        assert shown in done.output
