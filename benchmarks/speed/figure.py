"""The figure: words a second of each side, by kind of text."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import srsly


def draw(results: Path, file: Path) -> None:
    """Draw what the result files hold; nothing without the inference part."""
    source = results / "speed_inference.json"
    if not source.exists():
        return
    found = srsly.read_json(source)
    kinds = [kind for kind in found if kind != "about"]
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.6), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        speeds = found[kind]["fp32"]["words a second"]
        names = list(speeds)[::-1]
        middle = [speeds[name]["median"] for name in names]
        errors = [
            [speeds[n]["median"] - speeds[n]["low"] for n in names],
            [speeds[n]["high"] - speeds[n]["median"] for n in names],
        ]
        colours = ["C0" if name.startswith("trfnb") else "0.65" for name in names]
        axis.barh(names, middle, xerr=errors, color=colours)
        axis.set_title(kind)
        axis.set_xlabel("words a second")
        if axis is not axes[0][0]:
            axis.set_yticklabels([])
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)
