import json
import logging
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import trfnb
from trfnb.runs.results import results
from trfnb.runs.scraps import figures_of
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import run_sweep

CELL = """import numpy as np, trfnb
from matplotlib.figure import Figure
trfnb.record("f1", np.float32(0.5))
trfnb.record("scores", {"ner": 0.25, "pos": {"fine": 1}})
trfnb.record("losses", [3.0, 2.0, float("nan")])
trfnb.record("seed", "told")
trfnb.record("curve", 0.1, step=1)
figure = Figure(figsize=(1, 1)); figure.subplots().plot([1, 2])
trfnb.record("loss curve", figure, caption="How the loss fell.")"""


def test_values_arrive_in_scrapbooks_format_and_in_the_table(make_notebook) -> None:
    outcome = run_sweep(Sweep(make_notebook(CELL)), quiet=True)
    (status,) = outcome.statuses
    assert status.metrics["losses"] == [3.0, 2.0, None]
    assert status.latest["curve"] == 0.1
    assert "curve" not in status.metrics
    path = outcome.folder / "runs" / status.run / "notebook.ipynb"
    outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
    assert outputs[0]["data"] == {
        "application/scrapbook.scrap.json+json": {
            "name": "f1", "data": 0.5, "encoder": "json", "version": 1,
        }
    }  # fmt: skip
    assert outputs[0]["metadata"]["scrapbook"] == {"name": "f1", "data": True, "display": False}
    ((name, caption, image),) = figures_of(path)
    assert (name, caption) == ("loss curve", "How the loss fell.")
    assert len(image) > 500
    row = results(outcome.folder).iloc[0]
    assert (row["f1"], row["scores.ner"], row["scores.pos.fine"]) == (0.5, 0.25, 1)
    assert row["losses"] == "[3.0, 2.0, null]"
    assert (row["seed"], row["recorded.seed"]) == (0, "told")
    assert {"device", "threads", "python", "torch", "commit", "seconds"} <= set(row.index)


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


def test_tables_agree(make_notebook, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    cell = "import trfnb\ntrfnb.record('mixed', 'text' if seed else 1)\ntrfnb.record('f1', 0.5)"
    outcome = run_sweep(Sweep(make_notebook(cell), seeds=2, jobs=2), quiet=True)
    import pandas

    text = pandas.read_csv(outcome.folder / "results.csv")
    table = parquet.read_table(outcome.folder / "results.parquet").to_pandas()
    assert list(text.columns) == list(table.columns)
    assert table["mixed"].tolist() == ["1", "text"]
    assert text["f1"].tolist() == table["f1"].tolist() == [0.5, 0.5]
