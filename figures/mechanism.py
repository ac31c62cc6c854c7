"""Why self-distillation stays behind: what the teacher still makes of a demonstration."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import BY, HOW, PATHS, Lab
from palette import lab_styles
from registry import Drawn, Tables
from words import span

from passk_lab.plots import plot_progress
from passk_lab.stats import bootstrap_mean, policy_values

RUNS = ("grpo", "sdsd", "sdsd/frozen", "sdsd-composed", "sdsd-anchored")
LOW = 0.3  # accuracy below which a problem counts as given up
PANELS = {
    "correct_given_demo": "teacher: a correct answer, given a demonstration",
    "model_given_demo": "teacher: the same path, among its correct answers",
    "pass@1": "student: pass@1",
    "below": f"student: problems with accuracy below {LOW}",
}


def teachers(lab: Lab) -> pd.DataFrame:
    """What each run's teacher makes of a demonstration at each step, one row a seed and problem.

    The moving average of the student; for GRPO, which has no use for it, the same average. A frozen
    teacher is the base at every step. A composed one shows the base's use on top of its own policy.
    """
    use = lab.use
    base = use[(use["run"] == "base") & (use["seed"] == 0)]
    steps = sorted(set(use["step"]) - {0})
    found = [use[(use["run"] == run) & (use["who"] == "teacher")] for run in RUNS]
    starts = [base.assign(run=run) for run in RUNS]
    still = [base.assign(run="sdsd/frozen", step=step) for step in steps]
    return pd.concat([*found, *starts, *still], ignore_index=True)


def students(lab: Lab) -> pd.DataFrame:
    """Accuracy of each problem, and whether it is low, one row a seed and step."""
    usual = lab.policies[(lab.policies["split"] == "id") & lab.policies["run"].isin(RUNS)]
    parts = []
    for found in policy_values(usual, "pass_at_k", 1, BY):
        run, _, step = found.group
        for seed, values in enumerate(found.values[:, :, 0]):
            parts.append(
                pd.DataFrame({"problem_id": found.problem_id, "pass@1": values}).assign(
                    run=run, step=step, seed=seed
                )
            )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(below=(table["pass@1"] < LOW).astype(float))


def by_step(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a column at each step with its interval over seeds and problems."""
    rows = []
    for (run, step), part in table.groupby(["run", "step"], sort=False):
        values = part.pivot_table(index="seed", columns="problem_id", values=column).to_numpy()
        low, high = bootstrap_mean(values[:, :, None], **HOW)
        rows.append((run, step, values.mean(), low[0], high[0]))
    found = pd.DataFrame(rows, columns=["run", "step", "estimate", "low", "high"])
    found = found.assign(measure=column, k=1)
    order = found["run"].map(list(RUNS).index)
    return found.iloc[np.lexsort([found["step"], order])].reset_index(drop=True)


@PATHS.figure("mechanism-paths", "Why self-distillation stays behind")
def mechanism(lab: Lab) -> Drawn:
    """The teacher's use of a demonstration in training, and the problems that are given up."""
    sources = dict.fromkeys(PANELS, students(lab)) | dict.fromkeys(list(PANELS)[:2], teachers(lab))
    figure, axes = plt.subplots(2, 2, figsize=(11, 9))
    parts = []
    for ax, (column, title) in zip(axes.flat, PANELS.items(), strict=True):
        part = by_step(sources[column], column)
        plot_progress(part, ax, lab_styles(RUNS))
        ax.set(title=title, ylabel="probability" if "teacher" in title else "mean over problems")
        parts.append(part)
    return figure, pd.concat(parts, ignore_index=True)


@mechanism.found
def _(tables: Tables) -> str:
    table = tables["mechanism-paths"]
    last = table[table["step"] == table["step"].max()].set_index(["measure", "run"])
    start = table[table["step"] == 0].set_index(["measure", "run"])

    def told(measure: str, runs: Any = RUNS) -> str:
        return ", ".join(f"{run} {span(last.loc[(measure, run)])}" for run in runs)

    taught = RUNS[1:]
    first = start["estimate"]
    return f"""Given a demonstration, the base gives a correct answer with probability
        {first["correct_given_demo", "sdsd"]:.2f}, and the demonstration's own path is
        {first["model_given_demo", "sdsd"]:.2f} of that. The teacher after the last update: correct
        {told("correct_given_demo", taught)}; its own path {told("model_given_demo", taught)}. The
        student's pass@1: {told("pass@1")}. Share of problems with accuracy below {LOW} (base
        {first["below", "sdsd"]:.2f}): {told("below")}."""
