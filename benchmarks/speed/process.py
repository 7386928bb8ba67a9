"""Workers as processes that take turns."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .environments import ROOT

_WORKER = Path(__file__).with_name("worker.py")


class Side:
    """A running worker; only one of them computes at a time."""

    def __init__(self, name: str, python: Path, folder: Path, model: str) -> None:
        self.name = name
        self.command = [str(python), str(_WORKER), name, str(folder), model]
        self.process = self._start([])

    def _start(self, more: list[str]) -> "subprocess.Popen[str]":
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
        if self.name.endswith("-passive"):  # read when torch loads its OpenMP library
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        return subprocess.Popen(
            [*self.command, *more], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log(),
        )  # fmt: skip

    def _log(self) -> Any:
        self.log = Path(self.command[3]) / f"{self.name}.log"
        return self.log.open("a")

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            RuntimeError: the worker ended.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError(f"{self.name} has no pipes.")
        stdin.write(json.dumps({"do": do, **request}) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended at {do!r}:\n{self.log.read_text()[-2000:]}")
        return json.loads(line)

    def start_up(self) -> float:
        """Return the seconds from ``spacy.load`` to the first doc, in a fresh process."""
        process = self._start(["start-up"])
        answer, _ = process.communicate()
        return float(json.loads(answer)["seconds"])

    def renew(self) -> None:
        """Begin again in a fresh process, whose peak memory is its own."""
        self.close()
        self.process = self._start([])

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core busy with a process of its own."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def sides(names: list[str], pythons: dict[str, Path], folder: Path, model: str) -> Iterator[Any]:
    """Start a worker for each side, and end them all."""
    running = {name: Side(name, pythons[name], folder, model) for name in names}
    try:
        yield running
    finally:
        for side in running.values():
            side.close()
