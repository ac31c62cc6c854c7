"""Metric values of each problem: what every mean, interval and comparison starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from passk_lab.metrics.registry import METRICS

__all__ = ["ProblemValues", "default_ks"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _unknown() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class ProblemValues:
    """Values of each seed and problem of one run and split.

    Attributes
    ----------
    group : tuple
        The values of the columns grouped by, (run, split) for example.
    problem_id : array of str, shape (n_problems,)
    columns : array, shape (n_columns,)
        The values of k, or names of metrics.
    values : array, shape (n_seeds, n_problems, n_columns)
        NaN where a metric is undefined for a problem. With ``of_means``: every column's parts side
        by side.
    n_samples, n_correct : arrays of int, shape (n_problems,)
        Empty where there are no samples. Of several seeds the smallest number of samples, and no
        number of correct ones.
    clusters : array, shape (n_problems,), or None
        Problems with the same label are resampled together.
    harmonic : array of bool, shape (n_columns,)
        Columns whose mean over problems is the harmonic one (default: none).
    of_means : callable, optional
        See `passk_lab.metrics.Metric`.
    bounded : bool
        Values lie between 0 and 1, or between 0 and a number of answers.
    """

    group: tuple[Any, ...]
    problem_id: npt.NDArray[np.object_]
    columns: npt.NDArray[Any]
    values: Floats
    n_samples: Ints = field(default_factory=_unknown)
    n_correct: Ints = field(default_factory=_unknown)
    clusters: npt.NDArray[Any] | None = None
    harmonic: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    of_means: Callable[[Any], Any] | None = None
    bounded: bool = False

    def __post_init__(self) -> None:
        if not len(self.harmonic):
            object.__setattr__(self, "harmonic", np.zeros(len(self.columns), dtype=bool))

    @property
    def mean(self) -> Floats:
        """Mean over seeds and problems, shape (n_columns,)."""
        return self.finished(self.values.mean(axis=(0, 1)))

    def finished(self, means: Floats) -> Floats:
        """Turn means of the parts, on the last axis, into the columns."""
        if self.of_means is None:
            return np.asarray(means)
        parts = means.reshape(*means.shape[:-1], len(self.columns), -1)
        return np.asarray(self.of_means(parts))

    @property
    def fewest(self) -> int:
        """The smallest number of samples of a problem, in any seed."""
        return int(self.n_samples.min())

    @property
    def n_problems(self) -> int:
        """How many independent problems, or clusters of them, there are."""
        return len(self.problem_id if self.clusters is None else np.unique(self.clusters))

    def take(self, problems: npt.NDArray[Any]) -> ProblemValues:
        """Keep some problems, given by place or by a mask."""
        kept: dict[str, Any] = {"problem_id": self.problem_id[problems]}
        for name in ("n_samples", "n_correct", "clusters"):
            array = getattr(self, name)
            kept[name] = array if array is None or not len(array) else array[problems]
        return replace(self, values=self.values[:, problems], **kept)

    def at(self, columns: npt.NDArray[Any] | Sequence[int]) -> ProblemValues:
        """Keep some columns, given by place."""
        return replace(
            self,
            columns=self.columns[columns],
            values=self.values[:, :, columns],
            harmonic=self.harmonic[columns],
        )

    def clustered(self, table: pd.DataFrame, by: Sequence[str]) -> ProblemValues:
        """Take the clusters of the problems from a table's column ``cluster``, if it has one.

        A problem belongs to one cluster within a split.
        """
        if "cluster" not in table.columns:
            return self
        if "split" in by:
            table = table[table["split"] == self.group[list(by).index("split")]]
        rows = table[["problem_id", "cluster"]].drop_duplicates("problem_id")
        known = dict(zip(rows["problem_id"].astype(str), rows["cluster"].astype(str), strict=True))
        labels = [known[name] for name in self.problem_id.astype(str)]
        return replace(self, clusters=np.array(labels, dtype=object))

    def shared(self, other: ProblemValues) -> tuple[ProblemValues, ProblemValues]:
        """Keep the problems that both have, in the same order."""
        ours, theirs = (group.problem_id.astype(str) for group in (self, other))
        _, at, where = np.intersect1d(ours, theirs, return_indices=True)
        return self.take(at), other.take(where)

    @staticmethod
    def stacked(parts: Sequence[ProblemValues]) -> list[ProblemValues]:
        """Put groups that differ in their last key, the seed, on one axis."""
        gathered: dict[tuple[Any, ...], list[ProblemValues]] = {}
        for part in parts:
            gathered.setdefault(part.group[:-1], []).append(part)
        found = []
        for group, seeds in gathered.items():
            first = seeds[0]
            for place, other in enumerate(seeds[1:], start=1):
                if np.array_equal(first.problem_id, other.problem_id):
                    continue
                odd = set(first.problem_id) ^ set(other.problem_id)
                if odd:
                    raise ValueError(
                        f"seeds {first.group[-1]} and {other.group[-1]} of {group} differ in "
                        f"problem {min(odd)!r}; evaluate every seed on the same problems. If they "
                        "are seeds of sampling, take them together: --pool-seeds (over_seeds="
                        "False or pool_seeds=True in Python)"
                    )
                # Files may hold the problems of each seed in another order.
                seeds[place] = other.take(
                    pd.Index(other.problem_id).get_indexer(pd.Index(first.problem_id))
                )
            shared = reduce(np.intersect1d, [seed.columns for seed in seeds])
            at = [seed.at(np.flatnonzero(np.isin(seed.columns, shared))) for seed in seeds]
            found.append(
                replace(
                    at[0],
                    group=group,
                    values=np.concatenate([seed.values for seed in at]),
                    n_samples=np.min([seed.n_samples for seed in seeds], axis=0),
                    n_correct=_unknown(),
                )
            )
        return found

    @staticmethod
    def of_frame(frame: pd.DataFrame, by: Sequence[str]) -> list[ProblemValues]:
        """Split a table with the columns ``*by, problem_id`` and one a metric."""
        names = np.array(
            [name for name in frame.columns if name not in (*by, "problem_id")], object
        )
        groups = frame.groupby(list(by), sort=True, dropna=False, observed=True)
        harmonic = np.array(
            [name in METRICS and METRICS[name].harmonic for name in names], dtype=bool
        )
        return [
            ProblemValues(
                key,
                part["problem_id"].to_numpy(object),
                names,
                part[names].to_numpy(np.float64)[None],
                harmonic=harmonic,
            )
            for key, part in groups
        ]


def default_ks(n: int) -> list[int]:
    """Return the powers of two up to n, and n itself.

    Examples
    --------
    >>> default_ks(20)
    [1, 2, 4, 8, 16, 20]
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    return sorted({2**i for i in range(n.bit_length())} | {n})
