"""Figures of the teacher's bias in the path-finding lab: predicted from scores, and measured."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import brentq
from scipy.stats import spearmanr
from writing import write

from passk_lab.intervals import bootstrap_mean
from passk_lab.plots import method_styles, style
from passk_lab.rollouts import read_rollouts
from passk_lab.teacher.decomposition import source_table, tilt_sources
from passk_lab.teacher.forecast import (
    exact_rows,
    expected_tilt,
    forecast_problems,
)
from passk_lab.teacher.slopes import mode_changes, paired_logprobs, slope_table

SEED = 0
N_RESAMPLES = 10_000
OTHERS = 1000  # demonstrations from other problems have numbers from here on
K = 64
SOURCES = {
    "any_context": "any context at all",
    "preference_copying": "teacher's preference: its own demonstration",
    "preference_cross": "teacher's preference: other demonstrations",
    "sampling_copying": "frequent demonstrations: copied",
    "sampling_cross": "frequent demonstrations: others",
    "tilt": "all together",
}


def draw(data: Path, figures: Path) -> list[Path]:
    """Draw figures 6, 7 and 8; return what was written, each with its CSV."""
    policies = pd.read_parquet(data / "policies.parquet")
    policies = policies[policies["split"] == "id"].astype({"run": str, "problem_id": str})
    answers = pd.read_parquet(data / "answers.parquet")
    scores = pd.read_parquet(data / "scores.parquet")
    own = scores[scores["demo_id"] < OTHERS]
    control = scores[scores["demo_id"] >= OTHERS]
    rollouts = read_rollouts(data / "rollouts.parquet", ["answer"])
    base = rollouts[
        (rollouts["run"] == "base") & (rollouts["split"] == "id") & (rollouts["seed"] == 0)
    ]
    tilts = expected_tilt(own, answers, "probability", drop_self=False)
    with style():
        drawn = {
            "amplification-paths": amplification(policies, tilts),
            "sources-paths": sources(own, control, answers, base),
            "forecast-paths": forecasts(policies, tilts, base),
        }
        files = write(drawn, figures)
    return files


def before_and_after(policies: pd.DataFrame, run: str) -> pd.DataFrame:
    """Exact log-probabilities of all correct paths in the base and, mean over seeds, in a run."""
    last = policies.loc[policies["run"] == run, "step"].max()
    keys = ["problem_id", "answer"]
    base = policies[policies["run"] == "base"].drop_duplicates(keys).set_index(keys)["logprob"]
    at_end = policies[(policies["run"] == run) & (policies["step"] == last)]
    after = at_end.groupby(keys)["logprob"].mean()
    both = pd.concat({"logprob_before": base, "logprob_after": after}, axis=1, join="inner")
    return both.reset_index()


def amplification(policies: pd.DataFrame, tilts: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Figure 6: log-probabilities after against before, and the slopes of all runs."""
    runs = sorted(set(policies["run"]) - {"base"})
    tilt = tilts[tilts["correct"]][["problem_id", "answer", "tilt"]]
    rows = []
    for run in runs:
        modes = before_and_after(policies, run)
        found = slope_table(modes, n_resamples=N_RESAMPLES, random_state=SEED)
        part = found[(found["comparison"] == "trained") & (found["quantity"] == "slope")]
        rows.append(part.assign(run=run))
        if run == runs[0]:
            predicted = modes[["problem_id", "answer", "logprob_before"]].merge(tilt)
            predicted["logprob_after"] = predicted["logprob_before"]
            told = slope_table(predicted, n_resamples=N_RESAMPLES, random_state=SEED)
            keep = (told["comparison"] != "trained") & (told["quantity"] == "slope")
            rows.append(told[keep].assign(run=told.loc[keep, "comparison"]))
    table = pd.concat(rows, ignore_index=True)
    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    styles = method_styles(["grpo/kl", "sdsd"])
    for run, look in styles.items():
        modes = before_and_after(policies, run)
        groups = modes.groupby("problem_id")
        x, y = (modes[n] - groups[n].transform("mean") for n in ("logprob_before", "logprob_after"))
        axes[0].plot(x, y, ".", color=look.color, markersize=3, alpha=0.35)
        slope = table.loc[table["run"] == run, "estimate"].iloc[0]
        span = np.array([x.min(), x.max()])
        axes[0].plot(span, slope * span, color=look.color, linestyle=look.linestyle,
                     label=f"{run}: slope {slope:.2f}")  # fmt: skip
    ink = axes[0].spines["left"].get_edgecolor()
    axes[0].plot(span, span, color=ink, linewidth=1, label="ratios kept: 1")
    axes[0].legend(loc="upper left")
    axes[0].set_xlabel("log π before (nats, less the problem's mean)")
    axes[0].set_ylabel("log π after (nats, less the problem's mean)")
    axes[0].set_title("Correct paths before and after training")
    shown = table.sort_values("estimate")
    spans = np.abs(shown[["low", "high"]].to_numpy().T - shown["estimate"].to_numpy())
    at = np.arange(len(shown))
    axes[1].axvline(1, color=ink, linewidth=1)
    known = method_styles(shown["run"])
    for place, (row, span) in enumerate(zip(shown.to_dict("records"), spans.T, strict=True)):
        axes[1].errorbar(row["estimate"], place, xerr=span[:, None], fmt=known[row["run"]].marker,
                         color=known[row["run"]].color, capsize=3)  # fmt: skip
    names = {"predicted": "predicted, weight 1", "null": "base again", "ideal_rl": "ideal RL"}
    axes[1].set_yticks(at, [names.get(run, run) for run in shown["run"]])
    axes[1].grid(axis="y", visible=False)
    axes[1].set_xlabel("slope (interval over problems)")
    axes[1].set_title("Amplification of gaps among correct paths")
    return figure, table


def sources(
    own: pd.DataFrame, control: pd.DataFrame, answers: pd.DataFrame, base: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Figure 7: where the tilt comes from, and the PCMI matrix of one prompt."""
    # The decomposition counts how often the base gives each answer: scores go to its rollouts.
    keys = ["problem_id", "answer"]
    first = base.drop_duplicates(keys)[[*keys, "sample_id"]]
    number = answers.merge(first, on=keys, suffixes=("_listed", ""))
    number = number.set_index(["problem_id", "sample_id_listed"])["sample_id"]

    def renumbered(table: pd.DataFrame, column: str) -> pd.DataFrame:
        pairs = pd.MultiIndex.from_frame(table[["problem_id", column]].astype({column: "int64"}))
        ids = number.reindex(pairs).to_numpy()
        return table.assign(**{column: ids})[~np.isnan(ids)]

    pairs = renumbered(renumbered(own, "sample_id"), "demo_id")
    extra = renumbered(control, "sample_id")
    right = base[base["correct"]][["problem_id", "sample_id"]]
    pairs, extra = (t.merge(right, on=["problem_id", "sample_id"]) for t in (pairs, extra))
    found = tilt_sources(pairs, base, control=extra, drop_self=False)
    table = source_table(found, n_resamples=N_RESAMPLES, random_state=SEED)
    shown = table[(table["measure"] == "slope") & table["source"].isin(SOURCES)]
    shown = shown.set_index("source").loc[list(SOURCES)].reset_index()
    figure, (left, right_ax) = plt.subplots(1, 2, figsize=(13, 5))
    at = np.arange(len(shown))[::-1]
    spans = np.abs(shown[["low", "high"]].to_numpy().T - shown["estimate"].to_numpy())
    color = method_styles(["sdsd"])["sdsd"].color
    left.barh(at, shown["estimate"], xerr=spans, color=color, height=0.6,
              error_kw={"capsize": 3, "ecolor": left.spines["left"].get_edgecolor()})  # fmt: skip
    left.axvline(0, color=left.spines["left"].get_edgecolor(), linewidth=1)
    left.set_yticks(at, [SOURCES[source] for source in shown["source"]])
    left.grid(axis="y", visible=False)
    left.set_xlabel("what it adds to the slope (interval over problems)")
    left.set_title("Sources of the amplification")
    matrix = example(own, answers)
    image = right_ax.imshow(matrix, cmap="PuOr_r", vmin=-np.abs(matrix.to_numpy()).max(),
                            vmax=np.abs(matrix.to_numpy()).max())  # fmt: skip
    right_ax.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=60, ha="right")
    right_ax.set_yticks(range(len(matrix)), matrix.index)
    right_ax.grid(visible=False)
    right_ax.set_xlabel("demonstration, most likely first")
    right_ax.set_ylabel("correct path")
    right_ax.set_title("PCMI of one prompt")
    figure.colorbar(image, ax=right_ax, label="PCMI (nats)", shrink=0.8)
    return figure, table


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


def forecasts(
    policies: pd.DataFrame, tilts: pd.DataFrame, base: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Figure 8: forecast from the base alone, against what training did, problem by problem."""
    listed = tilts[tilts["correct"]][["problem_id", "answer", "logprob", "tilt"]]
    wrong = tilts[~tilts["correct"]]
    counted = base[~base["correct"]].merge(
        wrong[["problem_id", "answer", "tilt"]], on=["problem_id", "answer"], how="left"
    )
    rows = counted[["problem_id", "answer", "correct", "tilt"]].fillna({"tilt": 0.0})
    rows = exact_rows(rows.assign(log_mass=0.0), listed)
    runs = [
        r for r in ("sdsd/frozen", "sdsd", "sdsd-uniform", "grpo/kl") if r in set(policies["run"])
    ]
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.4 * len(runs), 4.4), sharex=True, sharey=True
    )
    records = []
    start = forecast_problems(rows, [0.0], [1, K]).set_index("problem_id")
    for ax, run in zip(np.atleast_1d(axes), runs, strict=True):
        measured = measured_changes(policies, run)
        weight = matching_weight(rows, measured["pass@1"].mean())
        told = forecast_problems(rows, [weight], [1, K]).set_index("problem_id")
        told, before = told.loc[measured.index], start.loc[measured.index]
        predicted = before["effective_answers"] - told["effective_answers"]
        drop_told = before[f"distinct@{K}"] - told[f"distinct@{K}"]
        rank = float(spearmanr(predicted, measured["effective"]).statistic)
        drops = measured[["effective", "distinct"]].to_numpy()
        low, high = bootstrap_mean(drops, N_RESAMPLES, random_state=SEED)
        records.append(
            {
                "run": run,
                "weight": weight,
                "pass@1": measured["pass@1"].mean(),
                "spearman": rank,
                "effective_drop_predicted": predicted.mean(),
                "effective_drop": drops[:, 0].mean(),
                "effective_drop_low": low[0],
                "effective_drop_high": high[0],
                f"distinct@{K}_drop_predicted": drop_told.mean(),
                f"distinct@{K}_drop": drops[:, 1].mean(),
                f"distinct@{K}_drop_low": low[1],
                f"distinct@{K}_drop_high": high[1],
                f"distinct@{K}_error": (drop_told - measured["distinct"]).abs().mean(),
            }
        )
        look = method_styles([run])[run]
        ax.plot(predicted, measured["effective"], ".", color=look.color, alpha=0.6)
        both = np.concatenate([predicted, measured["effective"]])
        limits = [both.min(), both.max()]
        ax.plot(limits, limits, color=ax.spines["left"].get_edgecolor(), linewidth=1)
        ax.set_title(f"{run}: rank correlation {rank:.2f}")
        ax.set_xlabel("forecast drop of effective paths")
    np.atleast_1d(axes)[0].set_ylabel("measured drop of effective paths")
    return figure, pd.DataFrame(records)


def measured_changes(policies: pd.DataFrame, run: str) -> pd.DataFrame:
    """Accuracy after training and drops of effective and distinct paths, mean over seeds."""
    last = policies.loc[policies["run"] == run, "step"].max()
    keys = ["problem_id", "answer"]
    base = policies[policies["run"] == "base"].drop_duplicates(keys)
    at_end = policies[(policies["run"] == run) & (policies["step"] == last)]
    parts = []
    for _, part in at_end.groupby("seed"):
        modes = paired_logprobs(base, part)
        changes = mode_changes(modes).set_index("problem_id")
        p = np.exp(modes[["logprob_before", "logprob_after"]])
        found = (1 - (1 - p) ** K).groupby(modes["problem_id"]).sum()
        parts.append(
            pd.DataFrame(
                {
                    "pass@1": p["logprob_after"].groupby(modes["problem_id"]).sum().clip(upper=1),
                    "effective": changes["effective_before"] - changes["effective_after"],
                    "distinct": found["logprob_before"] - found["logprob_after"],
                }
            )
        )
    return sum(parts[1:], parts[0]) / len(parts)


def matching_weight(rows: pd.DataFrame, goal: float) -> float:
    """Weight of the tilt at which the forecast is as accurate as the trained model."""

    def excess(weight: float) -> float:
        return float(forecast_problems(rows, [weight], 1)["pass@1"].mean()) - goal

    top = 0.25
    while excess(top) < 0 and top < 64:
        top *= 2
    return float(brentq(excess, 0.0, top, xtol=1e-3)) if excess(0.0) < 0 < excess(top) else 0.0
