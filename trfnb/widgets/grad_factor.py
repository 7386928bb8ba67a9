"""Dials for the factors of a training that runs meanwhile."""

import threading
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from io import BytesIO
from math import log10
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from IPython import get_ipython
from IPython.display import display, update_display
from ipywidgets import HTML, Button, Dropdown, HBox, IntProgress, IntSlider, Layout, Text, VBox
from matplotlib.figure import Figure
from thinc.api import Config

from trfnb import plots
from trfnb.experiments.training import HasExamples, Trained
from trfnb.experiments.tuner import BALANCE, Move, Tuner, presets
from trfnb.widgets.live import refresh_while, training_charts

# A slider's places: 0, then from 0.01 to 100 with twenty places per power of ten.
LOWEST, PER_DECADE, LAST_PLACE = -2, 20, 81
HINTS = {
    "ready": "Press Start. A dial moved before that acts from the first update on.",
    "running": "A move acts at the next update.",
    "paused": "Resume goes on; a move acts at the next update.",
    "stopping": "What was reached is being evaluated.",
    "ended": "Restart trains again from the first update, with the dials as they stand.",
    "failed": "Restart trains again from the first update, with the dials as they stand.",
}
WAITED_FOR = (
    "A cell waits for the end of this training. If buttons and dials do not answer meanwhile, "
    "interrupt the kernel to stop it."
)
# JupyterLab marks the widgets of a kernel that is gone with this class.
LOST = (
    "<style>.trfnb-lost {display: none} "
    ".jupyter-widgets-disconnected .trfnb-lost {display: block}</style>"
    "<b class='trfnb-lost'>The kernel of this view is gone, and its training with it. "
    "Run the cells from the top again.</b>"
)


class Dial(HBox):
    """A task's factor: a log-scaled slider from 0 to 100, a box for any number, and who sets it.

    Only a person's move calls back. What `show` writes does not: it is remembered first, and a
    value equal to it is no move.

    Args:
        task: The name to show.
        on_move: Called with the number, or with a text that is no number.
    """

    def __init__(self, task: str, on_move: Callable[[float | str], None]) -> None:
        self._on_move = on_move
        self._shown: tuple[int, str] = (0, "")
        # On release only: one drag is one move. Places are whole numbers, so that the browser
        # has nothing to round and send back.
        self.slider = IntSlider(
            0, 0, LAST_PLACE, continuous_update=False, readout=False, description=task
        )
        self.box = Text(continuous_update=False, layout=Layout(width="80px"))
        self.box.tooltip = "Any number; a negative one reverses this task's gradient"
        self.setter = HTML()
        self.slider.observe(self._slid, names="value")
        self.box.observe(self._typed, names="value")
        super().__init__([self.slider, self.box, self.setter])

    def show(self, value: float, set_by: str = "") -> None:
        """Show a factor.

        Args:
            value: The number.
            set_by: The schedule or policy that chooses it; empty for a person.
        """
        # Grey where a schedule or policy chooses, so that refreshing overwrites no typed text.
        self._shown = (_place(value), "" if set_by else f"{value:.6g}")
        self.box.placeholder = f"{value:.3g}"
        self.slider.value, self.box.value = self._shown
        self.setter.value = escape(set_by)

    def _slid(self, change: Mapping[str, Any]) -> None:
        if change["new"] != self._shown[0]:
            self._on_move(_value(change["new"]))

    def _typed(self, change: Mapping[str, Any]) -> None:
        if change["new"] != self._shown[1]:
            try:
                self._on_move(float(change["new"]))
            except ValueError:
                self._on_move(change["new"])


class GradFactorTuner(VBox):
    """A view of a `Tuner`: it shows and moves, the tuner trains.

    Running its cell again ends the training that the cell started before.

    Args:
        config: A complete config whose tasks share an encoder or tok2vec.
        corpus: Trained and scored on.
        exports: The folder that Export writes into.

    Attributes:
        tuner: What trains; everything that the view does can be done with it.
        dials: One `Dial` per task.
    """

    def __init__(
        self, config: Config, corpus: HasExamples, *, exports: Path | str = "tuned"
    ) -> None:
        self.tuner = Tuner(config, corpus)
        self.exports = Path(exports)
        self._message = ""
        self._waited_for = False
        # JupyterLab may handle a click in another thread than the cell that runs.
        self._lock = threading.RLock()
        self._refreshing: Any = None
        self._drawn: tuple[int, str] = (-1, "")
        self.start_button = _button("Start", "play", self._on_start)
        self.pause_button = _button("Pause", "pause", partial(self._steer, self.tuner.pause))
        self.stop_button = _button("Stop", "stop", partial(self._steer, self.tuner.stop))
        self.export_button = _button("Export", "download", self._on_export)
        self._presets = presets(self.tuner.tasks)
        self.preset = Dropdown(options=["", *self._presets], description="Preset")
        self.preset.observe(self._on_preset, names="value")
        updates = int(config["training"]["max_steps"])
        shown = Layout(width="200px", display="flex" if updates else "none")
        self.progress = IntProgress(max=updates or 1, layout=shown)
        self.status = HTML()
        self.dials = {task: Dial(task, partial(self._on_move, task)) for task in self.tuner.tasks}
        self.live = HTML()
        buttons = [self.start_button, self.pause_button, self.stop_button, self.export_button]
        wrapped = Layout(flex_flow="row wrap")
        super().__init__(
            [
                HTML(LOST),
                HBox([*buttons, self.preset], layout=wrapped),
                HBox([self.progress, self.status], layout=wrapped),
                *self.dials.values(),
                self.live,
            ]
        )
        self.add_class("trfnb-grad-factor")
        _end_earlier_views_of_this_cell(self)
        self.refresh()

    def finish(self, script: Sequence[Move] = ()) -> Trained:
        """Train to the end in the cell that calls this, while the view follows.

        Args and errors are those of `Tuner.run`.
        """
        self._waited_for = True
        try:
            return self.tuner.run(script, follow=self.refresh)
        finally:
            self._waited_for = False
            self.refresh()

    def figure(self) -> Figure:
        """Return factors, norms and conflicts over the steps, as a static figure."""
        return plots.overview(self.tuner.log)

    def table(self) -> pd.DataFrame:
        """Return one row per move."""
        return self.tuner.moves_table()

    def export(self) -> tuple[Path, Path]:
        """Write the tuned run as a config and as a file of notebook parameters."""
        self.exports.mkdir(parents=True, exist_ok=True)
        config, parameters = self.exports / "tuned.cfg", self.exports / "tuned.yml"
        self.tuner.export_config().to_disk(config)
        text = yaml.safe_dump(self.tuner.export_parameters(), sort_keys=False)
        parameters.write_text(text, encoding="utf8")
        return config, parameters

    def refresh(self) -> None:
        """Show where the training is."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        tuner, state = self.tuner, self.tuner.state
        made = len(tuner.history)
        self.progress.value = min(made, self.progress.max)
        names = {"paused": "Resume", "ended": "Restart", "failed": "Restart"}
        self.start_button.description = names.get(state, "Start")
        self.start_button.disabled = state in ("running", "stopping")
        self.pause_button.disabled = state != "running"
        self.stop_button.disabled = state not in ("running", "paused")
        self.export_button.disabled = state not in ("ended", "failed") or not made
        self.status.value = self._status()
        step = tuner.log.steps[-1] if tuner.log.steps else None
        factors = dict(zip(step.listeners, step.factors, strict=True)) if step else {}
        for task, dial in self.dials.items():
            setting = tuner.settings[task]
            if isinstance(setting, float | int):
                dial.show(setting)
            else:
                chooser = tuner.settings.get(BALANCE) if setting == "auto" else setting
                dial.show(factors.get(task, 1.0), f"set by {_name(chooser)}")
        if self._drawn != (made, state):
            self._drawn = (made, state)
            history = list(tuner.history)
            self.live.value = training_charts(history, list(tuner.log.steps), tuner.tasks)
            if state in ("ended", "failed") and get_ipython() and self.model_id:
                # Exported pages and saved notebooks show the last picture of the view.
                update_display(self._repr_mimebundle_(), raw=True, display_id=self.model_id)

    def _status(self) -> str:
        tuner = self.tuner
        made, total = len(tuner.history), int(tuner.config["training"]["max_steps"])
        parts = [f"<b>{tuner.state}</b>", f"update {made}" + (f" of {total}" if total else "")]
        if tuner.state == "running" and not made:
            parts.append("preparing")
        if tuner.eta is not None and tuner.state in ("running", "paused"):
            minutes, seconds = divmod(round(tuner.eta), 60)
            parts.append(f"{minutes}:{seconds:02d} min left")
        if tuner.moves:
            last = tuner.moves[-1]
            value = _name(last.value) if isinstance(last.value, Mapping) else last.value
            moved = f"{last.task} → {value} after update {last.step}"
            parts.append(f"{len(tuner.moves)} move(s), last: {escape(moved)}")
        lines = [" · ".join(parts), WAITED_FOR if self._waited_for else HINTS[tuner.state]]
        if self._message:
            lines.append(escape(self._message))
        if tuner.error is not None:
            text = "".join(traceback.format_exception(tuner.error))
            lines.append(
                f"<b style='color:#b42318'>{type(tuner.error).__name__}: "
                f"{escape(str(tuner.error))}</b><details><summary>Traceback</summary>"
                f"<pre style='overflow:auto;max-height:300px'>{escape(text)}</pre></details>"
            )
        return f"<div style='line-height:1.5'>{'<br>'.join(lines)}</div>"

    def _on_start(self, _: Any) -> None:
        with self._lock:
            self._message = ""
            resumed = self.tuner.busy
            self.tuner.start()
            self.refresh()
            if not resumed:
                self._refreshing = refresh_while(lambda: self.tuner.busy, self.refresh)

    def _steer(self, act: Callable[[], None], _: Any) -> None:
        act()
        self.refresh()

    def _on_export(self, _: Any) -> None:
        try:
            config, parameters = self.export()
            self._message = (
                f"Exported. Train again with: spacy train {config}; or run the notebook with the "
                f"parameters in {parameters}."
            )
        except (OSError, ValueError) as error:
            self._message = f"Not exported. {type(error).__name__}: {error}"
        self.refresh()

    def _on_preset(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            self._set(self._presets[change["new"]])
            self.preset.value = ""  # the same one can be chosen again

    def _on_move(self, task: str, value: float | str) -> None:
        if isinstance(value, str):
            self._message = f"{task}: expected a number such as 0.5 or -1, got {value!r}."
            self.refresh()
        else:
            self._set({task: value})

    def _set(self, values: Mapping[str, Any]) -> None:
        self._message = ""
        try:
            for task, value in values.items():
                self.tuner.set(task, value)
        except Exception as error:  # a policy may lack its library; the view says so
            self._message = f"Not set. {type(error).__name__}: {error}"
        self.refresh()

    def _ipython_display_(self) -> None:
        display(self._repr_mimebundle_(), raw=True, display_id=self.model_id)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        if not self.tuner.log.steps:
            return bundle | {"text/html": "<p>Dials of a training that has not started yet.</p>"}
        picture = BytesIO()
        self.figure().savefig(picture, format="png")
        return bundle | {"image/png": b64encode(picture.getvalue()).decode("ascii")}


# By the cell that made them: the request that ran it, and its views.
_VIEWS: dict[str, tuple[str, list[GradFactorTuner]]] = {}


def _end_earlier_views_of_this_cell(view: GradFactorTuner) -> None:
    shell = get_ipython()
    request: Mapping[str, Any] = getattr(shell, "get_parent", dict)()
    cell = request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code")
    if not cell:
        return
    number = request["header"]["msg_id"]
    before, views = _VIEWS.get(cell, (number, []))
    if before != number:
        for old in views:
            old.tuner.stop()
            old.close()
        views = []
    _VIEWS[cell] = (number, [*views, view])


def _place(value: float) -> int:
    """Return the slider's place next to a factor."""
    if value <= 0:
        return 0
    return min(max(1 + round((log10(value) - LOWEST) * PER_DECADE), 1), LAST_PLACE)


def _value(place: int) -> float:
    return float(f"{10 ** (LOWEST + (place - 1) / PER_DECADE):.3g}") if place else 0.0


def _name(block: Any) -> str:
    """Return what a schedule's or policy's block names, without the package and version."""
    name = next(iter(block.values())) if isinstance(block, Mapping) else "the policy of the config"
    return str(name).removeprefix("trfnb.").rsplit(".v", 1)[0]


def _button(text: str, icon: str, on_click: Callable[[Any], None]) -> Button:
    button = Button(description=text, icon=icon, layout=Layout(width="90px"))
    button.on_click(on_click)
    return button
