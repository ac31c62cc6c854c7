"""How figures look: colours, lines and markers of the runs, the theme, legends, saving.

The colours are those of Okabe and Ito and of Paul Tol, which can be told apart with any of the
common kinds of colour blindness; line styles and markers differ too, for greyscale.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from passk_lab.rollouts.files import atomic_write

__all__ = [
    "MethodStyle",
    "method_colors",
    "method_styles",
    "save_figure",
    "style",
    "write_figure",
]


# On white, on a dark page, line, marker, hatch. Neighbours are far apart in hue.
_NEUTRAL = ("#4d4d4d", "#d0d0d0", "-", "o", "")
_CYCLE: tuple[tuple[str, str, Any, str, str], ...] = (
    ("#0072b2", "#4aa8e8", "--", "s", "////"),  # blue
    ("#d55e00", "#f07f33", "-", "^", "\\\\\\\\"),  # vermilion
    ("#009e73", "#2fc79a", "-.", "D", "xxxx"),  # green
    ("#b5579a", "#e08cc4", ":", "v", "..."),  # purple
    ("#c98a00", "#f0b429", (0, (5, 1, 1, 1, 1, 1)), "P", "----"),  # orange
    ("#332288", "#9a8cf0", (0, (3, 1)), "X", "++++"),  # indigo
    ("#3d9bd6", "#8ccdf5", (0, (1, 1)), "<", "||||"),  # sky
    ("#882255", "#d4608f", (0, (7, 2)), ">", "\\\\--"),  # wine
    ("#7d7d1e", "#c3c356", (0, (4, 1, 1, 1)), "h", "////--"),  # olive
)


_THEMES = ("#22262b", "#d9dce0", "#ffffff"), ("#e6e8eb", "#3c434b", "#1b1f24")  # ink, grid, paper

# Of every colour on white that on a dark page.
THEME = dict(zip(*_THEMES, strict=True))
DARK = {look[0]: look[1] for look in (_NEUTRAL, *_CYCLE)} | THEME


class MethodStyle(NamedTuple):
    """How one run is drawn in every figure; ``gid`` is the id of what is drawn of it in an SVG."""

    color: str
    linestyle: Any
    marker: str
    hatch: str
    gid: str | None = None

    @property
    def edge(self) -> float:
        """Width of the marker's edge: sticks are nothing but edge, other markers need none."""
        return 0.0 if MarkerStyle(self.marker).is_filled() else 1.5

    def handle(self) -> Line2D:
        """Draw the run's entry of a legend."""
        return Line2D([], [], color=self.color, linestyle=self.linestyle, marker=self.marker,
                      markeredgewidth=self.edge)  # fmt: skip


def method_styles(
    runs: Iterable[str], baseline: str | None = None, dark: bool = False
) -> dict[str, MethodStyle]:
    """Give each run its colour, line style, marker and hatch.

    The baseline is grey, the others take the palette in the order of their names, whatever the
    order of ``runs``: pass all runs of a study to keep one style over its figures.

    Parameters
    ----------
    runs : iterable of str
        Names of runs.
    baseline : str, optional
        The run to draw in grey.
    dark : bool
        Colours for a dark background.

    Returns
    -------
    dict
        Run -> `MethodStyle`, in the order of ``runs``.

    Examples
    --------
    >>> method_styles(["tuned", "base"], baseline="base")["base"].color
    '#4d4d4d'
    """
    names = list(dict.fromkeys(runs))
    looks = {baseline: _NEUTRAL}
    for index, name in enumerate(sorted(n for n in names if n != baseline)):
        looks[name] = _CYCLE[index % len(_CYCLE)]
    return {name: MethodStyle(looks[name][int(dark)], *looks[name][2:]) for name in names}


def method_colors(
    runs: Iterable[str], baseline: str | None = None, dark: bool = False
) -> dict[str, str]:
    """Give each run its colour; see `method_styles`. Serves as a palette, seaborn's too.

    Examples
    --------
    >>> method_colors(["base", "tuned"], baseline="base")
    {'base': '#4d4d4d', 'tuned': '#0072b2'}
    """
    return {name: look.color for name, look in method_styles(runs, baseline, dark).items()}


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
    ...     mpl.rcParams["svg.fonttype"]
    'path'
    """
    ink, faint, paper = _THEMES[int(dark)]
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


def save_figure(fig: Figure, stem: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as ``stem``.png (150 dpi) and ``stem``.svg; return both paths.

    Neither file holds a date, and letters are shapes, so that no font is needed.
    """
    stem = Path(stem)
    paths = (stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg"))
    layout = fig.get_layout_engine()
    for path in paths:
        with atomic_write(path) as temporary:
            write_figure(fig, temporary, path.suffix[1:])
        fig.set_layout_engine("none")  # laid out once is enough: it takes a third of the time
    fig.set_layout_engine(layout)
    return paths


def write_figure(fig: Figure, file: Path | IO[bytes], kind: str) -> None:
    """Write a figure's reproducible bytes; `save_figure` is the way to files that stay whole.

    Parameters
    ----------
    fig : Figure
    file : path or binary file
    kind : {"png", "svg"}
    """
    blank = ["Software"] if kind == "png" else ["Date", "Creator", "Format", "Type"]
    salt: Any = {"svg.hashsalt": "passk_lab", "svg.fonttype": "path"}
    buffer = BytesIO()
    with mpl.rc_context(salt), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables show it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fig.savefig(buffer, format=kind, dpi=150, metadata=dict.fromkeys(blank))
    content = buffer.getvalue() if kind == "png" else _stable_ids(buffer.getvalue())
    if isinstance(file, Path):
        file.write_bytes(content)
    else:
        file.write(content)


def _stable_ids(svg: bytes) -> bytes:
    # matplotlib hashes clip paths with all their digits, of which the last depend on the processor.
    for old, shape in set(re.findall(rb'<clipPath id="(\w+)">(.*?)</clipPath>', svg, re.DOTALL)):
        svg = svg.replace(old, b"p" + hashlib.sha256(shape).hexdigest()[:10].encode())
    return svg
