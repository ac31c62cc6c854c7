"""Counts that others published: base against RL on MATH500, and what a report says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from countdown import figure_of
from registry import Drawn, Study, Tables
from words import span

from passk_lab import judge
from passk_lab.plots import method_styles, plot_pass_at_k
from passk_lab.rollouts import Study as Rollouts
from passk_lab.stats import format_estimate
from passk_lab.stats.compare import compare_runs
from passk_lab.stats.curves import pass_at_k_curve

BASE, RL = "Qwen2.5-7B", "Qwen2.5-7B-SimpleRL-Zoo"
N_RESAMPLES = 10_000
SEED = 0
OPTIONS: dict[str, Any] = {"n_resamples": N_RESAMPLES, "random_state": SEED}


def load(data: Path) -> Any:
    """Count."""
    return Rollouts(data).counts()


PUBLISHED = Study("published", load, "data/math500/counts.csv", N_RESAMPLES, SEED)


@PUBLISHED.figure("pass_at_k-math500", "Base against RL on MATH500, from published counts")
def pass_at_k(counts: Any) -> Drawn:
    """pass@k of both."""
    curve = pass_at_k_curve(counts, **OPTIONS)
    return figure_of(plot_pass_at_k(curve, styles=method_styles([RL, BASE], BASE))), curve


@pass_at_k.found
def _(tables: Tables) -> str:
    table = tables["differences-math500"].set_index("k")
    first, last = table.iloc[0], table.iloc[-1]
    crossing = table.iloc[0][["k_cross", "k_cross_low", "k_cross_high"]]
    return f"""A 7B base model against its RL (GRPO) checkpoint, {int(first["n_problems"])}
        problems, {table.index[-1]} samples each: pass@1 changes by {span(first, 3, "difference")},
        pass@{table.index[-1]} by {span(last, 3, "difference")}; the curves cross at k =
        {format_estimate(*crossing, digits=1)}. The report's words:
        {first["label"]}."""


@PUBLISHED.table("differences-math500")
def differences(counts: Any) -> pd.DataFrame:
    """Paired differences, the crossing and the verdict."""
    found = compare_runs(counts, BASE, **OPTIONS)
    verdict = judge(counts, BASE, **OPTIONS)[0]
    columns = {"low": "k_cross_low", "high": "k_cross_high"}
    crossings = found.crossings.rename(columns=columns).drop(columns=["share", "k_max"])
    return found.differences.merge(crossings, on=["run", "split"]).assign(label=verdict.label)
