"""Small worlds whose answers can be listed, for `passk_lab.teacher.dynamics`.

A world says what a teacher T_c that was shown the demonstration c makes of the policy b that it is
made from:

- `BoostWorld`: T_c(y) ∝ b(y) exp(κ [y = c] + a(y))
- `CopyWorld`: T_c(y) = (1-κ) b(y) + κ [y = c]
- `StyleWorld`: T_c(y) = (1-h) b(y) + h Σ_s P(s | c) P(y | s), s a style that c and y share

Each holds one world, or many that are computed at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passk_lab.teacher._arguments import Floats
from passk_lab.teacher._simplex import (
    World,
    above_zero,
    fitting,
    log_sum,
    one_each,
    probabilities,
    times,
)

__all__ = ["BoostWorld", "CopyWorld", "StyleWorld"]


class BoostWorld(World):
    """A demonstration multiplies the odds of its own answer by e^κ.

    Parameters
    ----------
    base : array_like, shape (n_modes,) or (n_worlds, n_modes)
        Probabilities of the first generation; each world's sum to 1.
    boost : float or array_like, shape (n_worlds,)
        κ, nats.
    preference : array_like, shape (n_modes,) or (n_worlds, n_modes), optional
        a, nats: what the teacher prefers whatever the demonstration; 0 by default.
    correct : array_like of bool, shape (n_modes,) or (n_worlds, n_modes), optional
        Modes that can serve as demonstrations; all by default.

    Examples
    --------
    >>> from passk_lab.teacher import self_distillation_trajectory
    >>> world = BoostWorld([0.5, 0.3, 0.2], boost=1.0)
    >>> self_distillation_trajectory(world, 1).prob[1, 0].round(3).tolist()
    [0.559, 0.275, 0.166]
    """

    def __init__(
        self,
        base: npt.ArrayLike,
        boost: npt.ArrayLike = 1.0,
        preference: npt.ArrayLike = 0.0,
        correct: npt.ArrayLike = True,
    ) -> None:
        super().__init__(base, correct)
        self.boost = one_each(boost, "boost", len(self.log_base))
        self.preference = fitting(preference, "preference", self.log_base.shape)

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c) of a teacher made from this policy, shape (n_worlds, n_modes, n_demos)."""
        eye = np.eye(log_policy.shape[1])
        raised = self.boost[:, None, None] * eye + self.preference[..., None]
        return raised - log_sum(log_policy[:, :, None] + raised, axis=1, keepdims=True)

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c) up to a constant of each world, shape (n_worlds, n_modes)."""
        return self.boost[:, None] * demos + self.preference


class CopyWorld(World):
    """With probability κ the teacher repeats the demonstration.

    Parameters
    ----------
    base, correct
        As for `BoostWorld`.
    copying : float or array_like, shape (n_worlds,)
        κ, from 0 to 1. At 1 a demonstration vetoes every other answer, so that only forward KL, or
        a single demonstration, has an optimum.

    Examples
    --------
    >>> from passk_lab.teacher import self_distillation_trajectory
    >>> world = CopyWorld([0.6, 0.4], copying=0.5)
    >>> self_distillation_trajectory(world, 60).prob[[0, 5, 60], 0].round(3).tolist()
    [[0.6, 0.4], [0.745, 0.255], [1.0, 0.0]]
    """

    def __init__(
        self, base: npt.ArrayLike, copying: npt.ArrayLike = 0.5, correct: npt.ArrayLike = True
    ) -> None:
        super().__init__(base, correct)
        self.log_copy, self.log_keep = _log_shares(copying, "copying", len(self.log_base))

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c) of a teacher made from this policy, shape (n_worlds, n_modes, n_demos)."""
        log_copy, log_keep = self.log_copy[:, None, None], self.log_keep[:, None, None]
        own = np.where(np.eye(log_policy.shape[1], dtype=bool), log_copy, -np.inf)
        return np.logaddexp(log_keep, own - above_zero(log_policy)[:, :, None])

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c) up to a constant of each world, shape (n_worlds, n_modes)."""
        log_copy, log_keep = self.log_copy[:, None], self.log_keep[:, None]
        own = np.logaddexp(log_keep, log_copy - above_zero(log_policy))
        return times(demos, own) + times(1 - demos, np.broadcast_to(log_keep, demos.shape))


class StyleWorld(World):
    """Latent styles: a demonstration tells the style, and the style the answer.

    π(y) = Σ_s ρ(s) π_s(y), and with probability h the solution shares the style of the
    demonstration: T_c(y) = (1-h) π(y) + h Σ_s ρ(s|c) π_s(y). With one answer a style this is
    `CopyWorld`. Training moves the probabilities of answers and leaves P(s|y) as it is.

    Parameters
    ----------
    prior : array_like, shape (n_styles,) or (n_worlds, n_styles)
        ρ, probabilities.
    styles : array_like, shape (n_styles, n_modes) or (n_worlds, n_styles, n_modes)
        π_s, probabilities over modes.
    influence : float or array_like, shape (n_worlds,)
        h, from 0 (demonstrations say nothing) to 1.
    correct
        As for `BoostWorld`.

    Examples
    --------
    >>> from passk_lab.teacher import self_distillation_trajectory
    >>> world = StyleWorld([0.7, 0.3], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], influence=0.9)
    >>> path = self_distillation_trajectory(world, 40)
    >>> path.prob[[0, 10, 40], 0].round(2).tolist()
    [[0.59, 0.1, 0.31], [0.76, 0.18, 0.06], [0.88, 0.12, 0.0]]
    """

    def __init__(
        self,
        prior: npt.ArrayLike,
        styles: npt.ArrayLike,
        influence: npt.ArrayLike = 1.0,
        correct: npt.ArrayLike = True,
    ) -> None:
        rho = probabilities(prior, "prior")
        laws = np.asarray(styles, dtype=np.float64)
        laws = laws[None] if laws.ndim == 2 else laws
        if laws.ndim != 3 or laws.shape[1] != rho.shape[1]:
            raise ValueError(
                f"styles has shape {np.shape(styles)}; it needs a row of answers for each of the "
                f"{rho.shape[1]} styles of prior"
            )
        size = len(rho) if len(laws) == 1 else len(laws)
        if len(rho) not in (1, size):
            raise ValueError(f"prior has {len(rho)} worlds, but styles {len(laws)}")
        flat = probabilities(laws.reshape(-1, laws.shape[2]), "styles")
        joint = rho[:, :, None] * np.broadcast_to(flat.reshape(laws.shape), (size, *laws.shape[1:]))
        base = joint.sum(axis=1)
        super().__init__(base, correct)
        # A mode that no style gives has no style; any law will do, for its probability is 0.
        share = np.where(base[:, None] > 0, joint, 1.0)
        with np.errstate(divide="ignore"):
            self.log_style_given_mode = np.log(share / share.sum(axis=1, keepdims=True))
        self.log_same, self.log_other = _log_shares(influence, "influence", size)

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c) of a teacher made from this policy, shape (n_worlds, n_modes, n_demos)."""
        log_same, log_other = self.log_same[:, None, None], self.log_other[:, None, None]
        together = np.broadcast_to(log_other, (*log_policy.shape, log_policy.shape[1]))
        for given in np.moveaxis(self.log_style_given_mode, 1, 0):
            prior = log_sum(log_policy + given, axis=1)
            # Half of it each, so that answers which can't have a style that died out stay at -inf.
            half = np.where(given > -np.inf, given - above_zero(prior)[:, None] / 2, -np.inf)
            together = np.logaddexp(together, half[:, :, None] + half[:, None, :] + log_same)
        return together


def _log_shares(values: npt.ArrayLike, name: str, size: int) -> tuple[Floats, Floats]:
    """Logarithms of each world's share and of the rest."""
    share = one_each(values, name, size)
    bad = (share < 0) | (share > 1)
    if bad.any():
        raise ValueError(f"{name}={share[bad][0]} must lie between 0 and 1")
    with np.errstate(divide="ignore"):
        return np.log(share), np.log1p(-share)
