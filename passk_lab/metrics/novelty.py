"""NoveltyBench's measures: what a user gains from reading several samples, by class and utility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from passk_lab.metrics._modes import (
    Floats,
    Ints,
    ModeCounts,
    check_choice,
    check_draws,
    distinct_rows,
    owners,
    rarefied,
    split_rows,
)
from passk_lab.metrics.passk import pass_hat_k

__all__ = ["distinct_k", "utility_k"]

_ORDERS = ("given", "random")


def distinct_k(
    classes: Sequence[Any] | npt.NDArray[Any],
    k: npt.ArrayLike,
    order: Literal["given", "random"] = "given",
) -> Any:
    """NoveltyBench's distinct_k: the number of distinct classes among k samples.

    Parameters
    ----------
    classes : sequence of labels, or a sequence of such sequences (problems)
        The class (mode) of each sample, in the order of sampling. Any hashable labels but tuples.
    k : int or sequence of int
        1 <= k <= n.
    order : {"given", "random"}
        "given": among the first k samples. "random": its mean over all orders, which is
        `distinct_at_k` and has less noise where samples were drawn independently.

    Returns
    -------
    float or array
        Shape (), (n_k,), (n_problems,) or (n_problems, n_k), as problems and k are one or many.

    Raises
    ------
    ValueError
        A label is missing, a problem has no samples, k is out of range.

    References
    ----------
    1. Zhang et al. (2025), NoveltyBench: Evaluating Language Models for Humanlike Diversity,
       arXiv:2504.05228.

    Examples
    --------
    >>> distinct_k(["a", "a", "b", "a"], [1, 2, 3, 4]).tolist()
    [1.0, 1.0, 2.0, 2.0]
    >>> distinct_k(["a", "a", "b", "a"], [1, 2, 3, 4], order="random").tolist()
    [1.0, 1.5, 1.75, 2.0]
    """
    check_choice(order, _ORDERS, "order")
    samples = _Samples.of(classes)
    ks = check_draws(k, samples.n)
    if order == "random":
        return samples.modes.shaped(rarefied(samples.modes, samples.n, ks), k)
    return samples.modes.shaped(samples.first_k(samples.novel, ks), k)


def utility_k(
    classes: Sequence[Any] | npt.NDArray[Any],
    utilities: npt.ArrayLike | Sequence[npt.ArrayLike],
    k: npt.ArrayLike,
    patience: float = 0.8,
    order: Literal["given", "random"] = "given",
) -> Any:
    """NoveltyBench's utility_k: what a user gains who reads up to k samples.

    The user reads on after each sample with probability p, and gains only from samples of a class
    not read before:

        (1-p) / (1-p^k)  sum_{i<=k} p^(i-1) [class of i is new] u_i

    Parameters
    ----------
    classes
        As for `distinct_k`.
    utilities : array_like, shape (n,), or a sequence of such arrays
        The utility of each sample, in any unit: a reward, or 1 for correct and 0 for wrong.
    k : int or sequence of int
        1 <= k <= n.
    patience : float
        p, between 0 (only the first sample counts) and 1 (all samples count alike).
    order : {"given", "random"}
        "given": the samples as they come, as in the paper. "random": the exact mean over all
        orders of the n samples, which has less noise where samples were drawn independently.

    Returns
    -------
    float or array
        In the unit of the utilities. Shapes as for `distinct_k`.

    Raises
    ------
    ValueError
        Lengths differ, a label or utility is missing, k or ``patience`` is out of range.

    Notes
    -----
    In a random order a given sample stands at place i with probability 1/n, and it is the first of
    its class of n_m samples if the i-1 samples before it, drawn from the other n-1, avoid the
    n_m-1 others of its class: C(n-n_m, i-1) / C(n-1, i-1). Hence the mean is:

        (1-p) / (1-p^k)  sum_m (sum of utilities of m) / n  sum_{i<=k} p^(i-1) C(n-n_m, i-1) / C(n-1, i-1)

    References
    ----------
    1. Zhang et al. (2025), NoveltyBench: Evaluating Language Models for Humanlike Diversity,
       arXiv:2504.05228.

    Examples
    --------
    >>> utility_k(["a", "a", "b"], [1.0, 1.0, 1.0], [1, 2, 3]).round(4).tolist()
    [1.0, 0.5556, 0.6721]
    >>> utility_k(["a", "a", "b"], [1.0, 1.0, 1.0], [1, 2, 3], order="random").round(4).tolist()
    [1.0, 0.8519, 0.7158]
    """  # noqa: E501 -- one formula, one line
    check_choice(order, _ORDERS, "order")
    samples = _Samples.of(classes)
    ks = check_draws(k, samples.n)
    values = _utilities(utilities, samples)
    if not 0 <= patience <= 1:
        raise ValueError(f"patience={patience} must lie between 0 and 1")
    weights = float(patience) ** np.arange(ks.max())
    if order == "given":
        gained = samples.first_k(values * samples.novel, ks, weights)
    else:
        gained = samples.mean_over_orders(values, ks, weights)
    return samples.modes.shaped(gained / np.cumsum(weights)[ks - 1], k)


@dataclass(frozen=True)
class _Samples:
    """All problems' samples behind one another."""

    n: Ints  # (n_problems,)
    mode_of: Ints  # (n_all_samples,), index into modes
    novel: npt.NDArray[np.bool_]  # (n_all_samples,), the first of its mode
    modes: ModeCounts

    @classmethod
    def of(cls, classes: Any) -> _Samples:
        rows, one = split_rows(classes, "classes")
        n, owner = owners(rows)
        if (n == 0).any():
            raise ValueError(f"classes of problem {int(np.argmax(n == 0))} is empty; leave it out")
        numbers: dict[Any, int] = {}
        missing, code = [], []
        try:
            for label in chain.from_iterable(rows):
                missing.append(label is None or bool(label != label))
                code.append(numbers.setdefault(label, len(numbers)))
        except TypeError as error:
            raise ValueError(
                f"classes must hold labels such as strings or numbers: {error}"
            ) from error
        if any(missing):
            raise ValueError(
                f"classes of problem {owner[missing.index(True)]}: a label is missing; give every "
                "sample its class"
            )
        key = owner * len(numbers) + np.array(code)
        distinct, first, mode_of, size = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        novel = np.zeros(len(key), dtype=bool)
        novel[first] = True
        modes = ModeCounts(size.astype(np.int64), distinct // len(numbers), len(rows), one)
        return cls(n, mode_of, novel, modes)

    def first_k(self, values: npt.NDArray[Any], ks: Ints, weights: Floats | float = 1.0) -> Floats:
        """Weighted sum of the first k samples' values, shape (n_problems, n_k)."""
        start = np.cumsum(self.n) - self.n
        rows = values[start[:, None] + np.arange(ks.max())] * weights
        return np.cumsum(rows, axis=1)[:, ks - 1]

    def mean_over_orders(self, values: Floats, ks: Ints, weights: Floats) -> Floats:
        """Mean of `first_k` of the novel samples' values over all orders of the samples."""
        modes = self.modes
        pairs, place = distinct_rows(self.n[modes.owner], modes.counts)
        # At place i a sample is the first of its mode if the i before it avoid the mode.
        new = np.ones((len(weights), len(pairs)))
        new[1:] = pass_hat_k(
            pairs[:, 0] - 1, pairs[:, 0] - pairs[:, 1], np.arange(1, len(weights))[:, None]
        )
        table = np.cumsum(weights[:, None] * new, axis=0)[ks - 1]
        mean = np.bincount(self.mode_of, weights=values) / self.n[modes.owner]
        return np.stack([modes.add(mean * row[place]) for row in table], axis=-1)


def _utilities(utilities: Any, samples: _Samples) -> Floats:
    rows, one = split_rows(utilities, "utilities")
    lengths, owner = owners(rows)
    if one != samples.modes.one or not np.array_equal(lengths, samples.n):
        raise ValueError("utilities must hold one number for each sample, nested as the classes")
    try:
        values = np.concatenate([np.asarray(row, dtype=np.float64) for row in rows])
    except (TypeError, ValueError) as error:
        raise ValueError(f"utilities must hold numbers: {error}") from error
    bad = ~np.isfinite(values)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"utilities of problem {owner[at]} holds {values[at]}; score the sample or drop it"
        )
    return values
