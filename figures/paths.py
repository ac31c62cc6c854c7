"""Figures of the path-finding lab, from ``data/paths``: rollouts and exact policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from passk_lab import counts
from passk_lab.plots import (
    method_styles,
    plot_distinct_at_k,
    plot_pass_at_k,
    plot_progress,
    plot_tradeoff,
    save_figure,
    style,
)
from passk_lab.policies import policy_curve, policy_values
from passk_lab.seeds import crossed_bootstrap, seed_curve, seed_differences, seed_values

MAIN = ("base", "grpo", "grpo/kl", "sdsd", "sdsd/live", "sdsd-uniform", "mara")
KS = (1, 2, 4, 8, 16, 32, 64, 128)
BY = ("run", "split", "step")
N_RESAMPLES = 10_000
SEED = 0
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
    files: list[Path] = []
    with style():
        for name, (figure, table) in {
            "pass_at_k-paths": pass_at_k(final, policies[policies["step"] == last]),
            "distinct_at_k-paths": distinct_at_k(final, policies),
            "entropy-paths": entropy_figure(counted, entropy, last),
            "ood-paths": out_of_distribution(final),
            "tradeoff-paths": tradeoff(policies),
        }.items():
            files += save_figure(figure, figures / name)
            plt.close(figure)
            table.to_csv(figures / f"{name}.csv", index=False, float_format="%.6g")
            files.append(figures / f"{name}.csv")
    found = findings(final, policies, entropy, last)
    found.to_csv(figures / "findings-paths.csv", index=False, float_format="%.6g")
    return [*files, figures / "findings-paths.csv"]


def with_start(table: pd.DataFrame) -> pd.DataFrame:
    """Let the base, which takes no steps, stand at every step of the others, too."""
    base = table[table["run"] == "base"]
    steps = sorted(set(table["step"]) - {0})
    return pd.concat([table, *(base.assign(step=step) for step in steps)], ignore_index=True)


def token_entropy(rollouts: Path) -> pd.DataFrame:
    """Mean token entropy of each problem."""
    keys = [*BY, "seed", "problem_id"]
    table = pd.read_parquet(rollouts, columns=[*keys, "token_entropy"])
    means = table.groupby(keys, observed=True)["token_entropy"].mean().reset_index()
    return means.astype({"run": str, "split": str, "problem_id": str})


def pass_at_k(final: pd.DataFrame, policies: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 2: pass@k, and the coverage that pass@k can't see."""
    solved = select(curve(final, "pass_at_k"), "id")
    covered = select(exact(policies, "coverage_at_k"), "id")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = method_styles(MAIN)
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
    progress = []
    for metric, k in (("pass_at_k", 1), ("distinct_at_k", 64)):
        part = policy_curve(policies, metric, k, BY, n_resamples=N_RESAMPLES, random_state=SEED)
        progress.append(select(part, "id").assign(metric=metric))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6))
    styles = method_styles(MAIN)
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
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = method_styles(table["run"].unique())
    for ax, x in zip(axes, ("token_entropy", "pass@1"), strict=True):
        plot_tradeoff(table, x, "distinct@64", ax, styles)
        ax.set_ylabel("distinct@64 (correct paths per problem)")
    axes[0].set_xlabel("mean token entropy (nats)")
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
    styles = method_styles(MAIN)
    parts = []
    for ax, (split, title) in zip(axes, SPLITS.items(), strict=True):
        part = select(curves, split)
        plot_pass_at_k(part, ax, styles)
        ax.set_title(title[0].upper() + title[1:])
        parts.append(part)
    return figure, pd.concat(parts)


def tradeoff(policies: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy against coverage@64 in training, every method: comparison at equal accuracy."""
    tables = []
    for metric, k, name in (("pass_at_k", 1, "pass@1"), ("coverage_at_k", 64, "coverage@64")):
        part = policy_curve(policies, metric, k, BY, n_resamples=N_RESAMPLES, random_state=SEED)
        part = part[part["split"] == "id"].set_index(["run", "step"])
        tables.append(part[["estimate", "low", "high"]].add_prefix(f"{name} "))
    table = tables[0].join(tables[1]).reset_index()
    table = table.rename(columns=lambda name: name.replace(" estimate", ""))
    runs = table["run"].unique()
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), sharex=True, sharey=True)
    groups = [[r for r in runs if r in MAIN], [r for r in runs if r not in MAIN or r == "base"]]
    for ax, names in zip(axes, groups, strict=True):
        part = table[table["run"].isin(names)]
        plot_tradeoff(part, "pass@1", "coverage@64", ax, method_styles(names), lines=True)
        ax.set_xlabel("pass@1")
        ax.set_ylabel("coverage@64 (share of the correct paths)")
    axes[0].set_title("Main runs in training")
    axes[1].set_title("The other runs")
    return figure, table


def findings(
    final: pd.DataFrame, policies: pd.DataFrame, entropy: pd.DataFrame, last: int
) -> pd.DataFrame:
    """What the experiment was to show, in numbers with intervals over seeds and problems."""
    parts = []
    wanted = [
        ("id", "pass_at_k", 1),
        ("id", "pass_at_k", 64),
        ("id", "distinct_at_k", 64),
        *((split, "pass_at_k", k) for split in SPLITS for k in (1, 8, 64)),
    ]
    for split, metric, k in wanted:
        found = seed_values(final[final["split"] == split], metric, k, BY)
        parts += [
            compared({g[0]: v for g, (_, _, v) in found.items()}, split, f"{metric[:-2]}@{k}")
        ]
    at_end = policies[(policies["step"] == last) & (policies["split"] == "id")]
    for metric, k in (
        ("coverage_at_k", 64),
        ("concept_coverage_at_k", 64),
        ("effective_answers", 1),
    ):
        found = policy_values(at_end, metric, k, BY)
        name = metric.replace("_at_k", f"@{k}")
        parts += [compared({g[0]: v for g, (_, _, v) in found.items()}, "id", name)]
    tokens = entropy[(entropy["step"] == last) & (entropy["split"] == "id")]
    arrays = {
        run: np.stack([seed["token_entropy"].to_numpy() for _, seed in part.groupby("seed")])
        for run, part in tokens.sort_values("problem_id").groupby("run")
    }
    parts += [compared({r: a[:, :, None] for r, a in arrays.items()}, "id", "token_entropy")]
    return pd.concat(parts, ignore_index=True)


def compared(values: dict[str, np.ndarray], split: str, metric: str) -> pd.DataFrame:
    """Estimate with interval, and the difference and ratio to the base, GRPO and SDSD."""
    rows = []
    for run, array in values.items():
        low, high = crossed_bootstrap(array, N_RESAMPLES, random_state=SEED)
        rows.append((run, float(array.mean()), low[0], high[0]))
    table = pd.DataFrame(rows, columns=["run", "estimate", "low", "high"])
    for other in ("base", "grpo", "grpo/kl", "sdsd"):
        if other in values:
            part = seed_differences(values, other, n_resamples=N_RESAMPLES, random_state=SEED)
            part = part.drop(columns=["column", "estimate"]).set_index("run")
            table = table.join(part.add_suffix(f" vs {other}"), on="run")
    table.insert(0, "metric", metric)
    table.insert(0, "split", split)
    return table


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


def legend_outside(ax: Axes) -> None:
    """Move a legend to the right of the Axes."""
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
