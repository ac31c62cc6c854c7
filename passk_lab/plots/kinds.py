"""One function a figure kind: a tidy table in, an Axes out, all in one style.

A method has the same colour, line and marker in every figure; the lines and markers differ, so
that figures can also be read in greyscale. Colours are those of Okabe and Ito and of Paul Tol,
which can be told apart with any of the common kinds of colour blindness.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from passk_lab._text import shorten, visible
from passk_lab.rollouts.files import atomic_write

__all__ = [
    "PASS_RATE_BINS",
    "MethodStyle",
    "fit_legend",
    "method_colors",
    "method_styles",
    "pass_rates",
    "plot_differences",
    "plot_distinct_at_k",
    "plot_pass_at_k",
    "plot_pass_rates",
    "plot_progress",
    "plot_tradeoff",
    "save_figure",
    "style",
    "write_figure",
]

_NAME_WIDTH = 36


class MethodStyle(NamedTuple):
    """How one method is drawn in every figure."""

    color: str
    linestyle: Any
    marker: str
    hatch: str


class _Pair(NamedTuple):
    light: str
    dark: str


_GREY = _Pair("#4d4d4d", "#d0d0d0")
_BLUE = _Pair("#0072b2", "#4aa8e8")
_VERMILION = _Pair("#d55e00", "#f07f33")
_GREEN = _Pair("#009e73", "#2fc79a")
_PURPLE = _Pair("#b5579a", "#e08cc4")
_ORANGE = _Pair("#c98a00", "#f0b429")
_SKY = _Pair("#3d9bd6", "#8ccdf5")
_WINE = _Pair("#882255", "#d4608f")
_INDIGO = _Pair("#332288", "#9a8cf0")
_OLIVE = _Pair("#7d7d1e", "#c3c356")

# Variants of a method keep near its hue; controls are grey.
_NAVY = _Pair("#00308f", "#7b6cff")
_BRICK = _Pair("#8f2f00", "#ff9a66")
_RUBY = _Pair("#a50026", "#c25063")
_PLUM = _Pair("#4b0f47", "#a8609f")
_PEACH = _Pair("#e39263", "#ffc9a3")
_TEAL = _Pair("#22a294", "#2f8f66")
_ROSE = _Pair("#cc6677", "#f0a3b0")
_FOREST = _Pair("#0b5c2b", "#9be3b0")
_ASH = _Pair("#8a8f96", "#9aa0a8")
_SLATE = _Pair("#6a7480", "#b8bfc7")
_MIST = _Pair("#a9afb6", "#7f868e")

# The order in which names that aren't known take them: neighbours are far apart in hue.
_FREE = (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _INDIGO, _SKY, _WINE, _OLIVE)
_KNOWN = {
    "base": _GREY,
    "grpo": _BLUE,
    "rloo": _SKY,
    "rft": _GREEN,
    "sdsd": _VERMILION,
    "sdsd-forward": _ORANGE,
    "sdsd-jsd": _PURPLE,
    "sdsd-uniform": _PLUM,
    "sdsd-centred": _INDIGO,
    "rl-modulated": _OLIVE,
    "grpo/kl": _NAVY,
    "sdsd/live": _BRICK,
    "sdsd/ema-0.05": _RUBY,
    "sdsd/frozen": _PEACH,
    "mara": _TEAL,
    "srpo": _ROSE,
    "pkpo": _FOREST,
    "control-other": _ASH,
    "control-wrong": _SLATE,
    "control-none": _MIST,
}
_ALIASES = {"baseline": "base", "sdsd-centered": "sdsd-centred"}
_SHAPES: dict[_Pair, tuple[Any, str, str]] = {
    _GREY: ("-", "o", ""),
    _BLUE: ("--", "s", "////"),
    _VERMILION: ("-", "^", "\\\\\\\\"),
    _GREEN: ("-.", "D", "xxxx"),
    _PURPLE: (":", "v", "..."),
    _ORANGE: ((0, (5, 1, 1, 1, 1, 1)), "P", "----"),
    _INDIGO: ((0, (3, 1)), "X", "++++"),
    _SKY: ((0, (1, 1)), "<", "||||"),
    _WINE: ((0, (7, 2)), ">", "\\\\--"),
    _OLIVE: ((0, (4, 1, 1, 1)), "h", "////--"),
    _NAVY: ((0, (6, 1.5)), "p", "//"),
    _BRICK: ((0, (8, 1.5, 1, 1.5)), "d", "\\\\"),
    _RUBY: ((0, (6, 1, 1, 1, 1, 1)), "X", "\\\\++"),
    _PLUM: ((0, (7, 2)), ">", "\\\\--"),
    _PEACH: ((0, (2, 1)), "8", "\\\\.."),
    _TEAL: ((0, (9, 3)), "H", "xx"),
    _ROSE: ((0, (3, 1, 1, 1)), "*", "++"),
    _FOREST: ((0, (1, 2)), "D", "--"),
    _ASH: ((0, (4, 2)), "1", ".."),
    _SLATE: ((0, (2, 2)), "2", "||"),
    _MIST: ((0, (1, 1.5)), "3", "oo"),
}

_INK = _Pair("#22262b", "#e6e8eb")
_FAINT = _Pair("#d9dce0", "#3c434b")
_PAPER = _Pair("#ffffff", "#1b1f24")


@contextmanager
def style(dark: bool = False) -> Iterator[None]:
    """Set matplotlib to the project's style inside a ``with`` block.

    Parameters
    ----------
    dark : bool
        For a dark page. The plot functions choose their colours by the Axes' background.

    Examples
    --------
    >>> with style():
    ...     plt.rcParams["svg.fonttype"]
    'path'
    """
    tone = int(dark)
    ink, faint, paper = _INK[tone], _FAINT[tone], _PAPER[tone]
    settings: Any = {
        "axes.axisbelow": True,
        "axes.edgecolor": ink,
        "axes.facecolor": paper,
        "axes.grid": True,
        "axes.labelcolor": ink,
        "axes.labelsize": 10.5,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "figure.facecolor": paper,
        "figure.figsize": (5.6, 4.0),
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
        "font.size": 10,
        "grid.color": faint,
        "grid.linewidth": 0.7,
        "hatch.linewidth": 0.6,
        "legend.fontsize": 9.5,
        "legend.frameon": False,
        "lines.linewidth": 1.9,
        "lines.markersize": 5.5,
        "path.simplify": True,
        "savefig.facecolor": paper,
        "savefig.edgecolor": paper,
        # Letters as shapes: no font is needed where the figure is shown.
        "svg.fonttype": "path",
        "svg.hashsalt": "passk_lab",
        "text.color": ink,
        "xtick.color": ink,
        "xtick.labelsize": 9.5,
        "ytick.color": ink,
        "ytick.labelsize": 9.5,
    }
    with mpl.rc_context(settings):
        yield


def method_styles(
    runs: Iterable[str], baseline: str | None = None, dark: bool = False
) -> dict[str, MethodStyle]:
    """Give each run its colour, line style, marker and hatch.

    Known methods ("base", "grpo", "sdsd", ...) always have the same. Other names take the free
    ones in the order of their names, whatever the order of ``runs``: pass all runs of a study to
    keep one style over its figures.

    Parameters
    ----------
    runs : iterable of str
        Names of runs.
    baseline : str, optional
        Drawn in the grey of "base" where its name is not known and no run is called "base".
    dark : bool
        Colours for a dark background.

    Returns
    -------
    dict
        Run -> `MethodStyle`, in the order of ``runs``.

    Examples
    --------
    >>> method_styles(["sdsd", "base"])["base"].color
    '#4d4d4d'
    """
    names = list(dict.fromkeys(runs))
    pairs = {name: _KNOWN[key] for name in names if (key := _key(name)) in _KNOWN}
    if baseline in names and baseline not in pairs and _GREY not in pairs.values():
        pairs[baseline] = _GREY
    free = [pair for pair in _FREE if pair not in pairs.values()] or list(_FREE)
    for index, name in enumerate(sorted(n for n in names if n not in pairs)):
        pairs[name] = free[index % len(free)]
    return {name: MethodStyle(pairs[name][int(dark)], *_SHAPES[pairs[name]]) for name in names}


def method_colors(
    runs: Iterable[str], baseline: str | None = None, dark: bool = False
) -> dict[str, str]:
    """Give each run its colour; see `method_styles`. Serves as a seaborn palette.

    Examples
    --------
    >>> method_colors(["base", "grpo"])
    {'base': '#4d4d4d', 'grpo': '#0072b2'}
    """
    return {name: s.color for name, s in method_styles(runs, baseline, dark).items()}


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
        of one split.
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
        As for `plot_pass_at_k`.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        As for `plot_pass_at_k`.

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
    _check(curve, ("run", x, "estimate", "low", "high"))
    with _canvas(ax) as ax:
        styles = _styles(curve, styles, ax)
        for run, rows in _runs(curve, styles):
            _band(ax, rows, "estimate", styles[run], curve["run"].nunique(), x)
        if x == "k":
            _log2_axis(ax, curve["k"])
        _legend(ax, {run: _handle(styles[run]) for run, _ in _runs(curve, styles)})
    return ax


def plot_progress(
    progress: pd.DataFrame,
    ax: Axes | None = None,
    styles: Mapping[str, MethodStyle] | None = None,
) -> Axes:
    """Draw a metric against training steps with its shaded interval, one line a run.

    Parameters
    ----------
    progress : DataFrame
        Columns run, step, estimate, low, high; rows of one split.
    ax, styles
        As for `plot_pass_at_k`.

    Returns
    -------
    Axes
        Name the metric with ``set_ylabel``.

    Raises
    ------
    ValueError
        As for `plot_pass_at_k`.

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
        As for `plot_pass_at_k`.
    lines : bool
        Join the checkpoints of a run in the order of their steps; the last one is drawn large.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        As for `plot_pass_at_k`.

    Examples
    --------
    >>> table = pd.DataFrame({"run": "grpo", "step": [1, 2], "pass@1": [0.5, 0.6],
    ...                       "coverage@64": [0.7, 0.6]})
    >>> plot_tradeoff(table, "pass@1", "coverage@64", lines=True).get_ylabel()
    'coverage@64'
    >>> plt.close("all")
    """
    _check(table, ("run", "step", x, y))
    limits = [f"{name} {side}" for name in (x, y) for side in ("low", "high")]
    with _canvas(ax) as ax:
        styles = _styles(table, styles, ax)
        handles = {}
        for run, rows in _runs(table, styles):
            look = styles[run]
            rows = rows.sort_values("step")
            joined = {"linestyle": look.linestyle, "linewidth": 1.5} if lines else {"linestyle": ""}
            ax.plot(rows[x], rows[y], marker=look.marker, markersize=4.0 if lines else 6.0,
                    color=look.color, alpha=0.85, zorder=3, **joined)  # fmt: skip
            end = rows.iloc[-1:]
            if lines:
                edge = look.color if _edge(look) else ax.get_facecolor()
                ax.plot(end[x], end[y], marker=look.marker, markersize=9, color=look.color,
                        markeredgecolor=edge, zorder=4)  # fmt: skip
            if set(limits) <= set(table.columns):
                spans = [
                    np.abs(end[[f"{name} low", f"{name} high"]].to_numpy().T - end[name].to_numpy())
                    for name in (x, y)
                ]
                ax.errorbar(end[x], end[y], xerr=spans[0], yerr=spans[1], color=look.color,
                            linewidth=1.0, capsize=2, zorder=2)  # fmt: skip
            handles[run] = _handle(look)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        _legend(ax, handles)
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
        As for `plot_pass_at_k`.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        As for `plot_pass_at_k`.

    Examples
    --------
    >>> differences = pd.DataFrame({"run": "grpo", "k": [1, 2, 4], "difference": [0.2, 0.1, -0.1],
    ...                             "low": [0.1, 0.0, -0.2], "high": [0.3, 0.2, 0.0]})
    >>> plot_differences(differences).get_ylabel()
    'pass@k minus baseline (paired)'
    >>> plt.close("all")
    """
    _check(differences, ("run", "k", "difference", "low", "high"))
    if crossings is not None and len(crossings):
        _check(crossings, ("run", "k_cross", "low", "high", "k_max"))
    with _canvas(ax) as ax:
        styles = _styles(differences, styles, ax)
        ink = ax.spines["left"].get_edgecolor()
        ax.axhline(0, color=ink, linewidth=1.1, zorder=1.5)
        for run, rows in _runs(differences, styles):
            _band(ax, rows, "difference", styles[run], differences["run"].nunique())
        _log2_axis(ax, differences["k"])
        entries: dict[str, Line2D] = {
            run: _handle(styles[run]) for run, _ in _runs(differences, styles)
        }
        notes = {}
        for place, row in enumerate(_determined(differences, crossings)):
            _crossing(ax, row, styles[row["run"]], place)
            notes[row["run"]] = _crossing_note(row)
        _legend(ax, entries, notes)
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
                solid_capstyle="butt")  # fmt: skip
    ax.plot(row["k_cross"], 0, marker="*", markersize=15, color=look.color, transform=at,
            markeredgecolor=paper, markeredgewidth=1.0, zorder=5)  # fmt: skip


def _crossing_note(row: dict[Any, Any]) -> str:
    note = f"meets baseline at k ≈ {row['k_cross']:.3g}"
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        high = f"{row['high']:.3g}" if np.isfinite(row["high"]) else f">{row['k_max']}"
        note += f" [{row['low']:.3g}, {high}]"
    return note


PASS_RATE_BINS = ("0", "to .2", "to .4", "to .6", "to .8", "below 1", "1")


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
    limits = [(0.0, 0.0), (0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0), (1.0, 1.0)]
    parts = []
    for run, rows in counts.groupby("run", sort=False, observed=True):
        wins = rows["n_correct"].to_numpy(np.int64)
        tries = rows["n_samples"].to_numpy(np.int64)
        # Whole numbers, for 0.6 * 5 is above 3 in floating point.
        place = np.where(wins == tries, 6, np.minimum(-(-wins * 5 // tries), 5))
        problems = np.bincount(place, minlength=7)
        parts.append(
            pd.DataFrame(
                {
                    "run": run,
                    "bin": PASS_RATE_BINS,
                    "low": [low for low, _ in limits],
                    "high": [high for _, high in limits],
                    "problems": problems,
                    "share": problems / len(rows),
                }
            )
        )
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
        As for `plot_pass_at_k`.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        As for `plot_pass_at_k`.

    Examples
    --------
    >>> counts = pd.DataFrame({"run": "base", "n_samples": 4, "n_correct": [0, 0, 2, 4]})
    >>> plot_pass_rates(pass_rates(counts)).get_ylabel()
    'share of problems'
    >>> plt.close("all")
    """
    _check(rates, ("run", "bin", "share"))
    with _canvas(ax) as ax:
        styles = _styles(rates, styles, ax)
        groups = list(_runs(rates, styles))
        width = 0.84 / len(groups)
        paper = ax.get_facecolor()
        # Thin bars have no room for hatching.
        hatched = int(len(groups) <= 4)
        handles: dict[str, Any] = {}
        for index, (run, rows) in enumerate(groups):
            shares = rows.set_index("bin")["share"].reindex(list(PASS_RATE_BINS)).to_numpy(float)
            left = np.arange(len(PASS_RATE_BINS)) - 0.42 + index * width
            handles[run] = ax.bar(
                left, shares, width, align="edge", label="", color=styles[run].color,
                edgecolor=paper, linewidth=0.6, hatch=hatched * styles[run].hatch,
            )  # fmt: skip
        ax.set_xticks(range(len(PASS_RATE_BINS)), PASS_RATE_BINS)
        ax.grid(axis="x", visible=False)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("pass rate of a problem (share of correct samples)")
        ax.set_ylabel("share of problems")
        _legend(ax, handles)
    return ax


def fit_legend(ax: Axes) -> None:
    """Make a figure of one Axes taller by the rows of its legend, so that the data keep their room.

    The plot functions do so with figures that they make themselves, never with a caller's.

    Parameters
    ----------
    ax : Axes
        From a plot function.

    Examples
    --------
    >>> ax = Figure().subplots()
    >>> ax.plot([0, 1], label="base"), ax.legend()  # doctest: +ELLIPSIS
    ([...
    >>> fit_legend(ax)
    """
    legend = ax.get_legend()
    figure = ax.get_figure(root=True)
    if legend is not None and figure is not None:
        labels = [text.get_text() for text in legend.get_texts()]
        lines = len(labels) + sum("\n" in label for label in labels)
        rows = -(-lines // _columns(labels))
        figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))


def save_figure(fig: Figure, stem: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as PNG (150 dpi) and SVG; the same figure gives the same bytes.

    Neither file holds a date. SVG ids come from a fixed salt, and letters are shapes, so that no
    font is needed. Bytes can still differ between versions of matplotlib.

    Parameters
    ----------
    fig : Figure
        From ``ax.figure``.
    stem : path
        Path without its ending.

    Returns
    -------
    tuple of Path
        The PNG and the SVG.

    Raises
    ------
    OSError
        The folder can't be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in save_figure(plt.figure(), Path(folder, "empty"))]
    ['empty.png', 'empty.svg']
    >>> plt.close("all")
    """
    stem = Path(stem)
    paths = (stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg"))
    for path in paths:
        with atomic_write(path) as temporary:
            write_figure(fig, temporary, path.suffix[1:])
    return paths


def write_figure(fig: Figure, file: Path | IO[bytes], kind: str) -> None:
    """Write a figure's reproducible bytes; `save_figure` is the way to files that stay whole.

    Parameters
    ----------
    fig : Figure
    file : path or binary file
    kind : {"png", "svg"}

    Examples
    --------
    >>> import io
    >>> buffer = io.BytesIO()
    >>> write_figure(Figure(), buffer, "png")
    >>> buffer.getvalue()[1:4]
    b'PNG'
    """
    blank = ["Software"] if kind == "png" else ["Date", "Creator", "Format", "Type"]
    metadata = dict.fromkeys(blank)
    salt: Any = {"svg.hashsalt": "passk_lab", "svg.fonttype": "path"}
    with mpl.rc_context(salt), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables show it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fig.savefig(file, format=kind, dpi=150, metadata=metadata)


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
def _canvas(ax: Axes | None) -> Iterator[Axes]:
    """Give the caller's Axes as it is, or new ones in the project's style while they are drawn."""
    if ax is not None:
        yield ax
    else:
        with style():
            ax = plt.subplots()[1]
            yield ax
            fit_legend(ax)


def _styles(
    table: pd.DataFrame, styles: Mapping[str, MethodStyle] | None, ax: Axes
) -> Mapping[str, MethodStyle]:
    runs = list(table["run"].unique())
    if styles is None:
        return method_styles(runs, dark=sum(to_rgb(ax.get_facecolor())) < 1.5)
    missing = [run for run in runs if run not in styles]
    if missing:
        raise ValueError(f"styles lacks the run {missing[0]!r}; give method_styles all runs")
    return styles


def _runs(
    table: pd.DataFrame, styles: Mapping[str, MethodStyle]
) -> Iterator[tuple[str, pd.DataFrame]]:
    for run in styles:
        rows = table[table["run"] == run]
        if len(rows):
            yield run, rows


def _band(
    ax: Axes, rows: pd.DataFrame, column: str, look: MethodStyle, n_runs: int, x: str = "k"
) -> None:
    # The more bands lie over each other, the fainter each.
    alpha = min(0.18, 0.7 / n_runs)
    rows = rows.sort_values(x)
    at = rows[x].to_numpy(float)
    ax.fill_between(at, rows["low"].to_numpy(float), rows["high"].to_numpy(float),
                    color=look.color, alpha=alpha, linewidth=0, zorder=1.8)  # fmt: skip
    ax.plot(at, rows[column].to_numpy(float), color=look.color, linestyle=look.linestyle,
            marker=look.marker, markeredgewidth=_edge(look), zorder=3)  # fmt: skip


def _log2_axis(ax: Axes, k: pd.Series) -> None:
    first, last = int(k.min()), int(k.max())
    ax.set_xscale("log", base=2)
    powers = [2**e for e in range(first.bit_length() - 1, last.bit_length()) if 2**e >= first]
    while len(powers) > 12:
        powers = powers[::2]
    # The last k gets its label where no power of two is in its way.
    ticks = [p for p in powers if p <= last / 1.3] + [last]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{round(value):d}")
    ax.set_xlim(first / 1.12, max(last, first * 2) * 1.12)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlabel("k (samples per problem)")


def _handle(look: MethodStyle) -> Line2D:
    return Line2D([], [], color=look.color, linestyle=look.linestyle, marker=look.marker,
                  markeredgewidth=_edge(look))  # fmt: skip


def _edge(look: MethodStyle) -> float:
    """Markers of sticks, the controls', are nothing but edge; others need none."""
    return 0.0 if MarkerStyle(look.marker).is_filled() else 1.5


def _legend(
    ax: Axes, handles: Mapping[str, Any], notes: Mapping[str, str] | None = None
) -> Legend | None:
    """Put the legend under the axes, where it covers no data, however many runs there are."""
    labels = [
        "\n".join(filter(None, (shorten(visible(run), _NAME_WIDTH), (notes or {}).get(run))))
        for run in handles
    ]
    legend = ax.legend(
        list(handles.values()), [str(i) for i in range(len(labels))], ncols=_columns(labels),
        loc="upper center", bbox_to_anchor=(0.5, -0.15), handlelength=3.0, columnspacing=1.6,
        borderaxespad=0.0,
    )  # fmt: skip
    # Names are no markup: a leading underscore must not hide them, nor a dollar start formulas.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
    return legend


def _columns(labels: list[str]) -> int:
    # About 66 letters fit under a figure of the style's width; a handle takes the place of six.
    longest = max(len(line) for label in labels for line in label.split("\n"))
    return max(1, min(len(labels), 5, 66 // (longest + 6)))


def _key(name: str) -> str:
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    return _ALIASES.get(key, key)
