"""Figures 15 and 17: every method at every rate, and where the paper's signature holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from concepts import CONCEPTS, Concepts, gap_between
from lab import HOW
from matplotlib.axes import Axes
from palette import STYLES, name_of, spans
from registry import Drawn, Tables
from words import rows_of, span

from passk_lab.stats import bootstrap_mean

# What is drawn in one panel.
FAMILIES = {
    "The paper's methods": ("grpo", "grpo-diversity", "sdsd", "sdsd-3"),
    "Other teachers": ("sdsd", "sdsd/frozen", "sdsd-anchored", "sdsd-composed"),
    "Gradients of pass@k and distinct@k": ("grpo", "dkpo/2", "dkpo/4", "pkpo"),
    "Other rewards, a floor": ("grpo", "grpo-floor", "ucpo", "mara"),
}
METHODS = list(dict.fromkeys(run for runs in FAMILIES.values() for run in runs))
SIZES = {1e-4: 4.0, 3e-4: 6.5, 6e-4: 9.0}  # of the marks, by rate
ACCURATE = 0.95
COSTS = (0.01, 0.02, 0.05)  # in pass@1, against the most accurate run


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
    figure, axes = plt.subplots(2, 2, figsize=(9.4, 9), sharey=True)
    for ax, (family, names) in zip(axes.flat, FAMILIES.items(), strict=True):
        for name in names:
            _front(ax, table[table["method"] == name], name)
        ax.set(title=family, xlabel="pass@1, in distribution", ylim=(0.7, 2.06))
        ax.set_yticks([1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
        _base_line(ax, table.loc[table["run"] == "base", "routes"].item())
        ax.legend(loc="lower center", ncols=2)
    for ax in axes[:, 0]:
        ax.set_ylabel("routes in 64 samples")
    return figure, table


def _front(ax: Axes, part: pd.DataFrame, name: str) -> None:
    """Draw a method's rates, joined; the larger a mark, the higher the rate."""
    look = STYLES[name]
    ax.errorbar(part["accuracy"], part["routes"], xerr=spans(part, "accuracy", "accuracy_"),
                yerr=spans(part, "routes", "routes_"), color=look.color, linestyle=look.linestyle,
                linewidth=1.2, elinewidth=0.7)  # fmt: skip
    for row in part.to_dict("records"):
        ax.plot(row["accuracy"], row["routes"], color=look.color, marker=look.marker,
                markersize=SIZES[row["rate"]], linestyle="none",
                label=name if row["rate"] == 3e-4 else None)  # fmt: skip


def _base_line(ax: Axes, routes: float) -> None:
    color = STYLES["base"].color
    ax.axhline(routes, color=color, linewidth=0.9, zorder=0)
    ax.annotate("base", (0.995, routes), xycoords=("axes fraction", "data"), xytext=(0, -2),
                textcoords="offset points", ha="right", va="top", color=color,
                fontsize=8.5)  # fmt: skip


def fronts(tables: Tables) -> str:
    """Most routes that a method keeps at one of its rates, by the accuracy that it may cost."""
    table = tables["methods-concepts"]
    table = table[table["method"].isin(METHODS)]
    best = table["accuracy"].max()
    heads = [f"most routes where pass@1 is, against {best:.2f},",
             *(f"at most {cost:g} less" for cost in COSTS)]  # fmt: skip
    rows = {name: [_widest(table, name, best - cost) for cost in COSTS] for name in METHODS}
    cells = [
        [f"`{name}`", *("" if row is None else _kept(row) for row in kept)]
        for name, kept in sorted(rows.items(), key=lambda item: _order(item[1]))
    ]
    said = []
    for place, cost in enumerate(COSTS):
        name, widest = min(
            ((name, kept[place]) for name, kept in rows.items()), key=lambda item: _order([item[1]])
        )
        said.append(f"{cost:g} by `{name}`, {_kept(widest)}")
    sdsd = _kept(rows["sdsd"][-1])
    told = f"Most are kept at a cost of {'; '.join(said)}. SDSD keeps {sdsd}."
    return f"{rows_of(heads, cells)}\n\n{told}\n"


def _widest(table: pd.DataFrame, method: str, level: float) -> pd.Series | None:
    part = table[(table["method"] == method) & (table["accuracy"] >= level)]
    return None if part.empty else part.sort_values("routes").iloc[-1]


def _order(kept: list[pd.Series | None]) -> list[float]:
    return [0.0 if row is None else -float(row["routes"]) for row in kept]


def _kept(row: Any) -> str:
    return f"{span(row, 2, 'routes', 'routes_')} at {row['rate']:g}"


@methods.found
def _(tables: Tables) -> str:
    table = tables["methods-concepts"]
    table = table[table["method"] != "base"]
    best = table[table["accuracy"] >= ACCURATE].groupby("method")["routes"].max()
    rows = [
        [name_of(name), f"{part['accuracy'].max():.2f}", f"{part['routes'].max():.2f}",
         f"{best[name]:.2f}" if name in best else ""]
        for name in METHODS if not (part := table[table["method"] == name]).empty
    ]  # fmt: skip
    heads = ("", "largest pass@1", "most routes of 2", f"at pass@1 of {ACCURATE} or more")
    return f"""Small, middle and large marks are learning rates of 0.0001, 0.0003 and 0.0006; the
        grey line is the base.

{rows_of(heads, rows)}"""


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
    ("base", "copying the chain", "copying", "sdsd", "grpo"),
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
    return f"""A filled mark: the claim holds, by its rule. {"; ".join(said)}."""


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
