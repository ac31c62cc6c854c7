"""Figures 15 and 17: every method at every rate, and where the paper's signature holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from concepts import CONCEPTS, Concepts, gap_between
from lab import HOW
from palette import STYLES, lab_styles, spans
from registry import Drawn, Tables
from words import span

from passk_lab.stats import bootstrap_mean

# What is drawn in one panel; grpo stands in each.
FAMILIES = {
    "Reinforcement learning": ("grpo", "grpo-floor", "ucpo", "pkpo"),
    "Rewards for diversity": ("grpo", "grpo-diversity", "dkpo/2", "dkpo/4", "mara"),
    "Self-distillation": (
        "grpo",
        "sdsd",
        "sdsd-3",
        "sdsd-composed",
        "sdsd-anchored",
        "sdsd/frozen",
    ),
}
ACCURATE = 0.95


@CONCEPTS.figure("methods-concepts", "Who keeps the routes, at what accuracy", number=15)
def methods(data: Concepts) -> Drawn:
    """Accuracy in distribution against routes, every method at each of its rates."""
    accuracy = data.values("id", "pass_at_k", 1)
    routes = data.values("id", "concept_coverage_at_k", 64)
    rows = []
    for run in accuracy:
        if run.startswith("sdsd-external"):
            continue
        method, _, rate = run.partition("@")
        row = {"run": run, "method": method, "rate": float(rate or 3e-4)}
        for name, values in (("accuracy", accuracy[run]), ("routes", 2 * routes[run])):
            low, high = bootstrap_mean(values, **HOW)
            row |= {name: values.mean(), f"{name}_low": low[0], f"{name}_high": high[0]}
        rows.append({**row, "n_seeds": len(accuracy[run])})
    table = pd.DataFrame(rows).sort_values(["method", "rate"])
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), sharex=True, sharey=True)
    for ax, (family, names) in zip(axes, FAMILIES.items(), strict=True):
        for name, look in lab_styles(names).items():
            part = table[table["method"] == name]
            ax.errorbar(
                part["accuracy"],
                part["routes"],
                xerr=spans(part, "accuracy", "accuracy_"),
                yerr=spans(part, "routes", "routes_"),
                color=look.color,
                marker=look.marker,
                linestyle=look.linestyle,
                linewidth=1,
                elinewidth=0.7,
                label=name,
            )
        ax.set(title=family, xlabel="pass@1, in distribution", xlim=(0.69, 1.0), ylim=(0.98, 2.05))
        ax.set_xticks([0.7, 0.8, 0.9, 1.0])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    axes[0].set_ylabel("routes in 64 samples")
    return figure, table


@methods.found
def _(tables: Tables) -> str:
    table = tables["methods-concepts"]
    table = table[table["method"] != "base"]
    best = table[table["accuracy"] >= ACCURATE].sort_values("routes", ascending=False)
    said = [f"{row['run']} {row['routes']:.2f} at {row['accuracy']:.2f}"
            for _, row in best.drop_duplicates("method").iterrows()]  # fmt: skip
    most = table.groupby("method")[["accuracy", "routes"]].max()
    behind = [f"{name} {row['accuracy']:.2f} ({row['routes']:.2f})"
              for name, row in most[most["accuracy"] < ACCURATE].iterrows()]  # fmt: skip
    return f"""Learning rates of 0.0001, 0.0003 and 0.0006, the middle one where none is said. Most
        routes of 2, among runs with pass@1 of at least {ACCURATE}: {"; ".join(said)}. Less accurate
        at every rate, with their largest pass@1 (and routes): {"; ".join(behind)}."""


# --- Where the signature holds ---

# Where it is asked: group, name, condition, the run, and what it is compared with.
_PLACES = (
    ("", "as in figure 11", "obedient", "sdsd", "grpo"),
    ("rate", "0.0001", "obedient", "sdsd@0.0001", "grpo@0.0001"),
    ("rate", "0.0006", "obedient", "sdsd@0.0006", "grpo@0.0006"),
    ("KL", "0", "obedient", "sdsd/kl-0", "grpo/kl-0"),
    ("KL", "0.3", "obedient", "sdsd/kl-0.3", "grpo/kl-0.3"),
    ("teacher", "EMA 0.003", "obedient", "sdsd/ema-0.003", "grpo"),
    ("teacher", "EMA 0.03", "obedient", "sdsd/ema-0.03", "grpo"),
    ("teacher", "frozen", "obedient", "sdsd/frozen", "grpo"),
    ("teacher", "composed", "obedient", "sdsd-composed", "grpo"),
    ("base", "short lengths seen", "short", "sdsd", "grpo"),
    ("base", "stubborn teacher", "stubborn", "sdsd", "grpo"),
)
_CLAIMS = (
    ("a", "id", "pass_at_k", 1, "(a) pass@1,\nin distribution"),
    ("b", "larger", "pass_at_k", 1, "(b) pass@1,\nlarger graphs"),
    ("c", "harder", "pass_at_k", 64, "(c) pass@64,\nharder graphs"),
    ("d", "id", "concept_coverage_at_k", 64, "(d) share of routes\nin 64 samples"),
)


def _holds(claim: str, gap: pd.Series) -> bool:
    if claim == "a":
        return bool(abs(gap["difference"]) < 0.05)
    return bool(gap["low"] > 0 if claim == "b" else gap["high"] < 0)


def _asked(data: Concepts) -> Iterator[dict[str, Any]]:
    for claim, split, metric, k, _ in _CLAIMS:
        for group, name, condition, run, other in _PLACES:
            values = data.values(split, metric, k, condition)
            gap = gap_between(values, run, other)
            yield {
                "row": claim, "group": group, "name": name, "condition": condition, "run": run,
                "other": other, "mine": values[run].mean(), "theirs": values[other].mean(),
                **gap[["difference", "low", "high"]], "holds": _holds(claim, gap),
                "n_seeds": min(len(values[run]), len(values[other])),
            }  # fmt: skip


@CONCEPTS.figure("conditions-concepts", "Where the paper's signature holds", number=17)
def conditions(data: Concepts) -> Drawn:
    """SDSD less GRPO under other rates, KL terms, teachers and bases, row by row."""
    table = pd.DataFrame(list(_asked(data)))
    figure, axes = plt.subplots(1, len(_CLAIMS), figsize=(13, 4.6), sharey=True)
    labels = [f"{group} {name}".strip() for group, name, *_ in _PLACES]
    look = STYLES["sdsd"]
    for ax, (claim, *_, title) in zip(axes, _CLAIMS, strict=True):
        part = table[table["row"] == claim].reset_index(drop=True)
        for holds, face in ((True, look.color), (False, "none")):
            mine = part[part["holds"] == holds]
            ax.errorbar(mine["difference"], mine.index, xerr=spans(mine, "difference"),
                        linestyle="none", marker="o", color=look.color, markerfacecolor=face,
                        capsize=2)  # fmt: skip
        ax.axvline(0, color=ax.spines["left"].get_edgecolor(), linewidth=0.8)
        ax.set(title=title, xlabel="SDSD less GRPO")
        ax.set_yticks(range(len(labels)), labels)
        ax.margins(x=0.12)
    axes[0].invert_yaxis()  # of all: they share it
    return figure, table


@conditions.found
def _(tables: Tables) -> str:
    table = tables["conditions-concepts"]
    said = [f"({claim}) {_where(part)}" for claim, part in table.groupby("row")]
    larger = table[table["row"] == "b"]
    best = larger.loc[larger["low"].idxmax()]
    short = larger[larger["condition"] == "short"].iloc[0]
    return f"""A filled mark: the row holds, by its rule. {"; ".join(said)}. (b) SDSD's lead on
        larger graphs is clearest with {_called(best)}: {best["mine"]:.2f} against
        {best["theirs"]:.2f}, difference {span(best, 3, "difference")}. From a base that has hardly
        seen such lengths, as
        the paper's model, it is {short["mine"]:.2f} against {short["theirs"]:.2f}, difference
        {span(short, 3, "difference")}."""


def _called(row: pd.Series) -> str:
    group = row["group"]
    return f"{group} {row['name']}" if isinstance(group, str) and group else "the main setting"


def _where(part: pd.DataFrame) -> str:
    good, bad = part[part["holds"]], part[~part["holds"]]
    few = good if len(good) <= len(bad) else bad
    names = ", ".join(_called(row) for _, row in few.iterrows())
    if few is good:
        return f"holds only with {names}" if names else "holds nowhere"
    return f"holds except with {names}" if names else "holds everywhere"


def why_entropy(tables: Tables) -> str:
    """What token entropy says here, and why it isn't 0."""
    table = tables["entropy-concepts"].set_index("run")["token_entropy"]
    least = table[[run for run in table.index if run.startswith("sdsd")]].idxmin()
    rates = {"0.0001": "@0.0001", "0.0003": "", "0.0006": "@0.0006"}
    pairs = {rate: (table[f"grpo{at}"], table[f"grpo-diversity{at}"]) for rate, at in rates.items()}
    held = sum(abs(one - other) < 0.05 for one, other in pairs.values())
    shown = "; ".join(f"{rate}: {one:.2f} and {other:.2f}" for rate, (one, other) in pairs.items())
    text = f"""SDSD's token entropy can't fall to 0 here (e): a demonstration tells nothing about
        which of the two chains of a route is right, so that self-distillation leaves this choice
        open, at {np.log(2) / 5:.2f} nats a token. The least of all its runs is {table[least]:.3f}
        (`{least}`). GRPO without a KL term closes that choice, too ({table["grpo/kl-0"]:.2f}): here
        the lowest entropy marks RL without a penalty, not self-distillation. The paper's (f), GRPO
        and GRPO+diversity within 0.05 of each other, holds at {held} of {len(pairs)} learning rates
        ({shown})."""
    return " ".join(text.split()) + "\n"


@CONCEPTS.table("entropy-concepts")
def entropy(data: Concepts) -> pd.DataFrame:
    """Token entropy of every run at the end, obedient base."""
    ends = data.entropy[data.entropy["step"].isin([0, data.last])]
    means = ends.groupby("run", observed=True)[["token_entropy", "valid_concepts"]].mean()
    return means.reset_index()
