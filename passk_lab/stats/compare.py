"""Two runs on the same problems: paired differences, the crossing point, flattening."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics.registry import find_metric
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats.estimates import crossing_point
from passk_lab.stats.metric_values import problem_values, read_for
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues, default_ks, shared_problems

__all__ = ["Comparison", "compare_runs", "problem_differences"]

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
    tables: dict[str, list[Any]] = {"differences": [], "crossings": [], "flattening": []}
    for pair in _pairs(rollouts, baseline, k, metric, over_seeds, settings):
        drawn = how.replicates_of([pair.mine.values, pair.base.values], runs=(pair.place + 1, 0))
        label = {"run": pair.run, "split": pair.split}
        tables["differences"].append(pd.DataFrame({**label, **_differences(pair, drawn, how)}))
        gap = pair.mine.mean - pair.base.mean
        crossing = crossing_point(pair.grid, gap, drawn[0] - drawn[1], how.confidence)
        k_max = {"k_max": int(pair.grid[-1])}
        tables["crossings"].append({**label, **crossing, **k_max})
        tables["flattening"].append({**label, **_flattening(pair, drawn, how), **k_max})
    return Comparison(
        pd.concat(tables["differences"], ignore_index=True),
        pd.DataFrame(tables["crossings"]),
        pd.DataFrame(tables["flattening"]),
        baseline,
        metric,
    )


@dataclass(frozen=True)
class _Pair:
    """Values of a run and of the baseline on their common problems, at every k of a grid."""

    run: str
    split: str
    place: int  # of the run among all
    mine: ProblemValues
    base: ProblemValues
    ks: npt.NDArray[np.int64]  # asked for

    @property
    def grid(self) -> npt.NDArray[np.int64]:
        return self.mine.columns


def _differences(pair: _Pair, drawn: Sequence[Floats], how: Resampling) -> dict[str, Any]:
    at = np.searchsorted(pair.grid, pair.ks)
    estimate, baseline = pair.mine.mean[at], pair.base.mean[at]
    gap = (drawn[0] - drawn[1])[:, at]
    low, high = how.percentiles(gap, len(pair.mine.problem_id))
    margin = _simultaneous_margin(gap, how.confidence)
    return {
        "k": pair.ks,
        "baseline": baseline,
        "estimate": estimate,
        "difference": estimate - baseline,
        "low": low,
        "high": high,
        "band_low": estimate - baseline - margin,
        "band_high": estimate - baseline + margin,
        "p_value": _p_value(gap),
        "n_problems": len(pair.mine.problem_id),
    }


def _flattening(pair: _Pair, drawn: Sequence[Floats], how: Resampling) -> dict[str, float]:
    gain, reference = (values.mean[-1] - values.mean[0] for values in (pair.mine, pair.base))
    found = {"gain": gain, "gain_baseline": reference, "ratio": np.nan}
    found |= {"low": np.nan, "high": np.nan}
    if reference > 0:
        rise, rise_of_base = (draws[:, -1] - draws[:, 0] for draws in drawn)
        steep = rise_of_base > 0
        ratios = (rise[steep] / rise_of_base[steep])[:, None]
        ends = how.percentiles(ratios, len(pair.mine.problem_id))
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
    for pair in _pairs(rollouts, baseline, k, metric, settings=settings):
        at = np.searchsorted(pair.grid, pair.ks[-1])
        mine, base = (values.values[0, :, at] for values in (pair.mine, pair.base))
        label = {"run": pair.run, "split": pair.split, "problem_id": pair.mine.problem_id}
        values = {"k": pair.ks[-1], "baseline": base, "estimate": mine, "difference": mine - base}
        frame = pd.DataFrame({**label, **values})
        parts.append(frame.sort_values(["difference", "problem_id"], kind="stable"))
    return pd.concat(parts, ignore_index=True)


def _pairs(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | Sequence[int] | None,
    metric: str,
    over_seeds: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[_Pair]:
    """Each run and split beside the baseline's."""
    needs = find_metric(metric)[0].needs
    keys = [*MAIN_KEYS, "seed"] if over_seeds else MAIN_KEYS
    table = read_for(rollouts, needs, keys)
    runs = list(dict.fromkeys(table["run"].astype(str)))
    if baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")
    if len(runs) == 1:
        raise ValueError(
            f"baseline {baseline!r} is the only run; a comparison needs a second one (several "
            "files, or a column 'run')"
        )
    splits = {run: set(table["split"][table["run"] == run]) for run in runs}
    rows = dict(tuple(table.groupby(["run", "split"], observed=True)))

    @cache
    def values(run: str, split: str, ks: tuple[int, ...]) -> ProblemValues:
        part = rows[run, split]
        return problem_values(part, metric, ks, over_seeds=over_seeds, settings=settings)[0]

    for place, run in enumerate(sorted(set(runs) - {baseline})):
        for split in sorted(splits[run] - splits[baseline]):
            _warn(f"split {split!r} of run {run!r} has no baseline rollouts and is left out")
        for split in sorted(splits[run] & splits[baseline]):
            both = [partial(values, name, split) for name in (run, baseline)]
            if k is None:
                fewest = min(int(of((1,)).n_samples.min()) for of in both)
                ks = np.array(default_ks(fewest), dtype=np.int64)
            else:
                ks = np.unique(whole_numbers(k, "k"))
            steps = np.geomspace(1, max(int(ks[-1]), 1), _GRID).round()
            grid = tuple(np.unique(np.concatenate([ks, steps]).astype(np.int64)).tolist())
            mine, base = _shared(*(of(grid) for of in both))
            yield _Pair(run, split, place, mine, base, ks)
    if not any(splits[run] & splits[baseline] for run in runs if run != baseline):
        raise ValueError(f"baseline {baseline!r} has no split in common with another run")


def _shared(mine: ProblemValues, base: ProblemValues) -> tuple[ProblemValues, ProblemValues]:
    """Keep the problems that both runs have."""
    (run, split), (baseline, _) = mine.group, base.group
    ours, theirs = shared_problems(mine, base)
    if not len(ours.problem_id):
        raise ValueError(
            f"runs {run!r} and {baseline!r} share no problem in split {split!r}; a paired "
            "comparison needs the same problem_id in both"
        )
    lost = len(mine.problem_id) + len(base.problem_id) - 2 * len(ours.problem_id)
    if lost:
        _warn(
            f"{run!r} against {baseline!r}, split {split!r}: {lost} problems that only one of the "
            f"two has are left out; {len(ours.problem_id)} are compared"
        )
    return ours, theirs


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
