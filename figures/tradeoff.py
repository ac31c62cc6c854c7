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
    bootstrap_mean,
    matched_differences,
    paired_differences,
    policy_curve,
)

HALF = ResamplingOptions(n_resamples=2_000, random_state=0)


FRONT = ("pass@1", "coverage@64", "distinct@64")
SLACK = 0.01  # of the accuracy of the best GRPO that a fix may miss on the validation problems


@PATHS.table("front-paths")
def front(lab: Lab) -> pd.DataFrame:
    """Every run at every rate after the last update, against GRPO at the same rate and the base."""
    rates = lab.rates
    values: dict[Any, Any] = {
        key: np.stack(
            [part.pivot_table(index="seed", columns="problem_id", values=name) for name in FRONT],
            axis=2,
        )
        for key, part in rates.groupby(["run", "learning_rate"])
    }
    base = values.pop(("base", 0.0))
    validation = pd.read_csv(lab.data / "validation.csv").groupby(["run", "learning_rate"])
    chosen = validation[["pass@1", "distinct@64"]].mean()
    rows = []
    for (run, rate), array in values.items():
        low, high = bootstrap_mean(array, **HALF)
        row: dict[str, Any] = {"run": run, "rate": rate}
        for place, name in enumerate(FRONT):
            row |= {name: array[..., place].mean(), f"{name} low": low[place]}
            row[f"{name} high"] = high[place]
        for other, theirs in (("grpo", values.get(("grpo", rate))), ("base", base)):
            if theirs is not None and run != other:
                pair = paired_differences({"other": theirs, "run": array}, "other", **HALF)
                less, kept = pair.iloc[0], pair.iloc[2]
                row |= three(less, f"pass@1 less {other}", "difference", "")
                row |= three(kept, f"distinct@64 of {other}")
        row |= {f"validation {name}": chosen[name][run, rate] for name in chosen}
        rows.append(row)
    table = pd.DataFrame(rows)
    best = table.loc[table["run"] == "grpo", "validation pass@1"].max()
    table["reaches"] = table["validation pass@1"] >= best - SLACK
    return table


@PATHS.figure("tradeoff-paths", "Accuracy and coverage, at every rate")
def tradeoff(lab: Lab) -> Drawn:
    """Accuracy against coverage@64: in training, and of every method at every rate."""
    usual = lab.policies[lab.policies["split"] == "id"]
    tables = []
    for metric, k, name in (("pass_at_k", 1, "pass@1"), ("coverage_at_k", 64, "coverage@64")):
        part = policy_curve(usual[usual["run"].isin(MAIN)], metric, k, BY, **HOW)
        part = part.set_index(["run", "step"])
        tables.append(part[["estimate", "low", "high"]].add_prefix(f"{name} "))
    table = tables[0].join(tables[1]).reset_index()
    table = table.rename(columns=lambda name: name.replace(" estimate", ""))
    means = lab.rates.groupby(["run", "learning_rate"])[["pass@1", "coverage@64"]].mean()
    means = means.reset_index().sort_values("learning_rate")
    figure, axes = plt.subplots(1, 3, figsize=(16, 5.2), sharey=True)
    plot_tradeoff(table, "pass@1", "coverage@64", axes[0], lab_styles(MAIN), lines=True)
    for ax, names in zip(axes[1:], (WITH_TEACHER, WITHOUT_TEACHER), strict=True):
        for run, look in lab_styles(names).items():
            part = means[means["run"] == run]
            ax.plot(part["pass@1"], part["coverage@64"], color=look.color, marker=look.marker,
                    linestyle=look.linestyle, linewidth=1.2, label=run)  # fmt: skip
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=3, fontsize=9)
        ax.set_xlim(0.67, 0.83)
    for ax in axes:
        ax.set(xlabel="pass@1", ylabel="coverage@64 (share of the correct paths)")
    axes[0].set_title("Main runs in training, rate 1e-4")
    axes[1].set_title("Self-distillation after 240 updates, three rates")
    axes[2].set_title("Policy gradients and fine-tuning, three rates")
    return figure, table


WITH_TEACHER = (
    "grpo", "sdsd", "sdsd/frozen", "sdsd-uniform", "sdsd-composed", "sdsd-composed/balanced",
    "sdsd-anchored", "sdsd-anchored/dkpo",
)  # fmt: skip
WITHOUT_TEACHER = ("grpo", "grpo/kl", "rft", "rft/balanced", "mara", "pkpo", "dkpo", "dkpo/mixed")


@tradeoff.found
def _(tables: Tables) -> str:
    table = tables["front-paths"].set_index(["run", "rate"])
    less, kept = "pass@1 less grpo", "distinct@64 of grpo"

    def against(run: str) -> str:
        rows = [
            f"""{rate:g} {span(row, 2, less, f"{less} ")} and
            {span(row, 2, kept, f"{kept} ")}"""
            for rate, row in table.loc[run].sort_index().iterrows()
            if row[less] == row[less]
        ]
        return f"{run}: {'; '.join(rows)}"

    told = ". ".join(against(run) for run in ("sdsd", "sdsd/frozen", "sdsd-composed"))
    of_base = "distinct@64 of base"
    reach = table[table["reaches"]].sort_values("validation distinct@64", ascending=False)
    (run, rate), first = reach.index[0], reach.iloc[0]
    best = table.loc["grpo"].sort_values("validation pass@1").iloc[-1]
    return f"""Every run at the same rates; difference of pass@1 to GRPO's and ratio of distinct@64
        to GRPO's at the same rate, {told}. Of all runs whose pass@1 on the validation problems is
        within {SLACK:g} of the best GRPO's, {run} at {rate:g} has the most distinct paths there; on
        the problems of the figure it has pass@1 {span(first, 2, "pass@1", "pass@1 ")} and
        {span(first, 2, of_base, f"{of_base} ")} of the base's distinct@64, where that GRPO has
        {span(best, 2, "pass@1", "pass@1 ")} and {span(best, 2, of_base, f"{of_base} ")}."""


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
    ("no-switch", "sdsd", "grpo/kl"): "a demonstration is no switch",
    ("no-switch", "sdsd/frozen", "grpo/kl"): "no switch, teacher frozen",
    ("no-switch", "sdsd-composed", "grpo/kl"): "no switch, teacher composed",
}


@PATHS.figure("map-paths", "Where self-distillation narrows")
def conditions(lab: Lab) -> Drawn:
    """Where self-distillation narrows: one condition changed at a time."""
    mapped = pd.read_parquet(lab.data / "map.parquet")
    last = int(mapped["step"].max())
    everything = with_starts(mapped)
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


def with_starts(mapped: pd.DataFrame) -> pd.DataFrame:
    """Start every run of the map at the base of its condition."""
    parts = []
    for condition, part in mapped.groupby("condition", observed=True):
        base = part[part["run"] == "base"]
        runs = [run for run in part["run"].unique() if run != "base"]
        starts = [base.assign(run=run, condition=condition) for run in runs]
        parts += [part[part["run"] != "base"], *starts]
    return pd.concat(parts, ignore_index=True)
