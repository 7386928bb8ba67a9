"""What a notebook records arrives in its notebook, its status and the table."""

import json
import logging

import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure

import trfnb
from trfnb.runs.ledger import State, Status
from trfnb.runs.results import out_of_bounds, results
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import run_sweep

PARAMETERS = """seed: int = 0
keep = {"NOUN", "VERB"}
shape = (3, 3)
table = {1: .5}
raw = b"x"
lr = .1
cfg = {}"""
CELL = """import numpy as np, trfnb
from matplotlib.figure import Figure
trfnb.record("f1", np.float32(0.5))
trfnb.record("scores", {"ner": 0.25, "pos": {"fine": 1}})
trfnb.record("losses", [3.0, 2.0, float("nan")])
trfnb.record("seed", "told")
trfnb.record("huge", 2**70 if seed else 1)
trfnb.record("text", "a \\ud83d" if seed else "b")
trfnb.record("seen", repr((sorted(keep), type(keep).__name__, shape, table, raw, lr, cfg)))
figure = Figure(figsize=(1, 1)); figure.subplots().plot([1, 2])
trfnb.record("loss curve", figure, caption="How the loss fell.")"""


def test_values_arrive_unchanged_both_ways(make_notebook) -> None:
    odd = {"seed": 1, "keep": {"X"}, "shape": [4, 4], "table": {2: 0.5}, "lr": 1e-3}
    runs = [{"lr": 0.2}, odd | {"cfg": {3: (1,), "\ud83d": None}}]
    found = run_sweep(Sweep(make_notebook(CELL, parameters=PARAMETERS), runs=runs, jobs=2))
    first, second = found.statuses
    assert first.metrics["seen"] == (
        "(['NOUN', 'VERB'], 'set', (3, 3), {1: 0.5}, b'x', 0.2, {})"  # nobody set these
    )
    assert second.metrics["seen"] == (
        "(['X'], 'set', (4, 4), {2: 0.5}, b'x', 0.001, {3: (1,), '\\ud83d': None})"
    )
    assert first.metrics["losses"] == [3.0, 2.0, None]

    path = found.folder / "runs" / first.run / "notebook.ipynb"
    outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
    assert outputs[0]["data"] == {
        "application/scrapbook.scrap.json+json": {
            "name": "f1", "data": 0.5, "encoder": "json", "version": 1,
        }
    }  # fmt: skip
    assert outputs[0]["metadata"]["scrapbook"] == {"name": "f1", "data": True, "display": False}
    assert outputs[-1]["metadata"]["scrapbook"]["caption"] == "How the loss fell."
    assert len(outputs[-1]["data"]["image/png"]) > 500

    table = results(found.folder)
    row = table.iloc[0]
    assert (row["f1"], row["scores.ner"], row["scores.pos.fine"]) == (0.5, 0.25, 1)
    assert row["losses"] == "[3.0, 2.0, null]"
    assert (row["seed"], row["recorded.seed"]) == (0, "told")
    assert {"threads", "python", "torch", "commit", "seconds"} <= set(row.index)
    # one bad value costs its own cell
    assert table["huge"].tolist() == [1, 2**70]
    assert table["text"].tolist() == ["b", "a \\ud83d"]
    text = pandas.read_csv(found.folder / "results.csv")
    assert list(text.columns) == list(table.columns)
    assert text["f1"].tolist() == [0.5, 0.5]
    assert text["huge"].tolist() == [1, 2**70]


def test_outside_a_notebook_it_only_logs(caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    monkeypatch.delenv("TRFNB_RUN", raising=False)
    with caplog.at_level(logging.INFO, logger="trfnb"):
        trfnb.record("score", np.int64(3))
        trfnb.record("figure", Figure(figsize=(1, 1)))
    assert caplog.messages == ["score = 3"]


def test_what_no_json_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="got object"):
        trfnb.record("score", object())
    with pytest.raises(TypeError, match="at least one character"):
        trfnb.record("", 1)


RUN = {"run": "r", "identity": "r", "parameters": {}}


def test_bounds_hold_the_mean_of_the_runs_that_are_done() -> None:
    done = [Status(**RUN, state=State.DONE, metrics={"f1": value}) for value in (0.1, 0.3)]
    failed = Status(**RUN, state=State.FAILED, metrics={"f1": 9.0})
    runs = [*done, failed]
    assert out_of_bounds(runs, {"f1": [0.2, 0.2]}) == []
    assert out_of_bounds(runs, {"f1": [0.5, 1], "speed": [1, 2]}) == [
        "f1: expected 0.5 to 1, got 0.2 (mean of 2 runs).",
        "speed: expected 1 to 2, got nothing.",
    ]
