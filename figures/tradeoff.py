"""Accuracy against coverage in the path-finding lab, and where self-distillation narrows."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import BY, HOW, MAIN, PATHS, Lab, common_target, trajectories
from palette import STYLES, lab_styles, spans
from registry import Drawn, Tables
from words import span

from passk_lab.plots import plot_tradeoff
from passk_lab.stats import (
    ResamplingOptions,
    matched_differences,
    paired_differences,
    policy_curve,
)

HALF = ResamplingOptions(n_resamples=2_000, random_state=0)


@PATHS.figure("tradeoff-paths", "Accuracy and coverage in training")
def tradeoff(lab: Lab) -> Drawn:
    """Accuracy against coverage@64 in training, every method: comparison at equal accuracy."""
    usual = lab.policies[lab.policies["split"] == "id"]
    tables = []
    for metric, k, name in (("pass_at_k", 1, "pass@1"), ("coverage_at_k", 64, "coverage@64")):
        part = policy_curve(usual, metric, k, BY, **HOW).set_index(["run", "step"])
        tables.append(part[["estimate", "low", "high"]].add_prefix(f"{name} "))
    table = tables[0].join(tables[1]).reset_index()
    table = table.rename(columns=lambda name: name.replace(" estimate", ""))
    runs = table["run"].unique()
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), sharex=True, sharey=True)
    groups = [[r for r in runs if r in MAIN], [r for r in runs if r not in MAIN or r == "base"]]
    for ax, names in zip(axes, groups, strict=True):
        part = table[table["run"].isin(names)]
        plot_tradeoff(part, "pass@1", "coverage@64", ax, lab_styles(names), lines=True)
        ax.set(xlabel="pass@1", ylabel="coverage@64 (share of the correct paths)")
    axes[0].set_title("Main runs in training")
    axes[1].set_title("The other runs")
    return figure, table


@tradeoff.found
def _(tables: Tables) -> str:
    table = tables["matched-paths"].set_index(["metric", "baseline", "run"])
    told = []
    for run in ("sdsd", "sdsd/frozen", "sdsd-uniform", "mara"):
        row = table.loc[("coverage@64", "grpo", run)]
        told.append(f"{run} {span(row, 2, 'ratio', 'ratio_')} (at pass@1 {row['target']:.2f})")
    return f"""Coverage@64 relative to GRPO's where both are equally accurate, nine tenths of the
        way to the best accuracy that both reach: {"; ".join(told)}."""


@PATHS.table("matched-paths")
def matched(lab: Lab) -> pd.DataFrame:
    """Every run against both kinds of GRPO where they are equally accurate."""
    usual = lab.policies[lab.policies["split"] == "id"]
    accuracy = trajectories(usual, "pass_at_k", 1)
    parts = []
    for other in ("grpo", "grpo/kl"):
        target = {run: common_target(x, accuracy[other]) for run, x in accuracy.items()}
        for metric, k in (("coverage_at_k", 64), ("distinct_at_k", 64), ("effective_answers", 1)):
            found = matched_differences(
                accuracy, trajectories(usual, metric, k), other, target, **HALF
            )
            found.insert(0, "metric", metric.replace("_at_k", f"@{k}"))
            found.insert(1, "baseline", other)
            parts.append(found)
    return pd.concat(parts, ignore_index=True)


CONDITIONS = {
    ("main", "sdsd/frozen", "grpo/kl"): "teacher: the base, frozen",
    ("main", "sdsd", "grpo/kl"): "main setting: teacher follows at 0.01",
    ("main", "sdsd/ema-0.05", "grpo/kl"): "teacher follows at 0.05",
    ("main", "sdsd/live", "grpo/kl"): "teacher: the student, live",
    ("main", "sdsd/trust-1", "grpo/kl"): "SDSD with KL to the base, weight 1",
    ("main", "sdsd", "grpo"): "GRPO without KL",
    ("main", "sdsd", "grpo/kl-0.3"): "GRPO with KL 0.3 instead of 0.1",
    ("freer-authors", "sdsd", "grpo/kl"): "demonstrations say less: follow 0.6",
    ("fallible-after-demonstration", "sdsd", "grpo/kl"): "1 in 10 errs after a demonstration",
    ("even-authors", "sdsd", "grpo/kl"): "authors equally frequent",
    ("unequal-authors", "sdsd", "grpo/kl"): "one author in 0.7 of the documents",
}


@PATHS.figure("map-paths", "Where self-distillation narrows")
def conditions(lab: Lab) -> Drawn:
    """Where self-distillation narrows: one condition changed at a time."""
    mapped = pd.read_parquet(lab.data / "map.parquet")
    last = int(mapped["step"].max())
    every = [lab.policies.assign(condition="main"), with_starts(mapped, lab.policies)]
    everything = pd.concat(every)
    everything = everything[(everything["split"] == "id") & (everything["step"] <= last)]
    rows = []
    for (condition, run, other), label in CONDITIONS.items():
        part = everything[everything["condition"] == condition]
        row = under_condition(part[part["run"].isin([run, other])], run, other)
        rows.append({"condition": label, "run": run, "baseline": other, **row})
    table = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True)
    at = np.arange(len(table))[::-1]
    color = STYLES["sdsd"].color
    shown = (("difference", 0), ("kept", 1), ("ratio", 1))
    for ax, (name, none) in zip(axes, shown, strict=True):
        bars = spans(table, name, f"{name} ")
        ax.axvline(none, color="black", linewidth=1)
        ax.errorbar(table[name], at, xerr=bars, fmt="^", color=color, capsize=3)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(at, table["condition"])
    ratio = "coverage@64 of SDSD / of GRPO"
    axes[0].set(
        xlabel="pass@1 of SDSD minus pass@1 of GRPO", title=f"Accuracy after {last} updates"
    )
    axes[1].set(xlabel=ratio, title=f"Correct paths covered after {last} updates")
    axes[2].set(xlabel=ratio, title="The same at equal accuracy")
    return figure, table


@conditions.found
def _(tables: Tables) -> str:
    table = tables["map-paths"]

    def where(rows: pd.Series) -> str:
        names = table.loc[rows, "condition"].tolist()
        return f"{len(names)} ({'; '.join(names)})" if names else "none"

    return f"""One condition changed at a time, {len(table)} in all; what is counted has an interval
        on one side. After {table["step"].max()} updates SDSD is more accurate than GRPO in
        {where(table["difference low"] > 0)} and less in {where(table["difference high"] < 0)}; it
        covers fewer correct paths in {where(table["kept high"] < 1)} and more in
        {where(table["kept low"] > 1)}. At equal accuracy it covers fewer in
        {where(table["ratio high"] < 1)} and more in {where(table["ratio low"] > 1)}."""


def under_condition(part: pd.DataFrame, run: str, other: str) -> dict[str, object]:
    """Compare two runs after the last step that both have, and where they are equally accurate."""
    steps = sorted(set.intersection(*(set(rows["step"]) for _, rows in part.groupby("run"))))
    part = part[part["step"].isin(steps)]
    accuracy = trajectories(part, "pass_at_k", 1)
    coverage = trajectories(part, "coverage_at_k", 64)
    end, kept = (
        paired_differences({r: x[:, :, -1:] for r, x in values.items()}, other, **HOW).iloc[0]
        for values in (accuracy, coverage)
    )
    target = common_target(accuracy[run], accuracy[other])
    equal = matched_differences(accuracy, coverage, other, target, **HALF).iloc[0]
    return {
        "step": steps[-1],
        "pass@1": end["estimate"],
        **three(end, "difference", "difference", ""),
        **three(kept, "kept"),
        **{name: equal[name] for name in ("target", "reached")},
        **three(equal, "ratio"),
    }


def three(row: pd.Series, name: str, middle: str = "ratio", ends: str = "ratio_") -> dict[str, Any]:
    """Name an estimate and its interval."""
    found = (row[middle], row[f"{ends}low"], row[f"{ends}high"])
    return dict(zip((name, f"{name} low", f"{name} high"), found, strict=True))


def with_starts(mapped: pd.DataFrame, policies: pd.DataFrame) -> pd.DataFrame:
    """Start every run of the map at the base of its condition."""
    parts = []
    for condition, part in mapped.groupby("condition", observed=True):
        source = policies if condition == "main" else part
        base = source[(source["run"] == "base") & (source["step"] == 0)]
        runs = [run for run in part["run"].unique() if run != "base"]
        starts = [base.assign(run=run, condition=condition) for run in runs]
        parts += [part[part["run"] != "base"], *starts]
    return pd.concat(parts, ignore_index=True)
