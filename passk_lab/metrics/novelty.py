"""NoveltyBench's measures: what a user gains from reading several samples, by class and utility."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from passk_lab.metrics._modes import Floats, check_draws, split_rows, without_axes

__all__ = ["distinct_k", "utility_k"]


def distinct_k(classes: Sequence[Any] | npt.NDArray[Any], k: npt.ArrayLike) -> Any:
    """NoveltyBench's distinct_k: the number of distinct classes among the first k samples.

    Zhang et al. (2025), arXiv:2504.05228. Its mean over all orders is `distinct_at_k`, which has
    less noise where samples were drawn independently. Shapes and k as there.

    Parameters
    ----------
    classes : sequence of labels, or a sequence of such sequences (problems)
        The class (mode) of each sample, in the order of sampling. Any hashable labels but tuples.
    k : int or sequence of int

    Examples
    --------
    >>> distinct_k(["a", "a", "b", "a"], [1, 2, 3, 4]).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    rows, one = split_rows(classes, "classes")
    return _over_first_k([_novel(row, at) for at, row in enumerate(rows)], k, one)


def utility_k(
    classes: Sequence[Any] | npt.NDArray[Any],
    utilities: npt.ArrayLike | Sequence[npt.ArrayLike],
    k: npt.ArrayLike,
    patience: float = 0.8,
) -> Any:
    """NoveltyBench's utility_k: what a user gains who reads up to k samples.

    (1-p) / (1-p^k)  sum_{i<=k} p^(i-1) [class of i is new] u_i, where the user reads on after each
    sample with probability p (Zhang et al. 2025, arXiv:2504.05228).

    Parameters
    ----------
    classes, k
        As for `distinct_k`, and so are the shapes of the result.
    utilities : array_like, shape (n,), or a sequence of such arrays
        The utility of each sample, in any unit: a reward, or 1 for correct and 0 for wrong.
    patience : float
        p, between 0 (only the first sample counts) and 1 (all samples count alike).

    Examples
    --------
    >>> utility_k(["a", "a", "b"], [1.0, 1.0, 1.0], [1, 2, 3]).round(4).tolist()
    [1.0, 0.5556, 0.6721]
    """
    if not 0 <= patience <= 1:
        raise ValueError(f"patience={patience} must lie between 0 and 1")
    rows, one = split_rows(classes, "classes")
    values, one_too = split_rows(utilities, "utilities")
    if one != one_too or [*map(len, rows)] != [*map(len, values)]:
        raise ValueError("utilities must hold one number for each sample, nested as the classes")
    parts = zip(rows, values, strict=True)
    gains = [_novel(row, at) * _utilities(part, at) for at, (row, part) in enumerate(parts)]
    return _over_first_k(gains, k, one, float(patience))


def _novel(labels: Sequence[Hashable], problem: int) -> Floats:
    """1 for the first sample of each class, else 0."""
    if not len(labels):
        raise ValueError(f"classes of problem {problem} is empty; leave it out")
    first: dict[Hashable, int] = {}
    try:
        missing = any(label is None or bool(label != label) for label in labels)
        new = [first.setdefault(label, at) == at for at, label in enumerate(labels)]
    except TypeError as error:
        raise ValueError(f"classes must hold labels such as strings or numbers: {error}") from error
    if missing:
        raise ValueError(f"classes of problem {problem}: a label is missing")
    return np.array(new, dtype=np.float64)


def _utilities(values: npt.ArrayLike, problem: int) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"utilities must hold numbers: {error}") from error
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(f"utilities of problem {problem} holds {array[bad][0]}; score it")
    return array


def _over_first_k(
    gains: list[Floats], k: npt.ArrayLike, one: bool, patience: float | None = None
) -> Any:
    """Sum the first k gains of each problem, or average them with the weights patience^i."""
    ks = check_draws(k, np.array([len(row) for row in gains], dtype=np.int64))
    rows = np.stack([row[: ks.max()] for row in gains])
    if patience is None:
        found = np.cumsum(rows, axis=1)[:, ks - 1]
    else:
        weights = patience ** np.arange(ks.max())
        found = np.cumsum(rows * weights, axis=1)[:, ks - 1] / np.cumsum(weights)[ks - 1]
    return without_axes(found, one, k)
