"""Look at a word's neighbours in several tables side by side."""

from collections.abc import Mapping
from html import escape
from typing import Any

import ipywidgets as widgets

from trfnb.vectors.similar import most_similar


class Neighbours:
    """A text field, a slider and one column of neighbours a table.

    Args:
        tables: name -> spaCy `Vectors`.
        word: shown first.
        n: neighbours shown.
        among: candidates of floret tables, which know no words of their own.

    Attributes:
        widget: what a notebook displays.
        found: table name -> ``(word, cosine)`` pairs now shown.
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        word: str = "bank",
        *,
        n: int = 8,
        among: list[str] | None = None,
    ) -> None:
        self.tables = dict(tables)
        self._among = among
        self.found: dict[str, list[tuple[str, float]]] = {}
        self.word = widgets.Text(word, description="word", continuous_update=False)
        self.n = widgets.IntSlider(n, 1, 30, description="neighbours", continuous_update=False)
        self._columns = widgets.HTML()
        self.word.observe(self._show, "value")
        self.n.observe(self._show, "value")
        self.widget = widgets.VBox([widgets.HBox([self.word, self.n]), self._columns])
        self._show()

    def _show(self, change: Any = None) -> None:
        word = self.word.value.strip()
        self.found = {}
        for name, vectors in self.tables.items():
            among = self._among if vectors.mode == "floret" else None
            known = vectors.mode == "floret" or word in vectors.strings
            known = known and (vectors.mode == "floret" or vectors.strings[word] in vectors.key2row)
            near = most_similar(vectors, [word], n=self.n.value, among=among)[0] if known else []
            self.found[name] = near
        columns = [_column(name, word, near) for name, near in self.found.items()]
        self._columns.value = f"<div style='display:flex;gap:2em'>{''.join(columns)}</div>"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)


def _column(name: str, word: str, near: list[tuple[str, float]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(other)}</td><td style='text-align:right'>{cosine:.2f}</td></tr>"
        for other, cosine in near
    )
    if not near:
        rows = f"<tr><td>no vector for {escape(word)!s}</td></tr>"
    return f"<table><caption>{escape(name)}</caption>{rows}</table>"
