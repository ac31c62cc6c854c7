r"""How many problems and samples it takes to see a change.

Two runs are compared on N problems, n samples of each. The variance of the mean difference is

    V / N,   V = Var(true differences of problems) + E[noise of both runs' samples],

the first from how differently training moves the problems, the second, which alone falls with n,
from the exact variance of the unbiased estimate at each problem's accuracy. A change x is seen with
the wanted power at

    N = V (t_{1-a/2} + t_power)^2 / x^2,

Student's t with N - 1 degrees of freedom, and a the error rate shared (Bonferroni) between the
measures and runs that the verdict judges together [1]. The verdict's own adjustment gives away
less, so the plan errs towards more problems.

References
----------
1. Cohen (1988), Statistical Power Analysis for the Behavioral Sciences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special

from passk_lab.metrics._hypergeometric import binomial_pmf
from passk_lab.metrics.passk import pass_at_k
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import PathLike
from passk_lab.stats.betabinomial import fit_beta_binomial
from passk_lab.stats.values import default_ks

__all__ = ["Plan", "plan"]

Floats = npt.NDArray[np.float64]
Noise = Callable[[int], float]

_PROBLEMS = 400  # that stand for the law of difficulty
_DRAWS = 400  # of a problem's answers
SPREAD = 0.5  # in log-odds: how differently training moves problems of one difficulty


@dataclass(frozen=True)
class Plan:
    """What it takes to see a change.

    Attributes
    ----------
    table : DataFrame
        Columns ``measure, change, spread, n_samples, problems, share_problems, power``, a row a
        number of samples: the problems needed; which share of the variance comes from how
        differently training moves problems (the rest from sampling); the power with as many
        problems as the pilot has, NaN without a pilot.
    sentence : str
        Which helps more, more problems or more samples.
    """

    table: pd.DataFrame
    sentence: str


def plan(
    pilot: pd.DataFrame | PathLike | tuple[float, float],
    change: float,
    measure: str = "pass@1",
    *,
    n_samples: Sequence[int] | None = None,
    spread: float = SPREAD,
    power: float = 0.8,
    confidence: float = 0.95,
    n_runs: int = 1,
) -> Plan:
    """Say how many problems and samples show a change of pass@k or of distinct@k.

    Parameters
    ----------
    pilot : DataFrame or path, or (float, float)
        Rollouts or counts of one run, from which the problems' difficulty is taken: for pass@k
        by a beta-binomial fit, so that the noise of the pilot's samples is not taken for
        differences between problems; for distinct@k the shares of its correct answers as observed.
        Without a pilot (a, b): accuracies follow Beta(a, b).
    change : float
        To be seen: of the mean over problems, such as 0.05.
    measure : str
        "pass@1", "pass@64", "distinct@64", ...
    n_samples : sequence of int, optional
        Numbers of samples to plan for; default: k, 2 k, 4 k, ... (from 1 to 64 for k = 1).
    spread : float
        Of pass@k: training adds a constant to a problem's log-odds, and a normal deviation of this
        size. 0 takes it to move all problems of one difficulty alike, which is optimistic.
        Answers are sharpened or flattened alike, p^gamma.
    power, confidence : float
    n_runs : int
        Runs that will be compared with the baseline together.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        The pilot has several runs or too few samples; the measure is unknown; the change is 0 or
        larger than there is room for.

    Examples
    --------
    >>> found = plan((0.5, 1), change=0.05, n_samples=[1, 8, 64])
    >>> found.table[["n_samples", "problems"]].values.tolist()
    [[1, 1057], [8, 159], [64, 47]]
    """
    name, _, text = measure.partition("@")
    if name not in ("pass", "distinct") or not text.isdecimal() or int(text) < 1:
        raise ValueError(f"measure={measure!r} is neither pass@K nor distinct@K, such as pass@64")
    if not change or not math.isfinite(change):
        raise ValueError(f"change={change} must be a number other than 0")
    if not (0 < power < 1 and 0 < confidence < 1 and spread >= 0 and n_runs >= 1):
        raise ValueError(
            f"power={power} and confidence={confidence} must lie between 0 and 1, spread={spread} "
            f"must not be negative, and n_runs={n_runs} at least 1"
        )
    k = int(text)
    counts = None if isinstance(pilot, tuple) else _one_run(pilot, name == "distinct")
    if name == "pass":
        law = pilot if isinstance(pilot, tuple) else None
        between, noise = _accuracy(_accuracies(counts, law), k, change, spread)
    elif counts is None:
        raise ValueError("distinct answers need a pilot with the column 'answer'")
    else:
        between, noise = _answers(counts, k, change)
    measures = 3 if counts is not None and "correct_mode_counts" in counts else 2
    alpha = (1 - confidence) / (n_runs * measures)
    rows: list[dict[str, Any]] = []
    for size in _sizes(k, n_samples):
        variance = between + noise(size)
        rows.append(
            {
                "measure": measure,
                "change": change,
                "spread": spread,
                "n_samples": size,
                "problems": _needed(variance, change, alpha, power),
                "share_problems": between / variance if variance > 0 else np.nan,
                "power": np.nan if counts is None else _power(variance, change, alpha, len(counts)),
            }
        )
    table = pd.DataFrame(rows)
    at = len(rows) // 2
    doubled = _needed(between + noise(2 * rows[at]["n_samples"]), change, alpha, power)
    return Plan(table, _sentence(rows[at], doubled))


def _sizes(k: int, n_samples: Sequence[int] | None) -> list[int]:
    if n_samples is None:
        return default_ks(64) if k == 1 else [k, 2 * k, 4 * k, 8 * k]
    sizes = sorted(set(n_samples))
    if not sizes or sizes[0] < k:
        raise ValueError(f"n_samples={sizes} must be at least k={k}")
    return sizes


def _one_run(pilot: pd.DataFrame | PathLike, modes: bool) -> pd.DataFrame:
    counts = as_counts(pilot, modes=modes or None)
    for name in ("run", "split"):
        found = list(dict.fromkeys(counts[name].astype(str)))
        if len(found) > 1:
            raise ValueError(f"the pilot has several {name}s ({', '.join(found)}); take one")
    if len(counts) < 2:
        raise ValueError("a pilot of one problem says nothing about how problems differ")
    return counts


def _accuracies(counts: pd.DataFrame | None, difficulty: tuple[float, float] | None) -> Floats:
    """Quantiles of the law of difficulty."""
    places = (np.arange(_PROBLEMS) + 0.5) / _PROBLEMS
    if counts is None:
        assert difficulty is not None
        if min(difficulty) <= 0:
            raise ValueError(f"difficulty={difficulty}: a and b must be positive")
        return np.asarray(special.betaincinv(*difficulty, places))
    n, c = (counts[name].to_numpy(np.int64) for name in ("n_samples", "n_correct"))
    if n.max() == 1:
        raise ValueError("a pilot with one sample a problem doesn't show how problems differ")
    fit = fit_beta_binomial(n, c)
    if fit.limit == "binomial":
        return np.full(_PROBLEMS, fit.mean)
    if fit.limit == "two-point":
        return (places > 1 - fit.mean).astype(float)
    return np.asarray(special.betaincinv(fit.alpha, fit.beta, places))


def _accuracy(p: Floats, k: int, change: float, spread: float) -> tuple[float, Noise]:
    """Variance of the true differences of pass@k, and that of their estimates by n."""
    deviations = spread * special.ndtri((np.arange(len(p)) * 0.618033988749895 + 0.5) % 1)
    before = 1 - (1 - p) ** k
    odds = special.logit(np.clip(p, 1e-12, 1 - 1e-12))

    def moved(shift: float) -> Floats:
        return np.asarray(special.expit(odds + deviations + shift))

    def gap(shift: float) -> float:
        return float((1 - (1 - moved(shift)) ** k - before).mean()) - change

    if gap(-60) > 0 or gap(60) < 0:
        limits = f"between {gap(-60) + change:.3f} and {gap(60) + change:+.3f}"
        raise ValueError(f"change={change:+g}: pass@{k} can change by {limits} only")
    after = moved(optimize.brentq(gap, -60, 60))

    def noise(n: int) -> float:
        values = pass_at_k(n, np.arange(n + 1), k)
        total = 0.0
        for accuracy in (p, after):
            weights = binomial_pmf(np.arange(n + 1), n, accuracy[:, None])
            total += float((weights @ values**2 - (weights @ values) ** 2).mean())
        return total

    return float((1 - (1 - after) ** k - before).var()), noise


def _answers(counts: pd.DataFrame, k: int, change: float) -> tuple[float, Noise]:
    """The same of distinct@k, whose answers get sharper or flatter."""
    cells = [
        np.asarray(modes, dtype=float) / n
        for modes, n in zip(counts["correct_mode_counts"], counts["n_samples"], strict=True)
    ]

    def moved(gamma: float) -> list[Floats]:
        powers = [(cell / max(cell.max(initial=0), 1e-300)) ** gamma for cell in cells]
        return [
            cell.sum() * part / max(part.sum(), 1e-300)
            for cell, part in zip(cells, powers, strict=True)
        ]

    def distinct(parts: Sequence[Floats]) -> Floats:
        return np.array([(1 - (1 - part) ** k).sum() for part in parts])

    def gap(log_gamma: float) -> float:
        return float((distinct(moved(np.exp(log_gamma))) - distinct(cells)).mean()) - change

    if gap(-8) < 0 or gap(8) > 0:
        limits = f"between {gap(8) + change:.2f} and {gap(-8) + change:+.2f}"
        raise ValueError(f"change={change:+g}: distinct@{k} can change by {limits} only")
    after = moved(np.exp(optimize.brentq(gap, -8, 8)))

    def noise(n: int) -> float:
        rng = np.random.default_rng(0)
        values = pass_at_k(n, np.arange(n + 1), k)
        total = 0.0
        for parts in (cells, after):
            for part in parts:
                drawn = rng.multinomial(n, [*part, max(0.0, 1 - part.sum())], _DRAWS)[:, :-1]
                total += float(values[drawn].sum(axis=1).var(ddof=1))
        return total / len(cells)

    return float((distinct(after) - distinct(cells)).var()), noise


def _needed(variance: float, change: float, alpha: float, power: float) -> int:
    """Problems that show the change."""
    size = 4.0
    for _ in range(60):
        t = special.stdtrit(max(size - 1, 1), [1 - alpha / 2, power]).sum()
        size = max(4.0, 0.5 * (size + variance * t**2 / change**2))
    return math.ceil(size - 1e-6)


def _power(variance: float, change: float, alpha: float, n_problems: int) -> float:
    if variance == 0:
        return 1.0
    limit = special.stdtrit(n_problems - 1, 1 - alpha / 2)
    shift = abs(change) * (n_problems / variance) ** 0.5
    return float(1 - special.nctdtr(n_problems - 1, shift, limit))


def _sentence(row: Mapping[str, Any], doubled: int) -> str:
    """Compare twice the problems with twice the samples."""
    share = f"{100 * row['share_problems']:.0f} %"
    first = (
        f"With {row['n_samples']:,} samples a problem {row['problems']:,} problems are needed, "
        f"with twice the samples {doubled:,}."
    )
    if doubled > 0.75 * row["problems"]:
        return (
            f"{first} More problems help most: {share} of the variance comes from how differently "
            "training moves them, which no number of samples lowers."
        )
    return (
        f"{first} More samples help almost as much as more problems: only {share} of the variance "
        "comes from how differently training moves them."
    )
