"""Embedding diversity: how different the rollouts of one problem are in meaning.

`passk_lab.metrics.embedders` turns texts into rows, shape (n, d); metrics look at their directions
only, and raise a ValueError that names a row that is zero or not finite. `docs/diversity.md` has
the bias at 8, 32 and 128 texts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg

from passk_lab.metrics._modes import hill_of_shares
from passk_lab.metrics._vectors import Floats, sklearn_module, unit_rows
from passk_lab.metrics.registry import metric

__all__ = [
    "effective_rank",
    "pairwise_cosine_distance",
    "semantic_modes",
    "vendi_score",
]

THRESHOLD = 0.3  # cosine distance; see semantic_modes


@metric("embeddings", "cosine_distance")
def pairwise_cosine_distance(embeddings: npt.ArrayLike) -> float:
    """Mean of 1 - cosine over all pairs of different rows.

    With unit rows x_i this is 1 - (|Σ x_i|² - n) / (n (n - 1)): no loop over pairs. From 0 (all of
    one direction) to n / (n - 1); two rows at least.

    Examples
    --------
    >>> pairwise_cosine_distance([[1, 0], [2, 0], [0, 1]])
    0.6666666666666667
    """
    unit = unit_rows(embeddings)
    n = len(unit)
    if n < 2:
        raise ValueError("embeddings has one row, and a distance needs two; leave the problem out")
    together = unit.sum(axis=0)
    return float(max(0.0, 1 - (together @ together - n) / (n * (n - 1))))


@metric("embeddings", "vendi")
def vendi_score(embeddings: npt.ArrayLike, q: float = 1.0) -> float:
    """Vendi score: the effective number of different rows.

    The Hill number of order q of the eigenvalues of K / n, K the matrix of cosines: Friedman and
    Dieng (2023), equation 2; orders other than 1: Pasarkar and Dieng (2024). X Xᵀ and Xᵀ X share
    their eigenvalues other than 0, so that the eigenproblem is of size min(n, d), and so is the
    highest score.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
    q : float
        Order, from 0 (the rank) to inf (the inverse of the largest eigenvalue). Default: 1, the
        exponential of the entropy.

    Examples
    --------
    >>> [round(vendi_score([[1, 0], [2, 0], [0, 1]], q), 3) for q in (0, 1, 2, np.inf)]
    [2.0, 1.89, 1.8, 1.5]
    """
    order = float(q)
    if not order >= 0:
        raise ValueError(f"q={q} must be at least 0")
    return float(hill_of_shares(_spectrum(unit_rows(embeddings)), order)[0])


@metric("embeddings")
def effective_rank(embeddings: npt.ArrayLike) -> float:
    """Effective rank of the unit rows: the exponential entropy of their singular values.

    As the Vendi score of order 1, but of singular values σ / Σ σ in place of their squares, so that
    weak directions count for more: Roy and Vetterli (2007), equation 4. Rows are not centred.

    Examples
    --------
    >>> round(effective_rank([[1, 0], [2, 0], [0, 1]]), 3)
    1.971
    """
    sigma = np.sqrt(_spectrum(unit_rows(embeddings)))
    return float(hill_of_shares(sigma / sigma.sum(), 1)[0])


def semantic_modes(
    embeddings: npt.ArrayLike, threshold: float = THRESHOLD
) -> npt.NDArray[np.int64]:
    """Group rows by meaning: agglomerative clusters of average linkage. Needs scikit-learn.

    Memory grows with n²: 10,000 rows take 0.4 GB.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
    threshold : float
        Clusters are joined while the mean cosine distance of their rows is below it. What is one
        meaning depends on embedder and texts; look at some clusters before you trust their number.

    Returns
    -------
    array of int, shape (n,)
        The mode of each row: 0, 1, ... in the order of their first rows.

    Examples
    --------
    >>> semantic_modes([[0, 1], [1, 0], [0, 2], [1, 0.1]]).tolist()  # doctest: +SKIP
    [0, 1, 0, 1]
    """
    if not threshold > 0:
        raise ValueError(f"threshold={threshold} must be above 0; cosine distances go from 0 to 2")
    unit = unit_rows(embeddings)
    if len(unit) == 1:
        return np.zeros(1, dtype=np.int64)
    cluster = sklearn_module("cluster")
    found = cluster.AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=threshold
    ).fit_predict(unit)
    _, first, place = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64)


def _spectrum(unit: Floats) -> Floats:
    """Eigenvalues of the matrix of cosines over n, those above rounding."""
    n, d = unit.shape
    small = unit @ unit.T if n <= d else unit.T @ unit
    values = linalg.eigvalsh(small, overwrite_a=True, check_finite=False) / n
    return np.asarray(values[values > max(n, d) * np.finfo(np.float64).eps * values[-1]])
