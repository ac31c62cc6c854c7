"""Figures of the teacher's bias in the path-finding lab: predicted from scores, and measured."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from palette import lab_styles, spans
from registry import Drawn, Study, Tables
from scipy.stats import spearmanr
from words import span

from passk_lab.stats import ResamplingOptions, bootstrap_mean
from passk_lab.teacher import (
    expected_tilt,
    forecast_generations,
    paired_logprobs,
    slope_table,
    source_table,
    tilt_sources,
)

HOW = ResamplingOptions(n_resamples=10_000, random_state=0)
OTHERS = 1000  # demonstrations from other problems have numbers from here on
K = 64
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
    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    styles = lab_styles(["grpo/kl", "sdsd"])
    for run, look in styles.items():
        modes = before_and_after(policies, run)
        modes = modes[modes["seed"] == modes["seed"].min()]
        groups = modes.groupby("problem_id")
        x, y = (modes[n] - groups[n].transform("mean") for n in ("logprob_before", "logprob_after"))
        axes[0].plot(x, y, ".", color=look.color, markersize=3, alpha=0.35, rasterized=True)
        slope = table.loc[table["run"] == run, "estimate"].iloc[0]
        span = np.array([x.min(), x.max()])
        axes[0].plot(span, slope * span, color=look.color, linestyle=look.linestyle,
                     label=f"{run}: slope {slope:.2f}")  # fmt: skip
    ink = axes[0].spines["left"].get_edgecolor()
    axes[0].plot(span, span, color=ink, linewidth=1, label="ratios kept: 1")
    axes[0].legend(loc="upper left")
    axes[0].set(
        xlabel="log π before (nats, less the problem's mean)",
        ylabel="log π after (nats, less the problem's mean)",
        title="Correct paths before and after training (one seed)",
    )
    shown = table.sort_values("estimate")
    axes[1].axvline(1, color=ink, linewidth=1)
    plain = lab_styles(["base"])["base"]
    known = dict.fromkeys(CONTROLS.values(), plain) | lab_styles(runs)
    for place, (row, span) in enumerate(zip(shown.to_dict("records"), spans(shown).T, strict=True)):
        axes[1].errorbar(row["estimate"], place, xerr=span[:, None], fmt=known[row["run"]].marker,
                         color=known[row["run"]].color, capsize=3)  # fmt: skip
    axes[1].set_yticks(range(len(shown)), shown["run"])
    axes[1].grid(axis="y", visible=False)
    axes[1].set(
        xlabel="slope (interval over seeds and problems)",
        title="Amplification of gaps among correct paths",
    )
    return figure, table


@amplification.found
def _(tables: Tables) -> str:
    table = tables["amplification-paths"].set_index("run")
    told = [
        f"{run} {span(table.loc[run])}"
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


@TEACHER.figure("forecast-paths", "Forecast and outcome", number=8)
def forecasts(bias: Bias) -> Drawn:
    """Forecast from the base alone, against what training did, problem by problem.

    Measured on problems that training never saw, and where it was trained on these very problems.
    """
    measured = {"new": bias.policies, "trained-on": bias.seen}
    updates = int(bias.policies["step"].max())
    # A teacher that takes a share of the student at every update has gone through as many
    # generations as shares; beyond a few of them nothing is left to move.
    moved = {"sdsd": 0.01 * updates, "sdsd/ema-0.05": 0.05 * updates}
    times = {run: min(time, 8.0) for run, time in moved.items()}
    given = bias.own, bias.answers
    moving = forecast_generations(*given, [0.0, *times.values()], [1, K], split_path)
    told = {run: moving[moving["generation"].isin([0, time])] for run, time in times.items()}
    frozen = forecast_generations(*given, [0, 1], [1, K], split_path, teacher="frozen")
    told["sdsd/frozen"] = frozen
    runs = ["sdsd/frozen", *moved]
    figure, axes = plt.subplots(2, len(runs), figsize=(13, 8), sharex=True, sharey=True)
    records = []
    for row, (problems, policies) in zip(axes, measured.items(), strict=True):
        for ax, run in zip(row, runs, strict=True):
            record, drops = against_forecast(told[run], policies, run)
            records.append({"problems": problems, "generations": moved.get(run, np.nan), **record})
            ax.plot(*drops, ".", color=lab_styles([run])[run].color, alpha=0.6)
            ax.axline((0, 0), slope=1, color=ax.spines["left"].get_edgecolor(), linewidth=1)
            means = f"mean {drops[0].mean():.2f} forecast, {drops[1].mean():.2f} measured"
            ax.set_title(f"{run}, {problems} problems\n{means}")
        row[0].set_ylabel("measured drop of effective paths")
    for ax in axes[-1]:
        ax.set_xlabel("forecast drop of effective paths")
    return figure, pd.DataFrame(records)


@forecasts.found
def _(tables: Tables) -> str:
    table = tables["forecast-paths"]
    name = "effective_answers"
    told = [
        f"""{row["run"]}, {row["problems"]} problems: forecast drop
        {row[f"{name}_drop_forecast"]:.2f}, measured
        {span(row, 2, f"{name}_drop", f"{name}_drop_")}, rank correlation over problems
        {row[f"{name}_rank"]:.2f} (the base's own number of effective paths alone:
        {row[f"{name}_rank_of_base"]:.2f})"""
        for _, row in table.iterrows()
    ]
    return f"Drop of effective correct paths, problem by problem. {'; '.join(told)}."


def against_forecast(
    told: pd.DataFrame, policies: pd.DataFrame, run: str
) -> tuple[dict[str, object], tuple[np.ndarray, np.ndarray]]:
    """Forecast and outcome of a run; and each problem's drop of effective paths, both ways."""
    problems, changes = measured_changes(policies, run)
    generations = told.groupby("generation")
    before, after = (part.set_index("problem_id").loc[problems] for _, part in generations)
    record: dict[str, object] = {"run": run, "pass@1_base": before["pass@1"].mean()}
    record |= {"pass@1_forecast": after["pass@1"].mean(), "pass@1": changes[..., 2].mean()}
    low, high = bootstrap_mean(changes, **HOW)
    mean = changes.mean(axis=0)
    for at, name in enumerate(("effective_answers", f"distinct@{K}")):
        drop = (before[name] - after[name]).to_numpy()
        record |= {
            f"{name}_drop_forecast": drop.mean(),
            f"{name}_drop": mean[:, at].mean(),
            f"{name}_drop_low": low[at],
            f"{name}_drop_high": high[at],
            f"{name}_error": np.abs(drop - mean[:, at]).mean(),
            f"{name}_calibration": np.polyfit(drop, mean[:, at], 1)[0],
            f"{name}_rank": spearmanr(drop, mean[:, at]).statistic,
            # What one would say who knows the base's paths and nothing of the teacher.
            f"{name}_rank_of_base": spearmanr(before[name], mean[:, at]).statistic,
        }
    drops = before["effective_answers"] - after["effective_answers"]
    return record, (drops.to_numpy(), mean[:, 0])


def split_path(answer: str) -> list[str]:
    """Tokens of a path."""
    return answer.split("-")


def measured_changes(policies: pd.DataFrame, run: str) -> tuple[list[str], np.ndarray]:
    """Problems, and [seeds, problems, 3]: drop of effective and distinct paths, accuracy after."""
    seeds = []
    for _, modes in before_and_after(policies, run).groupby("seed"):
        logs = modes[["logprob_before", "logprob_after"]]
        p, law = (table.transform(np.exp) for table in (logs, logs.astype(float)))
        problems = modes["problem_id"].unique()
        total, sums, squares, found = (
            part.groupby(modes["problem_id"]).sum().loc[problems]
            for part in (p, law, law**2, 1 - (1 - p) ** K)
        )
        drops = (d["logprob_before"] - d["logprob_after"] for d in (sums**2 / squares, found))
        seeds.append(np.column_stack([*drops, total["logprob_after"].clip(upper=1)]))
    return list(problems), np.stack(seeds)
