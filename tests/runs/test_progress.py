import io
import time

from rich.console import Console

from trfnb.runs.progress import Progress, eta, scores
from trfnb.runs.sources import Listed
from trfnb.runs.specification import Sweep
from trfnb.runs.status import State, Status


def made(run: str, state: State, seconds: float, **more: object) -> Status:
    now = time.time()
    ended = now if state is not State.RUNNING else None
    return Status(run, run, {"seed": 1}, state=state, started=now - seconds, ended=ended, **more)


def shown(tiny, console: Console) -> str:
    done = made("a", State.DONE, 10, metrics={"f1": 0.5, "loss": 2.0, "words": 10, "pages": 3})
    failed = made("b", State.FAILED, 2, cause="KeyError: 'x'")
    running = made("c", State.RUNNING, 4, cell=2, cells=5, latest={"loss": 0.25})
    sweep = Sweep(tiny, seeds=4, metrics=["words", "f1"])
    source = Listed([done, failed, running, made("d", State.WAITING, 0)])
    with Progress(sweep, [], 1, source, opening=["4 runs."], console=console) as progress:
        progress.show({"c": running}, [done, failed])
        progress.show({"c": running}, [done, failed])
        if progress._live:
            progress._live.refresh()
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal(tiny) -> None:
    text = shown(tiny, Console(file=io.StringIO(), width=40))
    assert text.splitlines() == [
        "4 runs.",
        "[1/4] done  seed=1  10 s  words=10 f1=0.5 loss=2",
        "[2/4] failed  seed=1  2.0 s  KeyError: 'x'",
    ]


def test_a_live_table_in_a_terminal(tiny) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    text = shown(tiny, console)
    assert "1 done · 1 failed · 1 running · 1 waiting · about 16 s left" in text
    assert "2/5" in text
    assert "loss=0.25" in text


def test_the_estimate_needs_a_run_that_ended_well(tiny) -> None:
    running = made("c", State.RUNNING, 4)
    assert eta([], [made("b", State.FAILED, 2)], [running], 1, 1) is None
    left = eta([made("a", State.DONE, 10)], [], [running], 3, 2)
    assert left is not None
    assert abs(left - (6 + 30) / 2) < 0.2


def test_scores_keep_the_wanted_first() -> None:
    status = made("a", State.DONE, 1, metrics={"a": 1, "b": 2.0, "c": {"d": 3}, "e": 4, "t": "x"})
    assert scores(status, ["e"]) == "e=4 a=1 b=2"
