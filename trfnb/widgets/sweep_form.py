"""A form for a sweep, in a notebook: choose values, see what would run, run it."""

import html
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import yaml

from trfnb.runs.notebook import REQUIRED, UNKNOWN, Parameter, from_text, read_parameters
from trfnb.runs.specification import Sweep, expand


class SweepForm(widgets.VBox):
    """One field a parameter. One value fixes it, several (separated by ``;``) vary it.

    ``.sweep`` is what the form says, ``.yaml`` the same as text for a file.

    Args:
        notebook: whose ``parameters`` cell the form shows.

    Raises:
        ValueError: the notebook can't be read or declares no parameters.
    """

    def __init__(self, notebook: Path | str):
        self.notebook = Path(notebook)
        self.declared = read_parameters(self.notebook)
        if not self.declared:
            raise ValueError(
                f"{notebook} declares no parameters: tag its cell of literals `parameters`."
            )
        self.fields = {name: _field(p) for name, p in self.declared.items()}
        self.jobs = widgets.BoundedIntText(1, min=1, max=64, description="jobs")
        self.said = widgets.HTML()
        for field in (*self.fields.values(), self.jobs):
            field.observe(self._changed, names="value")
        rows = [
            widgets.HBox([field, widgets.Label(self.declared[name].help)])
            for name, field in self.fields.items()
        ]
        super().__init__([*rows, self.jobs, self.said])
        self._changed()

    @property
    def sweep(self) -> Sweep:
        """The sweep that the form describes."""
        fixed: dict[str, Any] = {}
        grid: dict[str, list[Any]] = {}
        for name, field in self.fields.items():
            values = self._values(name, field)
            if len(values) == 1 and values[0] != self.declared[name].default:
                fixed[name] = values[0]
            elif len(values) > 1:
                grid[name] = values
        return Sweep(self.notebook, fixed=fixed, grid=grid, jobs=self.jobs.value)

    @property
    def yaml(self) -> str:
        """The sweep as YAML."""
        sweep = self.sweep
        content = {"notebook": str(self.notebook), "fixed": sweep.fixed, "grid": sweep.grid}
        return str(yaml.safe_dump(content | {"jobs": sweep.jobs}, sort_keys=False))

    def _values(self, name: str, field: Any) -> list[Any]:
        if isinstance(field, widgets.SelectMultiple):
            return list(field.value)
        parts = [part.strip() for part in field.value.split(";") if part.strip()]
        return [from_text(part, self.declared[name]) for part in parts]

    def _changed(self, _: Any = None) -> None:
        try:
            count = len(expand(self.sweep))
            self.said.value = f"{count} run{'s' if count > 1 else ''}"
        except ValueError as error:
            errors = getattr(error, "errors", [str(error)])
            lines = "".join(f"<li>{html.escape(one)}</li>" for one in errors)
            self.said.value = f"<ul style='color:#b42318'>{lines}</ul>"


def _field(parameter: Parameter) -> Any:
    unset = parameter.default in (REQUIRED, UNKNOWN)
    if parameter.choices or parameter.kind == "bool":
        options = list(parameter.choices) or [True, False]
        chosen = [] if unset else [parameter.default]
        rows = min(len(options), 4)
        return widgets.SelectMultiple(
            options=options, value=chosen, rows=rows, description=parameter.name
        )
    text = "" if unset else _as_text(parameter.default)
    return widgets.Text(text, description=parameter.name)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip()
