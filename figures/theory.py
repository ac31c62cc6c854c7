"""Figures that need no data: optima, repeated distillation and estimators in small exact worlds."""

from __future__ import annotations

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from palette import lab_styles
from registry import Drawn, Study, Tables

from passk_lab.plots import plot_progress
from passk_lab.teacher import (
    BoostWorld,
    count_slope_table,
    rl_optimum,
    rl_trajectory,
    self_distillation_optimum,
    self_distillation_trajectory,
)

SEED = 0
# Three correct answers and a wrong one; a demonstration multiplies its own answer's odds by e^2.
BASE = np.array([0.30, 0.18, 0.12, 0.40])
BOOST = 2.0


THEORY = Study("theory", seed=SEED)


@THEORY.figure("optimum-theory", "What the optima do to correct answers", number=1)
def optimum() -> Drawn:
    """The base, the optimum of RL and that of self-distillation, at equal accuracy."""
    world = BoostWorld(BASE, BOOST)
    pcmi = world.pcmi(world.log_base)[0][:, :3]
    popular = BASE[:3] / BASE[:3].sum()
    distilled = self_distillation_optimum(BASE, pcmi, popular)
    balanced = self_distillation_optimum(BASE, pcmi)
    # RL's temperature is set so that it is as accurate as the distilled policy.
    odds = np.log(distilled[:3].sum() / distilled[3]) - np.log(BASE[:3].sum() / BASE[3])
    reinforced = rl_optimum(BASE, np.array([1.0, 1.0, 1.0, 0.0]), beta=1 / odds)
    laws = {"base": BASE, "grpo": reinforced, "sdsd": distilled, "sdsd-uniform": balanced}
    labels = {
        "base": "base",
        "grpo": "RL with KL to the base",
        "sdsd": "self-distillation, demonstrations as sampled",
        "sdsd-uniform": "self-distillation, demonstrations balanced",
    }
    names = ["correct 1", "correct 2", "correct 3", "wrong"]
    tables = [
        pd.DataFrame({"run": run, "law": labels[run], "answer": names, "probability": law})
        for run, law in laws.items()
    ]
    figure, ax = plt.subplots(figsize=(7.2, 4.4))
    styles = lab_styles(laws)
    width = 0.2
    for place, (run, law) in enumerate(laws.items()):
        at = np.arange(4) + (place - 1.5) * width
        ax.bar(at, law, width, color=styles[run].color,
               hatch=styles[run].hatch, edgecolor=ax.get_facecolor(),
               label=labels[run])  # fmt: skip
    ax.set_xticks(range(4), names)
    ax.grid(axis="x", visible=False)
    ax.set(ylabel="probability", title="RL keeps ratios, self-distillation doesn't")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return figure, pd.concat(tables)


@optimum.found
def _(tables: Tables) -> str:
    table = tables["optimum-theory"]
    ratios = [
        f"{run}: {part['probability'].iloc[0] / part['probability'].iloc[2]:.1f}"
        for run, part in table.groupby("law", sort=False)
    ]
    return f"""Theory, one prompt with three correct answers. How many times as likely as the rarest
        correct answer the most frequent one is: {"; ".join(ratios)}."""


@THEORY.figure("dynamics-theory", "Generations", number=9)
def dynamics() -> Drawn:
    """Effective correct answers over generations of self-distillation."""
    n_generations, n_worlds = 25, 500
    rng = np.random.default_rng(SEED)
    base = rng.dirichlet(np.full(5, 5.0), size=n_worlds)
    world = BoostWorld(base, boost=1.0)
    distil = partial(self_distillation_trajectory, world, n_generations)
    paths = {
        "sdsd/live": distil(),
        "sdsd/frozen": distil(teacher="frozen"),
        "sdsd-uniform": distil(demos="uniform"),
        "sdsd": distil(n_demos=8, random_state=SEED),
        "grpo": rl_trajectory(base, np.ones_like(base), n_generations),
    }
    labels = {
        "sdsd/live": "teacher and demonstrations move",
        "sdsd/frozen": "frozen teacher, demonstrations move",
        "sdsd-uniform": "balanced demonstrations",
        "sdsd": "teacher and demonstrations move, 8 demonstrations drawn",
        "grpo": "RL, all answers rewarded alike",
    }
    rows = []
    for run, path in paths.items():
        low, middle, high = np.quantile(path.effective_modes, [0.25, 0.5, 0.75], axis=1)
        part = pd.DataFrame({"run": run, "law": labels[run], "step": np.arange(len(middle))})
        rows.append(part.assign(estimate=middle, low=low, high=high))
    table = pd.concat(rows, ignore_index=True)
    figure, ax = plt.subplots(figsize=(7.2, 4.6))
    plot_progress(table, ax, lab_styles(paths))
    ax.set(
        xlabel="generation (the student becomes the teacher)",
        ylabel="effective correct answers",
        title=f"{n_worlds} worlds of five answers: median and quartiles",
    )
    ax.set_ylim(bottom=0.8)
    handles = [look.handle() for look in lab_styles(paths).values()]
    ax.legend(handles, [labels[run] for run in paths], loc="upper center",
              bbox_to_anchor=(0.5, -0.15), ncols=1, handlelength=3.0)  # fmt: skip
    return figure, table


@dynamics.found
def _(tables: Tables) -> str:
    table = tables["dynamics-theory"]
    last = table.groupby("law", sort=False).last()
    laws = [f"{law}: {row['estimate']:.2f}" for law, row in last.iterrows()]
    first = table.loc[table["step"] == 0, "estimate"].iloc[0]
    return f"""Theory. Effective correct answers after {last["step"].max():.0f} generations,
        from {first:.2f}: {"; ".join(laws)}."""


@THEORY.figure("slopes-theory", "Estimators of the slope")
def slopes() -> Drawn:
    """Estimates of the amplification from counts, where the truth is known."""
    rng = np.random.default_rng(SEED)
    n_problems, n_modes, n_trials = 40, 8, 20
    parts = []
    for true in (1.0, 2.0):
        for n in (16, 64, 256, 1024):
            for _ in range(n_trials):
                p = rng.dirichlet(np.ones(n_modes), size=n_problems)
                after = p**true / (p**true).sum(axis=1, keepdims=True)
                counts = pd.DataFrame(
                    {
                        "problem_id": np.repeat(np.arange(n_problems), n_modes).astype(str),
                        "answer": np.tile(np.arange(n_modes), n_problems).astype(str),
                        "before": np.concatenate([rng.multinomial(n, law) for law in p]),
                        "after": np.concatenate([rng.multinomial(n, law) for law in after]),
                    }
                )
                found = count_slope_table(counts, n_resamples=2, random_state=SEED)
                found = found.query("comparison == 'trained' and quantity == 'slope'")
                parts.append(found.assign(slope=true, n_samples=n))
    trials = pd.concat(parts, ignore_index=True)
    grouped = trials.groupby(["slope", "n_samples", "estimator"])["estimate"]
    table = grouped.agg(["mean", "std"]).reset_index()
    names = {
        "multinomial": "multinomial likelihood",
        "ols_plus_half": "least squares, ½ added",
        "ols_seen_only": "least squares, seen answers",
        "split_half_iv": "split-half instrument",
    }
    looks = dict(zip(names, ("sdsd", "grpo", "rloo", "rft"), strict=True))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4))
    styles = lab_styles(looks.values())
    for ax, true in zip(axes, (1.0, 2.0), strict=True):
        ax.axhline(true, color=ax.spines["left"].get_edgecolor(), linewidth=1)
        for estimator, look in looks.items():
            part = table[(table["slope"] == true) & (table["estimator"] == estimator)]
            ax.errorbar(part["n_samples"], part["mean"], yerr=part["std"], capsize=3,
                        color=styles[look].color, linestyle=styles[look].linestyle,
                        marker=styles[look].marker, label=names[estimator])  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.set_xticks([16, 64, 256, 1024], ["16", "64", "256", "1024"])
        ax.set(
            xlabel="samples per problem, before and after",
            ylabel="estimated slope (mean and spread of 20 trials)",
            title=f"True slope {true:g}",
        )
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    return figure, table


@slopes.found
def _(tables: Tables) -> str:
    table = tables["slopes-theory"]
    part = table[(table["n_samples"] == 64) & (table["slope"] == table["slope"].min())]
    means = [f"{row['estimator']} {row['mean']:.2f}" for _, row in part.iterrows()]
    return f"""Simulation. The true slope is {part["slope"].iloc[0]:.0f} (nothing changed); from
        64 samples of 8 answers the estimators find on average: {", ".join(means)}."""
