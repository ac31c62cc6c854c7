"""Any metrics of each run in one table, with differences to a baseline."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.registry import Metric, find_metric
from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import MAIN_KEYS, PathLike
from passk_lab.stats._estimates import mean_table, pair_table
from passk_lab.stats._pairs import check_baseline, difference_table, make_pairs
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues

__all__ = ["metric_table"]

Floats = npt.NDArray[np.float64]
_OF_COUNTS = ("counts", "modes", "correct", "verdicts", "pair")


def metric_table(
    rollouts: pd.DataFrame | PathLike,
    metrics: Sequence[str] = ("pass_at_k",),
    baseline: str | None = None,
    k: int | Sequence[int] | None = None,
    *,
    over_seeds: bool = False,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Average metrics of each run over problems, with intervals and paired differences.

    Parameters
    ----------
    rollouts : DataFrame or path
        As for `passk_lab.pass_at_k_curve`.
    metrics : sequence of str
        Of `passk_lab.metrics.METRICS`, also with their setting: "g_pass_at_k:0.5".
    baseline : str, optional
        The run to compare with, problem by problem. Metrics of support need it.
    k : int or sequence of int, optional
        For metrics at k. Default: 1 and the smallest number of samples of any problem of any run;
        that number alone for areas and sums over k.
    over_seeds : bool
        As for `passk_lab.stats.metric_curve`. Support is then compared by the seeds' mean.
    **resampling
        ``n_resamples, confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        Columns ``run, split, metric, k, estimate, low, high, n_problems, n_defined``, one row a
        metric and k (0 where the metric has none), and with a baseline ``difference,
        difference_low, difference_high, n_paired``: NaN and 0 for the baseline and for metrics of
        support, which are comparisons themselves.

    Raises
    ------
    ValueError
        A metric or the baseline is unknown; as `passk_lab.stats.metric_curve`.

    Examples
    --------
    >>> table = pd.DataFrame({"run": ["base"] * 4 + ["tuned"] * 4, "problem_id": list("aabb") * 2,
    ...                       "correct": [True, False, True, False, True, True, False, False]})
    >>> found = metric_table(table, ["pass_at_k", "support_kept"], "base", random_state=0)
    >>> found[["run", "metric", "k", "estimate", "difference"]]
         run        metric  k  estimate  difference
    0   base     pass_at_k  1       0.5         NaN
    1   base     pass_at_k  2       1.0         NaN
    2  tuned     pass_at_k  1       0.5         0.0
    3  tuned     pass_at_k  2       0.5        -0.5
    4  tuned  support_kept  2       0.5         NaN
    """
    how = Resampling(**resampling)
    found = [find_metric(name)[0] for name in metrics]
    keys = [*MAIN_KEYS, "seed"] if over_seeds else list(MAIN_KEYS)
    counted = as_counts(rollouts, keys, modes=True if _any_modes(found) else None)
    runs = list(dict.fromkeys(counted["run"].astype(str)))
    check_baseline(baseline, runs)
    parts = []
    for name, metric in zip(metrics, found, strict=True):
        ks = _ks(metric, k, int(counted["n_samples"].min()))
        source = counted if metric.needs in _OF_COUNTS else rollouts
        if metric.needs == "pair":
            if baseline is None:
                raise ValueError(f"metric {name!r} compares runs with a baseline; name one")
            solved = problem_values(counted, "pass_at_k", ks, over_seeds=over_seeds)
            parts.append(mean_table(_support(solved, metric, baseline), MAIN_KEYS, "k", how))
        else:
            values = problem_values(source, name, ks, over_seeds=over_seeds)
            table = mean_table(values, MAIN_KEYS, "k", how)
            if baseline is not None:
                gaps = (
                    _compared(source, baseline, ks, name, how, over_seeds)
                    if ((metric.at_k and metric.of_means is None) or values[0].bounded)
                    and len(runs) > 1
                    else _differences(values, baseline, how)
                )
                table = table.merge(gaps, "left", [*MAIN_KEYS, "k"])
            parts.append(table)
        parts[-1].insert(2, "metric", name)
    whole = pd.concat(parts, ignore_index=True).drop(columns="n_seeds")
    if baseline is not None:
        whole = whole.assign(**{c: whole.get(c, np.nan) for c in _DIFFERENCE})
        whole["n_paired"] = whole["n_paired"].fillna(0).astype(np.int64)
    order = whole["run"].astype(str).map({run: at for at, run in enumerate(runs)})
    return whole.iloc[np.lexsort((order, whole["split"].astype(str)))].reset_index(drop=True)


_DIFFERENCE = ("difference", "difference_low", "difference_high", "n_paired")


def _any_modes(metrics: Sequence[Metric]) -> bool:
    return any(metric.needs in ("modes", "correct", "verdicts") for metric in metrics)


def _ks(metric: Metric, k: int | Sequence[int] | None, smallest: int) -> Any:
    if k is not None:
        return k
    largest_only = "k_max" in inspect.signature(metric.function).parameters
    return [smallest] if largest_only or metric.needs == "pair" else sorted({1, smallest})


def _differences(values: Sequence[ProblemValues], baseline: str, how: Resampling) -> pd.DataFrame:
    groups = {group.group: group for group in values}
    parts = [pd.DataFrame(columns=[*MAIN_KEYS, "k", *_DIFFERENCE])]
    for place, ((run, split), mine) in enumerate(groups.items()):
        base = groups.get((baseline, split))
        if run == baseline or base is None:
            continue
        mine, base = mine.shared(base)
        gap = pair_table(mine, base, how, place)
        columns = (gap[name] for name in ("difference", "low", "high", "n_paired"))
        keys = {"run": run, "split": split, "k": mine.columns}
        parts.append(pd.DataFrame({**keys, **dict(zip(_DIFFERENCE, columns, strict=True))}))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _compared(
    source: Any, baseline: str, ks: Any, name: str, how: Resampling, over_seeds: bool
) -> pd.DataFrame:
    """Differences as `compare_runs` has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # n_paired says how many problems there are
        pairs = make_pairs(source, baseline, ks, [name], how, over_seeds=over_seeds)
    names = dict(zip(("difference", "low", "high", "n_problems"), _DIFFERENCE, strict=True))
    return difference_table(pairs, name)[["run", "split", "k", *names]].rename(columns=names)


def _support(values: Sequence[ProblemValues], metric: Metric, baseline: str) -> list[ProblemValues]:
    groups = {group.group: group for group in values}
    found = []
    for (run, split), mine in groups.items():
        base = groups.get((baseline, split))
        if run == baseline or base is None:
            continue
        mine, base = mine.shared(base)
        solved = zip(*(run.values.mean(axis=0).T for run in (base, mine)), strict=True)
        parts = np.concatenate([metric(*pair) for pair in solved], axis=1)
        found.append(replace(mine, values=parts[None], of_means=metric.of_means, bounded=False))
    return found
