"""How precisely a mean over problems is known: its variance, from problems, clusters and seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Precision:
    """Means over seeds and problems with their variances, column by column.

    Seeds and problems are crossed: the variance of the mean is that from the choice of problems
    (or of clusters of problems, taken whole) plus that from the choice of seeds. What is left of
    both in the other is counted twice, which errs on the safe side.

    Attributes
    ----------
    mean, of_problems, of_seeds : arrays, shape (n_columns,)
        The mean and the two parts of its variance.
    seed_freedom : array, shape (n_columns,)
        Degrees of freedom of the part from seeds.
    tails : array, shape (n_columns,)
        Sum of squared squares over squared sum of squares of the units' deviations: 1 / n_units
        for deviations of one size, 1 where a single unit deviates.
    n_units : int
        Independent problems, or clusters of them.
    """

    mean: Floats
    of_problems: Floats
    of_seeds: Floats
    seed_freedom: Floats
    tails: Floats
    n_units: int

    @property
    def variance(self) -> Floats:
        """Variance of the mean."""
        return self.of_problems + self.of_seeds

    def critical(self, tail: Floats | float, of_problems: Floats | float | None = None) -> Floats:
        """How many standard errors the mean exceeds with a chance of ``tail``.

        Student's t of each part, weighed by the part's variance (Cochran and Cox 1950). That with
        Satterthwaite's degrees of freedom is too small far out: with three seeds, whose variance is
        often small by chance, 1 in 240 comes as often as 1 in 40.

        ``of_problems``: degrees of freedom of the problems' part; default: one less than there are
        units.
        """
        units = max(self.n_units - 1, 1) if of_problems is None else of_problems
        alone = -special.stdtrit(units, tail)
        seeds = -special.stdtrit(self.seed_freedom, tail)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(self.of_seeds > 0, self.of_seeds / self.variance, 0.0)
        return np.asarray(alone + weight * (seeds - alone))


def satterthwaite(*parts: tuple[Floats, Floats | float]) -> Floats:
    """Degrees of freedom of a sum of variances, each given with its own."""
    total = np.sum([variance for variance, _ in parts], axis=0)
    spread = np.sum([variance**2 / freedom for variance, freedom in parts], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, total**2 / spread, parts[0][1])


def precision(values: Floats, clusters: npt.ArrayLike | None = None) -> Precision:
    """Mean and variance of values of shape (n_seeds, n_problems, n_columns)."""
    n_seeds, n_problems, _ = values.shape
    of_problems = values.mean(axis=0)
    mean = of_problems.mean(axis=0)
    deviations = summed(of_problems - mean, clusters)
    squares = (deviations**2).sum(axis=0)
    n_units = len(deviations)
    between = squares * n_units / max(n_units - 1, 1) / n_problems**2
    of_seeds = np.zeros_like(mean)
    if n_seeds > 1:
        of_seeds = values.mean(axis=1).var(axis=0, ddof=1) / n_seeds
    with np.errstate(divide="ignore", invalid="ignore"):
        tails = np.where(squares > 0, (deviations**4).sum(axis=0) / squares**2, 1.0)
    tiny = 1e-24 * np.maximum(mean**2, 1e-300)  # rounding of equal values
    between, of_seeds = (np.where(part > tiny, part, 0.0) for part in (between, of_seeds))
    freedom = np.full_like(mean, max(n_seeds - 1, 1))
    return Precision(mean, between, of_seeds, freedom, tails, n_units)


def cluster_numbers(clusters: npt.ArrayLike, n_problems: int) -> npt.NDArray[np.intp]:
    """Number the clusters of the problems 0, 1, ..."""
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if labels.shape != (n_problems,):
        raise ValueError(f"clusters has shape {labels.shape}, but there are {n_problems} problems")
    return labels


def summed(values: Floats, clusters: npt.ArrayLike | None) -> Floats:
    """Sum rows of one cluster; rows as they are where there are no clusters."""
    if clusters is None:
        return values
    labels = cluster_numbers(clusters, len(values))
    result = np.zeros((int(labels.max()) + 1, values.shape[1]))
    np.add.at(result, labels, values)
    return result


def korn_graubard(known: Precision, confidence: float, top: Floats | float = 1.0) -> Floats:
    """Clopper-Pearson interval at the effective number of problems, shape (2, n_columns).

    Means of values between 0 and ``top``. The effective number is that of yes-or-no problems
    whose mean would be known as precisely, less what estimating the variance costs. Where no
    problem deviates the data tell no variance: every unit counts as one yes or no.

    Where the values spread less than yes and no would, there are more effective problems than
    units; these are believed only so far as the deviations don't rest on a few units.
    """
    tail = (1 - confidence) / 2
    z = special.ndtri(tail)
    share = np.clip(known.mean / top, 0.0, 1.0)
    variance = known.variance / np.square(top)
    units = float(known.n_units)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.where(variance > 0, share * (1 - share) / variance, units)
    paid = raw * (z / known.critical(tail)) ** 2
    carried = np.maximum(np.minimum(units, 2 / known.tails) - 1, 1.0)
    trusted = raw * (z / known.critical(tail, carried)) ** 2
    size = np.where(
        raw > units, np.minimum(paid, np.maximum(np.minimum(paid, units), trusted)), paid
    )
    size = np.where(variance > 0, np.maximum(size, 1e-3), units)
    hits = share * size
    with np.errstate(divide="ignore", invalid="ignore"):
        low = special.betaincinv(hits, size - hits + 1, tail)
        high = special.betaincinv(hits + 1, size - hits, 1 - tail)
    low = np.where(share <= 0, 0.0, np.where(share >= 1, tail ** (1 / size), low))
    high = np.where(share >= 1, 1.0, np.where(share <= 0, 1 - tail ** (1 / size), high))
    return np.stack([np.minimum(low, share), np.maximum(high, share)]) * top
