"""Checks of arguments that the modules of this package share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.passk import whole_numbers


class _End:
    def __repr__(self) -> str:
        return "<end>"


END = _End()


def ended(answers: Sequence[Sequence[Hashable]]) -> list[tuple[Hashable, ...]]:
    """Tokens of each answer and `END`; ValueError if two answers are equal."""
    words = [(*answer, END) for answer in answers]
    seen: dict[tuple[Hashable, ...], int] = {}
    for at, word in enumerate(words):
        if seen.setdefault(word, at) != at:
            raise ValueError(f"answers {seen[word]} and {at} are equal; list each answer once")
    return words


def check_choice(value: str, name: str, choices: Sequence[str]) -> None:
    """ValueError lists what the argument may be."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}")


def whole_ks(k: int | Sequence[int]) -> npt.NDArray[np.int64]:
    """One or several k, as an array; ValueError for none, or one below 1."""
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if not len(ks) or ks.min() < 1:
        raise ValueError("k must be a number of at least 1 or a sequence of such numbers")
    return ks


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
