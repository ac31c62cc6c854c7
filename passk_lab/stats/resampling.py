"""The bootstrap over problems, clusters of problems and training seeds: one engine for all means.

Replicates of a mean come from random weights of the problems. The weights depend on the number of
problems and on the seed alone: they are drawn once, and all runs, metrics and columns share them,
which pairs what is compared.

Problems are resampled whole, so an interval covers the choice of problems and, as each brings its
own samples along, the sampling within them. Where problems come in clusters (variants of one
template), whole clusters are resampled. Where a method was trained with several seeds, seeds are
resampled independently of the problems (crossed, not nested), as every seed is evaluated on the
same problems. Of S seeds S - 1 are drawn with replacement, which makes the variance of their mean
the unbiased one, s^2 / S; drawing all S would miss a third of it at S = 3 [1].

The percentiles are widened for small numbers of problems, "Expanded percentile interval" in [2].

References
----------
1. J. N. K. Rao and C. F. J. Wu, Resampling inference with complex survey data, JASA 83 (1988).
2. Hesterberg (2015), What Teachers Should Know About the Bootstrap, The American
   Statistician 69(4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from scipy import special

from passk_lab.stats._precision import cluster_numbers

__all__ = ["Resampling", "ResamplingOptions"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RandomState = int | np.random.Generator | None

_BLOCK = 1 << 21  # weights made at a time
_KEPT = 1 << 27  # weights kept, a byte each
_MANY = 4_096  # problems; with more, equal rows are drawn together
_WEIGHTS, _SEEDS, _ROWS = range(3)  # independent streams of one seed


class ResamplingOptions(TypedDict, total=False):
    """Keywords of every function that gives intervals: the fields of `Resampling`."""

    n_resamples: int
    confidence: float
    random_state: RandomState


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes
    ----------
    n_resamples : int
        Bootstrap replicates.
    confidence : float
        Nominal coverage, between 0 and 1.
    random_state : int, Generator or None
        Seed, or source of one.

    Examples
    --------
    >>> low, high = Resampling(random_state=0).interval([0.0, 0.2, 0.5, 0.9, 1.0])
    >>> bool(0 <= low[0] < 0.52 < high[0] <= 1)
    True
    """

    n_resamples: int = 10_000
    confidence: float = 0.95
    random_state: RandomState = None
    _entropy: int = field(init=False, repr=False, compare=False)
    _kept: dict[int, npt.NDArray[np.uint8]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.n_resamples < 1:
            raise ValueError(f"n_resamples={self.n_resamples} must be at least 1")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence} must lie between 0 and 1")
        given = self.random_state
        whole = isinstance(given, int | np.integer)
        seed: Any = given if whole else np.random.default_rng(given).integers(1 << 63)
        object.__setattr__(self, "_entropy", int(seed))

    @classmethod
    def of(cls, options: ResamplingOptions, n_resamples: int) -> Resampling:
        """Make one from keywords, with another default number of replicates."""
        given: dict[str, Any] = {"n_resamples": n_resamples, **options}
        return cls(**given)

    def generator(self, *key: int) -> np.random.Generator:
        """Return a generator of its own for each key of whole numbers."""
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=key))

    def replicates(self, values: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> Floats:
        """Means over resampled problems and seeds, one row a replicate.

        Parameters
        ----------
        values : array_like
            Shape (n_problems,), (n_problems, n_columns) or (n_seeds, n_problems, n_columns).
        clusters : array_like, shape (n_problems,), optional
            A label of each problem; problems of one label are resampled together.

        Returns
        -------
        array, shape (n_resamples, n_columns)

        Raises
        ------
        ValueError
            There is no problem, a value is not finite, or clusters are not one a problem.

        Examples
        --------
        >>> Resampling(n_resamples=3, random_state=0).replicates([[0.0, 1.0], [1.0, 3.0]]).shape
        (3, 2)
        """
        return self.replicates_of([values], clusters)[0]

    def replicates_of(
        self,
        values: Sequence[npt.ArrayLike],
        clusters: npt.ArrayLike | None = None,
        runs: Sequence[int] | None = None,
    ) -> list[Floats]:
        """`replicates` of several runs on the same problems, in one pass.

        Problems are paired. Seeds are not, for each run was trained with its own: ``runs`` numbers
        the runs (default: 0, 1, ...), and a number always gets the same seeds.
        """
        arrays = [_seeds_problems_columns(array) for array in values]
        runs = range(len(arrays)) if runs is None else runs
        size = arrays[0].shape[1]
        if any(array.shape[1] != size for array in arrays):
            raise ValueError("the runs differ in their number of problems")
        widths = [array.shape[0] * array.shape[2] for array in arrays]
        table = np.concatenate([a.transpose(1, 0, 2).reshape(size, -1) for a in arrays], axis=1)
        found = np.split(self._means(table, clusters), np.cumsum(widths)[:-1], axis=1)
        for place, (run, array) in enumerate(zip(runs, arrays, strict=True)):
            n_seeds = len(array)
            if n_seeds > 1:
                shares = self._seed_shares(n_seeds, run)
                of_seeds = found[place].reshape(-1, n_seeds, array.shape[2])
                found[place] = np.einsum("bs,bsc->bc", shares, of_seeds)
        return found

    def _means(self, table: Floats, clusters: npt.ArrayLike | None) -> Floats:
        size = len(table)
        if clusters is None and size > _MANY:
            rows, repeats = _distinct_rows(table)
            if 16 * len(rows) <= size:
                return self._of_distinct(rows, repeats)
        result = np.empty((self.n_resamples, table.shape[1]))
        for part, weights in self._weights(size, clusters):
            # Divided last: sums of whole numbers are exact, and runs that are level stay level.
            np.matmul(weights, table, out=result[part])
            result[part] /= weights.sum(axis=1, keepdims=True)
        return result

    def interval(
        self, values: npt.ArrayLike, clusters: npt.ArrayLike | None = None
    ) -> tuple[Floats, Floats]:
        """Interval of the mean of each column; arguments as for `replicates`."""
        array = _seeds_problems_columns(values)
        size = array.shape[1] if clusters is None else len(np.unique(clusters))
        return self.percentiles(self.replicates(array, clusters), size)

    def percentiles(
        self, replicates: Floats, n_problems: int | None = None
    ) -> tuple[Floats, Floats]:
        """Interval between percentiles of the replicates, column by column.

        With ``n_problems`` (or the number of clusters) the nominal tail is narrowed to make up for
        the bootstrap's smaller variance, (n-1)/n, and for Student's t in place of the normal law.
        """
        tail = (1 - self.confidence) / 2
        if n_problems is not None and n_problems > 1:
            t = special.stdtrit(n_problems - 1, tail)
            tail = float(special.ndtr(t * np.sqrt(n_problems / (n_problems - 1))))
        low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
        return low, high

    def draws(self, n_problems: int) -> npt.NDArray[np.uint8]:
        """How often each problem is drawn, shape (n_resamples, n_problems)."""
        return np.concatenate([counts for _, counts in self._counts(n_problems)])

    def _seed_shares(self, n_seeds: int, run: int) -> Floats:
        drawn = max(n_seeds - 1, 1)
        rng = self.generator(_SEEDS, n_seeds, run)
        return rng.multinomial(drawn, np.full(n_seeds, 1 / n_seeds), self.n_resamples) / drawn

    def _of_distinct(self, rows: Floats, repeats: Ints) -> Floats:
        """Equal rows are interchangeable: their joint weight is one multinomial count."""
        size = int(repeats.sum())
        rng = self.generator(_ROWS, size)
        result = np.empty((self.n_resamples, rows.shape[1]))
        for part in _blocks(self.n_resamples, len(rows)):
            counts = rng.multinomial(size, repeats / size, part.stop - part.start)
            result[part] = (counts @ rows) / size
        return result

    def _weights(self, size: int, clusters: npt.ArrayLike | None) -> Iterator[tuple[slice, Floats]]:
        """How often each problem is drawn, shape (block, n_problems)."""
        labels = np.arange(size) if clusters is None else cluster_numbers(clusters, size)
        for part, counts in self._counts(int(labels.max()) + 1):
            yield part, (counts if clusters is None else counts[:, labels]).astype(np.float64)

    def _counts(self, size: int) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
        """How often each of ``size`` is drawn among ``size``, the same at every call."""
        blocks = _blocks(self.n_resamples, size)
        if size in self._kept:
            yield from ((part, self._kept[size][part]) for part in blocks)
            return
        rng = self.generator(_WEIGHTS, size)
        made = []
        for part in blocks:
            height = part.stop - part.start
            drawn = rng.integers(0, size, (height, size), dtype=np.int32)
            place = drawn + size * np.arange(height, dtype=np.int32)[:, None]
            flat = np.bincount(place.ravel(), minlength=height * size)
            # A byte is enough: a problem drawn 256 times would be less likely than 1e-500.
            counts = flat.reshape(height, size).astype(np.uint8)
            if size * self.n_resamples <= _KEPT:
                made.append(counts)
            yield part, counts
        if made:
            self._kept[size] = np.concatenate(made)


def _blocks(n_rows: int, width: int) -> Iterator[slice]:
    height = max(1, _BLOCK // width)
    for start in range(0, n_rows, height):
        yield slice(start, min(start + height, n_rows))


def _distinct_rows(array: Floats) -> tuple[Floats, Ints]:
    # Rows as opaque bytes: one sort instead of a lexicographic one over all columns.
    packed = np.ascontiguousarray(array + 0.0)  # + 0.0: no negative zeros, which differ in bytes
    keys = packed.view(np.dtype((np.void, packed.dtype.itemsize * packed.shape[1])))[:, 0]
    _, first, repeats = np.unique(keys, return_index=True, return_counts=True)
    return array[first], repeats


def _seeds_problems_columns(values: npt.ArrayLike) -> Floats:
    """Give values the axes seed, problem and column; refuse what is missing or infinite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            "values must have shape (n_problems,), (n_problems, n_columns) or (n_seeds, "
            f"n_problems, n_columns), not {np.shape(values)}"
        )
    bad = ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        where = ", ".join(map(str, place[3 - max(np.ndim(values), 1) :]))
        if np.ndim(values) == 1:
            where = str(place[1])
        raise ValueError(
            f"values[{where}] is {array[place]}; an undefined estimate must be left out (and "
            "counted) before the mean is taken"
        )
    return array
