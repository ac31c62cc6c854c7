"""From values of each problem to tidy tables: means, paired differences, crossings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics._modes import inverse
from passk_lab.stats._precision import korn_graubard, precision
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.values import ProblemValues

Floats = npt.NDArray[np.float64]

_COLUMNS = 512  # resampled in one pass


def mean_table(
    values: Sequence[ProblemValues], by: Sequence[str], column: str, how: Resampling
) -> pd.DataFrame:
    """Mean of each column over seeds and problems, with intervals, a block of rows a group.

    Values of known limits have the interval of `korn_graubard`, others the bootstrap's.

    Columns ``*by, {column}, estimate, low, high, n_problems, n_defined, n_seeds``. With one seed
    NaN is allowed: the mean is over the problems that have a value, and NaN where none has.
    """
    parts = []
    for group, (estimate, low, high) in zip(values, _estimates(values, how), strict=True):
        parts.append(
            pd.DataFrame(
                {
                    **dict(zip(by, group.group, strict=True)),
                    column: group.columns,
                    "estimate": estimate,
                    "low": low,
                    "high": high,
                    "n_problems": len(group.problem_id),
                    "n_defined": _n_defined(group),
                    "n_seeds": len(group.values),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _estimates(values: Sequence[ProblemValues], how: Resampling) -> list[Floats]:
    """Estimate, low and high of each column of each group, shape (3, n_columns)."""
    found = [np.full((3, len(group.columns)), np.nan) for group in values]
    # Parts with equally many problems share a pass over the weights.
    shared: dict[Any, list[tuple[int, list[int], ProblemValues]]] = {}
    for place, group in enumerate(values):
        if group.bounded:
            found[place] = _exact(group, how.confidence)
            continue
        for part, columns in _defined_parts(group):
            key = len(part.problem_id) if part.clusters is None else (place, columns[0])
            shared.setdefault(key, []).append((place, columns, part))
    for parts in shared.values():
        for some in _batches(parts):
            arrays = [
                part.values if part.of_means else _flipped(part.values, part.harmonic)
                for _, _, part in some
            ]
            places = [place for place, _, _ in some]
            draws = how.replicates_of(arrays, some[0][2].clusters, places)
            for (place, columns, part), array, drawn in zip(some, arrays, draws, strict=True):
                low, high = _percentiles(part.finished(drawn), how, part.n_problems)
                ends = np.where(part.harmonic, (high, low), (low, high))
                three = np.stack([part.finished(array.mean(axis=(0, 1))), *ends])
                found[place][:, columns] = _flipped(three, part.harmonic)
    return found


def _exact(group: ProblemValues, confidence: float) -> Floats:
    known = precision(group.values, group.clusters)
    top = np.maximum(1.0, group.values.max(axis=(0, 1)))
    return np.stack([known.mean, *korn_graubard(known, confidence, top)])


def _defined_parts(group: ProblemValues) -> Iterator[tuple[ProblemValues, list[int]]]:
    if group.of_means is not None:
        yield group, list(range(len(group.columns)))
        return
    for problems, columns in _defined_together(group.values):
        yield group.take(problems).at(columns), columns


def _n_defined(group: ProblemValues) -> npt.NDArray[np.int64]:
    if group.of_means is not None:
        return np.full(len(group.columns), len(group.problem_id))
    return np.asarray((~np.isnan(group.values[0])).sum(axis=0))


def _batches(parts: list[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    width = 0
    for part in parts:
        columns = part[2].values.shape[0] * part[2].values.shape[2]
        if batch and width + columns > _COLUMNS:
            yield batch
            batch, width = [], 0
        batch.append(part)
        width += columns
    yield batch


def pair_table(
    mine: ProblemValues, base: ProblemValues, how: Resampling, place: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Columns of `paired_differences` for two runs on the same problems in the same order."""
    n_columns = len(mine.columns)
    names = ("estimate", "difference", "low", "high", "ratio", "ratio_low", "ratio_high")
    found = np.full((len(names), n_columns), np.nan)
    n_paired = np.zeros(n_columns, dtype=np.int64)
    both = replace(mine, values=np.concatenate([mine.values, base.values]))
    for part, columns in _defined_parts(both):
        n_seeds, flip = len(mine.values), part.harmonic

        def finished(means: Floats, part: ProblemValues = part) -> Floats:
            return _flipped(part.finished(means), part.harmonic)

        array = part.values if part.of_means else _flipped(part.values, flip)
        pair = (array[:n_seeds], array[n_seeds:])
        drawn = [finished(d) for d in how.replicates_of(pair, part.clusters, (place + 1, 0))]
        ours, theirs = (finished(values.mean(axis=(0, 1))) for values in pair)
        n_paired[columns] = len(part.problem_id)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap, ratio = ours - theirs, ours / theirs
            low, high = _percentiles(drawn[0] - drawn[1], how, part.n_problems)
            ends = _percentiles(drawn[0] / drawn[1], how, part.n_problems)
        known = ~np.isnan(gap)
        low, high = np.where(known, low, np.nan), np.where(known, high, np.nan)
        found[:, columns] = ours, gap, low, high, ratio, *ends
    return {**dict(zip(names, found, strict=True)), "n_paired": n_paired}


def crossing_point(
    grid: npt.NDArray[Any], gap: Floats, replicates: Floats, confidence: float = 0.95
) -> dict[str, float]:
    """Where a difference of two curves over the grid of k last changes its sign.

    Gives ``k_cross, low, high, share`` as in `Comparison`, the last three from the replicates.
    """
    none = {"k_cross": np.nan, "low": np.nan, "high": np.nan}
    # Where both curves have reached 1, what is left of their difference is rounding.
    gap, replicates = (np.where(np.abs(part) < 1e-12, 0.0, part) for part in (gap, replicates))
    signs = np.sign(gap)
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


def _defined_together(
    values: Floats,
) -> Iterator[tuple[npt.NDArray[np.bool_], list[int]]]:
    """Columns that the same problems have, to be resampled together; those without any left out."""
    defined = np.asarray(~np.isnan(values).any(axis=0))
    together: dict[bytes, list[int]] = {}
    for at in range(defined.shape[1]):
        if defined[:, at].any():
            together.setdefault(defined[:, at].tobytes(), []).append(at)
    for columns in together.values():
        yield defined[:, columns[0]], columns


def _flipped(values: Floats, flip: npt.NDArray[np.bool_]) -> Floats:
    """Harmonic means: values become chances before they are averaged, and means values again."""
    return np.where(flip, inverse(values), values) if flip.any() else values


def _percentiles(replicates: Floats, how: Resampling, n_problems: int) -> tuple[Floats, Floats]:
    if np.isfinite(replicates).all():
        return how.percentiles(replicates, n_problems)
    # A replicate without a value may lie at either end. Ends beyond all finite ones stand for
    # infinity, between which and a number there is no quantile.
    finite = np.abs(replicates[np.isfinite(replicates)]).max(initial=1.0)
    far = 1e6 * finite
    ends = []
    for nan, at in ((-far, 0), (far, 1)):
        filled = np.nan_to_num(replicates, nan=nan, posinf=far, neginf=-far)
        ends.append(how.percentiles(filled, n_problems)[at])
    low, high = ends
    return np.where(low < -finite, -np.inf, low), np.where(high > finite, np.inf, high)
