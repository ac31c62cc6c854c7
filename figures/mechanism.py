"""Why self-distillation stays behind: what the teacher still makes of a demonstration."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from lab import BY, HOW, PATHS, Lab
from palette import lab_styles, name_of
from registry import Drawn, Tables
from words import rows_of, span

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
Values = dict[Any, npt.NDArray[np.float64]]  # run and step -> [seeds, problems]


def teachers(lab: Lab, column: str) -> Values:
    """What each run's teacher makes of a demonstration at each step.

    The moving average of the student; for GRPO, which has no use for it, the same average. A frozen
    teacher is the base at every step. A composed one shows the base's use on top of its own policy.
    """
    use = lab.use
    teaching = use[use["run"].isin(RUNS) & (use["who"] == "teacher")]
    found: Values = {
        key: part.pivot_table(column, "seed", "problem_id").to_numpy()
        for key, part in teaching.groupby(["run", "step"])
    }
    base = use[(use["run"] == "base") & (use["seed"] == 0)].sort_values("problem_id")
    alone = base[column].to_numpy()[None]
    found |= {(run, 0): alone for run in RUNS}
    return found | {("sdsd/frozen", step): alone for step in use["step"].unique()}


def students(lab: Lab) -> Values:
    """Accuracy of each run at each step."""
    usual = lab.policies[(lab.policies["split"] == "id") & lab.policies["run"].isin(RUNS)]
    accuracy = policy_values(usual, "pass_at_k", 1, BY)
    return {(of.group[0], of.group[2]): of.values[:, :, 0] for of in accuracy}


def by_step(measure: str, values: Values) -> pd.DataFrame:
    """Mean at each step with its interval over seeds and problems."""
    rows = []
    for (run, step), array in sorted(
        values.items(), key=lambda one: (RUNS.index(one[0][0]), one[0][1])
    ):
        low, high = bootstrap_mean(array[:, :, None], **HOW)
        rows.append((run, step, array.mean(), low[0], high[0], measure, 1))
    names = ["run", "step", "estimate", "low", "high", "measure", "k"]
    return pd.DataFrame(rows, columns=names)


@PATHS.figure("mechanism-paths", "Why self-distillation stays behind")
def mechanism(lab: Lab) -> Drawn:
    """The teacher's use of a demonstration in training, and the problems that are given up."""
    solved = students(lab)
    values = {column: teachers(lab, column) for column in list(PANELS)[:2]}
    values["pass@1"] = solved
    values["below"] = {key: (array < LOW).astype(float) for key, array in solved.items()}
    figure, axes = plt.subplots(2, 2, figsize=(11, 9))
    parts = []
    for ax, (measure, title) in zip(axes.flat, PANELS.items(), strict=True):
        part = by_step(measure, values[measure])
        drawn = [run for run in RUNS if run != ("grpo" if "teacher" in title else "sdsd/frozen")]
        plot_progress(part[part["run"].isin(drawn)], ax, lab_styles(drawn))
        ax.set(title=title, ylabel="probability" if "teacher" in title else "mean over problems")
        parts.append(part)
    return figure, pd.concat(parts, ignore_index=True)


@mechanism.found
def _(tables: Tables) -> str:
    table = tables["mechanism-paths"]
    last = table[table["step"] == table["step"].max()].set_index(["measure", "run"])
    start = table[table["step"] == 0].set_index(["measure", "run"])

    first = start["estimate"]
    rows = [["Base", *(f"{first[measure, 'sdsd']:.2f}" for measure in PANELS)]]
    rows += [
        [name_of(run), *(span(last.loc[(measure, run)]) for measure in PANELS)] for run in RUNS
    ]
    lost = last.loc[("correct_given_demo", "sdsd")]
    return f"""Given a demonstration, the base is right with probability
        {first["correct_given_demo", "sdsd"]:.2f}, and after training the teacher that follows its
        student with {span(lost)}.

{rows_of(("", *PANELS.values()), rows)}"""
