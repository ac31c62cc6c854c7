"""Figure 10: science questions with a real model, from ``data/science``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import HOW, compared, per_seed, side_by_side
from matplotlib.axes import Axes
from palette import MethodStyle, lab_styles, name_of
from registry import Drawn, Study, Tables
from words import rows_of, span

from passk_lab.plots import plot_distinct_at_k, plot_pass_at_k
from passk_lab.rollouts import read_rollouts
from passk_lab.stats import (
    Resampling,
    bootstrap_mean,
    metric_curve,
    problem_values,
)
from passk_lab.teacher import expected_tilt, problem_decompositions

RUNS = ("base", "grpo", "sdsd", "pkpo")
CHOICES = 4


class Questions:
    """Graded replies, and the same with their meanings for answers."""

    def __init__(self, data: Path) -> None:
        columns = {"run": str, "problem_id": str}
        self.rollouts = read_rollouts(data / "rollouts.parquet").astype(columns)
        self.modes = self.rollouts.assign(answer=self.rollouts["mode"])
        groups = self.rollouts.groupby(["run", "seed", "problem_id"], observed=True)
        self.ks = [k for k in (1, 2, 4, 8, 16, 32) if k <= groups.size().min()]
        self.scores = pd.read_parquet(data / "scores.parquet")


SCIENCE = Study("science", Questions, "data/science", HOW["n_resamples"])


@SCIENCE.figure("science", "Science questions with a real model", number=10)
def science(questions: Questions) -> Drawn:
    """pass@k, meanings of the correct replies, and what entropy and length say."""
    rollouts, modes, ks = questions.rollouts, questions.modes, questions.ks
    solved = metric_curve(rollouts, "pass_at_k", ks, over_seeds=True, **HOW)
    found = metric_curve(modes, "distinct_at_k", ks, over_seeds=True, **HOW)
    figure, axes = plt.subplots(1, 5, figsize=(18, 4.4), width_ratios=[4, 4, 2.5, 2.5, 2.5])
    styles = lab_styles([run for run in RUNS if run in set(rollouts["run"])])
    plot_pass_at_k(solved, axes[0], styles)
    guess = 1 - (1 - 1 / CHOICES) ** np.asarray(ks, float)
    axes[0].plot(ks, guess, color=axes[0].spines["left"].get_edgecolor(), linewidth=1)
    axes[0].annotate("guessing", (ks[1], guess[1]), (-6, 4), textcoords="offset points",
                     ha="right")  # fmt: skip
    axes[0].set_ylim(0, 1)
    axes[0].set_title("Four-choice questions solved")
    plot_distinct_at_k(found, axes[1], styles)
    axes[1].set_ylim(bottom=0)
    axes[1].set(ylabel="meanings of correct replies per question", title="Their meanings")
    found_of = (
        {str(run): differing(part) for run, part in modes.groupby("run")},
        averages(per_seed(rollouts, "token_entropy")),
        averages(per_seed(rollouts, "n_tokens")),
    )
    labels = ("correct replies that differ\n(share of pairs)", "token entropy (nats)", "tokens")
    titles = ("Variety if correct", "Token entropy", "Length of a reply")
    for ax, values, label, title in zip(axes[2:], found_of, labels, titles, strict=True):
        intervals(ax, values, styles)
        ax.set(xlabel=label, title=title)
    table = pd.concat([solved.assign(metric="pass_at_k"), found.assign(metric="distinct_at_k")])
    return figure, table


@science.found
def _(tables: Tables) -> str:
    table = tables["science-findings"].set_index(["metric", "run"])
    metrics = table.index.get_level_values("metric").unique()
    meanings = next(name for name in metrics if name.startswith("meanings@"))
    digits = {"n_tokens": 0}
    names = ["pass@1", meanings, "token_entropy", "n_tokens", "differing"]
    rows = [
        [name_of(run), *(span(table.loc[(name, run)], digits.get(name, 2)) for name in names)]
        for run in table.loc["pass@1"].index
    ]
    heads = ("", "pass@1", meanings, "token entropy", "tokens", "pairs that differ")
    teacher = tables["science-teacher"].set_index("quantity")
    told = span(teacher.loc["correct - wrong"])
    return f"""On science questions this model of 135 million parameters can't use a demonstration,
        and self-distillation makes it worse: shown a correct reply, its other correct replies gain
        {told} nats on its wrong ones over {int(teacher.loc["correct", "n_problems"])} questions
        (above zero a demonstration would tell right from wrong). Guessing has pass@1 0.25.

{rows_of(heads, rows)}"""


def averages(values: dict[str, np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Means with their intervals."""
    found = {}
    for run, array in values.items():
        low, high = bootstrap_mean(array, **HOW)
        found[run] = (float(array.mean()), float(low[0]), float(high[0]))
    return found


def differing(modes: pd.DataFrame) -> tuple[float, float, float]:
    """Share of pairs of correct replies to a question that mean different things.

    All pairs of a question and seed count alike, so that questions with a single correct reply say
    nothing, rather than that it is like itself.
    """
    right = modes[modes["correct"]]
    sizes = right.groupby(["seed", "problem_id", "answer"], observed=True).size()
    keys = [sizes.index.get_level_values(level) for level in ("seed", "problem_id")]
    total = sizes.groupby(keys).sum()
    alike = (sizes * (sizes - 1)).groupby(keys).sum()
    pairs = pd.DataFrame({"differ": total * (total - 1) - alike, "all": total * (total - 1)})
    seeds, problems = sorted(modes["seed"].unique()), sorted(modes["problem_id"].unique())
    every = pd.MultiIndex.from_product([seeds, problems])
    flat = pairs.reindex(every, fill_value=0).to_numpy(float)
    array = flat.reshape(len(seeds), len(problems), 2)
    drawn = Resampling(**HOW).replicates(array)
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    differ, pairs_in_all = array.sum(axis=(0, 1))
    return float(differ / pairs_in_all), float(low), float(high)


def intervals(
    ax: Axes, values: dict[str, tuple[float, float, float]], styles: dict[str, MethodStyle]
) -> None:
    """Draw an estimate with its interval for each run."""
    for place, (run, look) in enumerate(styles.items()):
        estimate, low, high = values[run]
        ax.errorbar(estimate, place, xerr=[[estimate - low], [high - estimate]], fmt=look.marker,
                    color=look.color, capsize=3)  # fmt: skip
    ax.set_yticks(range(len(styles)), [name_of(run) for run in styles])
    ax.set_ylim(len(styles) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.grid(axis="y", visible=False)


@SCIENCE.table("science-findings")
def findings(questions: Questions) -> pd.DataFrame:
    """Estimates with intervals, and paired differences from the base and from GRPO."""
    rollouts, modes, largest = questions.rollouts, questions.modes, max(questions.ks)
    values = {
        "pass@1": (rollouts, "pass_at_k", 1),
        f"pass@{largest}": (rollouts, "pass_at_k", largest),
        f"meanings@{largest}": (modes, "distinct_at_k", largest),
    }
    groups = [
        found for given in values.values() for found in problem_values(*given, over_seeds=True)
    ]
    arrays = side_by_side(groups)
    for column in ("token_entropy", "n_tokens"):
        for run, means in per_seed(rollouts, column).items():
            arrays[run] = np.concatenate([arrays[run], means], axis=2)
    table = compared(arrays, [*values, "token_entropy", "n_tokens"], ("base", "grpo"))
    rows = [("differing", str(run), *differing(part)) for run, part in modes.groupby("run")]
    more = pd.DataFrame(rows, columns=["metric", "run", "estimate", "low", "high"])
    return pd.concat([table, more], ignore_index=True)


@SCIENCE.table("science-teacher")
def decomposition(questions: Questions) -> pd.DataFrame:
    """Shares of the teacher's PCMI, and whether it tells correct replies from wrong ones.

    Questions with two correct replies of the base or more; no two texts are the same, so each reply
    is a mode of its own.
    """
    scores, modes = questions.scores, questions.modes
    base = modes[modes["run"] == "base"].drop(columns="seed")
    base = base.assign(answer=base["sample_id"].astype(str))
    shares = problem_decompositions(scores, base, drop_self=False)
    shown = scores.groupby("problem_id")["demo_id"].nunique()
    tilts = expected_tilt(scores, base)
    tilts = tilts[tilts["problem_id"].map(shown) > 1]
    means = tilts.pivot_table("tilt", "problem_id", "correct")
    columns = {name: shares[name] for name in ("rollout", "demo", "interaction")}
    columns |= {"correct": means[True], "wrong": means[False]}
    columns["correct - wrong"] = means[True] - means[False]
    values = {name: column.dropna().to_numpy(float) for name, column in columns.items()}
    told = averages({name: array[None, :, None] for name, array in values.items()})
    table = pd.DataFrame.from_dict(told, orient="index", columns=["estimate", "low", "high"])
    table["n_problems"] = [len(array) for array in values.values()]
    return table.rename_axis("quantity").reset_index()
