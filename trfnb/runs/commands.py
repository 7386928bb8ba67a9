"""``trfnb run``, ``sweep``, ``report`` and ``status``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trfnb.runs.specification import Sweep
    from trfnb.runs.sweep import Outcome, Prepared

OK, UNFINISHED, WRONG, INTERRUPTED = 0, 1, 2, 130


def add_runs_commands(commands: Any) -> None:
    """Add the commands that run notebooks."""
    run = commands.add_parser("run", help="run a notebook once, with parameters")
    run.add_argument("notebook", type=Path)
    run.add_argument(
        "-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    run.set_defaults(do=do_run)

    sweep = commands.add_parser("sweep", help="run what is missing of a sweep; again: resume")
    sweep.add_argument("file", type=Path, nargs="+", help="a sweep's YAML")
    sweep.add_argument("--dry-run", action="store_true", help="list the runs, start none")
    sweep.add_argument(
        "--check", action="store_true", help="fail when metrics leave the sweep's bounds"
    )
    sweep.add_argument(
        "-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    sweep.set_defaults(do=do_sweep)
    for command in (run, sweep):
        _add_shared(command)

    report = commands.add_parser("report", help="write a sweep's report.html")
    report.add_argument("folder", type=Path)
    report.set_defaults(do=do_report)

    status = commands.add_parser("status", help="say where a sweep is")
    status.add_argument("folder", type=Path)
    status.add_argument("--watch", action="store_true", help="keep showing it until it ends")
    status.set_defaults(do=do_status)


def _add_shared(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--set", dest="assignments", action="append", default=[], metavar="NAME=VALUE")
    add("--out", type=Path, help="the sweep's folder; papermill_runs/NAME by default")
    add("--jobs", "-j", type=int, help="runs at once")
    add("--threads", type=int, help="threads of each run; cores / jobs by default")
    add("--gpus", type=int, help="GPUs of each run; 0 hides them")
    add("--engine", choices=("local", "ray", "slurm"))
    add("--timeout", help="of a whole run, such as '30 min'")
    add("--cell-timeout", help="of a cell")
    add("--memory", help="limit a run, such as '4 GB'")
    add("--retry", action="append", default=[], metavar="STATE[=TIMES]")
    add("--smoke", action="store_true", help="the smallest parameters: a run of seconds")
    add("--no-report", action="store_true")
    add("--quiet", "-q", action="store_true", help="no progress")


def overrides_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the parameters given by ``-p NAME VALUE`` and ``--set NAME=VALUE``.

    Raises:
        ValueError: an assignment has no ``=``.
    """
    found: dict[str, str] = dict(arguments.pairs)
    for assignment in arguments.assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set: expected NAME=VALUE, got {assignment!r}.")
        found[name.strip()] = value
    return found


def do_run(arguments: argparse.Namespace) -> int:
    """Run one notebook once."""
    from trfnb.runs.notebook import read_parameters
    from trfnb.runs.parameters import from_text
    from trfnb.runs.specification import Sweep

    sweep = Sweep(arguments.notebook)
    declared = read_parameters(sweep.notebook)
    given = overrides_of(arguments)
    sweep.runs = [{name: from_text(text, declared.get(name)) for name, text in given.items()}]
    return _run(sweep, arguments, {})


def do_sweep(arguments: argparse.Namespace) -> int:
    """Run the sweeps of the given files, one after the other."""
    from trfnb.runs.specification import load_sweep

    if arguments.out and len(arguments.file) > 1:
        raise ValueError("--out: expected one sweep with it, got several files.")
    worst = OK
    for sweep in [load_sweep(path) for path in arguments.file]:
        code = _run(sweep, arguments, overrides_of(arguments))
        worst = max(worst, code)
        if code == INTERRUPTED:
            break
    return worst


def _run(sweep: "Sweep", arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    from trfnb.runs.sweep import prepare, run_sweep

    _limit(sweep, arguments)
    shared = {
        "out": arguments.out,
        "overrides": overrides,
        "smoke": arguments.smoke,
    }
    if getattr(arguments, "dry_run", False):
        return _dry_run(prepare(sweep, **shared))
    outcome = run_sweep(sweep, **shared, quiet=arguments.quiet)
    return _conclude(sweep, outcome, arguments)


def _limit(sweep: "Sweep", arguments: argparse.Namespace) -> None:
    for name in ("jobs", "threads", "gpus", "engine", "timeout", "cell_timeout", "memory"):
        value = getattr(arguments, name)
        if value is not None and not (name == "engine" and _same_engine(sweep, value)):
            setattr(sweep, name, value)
    for item in arguments.retry:
        state, _, times = item.partition("=")
        # A count that is none is told with the sweep's other faults.
        sweep.retry[state.strip()] = int(times) if times.isdigit() else times or 1
    sweep.__post_init__()


def _same_engine(sweep: "Sweep", name: str) -> bool:
    return isinstance(sweep.engine, dict) and sweep.engine.get("name") == name


def _dry_run(checked: "Prepared") -> int:
    from trfnb.runs.dry import estimate, listing
    from trfnb.runs.progress import plain_console

    console = plain_console()
    console.print(listing(checked))
    console.print(estimate(checked))
    return OK


def _conclude(sweep: "Sweep", outcome: "Outcome", arguments: argparse.Namespace) -> int:
    from trfnb.runs.progress import plain_console
    from trfnb.runs.summary import summary

    console = plain_console()
    console.print(summary(outcome.statuses, sweep.varied, sweep.metrics, console.width))
    code = OK if outcome.complete else UNFINISHED
    if getattr(arguments, "check", False):
        from trfnb.runs.bounds import outside

        faults = outside(outcome.statuses, sweep.smoke_bounds if arguments.smoke else sweep.bounds)
        for fault in faults:
            console.print(fault, style="red")
        code = max(code, UNFINISHED if faults else OK)
    if outcome.interrupted:
        console.print("Interrupted. The same command takes up what is missing.")
        return INTERRUPTED
    console.print(f"table:  {outcome.folder / 'results.csv'}")
    if not arguments.no_report:
        from trfnb.runs.report import write_report

        console.print(f"report: {write_report(outcome.folder)}")
    return code


def do_report(arguments: argparse.Namespace) -> int:
    """Write a sweep's report."""
    from trfnb.runs.report import write_report

    sys.stdout.write(f"{write_report(arguments.folder)}\n")
    return OK


def do_status(arguments: argparse.Namespace) -> int:
    """Say where a sweep is, from any shell."""
    from trfnb.runs.overview import show_status

    return show_status(arguments.folder, watch=arguments.watch)
