"""A sweep as data: which runs of which notebook, and under which limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from trfnb.runs.durations import megabytes, seconds
from trfnb.runs.forms import form_faults
from trfnb.runs.search_options import check_search
from trfnb.runs.status import State

RETRIABLE = tuple(s.value for s in State if s.bad)
Row = dict[str, Any]


class SpecificationError(ValueError):
    """One or more keys of a sweep are wrong; ``faults`` holds a line for each."""

    def __init__(self, source: str, faults: Sequence[str]):
        self.faults = tuple(faults)
        super().__init__(f"Faults in {source}:\n" + "\n".join(f"  - {f}" for f in faults))


@dataclass
class Sweep:
    """What to run. ``grid`` × ``zip`` × ``runs`` × ``random`` × ``seeds``, less ``where``.

    Attributes:
        notebook: path of the notebook.
        name: folder under ``papermill_runs``; the YAML's stem by default.
        fixed: parameters of every run; a run's own win.
        grid: lists of values, all combinations.
        zip: lists of equal length, taken side by side.
        runs: parameters spelled out, a mapping a run.
        random: ``count``, ``seed`` and ``space`` (see :mod:`trfnb.runs.distributions`).
        seeds: a number (0 … n-1) or a list, for the parameter ``seed``.
        where: conditions such as ``"sharing != 'frozen' or seed == 0"``; all must hold.
            From Python also functions of the parameters.
        smoke: parameters that ``--smoke`` lays over all runs; ``smoke: true`` by default.
        search: adaptive search in place of a list (see :mod:`trfnb.runs.search`).
        timeout: of a whole run; ``cell_timeout``: of a cell (seconds, or "15 min").
        memory: limit a run (megabytes, or "4 GB"), the kernel's children included.
        retry: how often to run again, by state: ``{"killed": 2}``.
        jobs, threads, gpus: runs at once; threads and GPUs of each.
        data: parameters that name data whose content counts in a run's identity.
        metrics: those that reports show first.
        bounds: ``{metric: [low, high]}`` that ``--check`` holds the mean of all runs to;
            ``smoke_bounds`` for ``--smoke``.
        engine: ``local``, ``ray`` or ``slurm``, or a mapping with ``name`` and its options.
        mlflow: tracking address to log runs to as well; none by default.
    """

    notebook: Path
    name: str = ""
    fixed: Row = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    zip: dict[str, list[Any]] = field(default_factory=dict)
    runs: list[Row] = field(default_factory=list)
    random: dict[str, Any] = field(default_factory=dict)
    seeds: int | list[int] | None = None
    where: Any = field(default_factory=list)
    smoke: Row = field(default_factory=lambda: {"smoke": True})
    search: dict[str, Any] = field(default_factory=dict)
    timeout: float | str | None = None
    cell_timeout: float | str | None = None
    memory: float | str | None = None
    retry: dict[str, int] = field(default_factory=dict)
    jobs: int | None = None
    threads: int | None = None
    gpus: int | None = None
    data: list[str] = field(default_factory=lambda: ["corpus", "layers", "vectors"])
    metrics: list[str] = field(default_factory=list)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    smoke_bounds: dict[str, list[float]] = field(default_factory=dict)
    engine: str | dict[str, Any] = "local"
    mlflow: str | None = None

    def __post_init__(self) -> None:
        self.notebook = Path(self.notebook)
        self.name = str(self.name or self.notebook.stem)
        faults = self._faults()
        if faults:
            raise SpecificationError(f"sweep {self.name!r}", faults)

    def _faults(self) -> list[str]:
        faults = form_faults(self)
        if Path(self.name).name != self.name or self.name in {".", ".."} or "\0" in self.name:
            faults.append(f"`name`: expected a plain folder name, got {self.name!r}.")
        for kind in ("grid", "zip"):
            for name, values in getattr(self, kind).items():
                if not isinstance(values, list | tuple) or not values:
                    faults.append(f"`{kind}.{name}`: expected a list of values, got {values!r}.")
        lengths = {n: len(v) for n, v in self.zip.items() if isinstance(v, list | tuple)}
        if len(set(lengths.values())) > 1:
            faults.append(f"`zip`: expected lists of equal length, got {lengths}.")
        if not isinstance(self.runs, list) or not all(isinstance(r, Mapping) for r in self.runs):
            faults.append(f"`runs`: expected a list of mappings, got {self.runs!r}.")
        for key, read in (("timeout", seconds), ("cell_timeout", seconds), ("memory", megabytes)):
            try:
                setattr(self, key, read(getattr(self, key)))
            except ValueError as error:
                faults.append(f"`{key}`: {error}.")
        for state, times in self.retry.items():
            if state not in RETRIABLE or not isinstance(times, int) or times < 1:
                options = ", ".join(RETRIABLE)
                faults.append(f"`retry.{state}`: expected a count for one of {options}.")
        if self.search:
            faults += check_search(self.search)
            others = [k for k in ("grid", "zip", "runs", "random", "seeds") if getattr(self, k)]
            if others:
                faults.append(f"`search`: expected no other list of runs beside it, got {others}.")
        return faults

    @property
    def varied(self) -> list[str]:
        """The names of parameters that differ between runs."""
        names = [*self.grid, *self.zip, *(name for run in self.runs for name in run)]
        names += [*self.random.get("space", {}), *self.search.get("space", {})]
        if self.seeds is not None:
            names.append("seed")
        return list(dict.fromkeys(names))

    def override(self, values: Mapping[str, Any]) -> None:
        """Fix parameters for all runs, also those that the sweep would vary."""
        for name, value in values.items():
            for kind in (self.grid, self.zip, self.random.get("space", {})):
                kind.pop(name, None)
            for run in self.runs:
                run.pop(name, None)
            if name == "seed":
                self.seeds = None
            self.fixed[name] = value


def load_sweep(path: Path | str) -> Sweep:
    """Read a sweep from YAML; the notebook's path is relative to the file.

    Raises:
        SpecificationError: with all wrong keys.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecificationError(str(path), ["no such file; give a sweep's YAML."]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecificationError(str(path), [f"no valid YAML: {error}"]) from None
    if not isinstance(content, Mapping) or "notebook" not in content:
        raise SpecificationError(str(path), ["expected a mapping with the key `notebook`."])
    known = [f.name for f in fields(Sweep)]
    faults = []
    for key in content:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(known) + "."
            faults.append(f"`{key}`: no such key; {hint}")
    if faults:
        raise SpecificationError(str(path), faults)
    beside = path.parent / str(content["notebook"])
    rest = {key: value for key, value in content.items() if value is not None}
    rest |= {"notebook": beside, "name": content.get("name") or path.stem}
    try:
        return Sweep(**rest)
    except SpecificationError as error:
        raise SpecificationError(str(path), error.faults) from None
