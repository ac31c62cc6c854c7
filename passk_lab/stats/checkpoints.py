"""Checkpoints over training: pass@1, pass@K, distinct answers, and when reach gets narrower."""

from __future__ import annotations

from typing import Any, Unpack

import pandas as pd

from passk_lab.rollouts.counting import as_counts
from passk_lab.rollouts.table import MAIN_KEYS
from passk_lab.stats._pairs import make_pairs
from passk_lab.stats.curves import distinct_at_k_curve, pass_at_k_curve
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.verdict import MARGIN, judge

__all__ = ["checkpoints", "first_narrower"]


def checkpoints(
    rollouts: Any,
    baseline: str | None = None,
    *,
    k: int | None = None,
    margin: float = MARGIN,
    over_seeds: bool = False,
    **resampling: Unpack[ResamplingOptions],
) -> pd.DataFrame:
    """Follow runs that were evaluated at several steps of training.

    Parameters
    ----------
    rollouts : table, path, Study, ...
        With the column ``step``; or counts by run, split, step (and seed).
    baseline : str, optional
        The run to compare with; of several steps its last. Default: each run's first step.
    k : int, optional
        The larger number of samples. Default: the smallest number that a problem has.
    margin : float
        As for `passk_lab.stats.verdict`.
    over_seeds : bool
        Take the column ``seed`` for training seeds, as `passk_lab.judge` does. Three of them see a
        large change only; see docs/coverage.md.
    **resampling
        ``confidence, n_resamples, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    DataFrame
        ``run, split, step, metric`` ("pass@1", "pass@K" and, where some problem has two correct
        answers, "distinct@K"), ``estimate, low, high, n_problems``; and ``first_try, reach,
        distinct, label`` of the step, see `passk_lab.stats.Verdict`, missing where a step is what
        others are compared with. Where nothing changed, at most 1 - ``confidence`` of all calls say
        a single word of change, over all runs, splits and steps together.

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
    counts = as_counts(rollouts, [*MAIN_KEYS, "step", *(["seed"] if over_seeds else [])])
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
    among = int(counts[["run", "split", "step"]].drop_duplicates()["run"].isin(runs).sum())
    named, pairs = [], []
    for run in runs:
        names, together, reference = _side_by_side(counts, run, baseline)
        made = make_pairs(together, reference, ks, metrics, how, over_seeds=over_seeds, among=among)
        named += [(run, names[pair.run]) for pair in made]
        pairs += made
    found = judge(pairs, baseline or "", margin=margin)
    said = ("split", "first_try", "reach", "distinct", "label")
    words = [
        {"run": run, "step": step} | {name: getattr(one, name) for name in said}
        for (run, step), one in zip(named, found, strict=True)
    ]
    mine = counts[counts["run"].isin(runs)].astype({"step": "int64"})
    table = _curves(mine, ks, modes, over_seeds, resampling)
    return table.merge(pd.DataFrame(words), "left", ["run", "split", "step"])


def _side_by_side(
    counts: pd.DataFrame, run: str, baseline: str | None
) -> tuple[dict[str, int], pd.DataFrame, str]:
    """Make a run of each step, beside the one that they are compared with; and name it."""
    rows = counts[counts["run"] == run]
    first = int(rows["step"].min())
    if baseline is None:
        name, reference = f"{run}, step {first}", rows[rows["step"] == first]
        rows = rows[rows["step"] > first]
    else:
        name, reference = f"baseline {baseline}", counts[counts["run"] == baseline]
        if reference["step"].notna().any():
            reference = reference[reference["step"] == reference["step"].max()]
    known = sorted(map(int, rows["step"].dropna().unique()))
    steps = {f"{run}, step {step}": step for step in known}
    parts = [rows[rows["step"] == step].assign(run=one) for one, step in steps.items()]
    together = pd.concat([reference.assign(run=name), *parts]).drop(columns="step")
    return steps, together, name


def _curves(
    counts: pd.DataFrame,
    ks: list[int],
    modes: bool,
    over_seeds: bool,
    resampling: ResamplingOptions,
) -> pd.DataFrame:
    by = [*MAIN_KEYS, "step"]
    options: dict[str, Any] = {"by": by, "over_seeds": over_seeds, **resampling}
    parts = [pass_at_k_curve(counts, ks, **options).assign(metric="pass")]
    if modes:
        parts.append(distinct_at_k_curve(counts, ks[-1:], **options).assign(metric="distinct"))
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
