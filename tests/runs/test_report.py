"""The report: answers first, right at one row and at a thousand, whatever notebooks say."""

import re
from pathlib import Path

import numpy as np
import pytest

from trfnb.answer import Answer
from trfnb.runs.ledger import Ledger, State, Status, gather, write_json
from trfnb.runs.report import Report, write_report
from trfnb.runs.results import answer_of, keep_best


def made_sweep(folder: Path, varied: list[str], statuses: list[Status], **about: object) -> Path:
    """A sweep's folder with made-up runs, as if they had been executed."""
    ledger = Ledger(folder)
    for status in statuses:
        home = ledger.home(status)
        home.mkdir(parents=True)
        (home / "notebook.ipynb").write_text("{}")
        status.write(home)
    content = {
        "name": "made", "notebook": "tiny.ipynb", "code": "",
        "varied": varied, "metrics": [], "order": [s.identity for s in statuses], "called": 1e9,
        "data": {}, "search": None,
    }  # fmt: skip
    write_json(folder / "sweep.json", content | about)
    return folder


def made_run(number: int, parameters: dict[str, object], **more: object) -> Status:
    status = Status(
        run=f"run{number}", identity=f"id{number}", parameters=parameters, state=State.DONE
    )
    status.started, status.ended, status.peak_memory = 1e9 + number, 1e9 + number + 2, 100.0
    for name, value in more.items():
        setattr(status, name, value)
    return status


def many_rows(folder: Path, count: int) -> Path:
    """Runs over ten rates, two modes and seeds; every 97th failed."""
    draw, statuses = np.random.default_rng(0), []
    for number in range(count):
        rate, mode = 0.1 * (number % 10), "ab"[number // 10 % 2]
        score = rate + 0.2 * (mode == "b") + float(draw.normal(0, 0.05))
        metrics = {"f1": score, "words per second": 1000 * score, "loss": 1 - score}
        row = {"seed": number // 20, "rate": rate, "mode": mode}
        status = made_run(number, row, metrics=metrics)
        if number % 97 == 5:
            status.state, status.cause = State.FAILED, "ValueError: <b>odd</b>"
            status.metrics, status.traceback = {}, "line 1\nline 2"
        statuses.append(status)
    return made_sweep(folder, ["mode", "rate", "seed"], statuses, metrics=["f1", "loss"])


def heads(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


@pytest.mark.parametrize("count", [1, 60, 1000])
def test_the_page_answers_first_and_loads_nothing(tmp_path: Path, count: int) -> None:
    page = write_report(many_rows(tmp_path / "many", count)).read_text()
    assert not re.findall(r"<(?:script|link|iframe|object)\b", page)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.findall(r"url\(\s*[\"']?(?:https?:)?//|@import", page)
    assert heads(page)[0] == "Best settings"
    assert heads(page)[-1] == "All runs"
    bad = sum(number % 97 == 5 for number in range(count))
    assert page.count("ValueError: &lt;b&gt;odd&lt;/b&gt;") == bad  # text, never markup
    assert page.count("<svg") == 1
    assert page.count('/notebook.ipynb">notebook</a>') == count + bad


def test_a_report_of_nothing_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        write_report(tmp_path)


def test_the_answers_follow_the_numbers(tmp_path: Path) -> None:
    scores = {"a": [0.1, 0.2, 0.3], "b": [0.8, 0.82, 0.84], "c": [0.79, 0.81, 0.83]}
    runs = [
        made_run(10 * place + seed, {"mode": mode, "seed": seed}, metrics={"f1": score})
        for place, (mode, values) in enumerate(scores.items())
        for seed, score in enumerate(values)
    ]
    report = Report(made_sweep(tmp_path / "x", ["mode", "seed"], runs))
    assert report.best() == [
        "f1: mode=b, 0.82 ± 0.05. Cannot be told from it: mode=c, 0.81 ± 0.05.",
    ]
    assert list(report.by_setting()["f1"]) == ["0.820 ± 0.050", "0.810 ± 0.050", "0.200 ± 0.248"]
    apart = Report(made_sweep(tmp_path / "z", ["mode", "seed"], [*runs[:3], *runs[6:]]))
    assert apart.best() == ["f1: mode=c, 0.81 ± 0.05. Clearly behind it: mode=a, 0.2 ± 0.25."]
    both = [{"ner.loss": n + 1, "sentiment_f": n + 1, "train_seconds": n + 1} for n in (0, 1)]
    two = [made_run(n, {"mode": "ab"[n], "seed": 0}, metrics=both[n]) for n in (0, 1)]
    assert Report(made_sweep(tmp_path / "y", ["mode", "seed"], two)).best() == [
        "ner.loss: mode=a, 1. Cannot be told from it: mode=b, 2.",
        "sentiment_f: mode=b, 2. Cannot be told from it: mode=a, 1.",
        "train_seconds: mode=a, 1. Cannot be told from it: mode=b, 2.",
    ]


def test_long_values_many_settings_and_huge_messages_stay_legible(tmp_path: Path, recwarn) -> None:
    runs = [
        made_run(n, {"first": "x" * 60 + str(n), "second$_{": f"y{n % 2}"}, metrics={"f_1$": n})
        for n in range(45)
    ]
    runs[7].state, runs[7].cause = State.FAILED, "E: " + "long \x00\ud83d" * 20_000
    folder = made_sweep(tmp_path / "x", ["first", "second$_{"], runs)
    page = write_report(folder).read_text()
    assert len(page) < 400_000
    assert "4 more are in results.csv." in page  # of 44 settings
    assert 'href="runs/run7/notebook.ipynb"' in page
    assert max(map(len, re.findall(r"<summary>.*?</summary>", page, re.S))) < 600
    assert not recwarn.list


def test_a_page_without_numbers_says_so(tmp_path: Path) -> None:
    folder = made_sweep(tmp_path / "x", [], [made_run(1, {"seed": 0}, metrics={"text": "a"})])
    assert "No run recorded a number: call trfnb.record" in write_report(folder).read_text()


def test_a_searchs_direction_says_what_is_best(tmp_path: Path) -> None:
    runs = [made_run(n, {"x": n / 7}, metrics={"f": 1 / (n + 1)}, trial=n) for n in range(5)]
    folder = made_sweep(tmp_path / "x", ["x"], runs, search={"f": "minimize"})
    assert Report(folder).best()[0].startswith("f: x=0.5714, 0.2. ")


ASKED = {
    "scores": {"f1": "entity F", "tag": "tag accuracy", "other": "of no run"},
    "costs": {"mb": "MB on disk", "peak_memory_mb": "MB of memory"},
    "by": "sharing", "of": "independent", "against": "shared", "floor": "frozen",
    "choose": "dev",
}  # fmt: skip


def answering(folder: Path, seeds: int) -> Path:
    """Runs of three ways of sharing, with learning curves and a pipeline each."""
    draw, runs = np.random.default_rng(0), []
    for place, (way, level) in enumerate(
        {"shared": 0.8, "independent": 0.81, "frozen": 0.6}.items()
    ):
        for seed in range(seeds):
            f1 = level + float(draw.normal(0, 0.01))
            curve = {
                "words": [100 * n for n in range(1, 6)],
                "score": [f1 * n / 5 for n in range(1, 6)],
            }
            told = ["ner: still rising"] if (way, seed) == ("frozen", 0) else []
            metrics = {"f1": f1, "tag": f1 + 0.1, "mb": 90.0 * (1 + 2 * (place == 1)), "dev": f1}
            metrics |= {
                "curve": curve,
                "starved": told,
                "pipeline": "pipeline",
                "setup": "On news.",
            }
            row = {"sharing": way, "seed": seed, "margin": 0.05}
            runs.append(made_run(100 * place + seed, row, metrics=metrics))
    made_sweep(folder, ["sharing", "seed"], runs, metrics=["f1"], answer=ASKED)
    for status in runs:
        pipeline = folder / "runs" / status.run / "pipeline"
        pipeline.mkdir()
        (pipeline / "meta.json").write_text('{"lang": "en", "name": "pipeline"}')
    return folder


@pytest.mark.parametrize("seeds", [1, 2, 20])
def test_a_sweep_that_asks_is_answered_on_top(tmp_path: Path, seeds: int) -> None:
    page = write_report(answering(tmp_path / "asks", seeds)).read_text()
    assert heads(page)[:3] == ["Answer", "Costs", "Trained long enough?"]
    answer = page[page.index("<h2>Answer") : page.index("<h2>Failed runs")]
    verdict = "no difference worth 0.05" if seeds > 2 else f"cannot tell from {seeds} seed(s)"
    assert f"<li>entity F: {verdict}" in answer
    assert f"<li>tag accuracy: {verdict}" in answer
    assert "Take shared. Mean dev: shared 0." in answer
    assert "independent: 3.00 × the MB on disk, 1.00 × the MB of memory of shared." in answer
    assert "starved: frozen, seed 0: ner: still rising" in answer
    assert answer.count("<svg") == 2  # scores against costs, and learning curves
    assert (tmp_path / "asks" / "answer.png").stat().st_size > 10_000


def test_the_winners_pipeline_is_kept_with_its_card(tmp_path: Path) -> None:
    folder = answering(tmp_path / "asks", 3)
    about, statuses, _ = gather(folder)
    answer = answer_of(about, statuses)
    winner = keep_best(folder, answer)
    kept = [path.parent.name for path in folder.glob("runs/*/pipeline")]
    assert kept == [answer.best_run["run"]]
    assert winner == folder / "winner"
    assert winner.resolve() == (folder / "runs" / kept[0] / "pipeline").resolve()
    assert "A spaCy pipeline: shared. On news." in (winner / "README.md").read_text()
    assert str(winner) in write_report(folder).read_text()
    assert keep_best(folder, answer) == winner  # called again, all stays as it is
    answer.runs["pipeline"] = [str(tmp_path), "..", *answer.runs["pipeline"][2:]]
    answer.runs.loc[answer.best_run.name, "pipeline"] = "pipeline"
    assert keep_best(folder, answer) == winner  # what lies outside of a run is not removed
    assert len(list(folder.glob("runs/*"))) == 9
    answer.runs["pipeline"] = "pipeline"
    other = Answer(answer.runs[answer.runs["run"] != kept[0]], answer.asked)
    assert keep_best(folder, other) is None  # its pipeline is gone
    assert not winner.is_symlink(), "another run's pipeline is not the winner"
    assert (folder / "runs" / kept[0] / "pipeline" / "README.md").exists()
    silent = {name: about[name] for name in about if name != "answer"}
    assert answer_of(silent, statuses) is None
