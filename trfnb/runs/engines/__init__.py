"""Where runs execute. One small seam, and a choice of what stands behind it."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from trfnb.runs.job import Job
from trfnb.runs.status import State


@dataclass(frozen=True)
class Ended:
    """That a job is over. How it went is in its status, where it could still write one.

    Attributes:
        cause: in words, for a job that couldn't.
        state: the state of such a job.
        lost: the worker or machine under it is gone; the run may be started elsewhere.
    """

    cause: str = "its process ended without a word; see log.txt"
    state: State = State.KILLED
    lost: bool = False


class Engine(Protocol):
    """Starts jobs and says when they have ended; how they ended is in their status.

    ``slots`` is how many jobs it takes at once.
    """

    slots: int

    def start(self, job: Job) -> None:
        """Start a job; it must run :mod:`trfnb.runs.execute` and die with its starter."""

    def ended(self) -> dict[str, Ended]:
        """Return the jobs that ended since the last call, by name."""

    def cancel(self, name: str, *, now: bool) -> None:
        """Ask a job to stop, or (``now``) stop it at once."""

    def close(self) -> None:
        """Give everything back."""


def make_engine(
    choice: str | dict[str, Any], *, jobs: int | None, threads: int | None, gpus: int | None
) -> Engine:
    """Return the engine that a sweep or a command line names.

    Args:
        choice: ``local``, ``ray`` or ``slurm``; or a mapping with ``name`` and its options.
        jobs: runs at once; the engine's default for None.
        threads: of each run; cores shared out for None.
        gpus: of each run; one if there is any for None.

    Raises:
        ValueError: no such engine, or an option it doesn't know.
            Also when the extra that brings it is missing.
    """
    options = dict(choice) if isinstance(choice, dict) else {"name": choice}
    name = str(options.pop("name", "local"))
    common: dict[str, Any] = {"jobs": jobs, "threads": threads, "gpus": gpus}
    try:
        match name:
            case "local":
                from trfnb.runs.engines.local import LocalEngine

                return LocalEngine(**common, **options)
            case "ray":
                from trfnb.runs.engines.ray import RayEngine

                return RayEngine(**common, **options)
            case "slurm":
                from trfnb.runs.engines.slurm import SlurmEngine

                return SlurmEngine(**common, **options)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Engine {name!r} needs {error.name}: run `pip install 'trfnb[{name}]'`."
        ) from None
    except TypeError as error:
        raise ValueError(f"Engine {name!r}: {error}; got the options {options}.") from None
    near = get_close_matches(name, ["local", "ray", "slurm"], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"No engine {name!r}; known: local, ray, slurm.{hint}")
