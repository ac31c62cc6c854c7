"""Figure 16: the toy of the paper's Figure 2, by theory and by training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from palette import STYLES
from registry import Drawn, Study, Tables
from words import rows_of

WIDTH = 12.0  # of the Gaussian kernel that the first panel shows
TRAININGS = {
    "optimum": ("-", "optimum"),
    "optimum, frozen teacher": (":", "optimum, frozen teacher (Proposition 2)"),
    "exact gradient flow": ("-", "exact gradient flow"),
    "exact gradients, Adam": ("--", "exact gradients, Adam"),
    "sampled, Adam": ("-.", "sampled, Adam"),
}


class Paper:
    """The toy's results, and what the paper prints."""

    def __init__(self, data: Path) -> None:
        self.toy = pd.read_csv(data / "toy.csv", keep_default_na=False)
        self.policies = pd.read_csv(data / "toy-policies.csv")
        printed = pd.read_csv(data / "curves.csv", dtype={"figure": str})
        printed = printed[printed["figure"] == "2"].dropna(subset="x")
        named = printed["quantity"].str.partition(" (")[0]
        printed = printed.assign(quantity=named.replace({"mean reward": "reward"}))
        wide = printed.pivot_table("value", ["method", "x"], "quantity").reset_index()
        self.printed = wide.rename(
            columns={"x": "beta", "coverage of the rewarded quarters": "coverage"}
        )


PAPER = Study("paper", Paper, "data/paper")


@PAPER.figure("toy-paper", "The paper's toy, by theory and by training", number=16)
def toy(data: Paper) -> Drawn:
    """Policies over the hundred actions, and reward against beta; hollow where a mode is lost."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 9.4))
    _policies(axes[0, 0], data.policies)
    means = data.toy.groupby(["method", "kernel", "width", "training", "beta"], as_index=False)
    table = means[["reward", "coverage", "mean_action"]].mean()
    of_rl = table[table["method"] == "grpo"]
    # Where lines coincide, the smaller mark lies on the larger one.
    for place, (training, part) in enumerate(of_rl.groupby("training", sort=False)):
        style, label = TRAININGS[str(training)]
        name = "base" if training == "optimum" else "grpo"
        _line(axes[0, 1], part, STYLES[name].color, style, label, 12 - 2.5 * place)
    gaussian = table[(table["method"] == "sdsd") & (table["kernel"] == "Gaussian")]
    shades = plt.get_cmap("YlOrBr")
    for place, (width, rows) in enumerate(gaussian.groupby("width")):
        color: Any = shades(0.4 + 0.18 * place)
        for ax, training in zip(axes[1], SDSD, strict=True):
            part = rows[rows["training"] == training]
            _line(ax, part, color, "-", f"kernel's sd {width:g}", 12 - 2.5 * place)
    titles = ("GRPO", *(f"SDSD, Gaussian kernel: {said}" for said in SDSD.values()))
    for ax, title in zip(axes.flat[1:], titles, strict=True):
        rows = data.printed[data.printed["method"] == title.partition(",")[0].lower()]
        for row in rows.to_dict("records"):
            _point(ax, row, "*", PRINTED, 12)
        ax.plot([], [], "*", color=PRINTED, markersize=12, label="the paper")
        for fill, label in (("full", "both rewarded quarters"), ("none", "hollow: one lost")):
            ax.plot([], [], "o", color=STYLES["base"].color, fillstyle=fill, label=label)
        ax.set(xlabel="beta", ylabel="mean reward", title=title, ylim=(-0.05, 1.05))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8.5)
    whole = pd.concat([table.assign(source="here"), data.printed.assign(source="paper")])
    return figure, whole


SDSD = {"exact gradient flow": "moving teacher", "optimum, frozen teacher": "frozen teacher"}
PRINTED = "#cc3377"


def _policies(ax: Axes, table: pd.DataFrame) -> None:
    looks = {
        "base": ("base", "-", "base"),
        "grpo, optimum": ("grpo", "--", "GRPO, optimum"),
        "sdsd, optimum, frozen teacher": ("sdsd", ":", "SDSD, frozen teacher, optimum"),
        "sdsd, sampled, Adam": ("sdsd", "-", "SDSD, trained"),
    }
    for column, (run, style, label) in looks.items():
        ax.plot(table["action"], table[column], style, color=STYLES[run].color, label=label)
    for start in (0, 50):
        ax.axvspan(start, start + 25, color="#e3f3ee", linewidth=0, zorder=0)
    ax.set(xlabel="action (shaded: rewarded)", ylabel="probability", ylim=(0, 0.14),
           title=f"Policies at beta 0.1, kernel's sd {WIDTH:g}")  # fmt: skip
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8.5)


def _line(ax: Axes, part: pd.DataFrame, color: Any, style: str, label: str, size: float) -> None:
    ax.plot(part["beta"], part["reward"], style, color=color, label=label, linewidth=1.4)
    for row in part.to_dict("records"):
        _point(ax, row, "o", color, size)


def _point(ax: Axes, row: dict[Any, Any], marker: str, color: Any, size: float) -> None:
    """Draw a mark, hollow where one of the rewarded quarters is lost."""
    ax.plot(row["beta"], row["reward"], marker, color=color, markersize=size,
            fillstyle="full" if row["coverage"] > 0.75 else "none")  # fmt: skip


@toy.found
def _(tables: Tables) -> str:
    table = tables["toy-paper"]
    here = table[(table["source"] == "here") & (table["method"] == "sdsd")]
    moving = here[here["training"] != "optimum, frozen teacher"]
    frozen = here[here["training"] == "optimum, frozen teacher"]
    rl = table[(table["source"] == "here") & (table["method"] == "grpo")]
    zero = rl[(rl["beta"] == 0) & (rl["training"] != "optimum")]
    both = [str(name) for name in zero.loc[zero["coverage"] > 0.75, "training"]]
    lost = [str(name) for name in zero.loc[zero["coverage"] <= 0.75, "training"]]
    rows = [
        ["SDSD, moving teacher", *_counts(moving)],
        ["SDSD, optimum under a frozen teacher", *_counts(frozen)],
        ["GRPO, beta above 0", *_counts(rl[rl["beta"] > 0])],
        ["GRPO, beta 0", *_counts(zero)],
    ]
    heads = ("", "settings", "cover both rewarded quarters", "mean reward")
    return f"""A setting is a kernel, its width, a beta and a way to train. At beta 0 GRPO covers
        both quarters with {"; ".join(both) or "none"}, one with {"; ".join(lost) or "none"}.

{rows_of(heads, rows)}"""


def _counts(part: pd.DataFrame) -> list[str]:
    reward = part["reward"]
    return [str(len(part)), str(int((part["coverage"] > 0.75).sum())),
            f"{reward.min():.2f} to {reward.max():.2f}"]  # fmt: skip
