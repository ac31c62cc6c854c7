"""How every study writes its figures: PNG, SVG and the CSV that they show."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from registry import Study

from passk_lab.plots import save_figure, style
from passk_lab.rollouts import atomic_write


def write(study: Study, root: Path, folder: Path, pictures: bool = True) -> list[Path]:
    """Draw a study's figures and write them with its tables, or these alone; return the files."""
    files: list[Path] = []
    with style():
        for item, figure, table in study.make(root):
            if figure is not None:
                if pictures:
                    png, svg = save_figure(figure, folder / item.name)
                    shrink(png)
                    round_off(svg)
                    files += [png, svg]
                plt.close(figure)
            files.append(folder / f"{item.name}.csv")
            table.to_csv(files[-1], index=False, float_format="%.12g", lineterminator="\n")
    return files


def shrink(png: Path) -> None:
    """Save a picture with 256 colours: the repository has to stay small."""
    with Image.open(png) as opened:
        rgb = opened.convert("RGB")
    # Of Pillow's methods the one that keeps rare colours too, those of thin lines.
    few = rgb.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    with atomic_write(png) as temporary:
        few.save(temporary, "PNG", optimize=True)


_PLACE = re.compile(r'(?<= )(d|x|y)="[^"]*"')


def round_off(svg: Path) -> None:
    """Save a drawing with coordinates to a hundredth of a point, for the same reason."""

    def rounded(place: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", place[0])

    text = _PLACE.sub(rounded, svg.read_text())
    with atomic_write(svg) as temporary:
        temporary.write_text(text)


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
