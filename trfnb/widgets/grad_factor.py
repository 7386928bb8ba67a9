"""Sliders for the factors of a training that runs meanwhile."""

import asyncio
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from ipywidgets import HTML, Button, Dropdown, FloatSlider, HBox, IntProgress, Layout, VBox
from matplotlib.figure import Figure
from thinc.api import Config

from trfnb import gradient_plots
from trfnb.experiments.training import HasExamples
from trfnb.experiments.tuner import POLICY, Tuner
from trfnb.widgets.live import charts
from trfnb.widgets.presets import PRESETS

REFRESH_SECONDS = 0.2


class GradFactorTuner(VBox):
    """A view of a `Tuner`: it shows and moves, the tuner trains.

    Args:
        config: A complete config whose tasks share a body.
        corpus: Trained and scored on.
        exports: The folder that Export writes into.

    Attributes:
        tuner: What trains; everything that the view does can be done with it.
    """

    def __init__(
        self, config: Config, corpus: HasExamples, *, exports: Path | str = "tuned"
    ) -> None:
        self.tuner = Tuner(config, corpus)
        self.exports = Path(exports)
        self._refreshing: asyncio.Task[None] | None = None
        self._showing = False
        self._follows: set[str] = set()
        self._drawn: tuple[int, str] = (-1, "")
        self.start_button = _button("Start", "play", self._on_start)
        self.pause_button = _button("Pause", "pause", lambda _: self._steer(self.tuner.pause))
        self.stop_button = _button("Stop", "stop", lambda _: self._steer(self.tuner.stop))
        self.export_button = _button("Export", "download", lambda _: self.export())
        self.preset = Dropdown(options=["", *PRESETS], description="Preset")
        self.preset.observe(self._on_preset, names="value")
        updates = int(config["training"]["max_steps"])
        shown = Layout(width="260px", display="flex" if updates else "none")
        self.progress = IntProgress(max=updates or 1, layout=shown)
        self.status = HTML()
        self.sliders = {task: self._slider(task, v) for task, v in self.tuner.start_values.items()}
        self.live = HTML()
        buttons = [self.start_button, self.pause_button, self.stop_button, self.export_button]
        super().__init__(
            [
                HBox([*buttons, self.preset]),
                HBox([self.progress, self.status]),
                *self.sliders.values(),
                self.live,
            ]
        )
        self.add_class("trfnb-grad-factor")
        self.refresh()

    # -- what stays in a saved notebook -------------------------------------------------------

    def figure(self) -> Figure:
        """Return norms, factors and conflicts over the steps, as a static figure."""
        return gradient_plots.overview(self.tuner.log)

    def table(self) -> pd.DataFrame:
        """Return every move."""
        return self.tuner.moves_table()

    def export(self) -> tuple[Path, Path]:
        """Write the tuned run as a config and as a file of notebook parameters."""
        self.exports.mkdir(parents=True, exist_ok=True)
        config, parameters = self.exports / "tuned.cfg", self.exports / "tuned.yml"
        self.tuner.export_config().to_disk(config)
        text = yaml.safe_dump(self.tuner.export_parameters(), sort_keys=False)
        parameters.write_text(text, encoding="utf8")
        self.status.value = (
            f"exported: train again with spacy train {config}, or run the notebook with the "
            f"parameters in {parameters}"
        )
        return config, parameters

    # -- live ---------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show where the training is."""
        tuner = self.tuner
        made = len(tuner.history)
        self.progress.value = min(made, self.progress.max)
        self.start_button.disabled = tuner.state not in ("ready", "paused")
        self.pause_button.disabled = tuner.state != "running"
        self.stop_button.disabled = tuner.state not in ("running", "paused")
        self.export_button.disabled = tuner.state != "ended" or not made
        error = "" if tuner.error is None else f": {tuner.error}"
        self.status.value = f"{tuner.state}{error} · update {made} · {_moves(tuner)}"
        self._show_factors()
        if self._drawn != (made, tuner.state):
            self._drawn = (made, tuner.state)
            self.live.value = charts(tuner)

    def _show_factors(self) -> None:
        """Let the slider of a task that a schedule or a policy moves follow it."""
        steps = self.tuner.log.steps
        if not steps or not self._follows:
            return
        self._showing = True
        try:
            for name, factor in zip(steps[-1].listeners, steps[-1].factors, strict=True):
                if name in self._follows:
                    slider = self.sliders[name]
                    slider.value = min(max(factor, slider.min), slider.max)
        finally:
            self._showing = False

    async def _refresh_while_it_runs(self) -> None:
        # On the kernel's own loop: it answers between two refreshes, and no second thread
        # writes to the widgets.
        while self.tuner.state in ("running", "paused"):
            self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)
        self.refresh()

    def _on_start(self, _: Any) -> None:
        self._steer(self.tuner.start)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel: whoever holds the view calls refresh
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = loop.create_task(self._refresh_while_it_runs())

    def _steer(self, act: Any) -> None:
        act()
        self.refresh()

    def _on_preset(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            values = PRESETS[change["new"]](self.tuner.tasks)
            for task, value in values.items():
                self.tuner.set(task, value)
                if task != POLICY:
                    self._follow(task, value)

    def _follow(self, task: str, value: Any) -> None:
        self._follows.discard(task)
        if isinstance(value, Real):
            self._showing = True
            self.sliders[task].value = float(value)
            self._showing = False
        else:
            self._follows.add(task)

    def _slider(self, task: str, value: Any) -> FloatSlider:
        slider = FloatSlider(
            value=value if isinstance(value, Real) else 1.0,
            min=-1.0,
            max=2.0,
            step=0.05,
            description=task,
            layout=Layout(width="420px"),
        )
        if not isinstance(value, Real):
            self._follows.add(task)
        slider.observe(lambda change: self._on_slide(task, change["new"]), names="value")
        return slider

    def _on_slide(self, task: str, value: float) -> None:
        if not self._showing:
            self._follows.discard(task)
            self.tuner.set(task, round(value, 10))


def _moves(tuner: Tuner) -> str:
    if not tuner.moves:
        return "no move"
    last = tuner.moves[-1]
    value = last.value
    if isinstance(value, Mapping):
        value = next(iter(value.values()))
    return f"{len(tuner.moves)} moves; last: {last.task} → {value} after update {last.step}"


def _button(text: str, icon: str, on_click: Any) -> Button:
    button = Button(description=text, icon=icon, layout=Layout(width="90px"))
    button.on_click(on_click)
    return button
