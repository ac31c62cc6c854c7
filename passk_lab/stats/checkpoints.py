"""Checkpoints over training: pass@1, pass@K, distinct answers, and when reach gets narrower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import pandas as pd

from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import MAIN_KEYS
from passk_lab.stats._pairs import Pair, make_pairs
from passk_lab.stats.curves import distinct_at_k_curve, pass_at_k_curve
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.verdict import MARGIN, judge

__all__ = ["checkpoints", "first_narrower"]

_REFERENCE = "\0"  # no run is called so


def checkpoints(
    rollouts: Any,
    baseline: str | None = None,
    *,
    k: int | None = None,
    margin: float = MARGIN,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Follow runs that were evaluated at several steps of training.

    Parameters
    ----------
    rollouts : table, path, Study, ...
        With the column ``step``; or counts by run, split and step.
    baseline : str, optional
        The run to compare with; of several steps its last. Default: each run's first step.
    k : int, optional
        The larger number of samples. Default: the smallest number that a problem has.
    margin : float
        As for `passk_lab.stats.verdict`.
    **resampling
        ``confidence, n_resamples, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        ``run, split, step, metric`` ("pass@1", "pass@K" and, where some problem has two correct
        answers, "distinct@K"), ``estimate, low, high, n_problems``; and ``first_try, reach, label``
        of the step, see `passk_lab.stats.Verdict`, missing where a step is what others are compared
        with. Where nothing changed, at most 1 - ``confidence`` of all calls say a single word of
        change, over all runs, splits and steps together.

    Raises
    ------
    ValueError
        No run has several steps; the baseline is no run, or shares no problem with a step.

    Examples
    --------
    >>> parts = [pd.DataFrame({"run": "rl", "split": "id", "step": step, "problem_id": range(90),
    ...                        "n_samples": 8, "n_correct": [0, c, c] * 30})
    ...          for step, c in ((0, 3), (50, 3), (100, 8))]
    >>> found = checkpoints(pd.concat(parts), random_state=0, n_resamples=500)
    >>> found[found["metric"] == "pass@1"][["step", "estimate", "first_try"]].round(2)
       step  estimate first_try
    0     0      0.25       NaN
    2    50      0.25     level
    4   100      0.67    better
    """
    counts = as_counts(rollouts, [*MAIN_KEYS, "step"])
    steps = counts.dropna(subset="step").groupby("run", sort=False)["step"].nunique()
    runs = [run for run in steps.index[steps > 1] if run != baseline]
    if not runs:
        raise ValueError("no run but the baseline has several steps; nothing changes over training")
    if baseline is not None and baseline not in set(counts["run"]):
        raise ValueError(f"no run is called {baseline!r} (runs: {', '.join(set(counts['run']))})")
    counts = counts[counts["run"].isin([*runs, baseline])]
    k = int(counts["n_samples"].min()) if k is None else k
    ks = sorted({1, k})
    modes = "correct_mode_counts" in counts and max(map(len, counts["correct_mode_counts"])) > 1
    metrics = ["pass_at_k", *(["distinct_at_k"] if modes else [])]
    how = Resampling(**resampling)
    named, pairs = {}, []
    for run in runs:
        for name, step, pair in _pairs(counts, run, baseline, ks, metrics, how):
            named[name] = (run, step)
            pairs.append(pair)
    words = [
        {
            **dict(zip(("run", "step"), named[found.run], strict=True)),
            **{name: getattr(found, name) for name in ("split", "first_try", "reach", "label")},
        }
        for found in judge(pairs, baseline or "", margin=margin)
    ]
    mine = counts[counts["run"].isin(runs)].astype({"step": "int64"})
    table = _curves(mine, ks, modes, resampling)
    return table.merge(pd.DataFrame(words), "left", ["run", "split", "step"])


def _pairs(
    counts: pd.DataFrame,
    run: str,
    baseline: str | None,
    ks: list[int],
    metrics: list[str],
    how: Any,
) -> Iterator[tuple[str, Any, Pair]]:
    """Pair each step of a run with what it is compared with."""
    rows = counts[counts["run"] == run]
    if baseline is None:
        reference = rows[rows["step"] == rows["step"].min()]
        rows = rows[rows["step"] > rows["step"].min()]
    else:
        reference = counts[counts["run"] == baseline]
        if reference["step"].notna().any():
            reference = reference[reference["step"] == reference["step"].max()]
    names = {f"{run}\0{step}": int(step) for step in sorted(rows["step"].unique())}
    parts = [
        rows[rows["step"] == step].assign(run=name).drop(columns="step")
        for name, step in names.items()
    ]
    together = pd.concat([reference.assign(run=_REFERENCE).drop(columns="step"), *parts])
    for pair in make_pairs(together, _REFERENCE, ks, metrics, how):
        yield pair.run, names[pair.run], pair


def _curves(
    counts: pd.DataFrame, ks: list[int], modes: bool, resampling: ResamplingOptions
) -> pd.DataFrame:
    by = [*MAIN_KEYS, "step"]
    parts = [pass_at_k_curve(counts, ks, by=by, **resampling).assign(metric="pass")]
    if modes:
        parts.append(
            distinct_at_k_curve(counts, ks[-1:], by=by, **resampling).assign(metric="distinct")
        )
    table = pd.concat(parts, ignore_index=True)
    table["metric"] += "@" + table["k"].astype(str)
    columns = [*by, "metric", "estimate", "low", "high", "n_problems"]
    return table.sort_values([*MAIN_KEYS, "step"], kind="stable", ignore_index=True)[columns]


def first_narrower(table: pd.DataFrame) -> dict[tuple[str, str], int | None]:
    """Find the first step at which reach is narrower.

    Parameters
    ----------
    table : DataFrame
        What `checkpoints` returns.

    Returns
    -------
    dict
        (run, split) -> step; None where it is at no step.
    """
    found = {}
    for (run, split), rows in table.groupby(list(MAIN_KEYS), sort=False):
        narrow = rows.loc[rows["reach"] == "narrower", "step"]
        found[str(run), str(split)] = None if narrow.empty else int(narrow.min())
    return found
