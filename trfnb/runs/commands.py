"""``trfnb run``, ``sweep``, ``status`` and ``report``."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm
from typer.core import TyperCommand

from trfnb.runs.ledger import State, Status, gather, short
from trfnb.runs.report import write_report
from trfnb.runs.results import answer_of, keep_best, out_of_bounds, table_of
from trfnb.runs.specification import Sweep, load_sweep
from trfnb.runs.sweep import Plan, run_sweep

OK, UNFINISHED, INTERRUPTED = 0, 1, 130
COLUMNS, ROWS = 8, 60

Given = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=VALUE", help="Give a parameter; so does -p NAME VALUE."),
]
Out = Annotated[Path | None, typer.Option(help="The folder; papermill_runs/NAME by default.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The smallest parameters: runs of seconds.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html.")]
Device = Annotated[
    str | None, typer.Option(help="auto (a GPU where there is one), cpu, cuda, cuda:1 and so on.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Folder = Annotated[Path, typer.Argument(help="A sweep's folder.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands that run notebooks."""
    for command, example in (
        (run, "run notebooks/00_anatomy.ipynb -p seed 1 -p corpus my.conllu"),
        (sweep, "sweep notebooks/sweeps/demo.yml --jobs 2 --set seeds=1"),
        (status, "status papermill_runs/demo"),
        (report, "report papermill_runs/demo"),
    ):
        app.command(cls=_Command, epilog=f"Example: trfnb {example}")(command)


# Reads ``-p NAME VALUE`` as ``--set NAME=VALUE``: typer has no option of two values.
class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        while "-p" in words:
            at = words.index("-p")
            name, *value = words[at + 1 : at + 3] or ["NAME"]
            if not value or value[0] == "-p" or value[0].startswith("--"):
                raise ValueError(
                    f"-p {name}: expected a value after the name, as in `-p {name} VALUE`. "
                    f"For a value that begins with two dashes write --set {name}=VALUE."
                )
            words[at : at + 3] = ["--set", f"{name}={value[0]}"]
        return list(super().parse_args(ctx, words))


def run(
    notebook: Annotated[Path, typer.Argument(help="An .ipynb file.")],
    assignments: Given = [],  # noqa: B006 - typer reads it and never changes it
    out: Out = None,
    device: Device = None,
    smoke: Smoke = False,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> int:
    """Run a notebook once, with parameters."""
    row = Sweep(notebook).fixing(_given(assignments)).fixed
    asked = Sweep(notebook, runs=[row], device=device)
    return _run(asked, out=out, smoke=smoke, report=not no_report, quiet=quiet)


def sweep(
    files: Annotated[list[Path], typer.Argument(help="Sweeps' YAML files.")],
    assignments: Given = [],  # noqa: B006
    out: Out = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Runs at once.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each run; cores / jobs by default.")
    ] = None,
    device: Device = None,
    engine: Annotated[str | None, typer.Option(help="local, ray or slurm.")] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Of a run, in seconds or as '30 min'.")
    ] = None,
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
    limits: dict[str, Any] = {
        "jobs": jobs,
        "threads": threads,
        "device": device,
        "engine": engine,
        "timeout": timeout,
    }
    given, codes = _given(assignments), [OK]
    for asked in [load_sweep(path, **limits).fixing(given) for path in files]:
        if dry_run:
            _show_plan(asked, out, smoke)
        elif INTERRUPTED not in codes:
            codes.append(
                _run(asked, out=out, smoke=smoke, report=not no_report, quiet=quiet, check=check)
            )
    return max(codes)


def status(folder: Folder) -> int:
    """Say where a sweep is, from any shell. The exit code is 0 when every run has its results."""
    about, current, _ = gather(folder)
    states = [run.state.value for run in current]
    states += ["waiting"] * len(set(about["order"]) - {run.identity for run in current})
    counted = (f"{number} {state}" for state, number in Counter(states).items())
    typer.echo(f"{about['name']}: {' · '.join(counted)}")
    for run in current:
        if run.state is State.RUNNING or run.state.bad:
            told = short(run.cause, 200) or f"cell {run.cell}/{run.cells}"
            typer.echo(f"  {run.state}  {run.run}  {told}")
    return OK if set(states) <= {State.DONE} else UNFINISHED


def report(folder: Folder) -> int:
    """Write a sweep's report.html."""
    typer.echo(str(write_report(folder)))
    return OK


def _run(
    sweep: Sweep, *, out: Path | None, smoke: bool, report: bool, quiet: bool, check: bool = False
) -> int:
    outcome = run_sweep(sweep, out=out, smoke=smoke, say=None if quiet else tqdm.write)
    ordered = sorted(outcome.statuses, key=lambda status: not status.state.bad)
    names = dict.fromkeys([*sweep.metrics, *(n for s in ordered for n in s.numbers)])
    typer.echo(_table(ordered, [*sweep.varied, "status", "seconds", *list(names)[:COLUMNS]]))
    wrong = out_of_bounds(ordered, sweep.smoke_bounds if smoke else sweep.bounds) if check else []
    for note in [*outcome.notes, *wrong]:
        typer.secho(note, fg="red")
    if outcome.interrupted:
        typer.echo("Interrupted. The same command resumes what is missing.")
        return INTERRUPTED
    answer = answer_of(gather(outcome.folder)[0], outcome.statuses) if outcome.complete else None
    if answer:
        winner = keep_best(outcome.folder, answer)
        load = f'Load it: spacy.load("{winner}")' if winner else "No pipeline of it was kept."
        typer.echo("\n".join(["", *answer.sentences(), answer.choice(), load, ""]))
    elif outcome.complete and (asked := sweep.answer):
        needed = f"{asked.choose}, seed and one of {list(asked.scores)}"
        typer.secho(f"No answer: the notebook has to record {needed}.", fg="red")
    typer.echo(f"table:  {outcome.folder / 'results.csv'}")
    if report:
        typer.echo(f"report: {write_report(outcome.folder)}")
    return OK if outcome.complete and not wrong else UNFINISHED


def _show_plan(sweep: Sweep, out: Path | None, smoke: bool) -> None:
    plan, search = Plan(sweep, out=out, smoke=smoke), sweep.search
    typer.echo("\n".join(plan.notes))
    trials = search and f"{search.trials} trials over {', '.join(search.space)}."
    typer.echo(trials or _table(plan.statuses, [*sweep.varied, "status"]))


def _table(statuses: Iterable[Status], columns: Sequence[str]) -> str:
    table = table_of(statuses)
    shown = table[[name for name in dict.fromkeys(columns) if name in table]].fillna("")
    return str(
        shown.to_string(index=False, max_rows=ROWS, max_colwidth=40, float_format="{:.4g}".format)
    )


def _given(assignments: Iterable[str]) -> dict[str, str]:
    pairs = [assignment.partition("=") for assignment in assignments]
    given = {name.strip(): value for name, _, value in pairs}
    for name, equals, value in pairs:
        if not equals or given[name.strip()] != value:
            problem = "given twice" if equals else "expected NAME=VALUE"
            raise ValueError(f"--set {name}{equals}{value}: {problem}.")
    return given
