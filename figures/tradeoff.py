"""Accuracy against coverage in the path-finding lab, and where self-distillation narrows."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import BY, MAIN, N_RESAMPLES, PATHS, SEED, Lab, common_target, trajectories
from palette import STYLES, lab_styles
from registry import Drawn, Tables
from words import listed, span

from passk_lab.plots import plot_tradeoff
from passk_lab.stats import matched_differences, paired_differences, policy_curve


@PATHS.figure("tradeoff-paths", "Accuracy and coverage in training")
def tradeoff(lab: Lab) -> Drawn:
    """Accuracy against coverage@64 in training, every method: comparison at equal accuracy."""
    usual = lab.policies[lab.policies["split"] == "id"]
    tables = []
    for metric, k, name in (("pass_at_k", 1, "pass@1"), ("coverage_at_k", 64, "coverage@64")):
        part = policy_curve(usual, metric, k, BY, n_resamples=N_RESAMPLES, random_state=SEED)
        part = part.set_index(["run", "step"])
        tables.append(part[["estimate", "low", "high"]].add_prefix(f"{name} "))
    table = tables[0].join(tables[1]).reset_index()
    table = table.rename(columns=lambda name: name.replace(" estimate", ""))
    runs = table["run"].unique()
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), sharex=True, sharey=True)
    groups = [[r for r in runs if r in MAIN], [r for r in runs if r not in MAIN or r == "base"]]
    for ax, names in zip(axes, groups, strict=True):
        part = table[table["run"].isin(names)]
        plot_tradeoff(part, "pass@1", "coverage@64", ax, lab_styles(names), lines=True)
        ax.set_xlabel("pass@1")
        ax.set_ylabel("coverage@64 (share of the correct paths)")
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
                accuracy, trajectories(usual, metric, k), other, target,
                n_resamples=2_000, random_state=SEED,
            )  # fmt: skip
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
        middle = table[name].to_numpy()
        spans = np.abs(table[[f"{name} low", f"{name} high"]].to_numpy().T - middle)
        ax.axvline(none, color="black", linewidth=1)
        ax.errorbar(middle, at, xerr=spans, fmt="^", color=color, capsize=3)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(at, table["condition"])
    axes[0].set_xlabel("pass@1 of SDSD minus pass@1 of GRPO")
    for ax in axes[1:]:
        ax.set_xlabel("coverage@64 of SDSD / of GRPO")
    axes[0].set_title(f"Accuracy after {last} updates")
    axes[1].set_title(f"Correct paths covered after {last} updates")
    axes[2].set_title("The same at equal accuracy")
    return figure, table


@conditions.found
def _(tables: Tables) -> str:
    table = tables["map-paths"]
    ahead = table[table["difference low"] > 0]["condition"].tolist()
    behind = table[table["difference high"] < 0]["condition"].tolist()
    narrower = table[table["ratio high"] < 1]["condition"].tolist()
    wider = table[table["ratio low"] > 1]["condition"].tolist()
    fewer = table[table["kept high"] < 1]["condition"].tolist()
    more = table[table["kept low"] > 1]["condition"].tolist()
    return f"""One condition changed at a time, {len(table)} in all; what is counted has an interval
        on one side. After {table["step"].max()} updates SDSD is more accurate than GRPO in
        {listed(ahead)} and less in {listed(behind)}; it covers fewer correct paths in
        {listed(fewer)} and more in {listed(more)}. At equal accuracy it covers fewer in
        {listed(narrower)} and more in {listed(wider)}."""


def under_condition(part: pd.DataFrame, run: str, other: str) -> dict[str, object]:
    """Compare two runs after the last step that both have, and where they are equally accurate."""
    steps = sorted(set.intersection(*(set(rows["step"]) for _, rows in part.groupby("run"))))
    part = part[part["step"].isin(steps)]
    accuracy = trajectories(part, "pass_at_k", 1)
    coverage = trajectories(part, "coverage_at_k", 64)
    end, kept = (
        paired_differences({r: x[:, :, -1:] for r, x in values.items()}, other,
                         n_resamples=N_RESAMPLES, random_state=SEED).iloc[0]
        for values in (accuracy, coverage)
    )  # fmt: skip
    target = common_target(accuracy[run], accuracy[other])
    equal = matched_differences(
        accuracy, coverage, other, target, n_resamples=2_000, random_state=SEED
    ).iloc[0]
    return {
        "step": steps[-1],
        "pass@1": end["estimate"],
        "difference": end["difference"],
        "difference low": end["low"],
        "difference high": end["high"],
        "kept": kept["ratio"],
        "kept low": kept["ratio_low"],
        "kept high": kept["ratio_high"],
        "target": equal["target"],
        "reached": equal["reached"],
        "ratio": equal["ratio"],
        "ratio low": equal["ratio_low"],
        "ratio high": equal["ratio_high"],
    }


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
