"""Draw and tabulate what `gradients_sweep` wrote: docs/figures/grad_factor.png and a table."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trfnb.experiments.configs import HEADS
from trfnb.plots import COLOURS, MARKERS
from trfnb.statistics import differences, intervals

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
TITLES = {"newsroom": "newsroom (embedded)", "ud_ewt": "UD EWT + UNER"}
METRICS = {HEADS[task].score: HEADS[task].label for task in ("tagger", "parser", "ner")}
DIAL = {"ner × 0": 0.0, "ner × 0.1": 0.1, "all × 1": 1.0, "ner × 10": 10.0}
REST = ["all × 0", "frozen, then up", "down to 0", "equal_norms", "uncertainty", "upgrad"]


def whole_seeds(runs):
    """Leave seeds that have every setting, so that all means are over the same."""
    counts = runs.groupby("seed")["setting"].nunique()
    return runs[runs["seed"].isin(counts[counts == counts.max()].index)]


def main():
    found = {name: RESULTS / f"factors_{name}.csv" for name in TITLES}
    corpora = {name: whole_seeds(pd.read_csv(p)) for name, p in found.items() if p.exists()}
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(corpora), sharey=True, squeeze=False)[0]
    order = [*DIAL, *REST]
    for axes, (name, runs) in zip(panels, corpora.items(), strict=True):
        gaps = pd.concat(
            differences(runs, list(METRICS), of=s, against="all × 1", by="setting").assign(
                setting=s
            )
            for s in order
            if s != "all × 1"
        )
        gaps.to_csv(RESULTS / f"differences_{name}.csv", index=False, float_format="%.4g")
        shown = [s for s in order if s not in ("all × 1", "all × 0")]
        for place, (metric, label) in enumerate(METRICS.items()):
            rows = gaps[gaps["metric"] == metric].set_index("setting").reindex(shown)
            x = np.arange(len(shown)) + (place - 1) * 0.2
            half = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            axes.errorbar(x, rows["mean"], yerr=np.nan_to_num(half), capsize=2, linestyle="none",
                          marker=MARKERS[place], color=COLOURS[place], label=label)  # fmt: skip
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(shown)), shown, rotation=40, ha="right")
        axes.set_title(f"{TITLES[name]}, {runs['seed'].nunique()} seeds", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.5, alpha=0.4)
        print(f"\n{name}: {runs['seed'].nunique()} seeds")
        print(gaps[["setting", "metric", "mean", "low", "high", "shows"]].round(3).to_string())
        print(intervals(runs[runs["setting"] == "all × 1"], "setting", list(METRICS)).round(3))
        path = RESULTS / f"forgetting_{name}.csv"
        if path.exists():
            lost = pd.read_csv(path)
            print(intervals(lost, ["replay", "factor"], ["before", "forgotten", "second"])
                  .round(3).to_string())  # fmt: skip
    panels[0].set_ylabel("score minus that of all factors at 1\n95 % interval, paired by seed")
    panels[-1].legend(frameon=False, loc="best", fontsize=8)
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / "grad_factor.png", dpi=110)


if __name__ == "__main__":
    main()
