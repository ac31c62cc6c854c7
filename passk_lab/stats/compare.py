"""Two runs on the same problems: paired differences, the crossing point, flattening."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.passk import whole_numbers
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.files import read_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike, validate_rollouts
from passk_lab.stats.curves import OF_MODES, OF_SCORES, default_ks, problem_values
from passk_lab.stats.intervals import bootstrap_replicates, percentiles

__all__ = ["Comparison", "compare_runs", "crossing_point", "problem_differences"]

Floats = npt.NDArray[np.float64]

_GRID = 64  # values of k between which the crossing point is interpolated


@dataclass(frozen=True)
class Comparison:
    """What `compare_runs` found, as tidy tables.

    Attributes
    ----------
    differences : DataFrame
        Columns ``run, split, k, baseline, estimate, difference, low, high, band_low, band_high,
        p_value, n_problems``. ``difference`` = estimate - baseline, with its interval at each k
        alone; the band covers the differences at all these k at once; ``p_value`` is two-sided,
        for no difference at this k alone.
    crossings : DataFrame
        Columns ``run, split, k_cross, low, high, share, k_max``. ``k_cross``: the last k (between
        whole numbers, on a log scale) where the curves meet; NaN if they don't up to ``k_max``.
        ``share``: share of the bootstrap replicates in which they do. ``high`` is inf where the
        interval reaches beyond ``k_max``.
    flattening : DataFrame
        Columns ``run, split, gain, gain_baseline, ratio, low, high, k_max``. ``gain`` is the rise
        from k = 1 to ``k_max``; ``ratio`` below 1 means that the run gains less from more
        samples. NaN where the baseline gains nothing.
    baseline : str
    metric : str
    """

    differences: pd.DataFrame
    crossings: pd.DataFrame
    flattening: pd.DataFrame
    baseline: str
    metric: str


def compare_runs(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | Sequence[int] | None = None,
    metric: str = "pass_at_k",
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: int | np.random.Generator | None = None,
    **options: Any,
) -> Comparison:
    """Compare every run with a baseline, problem by problem.

    Both runs keep the same resampled problems in each bootstrap replicate, so that differences
    between easy and hard problems cancel.

    Parameters
    ----------
    rollouts : DataFrame or path
        As for `passk_lab.pass_at_k_curve`, with at least two runs.
    baseline : str
        The run to compare with.
    k : int or sequence of int, optional
        Default: powers of two up to the smallest number of samples, and that number.
    metric : str
        One of `passk_lab.stats.curves.METRICS`.
    confidence, n_resamples, random_state
        As for `passk_lab.pass_at_k_curve`.
    **options
        Further arguments of the metric.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        The baseline is unknown or the only run; it shares no problem with a run.

    Warns
    -----
    UserWarning
        Problems that only one of two runs has are left out, and counted.

    Examples
    --------
    >>> import pandas as pd
    >>> base = {"run": "base", "problem_id": list("aabb"), "correct": [True, False, True, False]}
    >>> sharp = {"run": "sharp", "problem_id": list("aabb"), "correct": [True, True, False, False]}
    >>> both = pd.concat([pd.DataFrame(base), pd.DataFrame(sharp)])
    >>> found = compare_runs(both, "base", random_state=0)
    >>> found.differences[["run", "k", "baseline", "estimate", "difference"]]
         run  k  baseline  estimate  difference
    0  sharp  1       0.5       0.5         0.0
    1  sharp  2       1.0       0.5        -0.5
    """
    rng = np.random.default_rng(random_state)
    differences, crossings, flattening = [], [], []
    for run, split, mine, base, names, ks, grid in _pairs(rollouts, baseline, k, metric, options):
        replicates = bootstrap_replicates(np.hstack([mine, base]), n_resamples, rng)
        ours, theirs = replicates[:, : len(grid)], replicates[:, len(grid) :]
        at = np.searchsorted(grid, ks)
        estimate, reference = mine.mean(axis=0), base.mean(axis=0)
        label = {"run": run, "split": split}
        gap = (ours - theirs)[:, at]
        low, high = percentiles(gap, confidence, len(names))
        margin = _simultaneous_margin(gap, confidence)
        differences.append(
            pd.DataFrame(
                {
                    **label,
                    "k": ks,
                    "baseline": reference[at],
                    "estimate": estimate[at],
                    "difference": (estimate - reference)[at],
                    "low": low,
                    "high": high,
                    "band_low": (estimate - reference)[at] - margin,
                    "band_high": (estimate - reference)[at] + margin,
                    "p_value": _p_value(gap),
                    "n_problems": len(names),
                }
            )
        )
        k_max = int(grid[-1])
        crossing = crossing_point(grid, estimate - reference, ours - theirs, confidence)
        crossings.append({**label, **crossing, "k_max": k_max})
        gains = [(estimate, ours), (reference, theirs)]
        (gain, gain_b), (rise, rise_b) = zip(
            *((point[-1] - point[0], draws[:, -1] - draws[:, 0]) for point, draws in gains),
            strict=True,
        )
        flat = {"gain": gain, "gain_baseline": gain_b, "ratio": np.nan, "low": np.nan}
        flat["high"] = np.nan
        if gain_b > 0:
            flat["ratio"] = gain / gain_b
            steep = rise_b > 0
            ratios = (rise[steep] / rise_b[steep])[:, None]
            flat["low"], flat["high"] = (v[0] for v in percentiles(ratios, confidence, len(names)))
        flattening.append({**label, **flat, "k_max": k_max})
    return Comparison(
        pd.concat(differences, ignore_index=True),
        pd.DataFrame(crossings),
        pd.DataFrame(flattening),
        baseline,
        metric,
    )


def problem_differences(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | None = None,
    metric: str = "pass_at_k",
    **options: Any,
) -> pd.DataFrame:
    """Differences to the baseline problem by problem, the largest losses first.

    Parameters
    ----------
    rollouts, baseline, metric, **options
        As for `compare_runs`.
    k : int, optional
        Default: the smallest number of samples of a problem.

    Returns
    -------
    DataFrame
        Columns ``run, split, problem_id, k, baseline, estimate, difference``.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"run": ["base", "base", "rl", "rl"], "problem_id": list("abab"),
    ...                       "correct": [True, False, False, False]})
    >>> problem_differences(table, "base")[["run", "problem_id", "difference"]]
      run problem_id  difference
    0  rl          a        -1.0
    1  rl          b         0.0
    """
    parts = []
    for run, split, mine, base, names, ks, grid in _pairs(rollouts, baseline, k, metric, options):
        at = np.searchsorted(grid, ks[-1])
        part = {"run": run, "split": split, "problem_id": names, "k": ks[-1]}
        values = {"baseline": base[:, at], "estimate": mine[:, at]}
        frame = pd.DataFrame({**part, **values, "difference": mine[:, at] - base[:, at]})
        parts.append(frame.sort_values(["difference", "problem_id"], kind="stable"))
    return pd.concat(parts, ignore_index=True)


def _pairs(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | Sequence[int] | None,
    metric: str,
    options: dict[str, Any],
) -> Iterator[
    tuple[str, str, Floats, Floats, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
]:
    """For each run and split: both runs' values on the common problems, on one grid of k."""
    table = _read_once(rollouts, metric)
    runs = list(dict.fromkeys(table["run"].astype(str)))
    if baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")
    if len(runs) == 1:
        raise ValueError(
            f"baseline {baseline!r} is the only run; a comparison needs a second one (several "
            "files, or a column 'run')"
        )
    splits = {run: set(table["split"][table["run"] == run]) for run in runs}
    for run in sorted(set(runs) - {baseline}):
        for split in sorted(splits[run] - splits[baseline]):
            _warn(f"split {split!r} of run {run!r} has no baseline rollouts and is left out")
        for split in sorted(splits[run] & splits[baseline]):
            pair = table[table["run"].isin([run, baseline]) & (table["split"] == split)]
            yield run, split, *_paired(pair, run, baseline, k, metric, options)
    if not any(splits[run] & splits[baseline] for run in runs if run != baseline):
        raise ValueError(f"baseline {baseline!r} has no split in common with another run")


def _read_once(rollouts: pd.DataFrame | PathLike, metric: str) -> pd.DataFrame:
    if metric not in OF_SCORES:
        return as_counts(rollouts, MAIN_KEYS, modes=metric in OF_MODES)
    if isinstance(rollouts, pd.DataFrame):
        return validate_rollouts(rollouts)
    return read_rollouts(rollouts, columns=["score"])


def _paired(
    pair: pd.DataFrame,
    run: str,
    baseline: str,
    k: int | Sequence[int] | None,
    metric: str,
    options: dict[str, Any],
) -> tuple[Floats, Floats, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    if k is None:
        alone = problem_values(pair, metric, 1, MAIN_KEYS, **options)
        ks = np.array(default_ks(min(int(group.n_samples.min()) for group in alone)))
    else:
        ks = np.unique(whole_numbers(k, "k"))
    steps = np.geomspace(1, max(int(ks[-1]), 1), _GRID).round()
    grid = np.unique(np.concatenate([ks, steps]).astype(np.int64))
    values = problem_values(pair, metric, list(grid), MAIN_KEYS, **options)
    mine, theirs = sorted(values, key=lambda group: group.group[0] == baseline)
    names, at, where = np.intersect1d(
        mine.problem_id.astype(str), theirs.problem_id.astype(str), return_indices=True
    )
    split = mine.group[1]
    if not len(names):
        raise ValueError(
            f"runs {run!r} and {baseline!r} share no problem in split {split!r}; a paired "
            "comparison needs the same problem_id in both"
        )
    lost = len(mine.problem_id) + len(theirs.problem_id) - 2 * len(names)
    if lost:
        _warn(
            f"{run!r} against {baseline!r}, split {split!r}: {lost} problems that only one of the "
            f"two has are left out; {len(names)} are compared"
        )
    return mine.values[at], theirs.values[where], names, ks, grid


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)


def _simultaneous_margin(gap: Floats, confidence: float) -> Floats:
    """Half widths of a band over all columns: the quantile of the largest studentised deviation."""
    deviation = gap - gap.mean(axis=0)
    spread = deviation.std(axis=0)
    studentised = np.abs(deviation) / np.where(spread > 0, spread, 1.0)
    return np.asarray(np.quantile(studentised.max(axis=1), confidence) * spread)


def _p_value(gap: Floats) -> Floats:
    """Two-sided, from the share of replicates on either side of 0."""
    below, above = (gap <= 0).sum(axis=0), (gap >= 0).sum(axis=0)
    return np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (len(gap) + 1))


def crossing_point(
    grid: npt.NDArray[Any], gap: Floats, replicates: Floats, confidence: float = 0.95
) -> dict[str, float]:
    """Where the difference of two curves last changes its sign, with the bootstrap's interval.

    Parameters
    ----------
    grid : array, shape (n_k,)
        Ascending values of k.
    gap : array, shape (n_k,)
        Difference of the curves.
    replicates : array, shape (n_resamples, n_k)
        The same in bootstrap replicates.
    confidence : float

    Returns
    -------
    dict
        ``k_cross, low, high, share`` as in `Comparison.crossings`.

    Examples
    --------
    >>> gap = np.array([0.1, 0.0, -0.1])
    >>> crossing_point(np.array([1, 2, 4]), gap, gap[None, :])["k_cross"]
    2.0
    """
    none = {"k_cross": np.nan, "low": np.nan, "high": np.nan}
    signs = np.sign(np.where(np.abs(gap) < 1e-12, 0.0, gap))
    after = signs[-1]
    before = signs[(signs != 0) & (signs != after)]
    if after == 0 or not len(before):
        # No crossing: the share says how often the ends of the curve disagree all the same.
        crossed = np.sign(replicates[:, 0]) * np.sign(replicates[:, -1]) < 0
        return {**none, "share": float(crossed.mean())}
    log_k = np.log(grid)
    point = _last_change(log_k, gap[None, :] * after)[0]
    draws = _last_change(log_k, replicates * after)
    tail = (1 - confidence) / 2
    # Replicates that never cross do so beyond the last k, if at all.
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    crossed = np.isfinite(draws) & (draws > 0)
    return {
        "k_cross": float(np.exp(point)),
        "low": float(np.exp(low)),
        "high": float(np.exp(high)),
        "share": float(crossed.mean()),
    }


def _last_change(log_k: Floats, gap: Floats) -> Floats:
    """Log k of the last change from negative to positive; 0 if always positive, inf if at last not.

    Each row of ``gap`` is one difference over k.
    """
    negative = gap < 0
    last = gap.shape[1] - 1 - np.argmax(negative[:, ::-1], axis=1)
    never = ~negative.any(axis=1)
    beyond = negative[:, -1]
    inner = np.where(never | beyond, 0, last)
    rows = np.arange(len(gap))
    left, right = gap[rows, inner], gap[rows, np.minimum(inner + 1, gap.shape[1] - 1)]
    width = np.where(right - left == 0, 1.0, right - left)
    step = log_k[np.minimum(inner + 1, len(log_k) - 1)] - log_k[inner]
    result = log_k[inner] - left / width * step
    return np.where(beyond, np.inf, np.where(never, 0.0, result))
