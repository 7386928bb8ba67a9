"""The parts of a sweep's report, each a piece of HTML. Called by ``report.ipynb``."""

import html
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas

from trfnb.runs import charts, statistics
from trfnb.runs.durations import clock
from trfnb.runs.gather import Gathered, gather
from trfnb.runs.job import NOTEBOOK
from trfnb.runs.ledger import RUNS
from trfnb.runs.scraps import figures_of
from trfnb.runs.status import State
from trfnb.runs.table import flat, row_of

METRICS = 4
SETTINGS = 40
ROWS = 2000
ENVIRONMENT = ("trfnb", "commit", "python", "spacy", "torch", "device", "threads", "host")


@dataclass
class Report:
    """A sweep's folder, read once for all parts of its report."""

    folder: Path
    found: Gathered
    table: pandas.DataFrame
    recorded: list[str]
    metrics: list[str]
    settings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path | str) -> "Report":
        """Read a sweep's folder.

        Raises:
            FileNotFoundError: it holds no sweep.
        """
        folder = Path(folder)
        found = gather(folder)
        rows = [row_of(status) for status in found.current]
        names = dict.fromkeys(n for s in found.current for n in flat(s.metrics))
        recorded = [
            next((c for c in (f"recorded.{n}", n) if any(c in row for row in rows)), n)
            for n in names
        ]
        numeric = statistics.numeric_metrics(rows, recorded)
        wanted = [name for name in found.about["metrics"] if name in numeric]
        table = pandas.DataFrame(rows)
        varied = [n for n in found.about["varied"] if n in table and n != "seed"]
        settings = [n for n in varied if table[n].nunique(dropna=False) > 1]
        return cls(folder, found, table, recorded, wanted or numeric[:METRICS], settings)

    @property
    def done(self) -> pandas.DataFrame:
        """The rows that have results."""
        return self.table[self.table["status"] == State.DONE] if len(self.table) else self.table


def heading(report: Report) -> str:
    """What was run: notebook, runs by state, time, environment."""
    about, current = report.found.about, report.found.current
    counts = Counter(str(status.state) for status in current)
    states = " ".join(
        f'<span class="state {_slug(state)}">{number} {state}</span>'
        for state, number in counts.most_common()
    )
    total = sum(status.seconds or 0 for status in current)
    called = time.strftime("%Y-%m-%d %H:%M", time.localtime(about["called"]))
    facts = {
        "notebook": Path(about["notebook"]).name,
        "varied": ", ".join(about["varied"]) or "nothing",
        "last called": called,
        "time in all runs": clock(total),
    }
    for name in ENVIRONMENT:
        values = report.table.get(name, pandas.Series(dtype=object)).dropna().unique()
        if len(values):
            facts[name] = ", ".join(map(str, values[:4])) + (" …" if len(values) > 4 else "")
    if report.found.outdated:
        count = len(report.found.outdated)
        facts["left out"] = f"{count} runs of an earlier notebook, library or corpus"
    items = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in facts.items())
    return f"<h1>{_text(about['name'])}</h1><p>{states}</p><dl>{items}</dl>"


def failures(report: Report) -> str:
    """Runs without results, each with its cause and the end of its traceback."""
    bad = [status for status in report.found.current if status.state.bad]
    if not bad:
        return "<p class='quiet'>No run failed.</p>"
    parts = []
    for status in bad:
        trace = status.error.get("traceback") or status.error.get("message", "")
        more = f"<pre>{_text(trace)}</pre>" if trace else ""
        where = f"{RUNS}/{status.run}"
        parts.append(
            f"<details><summary><span class='state {_slug(status.state)}'>{status.state}</span> "
            f"{_link(f'{where}/{NOTEBOOK}', _label(report, status.parameters, status.run))}: "
            f"{_text(status.cause)}</summary>{more}<p>{_link(f'{where}/log.txt', 'log')}</p>"
            "</details>"
        )
    return f"<h2>Failures</h2>{''.join(parts)}"


def by_setting(report: Report) -> str:
    """Each setting's metrics, mean and bootstrap interval over its seeds."""
    if not report.metrics or not len(report.done):
        return "<p class='quiet'>No run has recorded a number yet.</p>"
    found = statistics.by_setting(report.done, report.settings, report.metrics)
    first = report.metrics[0]
    sign = 1 if statistics.smaller_is_better(first) else -1

    def rank(row: tuple[dict[str, Any], dict[str, statistics.Interval | None]]) -> float:
        interval = row[1][first]
        return sign * interval.mean if interval else float("inf")

    found.sort(key=rank)
    head = [*report.settings, *report.metrics, "runs"]
    rows = [
        [
            *map(_value, setting.values()),
            *(str(interval) if interval else "" for interval in intervals.values()),
            str(max((i.count for i in intervals.values() if i), default=0)),
        ]
        for setting, intervals in found[:SETTINGS]
    ]
    cut = len(found) - SETTINGS
    note = f"<p class='quiet'>{cut} more settings are in results.csv.</p>" if cut > 0 else ""
    figure = charts.intervals(found[: charts.MOST_ROWS], report.metrics)
    text = "Mean over seeds, with its 95 % bootstrap interval in brackets."
    return f"<h2>By setting</h2><p>{text}</p>{figure}{_table(head, rows)}{note}"


def effects(report: Report) -> str:
    """What each parameter does on average over all others, the strongest first."""
    if len(report.settings) < 2:  # the settings are the parameter's values, and shown already
        return ""
    parts = []
    for metric in report.metrics if len(report.done) else []:
        found = statistics.main_effects(report.done, report.settings, metric)
        if found:
            ranked = sorted(found.items(), key=lambda item: -statistics.spread(item[1]))
            parts.append(charts.effects(dict(ranked), metric))
    if not parts:
        return ""
    text = "Each metric's mean at a parameter's values, over all other settings and seeds."
    return f"<h2>Main effects</h2><p>{text}</p>{''.join(parts)}"


def best_runs(report: Report, count: int = 5) -> str:
    """The best runs by the first metric, and the figures that the best one recorded."""
    if not report.metrics or not len(report.done):
        return ""
    metric = report.metrics[0]
    top = statistics.best(report.done, metric, count)
    varied = [n for n in report.found.about["varied"] if n in top]
    body = f"<h2>Best runs by {_text(metric)}</h2>{_runs(report, top, varied)}"
    notebook = report.folder / RUNS / str(top.iloc[0]["run"]) / NOTEBOOK
    figures = figures_of(notebook) if notebook.exists() else []
    for name, caption, image in figures:
        body += (
            f"<figure><img alt='{_text(name)}' src='data:image/png;base64,{image}'>"
            f"<figcaption>{_text(caption or name)}</figcaption></figure>"
        )
    return body


def history(report: Report) -> str:
    """How an adaptive search went: each trial's value and the best so far."""
    search = report.found.about.get("search")
    metric = str((search or {}).get("metric"))
    if not search or metric not in report.done:
        return ""
    pruned = sum(status.state is State.PRUNED for status in report.found.current)
    ordered = report.done.sort_values("started")
    smaller = search.get("direction", "maximize") == "minimize"
    figure = charts.history(ordered[metric].tolist(), metric, smaller=smaller)
    note = f"{len(ordered)} trials ended, {pruned} were pruned."
    return f"<h2>Search</h2><p>{note}</p>{figure}"


def all_runs(report: Report) -> str:
    """Every run with a link to its executed notebook."""
    if not len(report.table):
        return ""
    varied = [name for name in report.found.about["varied"] if name in report.table]
    shown = _runs(report, report.table.head(ROWS), varied)
    return f"<h2>All runs</h2><details><summary>{len(report.table)} runs</summary>{shown}</details>"


def _runs(report: Report, table: pandas.DataFrame, varied: Sequence[str]) -> str:
    columns = [*varied, *report.metrics, "seconds", "status"]
    rows = []
    for record in table.to_dict("records"):
        link = _link(f"{RUNS}/{record['run']}/{NOTEBOOK}", "notebook")
        rows.append([*(_value(record.get(name)) for name in columns), link])
    return _table([*columns, ""], rows)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _label(report: Report, parameters: dict[str, Any], default: str) -> str:
    varied = report.found.about["varied"]
    return " ".join(f"{k}={parameters[k]}" for k in varied if k in parameters) or default


def _value(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return _text("" if value is None else value)


def _link(path: str, text: str) -> str:
    return f"<a href='{quote(path)}'>{_text(text)}</a>"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _slug(state: object) -> str:
    return str(state).replace(" ", "-")
