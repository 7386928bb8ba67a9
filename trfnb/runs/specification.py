"""A sweep as data: which runs of which notebook, and under which limits."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from trfnb.runs.ledger import BAD_STATES, Run
from trfnb.runs.notebook import (
    UNKNOWN,
    Parameter,
    check,
    did_you_mean,
    from_text,
    read_parameters,
    read_yaml,
    source_of,
)


class SpecificationError(ValueError):
    """A sweep or its parameters are wrong; ``errors`` holds a line for each mistake."""

    def __init__(self, source: object, errors: Iterable[str]):
        self.errors = tuple(errors)
        super().__init__(f"Errors in {source}:\n" + "\n".join(f"  - {one}" for one in self.errors))


def _quantity(units: Mapping[str, float], example: str) -> BeforeValidator:
    """Return a reader of ``90``, ``"1.5 min"`` or ``"4 GB"``, in the first of the units."""

    def read(value: Any) -> float | None:
        if value is None:
            return None
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", str(value))
        unit = match[2].lower() if match else ""
        if match is None or unit not in units or float(match[1]) <= 0 or value is True:
            raise ValueError(f"expected {example}")
        return float(match[1]) * units[unit]

    return BeforeValidator(read)


_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MEGABYTES = {"": 1.0, "mb": 1.0, "gb": 1000.0, "tb": 1e6}
Seconds = Annotated[float | None, _quantity(_SECONDS, "a duration such as 90, '15 min' or '2 h'")]
Megabytes = Annotated[float | None, _quantity(_MEGABYTES, "a size such as 4000 or '4 GB'")]
Count = Annotated[int, Field(ge=1)]
Values = Annotated[list[Any], Field(min_length=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Range(_Settings):
    """A range of numbers; whole numbers when both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("expected low < high, and low > 0 on a logarithmic scale")
        return self


def _choices_or_range(value: Any) -> str:
    return "choices" if isinstance(value, list) else "range"


Space = dict[
    str,
    Annotated[
        Annotated[Values, Tag("choices")] | Annotated[Range, Tag("range")],
        Discriminator(_choices_or_range),
    ],
]


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Sampler(BaseModel, extra="allow"):
    """A sampler of Optuna, with options of its own."""

    name: Literal["tpe", "random", "qmc", "gp", "cmaes"] = "tpe"


class Pruner(BaseModel, extra="allow"):
    """A pruner of Optuna, with options of its own."""

    name: Literal[
        "none", "median", "percentile", "halving", "hyperband", "patient", "threshold"
    ] = "none"


class Search(_Settings):
    """An adaptive search by Optuna for the best value of a recorded metric."""

    metric: str
    trials: Count
    space: Annotated[Space, Field(min_length=1)]
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Annotated[Sampler, BeforeValidator(_named)] = Sampler()
    pruner: Annotated[Pruner, BeforeValidator(_named)] = Pruner()


class Local(_Settings):
    """Processes on this machine."""

    name: Literal["local"] = "local"


class Ray(_Settings):
    """A Ray cluster; ``address`` as ``ray.init`` takes it."""

    name: Literal["ray"]
    address: str | None = None


class Slurm(_Settings):
    """A Slurm cluster through submitit.

    ``cluster: local`` runs the same jobs as processes here. ``minutes`` is Slurm's time limit of
    a job; ``parameters`` are further ones of submitit's ``update_parameters``.
    """

    name: Literal["slurm"]
    cluster: Literal["slurm", "local"] = "slurm"
    minutes: Count = 24 * 60
    parameters: dict[str, Any] = {}


class Sweep(_Settings):
    """What to run: ``grid`` × ``zip`` × ``runs`` × ``seeds``, less ``where``.

    Attributes:
        notebook: path of the notebook.
        name: folder under ``papermill_runs``; the YAML's stem by default.
        fixed: parameters of every run; a value in ``runs`` wins.
        grid: lists of values, all combinations.
        zip: lists of equal length, taken side by side.
        runs: parameters spelled out, one mapping per run.
        seeds: a number (0 … n-1) or a list, for the parameter ``seed``.
        where: conditions such as ``"sharing != 'frozen' or seed == 0"``; all must hold.
            From Python also functions of the parameters.
        smoke: parameters that ``--smoke`` lays over all runs.
        timeout: of a whole run; ``cell_timeout``: of a cell (seconds, or "15 min").
        memory: limit of a run (megabytes, or "4 GB"), the kernel's children included.
        retry: how often to run again, by state: ``{"killed": 2}``.
        jobs, threads, gpus: runs at once; threads and GPUs of each.
        data: parameters that name data whose content counts in a run's identity.
        metrics: those that reports show first.
        bounds: ``{metric: [low, high]}`` that ``--check`` holds the mean of all runs to;
            ``smoke_bounds`` for ``--smoke``.

    Raises:
        SpecificationError: with all wrong keys.
    """

    notebook: Annotated[Path, Field(strict=False)]
    name: str = ""
    fixed: dict[str, Any] = {}
    grid: dict[str, Values] = {}
    zip: dict[str, Values] = {}
    runs: list[dict[str, Any]] = []
    seeds: Count | list[int] | None = None
    where: list[str | Callable[[dict[str, Any]], bool]] = []
    smoke: dict[str, Any] = {"smoke": True}
    search: Search | None = None
    timeout: Seconds = None
    cell_timeout: Seconds = None
    memory: Megabytes = None
    retry: dict[Literal[BAD_STATES], Count] = {}  # type: ignore[valid-type]
    jobs: Count | None = None
    threads: Count | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    data: list[str] = ["corpus", "layers", "vectors"]
    metrics: list[str] = []
    bounds: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] = {}
    smoke_bounds: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] = {}
    engine: Annotated[
        Annotated[Local | Ray | Slurm, Field(discriminator="name")], BeforeValidator(_named)
    ] = Local()

    def __init__(self, notebook: Path | str, **settings: Any):
        errors = _conflicts(settings)
        try:
            super().__init__(**{"notebook": notebook, **settings})
        except ValidationError as error:
            errors += [_line(type(self), one) for one in error.errors()]
        if errors:
            raise SpecificationError(f"sweep {settings.get('name') or notebook}", errors)

    @field_validator("notebook")
    @classmethod
    def _home(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if Path(name).name != name or name in {".", ".."} or "\0" in name:
            raise ValueError("expected a plain folder name")
        return name

    @field_validator("zip")
    @classmethod
    def _equal_lengths(cls, lists: dict[str, list[Any]]) -> dict[str, list[Any]]:
        lengths = {name: len(values) for name, values in lists.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected lists of equal length, not of {lengths}")
        return lists

    @property
    def folder_name(self) -> str:
        """The sweep's name, the notebook's stem when it has none."""
        return self.name or self.notebook.stem

    @property
    def varied(self) -> list[str]:
        """The names of parameters that differ between runs."""
        names = [*self.grid, *self.zip, *(name for run in self.runs for name in run)]
        names += [*(self.search.space if self.search else {})]
        return list(dict.fromkeys(names + ["seed"] * (self.seeds is not None)))

    def fixing(self, texts: Mapping[str, str]) -> "Sweep":
        """Return the sweep with parameters fixed for all runs, also those it would vary.

        Args:
            texts: values as a command line gives them, read by the notebook's declared types.
        """
        declared = read_parameters(self.notebook) if texts else {}
        fixed = {name: from_text(text, declared.get(name)) for name, text in texts.items()}

        def less(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name not in fixed}

        change: dict[str, Any] = {kind: less(getattr(self, kind)) for kind in ("grid", "zip")}
        search = self.search
        change["search"] = search and search.model_copy(update={"space": less(search.space)})
        change["seeds"] = None if "seed" in fixed else self.seeds
        change |= {"runs": [less(run) for run in self.runs], "fixed": self.fixed | fixed}
        return self.model_copy(update=change)


def load_sweep(path: Path | str, **settings: Any) -> Sweep:
    """Read a sweep from YAML; the notebook's path is relative to the file.

    Args:
        path: the file.
        settings: further settings, which take the place of the file's.

    Raises:
        SpecificationError: with all wrong keys.
    """
    path = Path(path)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except IsADirectoryError:
        inside = ", ".join(sorted(one.name for one in path.glob("*.y*ml"))) or "it has none"
        line = f"expected a sweep's YAML file, got a folder; give one of its files: {inside}."
        raise SpecificationError(path, [line]) from None
    except OSError as error:
        raise SpecificationError(
            path,
            [
                f"no such file to read ({error.strerror}).",
            ],
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecificationError(path, [f"no valid YAML: {error}"]) from None
    if not isinstance(content, Mapping) or not content.get("notebook"):
        raise SpecificationError(path, ["expected a mapping with the key `notebook`."])
    given = {str(key): value for key, value in content.items() if value is not None}
    if _named(given.get("engine")) and settings.get("engine") == _named(given["engine"]).get(
        "name"
    ):
        del settings["engine"]  # the file's own options for that engine stay
    given = {"name": path.stem} | given | settings
    beside = path.parent / Path(str(given.pop("notebook"))).expanduser()
    try:
        return Sweep(beside, **given)
    except SpecificationError as error:
        raise SpecificationError(path, error.errors) from None


def expand(sweep: Sweep, *, smoke: bool = False) -> list[Run]:
    """Return all runs, checked against the notebook; of a search, its space's corners.

    Args:
        sweep: what to spell out.
        smoke: lay the sweep's ``smoke`` parameters over every run.

    Raises:
        SpecificationError: with every unknown name, wrong type and wrong choice of all runs.
        ValueError: the notebook cannot be read, or a condition is wrong.
    """
    declared = read_parameters(sweep.notebook)
    errors: dict[str, None] = {}
    found: dict[str, Run] = {}
    conditions = [_condition(one) for one in sweep.where]
    for row in _corners(sweep.search.space) if sweep.search else _combinations(sweep):
        run, wrong = completed(sweep, row, declared, smoke=smoke)
        errors |= dict.fromkeys(wrong)
        if not wrong and all(holds(run.parameters) for holds in conditions):
            found.setdefault(source_of(run.parameters), run)
    if not errors and not found:
        errors["the sweep has no runs left: check `where`."] = None
    if errors:
        raise SpecificationError(sweep.notebook, errors)
    return list(found.values())


def completed(
    sweep: Sweep, row: Mapping[str, Any], declared: Mapping[str, Parameter], *, smoke: bool
) -> tuple[Run, list[str]]:
    """Return a run with its fixed and default parameters, and what is wrong with it."""
    given, wrong = check({**sweep.fixed, **row, **(sweep.smoke if smoke else {})}, declared)
    full = {name: given.get(name, parameter.default) for name, parameter in declared.items()}
    known = {name: value for name, value in full.items() if value is not UNKNOWN}
    return Run(known, {name: source_of(value) for name, value in given.items()}), wrong


def _combinations(sweep: Sweep) -> list[dict[str, Any]]:
    grid = [dict(zip(sweep.grid, row, strict=True)) for row in product(*sweep.grid.values())]
    side = [dict(zip(sweep.zip, row, strict=True)) for row in zip(*sweep.zip.values(), strict=True)]
    seeds = range(sweep.seeds) if isinstance(sweep.seeds, int) else sweep.seeds
    repeats = [{"seed": seed} for seed in seeds] if seeds is not None else [{}]
    parts = (sweep.runs or [{}], grid, side or [{}], repeats)
    return [{k: v for part in row for k, v in part.items()} for row in product(*parts)]


def _corners(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return runs that hold every extreme or choice of a space once, to check them."""
    values = {n: [s.low, s.high] if isinstance(s, Range) else s for n, s in space.items()}
    first = {name: examples[0] for name, examples in values.items()}
    return [first | {name: value} for name, examples in values.items() for value in examples]


_ALLOWED = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.List, ast.Tuple, ast.Set),
    *(ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop, ast.BinOp),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod),
)


def _condition(condition: str | Callable[[Any], Any]) -> Callable[[dict[str, Any]], bool]:
    """Return a function of a run's parameters for a condition.

    Text may hold names, literals, comparisons, ``and``, ``or``, ``not`` and ``+ - * / %``: no
    call, no attribute, no index, so that evaluating it can do nothing else.
    """
    if callable(condition):
        return lambda row: bool(condition(dict(row)))
    try:
        tree = ast.parse(condition, mode="eval")
    except SyntaxError:
        raise ValueError(f"Condition {condition!r}: no valid expression.") from None
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"Condition {condition!r}: `{ast.unparse(node)}` is not allowed.")
    code = compile(tree, "where", "eval")

    def holds(row: dict[str, Any]) -> bool:
        try:
            return bool(eval(code, {"__builtins__": {}}, row))
        except NameError as error:
            raise ValueError(
                f"Condition {condition!r}: no parameter `{error.name}`; known: {', '.join(row)}."
            ) from None
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise ValueError(f"Condition {condition!r}: {error}.") from None

    return holds


def _conflicts(settings: Mapping[str, Any]) -> list[str]:
    """Return a line for each parameter that two settings vary, and for lists beside a search."""
    places: dict[str, list[str]] = {}
    search = settings.get("search")
    parts = {kind: settings.get(kind) for kind in ("grid", "zip")}
    parts["search.space"] = search.get("space") if isinstance(search, Mapping) else None
    runs = settings.get("runs")
    spelt = [run for run in runs if isinstance(run, Mapping)] if isinstance(runs, list) else []
    parts["runs"] = {name: None for run in spelt for name in run}
    parts["seeds"] = {"seed": None} if settings.get("seeds") is not None else None
    for kind, names in parts.items():
        for name in names if isinstance(names, Mapping) else ():
            places.setdefault(str(name), []).append(kind)
    fixed = settings.get("fixed")
    for name in fixed if isinstance(fixed, Mapping) else ():
        if set(places.get(name, ())) - {"runs"}:
            places[name].append("fixed")
    lines = [
        f"`{name}`: given in {' and '.join(f'`{k}`' for k in kinds)}; give it in one of them."
        for name, kinds in places.items()
        if len(kinds) > 1
    ]
    others = [k for k in ("grid", "zip", "runs", "seeds") if settings.get(k)]
    if search and others:
        lines.append(f"`search`: expected no other list of runs beside it, got {others}.")
    return lines


_NESTED = [name for model in (Search, Range, Ray, Slurm) for name in model.model_fields]


def _line(model: type[BaseModel], error: Any) -> str:
    """Return one of pydantic's errors as: key, expected, got, hint."""
    # beside keys, a location names the member of a union that was tried
    tried = {"choices", "range", "[key]", "constrained-int", "list[int]"}
    where = [str(part) for part in error["loc"] if part not in tried]
    kind, got, key = error["type"], error["input"], ".".join(where)
    if kind == "extra_forbidden":
        known = list(model.model_fields) if len(where) == 1 else _NESTED
        hint = did_you_mean(where[-1], known) or f" Known: {', '.join(known)}."
        return f"`{key}`: no such key.{hint}"
    if kind == "missing":
        return f"`{key}`: missing."
    if kind == "union_tag_invalid":
        known = [tag.strip(" '") for tag in error["ctx"]["expected_tags"].split(",")]
        name = error["ctx"]["tag"]
        return f"`{key}`: expected {', '.join(known)}, got {name!r}.{did_you_mean(name, known)}"
    expected = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"`{key}`: {expected}, got {got!r}."
