"""The table and the figure of docs/explanation/vectors.md from results/vectors_accuracy.csv.

python benchmarks/vectors_figures.py
"""

from pathlib import Path

import pandas as pd

from trfnb import plots
from trfnb.statistics import differences, intervals, summary

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "vectors_accuracy.csv"
FIGURE = HERE.parent / "docs" / "figures" / "vectors_accuracy.png"
TABLES = {"words": "words", "subwords": "floret", "distilled": ""}
# Few enough to be told apart; "added" lies upon "static".
SHOWN = ("none", "static, words", "concatenated, words", "distilled", "concatenated, floret")
METRICS = {"tag_acc": "tags", "ents_f": "entities F"}


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """Name each setting by its embedding and, where there is a choice, its table."""
    tables = runs["table"].map(TABLES).fillna("")
    both = (runs["embedding"] + ", " + tables).where(tables != "", runs["embedding"])
    return runs.assign(setting=both)


def main() -> None:
    runs = named(pd.read_csv(RESULTS, keep_default_na=False, na_values=[""]))
    for size, part in runs.groupby("sentences"):
        found = intervals(part, "setting", list(METRICS))
        text = summary(found, by="setting").T.rename(columns=METRICS)
        text["runs"] = part.groupby("setting").size()
        print(f"\n{size:,} sentences")
        for setting, cells in text.iterrows():
            print("|", setting, "|", " | ".join(map(str, cells)), "|")
        for setting in text.index.drop("none", errors="ignore"):
            gap = differences(part, list(METRICS), of=setting, against="none", by="setting")
            shown = gap[["metric", "mean", "low", "high", "n", "shows"]].round(4)
            print(setting, "less none:", shown.values.tolist())
    sizes = sorted(runs["sentences"].unique())
    lines = intervals(runs[runs["setting"].isin(SHOWN)], ["setting", "sentences"], "ents_f")
    figure = plots.interval_lines(
        lines,
        "sentences",
        hue="setting",
        xlabel="training sentences",
        ylabel="entities F",
        logx=True,
    )
    axes = figure.axes[0]
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    main()
