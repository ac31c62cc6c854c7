"""Countdown with a real model at two temperatures: the figures of every report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from registry import Drawn, Study, Tables
from words import span

from passk_lab.plots import (
    method_styles,
    plot_differences,
    plot_distinct_at_k,
    plot_pass_at_k,
    plot_pass_rates,
)
from passk_lab.report import build_report

N_RESAMPLES = 10_000
SEED = 0
# Temperature 1 samples the model's own distribution; a lower one sharpens it.
BASELINE = "T=1.0"
STYLES = method_styles(["T=0.6", BASELINE], BASELINE)


def load(data: Path) -> Any:
    """Write the whole report into ``report/``, which is not kept in the repository."""
    out = Path(__file__).parent.parent / "report" / "countdown"
    report = build_report(data, BASELINE, out=out, n_resamples=N_RESAMPLES, random_state=SEED)
    return report.sections[0]


COUNTDOWN = Study("countdown", load, "data/countdown/rollouts.parquet", N_RESAMPLES, SEED)


@COUNTDOWN.figure("pass_at_k-countdown", "A real model at two temperatures")
def pass_at_k(section: Any) -> Drawn:
    """pass@k."""
    return figure_of(plot_pass_at_k(section.curve, styles=STYLES)), section.curve


@pass_at_k.found
def _(tables: Tables) -> str:
    table = tables["differences-countdown"].set_index("k")
    first, last = table.iloc[0], table.iloc[-1]
    return f"""A real model (SmolLM2-135M-Instruct), temperature 0.6 against 1.0: pass@1 changes by
        {span(first, 3, "difference")}, pass@{table.index[-1]} by {span(last, 3, "difference")}."""


@COUNTDOWN.figure("distinct_at_k-countdown", "Its distinct answers")
def distinct_at_k(section: Any) -> Drawn:
    """Distinct correct answers by k."""
    return figure_of(plot_distinct_at_k(section.distinct, styles=STYLES)), section.distinct


@distinct_at_k.found
def _(tables: Tables) -> str:
    table = tables["distinct_at_k-countdown"]
    last = table[table["k"] == table["k"].max()].set_index("run")
    found = [f"{run}: {span(row)}" for run, row in last.iterrows()]
    return f"Distinct correct answers in {int(table['k'].max())} samples: {'; '.join(found)}."


@COUNTDOWN.figure("differences-countdown", "Paired difference of pass@k")
def differences(section: Any) -> Drawn:
    """Paired differences, with the crossing."""
    ax = plot_differences(section.differences, section.crossings, styles=STYLES)
    columns = {"low": "k_cross_low", "high": "k_cross_high", "share": "k_cross_share"}
    crossings = section.crossings.rename(columns=columns).drop(columns="k_max")
    return figure_of(ax), section.differences.merge(crossings, on=["run", "split"])


@COUNTDOWN.figure("pass_rates-countdown", "Pass rates of the problems")
def pass_rates(section: Any) -> Drawn:
    """Histogram of the problems' pass rates."""
    return figure_of(plot_pass_rates(section.rates, styles=STYLES)), section.rates


@COUNTDOWN.table("worst_problems-countdown")
def worst_problems(section: Any) -> pd.DataFrame:
    """Problems that lost most."""
    return pd.DataFrame(section.worst)


def figure_of(ax: Axes) -> Figure:
    """Give the figure that a plot function made."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure
