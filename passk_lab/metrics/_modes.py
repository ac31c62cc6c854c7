"""Mode counts of several problems as flat arrays, read and checked once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from passk_lab.metrics._counts import whole_numbers
from passk_lab.metrics.passk import pass_at_k

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ModeCounts:
    """Mode counts of several problems, which all functions take in place of arrays.

    Examples
    --------
    >>> modes = ModeCounts.of([[3, 1], [2, 0, 2], []])
    >>> modes.total.tolist(), modes.observed.tolist()
    ([4, 4, 0], [2, 2, 0])
    """

    counts: Ints  # of all problems' modes behind one another, those that occurred only
    owner: Ints  # the problem of each, ascending
    n_problems: int
    one: bool = False  # one problem was passed, not a sequence of one

    @classmethod
    def of(cls, mode_counts: Any) -> ModeCounts:
        """Read the counts of one problem or several; ValueError names problem and place."""
        if isinstance(mode_counts, ModeCounts):
            return mode_counts
        name = "mode_counts"
        rows, one = split_rows(mode_counts, name)
        places = [name] if one else [f"{name}[{at}]" for at in range(len(rows))]
        arrays = [_whole_row(row, place) for row, place in zip(rows, places, strict=True)]
        owner = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
        counts = np.concatenate(arrays)
        if (counts < 0).any():
            at = int(np.argmax(counts < 0))
            raise ValueError(f"{name} of problem {owner[at]} holds {counts[at]}, below 0")
        keep = counts > 0
        return cls(counts[keep], owner[keep], len(arrays), one)

    @cached_property
    def total(self) -> Ints:
        """Samples of each problem, as far as they are counted."""
        return self.add(self.counts).astype(np.int64)

    @cached_property
    def observed(self) -> Ints:
        """Modes of each problem that occurred."""
        return np.bincount(self.owner, minlength=self.n_problems)

    def seen(self, times: int) -> Ints:
        """Count the modes of each problem that occurred so many times."""
        return np.bincount(self.owner[self.counts == times], minlength=self.n_problems)

    def add(self, values: npt.NDArray[Any]) -> Floats:
        """Sum over the modes of each problem."""
        return _add(values, self.owner, self.n_problems)

    def __iter__(self) -> Iterator[Ints]:
        """Give the counts of each problem."""
        ends = np.searchsorted(self.owner, np.arange(1, self.n_problems))
        return iter(np.split(self.counts, ends)[: self.n_problems])

    def take(self, keep: npt.NDArray[np.bool_]) -> ModeCounts:
        """Keep some of the problems."""
        mine = keep[self.owner]
        owner = (np.cumsum(keep) - 1)[self.owner[mine]]
        return ModeCounts(self.counts[mine], owner, int(keep.sum()), self.one)

    def samples(self, n_samples: npt.ArrayLike | None) -> Ints:
        """Give n of each problem: the sum of its counts unless told otherwise."""
        if n_samples is None:
            return self.total
        n = whole_numbers(n_samples, "n_samples")
        if n.shape not in ((), (self.n_problems,)):
            raise ValueError(f"n_samples has shape {n.shape}, not () or ({self.n_problems},)")
        n = np.broadcast_to(n, (self.n_problems,))
        if (n < self.total).any():
            at = int(np.argmax(n < self.total))
            total = self.total[at]
            raise ValueError(
                f"n_samples={n[at]} of problem {at} is below the sum of counts {total}"
            )
        return n

    def shaped(self, values: Floats, k: npt.ArrayLike | None = None) -> Any:
        """Drop the axes of a single k and of a single problem."""
        return without_axes(values, self.one, k)


def _add(values: npt.NDArray[Any], owner: Ints, n_problems: int) -> Floats:
    sums = np.bincount(owner, weights=values, minlength=n_problems)
    return sums.astype(np.float64, copy=False)  # whole numbers where there is nothing to add


def without_axes(values: Floats, one: bool, k: npt.ArrayLike | None = None) -> Any:
    """Drop the axes of a single k and of a single problem."""
    if k is not None and np.ndim(k) == 0:
        values = values[:, 0]
    if one:
        values = values[0]
    return float(values) if np.ndim(values) == 0 else values


def split_rows(values: Any, name: str) -> tuple[list[Any], bool]:
    """Split into problems; whether it was one problem only."""
    if isinstance(values, str | bytes | Mapping) or not np.iterable(values):
        raise ValueError(
            f"{name} must be a sequence or one of sequences, not {type(values).__name__}"
        )
    rows = list(values)
    nested = [np.iterable(row) and not isinstance(row, str | bytes) for row in rows]
    if not any(nested):
        if isinstance(values, np.ndarray) and values.ndim > 1:
            raise ValueError(f"{name} holds no problem: its shape is {values.shape}")
        return [values if isinstance(values, np.ndarray) else rows], True
    if not all(nested):
        raise ValueError(f"{name}[{nested.index(False)}] is a single value beside sequences")
    return rows, False


def _whole_row(row: Any, name: str) -> Ints:
    try:
        array = np.asarray(row)
    except ValueError as error:
        raise ValueError(f"{name} holds sequences; each problem needs one dimension") from error
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions; each problem needs one")
    return whole_numbers(array, name)


def check_draws(k: npt.ArrayLike, n: Ints) -> Ints:
    """Turn k into an array, shape (n_k,); no problem may have fewer samples."""
    ks = np.atleast_1d(whole_numbers(k, "k"))
    if ks.ndim != 1 or not len(ks):
        raise ValueError("k must be a number or a non-empty sequence of numbers")
    if ks.min() < 1:
        raise ValueError(f"k={ks.min()} must be at least 1")
    if n.size and ks.max() > n.min():
        raise ValueError(
            f"k={ks.max()} exceeds the {n.min()} samples of problem {np.argmin(n)}; take a smaller "
            "k, or give n_samples where only some modes are counted"
        )
    return ks


def distinct_rows(*columns: Ints) -> tuple[Ints, Ints]:
    """Distinct rows of the columns, and for each row its place among them."""
    place = first = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        # Far faster than np.unique over rows; renumbered each time, so that keys stay small.
        key = place * (column.max(initial=0) + 1) + column
        _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return np.stack([column[first] for column in columns], axis=1), place


def rarefied(modes: ModeCounts, n: Ints, ks: Ints) -> Floats:
    """Expected number of modes among k samples, shape (n_problems, n_k)."""
    pairs, place = distinct_rows(n[modes.owner], modes.counts)
    table = pass_at_k(pairs[:, 0], pairs[:, 1], ks[:, None])
    return np.stack([modes.add(row[place]) for row in table], axis=-1)


def inverse(values: Floats) -> Floats:
    """1 / values, inf for 0."""
    return np.divide(1.0, values, out=np.full(values.shape, np.inf), where=values != 0)


def hill_of_shares(p: Floats, q: float, owner: Ints | None = None, n_problems: int = 1) -> Floats:
    """Hill number of order q of the positive shares p of each problem, shape (n_problems,)."""
    owner = np.zeros(len(p), dtype=np.int64) if owner is None else owner
    if q == 0:
        return _add(np.ones_like(p), owner, n_problems)
    if q == 1:
        return np.exp(_add(p * -np.log(p), owner, n_problems))
    if abs(q - 1) <= 0.5:
        # sum p^q - 1, which the exponent 1/(1-q) would blow up if it were rounded at 1.
        excess = _add(p * np.expm1((q - 1) * np.log(p)), owner, n_problems)
        return np.exp(np.log1p(excess) / (1 - q))
    peak = np.zeros(n_problems)
    np.maximum.at(peak, owner, p)
    if np.isinf(q):
        return 1 / peak
    # Relative to the peak, so that high powers don't vanish.
    power = _add((p / peak[owner]) ** q, owner, n_problems)
    return np.exp(np.log(power) / (1 - q) + np.log(peak) * (q / (1 - q)))
