"""Runs beside their baseline: values on the problems that both have, and their reference."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics.registry import Metric, find_metric
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats._families import read_for
from passk_lab.stats._reference import Column, Redraw, Reference, Samples, redrawing, reference
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.values import ProblemValues, default_ks

Floats = npt.NDArray[np.float64]

_GRID = 64  # values of k between which the crossing point is interpolated
_DRAWS = 1_999  # at least, of a reference distribution
_REFERENCE = 3  # a stream of random numbers of its own


@dataclass(frozen=True)
class Pair:
    """A run and its baseline on their common problems.

    Attributes
    ----------
    run, split : str
    place : int
        Of the run among all.
    ks, grid : arrays of int
        The values of k asked for, and more between them.
    mine, base : dict of str to ProblemValues
        Of each metric, at every k of the grid.
    compare : callable
        Makes the reference.
    """

    run: str
    split: str
    place: int
    ks: npt.NDArray[np.int64]
    grid: npt.NDArray[np.int64]
    mine: dict[str, ProblemValues]
    base: dict[str, ProblemValues]
    compare: Callable[[], Reference]

    @cached_property
    def reference(self) -> Reference:
        """Of each metric at each k asked for, metric by metric."""
        return self.compare()

    def columns(self, metric: str) -> slice:
        """Where a metric's values of k are in the reference."""
        at = list(self.mine).index(metric) * len(self.ks)
        return slice(at, at + len(self.ks))

    def at_ks(self, metric: str) -> tuple[ProblemValues, ProblemValues]:
        """Values of the run and of the baseline at the ks asked for."""
        places = np.searchsorted(self.grid, self.ks)
        return self.mine[metric].at(places), self.base[metric].at(places)


def make_pairs(
    rollouts: pd.DataFrame | PathLike,
    baseline: str,
    k: int | Sequence[int] | None,
    metrics: Sequence[str],
    how: Resampling,
    *,
    over_seeds: bool = False,
    settings: Mapping[str, Any] | None = None,
    among: int = 0,
) -> list[Pair]:
    """Put each run and split beside the baseline's; ``among`` so many others, judged together."""
    chosen = [find_metric(name)[0] for name in metrics]
    keys = [*MAIN_KEYS, "seed"] if over_seeds else list(MAIN_KEYS)
    # Whatever needs answers can be counted along with what doesn't.
    needs = max((metric.needs for metric in chosen), key=lambda need: need != "counts")
    table = read_for(rollouts, needs, keys)
    runs = list(dict.fromkeys(table["run"].astype(str)))
    _check_two_runs(baseline, runs)
    rows: dict[Any, pd.DataFrame] = dict(tuple(table.groupby(list(MAIN_KEYS), observed=True)))
    splits = {run: {split for name, split in rows if name == run} for run in runs}
    others = sorted(set(runs) - {baseline})
    wanted = [
        (place, run, split)
        for place, run in enumerate(others)
        for split in sorted(splits[run] & splits[baseline])
    ]
    for run in others:
        for split in sorted(splits[run] - splits[baseline]):
            _warn(f"split {split!r} of run {run!r} has no baseline rollouts and is left out")
    if not wanted:
        raise ValueError(f"baseline {baseline!r} has no split in common with another run")
    n_draws = max(_DRAWS, math.ceil(10 * max(len(wanted), among) / (1 - how.confidence)))

    @cache
    def values(run: str, split: str, metric: str, ks: tuple[int, ...]) -> ProblemValues:
        part = rows[run, split]
        return problem_values(part, metric, ks, over_seeds=over_seeds, settings=settings)[0]

    found: list[Pair] = []
    for place, run, split in wanted:
        both = [partial(values, name, split) for name in (run, baseline)]
        ks = grid = np.zeros(1, dtype=np.int64)
        if chosen[0].at_k:
            ks = _ks(k, [of(metrics[0], (1,)) for of in both])
            grid = _grid(ks)
        mine, base = _aligned(both, metrics, tuple(grid.tolist()))
        redraw = _redraw(rows[run, split], rows[baseline, split], mine, chosen, ks, settings)
        places = np.searchsorted(grid, ks)
        ours, theirs = (
            np.concatenate([of[name].values[:, :, places] for name in metrics], axis=2)
            for of in (mine, base)
        )
        rng = how.generator(_REFERENCE, place, len(found))
        clusters = mine[metrics[0]].clusters
        compare = partial(reference, ours, theirs, redraw, rng, n_draws, how.confidence, clusters)
        found.append(Pair(run, split, place, ks, grid, mine, base, compare))
    return found


def check_baseline(baseline: str | None, runs: Sequence[str]) -> None:
    if baseline is not None and baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")


def _check_two_runs(baseline: str, runs: Sequence[str]) -> None:
    check_baseline(baseline, runs)
    if len(runs) == 1:
        raise ValueError(
            f"baseline {baseline!r} is the only run; a comparison needs a second one (several "
            "files, or a column 'run')"
        )


def _ks(k: int | Sequence[int] | None, both: Sequence[ProblemValues]) -> npt.NDArray[np.int64]:
    if k is None:
        return np.array(default_ks(min(of.fewest for of in both)), dtype=np.int64)
    return np.unique(whole_numbers(k, "k"))


def _grid(ks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    steps = np.geomspace(1, max(int(ks[-1]), 1), _GRID).round()
    return np.unique(np.concatenate([ks, steps]).astype(np.int64))


def _some(names: Iterable[str]) -> str:
    """Show the first names as they are, blanks and zeros included."""
    return ", ".join(map(repr, islice(names, 3)))


def _aligned(
    both: Sequence[Callable[..., ProblemValues]], metrics: Sequence[str], grid: tuple[int, ...]
) -> tuple[dict[str, ProblemValues], dict[str, ProblemValues]]:
    """Keep the problems that both runs have."""
    pairs = {}
    for name in metrics:
        mine, base = (of(name, grid) for of in both)
        pairs[name] = mine.shared(base)
    mine, base = (of(metrics[0], grid) for of in both)
    n_shared = len(pairs[metrics[0]][0].problem_id)
    (run, split), (baseline, _) = mine.group, base.group
    if not n_shared:
        raise ValueError(
            f"runs {run!r} and {baseline!r} share no problem in split {split!r} "
            f"({_some(mine.problem_id)} against {_some(base.problem_id)}); a paired comparison "
            "needs the same problem_id in both"
        )
    lost = len(mine.problem_id) + len(base.problem_id) - 2 * n_shared
    if lost:
        _warn(
            f"{run!r} against {baseline!r}, split {split!r}: {lost} problems that only one of the "
            f"two has are left out; {n_shared} are compared"
        )
    ours, theirs = ({name: pair[at] for name, pair in pairs.items()} for at in (0, 1))
    return ours, theirs


def _redraw(
    mine: pd.DataFrame,
    base: pd.DataFrame,
    values: Mapping[str, ProblemValues],
    metrics: Sequence[Metric],
    ks: npt.NDArray[np.int64],
    settings: Mapping[str, Any] | None,
) -> Redraw | None:
    """How to deal out the samples of both runs anew; None where counts don't hold the metric."""
    distinct = [metric.name == "distinct_at_k" for metric in metrics]
    if not all(
        of_answers or metric.needs == "counts"
        for of_answers, metric in zip(distinct, metrics, strict=True)
    ) or (any(distinct) and not all("correct_mode_ids" in part for part in (mine, base))):
        return None
    columns = []
    for name, metric, of_answers in zip(values, metrics, distinct, strict=True):
        # An answer is found by k samples as a problem is solved by them.
        kernel = find_metric("pass_at_k" if of_answers else name)
        options = {**kernel[1], **({} if of_answers else settings or {})}
        for k in ks.tolist() if metric.at_k else [None]:
            columns.append(Column(partial(_values, kernel[0], k, options), of_answers))
    problems = next(iter(values.values())).problem_id
    ours, theirs = (_samples(part, problems, any(distinct)) for part in (mine, base))
    return redrawing(ours, theirs, columns)


def _values(metric: Metric, k: int | None, options: Mapping[str, Any], n: Any, c: Any) -> Any:
    return metric(n, c, *([] if k is None else [k]), **options)


def _samples(rows: pd.DataFrame, problems: npt.NDArray[np.object_], modes: bool) -> Samples:
    """Counts of each seed, in the order of the problems."""
    seeds = [part for _, part in rows.groupby("seed", dropna=False)] if "seed" in rows else [rows]
    found = []
    for part in seeds:
        names = pd.Index(part["problem_id"].astype(str))
        found.append(part.iloc[names.get_indexer(pd.Index(problems.astype(str)))])
    n, c = (
        np.stack([part[name].to_numpy(np.int64) for part in found])
        for name in ("n_samples", "n_correct")
    )
    if not modes:
        return Samples(n, c)
    cells = ("correct_mode_ids", "correct_mode_counts")
    return Samples(
        n, c, [list(zip(*(part[name] for name in cells), strict=True)) for part in found]
    )


def distinct_adds(pair: Pair) -> bool:
    """Whether some problem has two correct answers: else distinct@k is pass@k once more."""
    if "distinct_at_k" not in pair.mine:
        return False
    return any(
        not np.allclose(of["distinct_at_k"].values, of["pass_at_k"].values, rtol=0, atol=1e-12)
        for of in (pair.mine, pair.base)
    )


def difference_table(pairs: Sequence[Pair], metric: str) -> pd.DataFrame:
    """Differences of a metric, run by run."""
    parts = []
    for pair in pairs:
        mine, base = pair.at_ks(metric)
        at = pair.columns(metric)
        low, high = pair.reference.interval[:, at]
        band_low, band_high = pair.reference.band(at)
        columns = {
            "run": pair.run,
            "split": pair.split,
            "k": pair.ks,
            "baseline": base.mean,
            "estimate": mine.mean,
            "difference": pair.reference.difference[at],
            "low": low,
            "high": high,
            "band_low": band_low,
            "band_high": band_high,
            "p_value": pair.reference.p_values[at],
            "n_problems": len(mine.problem_id),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
