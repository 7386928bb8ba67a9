import re
import time
from pathlib import Path

import numpy as np
import pytest

from trfnb.runs.identity import Identities
from trfnb.runs.ledger import Ledger, describe_folder
from trfnb.runs.report import write_report
from trfnb.runs.specification import Sweep
from trfnb.runs.statistics import bootstrap, main_effects
from trfnb.runs.status import State
from trfnb.runs.sweep import run_sweep


def many_rows(notebook: Path, folder: Path, count: int) -> Path:
    """A sweep's folder with made-up runs, as if they had been executed."""
    ledger, identities = Ledger(folder), Identities(notebook, [])
    draw, order = np.random.default_rng(0), []
    for number in range(count):
        rate, mode = 0.1 * (number % 10), "ab"[number // 10 % 2]
        row = {"seed": number // 20, "rate": rate, "mode": mode, "corpus": "x", "smoke": False}
        status = ledger.add(row, identities, ["mode", "rate", "seed"])
        status.state = State.FAILED if number % 97 == 5 else State.DONE
        status.cause = "ValueError: <b>odd</b>" if status.state.bad else ""
        status.started, status.ended = 1e9 + number, 1e9 + number + 2
        if not status.state.bad:
            score = rate + 0.2 * (mode == "b") + float(draw.normal(0, 0.05))
            status.metrics = {"f1": score, "words per second": 1000 * score, "loss": 1 - score}
        home = ledger.home(status)
        home.mkdir(parents=True)
        status.write(home)
        order.append(status.identity)
    about = {
        "name": "many", "notebook": str(notebook), "notebook_digest": identities.notebook,
        "trfnb": identities.version, "varied": ["mode", "rate", "seed"], "metrics": ["f1", "loss"],
        "order": order, "called": 1e9, "data": {},
    }  # fmt: skip
    describe_folder(folder, about)
    return folder


def test_a_thousand_rows_make_one_page_that_loads_nothing(tiny: Path, tmp_path: Path) -> None:
    folder = many_rows(tiny, tmp_path / "many", 1000)
    started = time.time()
    page = write_report(folder).read_text()
    print("seconds", time.time() - started)
    assert time.time() - started < 20  # 10 on a machine that does nothing else
    assert not re.findall(r"<(?:script|link|iframe|object)\b", page)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.findall(r"url\(\s*[\"']?(?:https?:)?//|@import", page)
    order = [
        page.index(f"<h2>{name}") for name in ("Failures", "By setting", "Main effects", "Best")
    ]
    assert order == sorted(order)
    assert "&lt;b&gt;odd" in page  # what a notebook says is text, never markup
    assert page.count("<svg") >= 3
    assert "990 done" in page or "989 done" in page


def test_a_sweep_reports_its_failures_and_links_its_notebooks(make_notebook) -> None:
    cell = "import trfnb\nif seed:\n    raise KeyError('gone')\ntrfnb.record('f1', 0.5)"
    outcome = run_sweep(Sweep(make_notebook(cell), seeds=2, jobs=2), quiet=True)
    path = write_report(outcome.folder)
    page = path.read_text()
    assert "KeyError" in page
    links = re.findall(r'href="([^"#]+)"', page)
    assert links
    assert all((path.parent / link).exists() for link in links)


def test_a_report_of_nothing_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        write_report(tmp_path)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        interval = bootstrap(draw.normal(3.0, 1.0, 30), seed=trial)
        held += interval.low <= 3.0 <= interval.high
    assert 0.88 <= held / 200 <= 0.99
    assert bootstrap([]) is None
    assert bootstrap([2.0, None, float("nan")]).count == 1


def test_main_effects_average_over_the_rest() -> None:
    import pandas

    table = pandas.DataFrame({"a": [0, 0, 1, 1], "b": ["x", "y"] * 2, "f1": [1.0, 2.0, 3.0, 4.0]})
    effects = main_effects(table, ["a", "b"], "f1")
    assert [interval.mean for _, interval in effects["a"]] == [1.5, 3.5]
    assert [interval.mean for _, interval in effects["b"]] == [2.0, 3.0]
