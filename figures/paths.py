"""Figures of the path-finding lab, from ``data/paths``: rollouts and exact policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from palette import lab_styles
from writing import write, write_table

from passk_lab import counts
from passk_lab.plots import (
    plot_distinct_at_k,
    plot_pass_at_k,
    plot_progress,
    plot_tradeoff,
    style,
)
from passk_lab.stats import (
    crossed_bootstrap,
    matched_differences,
    policy_curve,
    policy_values,
    seed_crossings,
    seed_curve,
    seed_differences,
    seed_values,
)

MAIN = ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd-uniform", "mara")
KS = (1, 2, 4, 8, 16, 32, 64, 128)
BY = ("run", "split", "step")
N_RESAMPLES = 4_000
SEED = 0
# What is measured at the end of training, on every split.
FOUND = (
    ("pass_at_k", 1),
    ("pass_at_k", 8),
    ("pass_at_k", 64),
    ("distinct_at_k", 64),
    ("coverage_at_k", 64),
    ("concept_coverage_at_k", 64),
    ("effective_answers", 1),
)
TICKS = (0.2, 0.5, 1, 2)  # nats
SPLITS = {
    "ood-blocked": "favourite path blocked",
    "ood-larger": "larger graphs",
    "ood-waypoint": "required waypoint",
}


def draw(data: Path, figures: Path) -> list[Path]:
    """Draw every figure of the lab; return what was written, each with its CSV."""
    counted = counts(data / "rollouts.parquet", [*BY, "seed"], modes=True)
    entropy = token_entropy(data / "rollouts.parquet")
    policies = pd.read_parquet(data / "policies.parquet")
    last = int(policies["step"].max())
    policies = with_start(policies)
    counted = with_start(counted)
    entropy = with_start(entropy)
    final = counted[counted["step"] == last]
    seen = with_start(pd.read_parquet(data / "seen.parquet"))
    seen = seen[seen["step"] == seen["step"].max()]
    with style():
        drawn = {
            "pass_at_k-paths": pass_at_k(final, policies[policies["step"] == last]),
            "distinct_at_k-paths": distinct_at_k(final, policies),
            "entropy-paths": entropy_figure(counted, entropy, last),
            "ood-paths": out_of_distribution(final),
            "tradeoff-paths": tradeoff(policies),
            "map-paths": map_figure(policies, pd.read_parquet(data / "map.parquet")),
            "seen-paths": trained_on(seen),
        }
        files = write(drawn, figures)
    for name, table in {
        "findings-paths": findings(policies, entropy, last),
        "matched-paths": matched(policies),
        "crossings-paths": crossings(policies[policies["step"] == last]),
        "seen-findings-paths": exact_findings(seen, "id"),
    }.items():
        files.append(write_table(table, figures / f"{name}.csv"))
    return files


def with_start(table: pd.DataFrame) -> pd.DataFrame:
    """Start every run at the base, and let the base stand beside it at every step."""
    base = table[table["run"] == "base"]
    runs = [run for run in table["run"].unique() if run != "base"]
    steps = sorted(set(table["step"]) - {0})
    starts = [base.assign(run=run) for run in runs]
    return pd.concat([table, *starts, *(base.assign(step=s) for s in steps)], ignore_index=True)


def token_entropy(rollouts: Path) -> pd.DataFrame:
    """Mean token entropy of each problem."""
    keys = [*BY, "seed", "problem_id"]
    table = pd.read_parquet(rollouts, columns=[*keys, "token_entropy"])
    means = table.groupby(keys, observed=True)["token_entropy"].mean().reset_index()
    return means.astype({"run": str, "split": str, "problem_id": str})


def pass_at_k(final: pd.DataFrame, policies: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 2: pass@k, and the coverage that pass@k can't see."""
    solved = select(curve(final, "pass_at_k"), "id")
    covered = select(exact(policies[policies["split"] == "id"], "coverage_at_k"), "id")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = lab_styles(MAIN)
    plot_pass_at_k(solved, left, styles)
    plot_distinct_at_k(covered, right, styles)
    right.set_ylabel("coverage@k (share of the correct paths)")
    left.set_title("In distribution: some path is found")
    right.set_title("In distribution: how many of them")
    table = pd.concat([solved.assign(metric="pass_at_k"), covered.assign(metric="coverage_at_k")])
    return figure, table


def distinct_at_k(final: pd.DataFrame, policies: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 3: distinct correct paths by k, and how they and pass@1 go in training."""
    found = select(curve(final, "distinct_at_k"), "id")
    shown = policies[(policies["split"] == "id") & policies["run"].isin(MAIN)]
    progress = []
    for metric, k in (("pass_at_k", 1), ("distinct_at_k", 64)):
        part = policy_curve(shown, metric, k, BY, n_resamples=N_RESAMPLES, random_state=SEED)
        progress.append(select(part, "id").assign(metric=metric))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6))
    styles = lab_styles(MAIN)
    plot_distinct_at_k(found, left, styles)
    plot_progress(progress[0], middle, styles)
    plot_progress(progress[1], right, styles)
    middle.set_ylabel("pass@1 (mean over problems)")
    right.set_ylabel("distinct@64 (correct paths per problem)")
    right.set_ylim(bottom=0)
    left.set_title("Distinct correct paths")
    middle.set_title("Accuracy in training")
    right.set_title("Distinct paths in training")
    table = pd.concat([found.assign(metric="distinct_at_k"), *progress])
    return figure, table


def trained_on(seen: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """pass@k and distinct@k on the very problems that were trained on."""
    runs = ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd/ema-0.05")
    solved = select(exact(seen, "pass_at_k"), "id", runs)
    found = select(exact(seen, "distinct_at_k"), "id", runs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = lab_styles(runs)
    plot_pass_at_k(solved, left, styles)
    plot_distinct_at_k(found, right, styles)
    right.set_ylim(bottom=0)
    left.set_title("Problems trained on: some path is found")
    right.set_title("Problems trained on: how many of them")
    table = pd.concat([solved.assign(metric="pass_at_k"), found.assign(metric="distinct_at_k")])
    return figure, table


def entropy_figure(
    counted: pd.DataFrame, entropy: pd.DataFrame, last: int
) -> tuple[Figure, pd.DataFrame]:
    """Figure 4: mean token entropy against distinct correct paths, one point a checkpoint."""
    keys = ["run", "step", "seed"]
    wanted = counted[counted["split"] == "id"]
    distinct = means(wanted, "distinct_at_k", 64)
    tokens = entropy[entropy["split"] == "id"].groupby(keys)["token_entropy"].mean()
    table = distinct.join(tokens).reset_index()
    # The base was copied to every step; once is enough.
    table = table[(table["run"] != "base") | (table["step"] == last)]
    figure, axes = plt.subplots(1, 2, figsize=(11, 6))
    styles = lab_styles(table["run"].unique())
    for ax, x in zip(axes, ("token_entropy", "pass@1"), strict=True):
        plot_tradeoff(table, x, "distinct@64", ax, styles)
        ax.set_ylabel("distinct@64 (correct paths per problem)")
    axes[0].set_xscale("log")  # a collapsed model babbles at many times the others' entropy
    axes[0].set_xticks(TICKS, map(str, TICKS))
    axes[0].minorticks_off()
    axes[0].set_xlabel("mean token entropy (nats, log scale)")
    axes[1].set_xlabel("pass@1")
    axes[0].set_title("Token entropy against distinct paths")
    axes[1].set_title("Accuracy against distinct paths")
    return figure, table


def means(counted: pd.DataFrame, metric: str, k: int) -> pd.DataFrame:
    """pass@1 and another metric of each run, step and seed."""
    rows = []
    for name, of, at in (("pass@1", "pass_at_k", 1), ("distinct@64", metric, k)):
        for (run, _, step), (_, _, values) in seed_values(counted, of, at, BY).items():
            rows += [(run, step, s, name, v) for s, v in enumerate(values.mean(axis=(1, 2)))]
    long = pd.DataFrame(rows, columns=["run", "step", "seed", "name", "value"])
    return long.pivot_table(index=["run", "step", "seed"], columns="name", values="value")


def out_of_distribution(final: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 5: pass@k where another strategy is needed."""
    curves = curve(final, "pass_at_k")
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    styles = lab_styles(MAIN)
    parts = []
    for ax, (split, title) in zip(axes, SPLITS.items(), strict=True):
        part = select(curves, split)
        plot_pass_at_k(part, ax, styles)
        ax.set_title(title[0].upper() + title[1:])
        parts.append(part)
    return figure, pd.concat(parts)


def tradeoff(policies: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy against coverage@64 in training, every method: comparison at equal accuracy."""
    usual = policies[policies["split"] == "id"]
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


def map_figure(policies: pd.DataFrame, mapped: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Where self-distillation narrows: one condition changed at a time."""
    last = int(mapped["step"].max())
    rows = []
    everything = pd.concat([policies.assign(condition="main"), with_starts(mapped, policies)])
    everything = everything[(everything["split"] == "id") & (everything["step"] <= last)]
    for (condition, run, other), label in CONDITIONS.items():
        part = everything[everything["condition"] == condition]
        part = part[part["run"].isin([run, other])]
        steps = sorted(
            set(part.loc[part["run"] == run, "step"]) & set(part.loc[part["run"] == other, "step"])
        )
        part = part[part["step"].isin(steps)]
        accuracy = trajectories(part, "pass_at_k", 1)
        coverage = trajectories(part, "coverage_at_k", 64)
        ends = {r: x[:, :, -1:] for r, x in accuracy.items()}
        end = seed_differences(ends, other, n_resamples=N_RESAMPLES, random_state=SEED).iloc[0]
        kept = seed_differences(
            {r: x[:, :, -1:] for r, x in coverage.items()}, other,
            n_resamples=N_RESAMPLES, random_state=SEED,
        ).iloc[0]  # fmt: skip
        target = common_target(accuracy[run], accuracy[other])
        equal = matched_differences(accuracy, coverage, other, target, random_state=SEED).iloc[0]
        rows.append(
            {
                "condition": label,
                "run": run,
                "baseline": other,
                "step": steps[-1],
                "pass@1": end["estimate"],
                "difference": end["difference"],
                "difference low": end["low"],
                "difference high": end["high"],
                "kept": kept["ratio"],
                "kept low": kept["ratio_low"],
                "kept high": kept["ratio_high"],
                **{name: equal[name] for name in ("target", "reached")},
                "ratio": equal["ratio"],
                "ratio low": equal["ratio_low"],
                "ratio high": equal["ratio_high"],
            }
        )
    table = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True)
    at = np.arange(len(table))[::-1]
    color = lab_styles(["sdsd"])["sdsd"].color
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


def findings(policies: pd.DataFrame, entropy: pd.DataFrame, last: int) -> pd.DataFrame:
    """What the experiment was to show, exact and with intervals over seeds and problems."""
    at_end = policies[policies["step"] == last]
    parts = [exact_findings(at_end[at_end["split"] == s], s) for s in ("id", *SPLITS)]
    tokens = entropy[(entropy["step"] == last) & (entropy["split"] == "id")]
    arrays = {
        run: np.stack([seed["token_entropy"].to_numpy() for _, seed in part.groupby("seed")])
        for run, part in tokens.sort_values("problem_id").groupby("run")
    }
    parts.append(compared({r: a[:, :, None] for r, a in arrays.items()}, "id", ["token_entropy"]))
    return pd.concat(parts, ignore_index=True)


def exact_findings(policies: pd.DataFrame, split: str) -> pd.DataFrame:
    """What follows from exact probabilities, at one step and on one split."""
    columns: dict[str, list[np.ndarray]] = {}
    for metric, k in FOUND:
        for group, (_, _, values) in policy_values(policies, metric, k, BY).items():
            columns.setdefault(group[0], []).append(values)
    names = [metric.replace("_at_k", f"@{k}") for metric, k in FOUND]
    together = {run: np.concatenate(parts, axis=2) for run, parts in columns.items()}
    return compared(together, split, names)


def crossings(final: pd.DataFrame) -> pd.DataFrame:
    """Where the pass@k curve of each run crosses the base's, GRPO's and GRPO's with a penalty."""
    ks = np.unique(np.round(np.geomspace(1, 1024, 61)).astype(int))
    parts = []
    for split in ("id", *SPLITS):
        found = policy_values(final[final["split"] == split], "pass_at_k", ks, BY)
        values = {group[0]: v for group, (_, _, v) in found.items()}
        for other in ("base", "grpo", "grpo/kl"):
            part = seed_crossings(values, other, ks, 0.95, N_RESAMPLES, SEED)
            part.insert(0, "split", split)
            part.insert(2, "baseline", other)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def matched(policies: pd.DataFrame) -> pd.DataFrame:
    """Every run against both kinds of GRPO where they are equally accurate."""
    usual = policies[policies["split"] == "id"]
    accuracy = trajectories(usual, "pass_at_k", 1)
    parts = []
    for other in ("grpo", "grpo/kl"):
        target = {run: common_target(x, accuracy[other]) for run, x in accuracy.items()}
        for metric, k in (("coverage_at_k", 64), ("distinct_at_k", 64), ("effective_answers", 1)):
            found = matched_differences(
                accuracy, trajectories(usual, metric, k), other, target, random_state=SEED
            )
            found.insert(0, "metric", metric.replace("_at_k", f"@{k}"))
            found.insert(1, "baseline", other)
            parts.append(found)
    return pd.concat(parts, ignore_index=True)


def common_target(one: np.ndarray, other: np.ndarray) -> float:
    """Nine tenths of the way from the base to the best accuracy that both reach."""
    means = [x.mean(axis=(0, 1)) for x in (one, other)]
    start = means[0][0]
    return float(start + 0.9 * (min(m.max() for m in means) - start))


def trajectories(policies: pd.DataFrame, metric: str, k: int) -> dict[str, np.ndarray]:
    """Values [seeds, problems, steps] of each run but the base."""
    steps: dict[str, list[np.ndarray]] = {}
    for (run, _, _), (_, _, values) in policy_values(policies, metric, k, BY).items():
        if run != "base":
            steps.setdefault(run, []).append(values)
    return {run: np.concatenate(parts, axis=2) for run, parts in steps.items()}


def compared(values: dict[str, np.ndarray], split: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Estimates with intervals, and differences and ratios to the base, GRPO and SDSD."""
    keys = ["run", "column"]
    parts = []
    for run, array in values.items():
        low, high = crossed_bootstrap(array, N_RESAMPLES, random_state=SEED)
        found = {"run": run, "column": np.arange(len(metrics)), "estimate": array.mean((0, 1))}
        parts.append(pd.DataFrame({**found, "low": low, "high": high}))
    table = pd.concat(parts, ignore_index=True)
    for other in ("base", "grpo", "grpo/kl", "sdsd"):
        part = seed_differences(values, other, n_resamples=N_RESAMPLES, random_state=SEED)
        part = part.drop(columns="estimate").set_index(keys)
        table = table.join(part.add_suffix(f" vs {other}"), on=keys)
    table.insert(0, "metric", [metrics[column] for column in table["column"]])
    table.insert(0, "split", split)
    order = table.sort_values(["column", "run"], kind="stable")
    return order.drop(columns="column")


def curve(counted: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Curve over k from sampled answers."""
    return seed_curve(counted, metric, KS, BY, n_resamples=N_RESAMPLES, random_state=SEED)


def exact(policies: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Curve over k from exact probabilities."""
    return policy_curve(policies, metric, KS, BY, n_resamples=N_RESAMPLES, random_state=SEED)


def select(table: pd.DataFrame, split: str, runs: Sequence[str] = MAIN) -> pd.DataFrame:
    """Rows of one split and of some runs, in their order."""
    part = table[(table["split"] == split) & table["run"].isin(runs)]
    return part.sort_values("run", key=lambda names: names.map(list(runs).index), kind="stable")
