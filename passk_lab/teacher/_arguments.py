"""Types and checks of arguments that the modules of this room share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.passk import whole_numbers

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
RandomState = int | np.random.Generator | None
Law = Literal["policy", "uniform"]
Teacher = Literal["moving", "frozen"]


END = object()  # after the last token of an answer


def ended(answers: Sequence[Sequence[Hashable]]) -> list[tuple[Hashable, ...]]:
    """Tokens of each answer and `END`; ValueError if two answers are equal."""
    words = [(*answer, END) for answer in answers]
    for at, word in enumerate(words):
        if words.index(word) < at:
            raise ValueError(f"answers {words.index(word)} and {at} are equal; list each once")
    return words


def check_choice(value: str, name: str, choices: Sequence[str]) -> None:
    """ValueError lists what the argument may be."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}")


def whole_ks(k: int | Sequence[int]) -> Ints:
    """One or several k, as an array; ValueError for none, or one below 1."""
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if not len(ks) or ks.min() < 1:
        raise ValueError("k must be a number of at least 1 or a sequence of such numbers")
    return ks


def refuse_entry(bad: npt.ArrayLike, array: npt.ArrayLike, name: str, message: str) -> None:
    """ValueError says where the first bad entry of an array is, what it is, and the message."""
    if np.any(bad):
        at = np.argwhere(bad)[0]
        place = ", ".join(map(str, at))
        raise ValueError(f"{name}[{place}] is {np.asarray(array)[tuple(at)]}{message}")


def refuse_row(bad: npt.ArrayLike, message: str, values: pd.DataFrame) -> None:
    """ValueError with the first bad row: ``{row}`` its place, ``{0}``, ``{1}``... its values."""
    if np.any(bad):
        row = int(np.argmax(bad))
        raise ValueError(message.format(*values.iloc[row], row=row))


def require_columns(table: pd.DataFrame, names: Sequence[str], source: str) -> None:
    """ValueError names the first column that is missing."""
    for name in names:
        if name not in table.columns:
            raise ValueError(
                f"{source}: column {name!r} is missing (columns: "
                f"{', '.join(map(str, table.columns)) or 'none'}); add it or rename the one that "
                "holds it"
            )


def log_array(values: npt.ArrayLike, name: str, *axes: str) -> Floats:
    """Logarithms, finite or -inf; ValueError names the array, its axes and a bad entry."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(axes) or not array.size:
        wanted = f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"
        raise ValueError(f"{name} must have shape {wanted}, not {array.shape}")
    refuse_entry(~(array < np.inf), array, name, "; it must be finite or -inf")
    return array


def shares(values: npt.ArrayLike | None, size: int, name: str) -> Floats:
    """Weights, scaled to a sum of 1; uniform by default."""
    if values is None:
        return np.full(size, 1 / size)
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}; it needs {size} entries")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.sum() > 0):
        raise ValueError(f"{name} must be finite, not negative, and some of them positive")
    return np.asarray(array / array.sum())
