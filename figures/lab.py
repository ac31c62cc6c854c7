"""The path-finding lab: its data, its metrics with intervals, and lookups in what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from registry import Study, Tables
from words import span

from passk_lab.stats import (
    ProblemValues,
    ResamplingOptions,
    bootstrap_mean,
    paired_differences,
    policy_curve,
    policy_values,
)

MAIN = ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd-composed", "mara")
SHOWN = ("base", "grpo", "sdsd", "sdsd/frozen")  # of these in the pictures; tables have all
KS = (1, 2, 4, 8, 16, 32, 64, 128)
BY = ("run", "split", "step")
HOW = ResamplingOptions(n_resamples=4_000, random_state=0)
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
SPLITS = {
    "ood-blocked": "favourite path blocked",
    "ood-larger": "larger graphs",
    "ood-waypoint": "required waypoint",
}


class Lab:
    """Exact policies and entropies; every run starts at the base, which stands beside each step."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.policies = with_start(pd.read_parquet(data / "policies.parquet"))
        self.last = int(self.policies["step"].max())
        seen = with_start(pd.read_parquet(data / "seen.parquet"))
        self.seen = seen[seen["step"] == seen["step"].max()]

    @cached_property
    def rates(self) -> pd.DataFrame:
        """Accuracy and distinct paths of each problem, every run at every rate."""
        table = pd.read_parquet(self.data / "rates.parquet")
        # As text, for 3e-5 in single precision isn't the number that it is written as.
        names = {"run": str, "problem_id": str, "learning_rate": str}
        table = table.astype(names).astype({"learning_rate": float})
        start = self.policies[self.policies["run"].eq("base") & self.policies["split"].eq("id")]
        paths = start.astype({"problem_id": str}).groupby("problem_id")["answer"].nunique()
        covered = table["distinct@64"] / table["problem_id"].map(paths)
        return table.assign(**{"coverage@64": covered})

    @cached_property
    def use(self) -> pd.DataFrame:
        """How student and teacher use a demonstration in training."""
        table = pd.read_parquet(self.data / "use.parquet")
        return table.astype({"run": str, "who": str, "problem_id": str})

    @cached_property
    def entropy(self) -> pd.DataFrame:
        """Mean token entropy of each problem's samples."""
        table = pd.read_parquet(self.data / "entropy.parquet")
        return with_start(table.astype({"run": str, "split": str, "problem_id": str}))

    def at_end(self, table: pd.DataFrame) -> pd.DataFrame:
        """Choose the rows of the last update."""
        return table[table["step"] == self.last]


PATHS = Study("paths", Lab, "data/paths", HOW["n_resamples"])


def with_start(table: pd.DataFrame) -> pd.DataFrame:
    """Start every run at the base, and let the base stand beside it at every step."""
    base = table[table["run"] == "base"]
    runs = [run for run in table["run"].unique() if run != "base"]
    steps = sorted(set(table["step"]) - {0})
    starts = [base.assign(run=run) for run in runs]
    return pd.concat([table, *starts, *(base.assign(step=s) for s in steps)], ignore_index=True)


def select(table: pd.DataFrame, split: str, runs: Sequence[str] = MAIN) -> pd.DataFrame:
    """Rows of one split and of some runs, in their order."""
    part = table[(table["split"] == split) & table["run"].isin(runs)]
    return part.sort_values("run", key=lambda names: names.map(list(runs).index), kind="stable")


def exact(policies: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Curve over k from exact probabilities."""
    return policy_curve(policies, metric, KS, BY, **HOW)


def trajectories(policies: pd.DataFrame, metric: str, k: int) -> dict[str, np.ndarray]:
    """Values [seeds, problems, steps] of each run but the base."""
    return side_by_side(policy_values(policies[policies["run"] != "base"], metric, k, BY))


def common_target(one: np.ndarray, other: np.ndarray) -> float:
    """Nine tenths of the way from the base to the best accuracy that both reach."""
    means = [x.mean(axis=(0, 1)) for x in (one, other)]
    start = means[0][0]
    return float(start + 0.9 * (min(m.max() for m in means) - start))


def compared(
    values: dict[str, np.ndarray],
    metrics: Sequence[str],
    others: Sequence[str] = ("base", "grpo", "grpo/kl", "sdsd"),
) -> pd.DataFrame:
    """Estimates with intervals, and differences and ratios to some of the runs.

    Values have the axes seed, problem and metric.
    """
    keys = ["run", "column"]
    parts = []
    for run, array in values.items():
        low, high = bootstrap_mean(array, **HOW)
        found = {"metric": metrics, "run": run, "column": range(len(metrics))}
        parts.append(pd.DataFrame(found).assign(estimate=array.mean((0, 1)), low=low, high=high))
    table = pd.concat(parts, ignore_index=True)
    for other in others:
        part = paired_differences(values, other, **HOW)
        part = part.drop(columns=["estimate", "n_paired"]).set_index(keys)
        table = table.join(part.add_suffix(f" vs {other}"), on=keys)
    return table.sort_values(["column", "run"], kind="stable").drop(columns="column")


def per_seed(rollouts: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Means of a column, [seeds, problems, 1] for each run."""
    means = rollouts.pivot_table(column, ["run", "seed"], "problem_id", observed=True)
    return {str(run): part.to_numpy()[:, :, None] for run, part in means.groupby("run")}


def exact_findings(policies: pd.DataFrame) -> pd.DataFrame:
    """What follows from exact probabilities, at one step and on one split."""
    names = [metric.replace("_at_k", f"@{k}") for metric, k in FOUND]
    groups = [found for metric, k in FOUND for found in policy_values(policies, metric, k, BY)]
    return compared(side_by_side(groups), names)


def side_by_side(groups: Iterable[ProblemValues]) -> dict[str, np.ndarray]:
    """Values of each run, [seeds, problems, columns], those of its groups side by side."""
    columns: dict[str, list[np.ndarray]] = {}
    for found in groups:
        columns.setdefault(str(found.group[0]), []).append(found.values)
    return {run: np.concatenate(parts, axis=2) for run, parts in columns.items()}


class Found:
    """Lookups in the lab's findings."""

    def __init__(self, tables: Tables) -> None:
        table = tables["findings-paths"]
        self.table = table.set_index(["split", "metric", "run"]).sort_index()

    def __call__(self, metric: str, run: str, split: str = "id", digits: int = 2) -> str:
        """Estimate of a run."""
        return f"{self.table.loc[(split, metric, run), 'estimate']:.{digits}f}"

    def against(self, metric: str, run: str, other: str, split: str = "id") -> str:
        """Difference of a run to another, with its interval."""
        return span(self.pair(metric, run, other, split), 2, "difference")

    def ratio(self, metric: str, run: str, other: str, split: str = "id") -> str:
        """Ratio of a run to another, with its interval."""
        return span(self.pair(metric, run, other, split), 2, "ratio", "ratio_")

    def pair(self, metric: str, run: str, other: str, split: str) -> Any:
        """Columns that compare a run with another."""
        row, tail = self.table.loc[(split, metric, run)], f" vs {other}"
        return row[[name for name in row.index if name.endswith(tail)]].rename(
            lambda name: name.removesuffix(tail)
        )
