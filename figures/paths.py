"""Figures 2 to 5: what training did in the path-finding lab, and on the problems of training."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import (
    BY,
    HOW,
    MAIN,
    PATHS,
    SHOWN,
    SPLITS,
    Found,
    Lab,
    compared,
    exact,
    exact_findings,
    per_seed,
    select,
)
from palette import lab_styles, name_of
from registry import Drawn, Tables
from words import rows_of, share, span

from passk_lab.plots import plot_distinct_at_k, plot_pass_at_k, plot_progress, plot_tradeoff
from passk_lab.stats import curve_crossings, policy_curve, policy_values

TICKS = (0.2, 0.5, 1, 2)  # nats


@PATHS.figure("pass_at_k-paths", "pass@k, and how many of the correct paths are found", number=2)
def pass_at_k(lab: Lab) -> Drawn:
    """pass@k, and the coverage that pass@k can't see."""
    policies = lab.at_end(lab.policies)
    solved = select(exact(policies, "pass_at_k"), "id")
    covered = select(exact(policies[policies["split"] == "id"], "coverage_at_k"), "id")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = lab_styles(SHOWN)
    plot_pass_at_k(select(solved[solved["k"] <= 32], "id", SHOWN), left, styles)
    plot_distinct_at_k(select(covered, "id", SHOWN), right, styles)
    left.set_title("Some correct path is found")
    right.set(ylabel="coverage@k (share of the correct paths)", title="How many of them")
    parts = [solved.assign(metric="pass_at_k"), covered.assign(metric="coverage_at_k")]
    return figure, pd.concat(parts)


@pass_at_k.found
def _(tables: Tables) -> str:
    found = Found(tables)
    measures = ("pass@1", "pass@64", "coverage@64")
    rows = [
        [name_of(run), *(found(name, run, digits=3) for name in measures),
         "" if run == "base" else crossing(tables, run, "base")]
        for run in SHOWN
    ]  # fmt: skip
    solved, kept = (
        found.table.loc[("id", name)]["estimate"][list(SHOWN)]
        for name in ("pass@64", "coverage@64")
    )
    return f"""At 64 samples each run solves all but {1 - solved.min():.1%} of the problems or
        fewer, but finds {kept.min():.0%} to {kept.max():.0%} of the correct paths.

{rows_of(("", *measures, "its curve and the base's"), rows)}"""


def crossing(tables: Tables, run: str, other: str, split: str = "id") -> str:
    """Say where a run's curve crosses another's."""
    table = tables["crossings-paths"].set_index(["split", "run", "baseline"])
    row = table.loc[(split, run, other)]
    if pd.isna(row["k_cross"]):
        return f"don't cross up to k = 1,024 (do in {row['share']:.0%} of the replicates)"
    high = f"{row['high']:.0f}" if row["high"] < 1e9 else "beyond 1,024"
    return f"cross at k = {row['k_cross']:.0f} [{row['low']:.0f}, {high}]"


@PATHS.figure("distinct_at_k-paths", "Distinct correct paths", number=3)
def distinct_at_k(lab: Lab) -> Drawn:
    """Distinct correct paths by k, and how they and pass@1 go in training."""
    found = select(exact(lab.at_end(lab.policies), "distinct_at_k"), "id")
    shown = lab.policies[(lab.policies["split"] == "id") & lab.policies["run"].isin(MAIN)]
    progress = []
    for metric, k in (("pass_at_k", 1), ("distinct_at_k", 64)):
        part = policy_curve(shown, metric, k, BY, **HOW)
        progress.append(select(part, "id").assign(metric=metric))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6))
    styles = lab_styles(SHOWN)
    plot_distinct_at_k(select(found, "id", SHOWN), left, styles)
    for ax, part in zip((middle, right), progress, strict=True):
        plot_progress(select(part, "id", SHOWN), ax, styles)
    left.set_title("Distinct correct paths")
    middle.set(ylabel="pass@1 (mean over problems)", title="Accuracy in training")
    right.set(ylabel="distinct@64 (correct paths per problem)", title="Distinct paths in training")
    right.set_ylim(bottom=0)
    return figure, pd.concat([found.assign(metric="distinct_at_k"), *progress])


@distinct_at_k.found
def _(tables: Tables) -> str:
    found = Found(tables)
    return f"""Distinct correct paths in 64 samples: base {found("distinct@64", "base")}, GRPO
        {found("distinct@64", "grpo")}, GRPO with a penalty {found("distinct@64", "grpo/kl")}, SDSD
        {found("distinct@64", "sdsd")}. SDSD keeps {found.ratio("distinct@64", "sdsd", "grpo")} of
        what GRPO keeps, and {found.ratio("distinct@64", "sdsd", "grpo/kl")} of what GRPO with a
        penalty does."""


@PATHS.figure("entropy-paths", "Token entropy and distinct paths", number=4)
def entropy(lab: Lab) -> Drawn:
    """Mean token entropy against distinct correct paths, one point a checkpoint."""
    distinct = means(lab.policies[lab.policies["split"] == "id"])
    tokens = lab.entropy[lab.entropy["split"] == "id"]
    entropies = tokens.groupby(["run", "step", "seed"])["token_entropy"].mean()
    table = distinct.join(entropies, how="inner").reset_index()
    # The base was copied to every step; once is enough.
    table = table[(table["run"] != "base") | (table["step"] == lab.last)]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8))
    styles = lab_styles((*SHOWN, "sdsd/ema-0.05"))
    shown = table["run"].isin(styles)
    for ax, x in zip(axes, ("token_entropy", "pass@1"), strict=True):
        others = table[~shown]
        ax.plot(others[x], others["distinct@64"], ".", color=ax.spines["left"].get_edgecolor(),
                alpha=0.35)  # fmt: skip
        # All start at the base, which is drawn once.
        late = table[shown & (table["run"].eq("base") | table["step"].gt(0))]
        plot_tradeoff(late, x, "distinct@64", ax, styles)
        ax.set_ylabel("distinct@64 (correct paths per problem)")
    axes[0].set_xscale("log")  # a collapsed model babbles at many times the others' entropy
    axes[0].set_xticks(TICKS, map(str, TICKS))
    axes[0].minorticks_off()
    axes[0].set(
        xlabel="mean token entropy (nats, log scale)", title="Token entropy against distinct paths"
    )
    axes[1].set(xlabel="pass@1", title="Accuracy against distinct paths")
    axes[1].annotate("dots: other methods", (0.98, 0.03), xycoords="axes fraction", ha="right")
    return figure, table


@entropy.found
def _(tables: Tables) -> str:
    found = Found(tables)
    table = tables["entropy-paths"]
    alive = table[table["pass@1"] > 0.05]
    ranks = [
        f"{part[['token_entropy', 'distinct@64']].corr('spearman').iloc[0, 1]:.2f}"
        for part in (table, alive)
    ]
    return f"""Mean token entropy (nats) and distinct@64 at the end: GRPO with a penalty
        {found("token_entropy", "grpo/kl")} and {found("distinct@64", "grpo/kl")}, SDSD
        {found("token_entropy", "sdsd")} and {found("distinct@64", "sdsd")}, SDSD with the faster
        teacher {found("token_entropy", "sdsd/ema-0.05")} and
        {found("distinct@64", "sdsd/ema-0.05")}. Rank correlation over all checkpoints {ranks[0]};
        over those that still solve one problem in twenty, {ranks[1]}."""


def means(policies: pd.DataFrame) -> pd.DataFrame:
    """pass@1 and distinct@64 of each run, step and seed."""
    rows = []
    for name, metric, k in (("pass@1", "pass_at_k", 1), ("distinct@64", "distinct_at_k", 64)):
        for group in policy_values(policies, metric, k, BY):
            run, _, step = group.group
            means = group.values.mean(axis=(1, 2))
            rows += [(run, step, s, name, v) for s, v in enumerate(means)]
    long = pd.DataFrame(rows, columns=["run", "step", "seed", "name", "value"])
    return long.pivot_table(index=["run", "step", "seed"], columns="name", values="value")


@PATHS.figure("ood-paths", "Out of distribution", number=5)
def out_of_distribution(lab: Lab) -> Drawn:
    """pass@k where another strategy is needed."""
    curves = exact(lab.at_end(lab.policies), "pass_at_k")
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    styles = lab_styles(SHOWN)
    parts = []
    for ax, (split, title) in zip(axes, SPLITS.items(), strict=True):
        part = select(curves, split)
        plot_pass_at_k(select(part, split, SHOWN), ax, styles)
        ax.set_title(title[0].upper() + title[1:])
        parts.append(part)
    return figure, pd.concat(parts)


@out_of_distribution.found
def _(tables: Tables) -> str:
    found = Found(tables)
    runs = ("base", "grpo", "grpo/kl", "sdsd")
    rows = [
        [name, *(found("pass@64", run, split) for run in runs),
         *(found.against("pass@64", "sdsd", run, split) for run in ("grpo", "grpo/kl"))]
        for split, name in SPLITS.items()
    ]  # fmt: skip
    heads = ["pass@64", *(name_of(run) for run in runs), "SDSD less GRPO", "SDSD less GRPO + KL"]
    clear = [
        name
        for split, name in SPLITS.items()
        if found.pair("pass@64", "sdsd", "grpo", split)["high"] < 0
    ]
    return f"""SDSD's pass@64 is clearly below GRPO's in {len(clear)} of {len(SPLITS)}:
        {", ".join(clear)}.

{rows_of(heads, rows)}"""


@PATHS.figure("seen-paths", "On the problems that were trained on")
def trained_on(lab: Lab) -> Drawn:
    """pass@k and distinct@k on the very problems that were trained on."""
    runs = ("base", "grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd/ema-0.05")
    solved = select(exact(lab.seen, "pass_at_k"), "id", runs)
    found = select(exact(lab.seen, "distinct_at_k"), "id", runs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    styles = lab_styles(SHOWN)
    plot_pass_at_k(select(solved[solved["k"] <= 16], "id", SHOWN), left, styles)
    plot_distinct_at_k(select(found, "id", SHOWN), right, styles)
    right.set_ylim(bottom=0)
    left.set_title("Some correct path is found")
    right.set_title("How many of them")
    table = pd.concat([solved.assign(metric="pass_at_k"), found.assign(metric="distinct_at_k")])
    return figure, table


@trained_on.found
def _(tables: Tables) -> str:
    table = tables["seen-findings-paths"].set_index(["metric", "run"])
    rows = []
    for run in ("grpo", "grpo/kl", "sdsd", "sdsd/frozen", "sdsd/ema-0.05"):
        solved, kept = (table.loc[(metric, run)] for metric in ("pass@1", "distinct@64"))
        shares = [share(kept, other) for other in ("grpo", "grpo/kl")]
        rows.append(
            [name_of(run), span(solved), span(kept), *(shares if "sdsd" in run else ("", ""))]
        )
    heads = ("", "pass@1", "distinct@64", "of GRPO's", "of that with KL")
    sdsd, tail = table.loc[("pass@1", "sdsd")], " vs grpo"
    less = sdsd.filter(like=tail).rename(lambda name: name.removesuffix(tail))
    kept = share(table.loc[("distinct@64", "sdsd")], "grpo")
    return f"""On the very problems that were trained on, SDSD's pass@1 less GRPO's is
        {span(less, 2, "difference")}, and it keeps {kept} of its correct paths.

{rows_of(heads, rows)}"""


@PATHS.table("findings-paths")
def findings(lab: Lab) -> pd.DataFrame:
    """What the experiment was to show, exact and with intervals over seeds and problems."""
    at_end, tokens = lab.at_end(lab.policies), lab.at_end(lab.entropy)
    parts = [
        exact_findings(at_end[at_end["split"] == split]).assign(split=split)
        for split in ("id", *SPLITS)
    ]
    values = per_seed(tokens[tokens["split"] == "id"], "token_entropy")
    parts.append(compared(values, ["token_entropy"]).assign(split="id"))
    return split_first(pd.concat(parts, ignore_index=True))


def split_first(table: pd.DataFrame) -> pd.DataFrame:
    """Put the split's column first."""
    return table.set_index("split").reset_index()


@PATHS.table("seen-findings-paths")
def seen_findings(lab: Lab) -> pd.DataFrame:
    """The same on the problems that were trained on."""
    return split_first(exact_findings(lab.seen).assign(split="id"))


@PATHS.table("crossings-paths")
def crossings(lab: Lab) -> pd.DataFrame:
    """Where the pass@k curve of each run crosses the base's, GRPO's and GRPO's with a penalty."""
    final = lab.at_end(lab.policies)
    ks = np.unique(np.round(np.geomspace(1, 1024, 61)).astype(int)).tolist()
    parts = []
    for split in ("id", *SPLITS):
        found = policy_values(final[final["split"] == split], "pass_at_k", ks, BY)
        values = {of_run.group[0]: of_run.values for of_run in found}
        for other in ("base", "grpo", "grpo/kl"):
            part = curve_crossings(values, other, ks, **HOW)
            part.insert(0, "split", split)
            part.insert(2, "baseline", other)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


COLUMNS = (
    ("id", "pass@1", 2, "pass@1"),
    ("id", "pass@64", 3, "pass@64"),
    ("id", "distinct@64", 1, "distinct@64"),
    ("id", "coverage@64", 2, "coverage@64"),
    ("id", "token_entropy", 2, "token entropy"),
    ("ood-blocked", "pass@64", 2, "pass@64, favourite blocked"),
    ("ood-waypoint", "pass@64", 2, "pass@64, waypoint"),
)


def runs_table(tables: Tables) -> str:
    """Table of all runs after the last update, the most accurate first."""
    found = Found(tables).table
    slopes = tables["amplification-paths"].set_index("run")
    order = found.loc[("id", "pass@1")]["estimate"].sort_values(ascending=False).index
    names = [*(title for *_, title in COLUMNS), "slope"]
    rows = [
        [run,
         *(span(found.loc[split, name, run], digits) if (split, name, run) in found.index else ""
           for split, name, digits, _ in COLUMNS),
         span(slopes.loc[run]) if run in slopes.index else "1"]
        for run in order
    ]  # fmt: skip
    return rows_of(("run", *names), rows) + "\n"
