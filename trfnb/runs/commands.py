"""``trfnb run``, ``sweep``, ``status`` and ``report``."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm
from typer.core import TyperCommand

from trfnb.runs.ledger import Ledger, State, Status, flat, gather
from trfnb.runs.notebook import from_text, read_parameters
from trfnb.runs.results import out_of_bounds, table_of
from trfnb.runs.specification import Sweep, load_sweep
from trfnb.runs.sweep import prepare, run_sweep

OK, UNFINISHED, INTERRUPTED = 0, 1, 130
COLUMNS, ROWS = 8, 60

Given = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=VALUE", help="Give a parameter; so does -p NAME VALUE."),
]
Out = Annotated[Path | None, typer.Option(help="The folder; papermill_runs/NAME by default.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", help="Runs at once.")]
Threads = Annotated[int | None, typer.Option(help="Threads of each run; cores / jobs by default.")]
Gpus = Annotated[int | None, typer.Option(help="GPUs of each run; 0 hides them.")]
Engine = Annotated[str | None, typer.Option(help="local, ray or slurm.")]
Timeout = Annotated[str | None, typer.Option(help="Of a whole run, such as '30 min'.")]
CellTimeout = Annotated[str | None, typer.Option(help="Of a cell.")]
Memory = Annotated[str | None, typer.Option(help="Limit of a run, such as '4 GB'.")]
Retry = Annotated[list[str], typer.Option(metavar="STATE[=TIMES]", help="Run again what ended so.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The smallest parameters: runs of seconds.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Folder = Annotated[Path, typer.Argument(help="A sweep's folder.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands that run notebooks."""
    for command, example in (
        (run, "run notebooks/00_anatomy.ipynb -p seed 1 -p corpus my.conllu"),
        (sweep, "sweep notebooks/sweeps/demo.yml --jobs 2 --set seeds=1"),
        (status, "status papermill_runs/demo --watch"),
        (report, "report papermill_runs/demo"),
    ):
        app.command(cls=_Command, epilog=f"Example: trfnb {example}")(command)


class _Command(TyperCommand):
    """Reads ``-p NAME VALUE`` as ``--set NAME=VALUE``: typer has no option of two values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        left, read = list(args), []
        while left:
            word = left.pop(0)
            if word != "-p":
                read.append(word)
            elif len(left) < 2 or left[1] == "-p" or left[1].startswith("--"):
                name = left[0] if left else "NAME"
                raise ValueError(
                    f"-p {name}: expected a value after the name, as in `-p {name} VALUE`. "
                    f"For a value that begins with two dashes write --set {name}=VALUE."
                )
            else:
                read += ["--set", f"{left.pop(0)}={left.pop(0)}"]
        return list(super().parse_args(ctx, read))


def run(
    notebook: Annotated[Path, typer.Argument(help="An .ipynb file.")],
    assignments: Given = [],  # noqa: B006 - typer reads it and never changes it
    out: Out = None,
    threads: Threads = None,
    gpus: Gpus = None,
    engine: Engine = None,
    timeout: Timeout = None,
    cell_timeout: CellTimeout = None,
    memory: Memory = None,
    retry: Retry = [],  # noqa: B006
    smoke: Smoke = False,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> int:
    """Run a notebook once, with parameters."""
    given, declared = _given(assignments), read_parameters(notebook)
    row = {name: from_text(text, declared.get(name)) for name, text in given.items()}
    limits = _settings(
        threads=threads, gpus=gpus, engine=engine, timeout=timeout, cell_timeout=cell_timeout,
        memory=memory, retry=_counts(retry),
    )  # fmt: skip
    one = Sweep(notebook, runs=[row], **limits)
    return _run(one, out=out, smoke=smoke, report=not no_report, quiet=quiet)


def sweep(
    files: Annotated[list[Path], typer.Argument(help="Sweeps' YAML files.")],
    assignments: Given = [],  # noqa: B006
    out: Out = None,
    jobs: Jobs = None,
    threads: Threads = None,
    gpus: Gpus = None,
    engine: Engine = None,
    timeout: Timeout = None,
    cell_timeout: CellTimeout = None,
    memory: Memory = None,
    retry: Retry = [],  # noqa: B006
    smoke: Smoke = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, start none.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail when metrics leave the sweep's bounds.")
    ] = False,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> int:
    """Run what is missing of a sweep; the same command again resumes it."""
    if out and len(files) > 1:
        raise ValueError("--out: expected one sweep with it, got several files.")
    limits = _settings(
        jobs=jobs, threads=threads, gpus=gpus, engine=engine, timeout=timeout,
        cell_timeout=cell_timeout, memory=memory, retry=_counts(retry),
    )  # fmt: skip
    given, worst = _given(assignments), OK
    for one in [load_sweep(path, **limits).fixing(given) for path in files]:
        if dry_run:
            _show_plan(one, out, smoke)
            continue
        code = _run(one, out=out, smoke=smoke, report=not no_report, quiet=quiet, check=check)
        worst = max(worst, code)
        if code == INTERRUPTED:
            break
    return worst


def status(
    folder: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until it ends.")] = False,
) -> int:
    """Say where a sweep is, from any shell. The exit code is 0 when every run has its results."""
    from rich.console import Console
    from rich.live import Live

    if watch and sys.stdout.isatty():
        with Live(console=Console(), transient=True) as live:
            while Ledger(folder).is_locked():
                live.update(overview(folder))
                time.sleep(1)
    typer.echo(overview(folder))
    return OK if all(one.state.final for one in gather(folder)[1]) else UNFINISHED


def report(folder: Folder) -> int:
    """Write a sweep's report.html."""
    from trfnb.runs.report import write_report

    typer.echo(str(write_report(folder)))
    return OK


def overview(folder: Path) -> str:
    """Return counts, the runs under way and the failures of a sweep, as text."""
    (about, current, _), at_work = gather(folder), Ledger(folder).is_locked()
    for one in current:
        if one.state is State.RUNNING and not at_work and not one.elsewhere:
            one.state, one.cause = State.KILLED, "its sweep or machine died; call it again"
    counts = Counter(one.state.value for one in current)
    counts["waiting"] += len(set(about["order"]) - {one.identity for one in current})
    head = " · ".join(f"{number} {state}" for state, number in counts.items() if number)
    shown = [one for one in current if one.state is State.RUNNING or one.state.bad]
    lines = [f"{about['name']}: {head}" + ("" if at_work else " · no sweep at work")]
    for one in shown[:ROWS]:
        place = f"cell {one.cell}/{one.cells}" if one.state is State.RUNNING else clock(one.seconds)
        told = one.cause.partition("\n")[0][:200] or _scores(one, about["metrics"])
        lines.append(f"  {one.state}  {label(one, about['varied'])}  {place}  {told}")
    return "\n".join(lines + [f"  … and {len(shown) - ROWS} more"] * (len(shown) > ROWS))


def label(one: Status, varied: Sequence[str]) -> str:
    """Return what tells a run from the others: its varied parameters."""
    shown = {name: one.parameters[name] for name in varied if name in one.parameters}
    return " ".join(f"{name}={_short(value)}" for name, value in shown.items()) or one.run


def clock(seconds: float | None) -> str:
    """Return seconds as ``4.2 s``, ``42 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds is None or seconds < 60:
        return "–" if seconds is None else f"{seconds:.{int(seconds < 10)}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _run(
    one: Sweep, *, out: Path | None, smoke: bool, report: bool, quiet: bool, check: bool = False
) -> int:
    bar = _Bar(one, quiet)
    outcome = run_sweep(one, out=out, smoke=smoke, progress=bar.show, say=bar.say)
    bar.close()
    ordered = sorted(outcome.statuses, key=lambda status: not status.state.bad)
    names = dict.fromkeys([*one.metrics, *(n for s in ordered for n in s.numbers)])
    typer.echo(_table(ordered, [*one.varied, "status", "seconds", *list(names)[:COLUMNS]]))
    notes = list(outcome.notes)
    if check:
        notes += out_of_bounds(outcome.statuses, one.smoke_bounds if smoke else one.bounds)
    for note in notes:
        typer.secho(note, fg="red")
    if outcome.interrupted:
        typer.echo("Interrupted. The same command resumes what is missing.")
        return INTERRUPTED
    typer.echo(f"table:  {outcome.folder / 'results.csv'}")
    if report:
        from trfnb.runs.report import write_report

        typer.echo(f"report: {write_report(outcome.folder)}")
    return OK if outcome.complete and (not check or notes == outcome.notes) else UNFINISHED


def _show_plan(one: Sweep, out: Path | None, smoke: bool) -> None:
    checked = prepare(one, out=out, smoke=smoke)
    for note in checked.notes:
        typer.echo(note)
    if one.search:
        typer.echo(f"{one.search.trials} trials over {', '.join(one.search.space)}.")
    else:
        typer.echo(_table(checked.statuses, [*one.varied, "status"]))
    todo = sum(not status.state.final for status in checked.statuses)
    known = [s.seconds for s in checked.ledger.statuses() if s.state is State.DONE and s.seconds]
    if todo and known:
        mean = sum(known) / len(known)
        spent = clock(todo * mean / (one.jobs or 1))
        typer.echo(f"About {spent}, by the mean of {len(known)} earlier runs ({clock(mean)}).")


def _table(statuses: Iterable[Status], columns: Sequence[str]) -> str:
    table = table_of(statuses)
    shown = table[[name for name in dict.fromkeys(columns) if name in table]].fillna("")
    text = shown.to_string(
        index=False, max_rows=ROWS, max_colwidth=40, float_format="{:.4g}".format
    )
    return str(text).encode("utf-8", "backslashreplace").decode()


def _given(assignments: Iterable[str]) -> dict[str, str]:
    """Return the parameters given by ``--set NAME=VALUE``."""
    found: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set: expected NAME=VALUE, got {assignment!r}.")
        if name.strip() in found:
            raise ValueError(f"`{name}`: given twice, as {found[name]!r} and {value!r}.")
        found[name.strip()] = value
    return found


def _settings(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _counts(retry: Iterable[str]) -> dict[str, Any] | None:
    parts = [item.partition("=") for item in retry]
    # a count that is none is told with the sweep's other errors
    counts = {state.strip(): int(n) if n.isdigit() else n or 1 for state, _, n in parts}
    return counts or None


class _Bar:
    """Prints one line per run that has ended, above a bar with the time left."""

    def __init__(self, one: Sweep, quiet: bool):
        self.sweep, self.quiet, self.told = one, quiet, -1
        self.bar: Any = None

    def say(self, line: str) -> None:
        if not self.quiet:
            typer.echo(line)

    def show(self, settled: Sequence[Status], total: int) -> None:
        if self.quiet:
            return
        if self.bar is None:
            self.told = sum(status.attempt == 0 for status in settled)
            self.bar = tqdm(total=total, initial=self.told, unit="run", disable=None, leave=False)
        for status in settled[self.told :]:
            self.told += 1
            about = status.cause.partition("\n")[0][:200] or _scores(status, self.sweep.metrics)
            head = f"[{self.told}/{total}] {status.state}  {label(status, self.sweep.varied)}"
            self.bar.write(f"{head}  {clock(status.seconds)}  {about}".rstrip())
            self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _scores(one: Status, wanted: Sequence[str]) -> str:
    """Return a run's latest numbers, the wanted ones first, a few of them."""
    values = flat(one.latest | one.metrics)
    numbers = {k: v for k, v in values.items() if isinstance(v, float) or type(v) is int}
    first = [name for name in wanted if name in numbers]
    names = [*first, *(name for name in numbers if name not in first)][: max(3, len(first))]
    return " ".join(f"{name}={numbers[name]:.4g}" for name in names)


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
