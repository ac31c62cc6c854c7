"""The report's figures: what to draw, and the files beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from passk_lab import plots
from passk_lab._text import csv_safe, plural, shorten
from passk_lab.plots._legend import fit_legend
from passk_lab.report._inline import inline
from passk_lab.report.model import FigureFiles, Section
from passk_lab.rollouts.files import atomic_write
from passk_lab.rollouts.table import PathLike
from passk_lab.stats.intervals import format_estimate

__all__ = ["write_figures"]


@dataclass(frozen=True)
class _Plan:
    """A figure to draw: on given axes, with given styles; what its marks stand for."""

    title: str
    stem: str
    note: str
    alt: str
    marks: tuple[str, str]
    table: pd.DataFrame
    draw: Callable[[Axes, Mapping[str, plots.MethodStyle]], Any]


def _plans(section: Section, baseline: str | None) -> Iterable[_Plan]:
    curve, rates = section.curve, section.rates
    yield _Plan(
        "pass@k",
        "pass_at_k",
        "The share of problems that at least one of k samples solves; shaded: its interval.",
        _alt_curve("pass@k", curve, "estimate"),
        ("k", "estimate"),
        curve,
        lambda ax, styles: plots.plot_pass_at_k(curve, ax, styles),
    )
    differences, crossings = section.differences, section.crossings
    if differences is not None:
        assert crossings is not None
        yield _Plan(
            f"Difference to {baseline}",
            "differences",
            "On the same problems. Above zero the run solves more than the baseline. A star marks "
            "where the curves meet, with its interval; there is none where that is unclear.",
            _alt_curve("pass@k minus the baseline's", differences, "difference")
            + " "
            + " ".join(crossing_words(row) for row in crossings.to_dict("records")),
            ("k", "difference"),
            _with_crossings(differences, crossings),
            lambda ax, styles: plots.plot_differences(differences, crossings, ax, styles),
        )
    distinct = section.distinct
    if distinct is not None:
        yield _Plan(
            "Distinct correct answers",
            "distinct_at_k",
            "The number of different correct answers among k samples, mean over problems.",
            _alt_curve("Distinct correct answers among k samples", distinct, "estimate"),
            ("k", "estimate"),
            distinct,
            lambda ax, styles: plots.plot_distinct_at_k(distinct, ax, styles),
        )
    if section.checkpoints is not None:
        yield from _over_training(section.checkpoints)
    yield _Plan(
        "Pass rates of the problems",
        "pass_rates",
        "How many problems are never, sometimes and always solved.",
        "Histogram of pass rates. " + " ".join(_alt_rates(rates)),
        ("bin", "share"),
        rates,
        lambda ax, styles: plots.plot_pass_rates(rates, ax, styles),
    )


def _over_training(table: pd.DataFrame) -> Iterable[_Plan]:
    for metric, rows in table.groupby("metric", sort=False):
        name = str(metric)

        def draw(ax: Axes, styles: Any, rows: pd.DataFrame = rows, name: str = name) -> None:
            plots.plot_progress(rows, ax, styles).set_ylabel(name)

        yield _Plan(
            f"{name} over training",
            f"steps-{name.replace('@', '_at_')}",
            "A mark is a checkpoint; shaded: its interval. The other figures show the last one.",
            f"{name} by training step. " + " ".join(_alt_steps(rows)),
            ("step", "estimate"),
            rows,
            draw,
        )


def _alt_steps(rows: pd.DataFrame) -> Iterable[str]:
    for run, mine in rows.groupby("run", sort=False):
        ends = mine.sort_values("step").iloc[[0, -1]]
        values = [f"{row['estimate']:.3g} at step {row['step']}" for row in ends.to_dict("records")]
        yield f"{run}: {', '.join(values)}."


def _alt_curve(what: str, table: pd.DataFrame, column: str) -> str:
    parts = []
    for run, rows in table.groupby("run", sort=False):
        ends = rows.sort_values("k").iloc[[0, -1]]
        values = [f"{row[column]:.3g} at k={row['k']}" for row in ends.to_dict("records")]
        parts.append(f"{run}: {', '.join(dict.fromkeys(values))}.")
    return f"{what} by k. {' '.join(parts)}"


def _alt_rates(rates: pd.DataFrame) -> Iterable[str]:
    for run, rows in rates.groupby("run", sort=False):
        problems = rows.set_index("bin")["problems"]
        yield (
            f"{run}: {problems['0']} of {problems.sum()} problems never solved, "
            f"{problems['1']} always."
        )


def _with_crossings(differences: pd.DataFrame, crossings: pd.DataFrame) -> pd.DataFrame:
    columns = {"low": "k_cross_low", "high": "k_cross_high", "share": "k_cross_share"}
    extra = crossings.rename(columns=columns).drop(columns="k_max")
    return differences.merge(extra, on=["run", "split"], how="left", validate="many_to_one")


def write_figures(
    section: Section,
    runs: Sequence[str],
    baseline: str | None = None,
    *,
    out: PathLike,
    suffix: str = "",
) -> tuple[tuple[FigureFiles, ...], list[Path]]:
    """Write a split's figures (PNG, SVG, CSV) and its worst problems; return what was written.

    ``runs`` are those of the whole study, which keeps one style for a run over its splits.
    """
    out = Path(out)
    figures = []
    files: list[Path] = []
    styles = plots.method_styles(runs, baseline)
    apart = {run: styles[run]._replace(gid=f"run-{place}") for place, run in enumerate(runs)}
    for plan in _plans(section, baseline):
        stem = f"{plan.stem}{suffix}"
        files += plots.save_figure(_draw(plan, styles), out / stem)
        files.append(write_table(out / f"{stem}.csv", plan.table))
        csv = files[-1].read_bytes().decode()
        tips = {str(place): _tips(plan, run) for place, run in enumerate(runs)}
        svg = inline(_svg(_draw(plan, apart, legend=False)), f"{stem}-", plan.alt, tips)
        figures.append(FigureFiles(plan.title, stem, plan.note, csv, svg))
    if section.worst is not None:
        files.append(write_table(out / f"worst_problems{suffix}.csv", section.worst))
    return tuple(figures), files


def _tips(plan: _Plan, run: str) -> list[str]:
    """Say what each mark of a run stands for, in the order in which they are drawn."""
    at, value = plan.marks
    name, mine = shorten(run, 60), plan.table[plan.table["run"] == run]
    if at == "bin":
        return [
            f"{name}, {row[at]}: {plural(row['problems'], 'problem')}"
            for row in mine.to_dict("records")
        ]
    columns = [at, value, "low", "high"]
    return [
        f"{name}, {at} = {place}: {format_estimate(*found, digits=3)}"
        for place, *found in mine.sort_values(at)[columns].itertuples(index=False)
    ]


def _draw(plan: _Plan, styles: Mapping[str, plots.MethodStyle], legend: bool = True) -> Figure:
    with plots.style():
        fig = Figure()
        ax = fig.subplots()
        plan.draw(ax, styles)
        if legend:
            fit_legend(ax)
        elif drawn := ax.get_legend():
            drawn.remove()
    return fig


def _svg(fig: Figure) -> bytes:
    buffer = BytesIO()
    plots.write_figure(fig, buffer, "svg")
    return buffer.getvalue()


def write_text(path: Path, text: str) -> Path:
    """Write text whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    return path


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a CSV that no spreadsheet takes for formulas."""
    return write_text(path, csv_safe(table).to_csv(index=False, lineterminator="\n"))


def crossing_words(row: Mapping[Any, Any]) -> str:
    """Say where two curves meet."""
    if pd.isna(row["k_cross"]):
        return f"{row['run']}: the curves don't meet up to k={row['k_max']}."
    if row["low"] <= 1 and row["high"] >= row["k_max"]:
        return f"{row['run']}: whether and where the curves meet is not clear."
    high = f"{row['high']:.3g}" if np.isfinite(row["high"]) else f"beyond {row['k_max']}"
    return (
        f"{row['run']}: the curves meet at k ≈ {row['k_cross']:.3g} "
        f"(interval {row['low']:.3g} to {high})."
    )
