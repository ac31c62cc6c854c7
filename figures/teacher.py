"""Figures of the teacher's bias in the path-finding lab: predicted from scores, and measured."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from palette import lab_styles, name_of, spans
from registry import Drawn, Study, Tables
from words import span

from passk_lab.stats import ResamplingOptions
from passk_lab.teacher import (
    expected_tilt,
    paired_logprobs,
    slope_table,
    source_table,
    tilt_sources,
)

HOW = ResamplingOptions(n_resamples=10_000, random_state=0)
OTHERS = 1000  # demonstrations from other problems have numbers from here on
SHOWN = (
    "grpo", "grpo/kl", "mara", "dkpo", "rft", "sdsd", "sdsd/frozen", "sdsd/ema-0.05",
    "sdsd-composed", "sdsd-uniform", "control-wrong", "control-other",
)  # fmt: skip
CONTROLS = {"predicted": "predicted, weight 1", "null": "base again", "ideal_rl": "ideal RL"}
SOURCES = {
    "any_context": "any context at all",
    "preference_copying": "teacher's preference: its own demonstration",
    "preference_cross": "teacher's preference: other demonstrations",
    "sampling_copying": "frequent demonstrations: copied",
    "sampling_cross": "frequent demonstrations: others",
    "tilt": "all together",
}


class Bias:
    """Scores of the base by its teacher, and exact policies of all runs."""

    def __init__(self, data: Path) -> None:
        policies = pd.read_parquet(data / "policies.parquet")
        policies = policies[policies["split"] == "id"]
        self.policies = policies.astype({"run": str, "problem_id": str})
        self.answers = pd.read_parquet(data / "answers.parquet")
        scores = pd.read_parquet(data / "scores.parquet")
        self.own = scores[scores["demo_id"] < OTHERS]
        self.control = scores[scores["demo_id"] >= OTHERS]
        wanted = [("run", "==", "base"), ("split", "==", "id"), ("seed", "==", 0)]
        base = pd.read_parquet(data / "rollouts.parquet", filters=wanted)
        self.base = base.astype({"problem_id": str, "answer": str})
        seen = pd.read_parquet(data / "seen.parquet")
        self.seen = seen.astype({"run": str, "problem_id": str})


TEACHER = Study("teacher", Bias, "data/paths", HOW["n_resamples"])


def before_and_after(policies: pd.DataFrame, run: str) -> pd.DataFrame:
    """Exact log-probabilities of all correct paths in the base and in each seed of a run."""
    last = policies.loc[policies["run"] == run, "step"].max()
    base = policies[policies["run"] == "base"].drop_duplicates(["problem_id", "answer"])
    at_end = policies[(policies["run"] == run) & (policies["step"] == last)]
    seeds = [paired_logprobs(base, part).assign(seed=seed) for seed, part in at_end.groupby("seed")]
    return pd.concat(seeds, ignore_index=True)


@TEACHER.figure("amplification-paths", "Gaps among correct paths", number=6)
def amplification(bias: Bias) -> Drawn:
    """Log-probabilities after against before, and the slopes of all runs."""
    policies = bias.policies
    tilts = expected_tilt(bias.own, bias.answers, "probability", drop_self=False)
    runs = sorted(set(policies["run"]) - {"base"})
    tilt = tilts[tilts["correct"]][["problem_id", "answer", "tilt"]]
    rows = []
    for run in runs:
        modes = before_and_after(policies, run)
        found = slope_table(modes, **HOW).query("quantity == 'slope'")
        rows.append(found[found["comparison"] == "trained"].assign(run=run))
        if run == runs[0]:
            first = modes[modes["seed"] == modes["seed"].min()]
            predicted = first[["problem_id", "answer", "logprob_before"]].merge(tilt)
            predicted["logprob_after"] = predicted["logprob_before"]
            told = slope_table(predicted, **HOW).query("quantity == 'slope'")
            told = told[told["comparison"] != "trained"]
            rows.append(told.assign(run=told["comparison"].map(CONTROLS)))
    table = pd.concat(rows, ignore_index=True)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8))
    axes[1].sharey(axes[0])
    ink = axes[0].spines["left"].get_edgecolor()
    for ax, (run, look) in zip(axes, lab_styles(["grpo", "sdsd"]).items(), strict=False):
        modes = before_and_after(policies, run)
        modes = modes[modes["seed"] == modes["seed"].min()]
        groups = modes.groupby("problem_id")
        x, y = (modes[n] - groups[n].transform("mean") for n in ("logprob_before", "logprob_after"))
        ax.plot(x, y, ".", color=look.color, markersize=3, alpha=0.35, rasterized=True)
        slope = table.loc[table["run"] == run, "estimate"].iloc[0]
        ends = np.array([x.min(), x.max()])
        ax.plot(ends, slope * ends, color=look.color, linestyle=look.linestyle,
                label=f"slope {slope:.2f}")  # fmt: skip
        ax.plot(ends, ends, color=ink, linewidth=1, label="ratios kept: 1")
        ax.legend(loc="upper left")
        ax.set(
            xlabel="log π before (nats, less the problem's mean)", title=f"{name_of(run)}, one seed"
        )
    axes[0].set_ylabel("log π after (nats, less the problem's mean)")
    shown = table[table["run"].isin([*SHOWN, *CONTROLS.values()])].sort_values("estimate")
    axes[2].axvline(1, color=ink, linewidth=1)
    plain = lab_styles(["base"])["base"]
    known = dict.fromkeys(CONTROLS.values(), plain) | lab_styles(runs)
    for place, (row, bar) in enumerate(zip(shown.to_dict("records"), spans(shown).T, strict=True)):
        axes[2].errorbar(row["estimate"], place, xerr=bar[:, None], fmt=known[row["run"]].marker,
                         color=known[row["run"]].color, capsize=3)  # fmt: skip
    axes[2].set_yticks(range(len(shown)), shown["run"].map(name_of))
    axes[2].grid(axis="y", visible=False)
    axes[2].set(xlabel="slope (interval over seeds and problems)", title="Slopes")
    return figure, table


@amplification.found
def _(tables: Tables) -> str:
    table = tables["amplification-paths"].set_index("run")
    told = [
        f"{name_of(run)} {span(table.loc[run])}"
        for run in ("sdsd", "sdsd/frozen", "sdsd-uniform", "grpo", "grpo/kl", "mara")
    ]
    return f"""Slope of log π after against before over the correct paths (1: ratios kept):
        {", ".join(told)}; the tilt of one generation alone predicts
        {span(table.loc["predicted, weight 1"])}. The controls: base against base
        {table.loc["base again", "estimate"]:.2f}, ideal RL
        {table.loc["ideal RL", "estimate"]:.2f}."""


@TEACHER.figure("sources-paths", "Where the tilt comes from", number=7)
def sources(bias: Bias) -> Drawn:
    """Where the tilt comes from, and the PCMI matrix of one prompt."""
    own, control, answers, base = bias.own, bias.control, bias.answers, bias.base
    # The decomposition counts how often the base gives each answer: scores go to its rollouts.
    keys = ["problem_id", "answer"]
    first = base[base["correct"]].drop_duplicates(keys)[[*keys, "sample_id"]]
    both = answers.merge(first, on=keys, suffixes=("_listed", ""))
    number = both.set_index(["problem_id", "sample_id_listed"])["sample_id"]

    def renumbered(table: pd.DataFrame, column: str) -> pd.DataFrame:
        pairs = pd.MultiIndex.from_frame(table[["problem_id", column]].astype({column: "int64"}))
        ids = number.reindex(pairs).to_numpy()
        return table.assign(**{column: ids})[~np.isnan(ids)]

    pairs = renumbered(renumbered(own, "sample_id"), "demo_id")
    extra = renumbered(control, "sample_id")
    found = tilt_sources(pairs, base, control=extra, drop_self=False)
    table = source_table(found, **HOW)
    shown = table[(table["measure"] == "slope") & table["source"].isin(SOURCES)]
    shown = shown.set_index("source").loc[list(SOURCES)].reset_index()
    figure, (left, right_ax) = plt.subplots(1, 2, figsize=(13, 5))
    at = np.arange(len(shown))[::-1]
    color = lab_styles(["sdsd"])["sdsd"].color
    left.barh(at, shown["estimate"], xerr=spans(shown), color=color, height=0.6,
              error_kw={"capsize": 3, "ecolor": left.spines["left"].get_edgecolor()})  # fmt: skip
    left.axvline(0, color=left.spines["left"].get_edgecolor(), linewidth=1)
    left.set_yticks(at, [SOURCES[source] for source in shown["source"]])
    left.grid(axis="y", visible=False)
    left.set(
        xlabel="what it adds to the slope (interval over problems)",
        title="Sources of the amplification",
    )
    matrix = example(own, answers)
    top = np.abs(matrix.to_numpy()).max()
    image = right_ax.imshow(matrix, cmap="PuOr_r", vmin=-top, vmax=top)
    right_ax.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=60, ha="right")
    right_ax.set_yticks(range(len(matrix)), matrix.index)
    right_ax.grid(visible=False)
    right_ax.set(
        xlabel="demonstration, most likely first", ylabel="correct path", title="PCMI of one prompt"
    )
    figure.colorbar(image, ax=right_ax, label="PCMI (nats)", shrink=0.8)
    return figure, table


@sources.found
def _(tables: Tables) -> str:
    table = tables["sources-paths"]
    slope = table[table["measure"] == "slope"].set_index("source")
    return f"""What the tilt adds to the slope: {span(slope.loc["tilt"])} in all, of which the
        teacher's own preference {span(slope.loc["teacher_preference"])}, the more frequent
        demonstrations {span(slope.loc["demonstration_sampling"])} (copying them
        {span(slope.loc["sampling_copying"])}), and any context at all
        {span(slope.loc["any_context"])}."""


def example(own: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """PCMI matrix of the first prompt with six correct paths or more."""
    right = answers[answers["correct"]]
    sizes = right.groupby("problem_id", sort=False).size()
    problem = sizes.index[sizes >= 6][0]
    names = right[right["problem_id"] == problem].set_index("sample_id")["answer"]
    part = own[(own["problem_id"] == problem) & own["sample_id"].isin(names.index)]
    part = part.assign(pcmi=part["logprob_given_demo"] - part["logprob"])
    order = part.groupby("sample_id")["logprob"].first().sort_values(ascending=False).index
    matrix = part.pivot_table(index="sample_id", columns="demo_id", values="pcmi")
    matrix = matrix.loc[order, order]
    return matrix.set_axis(names[order], axis=0).set_axis(names[order], axis=1)
