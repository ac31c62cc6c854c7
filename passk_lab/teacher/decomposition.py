"""What a teacher's mutual-information matrix is made of.

M[i, j] = log π(y_i | c_j) - log π(y_i), nats, for rollouts y_i and demonstrations c_j of a problem.
With weights w of the rollouts and reference weights ν of the demonstrations, both adding up to 1,

    M[i, j] = μ + a_i + b_j + g_ij,  Σ w a = Σ ν b = 0,  Σ_j ν_j g_ij = Σ_i w_i g_ij = 0

- μ moves all answers alike;
- a_i, the rollout's effect, is the teacher's own preference: it tilts ratios whatever is shown;
- b_j, the demonstration's effect, says how informative it is, and cancels under reverse KL;
- g_ij, the interaction, is affinity; where y_i and c_j are the same answer it is copying.

The tilt under demonstrations drawn from q is s_i = μ + a_i + Σ q b + Σ_j (q_j - ν_j) g_ij.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from passk_lab.teacher._arguments import Bools, Floats, refuse_entry, shares

__all__ = ["Decomposition", "decompose"]


class Decomposition:
    """A matrix taken apart into μ + a_i + b_j + g_ij, which add up to it exactly.

    Parameters
    ----------
    pcmi : array_like, shape (n_rollouts, n_demos)
        Nats. NaN is a missing pair: the additive terms are then fitted to the others by weighted
        least squares. A row with -inf is a vetoed rollout, which is kept out of the fit.
    rollout_weights : array_like, shape (n_rollouts,), optional
        w up to a factor; uniform by default.
    demo_weights : array_like, shape (n_demos,), optional
        Reference ν up to a factor; uniform by default. Not the law that training draws from:
        copying of frequent answers would hide in a.

    Attributes
    ----------
    mean : float
        μ, nats.
    rollout_effect : array, shape (n_rollouts,)
        a; -inf for vetoed rollouts.
    demo_effect : array, shape (n_demos,)
        b.
    interaction : array, shape (n_rollouts, n_demos)
        g; NaN where the pair is missing or the rollout vetoed.
    rollout_weights, demo_weights : array
        w and ν, adding up to 1. Vetoed rollouts have weight 0.

    Raises
    ------
    ValueError
        A value is +inf; a weight is negative; every row is vetoed; a row or column has no scored
        pair; the scored pairs fall apart into groups that share neither row nor column.

    Examples
    --------
    >>> parts = Decomposition([[3.0, 1.0], [0.0, 0.0]])
    >>> parts.mean, parts.rollout_effect.tolist(), parts.demo_effect.tolist()
    (1.0, [1.0, -1.0], [0.5, -0.5])
    >>> parts.interaction.tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """

    def __init__(
        self,
        pcmi: npt.ArrayLike,
        rollout_weights: npt.ArrayLike | None = None,
        demo_weights: npt.ArrayLike | None = None,
    ) -> None:
        matrix = np.asarray(pcmi, dtype=np.float64)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"pcmi must have shape (n_rollouts, n_demos), not {matrix.shape}")
        message = ": the rollout has no probability without the demonstration; leave it out"
        refuse_entry(matrix == np.inf, matrix, "pcmi", message)
        w = shares(rollout_weights, len(matrix), "rollout_weights")
        nu = shares(demo_weights, matrix.shape[1], "demo_weights")
        vetoed = (matrix == -np.inf).any(axis=1)
        if not w[~vetoed].sum() > 0:
            raise ValueError("every rollout with weight is ruled out by some demonstration")
        w = np.where(vetoed, 0.0, w)
        w = w / w.sum()
        scored = ~np.isnan(matrix) & ~vetoed[:, None]
        values = np.where(scored, matrix, 0.0)
        if np.isnan(matrix[~vetoed]).any():
            _refuse_unconnected(scored, w, nu, vetoed)
            mean, a, b = _fitted(values, scored, w, nu)
        else:
            row_means, column_means = values @ nu, w @ values
            mean = float(w @ row_means)
            a, b = row_means - mean, column_means - mean
        self.pcmi, self.mean, self.demo_effect = matrix, mean, b
        self.rollout_effect = np.where(vetoed, -np.inf, a)
        self.interaction = np.where(scored, values - mean - a[:, None] - b, np.nan)
        self.rollout_weights, self.demo_weights = w, nu

    @property
    def vetoed(self) -> Bools:
        """Rollouts that some demonstration rules out, shape (n_rollouts,)."""
        return self.rollout_effect == -np.inf

    @property
    def n_missing(self) -> int:
        """Pairs that were not scored."""
        return int(np.isnan(self.pcmi).sum())

    @property
    def filled(self) -> Floats:
        """The matrix with missing pairs replaced by μ + a_i + b_j."""
        additive = self.mean + self.rollout_effect[:, None] + self.demo_effect
        return np.where(np.isnan(self.pcmi), additive, self.pcmi)

    def tilt(self, demo_law: npt.ArrayLike) -> Floats:
        """Tilt s of each rollout, demonstrations drawn from a law (up to a factor).

        Missing pairs are filled; -inf where a demonstration with weight rules the rollout out.
        """
        q = shares(demo_law, len(self.demo_effect), "demo_law")
        return self.filled[:, q > 0] @ q[q > 0]

    def shares(self) -> dict[str, float]:
        """Shares of the weighted sum of squares: rollout, demo, interaction.

        They add up to 1 if no pair is missing; if some are, only ``1 - interaction``, the share of
        all additive terms, is to be relied on. NaN for a matrix that is constant.
        """
        weights, values = self._known(self.pcmi)
        centre = (weights * values).sum() / weights.sum()
        total = (weights * (values - centre) ** 2).sum()
        effect = np.where(self.vetoed, 0.0, self.rollout_effect)
        squares = {
            "rollout": (weights * effect[:, None] ** 2).sum(),
            "demo": (weights * self.demo_effect**2).sum(),
            "interaction": (weights * self._known(self.interaction)[1] ** 2).sum(),
        }
        if total <= 1e-24 * np.abs(values).max() ** 2:
            return dict.fromkeys(squares, float("nan"))
        return {name: float(value / total) for name, value in squares.items()}

    def within_minus_between(
        self, rollout_modes: Sequence[Any], demo_modes: Sequence[Any]
    ) -> float:
        """Mean interaction of pairs with the same label less that of others, nats.

        Weighted by w and ν; NaN without pairs of either kind.
        """
        shape = len(rollout_modes), len(demo_modes)
        if shape != self.pcmi.shape:
            raise ValueError(f"{shape} labels for a matrix of {self.pcmi.shape}; give one for each")
        same = np.array([[row == column for column in demo_modes] for row in rollout_modes])
        weights, g = self._known(self.interaction)
        kinds = [weights * kind for kind in (same, ~same)]
        if not all(kind.any() for kind in kinds):
            return float("nan")
        within, between = ((kind * g).sum() / kind.sum() for kind in kinds)
        return float(within - between)

    def asymmetry(
        self,
        rollout_modes: Sequence[Any] | None = None,
        demo_modes: Sequence[Any] | None = None,
    ) -> float:
        """Root mean square of M - Mᵀ off the diagonal, nats; 0 if the model's reading is coherent.

        Mutual information is symmetric where rollout and demonstration are exchangeable draws of
        one joint law. Labels say which rows and columns are the same answers; by default they are
        so in order. Pairs of which one is missing or -inf are left out; NaN if there is none.
        """
        matrix = self.pcmi
        if rollout_modes is not None and demo_modes is not None:
            rows, columns = list(rollout_modes), list(demo_modes)
            both = [mode for mode in rows if mode in columns]
            places = ([labels.index(mode) for mode in both] for labels in (rows, columns))
            matrix = matrix[np.ix_(*places)]
        elif len(set(matrix.shape)) > 1:
            raise ValueError(
                f"pcmi has shape {matrix.shape}; rows and columns must be the same answers"
            )
        upper = np.triu_indices(len(matrix), 1)
        pairs = np.stack([matrix[upper], matrix.T[upper]])
        there, back = pairs[:, np.isfinite(pairs).all(axis=0)]
        return float(np.sqrt(np.mean((there - back) ** 2))) if len(there) else float("nan")

    def _known(self, values: Floats) -> tuple[Floats, Floats]:
        """Weights of the pairs, and values; 0 where missing."""
        keep = ~np.isnan(self.interaction)
        weights = np.outer(self.rollout_weights, self.demo_weights) * keep
        return weights, np.where(keep, values, 0.0)


decompose = Decomposition
"""The verb for it, for use as a function."""


def _refuse_unconnected(scored: Bools, w: Floats, nu: Floats, vetoed: Bools) -> None:
    for what, empty in (
        ("rollout", (scored @ nu == 0) & ~vetoed),
        ("demonstration", w @ scored == 0),
    ):
        if empty.any():
            raise ValueError(
                f"{what} {int(np.argmax(empty))} has no scored pair with weight; score one, or "
                f"leave the {what} out"
            )
    rows, columns = np.nonzero(np.outer(w, nu) * scored)
    size = sum(scored.shape)
    columns = len(w) + columns
    graph = coo_array((np.ones(len(rows)), (rows, columns)), (size, size))
    used = np.unique(np.concatenate([rows, columns]))
    n_groups = len(np.unique(connected_components(graph, directed=False)[1][used]))
    if n_groups > 1:
        raise ValueError(
            f"the scored pairs fall apart into {n_groups} groups that share neither rollout nor "
            "demonstration, so that their effects can't be compared; score pairs across"
        )


def _fitted(values: Floats, scored: Bools, w: Floats, nu: Floats) -> tuple[float, Floats, Floats]:
    """Weighted least squares of the additive terms, from the scaled normal equations."""
    weights = np.outer(w, nu) * scored
    diagonal = np.concatenate([weights.sum(1), weights.sum(0)])
    normal = np.diag(diagonal)
    normal[: len(w), len(w) :] = weights
    normal[len(w) :, : len(w)] = weights.T
    target = np.concatenate([(weights * values).sum(1), (weights * values).sum(0)])
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    solution = np.linalg.lstsq(normal / np.outer(scale, scale), target / scale, rcond=1e-12)[0]
    b = (solution / scale)[len(w) :]
    # Also for rows and columns without weight, which the fit doesn't see. Vetoed rows are zeros.
    seen = (scored @ nu)[:, None]
    share = np.divide(scored * nu, seen, out=np.zeros_like(values), where=seen > 0)
    a = (share * (values - b)).sum(axis=1)
    b = (w[:, None] * scored * (values - a[:, None])).sum(axis=0) / (w @ scored)
    shift_a, shift_b = float(w @ a), float(nu @ b)
    return shift_a + shift_b, a - shift_a, b - shift_b
