"""How sure a mean over seeds is, and a difference between two settings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def intervals(
    runs: pd.DataFrame, by: str | Sequence[str], metric: str | Sequence[str], level: float = 0.95
) -> pd.DataFrame:
    """Average over seeds, with Student's t interval of the mean.

    Args:
        runs: a row a run, as `compare` or ``trfnb.results`` give it.
        by: columns that tell the compared settings apart; the other columns are averaged over.
        metric: one or more numeric columns; missing values are left out.
        level: of confidence.

    Returns:
        A row a setting and metric: the ``by`` columns, ``metric``, ``mean``, ``low``, ``high`` and
        the number of runs ``n``. With one run ``low`` and ``high`` are NaN: it tells no spread.

    Raises:
        ValueError: names every column that the runs lack.
    """
    by = [by] if isinstance(by, str) else list(by)
    metrics = [metric] if isinstance(metric, str) else list(metric)
    if missing := [name for name in [*by, *metrics] if name not in runs]:
        raise ValueError(f"intervals: no columns {missing}; the runs have {list(runs.columns)}.")
    long = runs.melt(id_vars=by, value_vars=metrics, var_name="metric", value_name="value")
    long = long.dropna(subset=["value"])
    groups = long.groupby([*by, "metric"], sort=False)["value"].agg(["mean", "std", "count"])
    n = groups["count"].to_numpy()
    half = [t_quantile(level, k - 1) if k > 1 else np.nan for k in n]
    half = np.array(half) * groups["std"].to_numpy() / np.sqrt(n)
    mean = groups["mean"].to_numpy()
    found = pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half, "n": n})
    return pd.concat([groups.index.to_frame(index=False), found], axis=1)


def differences(
    runs: pd.DataFrame,
    metric: str | Sequence[str],
    *,
    of: str,
    against: str,
    by: str = "sharing",
    paired: str = "seed",
    level: float = 0.95,
) -> pd.DataFrame:
    """Average the difference between two settings over the seeds that both have.

    Args:
        runs: a row a run.
        metric: one or more numeric columns.
        of: the setting looked at.
        against: the setting it is compared with.
        by: the column that holds the two.
        paired: the column that tells which runs belong together.
        level: of confidence.

    Returns:
        A row a metric: ``metric``, ``mean``, ``low``, ``high``, ``n`` of the difference, and
        ``shows``: ``"more"`` or ``"less"`` where the interval leaves out 0, else ``"open"``.
    """
    metrics = [metric] if isinstance(metric, str) else list(metric)
    missing = [name for name in [by, paired, *metrics] if name not in runs]
    if missing:
        raise ValueError(f"differences: no columns {missing}; the runs have {list(runs.columns)}.")
    sides = [runs[runs[by] == side].set_index(paired)[metrics] for side in (of, against)]
    gap = (sides[0] - sides[1]).dropna(how="all").reset_index(drop=True).assign(pair="of")
    table = intervals(gap, "pair", metrics, level).drop(columns="pair")
    shows = np.select([table["low"] > 0, table["high"] < 0], ["more", "less"], "open")
    return table.assign(shows=shows)


def summary(table: pd.DataFrame, by: str = "sharing", digits: int = 3) -> pd.DataFrame:
    """Lay intervals out to be read: a row a metric, a column a setting, ``mean ± half-width``."""
    half = (table["high"] - table["low"]) / 2
    text = [
        f"{mean:,.{_digits(mean, digits)}f}"
        + ("" if np.isnan(h) else f" ± {h:,.{_digits(mean, digits)}f}")
        for mean, h in zip(table["mean"], half, strict=True)
    ]
    wide = table.assign(text=text).pivot(index="metric", columns=by, values="text")
    return wide.loc[table["metric"].unique(), table[by].unique()]


def _digits(value: float, digits: int) -> int:
    """Decimals that leave about as many significant digits to a number above 1."""
    return max(0, digits - int(np.log10(max(abs(value), 1))))


def t_quantile(level: float, freedom: int) -> float:
    """Return t such that Student's distribution holds ``level`` of its mass within ±t.

    With t = √freedom · tan θ the density becomes cos^(freedom-1) θ, which is summed on a grid:
    good to four digits, and no statistics package needed.
    """
    theta = np.linspace(0, np.pi / 2, 200_001)
    mass = np.cumsum(np.cos(theta) ** (freedom - 1))
    return float(np.sqrt(freedom) * np.tan(np.interp(level, mass / mass[-1], theta)))
