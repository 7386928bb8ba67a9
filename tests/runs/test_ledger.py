"""Identity: what makes a run new, and what leaves it as it is."""

import json
from pathlib import Path

import trfnb
from trfnb.runs.gather import gather
from trfnb.runs.identity import Identities, notebook_digest
from trfnb.runs.results import results
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import prepare, run_sweep


def identity(notebook: Path, **parameters: object) -> str:
    return Identities(notebook, ["corpus"]).of(parameters)


def test_prose_and_outputs_change_nothing_code_does(tiny: Path) -> None:
    before = notebook_digest(tiny)
    content = json.loads(tiny.read_text())
    content["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "a finding"})
    content["cells"][1]["execution_count"] = 7
    tiny.write_text(json.dumps(content))
    assert notebook_digest(tiny) == before
    content["cells"][1]["source"] += "\n1 + 1"
    tiny.write_text(json.dumps(content))
    assert notebook_digest(tiny) != before


def test_identity_follows_parameters_version_and_corpus(tiny, tmp_path, monkeypatch) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "train.conllu").write_text("1")
    first = identity(tiny, corpus=str(corpus), seed=1)
    assert identity(tiny, seed=1, corpus=str(corpus)) == first
    assert identity(tiny, corpus=str(corpus), seed=2) != first
    (corpus / "train.conllu").write_text("2")
    assert identity(tiny, corpus=str(corpus), seed=1) != first
    (corpus / "train.conllu").write_text("1")
    assert identity(tiny, corpus=str(corpus), seed=1) == first
    (corpus / "train.conllu").rename(corpus / "dev.conllu")
    assert identity(tiny, corpus=str(corpus), seed=1) != first
    monkeypatch.setattr(trfnb, "__version__", "9.9")
    (corpus / "dev.conllu").rename(corpus / "train.conllu")
    assert identity(tiny, corpus=str(corpus), seed=1) != first


def test_the_embedded_corpus_counts_by_content(tiny: Path, tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "newsroom").mkdir(parents=True)
    (tmp_path / "data" / "newsroom" / "train.conllu").write_text("1")
    monkeypatch.setattr(trfnb, "__file__", str(tmp_path / "trfnb" / "__init__.py"))
    (digest,) = Identities(tiny, ["corpus"]).data({"corpus": "newsroom"}).values()
    assert len(digest) == 64


def test_a_second_call_runs_nothing_a_changed_notebook_all(make_notebook, capsys) -> None:
    notebook = make_notebook("import trfnb\ntrfnb.record('score', seed)")
    sweep = Sweep(notebook, seeds=2, jobs=2)
    first = run_sweep(sweep)
    assert "2 runs: 0 done, 2 to do." in capsys.readouterr().out
    ends = [status.ended for status in first.statuses]
    second = run_sweep(sweep)
    assert "2 runs: 2 done, 0 to do." in capsys.readouterr().out
    assert [status.ended for status in second.statuses] == ends
    wider = Sweep(notebook, seeds=3)
    assert "3 runs: 2 done, 1 to do (1 new)." in "".join(prepare(wider).plan.describe())
    make_notebook("import trfnb\ntrfnb.record('score', seed + 10)")
    third = run_sweep(sweep)
    said = capsys.readouterr().out
    assert "2 earlier runs are left out: the notebook has changed." in said
    assert [status.metrics["score"] for status in third.statuses] == [10, 11]
    assert len(gather(third.folder).outdated) == 2
    assert results(third.folder)["score"].tolist() == [10, 11]
    both = results(third.folder, outdated=True)
    assert both["outdated"].tolist() == [False, False, True, True]


def test_dry_run_writes_nothing(tiny: Path) -> None:
    checked = prepare(Sweep(tiny, seeds=3))
    assert len(checked.plan.statuses) == 3
    assert not checked.folder.exists()
