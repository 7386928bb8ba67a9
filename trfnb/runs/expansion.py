"""From a sweep's specification to its list of runs."""

from collections.abc import Mapping
from itertools import product

from trfnb.runs.conditions import compile_condition
from trfnb.runs.distributions import Distribution, sample
from trfnb.runs.identity import digest_of, resolved
from trfnb.runs.notebook import Parameter, read_parameters
from trfnb.runs.parameters import ParameterError, faults_of, from_text, normalised
from trfnb.runs.specification import Row, Sweep


def combinations(sweep: Sweep) -> list[Row]:
    """Return the runs as the specification spells them out, unchecked, in its order."""
    grid = [dict(zip(sweep.grid, row, strict=True)) for row in product(*sweep.grid.values())]
    side = [dict(zip(sweep.zip, row, strict=True)) for row in zip(*sweep.zip.values(), strict=True)]
    drawn = [dict(row) for row in sample(sweep.random)] if sweep.random else [{}]
    seeds = range(sweep.seeds) if isinstance(sweep.seeds, int) else sweep.seeds
    repeats = [{"seed": seed} for seed in seeds] if seeds is not None else [{}]
    parts = (sweep.runs or [{}], grid, side or [{}], drawn, repeats)
    return [{k: v for part in row for k, v in part.items()} for row in product(*parts)]


def expand(
    sweep: Sweep, *, overrides: Mapping[str, str] | None = None, smoke: bool = False
) -> list[Row]:
    """Return all runs with all their parameters, checked against the notebook.

    Args:
        sweep: what to spell out; overrides are fixed in it.
        overrides: parameters as a command line gives them, text; read by their declared type.
        smoke: lay the sweep's ``smoke`` parameters over every run.

    Raises:
        ParameterError: with every unknown name, wrong type and wrong choice of all runs.
        ValueError: the notebook can't be read, or a condition is wrong.
    """
    declared = read_parameters(sweep.notebook)
    sweep.override({k: from_text(v, declared.get(k)) for k, v in (overrides or {}).items()})
    over = sweep.smoke if smoke else {}
    faults: dict[str, None] = {}
    rows: dict[str, Row] = {}
    conditions = [compile_condition(condition) for condition in sweep.where]
    for row in combinations(sweep) if not sweep.search else _corners(sweep):
        given = {
            name: normalised(value, declared[name].kind) if name in declared else value
            for name, value in (sweep.fixed | row | over).items()
        }
        wrong = faults_of(given, declared)
        faults |= dict.fromkeys(wrong)
        if not wrong:
            full = resolved(given, declared)
            if all(condition(full) for condition in conditions):
                rows.setdefault(digest_of(full), full)
    if faults:
        raise ParameterError(sweep.notebook, faults)
    if not rows:
        raise ParameterError(sweep.notebook, ["the sweep has no runs left: check `where`."])
    return list(rows.values())


def complete(sweep: Sweep, row: Row, *, smoke: bool = False) -> Row:
    """Return one run's full parameters, for a search that proposes them one by one."""
    declared: Mapping[str, Parameter] = read_parameters(sweep.notebook)
    return resolved(sweep.fixed | row | (sweep.smoke if smoke else {}), declared)


def _corners(sweep: Sweep) -> list[Row]:
    """Return runs that hold every extreme or choice of a search's space once, to check them."""
    space = {n: Distribution.read(n, d).examples() for n, d in sweep.search["space"].items()}
    first = {name: values[0] for name, values in space.items()}
    return [first | {name: value} for name, values in space.items() for value in values]
