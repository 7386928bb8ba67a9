"""How sure a mean over seeds is, a difference between two settings, and what follows from it.

Needs tables of runs alone, neither spaCy nor torch: notebooks and reports use the same functions.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import sub
from typing import Any

import numpy as np
import pandas as pd

FEWEST = 3  # seeds for an interval: two give a t quantile of 12.7, which tells nothing
VERDICT = ["metric", "answer", "mean", "low", "high", "n", "more_seeds", "sentence"]
MOST = 1000  # further seeds that a verdict would ask for


def verdict(
    differences: Sequence[float],
    metric: str = "score",
    *,
    of: str = "independent",
    against: str = "shared",
    margin: float = 0.01,
    level: float = 0.95,
) -> dict[str, Any]:
    """Judge one task from the differences independent − shared, one per seed, or of any two.

    An interval within ±margin says *no difference*, even where it leaves out 0: the difference is
    too small to matter. Otherwise the side of 0 that the interval is on decides. Equivalence by an
    interval is from Schuirmann, "A comparison of the two one-sided tests procedure", 1987,
    https://doi.org/10.1007/BF01068419.

    Args:
        differences: missing ones (NaN) are left out.
        metric: what to call the score.
        of: the setting looked at.
        against: the setting taken from it.
        margin: the largest difference that does not matter to you; at 0 every one matters.
        level: of confidence.

    Returns:
        ``metric``; ``answer``: "share", "keep apart" (for other settings "NAME is better"), "no
        difference" (none as large as the margin) or "cannot tell"; ``mean``, ``low`` and ``high``
        of Student's interval, whose ends are NaN below three seeds; ``n`` pairs of runs;
        ``more_seeds``: about how many more would settle it, 0 where it is settled; ``sentence``:
        the same in words.

    Raises:
        ValueError: the margin is below 0, or there is no difference at all.
    """
    values = np.asarray(differences, dtype=float)
    values = values[~np.isnan(values)]
    if not margin >= 0 or not len(values):
        raise ValueError(
            f"verdict on {metric}: expected a margin of 0 or more and at least one pair of runs, "
            f"got margin {margin} and {len(values)} pairs. Train both ways with the same seeds."
        )
    n, mean = len(values), float(values.mean())
    spread = float(values.std(ddof=1)) if n > 1 else np.nan
    half = _half_width(spread, n, level)
    told = f"{of} − {against} is {mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f}, {n} seeds)"
    found = _answer(mean, half, margin)
    more = _more_seeds(mean, spread, n, margin, level) if found == "cannot tell" else 0
    sides = {"better": f"{of} is better", "worse": f"{against} is better"}
    if (of, against) == ("independent", "shared"):
        sides = {"better": "keep apart", "worse": "share"}
    answer = sides.get(found, found)
    says = {
        "no difference": f"no difference worth {margin:g}: {told}",
        "cannot tell": f"cannot tell, about {more} more seed{'s' * (more > 1)} needed: {told}",
    }
    if n < FEWEST:
        says["cannot tell"] = f"cannot tell from {n} seed(s): at least {more} more"
    sentence = f"{metric}: {says.get(answer, f'{answer}: {told}')}."
    row = (metric, answer, mean, mean - half, mean + half, n, more, sentence)
    return dict(zip(VERDICT, row, strict=True))


def verdicts(
    runs: pd.DataFrame,
    metrics: Sequence[str],
    *,
    of: str = "independent",
    against: str = "shared",
    by: str = "sharing",
    paired: str = "seed",
    margin: float = 0.01,
    level: float = 0.95,
) -> pd.DataFrame:
    """Judge several tasks from a table of runs; see `verdict`.

    Returns:
        One row per metric with a pair of runs; its columns are the keys of a `verdict`.

    Raises:
        ValueError: names every column that the runs lack.
    """
    gaps = sub(*_sides(runs, metrics, of, against, by, paired))
    rows = [
        verdict(gaps[metric].to_list(), metric, of=of, against=against, margin=margin, level=level)
        for metric in metrics
        if gaps[metric].notna().any()
    ]
    return pd.DataFrame(rows, columns=VERDICT)


def intervals(
    runs: pd.DataFrame, by: str | Sequence[str], metric: str | Sequence[str], level: float = 0.95
) -> pd.DataFrame:
    """Average over seeds, with Student's t interval of the mean.

    Args:
        runs: one row per run, as `compare` or ``trfnb.results`` give it.
        by: columns that tell the compared settings apart; the other columns are averaged over.
        metric: one or more numeric columns; missing values are left out.
        level: of confidence.

    Returns:
        One row per setting and metric: the ``by`` columns, ``metric``, ``mean``, ``low``, ``high``
        and the number of runs ``n``. Below three runs ``low`` and ``high`` are NaN.

    Raises:
        ValueError: names every column that the runs lack.
    """
    by = [by] if isinstance(by, str) else list(by)
    metrics = [metric] if isinstance(metric, str) else list(metric)
    _check(runs, [*by, *metrics])
    groups = pd.concat(
        runs[name]
        .astype(float)
        .groupby([runs[column] for column in by], sort=False)
        .agg(["mean", "std", "count"])
        .assign(metric=name)
        for name in metrics
    )
    groups = groups[groups["count"] > 0].set_index("metric", append=True)
    spreads = zip(groups["std"], groups["count"], strict=True)
    half = np.array([_half_width(spread, n, level) for spread, n in spreads])
    mean = groups["mean"].to_numpy()
    means = pd.DataFrame(
        {"mean": mean, "low": mean - half, "high": mean + half, "n": groups["count"].to_numpy()}
    )
    return pd.concat([groups.index.to_frame(index=False), means], axis=1)


def differences(
    runs: pd.DataFrame,
    metric: str | Sequence[str],
    *,
    of: str,
    against: str,
    by: str = "sharing",
    paired: str = "seed",
    level: float = 0.95,
    margin: float | None = None,
) -> pd.DataFrame:
    """Average the difference between two settings over the seeds that both have.

    Args:
        runs: one row per run.
        metric: one or more numeric columns.
        of: the setting looked at.
        against: the setting it is compared with.
        by: the column that holds the two.
        paired: the column that tells which runs belong together.
        level: of confidence.
        margin: the largest difference that does not matter to you, for a column ``answer``.

    Returns:
        One row per metric with a pair of runs: ``metric``, ``mean``, ``low``, ``high``, ``n`` of
        the difference, and ``shows``: ``"more"`` or ``"less"`` where the interval leaves out 0,
        else ``"open"``. With a margin also ``answer``, by the rule of `verdict`: ``"better"`` or
        ``"worse"``, ``"no difference"`` or ``"cannot tell"``.

    Raises:
        ValueError: the margin is below 0, or the runs lack columns, which are named.
    """
    if margin is not None and not margin >= 0:
        raise ValueError(f"differences expected a margin of 0 or more, got {margin}.")
    metrics = [metric] if isinstance(metric, str) else list(metric)
    gaps = sub(*_sides(runs, metrics, of, against, by, paired)).assign(pair="of")
    table = intervals(gaps, "pair", metrics, level).drop(columns="pair")
    table["shows"] = np.select([table["low"] > 0, table["high"] < 0], ["more", "less"], "open")
    if margin is not None:
        ends = zip(table["mean"], table["high"] - table["mean"], strict=True)
        table["answer"] = [_answer(mean, half, margin) for mean, half in ends]
    return table


def prediction(claim: str, answers: Iterable[str], *expected: str, says: str = "") -> str:
    """Tell in a sentence whether a prediction held, from the answers of its comparisons.

    It held where every answer is an expected one, did not where one is settled otherwise; in
    between it cannot be told. Without comparisons it was not asked.

    Args:
        claim: the prediction, a sentence without its full stop.
        answers: one per comparison, such as `differences` gives with a margin.
        expected: the answers that the prediction foretold.
        says: the numbers behind it, in whole sentences.
    """
    answers = list(answers)
    if not answers:
        return f"{claim}: not asked. {says}".rstrip()
    n_held = sum(answer in expected for answer in answers)
    n_open = sum(answer == "cannot tell" and answer not in expected for answer in answers)
    told = "cannot tell" if n_held + n_open == len(answers) else "did not hold"
    told = "held" if n_held == len(answers) else told
    counted = f"{n_held} of {len(answers)} comparisons as predicted, {n_open} open"
    return f"{claim}: **{told}** ({counted}). {says}".rstrip()


def summary(table: pd.DataFrame, by: str = "sharing", digits: int = 3) -> pd.DataFrame:
    """Lay intervals out to be read: a row per metric, a column per setting, ``mean ± half``."""

    def text(mean: float, half: float) -> str:
        # Decimals that leave about as many significant digits to a number above 1.
        decimals = max(0, digits - int(np.log10(max(abs(mean), 1))))
        return f"{mean:,.{decimals}f}" + ("" if np.isnan(half) else f" ± {half:,.{decimals}f}")

    half = (table["high"] - table["low"]) / 2
    cells = [text(m, h) for m, h in zip(table["mean"], half, strict=True)]
    wide = table.assign(text=cells).pivot(index="metric", columns=by, values="text")
    return wide.loc[table["metric"].unique(), table[by].unique()]


def bootstrap(
    score: Callable[[np.ndarray], float],
    n: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a score over resampled test sentences.

    It tells what another test set of this size might show of these very pipelines; not what
    another seed would. After Efron, "Bootstrap methods", 1979.

    Args:
        score: of the sentences with the given numbers, drawn with replacement from 0 to n − 1;
            for two pipelines the difference of their scores on the same sentences.
        n: test sentences.
        resamples: how often to draw.
        level: of confidence.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    scores = [score(rng.integers(n, size=n)) for _ in range(resamples)]
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def t_quantile(level: float, freedom: int) -> float:
    """Return t such that Student's distribution holds ``level`` of its mass within ±t.

    With t = √freedom · tan θ the density becomes cos^(freedom-1) θ, which is summed on a grid:
    good to four digits, and no statistics package needed.
    """
    theta = np.linspace(0, np.pi / 2, 200_001)
    mass = np.cumsum(np.cos(theta) ** (freedom - 1))
    return float(np.sqrt(freedom) * np.tan(np.interp(level, mass / mass[-1], theta)))


def _half_width(spread: float, n: int, level: float) -> float:
    return np.nan if n < FEWEST else t_quantile(level, n - 1) * spread / n**0.5


def _answer(mean: float, half: float, margin: float) -> str:
    if abs(mean) + half < margin or mean == half == 0:  # alike to the last digit, at any margin
        return "no difference"
    if abs(mean) > half:
        return "better" if mean > 0 else "worse"
    return "cannot tell"  # also where there is no interval


# Return how many more seeds settle it if mean and spread stay as they are; at most MOST.
def _more_seeds(mean: float, spread: float, n: int, margin: float, level: float) -> int:
    if n < FEWEST:
        return FEWEST - n
    for more in np.unique(np.geomspace(1, MOST, 60).astype(int)):
        if _answer(mean, _half_width(spread, n + more, level), margin) != "cannot tell":
            return int(more)
    return MOST


# Return each setting's scores by seed: a pair is one seed, whatever else varies.
def _sides(
    runs: pd.DataFrame, metrics: Sequence[str], of: str, against: str, by: str, paired: str
) -> list[pd.DataFrame]:
    _check(runs, [by, paired, *metrics])
    return [runs[runs[by] == side].groupby(paired)[[*metrics]].mean() for side in (of, against)]


def _check(runs: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in runs]:
        raise ValueError(f"No columns {missing} in these runs; they have {list(runs.columns)}.")


def spreads(
    runs: pd.DataFrame,
    metrics: Sequence[str],
    *,
    of: str,
    against: str,
    by: str = "sharing",
    paired: str = "seed",
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare how much two settings vary over the seeds that both have.

    The interval is Pitman's for two standard deviations of correlated values ("A note on normal
    correlation", 1939, https://doi.org/10.1093/biomet/31.1-2.9), the paired form of the F ratio:
    runs of one seed read the same sentences in the same order. It assumes that the pairs of scores
    are normally distributed; a few outlying seeds widen or shift it more than they do for a mean.

    Args:
        runs: one row per run.
        metrics: numeric columns.
        of: the setting looked at.
        against: the setting it is compared with.
        by: the column that holds the two.
        paired: the column that tells which runs belong together.
        level: of confidence.

    Returns:
        One row per metric: ``metric``, ``ratio`` of the standard deviations, ``low``, ``high`` and
        the number of pairs ``n``. Below three pairs ``low`` and ``high`` are NaN.

    Raises:
        ValueError: names every column that the runs lack.
    """
    sides = _sides(runs, metrics, of, against, by, paired)
    rows = []
    for name in metrics:
        pairs = pd.concat([side[name] for side in sides], axis=1, keys=[of, against]).dropna()
        n, r = len(pairs), float(pairs.corr().to_numpy()[0, 1])
        ratio = (pairs.std() / pairs[against].std())[of]
        t = np.nan if n < FEWEST else t_quantile(level, n - 2)
        factor = np.exp(np.arccosh(1 + 2 * (1 - r**2) * t**2 / max(n - 2, 1)) / 2)
        rows.append((name, ratio, ratio / factor, ratio * factor, n))
    return pd.DataFrame(rows, columns=["metric", "ratio", "low", "high", "n"])
