"""How every study writes its figures: PNG, SVG and the CSV that they show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from passk_lab.plots import save_figure


def write(drawn: Mapping[str, tuple[Figure, pd.DataFrame]], folder: Path) -> list[Path]:
    """Write figures with their tables; return the files."""
    files: list[Path] = []
    for name, (figure, table) in drawn.items():
        files += save_figure(figure, folder / name)
        plt.close(figure)
        files.append(write_table(table, folder / f"{name}.csv"))
    return files


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as every figure's CSV is written."""
    table.to_csv(path, index=False, float_format="%.6g")
    return path
