"""How every study writes its figures: an SVG for light and dark pages, and the CSV shown."""

from __future__ import annotations

import re
from colorsys import hls_to_rgb, rgb_to_hls
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from palette import LABELS, name_of
from registry import Study

from passk_lab.plots import style, write_figure
from passk_lab.plots.style import THEME
from passk_lab.rollouts import atomic_write


def write(study: Study, root: Path, folder: Path, pictures: bool = True) -> list[Path]:
    """Draw a study's figures and write them with its tables, or these alone; return the files."""
    files: list[Path] = []
    with style():
        for item, figure, table in study.make(root):
            if figure is not None:
                if pictures:
                    name_runs(figure)
                    buffer = BytesIO()
                    write_figure(figure, buffer, "svg")
                    files.append(folder / f"{item.name}.svg")
                    with atomic_write(files[-1]) as temporary:
                        temporary.write_text(themed(rounded(buffer.getvalue().decode())))
                plt.close(figure)
            files.append(folder / f"{item.name}.csv")
            table.to_csv(files[-1], index=False, float_format="%.12g", lineterminator="\n")
    return files


def name_runs(figure: Figure) -> None:
    """Write what runs are called into the legends; those of few runs become one for all panels."""
    under = [legend for ax in figure.axes if (legend := ax.get_legend())]
    for text in [text for legend in [*under, *figure.legends] for text in legend.get_texts()]:
        text.set_text(name_of(text.get_text()))
    handles: dict[str, Any] = {
        text.get_text(): handle
        for legend in under
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    alike = all(len(legend.get_texts()) == len(handles) for legend in under)
    few_runs = len(handles) <= 6 and set(handles) <= set(LABELS.values())
    if len(under) > 1 and (alike or few_runs):
        room = figure.get_figwidth() * 11 / (max(map(len, handles)) + 6)  # letters in an inch
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", handlelength=3,
            ncols=min(len(handles), int(room)),
        )  # fmt: skip
        for legend in under:
            legend.remove()


def rounded(svg: str) -> str:
    """Write coordinates to a hundredth of a point: the repository has to stay small."""

    def short(place: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", place[0])

    return re.sub(r'(?<= )(d|x|y)="[^"]*"', short, svg)


def themed(svg: str) -> str:
    """Give a drawing its colours for a dark page; what knows no styles sees the light ones."""
    rules = "".join(
        f'[style*="{what}: {color}"]{{{what}:{on_dark(color)}!important}}'
        for what, color in sorted(set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", svg)))
    )
    return svg.replace("</style>", f"@media (prefers-color-scheme: dark){{{rules}}}</style>", 1)


def on_dark(color: str) -> str:
    """Choose the colour on a dark page: the theme's own, and for all others a lighter shade."""
    if color in THEME:
        return THEME[color]
    hue, light, strength = rgb_to_hls(*to_rgb(color))
    return to_hex(hls_to_rgb(hue, 0.4 + 0.6 * light, strength))


def differences(new: Path, old: Path, rtol: float = 1e-9, atol: float = 1e-12) -> list[str]:
    """Say where two tables differ, a line a column; numbers may by as much as processors do."""
    if not old.exists():
        return [f"{old.name}: no such file"]
    tables = [pd.read_csv(path) for path in (new, old)]
    if list(tables[0].columns) != list(tables[1].columns) or len(tables[0]) != len(tables[1]):
        return [f"{old.name}: other columns, or another number of rows"]
    found = []
    for name in tables[0].columns:
        one, other = (table[name] for table in tables)
        if pd.api.types.is_numeric_dtype(one) and pd.api.types.is_numeric_dtype(other):
            same = np.isclose(one, other, rtol, atol, equal_nan=True)
        else:
            same = ((one == other) | (one.isna() & other.isna())).to_numpy()
        if not same.all():
            row = int(np.argmin(same))
            found.append(
                f"{old.name}: {name} differs in {(~same).sum()} of {len(same)} rows, first in row "
                f"{row + 1}: {one[row]!r}, here {other[row]!r}"
            )
    return found
