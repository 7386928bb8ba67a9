"""spaCy's own commands on configs with trfnb in them, without `--code`."""

import pytest
import spacy
from small_pipelines import LISTENER, examples, initialized
from spacy.cli import app
from spacy.tokens import DocBin
from typer.testing import CliRunner

pytestmark = pytest.mark.slow


def command(*arguments, fails=False):
    """Run a command in this process; `tests/experiments` has `spacy train` in one of its own."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert fails or result.exit_code == 0, result.output + str(result.exception)
    return result.output


def ours(name):
    return {"@architectures": "trfnb.TransformerModel.v1", "name": name}


def theirs(name):
    return {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": name,
        "get_spans": {"@span_getters": "spacy-transformers.strided_spans.v1"},
    }


THEIR_LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}


@pytest.mark.parametrize(
    ("model", "listener"), [(ours, LISTENER), (theirs, THEIR_LISTENER)], ids=["trfnb", "theirs"]
)
def test_every_command(tiny, tmp_path, monkeypatch, model, listener):
    monkeypatch.chdir(tmp_path)
    nlp = spacy.blank("en")
    nlp.add_pipe("transformer", config={"model": model(tiny)})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": listener}})
    initialized(nlp)
    nlp.config.to_disk(tmp_path / "base.cfg")
    DocBin(docs=[one.reference for one in examples(nlp)]).to_disk(tmp_path / "few.spacy")
    command("init", "fill-config", "base.cfg", "full.cfg")
    data = ("--paths.train", "few.spacy", "--paths.dev", "few.spacy")
    command("debug", "config", "full.cfg", *data)
    # Three sentences are too few for a clean bill, which is the command's own exit status.
    report = command("debug", "data", "full.cfg", *data, fails=True)
    assert "Part-of-speech Tagging" in report
    steps = ("--training.max_steps", "2", "--training.eval_frequency", "1")
    command("train", "full.cfg", "--output", "out", *data, *steps)
    trained = spacy.load(tmp_path / "out/model-last")
    assert trained("the bank")[0].tag_

    # A sourced pipeline: the encoder and the tagger that listens to it come from disk.
    config = trained.config.copy()
    for name in trained.pipe_names:
        config["components"][name] = {"source": "out/model-last"}
    config.to_disk(tmp_path / "sourced.cfg")
    command("assemble", "sourced.cfg", "assembled", *data)
    assembled = spacy.load(tmp_path / "assembled")
    assert [t.tag_ for t in assembled("the bank plans")] == [
        t.tag_ for t in trained("the bank plans")
    ]
    (tmp_path / "packages").mkdir()
    command("package", "assembled", "packages", "--build", "none", "--name", "few")
    package = tmp_path / "packages/en_few-0.0.0/en_few/en_few-0.0.0"
    assert [t.tag_ for t in spacy.load(package)("the bank plans")] == [
        t.tag_ for t in trained("the bank plans")
    ]
