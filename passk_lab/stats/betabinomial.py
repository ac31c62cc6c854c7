"""Beta-binomial populations of problems: the fit of accuracies to counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from passk_lab.stats._likelihood import (
    Model,
    Numbers,
    check_model,
    distinct_counts,
    fit_rows,
    new_pass_at_k,
    refuse_empty,
    seen_pass_at_k,
    whole_counts,
    whole_k,
)

__all__ = ["BetaBinomial", "fit_beta_binomial"]


@dataclass(frozen=True)
class BetaBinomial:
    """A population of problems: accuracies p are 0, 1 or Beta(α, β) distributed.

    Parameters
    ----------
    mean : float
        Mean of the beta part, α / (α + β).
    concentration : float
        α + β. Two limits are allowed: infinite (every p of the beta part is ``mean``: a binomial)
        and 0 (p is 1 with probability ``mean``, else 0).
    p_zero, p_one : float
        Shares of the problems with p = 0 and p = 1 exactly.
    loglik : float
        Log-likelihood at the maximum, binomial coefficients included, for a fit.
    n_problems : int
        Problems of the fit.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> population = BetaBinomial.from_shape(0.5, 1.5)
    >>> population.pass_at_k([1, 10, 1000]).round(3).tolist()
    [0.25, 0.664, 0.964]

    What is known about single problems of which 0 and 3 of 10 samples were correct:

    >>> population.posterior_pass_at_k(10, [0, 3], 10).round(3).tolist()
    [0.272, 0.917]
    """

    mean: float
    concentration: float
    p_zero: float = 0.0
    p_one: float = 0.0
    loglik: float = np.nan
    n_problems: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean={self.mean} must be between 0 and 1")
        if not self.concentration >= 0:
            raise ValueError(f"concentration={self.concentration} must not be negative")
        if not (self.p_zero >= 0 and self.p_one >= 0 and self.p_zero + self.p_one <= 1):
            raise ValueError(
                f"p_zero={self.p_zero} and p_one={self.p_one} must be shares of the problems, "
                "together at most 1"
            )

    @classmethod
    def from_shape(
        cls, alpha: float, beta: float, p_zero: float = 0.0, p_one: float = 0.0
    ) -> BetaBinomial:
        """Make a population from α and β, both positive and finite."""
        if not (0 < alpha < np.inf and 0 < beta < np.inf):
            raise ValueError(f"alpha={alpha} and beta={beta} must be positive and finite")
        return cls(alpha / (alpha + beta), alpha + beta, p_zero, p_one)

    @property
    def alpha(self) -> float:
        """α of the beta part; infinite or 0 in the limits."""
        return self.concentration * self.mean if self.mean > 0 else 0.0

    @property
    def beta(self) -> float:
        """β of the beta part; infinite or 0 in the limits."""
        return self.concentration * (1 - self.mean) if self.mean < 1 else 0.0

    @property
    def limit(self) -> Literal["binomial", "two-point"] | None:
        """Which limit of the beta distribution this is.

        "binomial": the counts vary no more than if all problems (of the beta part) were equally
        hard. "two-point": every problem is solved always or never.
        """
        if self.concentration == np.inf:
            return "binomial"
        return "two-point" if self.concentration == 0 else None

    def pass_at_k(self, k: npt.ArrayLike) -> Any:
        """Expected pass@k of a new problem, E[1 - (1 - p)^k].

        For the beta part 1 - B(α, β+k) / B(α, β), exact to about 1e-13 relative.

        Parameters
        ----------
        k : array_like of int
            At least 1.

        Returns
        -------
        float or array of float
            The shape of ``k``.
        """
        draws = whole_k(k)
        value = new_pass_at_k(self._numbers(), draws.ravel().astype(np.float64))[0].reshape(
            draws.shape
        )
        return float(value) if draws.ndim == 0 else value

    def posterior_pass_at_k(
        self, n_samples: npt.ArrayLike, n_correct: npt.ArrayLike, k: npt.ArrayLike
    ) -> Any:
        """Expected pass@k of k fresh samples of a problem with c of n correct so far.

        Parameters
        ----------
        n_samples, n_correct, k : array_like of int
            They broadcast against each other; k may exceed n.

        Returns
        -------
        float or array of float

        Raises
        ------
        ValueError
            The counts are impossible under the population, as c > 0 where every p is 0.
        """
        n, c = whole_counts(n_samples, n_correct)
        n, c, draws = np.broadcast_arrays(n, c, whole_k(k))
        shape, flat = n.shape, [v.ravel().astype(np.float64) for v in (n, c, draws)]
        value = seen_pass_at_k(self._numbers(), *flat)
        impossible = np.isnan(value[0])
        if impossible.any():
            where = int(np.argmax(impossible))
            raise ValueError(
                f"n_correct={flat[1][where]:.0f} of n_samples={flat[0][where]:.0f} can't happen in "
                f"this population ({self})"
            )
        return float(value[0, 0]) if not shape else value[0].reshape(shape)

    def _numbers(self) -> Numbers:
        s = self.concentration
        rho = 0.0 if s == np.inf else 1 / (1 + s)
        return Numbers.of(*(np.array([v]) for v in (self.mean, rho, self.p_zero, self.p_one)))


def fit_beta_binomial(
    n_samples: npt.ArrayLike,
    n_correct: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    model: Model = "beta-binomial",
) -> BetaBinomial:
    """Fit a population of problems by maximum likelihood.

    Parameters
    ----------
    n_samples, n_correct : array_like of int, shape (n_problems,)
        Samples and correct samples of each problem; n may differ between problems.
    weights : array_like of float, shape (n_problems,), optional
        How often each problem counts; a weight of 2 is the same as the problem twice.
    model : {"beta-binomial", "zero-inflated", "zero-one-inflated"}
        See the module's description.

    Returns
    -------
    BetaBinomial
        Always finite, and a maximum. At the ends of the model, which data often reach, it is a
        limit (`BetaBinomial.limit`):

        - counts that vary no more than a binomial's give concentration = inf, "binomial";
        - where each problem has c = 0 or c = n, all zero included, concentration = 0,
          "two-point". No distribution of p fits such counts better, but a tiny p of the unsolved
          problems fits as well: the extrapolation is then only a lower bound.

    Raises
    ------
    ValueError
        Counts or weights are impossible, or n is too small for the model: a single sample of
        each problem says nothing about how problems differ.
    RuntimeError
        The search did not reach a maximum.

    Notes
    -----
    Newton's method on (logit mean, 1 / (1 + α + β)) with bounds. Inflated models start from three
    points, because their likelihood may have several maxima.

    Examples
    --------
    >>> fit = fit_beta_binomial([8] * 6, [0, 0, 1, 3, 6, 8])
    >>> round(fit.alpha, 3), round(fit.beta, 3), round(fit.pass_at_k(64), 3)
    (0.294, 0.471, 0.812)
    """
    n, c = whole_counts(n_samples, n_correct)
    if n.ndim != 1 or n.shape != c.shape:
        raise ValueError(
            f"n_samples has shape {n.shape}, n_correct {c.shape}; give one number for each problem"
        )
    w = np.ones(len(n)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != n.shape or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise ValueError(
            "weights must be one finite number >= 0 for each problem, not all 0"
            if len(n)
            else "there are no problems to fit"
        )
    n, c, w = n[w > 0], c[w > 0], w[w > 0]
    refuse_empty(n)
    check_model(model, n)
    n_once, c_once, mult = distinct_counts(n, c, w)
    fits, values = fit_rows(n_once, c_once, mult[None], model)
    mean, rho, p_zero, p_one = fits[0].tolist()
    concentration = np.inf if rho == 0 else (1 - rho) / rho
    return BetaBinomial(mean, concentration, p_zero, p_one, float(values[0]), len(n))
