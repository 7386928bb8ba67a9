"""Dials for the factors of a training that runs meanwhile."""

import asyncio
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from math import log
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import yaml
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from ipywidgets import HTML, Button, Dropdown, HBox, Layout, SelectionSlider, Text
from matplotlib.figure import Figure
from thinc.api import Config

from trfnb import plots
from trfnb.experiments.configs import HEADS
from trfnb.experiments.training import HasExamples, Trained
from trfnb.experiments.tuner import BALANCE, Move, Tuner, presets
from trfnb.widgets.explore import View

DRAW_EVERY = 3.0  # seconds at least: drawing takes the training's time
FACTORS = (0.0, *(float(f"{10 ** (place / 20):.3g}") for place in range(-40, 41)))
AGAIN = "Restart trains again from the first update, with the dials as they stand."
# By state: what Start is called, the buttons that act, and a hint.
STATES = {
    "ready": (
        "Start",
        {"Start"},
        "Press Start. A dial moved before that acts from the first update on.",
    ),
    "running": (
        "Start",
        {"Pause", "Stop"},
        "A move acts at the next update. If buttons and dials do not answer while a cell "
        "waits for the end, interrupt the kernel to stop.",
    ),
    "paused": ("Resume", {"Start", "Stop"}, "Resume goes on; a move acts at the next update."),
    "stopping": ("Start", set[str](), "What was reached is being evaluated."),
    "ended": ("Restart", {"Start", "Export"}, AGAIN),
    "failed": ("Restart", {"Start", "Export"}, AGAIN),
}
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
        on_move: Called with the task and the number, or with a text that is no number.
    """

    def __init__(self, task: str, on_move: Callable[[str, float | str], None]) -> None:
        self._on_move = partial(on_move, task)
        self._shown: tuple[float, str] = (0.0, "")
        # On release only: one drag is one move.
        self.slider = SelectionSlider(
            options=FACTORS, continuous_update=False, readout=False, description=task
        )
        self.box = Text(
            continuous_update=False,
            layout=Layout(width="80px"),
            tooltip="Any number; a negative one reverses this task's gradient",
        )
        self.setter = HTML()
        self.slider.observe(self._moved, names="value")
        self.box.observe(self._moved, names="value")
        super().__init__([self.slider, self.box, self.setter])

    def show(self, value: float, set_by: str = "") -> None:
        """Show a factor.

        Args:
            value: The number.
            set_by: The schedule or policy that chooses it; empty for a person.
        """
        near = min(FACTORS[1:], key=lambda factor: abs(log(factor / value))) if value > 0 else 0.0
        # Grey where a schedule or policy chooses, so that refreshing overwrites no typed text.
        self._shown = (near, "" if set_by else f"{value:.6g}")
        self.box.placeholder = f"{value:.3g}"
        self.slider.value, self.box.value = self._shown
        self.setter.value = escape(set_by)

    def _moved(self, change: Mapping[str, Any]) -> None:
        value = change["new"]
        if value not in self._shown:
            with suppress(ValueError):
                value = float(value)
            self._on_move(value)


class GradFactorTuner(View):
    """A view of a `Tuner`: it shows and moves, the tuner trains.

    Running its cell again ends the training that the cell started before.

    Args:
        config: A complete config whose tasks share an encoder or tok2vec.
        corpus: Trained and scored on.
        exports: The folder that Export writes ``tuned.cfg`` and ``tuned.yml`` into.

    Attributes:
        tuner: What trains; everything that the view does can be done with it.
        dials: One `Dial` per task.
        buttons: Start, Pause, Stop and Export, by these names.
    """

    def __init__(
        self, config: Config, corpus: HasExamples, *, exports: Path | str = "tuned"
    ) -> None:
        self.tuner = Tuner(config, corpus)
        self.exports = Path(exports)
        self._message = ""
        # JupyterLab may handle a click in another thread than the cell that runs.
        self._lock = threading.RLock()
        self._drawn, self._draw_at = (0, "ready"), 0.0
        actions = {
            "Start": self._start,
            "Pause": self.tuner.pause,
            "Stop": self.tuner.stop,
            "Export": self._export,
        }
        self.buttons = {
            name: Button(description=name, layout=Layout(width="90px")) for name in actions
        }
        for name, button in self.buttons.items():
            button.on_click(partial(self._act, actions[name]))
        self._presets = presets(self.tuner.tasks)
        self.preset = Dropdown(options=["", *self._presets], description="Preset")
        self.preset.observe(self._on_preset, names="value")
        self.dials = {task: Dial(task, self._on_move) for task in self.tuner.tasks}
        self.status = HTML()
        controls = HBox([*self.buttons.values(), self.preset], layout=Layout(flex_flow="row wrap"))
        super().__init__(HTML(LOST), controls, self.status, *self.dials.values())
        self.add_class("trfnb-grad-factor")
        _end_earlier_views_of_this_cell(self)
        self.refresh()

    def finish(self, script: Sequence[Move] = ()) -> Trained:
        """Train to the end in the cell that calls this, while the view follows.

        Args and errors are those of `Tuner.run`.
        """
        return self.tuner.run(script, follow=self.refresh)

    def figure(self) -> Figure:
        """Return scores, factors, norms, losses and conflicts so far as a static figure."""
        metrics = [HEADS[task].score for task in self.tuner.tasks if task in HEADS]
        return plots.overview(self.tuner.log, self.tuner.history, [*metrics, "score"])

    def table(self) -> pd.DataFrame:
        """Return one row per move: ``step``, ``task``, ``value``."""
        return pd.DataFrame(self.tuner.moves, columns=["step", "task", "value"])

    def refresh(self) -> None:
        """Show where the training is."""
        with self._lock:
            tuner, state = self.tuner, self.tuner.state
            self.buttons["Start"].description, acting, _ = STATES[state]
            for name, button in self.buttons.items():
                button.disabled = name not in acting
            self.status.value = self._status(state)
            step = tuner.log.steps[-1] if tuner.log.steps else None
            factors = dict(zip(step.listeners, step.factors, strict=True)) if step else {}
            for task, dial in self.dials.items():
                setting = tuner.settings[task]
                if isinstance(setting, float | int):
                    dial.show(setting)
                else:
                    policy = tuner.settings.get(BALANCE, "the policy of the config")
                    chooser = policy if setting == "auto" else setting
                    dial.show(factors.get(task, 1.0), f"set by {_name(chooser)}")
            self._draw(state)

    def _status(self, state: str) -> str:
        tuner = self.tuner
        made, total = len(tuner.history), int(tuner.config["training"]["max_steps"])
        parts = [f"<b>{state}</b>", f"update {made}" + (f" of {total}" if total else "")]
        if tuner.eta is not None and state in ("running", "paused"):
            parts.append(f"{tuner.eta / 60:.1f} min left")
        if tuner.moves:
            last = tuner.moves[-1]
            moved = f"{last.task} → {_name(last.value)} after update {last.step}"
            parts.append(f"{len(tuner.moves)} move(s), last: {escape(moved)}")
        lines = [" · ".join(parts), STATES[state][2], escape(self._message)]
        if tuner.error is not None:
            text = escape("".join(traceback.format_exception(tuner.error)))
            message = escape(f"{type(tuner.error).__name__}: {tuner.error}")
            lines.append(
                f"<b style='color:#b42318'>{message}</b><details><summary>Traceback</summary>"
                f"<pre style='overflow:auto;max-height:300px'>{text}</pre></details>"
            )
        return f"<div style='line-height:1.5'>{'<br>'.join(lines)}</div>"

    def _draw(self, state: str) -> None:
        drawn = (len(self.tuner.log.steps), state)
        soon = perf_counter() < self._draw_at and state not in ("ended", "failed")
        if soon or drawn in (self._drawn, (0, state)):
            return
        picture = print_figure(self.figure(), base64=True)
        self.shown.value = f"<img style='max-width:100%' src='data:image/png;base64,{picture}'>"
        self._drawn = drawn
        self._draw_at = perf_counter() + DRAW_EVERY

    # Do what a person asked for; show what came of it, or why it was refused.
    def _act(self, action: Callable[[], str | None], _: Any = None) -> None:
        try:
            self._message = action() or ""
        except Exception as error:  # a policy may lack its library; the view says so
            self._message = f"Refused. {type(error).__name__}: {error}"
        self.refresh()

    def _start(self) -> None:
        resumed = self.tuner.busy
        self.tuner.start()
        if not resumed:
            with suppress(RuntimeError):  # no loop runs: whoever holds the view refreshes it
                self._refreshing = asyncio.get_running_loop().create_task(self._follow())

    # Refresh on the kernel's loop, which answers in between.
    async def _follow(self) -> None:
        while self.tuner.busy:
            self.refresh()
            await asyncio.sleep(0.2)
        self.refresh()

    def _export(self) -> str:
        config, parameters = self.exports / "tuned.cfg", self.exports / "tuned.yml"
        self.exports.mkdir(parents=True, exist_ok=True)
        self.tuner.export_config().to_disk(config)
        text = yaml.safe_dump(self.tuner.export_parameters(), sort_keys=False)
        parameters.write_text(text, encoding="utf8")
        return (
            f"Exported. Train again with: spacy train {config}; or run the notebook with the "
            f"parameters in {parameters}."
        )

    def _on_preset(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            self._act(partial(self._take, self._presets[change["new"]]))
            self.preset.value = ""  # the same one can be chosen again

    # The policy, if any, comes first: where it is refused, no task follows it.
    def _take(self, preset: Mapping[str, Any]) -> None:
        for task, value in preset.items():
            self.tuner.set(task, value)

    def _on_move(self, task: str, value: Any) -> None:
        self._act(partial(self.tuner.set, task, value))


# By view: the cell that made it, and the request that ran that cell.
_VIEWS: dict[GradFactorTuner, tuple[str, str]] = {}


def _end_earlier_views_of_this_cell(view: GradFactorTuner) -> None:
    request: Mapping[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    cell = request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code")
    if not cell:
        return
    number = request["header"]["msg_id"]
    for old, (place, earlier) in list(_VIEWS.items()):
        if place == cell and earlier != number:
            old.tuner.stop()
            old.close()
            del _VIEWS[old]
    _VIEWS[view] = (cell, number)


def _name(value: Any) -> str:
    name = next(iter(value.values())) if isinstance(value, Mapping) else value
    return str(name).removeprefix("trfnb.").rsplit(".v", 1)[0]
