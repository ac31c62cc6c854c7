"""How every study writes its figures: PNG, SVG and the CSV that they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

from passk_lab.plots import save_figure
from passk_lab.rollouts import atomic_write


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
    """Save a picture with its 256 commonest colours: the repository has to stay small.

    Lines, markers and areas keep their very colours; what changes a little are the edges between.
    """
    with Image.open(png) as opened:
        channels = np.asarray(opened.convert("RGB"), dtype=np.int64)
    codes = channels @ [1 << 16, 1 << 8, 1]
    colors, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rgb = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1)
    palette = rgb[np.argsort(-counts, kind="stable")[:256]]
    nearest = cKDTree(palette).query(rgb)[1].astype(np.uint8)
    few = Image.fromarray(nearest[place].reshape(codes.shape), mode="P")
    few.putpalette(palette.astype(np.uint8).tobytes())
    with atomic_write(png) as temporary:
        few.save(temporary, "PNG", optimize=True)


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as every figure's CSV is written."""
    table.to_csv(path, index=False, float_format="%.12g")
    return path


def differences(new: Path, old: Path, rtol: float = 1e-9, atol: float = 1e-12) -> list[str]:
    """Say where two tables differ, a line a column; numbers may by as much as processors do."""
    if not old.exists():
        return [f"{old.name}: no such file"]
    tables = [pd.read_csv(path, float_precision="round_trip") for path in (new, old)]
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
