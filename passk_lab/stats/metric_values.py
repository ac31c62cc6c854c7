"""Any metric of each problem, by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab._text import plural
from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics.registry import Metric, find_metric
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.study import as_rollouts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats._families import (
    TextChoice,
    entropy_values,
    functional_values,
    ngram_values,
    read_for,
)
from passk_lab.stats.values import ProblemValues, default_ks

__all__ = ["problem_values"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def problem_values(
    rollouts: pd.DataFrame | PathLike,
    metric: str = "pass_at_k",
    k: int | Sequence[int] | None = None,
    by: Sequence[str] = MAIN_KEYS,
    *,
    over_seeds: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> list[ProblemValues]:
    """Compute a metric of each problem, one `ProblemValues` a run and split.

    Parameters
    ----------
    rollouts, metric, k, by, over_seeds, settings
        As for `metric_curve`.

    Returns
    -------
    list of ProblemValues
        In the order of ``by``. One column a k; a metric without k has the single column 0.

    Raises
    ------
    ValueError
        The metric is unknown, its columns are missing, or k exceeds a problem's samples; the seeds
        of a run were evaluated on different problems.
    """
    by = list(by)
    if over_seeds and "seed" in by:
        raise ValueError("by holds 'seed', over which over_seeds averages; leave it out")
    found, fixed = find_metric(metric)
    options = {**fixed, **(settings or {})}
    found.require(options)
    keys = [*by, "seed"] if over_seeds else by
    parts = list(_source(found)(rollouts, found, k, keys, options))
    return ProblemValues.stacked(parts) if over_seeds else parts


def _of_counts(
    rollouts: pd.DataFrame | PathLike,
    metric: Metric,
    k: int | Sequence[int] | None,
    by: list[str],
    options: Mapping[str, Any],
) -> Iterator[ProblemValues]:
    table = read_for(rollouts, metric.needs, by)
    for key, part in table.groupby(by, sort=True, dropna=False, observed=True):
        n = part["n_samples"].to_numpy(np.int64)
        c = part["n_correct"].to_numpy(np.int64)
        names = part["problem_id"].to_numpy(object)
        if not metric.at_k:
            ks = np.zeros(1, np.int64)
            values = metric(n, c, **options)
        else:
            ks = _draws(k, n, names, key, by, beyond_n=metric.name == "bayes_pass_at_k")
            values = _KERNELS[metric.needs](metric, part, ks, options)
        array = np.asarray(values, dtype=np.float64).reshape(1, len(names), -1)
        bounded = metric.of_means is None
        yield ProblemValues(
            key, names, ks, array, n, c, of_means=metric.of_means, bounded=bounded
        ).clustered(part, by)


def _from_counts(metric: Metric, part: pd.DataFrame, ks: Ints, options: Mapping[str, Any]) -> Any:
    n, c = (part[name].to_numpy(np.int64)[:, None] for name in ("n_samples", "n_correct"))
    return metric(n, c, ks, **options)


def _from_modes(metric: Metric, part: pd.DataFrame, ks: Ints, options: Mapping[str, Any]) -> Any:
    cells = "correct_mode_counts" if metric.needs == "correct" else "mode_counts"
    n = part["n_samples"].to_numpy(np.int64)
    return metric(list(part[cells]), ks, n_samples=n, **options)


def _from_verdicts(metric: Metric, part: pd.DataFrame, ks: Ints, options: Mapping[str, Any]) -> Any:
    known: dict[Any, Floats] = {}
    rows = []
    cells = ("problem_id", "n_samples", "mode_counts", "correct_mode_counts")
    for problem, n, modes, right in zip(*(part[name] for name in cells), strict=True):
        wrong = Counter(modes.tolist())
        wrong.subtract(right.tolist())
        if min(wrong.values(), default=0) < 0:
            raise ValueError(
                f"problem {problem!r}: an answer is marked correct in one rollout and wrong in "
                f"another; {metric.name} needs one verdict for each answer"
            )
        sizes = [*right.tolist(), *sorted(wrong.elements())]
        pattern = (n, tuple(sizes), len(right))
        if pattern not in known:
            marks = np.arange(len(sizes)) < len(right)
            known[pattern] = metric(sizes, marks, ks, n_samples=int(n), **options)
        rows.append(known[pattern])
    return np.array(rows)


def _of_scores(
    rollouts: pd.DataFrame | PathLike,
    metric: Metric,
    k: int | Sequence[int] | None,
    by: list[str],
    options: Mapping[str, Any],
) -> Iterator[ProblemValues]:
    table = read_for(rollouts, metric.needs, by)
    _require_scores(table, metric)
    for key, part in table.groupby(by, sort=True, dropna=False, observed=True):
        samples = part.groupby("problem_id", sort=True, observed=True)
        names = np.array(list(samples.groups), dtype=object)
        n = np.asarray(samples.size(), dtype=np.int64)
        c = np.asarray(samples["correct"].sum(), dtype=np.int64)
        ks = _draws(k, n, names, key, by)
        order = np.argsort(samples.ngroup().to_numpy(), kind="stable")
        columns = [part["score"].to_numpy(np.float64)[order]]
        if metric.needs == "ranked":
            columns.append(part["correct"].to_numpy(bool)[order])
        ends = np.cumsum(n)
        values = np.empty((1, len(n), len(ks)))
        for size in np.unique(n):
            mine = n == size
            rows = (ends[mine] - size)[:, None] + np.arange(size)
            values[0, mine] = metric(*(column[rows] for column in columns), ks, **options)
        yield ProblemValues(
            key, names, ks, values, n, c, bounded=metric.needs == "ranked"
        ).clustered(part, by)


def _require_scores(table: pd.DataFrame, metric: Metric) -> None:
    if "score" not in table.columns:
        raise ValueError(f"column 'score' is missing; {metric.name} ranks samples by it")
    missing = table["score"].isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"column 'score', row {int(np.argmax(missing))}: value is missing; {metric.name} needs "
            "a score for every rollout"
        )


def _of_frame(
    rollouts: pd.DataFrame | PathLike,
    metric: Metric,
    k: int | Sequence[int] | None,
    by: list[str],
    options: Mapping[str, Any],
) -> Iterator[ProblemValues]:
    """Metrics that a summary computes for all problems at once; they have no k."""
    rng = np.random.default_rng(0)  # which texts are compared where a problem has more
    if metric.needs in ("logprobs", "texts", "tokens"):
        table = as_rollouts(rollouts)
        if metric.needs == "logprobs":
            frame = entropy_values(table, [metric.name], by)
        else:
            frame = ngram_values(table, [metric.name], by, TextChoice(**options), rng)[0]
    else:
        table = as_counts(rollouts, by, modes=True)
        frame = functional_values(table, 1, metric.needs == "correct", by)
    for part in ProblemValues.of_frame(frame[[*by, "problem_id", metric.name]], by):
        yield replace(part, columns=np.zeros(1, np.int64)).clustered(table, by)


_KERNELS: dict[str, Callable[..., Any]] = {
    "counts": _from_counts,
    "modes": _from_modes,
    "correct": _from_modes,
    "verdicts": _from_verdicts,
}


def _source(metric: Metric) -> Callable[..., Iterator[ProblemValues]]:
    if metric.needs in ("scores", "ranked"):
        return _of_scores
    if metric.needs == "counts" or metric.at_k:
        return _of_counts
    if metric.needs == "pair":
        raise ValueError(
            f"metric {metric.name!r} compares a run with a baseline: passk_lab.stats.metric_table"
        )
    if metric.needs == "embeddings":
        raise ValueError(
            f"metric {metric.name!r} needs an embedder; see passk_lab.diversity_summary"
        )
    return _of_frame


def _draws(
    k: int | Sequence[int] | None,
    n: Ints,
    names: npt.NDArray[np.object_],
    key: tuple[Any, ...],
    by: Sequence[str],
    beyond_n: bool = False,
) -> Ints:
    fewest = int(np.argmin(n))
    if k is None:
        return np.array(default_ks(int(n[fewest])))
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if ks.ndim != 1 or not len(ks):
        raise ValueError("k must be a number or a non-empty sequence of numbers")
    if ks.min() < 1:
        raise ValueError(f"k={ks.min()} must be at least 1")
    if ks.max() > n[fewest] and not beyond_n:
        where = ", ".join(f"{name}={value!r}" for name, value in zip(by, key, strict=True))
        raise ValueError(
            f"k={ks.max()} exceeds the {n[fewest]} samples of problem {names[fewest]!r} ({where}); "
            f"take a smaller k, leave out the {(n < ks.max()).sum()} of "
            f"{plural(len(n), 'problem')} with fewer (--min-samples {ks.max()}), or extrapolate "
            "with passk_lab.stats.extrapolate_pass_at_k"
        )
    return ks
