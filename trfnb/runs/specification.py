"""A sweep as data: which runs of which notebook, and under which limits."""

import re
from collections.abc import Iterable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from trfnb.answer import Question, as_text
from trfnb.runs.ledger import DEVICES, Run
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
        super().__init__(
            f"Errors in {source}:\n" + "\n".join(f"  - {line}" for line in self.errors)
        )


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    number, _, unit = value.strip().partition(" ")
    try:
        return float(number) * {"": 1, "s": 1, "min": 60, "h": 3600}[unit.strip()]
    except (ValueError, KeyError):
        raise ValueError("expected a duration such as 90, '15 min' or '2 h'") from None


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


# What fits a pattern, in words.
_FITTING = {"device": "auto, cpu, cuda or cuda:1 and so on", "name": "a plain folder name"}
Count = Annotated[int, Field(ge=1)]
Values = Annotated[list[Any], Field(min_length=1)]
Bounds = dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Range(_Settings):
    """A range of numbers; whole numbers when both ends are."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("expected low < high, and low > 0 on a logarithmic scale")
        return self


Space = Annotated[
    Annotated[Values, Tag("choices")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "choices" if isinstance(value, list) else "range"),
]


class SearchSettings(_Settings):
    """An adaptive search by Optuna for the best value of a recorded metric."""

    metric: str
    trials: Count
    space: Annotated[dict[str, Space], Field(min_length=1)]
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Literal["tpe", "random"] = "tpe"


class EngineSettings(_Settings):
    """Where runs execute.

    Attributes:
        name: processes here, a Ray cluster, or a Slurm cluster through submitit.
        address: of the Ray cluster, as ``ray.init`` takes it.
        cluster: ``local`` runs what Slurm would get as processes here.
        minutes: Slurm's time limit of a job.
        parameters: further ones of submitit's ``update_parameters``.
    """

    name: Literal["local", "ray", "slurm"] = "local"
    address: str | None = None
    cluster: Literal["slurm", "local"] = "slurm"
    minutes: Count = 24 * 60
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _of_this_engine(self) -> "EngineSettings":
        known = {"ray": ["address"], "slurm": ["cluster", "minutes", "parameters"]}
        of_this = ["name", *known.get(self.name, ())]
        if other := self.model_fields_set.difference(of_this):
            raise ValueError(
                f"{', '.join(f'`{option}`' for option in sorted(other))}: no option of engine "
                f"{self.name!r}; expected only {', '.join(of_this)}"
            )
        return self


class Sweep(_Settings):
    """What to run: ``runs`` × ``grid`` × ``seeds``, or what a search proposes.

    Attributes:
        notebook: path of the notebook.
        name: folder under ``papermill_runs``; the YAML's or the notebook's stem by default.
        fixed: parameters of every run; a value in ``runs`` wins.
        grid: lists of values, all combinations.
        runs: parameters spelled out, one mapping per run.
        seeds: a number (0 … n-1) or a list, for the parameter ``seed``.
        smoke: parameters that ``--smoke`` lays over all runs.
        timeout: of a run, in seconds or as "15 min".
        jobs, threads: runs at once; threads of each.
        device: of each, for `trfnb.use_device`.
        data: parameters that name data whose content counts in a run's identity.
        metrics: those that reports show first.
        bounds: ``{metric: [low, high]}`` that ``--check`` holds the mean of all runs to;
            ``smoke_bounds`` for ``--smoke``.
        answer: the question that its runs answer at the end; the winner's pipeline, if runs
            record one, is kept and the others' are removed.

    Raises:
        SpecificationError: with all wrong keys.
    """

    notebook: Annotated[Path, Field(strict=False)]
    name: Annotated[str, Field(pattern=r"^[^/\x00]*[^/\x00.][^/\x00]*$")]
    fixed: dict[str, Any] = {}
    grid: dict[str, Values] = {}
    runs: list[dict[str, Any]] = []
    seeds: Count | list[int] | None = None
    smoke: dict[str, Any] = {"smoke": True}
    search: SearchSettings | None = None
    timeout: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_seconds)] = None
    jobs: Count | None = None
    threads: Count | None = None
    device: Annotated[str | None, Field(pattern=f"^({DEVICES})$")] = None
    data: list[str] = ["corpus", "layers", "vectors"]
    metrics: list[str] = []
    bounds: Bounds = {}
    smoke_bounds: Bounds = {}
    answer: Question | None = None
    engine: Annotated[EngineSettings, BeforeValidator(_named)] = EngineSettings()

    def __init__(self, notebook: Path | str, **settings: Any):
        given = {name: value for name, value in settings.items() if value is not None}
        path = Path(notebook).expanduser()
        try:
            super().__init__(**{"notebook": path, "name": path.stem} | given)
        except ValidationError as error:
            lines = dict.fromkeys(line for problem in error.errors() for line in _lines(problem))
            raise SpecificationError(f"sweep {given.get('name', notebook)}", lines) from None

    @model_validator(mode="after")
    def _fits_together(self) -> "Sweep":
        spelt = {name for run in self.runs for name in run}
        places = {
            "grid": set(self.grid),
            "runs": spelt,
            "search.space": set(self.search.space if self.search else ()),
            "seeds": {"seed"} if self.seeds is not None else set(),
            "fixed": set(self.fixed) - spelt,
        }
        lines = []
        for (one, names), (other, more) in combinations(places.items(), 2):
            for name in sorted(names & more):
                lines.append(f"`{name}`: given in `{one}` and `{other}`; give it in one of them.")
        if self.search and (self.grid or self.runs or self.seeds is not None):
            lines.append("`search`: expected neither `grid`, `runs` nor `seeds` beside it.")
        if self.search and self.answer:
            lines.append("`answer`: expected runs that are paired by seed, got a `search`.")
        if lines:
            raise ValueError("\n".join(lines))
        return self

    @property
    def varied(self) -> list[str]:
        """The names of parameters that differ between runs."""
        names = [*(name for run in self.runs for name in run), *self.grid]
        names += [*(self.search.space if self.search else {})]
        return list(dict.fromkeys(names + ["seed"] * (self.seeds is not None)))

    def fixing(self, texts: Mapping[str, str]) -> "Sweep":
        """Return the sweep with parameters fixed for all runs, also those it would vary.

        Args:
            texts: values as a command line gives them, read by the notebook's declared types.
        """
        declared = read_parameters(self.notebook) if texts else {}
        fixed = {
            name: from_text(text, declared.get(name, Parameter(name)))
            for name, text in texts.items()
        }

        def less(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name not in fixed}

        change = {
            "fixed": self.fixed | fixed,
            "grid": less(self.grid),
            "runs": [less(run) for run in self.runs],
            "seeds": None if "seed" in fixed else self.seeds,
            "search": self.search
            and self.search.model_copy(update={"space": less(self.search.space)}),
        }
        return self.model_copy(update=change)


def load_sweep(path: Path | str, **settings: Any) -> Sweep:
    """Read a sweep from YAML; the notebook's path is relative to the file.

    Args:
        path: the file.
        settings: further settings, which take the place of the file's unless they are None.

    Raises:
        SpecificationError: with all wrong keys.
    """
    path = Path(path)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping) or not content.get("notebook"):
            raise ValueError("expected a mapping with the key `notebook`.")
    except IsADirectoryError:
        inside = ", ".join(sorted(file.name for file in path.glob("*.y*ml")))
        told = f"expected a sweep's YAML file, got a folder; give one of its files: {inside}."
        raise SpecificationError(path, [told]) from None
    except ValueError as error:
        raise SpecificationError(path, [f"no sweep in YAML: {error}"]) from None
    engine = _named(content.get("engine"))
    if isinstance(engine, Mapping) and engine.get("name") == settings.get("engine"):
        settings["engine"] = engine  # the file's own options for that engine stay
    both = [("name", path.stem), *content.items(), *settings.items()]
    given = {str(key): value for key, value in both if value is not None}
    notebook = path.parent / Path(str(given.pop("notebook"))).expanduser()
    return Sweep(notebook, **given)


def expand(sweep: Sweep, *, smoke: bool = False) -> list[Run]:
    """Return all runs, checked against the notebook; of a search, its space's corners.

    Args:
        sweep: what to spell out.
        smoke: lay the sweep's ``smoke`` parameters over every run.

    Raises:
        SpecificationError: with every unknown name, wrong type and wrong choice of all runs.
        ValueError: the notebook cannot be read.
    """
    declared = read_parameters(sweep.notebook)
    rows = _corners(sweep.search.space) if sweep.search else _combinations(sweep)
    runs = [completed(sweep, row, declared, smoke=smoke) for row in rows]
    errors = dict.fromkeys(line for _, wrong in runs for line in wrong)
    if sweep.answer and not sweep.search and not errors:
        errors = dict.fromkeys(_unasked(sweep.answer, [run for run, _ in runs], declared))
    if errors:
        raise SpecificationError(sweep.notebook, errors)
    return list({source_of(run.parameters): run for run, _ in runs}.values())


# Say what of an answer's question no run can give; one setting alone is compared with nothing.
def _unasked(asked: Question, runs: list[Run], declared: Iterable[str]) -> list[str]:
    if asked.by not in declared:
        hint = did_you_mean(asked.by, declared)
        return [f"`answer.by`: no parameter of the notebook, got {asked.by!r}.{hint}"]
    values = {name: {source_of(run.parameters.get(name)) for run in runs} for name in declared}
    more = [name for name in values if len(values[name]) > 1 and name not in (asked.by, "seed")]
    if more:
        return [
            f"`answer`: expected runs that differ in {asked.by!r} and 'seed' alone, got others in "
            f"{more}: pairs would mix them. Make a sweep for each of their values."
        ]
    settings = list(dict.fromkeys(as_text(run.parameters.get(asked.by)) for run in runs))
    wrong = {"against": asked.against not in settings}
    wrong["of"] = asked.of not in settings and len(settings) > 2
    return [
        f"`answer.{name}`: expected one of {settings}, got {getattr(asked, name)!r}."
        for name, holds in wrong.items()
        if holds and len(settings) > 1
    ]


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
    seeds = range(sweep.seeds) if isinstance(sweep.seeds, int) else sweep.seeds
    repeats = [{"seed": seed} for seed in seeds] if seeds is not None else [{}]
    return [run | row | seed for run, row, seed in product(sweep.runs or [{}], grid, repeats)]


def _corners(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = {n: [s.low, s.high] if isinstance(s, Range) else s for n, s in space.items()}
    first = {name: examples[0] for name, examples in values.items()}
    return [first | {name: value} for name, examples in values.items() for value in examples]


def _lines(error: Any) -> list[str]:
    # beside keys, a location names the member of a union that was tried
    tried = re.compile(r"\[key\]|choices|range|list\[.*|constrained-.*")
    where = [str(part) for part in error["loc"] if not tried.fullmatch(str(part))]
    expected = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if error["type"] == "string_pattern_mismatch":
        expected = f"expected {_FITTING[where[-1]]}"
    if not where:  # of several keys together; each line names its own
        return list(expected.splitlines())
    if error["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {
            "": Sweep,
            "search": SearchSettings,
            "engine": EngineSettings,
            "answer": Question,
        }
        known = models.get(".".join(where[:-1]), Range).model_fields
        hint = did_you_mean(where[-1], known) or f" Known: {', '.join(known)}."
        return [f"`{'.'.join(where)}`: no such key.{hint}"]
    return [f"`{'.'.join(where)}`: {expected}, got {error['input']!r}."]
