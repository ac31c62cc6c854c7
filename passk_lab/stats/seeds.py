"""Curves and differences of methods that were trained with several seeds.

A method's value is the mean over its training seeds and over problems, and both vary: another
seed would have trained another model, other problems would have been easier or harder. As every
seed is evaluated on the same problems, the bootstrap resamples the two independently (crossed, not
nested). Of S seeds it draws S - 1 with replacement, which makes the variance of their mean the
unbiased one, s^2 / S; drawing all S would miss a third of it at S = 3 [1]_.

Coverage of nominal 95 % intervals over 60 problems, in simulations (1,500 each; the unit is the
standard deviation between problems, and that of the rest): 97 to 98 % where seeds differ by 0.1
or less, for the rest's noise is counted twice; 97 % at 0.2; 88 % at 0.6 with three seeds, for
percentiles know no Student's t with two degrees of freedom. With 8 seeds that differ by 0.1: 97 %.

.. [1] J. N. K. Rao and C. F. J. Wu, Resampling inference with complex survey data, JASA 83 (1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats.compare import crossing_point
from passk_lab.stats.curves import problem_values
from passk_lab.stats.intervals import percentiles

__all__ = [
    "check_same_problems",
    "crossed_bootstrap",
    "matched_differences",
    "problem_weights",
    "seed_crossings",
    "seed_curve",
    "seed_differences",
    "seed_replicates",
    "seed_values",
    "values_curve",
]

Floats = npt.NDArray[np.float64]
RandomState = int | np.random.Generator | None
# Group -> problems [P], k [K] and values [S, P, K].
SeedValues = dict[tuple[Any, ...], tuple[npt.NDArray[np.object_], npt.NDArray[np.int64], Floats]]


def seed_replicates(
    values: npt.ArrayLike,
    problem_weights: npt.ArrayLike,
    rng: np.random.Generator,
) -> Floats:
    """Means over resampled seeds and given weights of the problems.

    Parameters
    ----------
    values : array_like, shape (n_seeds, n_problems, n_columns)
    problem_weights : array_like, shape (n_resamples, n_problems)
        Each row sums to 1; the same for runs that are compared, which pairs them.
    rng : Generator
        Draws the seeds.

    Returns
    -------
    array, shape (n_resamples, n_columns)
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.asarray(problem_weights, dtype=np.float64)
    n_seeds = len(values)
    drawn = max(n_seeds - 1, 1)
    shares = rng.multinomial(drawn, np.full(n_seeds, 1 / n_seeds), size=len(weights)) / drawn
    replicates = np.zeros((len(weights), values.shape[2]))
    for share, of_seed in zip(shares.T, values, strict=True):
        replicates += share[:, None] * (weights @ of_seed)
    return replicates


def crossed_bootstrap(
    values: npt.ArrayLike,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    random_state: RandomState = None,
) -> tuple[Floats, Floats]:
    """Interval of the mean over seeds and problems.

    Parameters
    ----------
    values : array_like, shape (n_seeds, n_problems, n_columns)
        With one seed, only the problems vary.
    n_resamples : int
    confidence : float
    random_state : int, Generator or None

    Returns
    -------
    low, high : array, shape (n_columns,)

    Raises
    ------
    ValueError
        The array has another number of axes, no entry or a missing one.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(3, 100, 1))
    >>> low, high = crossed_bootstrap(values, random_state=0)
    >>> bool(low[0] < values.mean() < high[0])
    True
    """
    values = _complete(values)
    rng = np.random.default_rng(random_state)
    weights = problem_weights(values.shape[1], n_resamples, rng)
    return percentiles(seed_replicates(values, weights, rng), confidence, values.shape[1])


def _complete(values: npt.ArrayLike) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or not values.size:
        raise ValueError(
            f"values must have the axes seed, problem and column, got the shape {values.shape}"
        )
    if np.isnan(values).any():
        raise ValueError("values holds NaN; every seed needs a value for every problem")
    return values


def problem_weights(n_problems: int, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Weights of resampled problems, each row summing to 1, shape (n_resamples, n_problems)."""
    uniform = np.full(n_problems, 1 / n_problems)
    return rng.multinomial(n_problems, uniform, size=n_resamples) / n_problems


def seed_values(
    rollouts: pd.DataFrame | PathLike,
    metric: str = "pass_at_k",
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    **options: Any,
) -> SeedValues:
    """Compute a metric of each seed and problem.

    Parameters
    ----------
    rollouts, metric, k, **options
        As for `passk_lab.metric_curve`; the table needs the column ``seed``.
    by : sequence of str
        Columns that tell curves apart, ``seed`` not among them.

    Returns
    -------
    dict
        Group -> problems [P], k [K] and values [S, P, K].

    Raises
    ------
    ValueError
        The seeds of a group were evaluated on different problems; the message names one.
    """
    if "seed" in by:
        raise ValueError("by holds 'seed', over which these functions average; leave it out")
    gathered: dict[tuple[Any, ...], list[Any]] = {}
    for found in problem_values(rollouts, metric, k, [*by, "seed"], **options):
        gathered.setdefault(found.group[:-1], []).append(found)
    stacked = {}
    for group, seeds in gathered.items():
        first = seeds[0]
        check_same_problems([(found.group[-1], found.problem_id) for found in seeds], group)
        if any(not np.array_equal(first.k, other.k) for other in seeds[1:]):
            raise ValueError(f"the seeds of {group} have different numbers of samples; give k")
        stacked[group] = first.problem_id, first.k, np.stack([s.values for s in seeds])
    return stacked


def seed_curve(
    rollouts: pd.DataFrame | PathLike,
    metric: str = "pass_at_k",
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
    **options: Any,
) -> pd.DataFrame:
    """Mean of a metric over seeds and problems, with the interval of `crossed_bootstrap`.

    Parameters
    ----------
    rollouts, metric, k, by, confidence, n_resamples, random_state, **options
        As for `passk_lab.metric_curve`; the table needs the column ``seed``.

    Returns
    -------
    DataFrame
        Columns ``*by, k, estimate, low, high, n_problems, n_seeds``.

    Examples
    --------
    >>> table = pd.DataFrame({"problem_id": list("aabb") * 2, "seed": [0] * 4 + [1] * 4,
    ...                       "correct": [True, False, True, True, False, False, True, True]})
    >>> seed_curve(table, k=1, random_state=0)[["run", "k", "estimate", "n_seeds"]]
           run  k  estimate  n_seeds
    0  default  1     0.625        2
    """
    values = seed_values(rollouts, metric, k, by, **options)
    return values_curve(values, by, confidence, n_resamples, random_state)


def check_same_problems(
    seeds: Sequence[tuple[Any, npt.NDArray[np.object_]]], group: tuple[Any, ...]
) -> None:
    """Refuse seeds (each with its problems) that weren't evaluated on the same problems."""
    first, problems = seeds[0]
    for seed, others in seeds[1:]:
        odd = set(problems) ^ set(others)
        if odd:
            raise ValueError(
                f"seeds {first} and {seed} of {group} differ in problem {min(odd)!r}; evaluate "
                "every seed on the same problems"
            )


def values_curve(
    values: SeedValues,
    by: Sequence[str],
    confidence: float,
    n_resamples: int,
    random_state: RandomState,
) -> pd.DataFrame:
    """Means of what `seed_values` gives, as the table of `seed_curve`.

    Groups with equally many problems share their resampled weights.
    """
    rng = np.random.default_rng(random_state)
    shared: dict[int, Floats] = {}
    parts = []
    for group, (problems, ks, array) in values.items():
        size = len(problems)
        if size not in shared:
            shared[size] = problem_weights(size, n_resamples, rng)
        drawn = seed_replicates(_complete(array), shared[size], rng)
        low, high = percentiles(drawn, confidence, size)
        parts.append(
            pd.DataFrame(
                {
                    **dict(zip(by, group, strict=True)),
                    "k": ks,
                    "estimate": array.mean(axis=(0, 1)),
                    "low": low,
                    "high": high,
                    "n_problems": len(problems),
                    "n_seeds": len(array),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def seed_differences(
    values: Mapping[str, npt.ArrayLike],
    baseline: str,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Difference and ratio of every run to a baseline, paired by problem.

    Parameters
    ----------
    values : mapping of str to array_like, shape (n_seeds, n_problems, n_columns)
        A run's values; the problems are the same, in the same order. The number of seeds may
        differ.
    baseline : str
        A key of ``values``.
    confidence, n_resamples, random_state
        As for `crossed_bootstrap`.

    Returns
    -------
    DataFrame
        Columns ``run, column, estimate, difference, low, high, ratio, ratio_low, ratio_high``;
        the ratio is that of the means.

    Raises
    ------
    ValueError
        The baseline is missing; numbers of problems or columns differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = {"base": rng.random((3, 50, 1)), "sdsd": 1 + rng.random((3, 50, 1))}
    >>> seed_differences(values, "base", random_state=0)[["run", "column"]].values.tolist()
    [['sdsd', 0]]
    """
    arrays = _same_shape(values, baseline)
    shape = arrays[baseline].shape[1:]
    rng = np.random.default_rng(random_state)
    weights = problem_weights(shape[0], n_resamples, rng)
    base_mean = arrays[baseline].mean(axis=(0, 1))
    base_drawn = seed_replicates(arrays[baseline], weights, rng)
    parts = []
    for run, array in arrays.items():
        if run == baseline:
            continue
        mean = array.mean(axis=(0, 1))
        drawn = seed_replicates(array, weights, rng)
        low, high = percentiles(drawn - base_drawn, confidence, shape[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio_low, ratio_high = percentiles(drawn / base_drawn, confidence, shape[0])
            ratio = mean / base_mean
        parts.append(
            pd.DataFrame(
                {
                    "run": run,
                    "column": np.arange(shape[1]),
                    "estimate": mean,
                    "difference": mean - base_mean,
                    "low": low,
                    "high": high,
                    "ratio": ratio,
                    "ratio_low": ratio_low,
                    "ratio_high": ratio_high,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def seed_crossings(
    values: Mapping[str, npt.ArrayLike],
    baseline: str,
    k: Sequence[int],
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Where every run's curve over k crosses the baseline's.

    Parameters
    ----------
    values, baseline, confidence, n_resamples, random_state
        As for `seed_differences`; the columns are values of k.
    k : sequence of int, length n_columns
        Ascending. The crossing point is interpolated between them on a log scale.

    Returns
    -------
    DataFrame
        Columns ``run, k_cross, low, high, share``, see `passk_lab.stats.compare.Comparison`.

    Raises
    ------
    ValueError
        As for `seed_differences`; k doesn't fit the columns.

    Examples
    --------
    >>> values = {"base": np.full((1, 5, 2), [0.4, 0.9]), "sdsd": np.full((1, 5, 2), [0.6, 0.7])}
    >>> seed_crossings(values, "base", [1, 4], n_resamples=10)[["run", "k_cross"]]
        run  k_cross
    0  sdsd      2.0
    """
    arrays = _same_shape(values, baseline)
    n_problems, n_columns = arrays[baseline].shape[1:]
    if len(k) != n_columns:
        raise ValueError(f"{len(k)} values of k for {n_columns} columns")
    rng = np.random.default_rng(random_state)
    weights = problem_weights(n_problems, n_resamples, rng)
    base_mean = arrays[baseline].mean(axis=(0, 1))
    base_drawn = seed_replicates(arrays[baseline], weights, rng)
    rows = []
    for run, array in arrays.items():
        if run != baseline:
            gap = array.mean(axis=(0, 1)) - base_mean
            drawn = seed_replicates(array, weights, rng) - base_drawn
            found = crossing_point(np.asarray(k), gap, drawn, confidence)
            rows.append({"run": run, **found})
    return pd.DataFrame(rows)


def _same_shape(values: Mapping[str, npt.ArrayLike], baseline: str) -> dict[str, Floats]:
    arrays = {run: np.asarray(array, dtype=np.float64) for run, array in values.items()}
    if baseline not in arrays:
        raise ValueError(f"baseline {baseline!r} is none of {', '.join(arrays)}")
    shape = arrays[baseline].shape[1:]
    for run, array in arrays.items():
        if array.shape[1:] != shape:
            raise ValueError(f"{run}: shape {array.shape}, but {baseline} has {shape} a seed")
    return arrays


def matched_differences(
    accuracy: Mapping[str, npt.ArrayLike],
    quantity: Mapping[str, npt.ArrayLike],
    baseline: str,
    target: float | Mapping[str, float],
    confidence: float = 0.95,
    n_resamples: int = 2_000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Compare a quantity between training runs where they have the same accuracy.

    Each run is followed from its start to where its mean accuracy first reaches the target, with
    straight lines between checkpoints, and its quantity is read off there. The bootstrap does the
    same with resampled seeds and problems, the problems being those of the baseline's replicate.

    Parameters
    ----------
    accuracy, quantity : mapping of str to array_like, shape (n_seeds, n_problems, n_checkpoints)
        Of each run, in the order of its training.
    baseline : str
        A key of both.
    target : float or mapping of str to float
        The accuracy at which to compare, for all runs or for each.
    confidence, n_resamples, random_state
        As for `crossed_bootstrap`.

    Returns
    -------
    DataFrame
        Columns ``run, target, estimate, baseline_estimate, difference, low, high, ratio,
        ratio_low, ratio_high, reached``. ``reached`` is the share of replicates in which both
        runs reach the target; the interval is over these, and missing where they are fewer than
        ``confidence`` of all. Estimates are missing where a run doesn't reach the target.

    Raises
    ------
    ValueError
        The baseline is missing; the shapes of a run's arrays, or the numbers of problems, differ.

    Examples
    --------
    >>> accuracy = {"grpo": [[[0.4, 0.8]]], "sdsd": [[[0.4, 0.8]]]}
    >>> coverage = {"grpo": [[[0.9, 0.7]]], "sdsd": [[[0.9, 0.3]]]}
    >>> found = matched_differences(accuracy, coverage, "grpo", 0.6, n_resamples=10)
    >>> found[["run", "estimate", "baseline_estimate"]].round(3)
        run  estimate  baseline_estimate
    0  sdsd       0.6                0.8
    """
    xs = {run: np.asarray(array, dtype=np.float64) for run, array in accuracy.items()}
    ys = {run: np.asarray(array, dtype=np.float64) for run, array in quantity.items()}
    if baseline not in xs:
        raise ValueError(f"baseline {baseline!r} is none of {', '.join(xs)}")
    n_problems = xs[baseline].shape[1]
    for run, x in xs.items():
        if run not in ys or ys[run].shape != x.shape or x.ndim != 3:
            raise ValueError(f"{run}: accuracy and quantity must have the same three axes")
        if x.shape[1] != n_problems:
            raise ValueError(f"{run}: {x.shape[1]} problems, but {baseline} has {n_problems}")
    rng = np.random.default_rng(random_state)
    weights = problem_weights(n_problems, n_resamples, rng)
    # Accuracy and quantity side by side, so that they are resampled together.
    drawn = {
        run: seed_replicates(np.concatenate([x, ys[run]], axis=2), weights, rng)
        for run, x in xs.items()
    }
    rows = []
    for run in xs:
        if run == baseline:
            continue
        at = target[run] if isinstance(target, Mapping) else float(target)
        mine, other = (
            _read_off(xs[r].mean((0, 1))[None], ys[r].mean((0, 1))[None], at)[0]
            for r in (run, baseline)
        )
        replicates = [
            _read_off(drawn[r][:, : xs[r].shape[2]], drawn[r][:, xs[r].shape[2] :], at)
            for r in (run, baseline)
        ]
        both = np.isfinite(replicates[0]) & np.isfinite(replicates[1])
        row = {
            "run": run,
            "target": at,
            "estimate": mine,
            "baseline_estimate": other,
            "difference": mine - other,
            "low": np.nan,
            "high": np.nan,
            "ratio": mine / other if other else np.nan,
            "ratio_low": np.nan,
            "ratio_high": np.nan,
            "reached": both.mean(),
        }
        if both.mean() >= confidence and np.isfinite(row["difference"]):
            pair = np.column_stack([r[both] for r in replicates])
            ratio = (
                pair[:, 0] / pair[:, 1] if (pair[:, 1] > 0).all() else np.full(len(pair), np.nan)
            )
            low, high = percentiles(
                np.column_stack([pair[:, 0] - pair[:, 1], ratio]), confidence, n_problems
            )
            row |= {"low": low[0], "high": high[0], "ratio_low": low[1], "ratio_high": high[1]}
        rows.append(row)
    return pd.DataFrame(rows)


def _read_off(x: Floats, y: Floats, target: float) -> Floats:
    """Value of y where x first reaches the target along the last axis; NaN where it doesn't."""
    above = x >= target
    first = above.argmax(axis=1)
    rows = np.arange(len(x))
    before = np.maximum(first - 1, 0)
    x0, x1 = x[rows, before], x[rows, first]
    step = np.where(x1 > x0, x1 - x0, 1.0)
    share = np.where(first > 0, (target - x0) / step, 0.0)
    value = y[rows, before] + share * (y[rows, first] - y[rows, before])
    # A start that is above the target already was never at it.
    reached = above.any(axis=1) & ((first > 0) | (x[:, 0] == target))
    return np.where(reached, value, np.nan)
