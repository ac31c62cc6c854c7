"""What can be told about single responses where a program logged one number for all of them."""

from __future__ import annotations

import re
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt

__all__ = ["compile_pattern", "correct_from_share", "first_match", "share_correct"]

_TOLERANCE = 1e-9


@lru_cache(maxsize=64)
def _shares(n: int, k: int) -> npt.NDArray[np.float64]:
    # Exact integers: 1 - C(n-c, k) / C(n, k) for c = 0, ..., n.
    total = comb(n, k)
    return np.array([(total - comb(n - c, k)) / total for c in range(n + 1)])


def share_correct(n: int, n_correct: int, k: int = 1) -> float:
    """Give pass@k of one problem; with ``k = 1`` the share of correct responses.

    Examples
    --------
    >>> share_correct(4, 1), share_correct(4, 1, k=2)
    (0.25, 0.5)
    """
    return float(_shares(n, k)[n_correct])


def correct_from_share(value: float, n: int, k: int = 1) -> int:
    """Give the number of correct responses of ``n`` that has the pass@k ``value``.

    Raises
    ------
    ValueError
        No number of correct responses gives this value, or several do (pass@k is 1 wherever fewer
        than k responses are wrong).

    Examples
    --------
    >>> correct_from_share(0.5, n=4, k=2)
    1
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} can't come from {n} responses")
    fits = np.flatnonzero(np.abs(_shares(n, k) - value) < _TOLERANCE)
    if not len(fits):
        raise ValueError(f"{value} is no share of correct ones among {n} responses (k={k})")
    if len(fits) > 1:
        raise ValueError(
            f"pass@{k} = {value} fits {fits[0]} to {fits[-1]} correct of {n} responses; a metric "
            "with smaller k tells them apart"
        )
    return int(fits[0])


def compile_pattern(pattern: str | None, option: str) -> re.Pattern[str] | None:
    """Compile an option's regular expression; ValueError names the option."""
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{option}={pattern!r} is no regular expression: {error}") from error


def first_match(pattern: re.Pattern[str] | None, text: str) -> str | None:
    r"""Give the first match, stripped: its first group that took part, or all of it.

    Without a pattern the text is its own answer; None where nothing matches.

    Examples
    --------
    >>> first_match(re.compile(r"answer is (\d+)"), "The answer is 12, not 13.")
    '12'
    """
    if pattern is None:
        return text
    match = pattern.search(text)
    if match is None:
        return None
    taken = [group for group in match.groups() if group]
    return (taken[0] if taken else match.group(0)).strip()
