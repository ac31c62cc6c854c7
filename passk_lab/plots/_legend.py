"""Legends under the axes, where they cover no data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from passk_lab._text import shorten, visible

_LINE = 60  # letters
_LONGEST = 4 * _LINE


def draw_legend(
    ax: Axes, handles: Mapping[str, Any], notes: Mapping[str, str] | None = None
) -> None:
    """Put the legend under the axes, where it covers no data, however many runs there are.

    Parameters
    ----------
    ax : Axes
    handles : mapping
        Run -> what stands for it.
    notes : mapping, optional
        Run -> a second line.
    """
    labels = []
    for run in handles:
        lines = textwrap.wrap(shorten(visible(run), _LONGEST), _LINE) or [""]
        labels.append("\n".join(filter(None, (*lines, (notes or {}).get(run)))))
    legend = ax.legend(
        list(handles.values()), [str(i) for i in range(len(labels))], ncols=_columns(labels),
        loc="upper center", bbox_to_anchor=(0.5, -0.15), handlelength=3.0, columnspacing=1.6,
        borderaxespad=0.0,
    )  # fmt: skip
    # Names are no markup: a leading underscore must not hide them, nor a dollar start formulas.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def fit_legend(ax: Axes) -> None:
    """Make a figure of one Axes taller by the rows of its legend, so that the data keep their room.

    The plot functions do so with figures that they make themselves, never with a caller's.
    """
    legend = ax.get_legend()
    figure = ax.get_figure(root=True)
    if legend is not None and figure is not None:
        labels = [text.get_text() for text in legend.get_texts()]
        lines = len(labels) + sum(label.count("\n") for label in labels)
        rows = -(-lines // _columns(labels))
        figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))


def _columns(labels: list[str]) -> int:
    # About 66 letters fit under a figure of the style's width; a handle takes the place of six.
    longest = max(len(line) for label in labels for line in label.split("\n"))
    return max(1, min(len(labels), 5, 66 // (longest + 6)))
