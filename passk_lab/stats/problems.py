"""From values of each problem to means with intervals: what the summaries share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from passk_lab.metrics.functional import inverse
from passk_lab.stats.intervals import bootstrap_mean, bootstrap_replicates, percentiles

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

# Inverses of chances: averaged as chances, for a single problem may be infinite.
_HARMONIC = ("hill_2_naive", "hill_2_corrected")


def mean_over_problems(
    values: pd.DataFrame,
    metrics: Sequence[str],
    by: Sequence[str],
    n_resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Average each metric over the problems where it is defined, with bootstrap intervals.

    Parameters
    ----------
    values : DataFrame
        Columns ``*by, problem_id, *metrics``, one row a problem; NaN where a metric is undefined.
    metrics, by : sequence of str
    n_resamples, confidence, rng
        See `passk_lab.stats.intervals.bootstrap_mean`.

    Returns
    -------
    DataFrame
        Columns ``*by, metric, estimate, low, high, n_problems, n_defined``. Where no problem has a
        metric, ``n_defined`` is 0, and estimate and interval are NaN.
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for key, part in values.groupby(list(by), sort=True, dropna=False, observed=True):
        array = part[list(metrics)].to_numpy(np.float64)
        found = np.full((3, len(metrics)), np.nan)
        for problems, columns in _defined_together(~np.isnan(array)):
            some = _chances(array[problems][:, columns], [metrics[at] for at in columns])
            found[0, columns] = some.mean(axis=0)
            found[1:, columns] = bootstrap_mean(some, n_resamples, confidence, rng)
        defined = (~np.isnan(array)).sum(axis=0)
        for at, metric in enumerate(metrics):
            three = found[:, at]
            if metric in _HARMONIC:
                three = inverse(three[[0, 2, 1]])
            group = cast(tuple[Any, ...], key)
            rows.append((*group, metric, *three, len(array), int(defined[at])))
    columns_ = [*by, "metric", "estimate", "low", "high", "n_problems", "n_defined"]
    return pd.DataFrame(rows, columns=columns_)


def paired_differences(
    values: pd.DataFrame,
    metrics: Sequence[str],
    baseline: str,
    n_resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Differences of the means to a baseline, over the problems that both runs have.

    Parameters
    ----------
    values : DataFrame
        As for `mean_over_problems`, with the columns ``run`` and ``split``.
    metrics : sequence of str
    baseline : str
    n_resamples, confidence, rng
        See `passk_lab.stats.intervals.bootstrap_replicates`; both runs keep the same problems.

    Returns
    -------
    DataFrame
        Columns ``run, split, metric, difference, difference_low, difference_high, n_paired``, for
        every run but the baseline. NaN where no problem has the metric in both, and where both
        means are infinite, whose difference is anything.
    """
    import pandas as pd

    names = list(metrics)
    rows: list[tuple[Any, ...]] = []
    reference = values[values["run"] == baseline]
    for key, part in values[values["run"] != baseline].groupby(["run", "split"], sort=True):
        run, split = cast(tuple[Any, ...], key)
        both = part.merge(
            reference[reference["split"] == split], on="problem_id", suffixes=("", " of baseline")
        )
        mine = both[names].to_numpy(np.float64)
        theirs = both[[f"{name} of baseline" for name in names]].to_numpy(np.float64)
        defined = ~np.isnan(mine) & ~np.isnan(theirs)
        found = np.full((3, len(names)), np.nan)
        for problems, columns in _defined_together(defined):
            some = [metrics[at] for at in columns]
            pair = np.hstack([_chances(v[problems][:, columns], some) for v in (mine, theirs)])
            draws = bootstrap_replicates(pair, n_resamples, rng)
            point = _gap(pair.mean(axis=0)[None, :], some)
            found[0, columns] = point[0]
            low, high = _interval(_gap(draws, some), confidence, int(problems.sum()))
            known = ~np.isnan(point[0])
            found[1, columns] = np.where(known, low, np.nan)
            found[2, columns] = np.where(known, high, np.nan)
        for at, metric in enumerate(names):
            rows.append((run, split, metric, *found[:, at], int(defined[:, at].sum())))
    columns_ = ["difference", "difference_low", "difference_high", "n_paired"]
    return pd.DataFrame(rows, columns=["run", "split", "metric", *columns_])


def _defined_together(
    defined: npt.NDArray[np.bool_],
) -> Iterator[tuple[npt.NDArray[np.bool_], list[int]]]:
    """Columns that the same problems have, to be resampled together; those without any left out."""
    together: dict[bytes, list[int]] = {}
    for at in range(defined.shape[1]):
        if defined[:, at].any():
            together.setdefault(defined[:, at].tobytes(), []).append(at)
    for columns in together.values():
        yield defined[:, columns[0]], columns


def _chances(values: Floats, metrics: Sequence[str]) -> Floats:
    values = values.copy()
    for at, metric in enumerate(metrics):
        if metric in _HARMONIC:
            values[:, at] = 1 / values[:, at]
    return values


def _gap(means: Floats, metrics: Sequence[str]) -> Floats:
    """Differences of means, one row a replicate: first half of the columns minus the second."""
    mine, theirs = np.split(means, 2, axis=1)
    gap = mine - theirs
    for at, metric in enumerate(metrics):
        if metric in _HARMONIC:
            with np.errstate(invalid="ignore"):  # inf - inf
                gap[:, at] = inverse(mine[:, at]) - inverse(theirs[:, at])
    return gap


def _interval(gap: Floats, confidence: float, n_problems: int) -> tuple[Floats, Floats]:
    if np.isfinite(gap).all():
        return percentiles(gap, confidence, n_problems)
    # A replicate without a difference may lie at either end. Ends beyond all finite ones stand for
    # infinity, between which and a number there is no quantile.
    finite = np.abs(gap[np.isfinite(gap)]).max(initial=1.0)
    far = 1e6 * finite
    low, _ = percentiles(np.nan_to_num(gap, nan=-far, posinf=far, neginf=-far), confidence,
                         n_problems)  # fmt: skip
    _, high = percentiles(np.nan_to_num(gap, nan=far, posinf=far, neginf=-far), confidence,
                          n_problems)  # fmt: skip
    return np.where(low < -finite, -np.inf, low), np.where(high > finite, np.inf, high)
