"""Whether two runs differ: one statistic under two reference distributions; both must say so.

The statistic of a measure (pass@k at one k, distinct@k) is the mean difference over problems, D, by
its standard error. It is compared with what it would be

- if both runs were the same model: in each problem the samples of both runs are pooled and dealt
  out again. Exact for any numbers of samples, but it can't know that problems differ in what
  training did to them;
- if the runs were equally good over problems like these: the differences of whole problems (or
  clusters) change their signs at random. It knows how problems differ, but not that the noise of
  unequal numbers of samples is skewed.

A p-value is the larger of the two. Over several measures it is that of the largest statistic,
step by step [1]. Where seeds were trained, a third one must agree: Student's t of D with the
variance between seeds, by Cochran and Cox [3], adjusted by Holm [2].

References
----------
1. Westfall and Young (1993), Resampling-Based Multiple Testing.
2. Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Stat. 6.
3. Cochran and Cox (1950), Experimental Designs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from passk_lab.stats._precision import (
    Precision,
    cluster_numbers,
    korn_graubard,
    precision,
    satterthwaite,
    summed,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SNAP = 1e-12  # differences below are rounding
_TIE = 1 - 1e-9
_DEALS = 1 << 15  # redrawn problems of a pair: with many problems each has fewer, recombined
_LEAST_DEALS = 64


@dataclass(frozen=True)
class Samples:
    """A run's samples of each problem.

    Attributes
    ----------
    n, c : arrays of int, shape (n_seeds, n_problems)
        Samples and correct ones.
    modes : list of list of (ids, counts), optional
        Of each seed and problem: which correct answers there are, and how often.
    """

    n: Ints
    c: Ints
    modes: list[list[tuple[Ints, Ints]]] | None = None


@dataclass(frozen=True)
class Reference:
    """Differences of a run to a baseline, and what they would be without a change.

    Attributes
    ----------
    difference, error : arrays, shape (n_columns,)
        Mean difference and its standard error, of problems alone.
    statistic : array, shape (n_columns,)
    redrawn : list of arrays, shape (n_draws, n_columns)
        The statistic under each reference distribution, the observed one among them.
    exact : array, shape (n_columns,)
        p-value of the exact sign test where all differences are of one size, else 0.
    of_seeds : Precision or None
        Of the difference with its variance between seeds.
    limits : array, shape (2, n_columns)
        Paired limits from the intervals of both runs, for where there is no word.
    confidence : float
    """

    difference: Floats
    error: Floats
    statistic: Floats
    redrawn: list[Floats]
    exact: Floats
    of_seeds: Precision | None
    limits: Floats
    confidence: float

    @cached_property
    def p_values(self) -> Floats:
        """Two-sided, of each column alone."""
        found = [_share(part >= self.statistic * _TIE) for part in self.redrawn]
        found[-1] = np.where(self.exact > 0, self.exact, found[-1])
        return np.maximum.reduce([*found, self._of_seeds])

    def adjusted(self, columns: Sequence[int]) -> Floats:
        """Adjusted for these columns together, by the largest statistic, step by step."""
        chosen = np.asarray(columns)
        found = [_step_down(self.statistic[chosen], part[:, chosen]) for part in self.redrawn]
        alone = self._of_seeds[chosen]
        order = np.argsort(alone)
        holm = np.empty(len(columns))
        holm[order] = np.maximum.accumulate(alone[order] * np.arange(len(columns), 0, -1))
        return np.minimum(1.0, np.maximum.reduce([*found, holm, self.p_values[chosen]]))

    @cached_property
    def interval(self) -> Floats:
        """Limits of each difference alone, shape (2, n_columns)."""
        of_each = [_upper(part, self.confidence) for part in self.redrawn]
        return self._around(of_each, self.confidence)

    def band(self, columns: slice) -> Floats:
        """Limits that hold the differences of these columns at once."""
        largest = [_upper(part[:, columns].max(axis=1), self.confidence) for part in self.redrawn]
        n_columns = len(self.difference[columns])
        return self._around(largest, 1 - (1 - self.confidence) / n_columns)[:, columns]

    def _around(self, quantiles: Sequence[Any], confidence: float) -> Floats:
        half = np.where(self.error > 0, np.maximum.reduce(quantiles), 0.0) * self.error
        if self.of_seeds is not None:
            t = self._critical(self.of_seeds, (1 - confidence) / 2)
            half = np.maximum(half, t * np.sqrt(self.of_seeds.variance))
        low, high = self.difference - half, self.difference + half
        open_ = ((low <= SNAP) & (high >= -SNAP)) | (self.error == 0)
        low = np.where(open_, np.fmin(low, self.limits[0]), low)
        high = np.where(open_, np.fmax(high, self.limits[1]), high)
        return np.stack([low, high])

    @cached_property
    def _of_seeds(self) -> Floats:
        known = self.of_seeds
        if known is None:
            return np.zeros_like(self.difference)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.abs(self.difference) / np.sqrt(known.variance)
        # The chance whose critical value is the one that was found, by bisection.
        low, high = np.full_like(found, -80.0), np.full_like(found, np.log(0.5))
        for _ in range(50):
            middle = (low + high) / 2
            beyond = self._critical(known, np.exp(middle)) < found
            low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
        return np.where(np.abs(self.difference) < SNAP, 1.0, 2 * np.exp(high))

    @staticmethod
    def _critical(known: Precision, tail: Floats | float) -> Floats:
        # Two seeds in all: their variance is often close to 0 by chance, and its single degree of
        # freedom must not be made up for by the problems'.
        units = np.where(known.seed_freedom < 2, 1.0, max(known.n_units - 1, 1))
        return known.critical(tail, units)


def _share(marks: npt.NDArray[np.bool_]) -> Floats:
    return np.asarray(marks.mean(axis=0))


def _upper(redrawn: Floats, confidence: float) -> Floats:
    """The smallest value that at most 1 - confidence of the rows exceed."""
    place = int(np.ceil(confidence * len(redrawn) - 1e-9)) - 1
    return np.asarray(np.partition(redrawn, place, axis=0)[place])


def _step_down(statistic: Floats, redrawn: Floats) -> Floats:
    """Westfall and Young: each is compared with the largest of those not larger than itself."""
    order = np.argsort(-statistic, kind="stable")
    # From the smallest statistic up, the largest redrawn one so far.
    largest = np.maximum.accumulate(redrawn[:, order[::-1]], axis=1)[:, ::-1]
    alone = _share(largest >= statistic[order] * _TIE)
    found = np.empty(len(order))
    found[order] = np.maximum.accumulate(alone)
    return found


@dataclass(frozen=True)
class Deals:
    """Redrawn differences of the problems whose samples can be dealt out differently.

    Attributes
    ----------
    problems : array of int, shape (n_live,)
    differences : array, shape (n_live, n_deals, n_columns)
    answers_alone : array of bool, shape (n_live,)
        Problems that are always solved, where only their answers can be dealt differently.
    """

    problems: npt.NDArray[np.intp]
    differences: Floats
    answers_alone: npt.NDArray[np.bool_]


Redraw = Callable[[np.random.Generator, int], Deals]


def reference(
    mine: Floats,
    base: Floats,
    redraw: Redraw | None,
    rng: np.random.Generator,
    n_draws: int,
    confidence: float,
    clusters: npt.ArrayLike | None = None,
) -> Reference:
    """Compare values of shape (n_seeds, n_problems, n_columns) on the same problems.

    ``redraw`` deals samples out anew (see `redrawing`); None where that can't be done, which
    leaves the signs.
    """
    gaps = mine.mean(axis=0) - base.mean(axis=0)
    gaps[np.abs(gaps) < SNAP] = 0.0
    difference = gaps.mean(axis=0)
    difference[np.abs(difference) < SNAP] = 0.0
    paired = _Paired(gaps, clusters)
    for_deals, for_signs = rng.spawn(2)
    dealt = None
    if redraw is not None:
        dealt = _dealt(paired, redraw(for_deals, n_draws), for_deals, n_draws)
    floor = np.zeros_like(difference)
    if dealt is not None:
        floor = ((dealt[0] ** 2).sum(axis=0) + difference**2) / (len(dealt[0]) + 1)
    flipped = _flipped(paired, for_signs, n_draws)
    redrawn = [
        _statistics(np.vstack([difference, means]), np.vstack([paired.variance, variances]), floor)
        for means, variances in (part for part in (dealt, flipped) if part is not None)
    ]
    error = np.sqrt(np.maximum(paired.variance, floor))
    known = [precision(values, clusters) for values in (mine, base)]
    both = np.concatenate([mine, base])
    top = np.maximum(1.0, both.max(axis=(0, 1)))
    top[both.min(axis=(0, 1)) < 0] = np.nan  # no limits are known
    ends = [korn_graubard(one, confidence, top) for one in known]
    return Reference(
        difference,
        error,
        redrawn[0][0],
        redrawn,
        _sign_test(paired.sums),
        _with_seeds(error, len(paired.sizes), known),
        _limits(known, ends, _correlation(mine, base), error, confidence),
        confidence,
    )


class _Paired:
    """Differences of problems, gathered by cluster."""

    def __init__(self, gaps: Floats, clusters: npt.ArrayLike | None) -> None:
        self.n_problems = len(gaps)
        self.clusters = None
        self.sizes = np.ones(self.n_problems)
        if clusters is not None:
            self.clusters = cluster_numbers(clusters, self.n_problems)
            self.sizes = np.bincount(self.clusters).astype(float)
        self.sums = summed(gaps, self.clusters)  # (n_units, n_columns)
        self.variance = self.variance_of(
            self.sums.sum(axis=0), (self.sums**2).sum(axis=0), self.sizes @ self.sums
        )

    def variance_of(self, total: Floats, squares: Floats, weighted: Floats) -> Floats:
        """Variance of the mean from sums of the units' sums, their squares, and by size."""
        mean = total / self.n_problems
        spread = squares - 2 * mean * weighted + mean**2 * (self.sizes**2).sum()
        units = len(self.sizes)
        spread = np.where(spread > SNAP * squares, spread, 0.0)  # less is rounding
        return np.asarray(spread * units / max(units - 1, 1) / self.n_problems**2)


def _statistics(means: Floats, variances: Floats, floor: Floats) -> Floats:
    error = np.sqrt(np.maximum(variances, floor))
    moved = np.abs(means) >= SNAP
    with np.errstate(divide="ignore"):
        return np.where(moved, np.abs(means) / np.where(moved, error, 1.0), 0.0)


def _flipped(paired: _Paired, rng: np.random.Generator, n_draws: int) -> tuple[Floats, Floats]:
    """Means and variances with random signs of the units; all signs where these are few."""
    sums = paired.sums
    live = np.flatnonzero((sums != 0).any(axis=1))
    if 2 ** len(live) <= n_draws + 1:
        minus = (np.arange(1, 2 ** len(live))[:, None] >> np.arange(len(live)) & 1).astype(float)
    else:
        packed = rng.integers(0, 256, (n_draws, -(-len(sums) // 8)), dtype=np.uint8)
        minus = np.unpackbits(packed, axis=1, count=len(sums))[:, live].astype(float)
    some, sizes = sums[live], paired.sizes[live, None]
    total = some.sum(axis=0) - 2 * (minus @ some)
    squares = np.broadcast_to((some**2).sum(axis=0), total.shape)
    weighted = total
    if (sizes != 1).any():
        weighted = (some * sizes).sum(axis=0) - 2 * (minus @ (some * sizes))
    return total / paired.n_problems, paired.variance_of(total, squares, weighted)


def _dealt(
    paired: _Paired, deals: Deals, rng: np.random.Generator, n_draws: int
) -> tuple[Floats, Floats]:
    """Means and variances with redrawn samples: every problem takes one of its deals at random.

    Problems without deals keep their difference, which is 0.
    """
    n_deals, n_columns = deals.differences.shape[1:]
    total, squares, weighted, one = (np.zeros((n_draws, n_columns)) for _ in range(4))
    labels = deals.problems if paired.clusters is None else paired.clusters[deals.problems]
    order = np.argsort(labels, kind="stable")
    # Streams of their own: what is found of pass@k doesn't depend on whether answers are counted.
    streams = rng.spawn(2)
    start = 0
    for end in np.flatnonzero(np.diff(labels[order], append=-1)).tolist():
        unit = np.zeros_like(total) if end > start else None
        for place in order[start : end + 1]:
            if n_deals < n_draws:
                stream = streams[int(deals.answers_alone[place])]
                chosen = stream.integers(0, n_deals, n_draws)
                np.take(deals.differences[place], chosen, axis=0, out=one, mode="clip")
            else:
                one[...] = deals.differences[place]
            if unit is not None:
                unit += one
        of_unit = one if unit is None else unit
        total += of_unit
        if paired.clusters is not None:
            weighted += paired.sizes[labels[order[end]]] * of_unit
        squares += np.square(of_unit, out=of_unit)
        start = end + 1
    weighted = total if paired.clusters is None else weighted
    return total / paired.n_problems, paired.variance_of(total, squares, weighted)


def _sign_test(sums: Floats) -> Floats:
    """Exact p-values of columns whose units differ by one size or not at all, else 0."""
    size = np.abs(sums).max(axis=0)
    moved = np.abs(sums) > SNAP
    alike = (~moved | (np.abs(sums) >= size * _TIE)).all(axis=0)
    up, down = (sums > SNAP).sum(axis=0), (sums < -SNAP).sum(axis=0)
    found = np.minimum(1.0, 2 * special.bdtr(np.minimum(up, down), up + down, 0.5))
    return np.where(alike, found, 0.0)


def _with_seeds(error: Floats, n_units: int, known: Sequence[Precision]) -> Precision | None:
    of_seeds = known[0].of_seeds + known[1].of_seeds
    if not of_seeds.any():
        return None
    freedom = satterthwaite(*((one.of_seeds, one.seed_freedom) for one in known))
    flat = np.ones_like(error)
    return Precision(flat, error**2, of_seeds, freedom, flat, n_units)


def _limits(
    known: Sequence[Precision],
    ends: Sequence[Floats],
    correlation: Floats,
    error: Floats,
    confidence: float,
) -> Floats:
    """Limits of a difference from those of its parts (method of variance estimates recovery).

    Zou and Donner (2008), Construction of confidence limits about effect measures, Stat. Med. 27.
    Where no problem differs and none could by chance, a share of problems may still: as many as
    would show up in these with a chance of less than ``confidence``.
    """
    (mine, base), (of_mine, of_base) = known, ends
    below, above = mine.mean - of_mine[0], of_mine[1] - mine.mean
    base_below, base_above = base.mean - of_base[0], of_base[1] - base.mean
    low = below**2 + base_above**2 - 2 * correlation * below * base_above
    high = above**2 + base_below**2 - 2 * correlation * above * base_below
    gap = mine.mean - base.mean
    unseen = np.where(error > 0, 0.0, 1 - ((1 - confidence) / 2) ** (1 / mine.n_units))
    below, above = (np.maximum(np.sqrt(np.maximum(part, 0)), unseen) for part in (low, high))
    return np.stack([gap - below, gap + above])


def _correlation(mine: Floats, base: Floats) -> Floats:
    first, second = (values.mean(axis=0) for values in (mine, base))
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.where(scale > 0, (first * second).sum(axis=0) / np.where(scale > 0, scale, 1), 0.0)


# ------------------------------------------------------------------------ dealing samples anew


def redrawing(mine: Samples, base: Samples, columns: Sequence[Column]) -> Redraw:
    """Pool the samples of both runs in each problem and deal them out again.

    The difference of each column in each deal, for the problems where it can differ.
    """
    n = np.concatenate([mine.n, base.n])
    c = np.concatenate([mine.c, base.c])
    total, right = n.sum(axis=0), c.sum(axis=0)
    answers = _pooled(mine, base) if any(column.distinct for column in columns) else None
    mixed = (right > 0) & (right < total)
    several = np.zeros_like(mixed)
    if answers is not None:
        several = np.array([len(counts) > 1 for counts in answers])
    live = np.flatnonzero(mixed | several)
    signs = np.concatenate(
        [np.full(len(mine.n), 1 / len(mine.n)), np.full(len(base.n), -1 / len(base.n))]
    )

    def redraw(rng: np.random.Generator, n_draws: int) -> Deals:
        for_hits, for_answers = rng.spawn(2)
        n_deals = min(n_draws, max(_LEAST_DEALS, _DEALS // max(mixed.sum(), 1)))
        hits = np.repeat(n[:, live, None], n_deals, axis=2)
        sure = ~mixed[live]
        some = np.flatnonzero(mixed)
        hits[:, ~sure] = _deal(for_hits, right[some], total[some], n[:, some], n_deals)
        result = np.zeros((len(live), n_deals, len(columns)))
        for place, column in enumerate(columns):
            if not column.distinct:
                for sign, size, drawn in zip(signs, n[:, live], hits, strict=True):
                    result[:, :, place] += sign * column.of(size[:, None], drawn)
        if answers is not None:
            found = [(place, column) for place, column in enumerate(columns) if column.distinct]
            counts = [answers[i] for i in live]
            _deal_answers(for_answers, counts, n[:, live], hits, signs, found, result)
        return Deals(live, result, sure)

    return redraw


@dataclass(frozen=True)
class Column:
    """A measure by counts: its value for n samples, c of them correct, from a table.

    With ``distinct`` the counts are those of each correct answer, and values are summed.
    """

    function: Callable[[Any, Any], Any]
    distinct: bool
    tables: dict[int, Floats] = field(default_factory=dict)

    def of(self, n: Ints, c: Ints) -> Floats:
        sizes = np.unique(n)
        for size in sizes.tolist():
            if size not in self.tables:
                made = self.function(size, np.arange(size + 1))
                self.tables[size] = np.asarray(made, dtype=np.float64).ravel()
        starts = np.cumsum([0, *(sizes[:-1] + 1)])
        table = np.concatenate([np.zeros(0), *(self.tables[size] for size in sizes.tolist())])
        return np.asarray(table[starts[np.searchsorted(sizes, n)] + c])


def _deal(rng: np.random.Generator, right: Ints, total: Ints, sizes: Ints, n_deals: int) -> Ints:
    """Hits of each group, shape (n_groups, n_problems, n_deals): hypergeometric, one by one."""
    right = np.broadcast_to(right[:, None], (len(right), n_deals))
    left = total[:, None]
    found = []
    for size in sizes[:-1]:
        drawn = rng.hypergeometric(right, left - right, size[:, None])
        found.append(drawn)
        right, left = right - drawn, left - size[:, None]
    return np.stack([*found, right])


def _pooled(mine: Samples, base: Samples) -> list[Ints]:
    """How often each correct answer of a problem occurs in both runs, rarest first."""
    if mine.modes is None or base.modes is None:
        raise ValueError("distinct answers need the column 'answer'")
    found = []
    for cells in zip(*mine.modes, *base.modes, strict=True):
        ids = np.concatenate([ids for ids, _ in cells])
        counts = np.concatenate([counts for _, counts in cells])
        _, places = np.unique(ids, return_inverse=True)
        found.append(np.sort(np.bincount(places, counts).astype(np.int64)))
    return found


def _deal_answers(
    rng: np.random.Generator,
    answers: Sequence[Ints],
    sizes: Ints,
    hits: Ints,
    signs: Floats,
    columns: Sequence[tuple[int, Column]],
    result: Floats,
) -> None:
    """Deal the correct answers out among the hits, answer by answer, and add their columns."""
    longest = max((len(counts) for counts in answers), default=0)
    padded = np.zeros((len(answers), longest), np.int64)
    for row, counts in zip(padded, answers, strict=True):
        row[longest - len(counts) :] = counts  # the commonest last: what is left is its share
    waiting = hits.copy()
    for at in range(longest):
        live = np.flatnonzero(padded[:, at])
        count = np.broadcast_to(padded[live, at][:, None], (len(live), hits.shape[2]))
        for group, sign in enumerate(signs):
            open_hits = waiting[group][live]
            if at == longest - 1:
                drawn = open_hits
            elif group == len(signs) - 1:
                drawn = count
            else:
                others = sum(waiting[later][live] for later in range(group + 1, len(signs)))
                drawn = rng.hypergeometric(open_hits, others, count)
            count = count - drawn
            waiting[group][live] = open_hits - drawn
            for place, column in columns:
                result[live, :, place] += sign * column.of(sizes[group, live][:, None], drawn)
