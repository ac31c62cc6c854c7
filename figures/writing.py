"""How every study writes its figures: PNG, SVG and the CSV that they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from passk_lab._files import atomic_write
from passk_lab.plots import save_figure


def write(drawn: Mapping[str, tuple[Figure, pd.DataFrame]], folder: Path) -> list[Path]:
    """Write figures with their tables; return the files."""
    files: list[Path] = []
    for name, (figure, table) in drawn.items():
        png, svg = save_figure(figure, folder / name)
        shrink(png)
        files += [png, svg]
        plt.close(figure)
        files.append(write_table(table, folder / f"{name}.csv"))
    return files


def shrink(png: Path) -> None:
    """Save a picture with 256 colours, a third of its size: the repository has to stay small."""
    with Image.open(png) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with atomic_write(png) as temporary:
        few.save(temporary, "PNG", optimize=True)


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as every figure's CSV is written."""
    table.to_csv(path, index=False, float_format="%.6g")
    return path
