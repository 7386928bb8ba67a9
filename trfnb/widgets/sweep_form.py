"""A form for a sweep, in a notebook: choose values, see what would run, run it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from html import escape
from pathlib import Path
from typing import Any

import yaml
from ipywidgets import HTML, BoundedIntText, Button, HBox, Label, Layout, SelectMultiple, Text, VBox

from trfnb.runs.expansion import expand
from trfnb.runs.notebook import REQUIRED, UNKNOWN, Parameter, read_parameters
from trfnb.runs.parameters import from_text
from trfnb.runs.specification import Sweep
from trfnb.widgets.live import refresh_while

LAST_LINES = 15


class SweepForm(VBox):
    """One field per parameter: one value fixes it, several (separated by ``;``) vary it.

    Run starts ``trfnb sweep`` in a process of its own, so that the kernel stays free. A second
    Run, also after Stop, resumes.

    Args:
        notebook: Whose ``parameters`` cell the form shows.
        out: The folder of the results; ``papermill_runs/NAME`` when not given.

    Attributes:
        fields: One field per parameter, by name.
        process: The sweep that was started last, or None.

    Raises:
        ValueError: The notebook cannot be read or declares no parameters.
    """

    def __init__(self, notebook: Path | str, *, out: Path | str | None = None) -> None:
        self.notebook = Path(notebook).absolute()
        self.out = Path(out or Path("papermill_runs") / self.notebook.stem)
        self.declared = read_parameters(self.notebook)
        if not self.declared:
            raise ValueError(
                f"{notebook} declares no parameters: tag its cell of literals `parameters`."
            )
        self.process: subprocess.Popen[bytes] | None = None
        self.fields = {name: _field(parameter) for name, parameter in self.declared.items()}
        self.jobs = BoundedIntText(1, min=1, max=64, description="jobs")
        self.message, self.output = HTML(), HTML()
        self.run_button = Button(description="Run", icon="play")
        self.stop_button = Button(description="Stop", icon="stop")
        self.run_button.on_click(lambda _: self.run())
        self.stop_button.on_click(lambda _: self.stop())
        for field in (*self.fields.values(), self.jobs):
            field.observe(lambda _: self.refresh(), names="value")
        rows = [
            HBox([field, Label(self.declared[name].help)], layout=Layout(flex_flow="row wrap"))
            for name, field in self.fields.items()
        ]
        buttons = HBox([self.jobs, self.run_button, self.stop_button])
        super().__init__([*rows, buttons, self.message, self.output])
        self.refresh()

    @property
    def sweep(self) -> Sweep:
        """The sweep that the form describes.

        Raises:
            ValueError: A field holds a value that its parameter's comment rules out.
        """
        fixed: dict[str, Any] = {}
        grid: dict[str, list[Any]] = {}
        errors: list[str] = []
        for name, field in self.fields.items():
            values = self._values(name, field)
            errors += _slips(name, values, self.declared[name].help)
            if len(values) == 1 and values[0] != self.declared[name].default:
                fixed[name] = values[0]
            elif len(values) > 1:
                grid[name] = values
        if errors:
            raise ValueError("\n".join(errors))
        return Sweep(self.notebook, fixed=fixed, grid=grid, jobs=self.jobs.value)

    @property
    def yaml(self) -> str:
        """The sweep as YAML, for a file."""
        sweep = self.sweep
        content = {"notebook": str(self.notebook), "name": self.notebook.stem}
        settings = {"fixed": sweep.fixed, "grid": sweep.grid, "jobs": sweep.jobs}
        return str(yaml.safe_dump(content | settings, sort_keys=False))

    @property
    def running(self) -> bool:
        """Whether a sweep that was started here still runs."""
        return self.process is not None and self.process.poll() is None

    def run(self) -> None:
        """Start the sweep; what it prints is shown below the form.

        Raises:
            ValueError: The form has errors.
        """
        if self.running:
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        file = self.out.with_name(f"{self.out.name}.form.yml")
        file.write_text(self.yaml, encoding="utf8")
        command = [sys.executable, "-m", "trfnb", "sweep", str(file), "--out", str(self.out)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.refresh()
        refresh_while(lambda: self.running, self.refresh)

    def stop(self) -> None:
        """Interrupt the sweep; what has ended stays, and Run goes on from there."""
        if self.process is not None and self.running:
            self.process.send_signal(signal.SIGINT)

    def refresh(self) -> None:
        """Show how many runs the form describes, or its errors, and what the sweep printed."""
        valid = True
        try:
            count = len(expand(self.sweep))
            self.message.value = f"{count} run{'s' if count > 1 else ''}"
        except ValueError as error:
            valid = False
            lines = escape(str(error)).replace("\n", "<br>")
            self.message.value = f"<div style='color:#b42318'>{lines}</div>"
        self.run_button.disabled = self.running or not valid
        self.stop_button.disabled = not self.running
        if self.process is not None:
            code = self.process.poll()
            state = "running" if code is None else f"ended with exit code {code}"
            printed = self._log.read_text(encoding="utf8", errors="replace").splitlines()
            tail = escape("\n".join(printed[-LAST_LINES:]))
            self.output.value = (
                f"<b>{state}</b>; results in {escape(str(self.out))}"
                f"<pre style='overflow:auto'>{tail}</pre>"
            )

    @property
    def _log(self) -> Path:
        return self.out.with_name(f"{self.out.name}.form.log")

    def _values(self, name: str, field: Any) -> list[Any]:
        if isinstance(field, SelectMultiple):
            return list(field.value)
        parts = [part.strip() for part in field.value.split(";") if part.strip()]
        return [from_text(part, self.declared[name]) for part in parts]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(str(field.value))}</td>"
            f"<td>{escape(self.declared[name].help)}</td></tr>"
            for name, field in self.fields.items()
        )
        still = f"<table>{rows}</table>{self.message.value}{self.output.value}"
        return super()._repr_mimebundle_(**options) | {"text/html": still}


def _field(parameter: Parameter) -> Any:
    unset = parameter.default in (REQUIRED, UNKNOWN)
    if parameter.choices or parameter.kind == "bool":
        options = list(parameter.choices) or [True, False]
        return SelectMultiple(
            options=options,
            value=[] if unset else [parameter.default],
            rows=min(len(options), 4),
            description=parameter.name,
        )
    text = "" if unset else _as_text(parameter.default)
    return Text(text, description=parameter.name, continuous_update=False)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip()


def _slips(name: str, values: list[Any], comment: str) -> Iterator[str]:
    """Find texts that the parameter's comment, which quotes its values, rules out.

    A comment of nothing but quoted values is the whole list. Beside a longer one, a text that
    nearly spells one of them is taken for a slip, unless it is a path.
    """
    quoted = re.findall(r'"([^"]+)"', comment)
    whole_list = not re.sub(r'"[^"]*"|\bor\b|[,;\s]', "", comment)
    for value in values:
        if not quoted or not isinstance(value, str) or value in quoted:
            continue
        near = get_close_matches(value, quoted, n=1, cutoff=0.75)
        path = "/" in value or Path(value).exists()
        if whole_list or (near and not path):
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield f"`{name}`: expected one of {', '.join(quoted)}, got {value!r}.{hint}"
