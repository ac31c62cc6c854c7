"""Accuracy against coverage in the path-finding lab, and where self-distillation narrows."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import BY, HOW, MAIN, PATHS, SHOWN, Lab, common_target, trajectories
from palette import STYLES, lab_styles, name_of, spans
from registry import Drawn, Tables
from words import rows_of, span

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
    figure, axes = plt.subplots(2, 2, figsize=(10.6, 9), sharey=True)
    shown = table[table["run"].isin(SHOWN)]
    plot_tradeoff(shown, "pass@1", "coverage@64", axes[0, 0], lab_styles(SHOWN), lines=True)
    axes[0, 0].legend([look.handle() for look in lab_styles(SHOWN).values()], SHOWN)
    axes[0, 0].set_title("In training, rate 1e-4")
    for ax, (title, names) in zip(axes.flat[1:], FAMILIES.items(), strict=True):
        for run, look in lab_styles(names).items():
            part = means[means["run"] == run]
            ax.plot(part["pass@1"], part["coverage@64"], color=look.color, marker=look.marker,
                    linestyle=look.linestyle, linewidth=1.2, label=run)  # fmt: skip
        ax.set(xlim=(0.67, 0.83), title=f"{title}, three rates")
        ax.legend(loc="lower left")
    for ax in axes.flat:
        ax.set_xlabel("pass@1")
    for ax in axes[:, 0]:
        ax.set_ylabel("coverage@64 (share of the correct paths)")
    return figure, table


# What is drawn in one panel, each after 240 updates.
FAMILIES = {
    "Teachers": ("grpo", "sdsd", "sdsd/frozen", "sdsd-composed"),
    "Rewards for distinct answers": ("grpo", "grpo/kl", "dkpo", "mara"),
    "Mixtures": ("grpo", "sdsd-anchored", "sdsd-anchored/dkpo", "dkpo/mixed"),
}


@tradeoff.found
def _(tables: Tables) -> str:
    table = tables["front-paths"].set_index(["run", "rate"])
    less, kept = "pass@1 less grpo", "distinct@64 of grpo"

    of_base = "distinct@64 of base"
    rows = [
        [name_of(run), f"{rate:g}", span(row, 2, "pass@1", "pass@1 "),
         span(row, 2, less, f"{less} ") if run != "grpo" else "",
         span(row, 2, kept, f"{kept} ") if run != "grpo" else "",
         span(row, 2, of_base, f"{of_base} ")]
        for run in dict.fromkeys(run for names in FAMILIES.values() for run in names)
        for rate, row in table.loc[run].sort_index().iterrows()
    ]  # fmt: skip
    heads = ("", "rate", "pass@1", "less GRPO's", "distinct@64 of GRPO's", "of the base's")
    reach = table[table["reaches"]].sort_values("validation distinct@64", ascending=False)
    (run, rate), first = reach.index[0], reach.iloc[0]
    return f"""Chosen on other problems, {name_of(run)} at {rate:g} keeps most distinct paths among
        all whose accuracy is within {SLACK:g} of the best GRPO's:
        {span(first, 2, of_base, f"{of_base} ")} of the base's.

{rows_of(heads, rows)}"""


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

CUT = {"difference": -0.3, "kept": 0.5, "ratio": 0.78}  # what lies below is written


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
        ink = ax.spines["left"].get_edgecolor()
        ax.axvline(none, color=ink, linewidth=1)
        ax.errorbar(table[name], at, xerr=bars, fmt="^", color=color, capsize=3)
        ax.grid(axis="y", visible=False)
        ax.set_xlim(left=CUT[name])
        for place, value in zip(at, table[name], strict=True):
            if value < CUT[name]:
                ax.annotate(f"◂ {value:.2f}", (CUT[name], place), (4, 0), va="center",
                            textcoords="offset points", color=color)  # fmt: skip
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

    rows = [
        ["pass@1", *counts(table, "difference", 0)],
        ["coverage@64", *counts(table, "kept", 1)],
        ["coverage@64 at equal accuracy", *counts(table, "ratio", 1)],
    ]
    return f"""SDSD against GRPO with one condition changed at a time, {len(table)} in all: in how
        many its interval lies on one side after {table["step"].max()} updates.

{rows_of(("SDSD has", "less", "more", "neither"), rows)}"""


def counts(table: pd.DataFrame, name: str, none: float) -> list[str]:
    """In how many rows an interval lies below, above and on both sides of no change."""
    less, more = table[f"{name} high"] < none, table[f"{name} low"] > none
    return [str(int(rows.sum())) for rows in (less, more, ~(less | more))]


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
