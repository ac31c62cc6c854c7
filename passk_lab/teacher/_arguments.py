"""Checks of arguments that the modules of this package share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd


def log_vector(values: npt.ArrayLike, name: str, axis: str) -> npt.NDArray[np.float64]:
    """One axis of logarithms, finite or -inf; ValueError names the array and the entry."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must have shape ({axis},), not {array.shape}")
    bad = np.isnan(array) | (array == np.inf)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(f"{name}[{at}] is {array[at]}; it must be finite or -inf")
    return array


def require_columns(table: pd.DataFrame, names: Sequence[str], source: str) -> None:
    """ValueError names the first column that is missing."""
    for name in names:
        if name not in table.columns:
            raise ValueError(
                f"{source}: column {name!r} is missing (columns: "
                f"{', '.join(map(str, table.columns)) or 'none'}); add it or rename the one that "
                "holds it"
            )
