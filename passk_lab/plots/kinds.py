"""One function a figure kind: a tidy table in, an Axes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from passk_lab.plots._legend import draw_legend, fit_legend
from passk_lab.plots.style import MethodStyle, method_styles, style

__all__ = [
    "PASS_RATE_BINS",
    "pass_rates",
    "plot_differences",
    "plot_distinct_at_k",
    "plot_pass_at_k",
    "plot_pass_rates",
    "plot_plan",
    "plot_progress",
    "plot_tradeoff",
]


def plot_pass_at_k(
    curve: pd.DataFrame,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
) -> Axes:
    """Draw pass@k against k with its shaded interval, one line a run.

    Parameters
    ----------
    curve : DataFrame
        Columns run, k, estimate, low, high, as `passk_lab.pass_at_k_curve` returns them; rows
        of one split. A table of `passk_lab.stats.extrapolate_pass_at_k` is drawn as what it rests
        on: samples with markers, fits as a thin line within their darker spread, bounds alone
        beyond.
    ax : Axes, optional
        Where to draw; default: a new figure in the project's style.
    styles : mapping, optional
        From `method_styles`, to keep styles over figures with different runs.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, the table is empty, or holds several splits.

    Examples
    --------
    >>> curve = pd.DataFrame({"run": "base", "k": [1, 2], "estimate": [0.5, 0.7],
    ...                       "low": [0.4, 0.6], "high": [0.6, 0.8]})
    >>> plot_pass_at_k(curve).get_ylabel()
    'pass@k (mean over problems)'
    >>> plt.close("all")
    """
    ax = _plot_curve(curve, ax, styles)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -0.02), min(high, 1.02))
    ax.set_ylabel("pass@k (mean over problems)")
    return ax


def plot_distinct_at_k(
    curve: pd.DataFrame,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
) -> Axes:
    """Draw the expected number of distinct correct answers among k samples, one line a run.

    Parameters
    ----------
    curve : DataFrame
        Columns run, k, estimate, low, high, as `passk_lab.distinct_at_k_curve` returns them;
        rows of one split.
    ax, styles
        As for `plot_pass_at_k`, and so are what is returned and raised.

    Examples
    --------
    >>> curve = pd.DataFrame({"run": "base", "k": [1, 2], "estimate": [0.5, 0.9],
    ...                       "low": [0.4, 0.8], "high": [0.6, 1.0]})
    >>> plot_distinct_at_k(curve).get_xlabel()
    'k (samples per problem)'
    >>> plt.close("all")
    """
    ax = _plot_curve(curve, ax, styles)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("distinct@k (correct answers per problem)")
    return ax


def _plot_curve(
    curve: pd.DataFrame,
    ax: Axes | None,
    styles: Mapping[str, MethodStyle] | None,
    x: str = "k",
) -> Axes:
    with _canvas(ax, curve, ("run", x, "estimate", "low", "high"), styles) as (ax, runs):
        _bands(ax, runs, "estimate", x)
        if x == "k":
            _log2_axis(ax, curve["k"])
        draw_legend(ax, {run: look.handle() for run, (_, look) in runs.items()})
    return ax


def plot_progress(
    progress: pd.DataFrame,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
) -> Axes:
    """Draw a metric against training steps with its shaded interval, one line a run.

    Name the metric with ``set_ylabel``.

    Parameters
    ----------
    progress : DataFrame
        Columns run, step, estimate, low, high; rows of one split.
    ax, styles
        As for `plot_pass_at_k`, and so are what is returned and raised.

    Examples
    --------
    >>> progress = pd.DataFrame({"run": "grpo", "step": [0, 10], "estimate": [0.5, 0.7],
    ...                          "low": [0.4, 0.6], "high": [0.6, 0.8]})
    >>> plot_progress(progress).get_xlabel()
    'training step (updates)'
    >>> plt.close("all")
    """
    ax = _plot_curve(progress, ax, styles, x="step")
    ax.set_xlabel("training step (updates)")
    return ax


def plot_tradeoff(
    table: pd.DataFrame,
    x: str,
    y: str,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
    lines: bool = False,
) -> Axes:
    """Draw one quantity of each checkpoint against another, so that equal ones can be compared.

    Parameters
    ----------
    table : DataFrame
        Columns run, step and those named by ``x`` and ``y``; one row a checkpoint. Where the
        columns "<x> low", "<x> high", "<y> low" and "<y> high" exist, each run's last
        checkpoint is drawn with these intervals.
    x, y : str
        Columns to draw.
    ax, styles
        As for `plot_pass_at_k`, and so are what is returned and raised.
    lines : bool
        Join the checkpoints of a run in the order of their steps; the last one is drawn large.

    Examples
    --------
    >>> table = pd.DataFrame({"run": "grpo", "step": [1, 2], "pass@1": [0.5, 0.6],
    ...                       "coverage@64": [0.7, 0.6]})
    >>> plot_tradeoff(table, "pass@1", "coverage@64", lines=True).get_ylabel()
    'coverage@64'
    >>> plt.close("all")
    """
    limits = [f"{name} {side}" for name in (x, y) for side in ("low", "high")]
    with _canvas(ax, table, ("run", "step", x, y), styles) as (ax, runs):
        for rows, look in runs.values():
            rows = rows.sort_values("step")
            joined = {"linestyle": look.linestyle, "linewidth": 1.5} if lines else {"linestyle": ""}
            ax.plot(rows[x], rows[y], marker=look.marker, markersize=4.0 if lines else 6.0,
                    color=look.color, alpha=0.85, zorder=3, **joined)  # fmt: skip
            end = rows.iloc[-1:]
            if lines:
                edge = look.color if look.edge else ax.get_facecolor()
                ax.plot(end[x], end[y], marker=look.marker, markersize=9, color=look.color,
                        markeredgecolor=edge, zorder=4)  # fmt: skip
            if set(limits) <= set(table.columns):
                spans = [
                    np.abs(end[[f"{name} low", f"{name} high"]].to_numpy().T - end[name].to_numpy())
                    for name in (x, y)
                ]
                ax.errorbar(end[x], end[y], xerr=spans[0], yerr=spans[1], color=look.color,
                            linewidth=1.0, capsize=2, zorder=2)  # fmt: skip
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        draw_legend(ax, {run: look.handle() for run, (_, look) in runs.items()})
    return ax


def plot_differences(
    differences: pd.DataFrame,
    crossings: pd.DataFrame | None = None,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
) -> Axes:
    """Draw the paired difference to the baseline by k, with the point where the curves cross.

    Parameters
    ----------
    differences : DataFrame
        Columns run, k, difference, low, high, as ``compare_runs(...).differences``; rows of
        one split.
    crossings : DataFrame, optional
        Columns run, k_cross, low, high, k_max, as ``compare_runs(...).crossings``. Each crossing is
        marked on the zero line together with its interval, except where the interval covers
        every k, for then the data don't say where the curves meet.
    ax, styles
        As for `plot_pass_at_k`, and so are what is returned and raised.

    Examples
    --------
    >>> differences = pd.DataFrame({"run": "grpo", "k": [1, 2, 4], "difference": [0.2, 0.1, -0.1],
    ...                             "low": [0.1, 0.0, -0.2], "high": [0.3, 0.2, 0.0]})
    >>> plot_differences(differences).get_ylabel()
    'pass@k minus baseline (paired)'
    >>> plt.close("all")
    """
    if crossings is not None and len(crossings):
        _check(crossings, ("run", "k_cross", "low", "high", "k_max"))
    columns = ("run", "k", "difference", "low", "high")
    with _canvas(ax, differences, columns, styles) as (ax, runs):
        ink = ax.spines["left"].get_edgecolor()
        ax.axhline(0, color=ink, linewidth=1.1, zorder=1.5)
        _bands(ax, runs, "difference")
        _log2_axis(ax, differences["k"])
        notes = {}
        for place, row in enumerate(_determined(differences, crossings)):
            _crossing(ax, row, runs[row["run"]][1], place)
            notes[row["run"]] = _crossing_note(row)
        draw_legend(ax, {run: look.handle() for run, (_, look) in runs.items()}, notes)
        ax.set_ylabel("pass@k minus baseline (paired)")
    return ax


def _determined(differences: pd.DataFrame, crossings: pd.DataFrame | None) -> list[dict[Any, Any]]:
    if crossings is None or not len(crossings):
        return []
    found = []
    for row in crossings[crossings["k_cross"].notna()].to_dict("records"):
        k = differences.loc[differences["run"] == row["run"], "k"]
        if len(k) and not (row["low"] <= k.min() and row["high"] >= k.max()):
            found.append(row)
    return found


def _crossing(ax: Axes, row: dict[Any, Any], look: MethodStyle, place: int) -> None:
    # Several crossings near each other are set apart: 0, then a few points up and down.
    shift = (place + 1) // 2 * 9 * (-1) ** place
    at = mpl.transforms.offset_copy(
        ax.transData, fig=ax.get_figure(root=True), y=shift, units="points"
    )
    first, last = ax.get_xlim()
    low, high = (row[side] if pd.notna(row[side]) else row["k_cross"] for side in ("low", "high"))
    span = np.clip([low, high], first, last)
    paper = ax.get_facecolor()
    for color, width in ((paper, 5.5), (look.color, 3.0)):
        ax.plot(span, [0, 0], color=color, linewidth=width, transform=at, zorder=4,
                solid_capstyle="butt", gid=look.gid)  # fmt: skip
    ax.plot(row["k_cross"], 0, marker="*", markersize=15, color=look.color, transform=at,
            markeredgecolor=paper, markeredgewidth=1.0, zorder=5, gid=look.gid)  # fmt: skip


def _crossing_note(row: dict[Any, Any]) -> str:
    note = f"meets baseline at k ≈ {row['k_cross']:.3g}"
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        high = f"{row['high']:.3g}" if np.isfinite(row["high"]) else f">{row['k_max']}"
        note += f" [{row['low']:.3g}, {high}]"
    return note


PASS_RATE_BINS = ("0", "to .2", "to .4", "to .6", "to .8", "below 1", "1")
_LOW, _HIGH = (0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0)


def pass_rates(counts: pd.DataFrame) -> pd.DataFrame:
    """Bin the problems of each run by their pass rate; never and always solved stand alone.

    Parameters
    ----------
    counts : DataFrame
        From `passk_lab.counts`: columns run, n_samples, n_correct, one row a problem.

    Returns
    -------
    DataFrame
        Columns run, bin (one of `PASS_RATE_BINS`), low and high (limits of the rate), problems
        (count) and share (of the run's problems). Each bin holds its upper limit, but not its
        lower one; the last before 1 holds neither.

    Raises
    ------
    ValueError
        A column is missing or the table is empty.

    Examples
    --------
    >>> counts = pd.DataFrame({"run": "base", "n_samples": 4, "n_correct": [0, 0, 2, 4]})
    >>> pass_rates(counts).query("problems > 0")[["bin", "problems", "share"]]
         bin  problems  share
    0      0         2   0.50
    3  to .6         1   0.25
    6      1         1   0.25
    """
    _check(counts, ("run", "n_samples", "n_correct"))
    parts = []
    for run, rows in counts.groupby("run", sort=False, observed=True):
        wins = rows["n_correct"].to_numpy(np.int64)
        tries = rows["n_samples"].to_numpy(np.int64)
        # Whole numbers, for 0.6 * 5 is above 3 in floating point.
        place = np.where(wins == tries, 6, np.minimum(-(-wins * 5 // tries), 5))
        problems = np.bincount(place, minlength=7)
        part = {"run": run, "bin": PASS_RATE_BINS, "low": _LOW, "high": _HIGH}
        parts.append(pd.DataFrame({**part, "problems": problems, "share": problems / len(rows)}))
    return pd.concat(parts, ignore_index=True)


def plot_pass_rates(
    rates: pd.DataFrame,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
) -> Axes:
    """Draw the histogram of the problems' pass rates, bars of the runs side by side.

    Parameters
    ----------
    rates : DataFrame
        From `pass_rates`: columns run, bin, share; rows of one split.
    ax, styles
        As for `plot_pass_at_k`, and so are what is returned and raised.

    Examples
    --------
    >>> counts = pd.DataFrame({"run": "base", "n_samples": 4, "n_correct": [0, 0, 2, 4]})
    >>> plot_pass_rates(pass_rates(counts)).get_ylabel()
    'share of problems'
    >>> plt.close("all")
    """
    with _canvas(ax, rates, ("run", "bin", "share"), styles) as (ax, runs):
        width = 0.84 / len(runs)
        paper = ax.get_facecolor()
        # Thin bars have no room for hatching.
        hatched = int(len(runs) <= 4)
        handles = {}
        for index, (run, (rows, look)) in enumerate(runs.items()):
            shares = rows.set_index("bin")["share"].reindex(list(PASS_RATE_BINS)).to_numpy(float)
            left = np.arange(len(PASS_RATE_BINS)) - 0.42 + index * width
            handles[run] = ax.bar(
                left, shares, width, align="edge", label="", color=look.color,
                edgecolor=paper, linewidth=0.6, hatch=hatched * look.hatch, gid=look.gid,
            )  # fmt: skip
        ax.set_xticks(range(len(PASS_RATE_BINS)), PASS_RATE_BINS)
        ax.grid(axis="x", visible=False)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("pass rate of a problem (share of correct samples)")
        ax.set_ylabel("share of problems")
        draw_legend(ax, handles)
    return ax


def plot_plan(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the problems needed against the samples of each.

    Parameters
    ----------
    table : DataFrame
        Columns measure, change, spread, n_samples, problems, as `passk_lab.stats.plan` returns
        them; one line a spread.
    ax
        As for `plot_pass_at_k`, and so are what is returned and raised.

    Examples
    --------
    >>> table = pd.DataFrame({"measure": "pass@1", "change": 0.05, "spread": 0.5,
    ...                       "n_samples": [1, 8], "problems": [1057, 159]})
    >>> plot_plan(table).get_ylabel()
    'problems needed'
    >>> plt.close("all")
    """
    _check(table, ("measure", "change", "spread", "n_samples", "problems"))
    says = {0.0: "problems move alike"}
    named = table.assign(
        run=[says.get(s, f"problems differ by {s:g} (log-odds)") for s in table["spread"]]
    )
    with _canvas(ax, named, ("run",), None) as (canvas, runs):
        for rows, look in runs.values():
            canvas.plot(rows["n_samples"], rows["problems"], color=look.color,
                        linestyle=look.linestyle, marker=look.marker)  # fmt: skip
        _log2_axis(canvas, table["n_samples"])
        canvas.set_yscale("log")
        canvas.yaxis.set_major_formatter("{x:,.0f}")
        canvas.set_xlabel("samples a problem, n")
        canvas.set_ylabel("problems needed")
        first = table.iloc[0]
        canvas.set_title(f"to see {first['measure']} change by {first['change']:+g}", loc="left")
        draw_legend(canvas, {label: look.handle() for label, (_, look) in runs.items()})
    return canvas


def _check(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        have = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(
            f"the table to plot has no column {missing[0]!r} (columns: {have}); pass it as the "
            "functions of passk_lab return it"
        )
    if not len(table):
        raise ValueError("the table to plot is empty")
    splits = table["split"].unique() if "split" in table.columns else ()
    if len(splits) > 1:
        names = ", ".join(map(str, splits))
        raise ValueError(
            f"the table to plot holds several splits ({names}); a figure shows one: "
            "table[table['split'] == ...]"
        )


@contextmanager
def _canvas(
    ax: Axes | None,
    table: pd.DataFrame,
    columns: tuple[str, ...],
    styles: Mapping[str, MethodStyle] | None,
) -> Iterator[tuple[Axes, dict[str, tuple[pd.DataFrame, MethodStyle]]]]:
    """Give where to draw, and rows and style of each run.

    The caller's Axes stay as they are; new ones have the project's style while they are drawn.
    """
    _check(table, columns)
    with style() if ax is None else nullcontext():
        canvas = plt.subplots()[1] if ax is None else ax
        rows = {str(run): part for run, part in table.groupby("run", sort=False, observed=True)}
        if styles is None:
            styles = method_styles(rows, dark=sum(to_rgb(canvas.get_facecolor())) < 1.5)
        elif missing := [run for run in rows if run not in styles]:
            raise ValueError(f"styles lacks the run {missing[0]!r}; give method_styles all runs")
        yield canvas, {run: (rows[run], look) for run, look in styles.items() if run in rows}
        if ax is None:
            fit_legend(canvas)


def _bands(
    ax: Axes, runs: Mapping[str, tuple[pd.DataFrame, MethodStyle]], column: str, x: str = "k"
) -> None:
    one = len({value for rows, _ in runs.values() for value in rows[x]}) == 1
    apart = min(1.07, 1.4 ** (2 / max(len(runs) - 1, 1)))
    for place, (rows, look) in enumerate(runs.values()):
        # Points of a single k lie side by side.
        aside = apart ** (place - (len(runs) - 1) / 2) if one else 1.0
        _band(ax, rows.assign(**{x: rows[x] * aside}), column, look, len(runs), x)


def _band(
    ax: Axes, rows: pd.DataFrame, column: str, look: MethodStyle, n_runs: int, x: str = "k"
) -> None:
    # The more bands lie over each other, the fainter each.
    alpha = min(0.18, 0.7 / n_runs)
    rows = rows.sort_values(x)
    at = rows[x].to_numpy(float)
    ax.fill_between(at, rows["low"].to_numpy(float), rows["high"].to_numpy(float),
                    color=look.color, alpha=alpha, linewidth=0, zorder=1.8,
                    gid=look.gid)  # fmt: skip
    if len(rows) == 1:  # a band of no width
        ax.vlines(at, rows["low"], rows["high"], color=look.color, linewidth=1.5, zorder=2,
                  gid=look.gid)  # fmt: skip
    if "basis" in rows:
        least, most = (rows[end].to_numpy(float) for end in ("fit_low", "fit_high"))
        ax.fill_between(at, least, most, color=look.color, alpha=2 * alpha, linewidth=0, zorder=1.9)
        led = rows[rows["basis"] != "bounds"]
        ax.plot(led[x], led[column], color=look.color, linewidth=1, zorder=2.9)
        rows = rows[rows["basis"] == "samples"]
    ax.plot(rows[x], rows[column], color=look.color, linestyle=look.linestyle,
            marker=look.marker, markeredgewidth=look.edge, zorder=3, gid=look.gid)  # fmt: skip


def _log2_axis(ax: Axes, k: pd.Series) -> None:
    first, last = int(k.min()), int(k.max())
    ax.set_xscale("log", base=2)
    powers = [2**e for e in range(first.bit_length() - 1, last.bit_length()) if 2**e >= first]
    while len(powers) > 12:
        powers = powers[::2]
    # The last k gets its label where no power of two is in its way.
    room = powers[1] / powers[0] / 1.6 if len(powers) > 1 else 1.3
    ticks = [p for p in powers if p <= last / max(room, 1.3)] + [last]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{round(value):d}")
    far = max(last, first * 2) * 1.12
    ax.set_xlim(*(first / 1.5, first * 1.5) if first == last else (first / 1.12, far))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlabel("k (samples per problem)")
