"""Two runs on the same problems: paired differences, the crossing point, flattening."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.rollouts.table import PathLike
from passk_lab.stats._estimates import crossing_point, pair_table
from passk_lab.stats._pairs import Pair, difference_table, make_pairs
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues

__all__ = [
    "Comparison",
    "compare_runs",
    "curve_crossings",
    "matched_differences",
    "paired_differences",
    "problem_differences",
]

Floats = npt.NDArray[np.float64]

_COLUMNS = 512  # resampled in one pass


@dataclass(frozen=True)
class Comparison:
    """What `compare_runs` found, as tidy tables.

    Attributes
    ----------
    differences : DataFrame
        Columns ``run, split, k, baseline, estimate, difference, low, high, band_low, band_high,
        p_value, n_problems``. ``difference`` = estimate - baseline, with its interval at each k
        alone; the band covers the differences at all these k at once; ``p_value`` is two-sided,
        for no difference at this k alone: not adjusted for the number of k or of runs.
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

    @classmethod
    def of(cls, pairs: Sequence[Pair], baseline: str, metric: str, how: Resampling) -> Comparison:
        """Make the tables of a metric from runs beside their baseline."""
        crossings, flattening = [], []
        for pair, drawn in _replicates(pairs, metric, how):
            label = {"run": pair.run, "split": pair.split}
            gap = pair.mine[metric].mean - pair.base[metric].mean
            crossing = crossing_point(pair.grid, gap, drawn[0] - drawn[1], how.confidence)
            k_max = {"k_max": int(pair.grid[-1])}
            crossings.append({**label, **crossing, **k_max})
            flattening.append({**label, **_flattening(pair, metric, drawn, how), **k_max})
        differences = difference_table(pairs, metric)
        return cls(differences, pd.DataFrame(crossings), pd.DataFrame(flattening), baseline, metric)


def compare_runs(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | Sequence[int] | None = None,
    metric: str = "pass_at_k",
    *,
    over_seeds: bool = False,
    settings: Mapping[str, Any] | None = None,
    **resampling: Unpack[ResamplingOptions],
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
        Of `passk_lab.metrics.METRICS`, also with its setting: "g_pass_at_k:0.5".
    over_seeds, **resampling
        As for `passk_lab.pass_at_k_curve`.
    settings : mapping, optional
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
    how = Resampling(**resampling)
    pairs = make_pairs(
        rollouts, baseline, k, [metric], how, over_seeds=over_seeds, settings=settings
    )
    return Comparison.of(pairs, baseline, metric, how)


def _replicates(
    pairs: Sequence[Pair], metric: str, how: Resampling
) -> Iterator[tuple[Pair, tuple[Floats, Floats]]]:
    """Replicates of each pair; neighbours that share problems and k share a pass over them."""

    def alike(pair: Pair) -> tuple[Any, ...]:
        return pair.split, tuple(pair.base[metric].problem_id), tuple(pair.grid)

    for _, neighbours in groupby(pairs, alike):
        run = list(neighbours)
        width = max(1, _COLUMNS // (len(run[0].grid) * len(run[0].mine[metric].values)))
        for batch in (run[at : at + width] for at in range(0, len(run), width)):
            first = batch[0].base[metric]
            values = [first.values, *(pair.mine[metric].values for pair in batch)]
            places = (0, *(pair.place + 1 for pair in batch))
            base, *mine = how.replicates_of(values, first.clusters, places)
            yield from ((pair, (drawn, base)) for pair, drawn in zip(batch, mine, strict=True))


def _flattening(
    pair: Pair, metric: str, drawn: Sequence[Floats], how: Resampling
) -> dict[str, float]:
    both = (pair.mine[metric], pair.base[metric])
    gain, reference = (values.mean[-1] - values.mean[0] for values in both)
    found = {"gain": gain, "gain_baseline": reference, "ratio": np.nan}
    found |= {"low": np.nan, "high": np.nan}
    if reference > 0:
        rise, rise_of_base = (draws[:, -1] - draws[:, 0] for draws in drawn)
        steep = rise_of_base > 0
        ratios = (rise[steep] / rise_of_base[steep])[:, None]
        ends = how.percentiles(ratios, both[0].n_problems)
        found |= {"ratio": gain / reference, "low": ends[0][0], "high": ends[1][0]}
    return found


def problem_differences(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | None = None,
    metric: str = "pass_at_k",
    settings: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Differences to the baseline problem by problem, the largest losses first.

    Parameters
    ----------
    rollouts, baseline, metric, settings
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
    how = Resampling(n_resamples=1, random_state=0)
    for pair in make_pairs(rollouts, baseline, k, [metric], how, settings=settings):
        mine, base = (values.values[0, :, -1] for values in pair.at_ks(metric))
        label = {
            "run": pair.run,
            "split": pair.split,
            "problem_id": pair.at_ks(metric)[0].problem_id,
        }
        values = {"k": pair.ks[-1], "baseline": base, "estimate": mine, "difference": mine - base}
        frame = pd.DataFrame({**label, **values})
        parts.append(frame.sort_values(["difference", "problem_id"], kind="stable"))
    return pd.concat(parts, ignore_index=True)


def paired_differences(
    values: Mapping[str, npt.ArrayLike], baseline: str, **resampling: Unpack[ResamplingOptions]
) -> pd.DataFrame:
    """Difference and ratio of every run to a baseline, paired by problem.

    Parameters
    ----------
    values : mapping of str to array_like, shape (n_seeds, n_problems, n_columns)
        A run's values on the same problems in the same order; numbers of seeds may differ. NaN
        where a value is undefined: a column is compared on the problems that both runs have.
    baseline : str
        A key of ``values``.
    **resampling
        ``n_resamples, confidence, random_state``: see `Resampling`.

    Returns
    -------
    DataFrame
        Columns ``run, column, estimate, difference, low, high, ratio, ratio_low, ratio_high,
        n_paired``; the ratio is that of the means. NaN where no problem is defined in both.

    Raises
    ------
    ValueError
        The baseline is missing; numbers of problems or columns differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> values = {"base": rng.random((3, 50, 1)), "sdsd": 1 + rng.random((3, 50, 1))}
    >>> paired_differences(values, "base", random_state=0)[["run", "column"]].values.tolist()
    [['sdsd', 0]]
    """
    how = Resampling(**resampling)
    arrays = _same_shape(values, baseline)
    names = np.empty(arrays[baseline].shape[1], dtype=object)
    columns = np.arange(arrays[baseline].shape[2])
    groups = {run: ProblemValues((run,), names, columns, array) for run, array in arrays.items()}
    parts = []
    for place, (run, group) in enumerate(groups.items()):
        if run != baseline:
            table = pair_table(group, groups[baseline], how, place)
            parts.append(pd.DataFrame({"run": run, "column": columns, **table}))
    return pd.concat(parts, ignore_index=True)


def curve_crossings(
    values: Mapping[str, npt.ArrayLike],
    baseline: str,
    k: Sequence[int],
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Where every run's curve over k crosses the baseline's.

    Parameters
    ----------
    values, baseline, **resampling
        As for `paired_differences`; the columns are values of k.
    k : sequence of int, length n_columns
        Ascending. The crossing point is interpolated between them on a log scale.

    Returns
    -------
    DataFrame
        Columns ``run, k_cross, low, high, share``, see `passk_lab.stats.compare.Comparison`.

    Raises
    ------
    ValueError
        As for `paired_differences`; k doesn't fit the columns.

    Examples
    --------
    >>> values = {"base": np.full((1, 5, 2), [0.4, 0.9]), "sdsd": np.full((1, 5, 2), [0.6, 0.7])}
    >>> curve_crossings(values, "base", [1, 4], n_resamples=10)[["run", "k_cross"]]
        run  k_cross
    0  sdsd      2.0
    """
    how = Resampling(**resampling)
    arrays = _same_shape(values, baseline)
    base = arrays[baseline]
    if len(k) != base.shape[2]:
        raise ValueError(f"{len(k)} values of k for {base.shape[2]} columns")
    rows = []
    for place, (run, array) in enumerate(arrays.items()):
        if run != baseline:
            mine, theirs = how.replicates_of([array, base], runs=(place + 1, 0))
            gap = array.mean(axis=(0, 1)) - base.mean(axis=(0, 1))
            found = crossing_point(np.asarray(k), gap, mine - theirs, how.confidence)
            rows.append({"run": run, **found})
    return pd.DataFrame(rows)


def matched_differences(
    accuracy: Mapping[str, npt.ArrayLike],
    quantity: Mapping[str, npt.ArrayLike],
    baseline: str,
    target: float | Mapping[str, float],
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Compare a quantity between training runs where they have the same accuracy.

    Each run is followed from its start to where its mean accuracy first reaches the target, with
    straight lines between checkpoints, and its quantity is read off there; the same in every
    replicate.

    Parameters
    ----------
    accuracy, quantity : mapping of str to array_like, shape (n_seeds, n_problems, n_checkpoints)
        Of each run, in the order of its training.
    baseline : str
        A key of both.
    target : float or mapping of str to float
        The accuracy at which to compare, for all runs or for each.
    **resampling
        ``n_resamples, confidence, random_state``: see `Resampling`.

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
    how = Resampling(**resampling)
    both = _side_by_side(accuracy, quantity, baseline)
    reach = target if isinstance(target, Mapping) else dict.fromkeys(both, float(target))
    rows = []
    for place, (run, array) in enumerate(both.items()):
        if run == baseline:
            continue
        pair = [array, both[baseline]]
        points = [_read_off(values.mean(axis=(0, 1))[None], reach[run])[0] for values in pair]
        drawn = [_read_off(d, reach[run]) for d in how.replicates_of(pair, runs=(place + 1, 0))]
        rows.append({"run": run, "target": reach[run], **_matched(points, drawn, how, array)})
    return pd.DataFrame(rows)


def _side_by_side(
    accuracy: Mapping[str, npt.ArrayLike], quantity: Mapping[str, npt.ArrayLike], baseline: str
) -> dict[str, Floats]:
    """Accuracy and quantity in one array a run, so that they are resampled together."""
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
    return {run: np.concatenate([x, ys[run]], axis=2) for run, x in xs.items()}


def _matched(
    points: Sequence[float], drawn: Sequence[Floats], how: Resampling, array: Floats
) -> dict[str, float]:
    mine, other = points
    reached = np.isfinite(drawn[0]) & np.isfinite(drawn[1])
    row = {
        "estimate": mine,
        "baseline_estimate": other,
        "difference": mine - other,
        "low": np.nan,
        "high": np.nan,
        "ratio": mine / other if other else np.nan,
        "ratio_low": np.nan,
        "ratio_high": np.nan,
        "reached": float(reached.mean()),
    }
    if reached.mean() >= how.confidence and np.isfinite(row["difference"]):
        ours, theirs = (values[reached] for values in drawn)
        positive = (theirs > 0).all()
        ratio = ours / theirs if positive else np.full(len(ours), np.nan)
        low, high = how.percentiles(np.column_stack([ours - theirs, ratio]), array.shape[1])
        row |= {"low": low[0], "high": high[0], "ratio_low": low[1], "ratio_high": high[1]}
    return row


def _read_off(table: Floats, target: float) -> Floats:
    """Value of the second half of the columns where the first half first reaches the target.

    NaN where it doesn't; each row is one replicate.
    """
    x, y = np.split(table, 2, axis=1)
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


def _same_shape(values: Mapping[str, npt.ArrayLike], baseline: str) -> dict[str, Floats]:
    arrays = {run: np.asarray(array, dtype=np.float64) for run, array in values.items()}
    if baseline not in arrays:
        raise ValueError(f"baseline {baseline!r} is none of {', '.join(arrays)}")
    shape = arrays[baseline].shape[1:]
    for run, array in arrays.items():
        if array.shape[1:] != shape:
            raise ValueError(f"{run}: shape {array.shape}, but {baseline} has {shape} a seed")
    return arrays
