"""A form for a sweep, in a notebook: choose values, see how many runs they make, run them."""

import signal
import subprocess
import sys
import threading
from collections import deque
from html import escape
from pathlib import Path

import srsly
from ipywidgets import BoundedIntText, Button, HBox, Label, Text

from trfnb.runs.notebook import REQUIRED, UNKNOWN, from_text, read_parameters
from trfnb.runs.specification import Sweep, expand
from trfnb.widgets.explore import View


class SweepForm(View):
    """One field per parameter: one value sets it, several (separated by ``;``) vary it.

    Values are checked as ``trfnb run`` checks them. Run starts ``trfnb sweep`` in a process of
    its own, so that the kernel stays free; a second Run, also after Stop, resumes.

    Args:
        notebook: Whose ``parameters`` cell the form shows.
        out: The folder of the results; ``papermill_runs/NAME`` when not given.

    Attributes:
        fields: One field per parameter, by name.
        process: The sweep that was started last, or None.
        follower: The thread that shows what it prints.

    Raises:
        ValueError: The notebook cannot be read or declares no parameters.
    """

    def __init__(self, notebook: Path | str, *, out: Path | str | None = None) -> None:
        self.notebook = Path(notebook).absolute()
        self.out = Path(out or Path("papermill_runs") / self.notebook.stem)
        self._declared = read_parameters(self.notebook)
        if not self._declared:
            raise ValueError(
                f"{notebook} declares no parameters: tag its cell of literals `parameters`."
            )
        self._defaults = {
            name: "" if one.default in (REQUIRED, UNKNOWN) else str(one.default)
            for name, one in self._declared.items()
        }
        self.process: subprocess.Popen[str] | None = None
        self._printed: deque[str] = deque(maxlen=15)
        self.fields = {
            name: Text(text, description=name, continuous_update=False)
            for name, text in self._defaults.items()
        }
        self.jobs = BoundedIntText(1, min=1, max=64, description="jobs")
        self.run_button = Button(description="Run", icon="play")
        self.stop_button = Button(description="Stop", icon="stop")
        self.run_button.on_click(lambda _: self.run())
        self.stop_button.on_click(lambda _: self.stop())
        rows = [
            HBox([field, Label(f"{self._declared[name].kind} {self._declared[name].help}")])
            for name, field in self.fields.items()
        ]
        super().__init__(*rows, HBox([self.jobs, self.run_button, self.stop_button]))
        for field in (*self.fields.values(), self.jobs):
            field.observe(lambda _: self.refresh(), names="value")
        self.refresh()

    @property
    def sweep(self) -> Sweep:
        """The sweep that the form describes, not checked yet."""
        grid = {}
        for name, field in self.fields.items():
            if field.value != self._defaults[name]:
                parts = [part.strip() for part in field.value.split(";")]
                if len(parts) > 1 and "" in parts:
                    raise ValueError(f"`{name}`: expected values between semicolons, got {parts}.")
                grid[name] = [from_text(part, self._declared[name]) for part in parts]
        return Sweep(self.notebook, grid=grid, jobs=self.jobs.value)

    def run(self) -> None:
        """Start the sweep; what it prints is shown below the form."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        file = self.out.with_name(f"{self.out.name}.form.yml")
        sweep = self.sweep.model_dump(include={"name", "grid", "jobs"})
        srsly.write_yaml(file, {"notebook": str(self.notebook)} | sweep)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trfnb", "sweep", str(file), "--out", str(self.out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.follower = threading.Thread(target=self._follow, args=(self.process,), daemon=True)
        self.follower.start()
        self.refresh()

    def stop(self) -> None:
        """Interrupt the sweep; what has ended stays, and Run goes on from there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def refresh(self) -> None:
        """Show how many runs the form describes, or its errors, and what the sweep printed."""
        running = self.process is not None and self.process.poll() is None
        try:
            message, valid = f"{len(expand(self.sweep))} run(s)", True
        except ValueError as error:
            message, valid = f"<pre style='color:#b42318'>{escape(str(error))}</pre>", False
        self.run_button.disabled = running or not valid
        self.stop_button.disabled = not running
        printed = escape("".join(self._printed))
        self.shown.value = f"{message}<pre style='overflow:auto'>{printed}</pre>"

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        for line in process.stdout or ():
            self._printed.append(line)
            self.refresh()
        self._printed.append(f"ended with exit code {process.wait()}; results in {self.out}\n")
        self.refresh()
