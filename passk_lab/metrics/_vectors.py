"""Rows as directions, and the extra that groups and makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from passk_lab._text import import_extra

Floats = npt.NDArray[np.float64]


def unit_rows(embeddings: npt.ArrayLike) -> Floats:
    """Rows of length 1, shape (n, d); ValueError names a row without a direction."""
    array = np.asarray(embeddings, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"embeddings must have shape (n, d), not {array.shape}")
    with np.errstate(over="ignore"):
        length = np.sqrt(np.einsum("ij,ij->i", array, array))
    if not (np.isfinite(length) & (length > 1e-100)).all():
        # Of a huge or a tiny row the squares are not exact.
        peak = np.abs(array).max(axis=1)
        bad = ~np.isfinite(peak) | (peak == 0)
        if bad.any():
            row = int(np.argmax(bad))
            problem = "a value is not finite" if peak[row] else "all values are 0: no direction"
            raise ValueError(f"embeddings, row {row}: {problem}; leave the text out")
        array = array / peak[:, None]
        length = np.linalg.norm(array, axis=1)
    return np.asarray(array / length[:, None])


def sklearn_module(module: str) -> Any:
    """Import a part of scikit-learn."""
    needs = "this needs scikit-learn: pip install scikit-learn, or 'passk-lab[embed]'"
    return import_extra(f"sklearn.{module}", needs)
