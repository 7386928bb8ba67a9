"""A run's identity, its record on the disk, and what a later call makes of both."""

import os
import time
from pathlib import Path

import pytest

import trfnb
from trfnb.runs.ledger import Identities, Ledger, State, Status, gather, read_status
from trfnb.runs.results import results, table_of
from trfnb.runs.specification import Sweep, expand
from trfnb.runs.sweep import Plan, run_sweep


def identity(notebook: Path, **parameters: object) -> str:
    return Identities(notebook, ["corpus"]).of(parameters)


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


def test_equal_sets_are_one_identity_and_unlike_types_two(tiny: Path) -> None:
    words = [f"w{number}" for number in range(40)]
    assert identity(tiny, keep=set(words)) == identity(tiny, keep=set(words))
    unlike = [(3, 3), [3, 3], {3}, {3: 3}, {"3": 3}, "3", 3, 3.0, b"3"]
    assert len({identity(tiny, x=value) for value in unlike}) == len(unlike)


def test_the_embedded_corpus_counts_by_content(tiny: Path, tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "newsroom").mkdir(parents=True)
    (tmp_path / "data" / "newsroom" / "train.conllu").write_text("1")
    monkeypatch.setattr(trfnb, "__file__", str(tmp_path / "trfnb" / "__init__.py"))
    (digest,) = Identities(tiny, ["corpus"]).data({"corpus": "newsroom"}).values()
    assert len(digest) == 64


def test_a_status_comes_back_as_it_was(tmp_path: Path) -> None:
    written = Status(run="r", identity="id", parameters={"seed": 1}, started=1.0, ended=3.5)
    written.state, written.metrics = State.TIMED_OUT, {"text": "a \ud83d", "big": 2**70}
    written.write(tmp_path)
    assert read_status(tmp_path) == written
    assert table_of([written])["seconds"].tolist() == [2.5]
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    (tmp_path / "status.json").write_text("{")
    assert read_status(tmp_path) is None


def test_a_second_call_runs_nothing_a_changed_notebook_all(make_notebook) -> None:
    notebook = make_notebook("import trfnb\ntrfnb.record('score', seed)")
    sweep, said = Sweep(notebook, seeds=2, jobs=2), []
    first = run_sweep(sweep, say=said.append)
    second = run_sweep(sweep, say=said.append)
    assert [said[0], said[-1]] == ["2 runs: 0 done, 2 to do.", "2 runs: 2 done, 0 to do."]
    assert sorted(line[:10] for line in said[1:-1]) == ["[1/2] done", "[2/2] done"]
    assert [s.ended for s in second.statuses] == [s.ended for s in first.statuses]
    assert Plan(Sweep(notebook, seeds=3)).notes == ["3 runs: 2 done, 1 to do."]
    make_notebook("import trfnb\ntrfnb.record('score', seed + 10)")
    assert Plan(sweep).notes == ["2 runs: 0 done, 2 to do."]
    third = run_sweep(Sweep(notebook, seeds=1))
    assert results(third.folder)["score"].tolist() == [10]
    assert len(gather(third.folder)[2]) == 2


def test_a_dry_run_writes_nothing_and_misses_no_corpus(tiny: Path) -> None:
    checked = Plan(Sweep(tiny, seeds=3))
    assert len(checked.statuses) == 3
    assert not checked.folder.exists()
    with pytest.raises(ValueError, match=r"`corpus`: no file or folder 'my\.conllu', seen from"):
        Plan(Sweep(tiny, fixed={"corpus": "my.conllu"}))
    notes = Plan(Sweep(tiny, fixed={"corpus": "newsrom"})).notes
    assert "`corpus`: 'newsrom' is no path here" in notes[1]


def test_only_a_dead_machines_runs_are_repaired(tiny: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "sweep")
    (status,) = ledger.plan(expand(Sweep(tiny)), Identities(tiny, []), [])
    status = ledger.restart(status)
    status.state, status.heartbeat = State.RUNNING, time.time()
    status.environment = {"host": os.uname().nodename}
    status.write(ledger.home(status))
    (lost,) = ledger.repair()
    assert lost.state is State.KILLED
    assert "died" in lost.cause
    status.environment = {"host": "another-machine"}
    status.write(ledger.home(status))
    assert ledger.repair() == []  # its heartbeat is fresh
    status.heartbeat = time.time() - 3600
    status.write(ledger.home(status))
    assert len(ledger.repair()) == 1
