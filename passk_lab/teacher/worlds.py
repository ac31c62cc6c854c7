"""Small worlds whose answers can be listed, for `passk_lab.teacher.dynamics`.

A world says what a teacher T_c that was shown the demonstration c makes of the policy b that it is
made from; docs/dynamics.md has the formulas. Each holds one world, or many that are computed at
once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passk_lab.teacher._arguments import Floats
from passk_lab.teacher._simplex import World, above_zero, fitting, log_sum, probabilities

__all__ = ["BoostWorld", "StyleWorld"]


class BoostWorld(World):
    """A demonstration multiplies the odds of its own answer: T_c(y) ∝ b(y) exp(κ [y = c] + a(y)).

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
        self.boost = fitting(boost, "boost", (len(self.log_base),))
        self.preference = fitting(preference, "preference", self.log_base.shape)

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c), nats, of a teacher made from a policy, shape (n_worlds, n_modes, n_demos)."""
        raised = self.boost[:, None, None] * np.eye(log_policy.shape[1])
        raised = raised + self.preference[..., None]
        return raised - log_sum(log_policy[:, :, None] + raised, axis=1, keepdims=True)

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c) up to a constant of each world, shape (n_worlds, n_modes)."""
        return self.boost[:, None] * demos + self.preference


class StyleWorld(World):
    """Latent styles: a demonstration tells the style, and the style the answer.

    π(y) = Σ_s ρ(s) π_s(y), and with probability h the solution shares the style of the
    demonstration: T_c(y) = (1-h) b(y) + h Σ_s P(s | c) P(y | s). Training moves the probabilities
    of answers and leaves P(s | y) as it is.

    Parameters
    ----------
    prior : array_like, shape (n_styles,) or (n_worlds, n_styles)
        ρ, probabilities.
    styles : array_like, shape (n_styles, n_modes) or (n_worlds, n_styles, n_modes)
        π_s, probabilities over modes.
    influence : float or array_like, shape (n_worlds,)
        h, from 0 (demonstrations say nothing) to 1. At 1 a demonstration vetoes the answers that
        share no style with it.
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
        share = fitting(influence, "influence", (size,))
        for odd in share[(share < 0) | (share > 1)]:
            raise ValueError(f"influence={odd} must lie between 0 and 1")
        # A mode that no style gives has no style; any law will do, for its probability is 0.
        given = np.where(base[:, None] > 0, joint, 1.0)
        with np.errstate(divide="ignore"):
            self.log_same, self.log_other = np.log(share), np.log1p(-share)
            self.log_style_given_mode = np.log(given / given.sum(axis=1, keepdims=True))

    @classmethod
    def copying(
        cls, base: npt.ArrayLike, influence: npt.ArrayLike = 0.5, correct: npt.ArrayLike = True
    ) -> StyleWorld:
        """One answer a style: a teacher that copies, T_c(y) = (1-h) b(y) + h [y = c].

        Parameters
        ----------
        base, correct
            As for `BoostWorld`.
        influence
            As for the class: κ of docs/dynamics.md.

        Examples
        --------
        >>> from passk_lab.teacher import self_distillation_trajectory
        >>> world = StyleWorld.copying([0.6, 0.4], influence=0.5)
        >>> self_distillation_trajectory(world, 60).prob[[0, 5, 60], 0].round(3).tolist()
        [[0.6, 0.4], [0.745, 0.255], [1.0, 0.0]]
        """
        prior = probabilities(base, "base")
        return cls(prior, np.eye(prior.shape[1]), influence, correct)

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c), nats, of a teacher made from a policy, shape (n_worlds, n_modes, n_demos)."""
        log_same, log_other = self.log_same[:, None, None], self.log_other[:, None, None]
        together = np.broadcast_to(log_other, (*log_policy.shape, log_policy.shape[1]))
        for given in np.moveaxis(self.log_style_given_mode, 1, 0):
            prior = log_sum(log_policy + given, axis=1)
            # Half of it each, so that answers which can't have a style that died out stay at -inf.
            half = np.where(given > -np.inf, given - above_zero(prior)[:, None] / 2, -np.inf)
            together = np.logaddexp(together, half[:, :, None] + half[:, None, :] + log_same)
        return together
