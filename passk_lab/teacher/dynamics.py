"""Self-distillation repeated, generation after generation, in worlds whose answers can be listed.

Each generation the student p becomes the optimum of distilling a teacher that has seen a
demonstration (`passk_lab.teacher.optimum`), and then is base and teacher of the next::

    reverse KL   p'(y) ∝ b(y) exp(η Σ_c q(c) M(y, c))
    forward KL   p'(y) = Σ_c q(c) T_c(y)

with T_c the teacher, b the policy that the teacher is made from, M = log T_c - log b, q the law of
the demonstrations and η the trust factor (for forward KL, T_c^η b^(1-η) normalised in place of
T_c). A moving teacher has b = p, a frozen one b = the first base. What T_c is, the world says:

===============  ==================================================================================
`BoostWorld`     T_c(y) ∝ b(y) exp(κ [y = c] + a(y))
`CopyWorld`      T_c(y) = (1-κ) b(y) + κ [y = c]
`StyleWorld`     T_c(y) = (1-h) b(y) + h Σ_s P(s | c) P(y | s), s a style that c and y share
===============  ==================================================================================

Many worlds are computed at once: arrays have the axes generation [T + 1], world [W], mode [m]. The
proofs of what the tests assert are in docs/dynamics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, special

__all__ = [
    "BoostWorld",
    "CopyWorld",
    "CriticalWeights",
    "FixedPoint",
    "StyleWorld",
    "Trajectory",
    "critical_weights",
    "drift_variance",
    "effective_modes",
    "fixed_points",
    "minority_half_life",
    "rl_trajectory",
    "self_distillation_trajectory",
    "uniform_growth",
]

Floats = npt.NDArray[np.float64]
Demos = Literal["policy", "base", "uniform"]
Teacher = Literal["moving", "frozen"]
Divergence = Literal["reverse", "forward"]
RandomState = int | np.random.Generator | None
Step = Callable[[Floats], Floats]

_MOST_MODES = 8  # of a search over all faces of the simplex


# --- Worlds ---


@dataclass(frozen=True)
class BoostWorld:
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

    Raises
    ------
    ValueError
        Shapes differ; probabilities are negative or don't sum to 1; no mode is correct.

    Examples
    --------
    >>> world = BoostWorld([0.5, 0.3, 0.2], boost=1.0)
    >>> self_distillation_trajectory(world, 1).prob[1, 0].round(3).tolist()
    [0.559, 0.275, 0.166]
    """

    base: npt.ArrayLike
    boost: npt.ArrayLike = 1.0
    preference: npt.ArrayLike = 0.0
    correct: npt.ArrayLike = True
    log_base: Floats = field(init=False, repr=False)
    demonstrable: npt.NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _set_base(self, self.base, self.correct)
        _set(self, boost=_one_each(self.boost, "boost", len(self.log_base)))
        _set(self, preference=_like(self.preference, "preference", self.log_base.shape))

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c) of a teacher made from this policy, shape (n_worlds, n_modes, n_demos)."""
        eye = np.eye(log_policy.shape[1])
        raised = (
            np.asarray(self.boost)[:, None, None] * eye + np.asarray(self.preference)[..., None]
        )
        total = _log_sum(log_policy[:, :, None] + raised, axis=1, keepdims=True)
        return np.asarray(raised - total)

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c) up to a constant of each world, shape (n_worlds, n_modes)."""
        return np.asarray(self.boost)[:, None] * demos + np.asarray(self.preference)


@dataclass(frozen=True)
class CopyWorld:
    """With probability κ the teacher repeats the demonstration.

    Parameters
    ----------
    base, correct
        As for `BoostWorld`.
    copying : float or array_like, shape (n_worlds,)
        κ, from 0 to 1. At 1 a demonstration vetoes every other answer, so that only forward KL, or
        a single demonstration, has an optimum.

    Raises
    ------
    ValueError
        As for `BoostWorld`; κ is out of range.

    Examples
    --------
    >>> world = CopyWorld([0.6, 0.4], copying=0.5)
    >>> self_distillation_trajectory(world, 60).prob[[0, 5, 60], 0].round(3).tolist()
    [[0.6, 0.4], [0.745, 0.255], [1.0, 0.0]]
    """

    base: npt.ArrayLike
    copying: npt.ArrayLike = 0.5
    correct: npt.ArrayLike = True
    log_base: Floats = field(init=False, repr=False)
    demonstrable: npt.NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _set_base(self, self.base, self.correct)
        _set(self, copying=_share_each(self.copying, "copying", len(self.log_base)))

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c), as for `BoostWorld`."""
        log_copy, log_keep = _log_shares(self.copying)
        own = np.where(np.eye(log_policy.shape[1], dtype=bool), log_copy[:, None, None], -np.inf)
        return np.logaddexp(log_keep[:, None, None], own - _finite(log_policy)[:, :, None])

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c), as for `BoostWorld`."""
        log_copy, log_keep = (share[:, None] for share in _log_shares(self.copying))
        own = np.logaddexp(log_keep, log_copy - _finite(log_policy))
        return _times(demos, own) + _times(1 - demos, np.broadcast_to(log_keep, demos.shape))


@dataclass(frozen=True)
class StyleWorld:
    """Latent styles: a demonstration tells the style, and the style the answer.

    π(y) = Σ_s ρ(s) π_s(y), and with probability h the solution shares the style of the
    demonstration: T_c(y) = (1-h) π(y) + h Σ_s ρ(s|c) π_s(y). With one answer a style this is
    `CopyWorld`. Training moves the probabilities of answers and leaves P(s|y) as it is, so that a
    later generation p has the styles ρ'(s) = Σ_y p(y) P(s|y), π'_s(y) = p(y) P(s|y) / ρ'(s): of all
    joint laws with the answers' law p, the closest to the first. Where every style can give every
    answer, the teacher has the less to tell the surer the student is, and losers die out as powers
    of 1/t, not geometrically.

    Parameters
    ----------
    prior : array_like, shape (n_styles,) or (n_worlds, n_styles)
        ρ, probabilities.
    styles : array_like, shape (n_styles, n_modes) or (n_worlds, n_styles, n_modes)
        π_s, probabilities over modes.
    influence : float or array_like, shape (n_worlds,)
        h, from 0 (demonstrations say nothing) to 1.
    correct : array_like of bool, shape (n_modes,) or (n_worlds, n_modes), optional
        Modes that can serve as demonstrations; all by default.

    Raises
    ------
    ValueError
        Shapes differ; probabilities are negative or don't sum to 1; h is out of range.

    Examples
    --------
    >>> world = StyleWorld([0.7, 0.3], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], influence=0.9)
    >>> path = self_distillation_trajectory(world, 40)
    >>> path.prob[[0, 10, 40], 0].round(2).tolist()
    [[0.59, 0.1, 0.31], [0.76, 0.18, 0.06], [0.88, 0.12, 0.0]]
    """

    prior: npt.ArrayLike
    styles: npt.ArrayLike
    influence: npt.ArrayLike = 1.0
    correct: npt.ArrayLike = True
    log_base: Floats = field(init=False, repr=False)
    demonstrable: npt.NDArray[np.bool_] = field(init=False, repr=False)
    log_style_given_mode: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prior = _probabilities(self.prior, "prior")
        styles = np.asarray(self.styles, dtype=np.float64)
        if styles.ndim == 2:
            styles = styles[None]
        if styles.ndim != 3 or styles.shape[1] != prior.shape[1]:
            raise ValueError(
                f"styles has shape {np.shape(self.styles)}; it needs a row of answers for each of "
                f"the {prior.shape[1]} styles of prior"
            )
        size = len(prior) if len(styles) == 1 else len(styles)
        if len(prior) not in (1, size):
            raise ValueError(f"prior has {len(prior)} worlds, but styles {len(styles)}")
        n_styles, n_modes = styles.shape[1:]
        flat = _probabilities(styles.reshape(-1, n_modes), "styles")
        styles = np.broadcast_to(flat.reshape(styles.shape), (size, n_styles, n_modes))
        joint = prior[:, :, None] * styles
        base = joint.sum(axis=1)
        _set_base(self, base, self.correct)
        # A mode that no style gives has no style; any law will do, for its probability is 0.
        share = np.where(base[:, None] > 0, joint, 1.0)
        with np.errstate(divide="ignore"):
            _set(self, log_style_given_mode=np.log(share / share.sum(axis=1, keepdims=True)))
        _set(self, influence=_share_each(self.influence, "influence", size))

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c), as for `BoostWorld`."""
        log_same, log_other = _log_shares(self.influence)
        together = np.broadcast_to(
            log_other[:, None, None], (*log_policy.shape, log_policy.shape[1])
        )
        for given in np.moveaxis(self.log_style_given_mode, 1, 0):
            prior = _log_sum(log_policy + given, axis=1)
            # Half of it each, so that answers which can't have a style that died out stay at -inf.
            half = np.where(given > -np.inf, given - _finite(prior)[:, None] / 2, -np.inf)
            same = half[:, :, None] + half[:, None, :] + log_same[:, None, None]
            together = np.logaddexp(together, same)
        return together

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c), as for `BoostWorld`."""
        weights = np.broadcast_to(demos[:, None, :], (*demos.shape, demos.shape[1]))
        return np.asarray(_times(weights, self.pcmi(log_policy)).sum(axis=2))


World = BoostWorld | CopyWorld | StyleWorld


# --- Trajectories ---


@dataclass(frozen=True)
class Trajectory:
    """Policies of all generations.

    Attributes
    ----------
    log_prob : array, shape (n_generations + 1, n_worlds, n_modes)
        Nats; the first is the base.
    correct : array of bool, shape (n_worlds, n_modes)
    """

    log_prob: Floats
    correct: npt.NDArray[np.bool_]

    @property
    def prob(self) -> Floats:
        """Probabilities, same shape."""
        return np.exp(self.log_prob)

    @property
    def accuracy(self) -> Floats:
        """Probability of a correct mode, shape (n_generations + 1, n_worlds)."""
        return np.exp(_log_sum(_only(self.log_prob, self.correct), axis=2))

    @property
    def effective_modes(self) -> Floats:
        """`effective_modes` of the correct ones, shape (n_generations + 1, n_worlds)."""
        return effective_modes(_only(self.log_prob, self.correct))

    def half_life(self, mode: npt.ArrayLike | None = None) -> Floats:
        """Generations until a mode has half the share of correct answers that it started with.

        Parameters
        ----------
        mode : int or array_like of int, shape (n_worlds,), optional
            By default the rarest correct mode that the base gives at all.

        Returns
        -------
        array, shape (n_worlds,)
            Interpolated between generations along the logarithm; inf where it didn't come to that
            within the trajectory.

        Raises
        ------
        ValueError
            A mode is out of range, or not correct, or one that the base never gives.
        """
        share = _normalised(_only(self.log_prob, self.correct))
        first = share[0]
        if mode is None:
            chosen = np.argmin(np.where(first > -np.inf, first, np.inf), axis=1)
        else:
            chosen = np.broadcast_to(np.asarray(mode), (len(first),))
            if not ((chosen >= 0) & (chosen < first.shape[1])).all():
                raise ValueError(f"mode must lie between 0 and {first.shape[1] - 1}")
        path = np.take_along_axis(share, chosen[None, :, None], axis=2)[..., 0]
        if not (path[0] > -np.inf).all():
            at = int(np.argmin(path[0] > -np.inf))
            raise ValueError(
                f"mode {chosen[at]} of world {at} is wrong, or the base never gives it"
            )
        return _crossing(path, path[0] - np.log(2))

    def table(self) -> pd.DataFrame:
        """One row a world and generation.

        Returns
        -------
        DataFrame
            Columns ``world, generation, accuracy, effective_modes, top_mode``, the last the share
            of the most frequent correct mode among correct answers.
        """
        steps, worlds, _ = self.log_prob.shape
        share = _normalised(_only(self.log_prob, self.correct))
        return pd.DataFrame(
            {
                "world": np.repeat(np.arange(worlds), steps),
                "generation": np.tile(np.arange(steps), worlds),
                "accuracy": self.accuracy.T.ravel(),
                "effective_modes": self.effective_modes.T.ravel(),
                "top_mode": np.exp(share.max(axis=2)).T.ravel(),
            }
        )


def self_distillation_trajectory(
    world: World,
    n_generations: int,
    teacher: Teacher = "moving",
    demos: Demos | npt.ArrayLike = "policy",
    weight: npt.ArrayLike = 1.0,
    divergence: Divergence = "reverse",
    n_demos: int | None = None,
    random_state: RandomState = None,
) -> Trajectory:
    """Distil again and again.

    Parameters
    ----------
    world : BoostWorld, CopyWorld or StyleWorld
    n_generations : int
    teacher : {"moving", "frozen"}
        Whether teacher and base of a generation are the student of the last, or the first base.
    demos : {"policy", "base", "uniform"} or array_like, shape (n_modes,) or (n_worlds, n_modes)
        Demonstrations are drawn from the student's correct answers, from the first base's, from
        all correct modes alike (mode-balanced), or from a law given here. With a frozen teacher
        and "base", everything is frozen.
    weight : float or array_like, shape (n_worlds,)
        η, not negative; 1 trains to the optimum of the divergence alone, 0 leaves all as it is.
    divergence : {"reverse", "forward"}
    n_demos : int, optional
        So many demonstrations are drawn each generation; by default, their whole law is used.
    random_state : int, Generator or None
        For ``n_demos``.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        An option is unknown, a number out of range, a law of demonstrations no law; demonstrations
        together veto every answer of a world, so that reverse KL has no optimum.

    Notes
    -----
    Every generation is trained to its optimum. A frozen teacher therefore makes the next student
    from the first base, and only the demonstrations depend on the last one. Forward KL at η = 1
    with "policy" demonstrations is the identity wherever teacher and student agree on one joint
    law of demonstrations and answers, that is for `CopyWorld` and `StyleWorld`; with finitely many
    demonstrations it then drifts as Wright and Fisher's populations do.

    Examples
    --------
    >>> world = BoostWorld([0.5, 0.3, 0.2], boost=1.0)
    >>> self_distillation_trajectory(world, 8).prob[[1, 2, 4, 6, 8], 0, 0].round(3).tolist()
    [0.559, 0.637, 0.829, 0.96, 0.994]

    Mode-balanced demonstrations leave the ratios alone:

    >>> path = self_distillation_trajectory(world, 8, demos="uniform")
    >>> path.prob[8, 0].round(3).tolist()
    [0.5, 0.3, 0.2]
    """
    size, n_modes = world.log_base.shape
    if n_generations < 0:
        raise ValueError(f"n_generations={n_generations} must not be negative")
    if teacher not in get_args(Teacher):
        raise ValueError(f"teacher={teacher!r} is none of 'moving', 'frozen'")
    if divergence not in get_args(Divergence):
        raise ValueError(f"divergence={divergence!r} is none of 'reverse', 'forward'")
    if n_demos is not None and n_demos < 1:
        raise ValueError(f"n_demos={n_demos} must be at least 1, or None for their whole law")
    trust = _one_each(weight, "weight", size)
    if (trust < 0).any():
        raise ValueError(f"weight={trust.min()} must not be negative")
    law = _demo_law(world, demos)
    rng = np.random.default_rng(random_state)
    frozen = teacher == "frozen"
    path = np.empty((n_generations + 1, size, n_modes))
    path[0] = world.log_base
    for t in range(n_generations):
        q = _student_demos(world, path[t]) if law is None else law
        if n_demos is not None:
            q = rng.multinomial(n_demos, q) / n_demos
        path[t + 1] = _generation(world, path[0] if frozen else path[t], q, trust, divergence)
    return Trajectory(path, world.demonstrable)


def rl_trajectory(
    base: npt.ArrayLike,
    reward: npt.ArrayLike,
    n_generations: int,
    step: npt.ArrayLike = 1.0,
    gradient: Literal["natural", "vanilla"] = "natural",
) -> Trajectory:
    """Reinforcement learning on the same modes, for comparison.

    Parameters
    ----------
    base : array_like, shape (n_modes,) or (n_worlds, n_modes)
        Probabilities.
    reward : array_like, shape (n_modes,) or (n_worlds, n_modes)
        Modes with a positive reward count as correct.
    n_generations : int
    step : float or array_like, shape (n_worlds,)
        Size of a step.
    gradient : {"natural", "vanilla"}
        "natural" is the replicator p' ∝ p e^(step r) (mirror descent), whose t-th generation is the
        optimum of a KL penalty β = 1 / (t step) towards the base: modes of equal reward keep their
        ratios. "vanilla" moves the logits by step p(y) (r(y) - E_p r), the exact policy gradient of
        a softmax: modes of equal reward do not keep their ratios, frequent ones gain.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        Shapes differ; probabilities are negative or don't sum to 1; a number is out of range.

    Examples
    --------
    >>> path = rl_trajectory([0.30, 0.18, 0.12, 0.40], [1, 1, 1, 0], 4)
    >>> path.prob[4, 0].round(3).tolist()
    [0.494, 0.296, 0.198, 0.012]
    """
    p = _probabilities(base, "base")
    rewards = _like(reward, "reward", p.shape)
    steps = _one_each(step, "step", len(p))[:, None]
    if n_generations < 0:
        raise ValueError(f"n_generations={n_generations} must not be negative")
    if gradient not in ("natural", "vanilla"):
        raise ValueError(f"gradient={gradient!r} is none of 'natural', 'vanilla'")
    path = np.empty((n_generations + 1, *p.shape))
    with np.errstate(divide="ignore"):
        path[0] = np.log(p)
    for t in range(n_generations):
        move = rewards
        if gradient == "vanilla":
            now = np.exp(path[t])
            move = now * (rewards - (now * rewards).sum(axis=1, keepdims=True))
        path[t + 1] = _normalised(path[t] + steps * move)
    return Trajectory(path, rewards > 0)


def effective_modes(log_prob: npt.ArrayLike) -> Floats:
    """Effective number of modes 1 / Σ p², p normalised over the last axis.

    Parameters
    ----------
    log_prob : array_like, shape (..., n_modes)
        Nats, -inf allowed.

    Returns
    -------
    array, shape (...)

    Examples
    --------
    >>> round(float(effective_modes(np.log([0.5, 0.25, 0.25]))), 4)
    2.6667
    """
    values = np.asarray(log_prob, dtype=np.float64)
    once, twice = _log_sum(values, axis=-1), _log_sum(2 * values, axis=-1)
    return np.exp(2 * once - twice)


# --- Fixed points ---


class FixedPoint(NamedTuple):
    """A policy that a generation leaves as it is.

    ``prob`` has the shape (n_modes,). ``multiplier`` is the largest factor by which a small
    deviation grows in a generation; below 1 the point is ``stable``. At 1 (to 1e-6) the first order
    decides nothing, and it is not called stable.
    """

    prob: Floats
    multiplier: float
    stable: bool


def fixed_points(
    world: World,
    teacher: Teacher = "moving",
    demos: Demos = "policy",
    weight: float = 1.0,
    n_starts: int = 32,
    random_state: RandomState = 0,
) -> list[FixedPoint]:
    """Find fixed points of reverse-KL generations, by Newton's method from many starts.

    Parameters
    ----------
    world : BoostWorld, CopyWorld or StyleWorld
        Of one world.
    teacher, demos, weight
        As for `self_distillation_trajectory`, without a law given.
    n_starts : int
        Random starts, spread over the faces of the simplex where the teacher moves (with it, a mode
        without probability stays so, and every face is a world of its own).
    random_state : int, Generator or None
        For the starts.

    Returns
    -------
    list of FixedPoint
        Stable ones first, then by the largest probability. Isolated points are found reliably
        in small worlds; where ratios are free (no tilt) every policy is fixed, and only the base
        is returned.

    Raises
    ------
    ValueError
        There is more than one world; the teacher moves and there are more than 8 modes.

    Examples
    --------
    A frozen teacher of equal modes: between the two critical weights both equality and collapse
    are stable.

    >>> world = BoostWorld(np.full(3, 1 / 3), boost=2.9)
    >>> for point in fixed_points(world, teacher="frozen")[:4]:
    ...     print(point.prob.round(3).tolist(), point.stable)
    [0.768, 0.116, 0.116] True
    [0.116, 0.768, 0.116] True
    [0.116, 0.116, 0.768] True
    [0.333, 0.333, 0.333] True
    """
    if len(world.log_base) != 1:
        raise ValueError(f"world holds {len(world.log_base)} worlds; take one at a time")
    alive = np.flatnonzero(world.log_base[0] > -np.inf)
    moving = teacher == "moving"
    if moving and len(alive) > _MOST_MODES:
        raise ValueError(
            f"world has {len(alive)} modes, and with a moving teacher {2 ** len(alive)} faces to "
            f"search; take at most {_MOST_MODES}"
        )
    rng = np.random.default_rng(random_state)
    n_modes = world.log_base.shape[1]

    def step(log_p: Floats) -> Floats:
        q = _student_demos(world, log_p[None]) if law is None else law
        anchor = log_p[None] if moving else world.log_base
        return _generation(world, anchor, q, trust, "reverse")[0]

    law = _demo_law(world, demos)
    trust = _one_each(weight, "weight", 1)
    base = np.exp(world.log_base[0])
    if np.abs(np.exp(step(world.log_base[0])) - base).max() < 1e-14 and _flat(step, base, rng):
        return [FixedPoint(base, 1.0, False)]
    faces = [
        np.array(face)
        for size in (range(1, len(alive) + 1) if moving else [len(alive)])
        for face in combinations(alive, size)
        # Without a correct mode there are no demonstrations.
        if world.demonstrable[0, list(face)].any()
    ]
    found: list[Floats] = []
    each = -(-n_starts // len(faces))
    for face in faces:
        for start in _starts(face, base, each, rng):
            point = _solve(step, face, start, n_modes)
            if point is not None and not any(np.abs(p - point).max() < 1e-6 for p in found):
                found.append(point)
    points = [FixedPoint(p, m, m < 1 - 1e-6) for p in found for m in [_multiplier(step, p)]]
    return sorted(points, key=lambda x: (not x.stable, -round(x.prob.max(), 6), *-x.prob.round(6)))


def uniform_growth(
    n_modes: npt.ArrayLike,
    strength: npt.ArrayLike,
    kernel: Literal["boost", "copy"] = "boost",
    weight: npt.ArrayLike = 1.0,
) -> Floats:
    """Growth per generation of a small deviation from equal modes: moving teacher and demos.

    1 + ηκ/m for the boost; 1 + (η/m) [log(1 + ρm) - ρm / (1 + ρm)] for copying, ρ = κ/(1-κ). Above
    1 for every κ > 0: equality never lasts.

    Parameters
    ----------
    n_modes : int or array_like
        m.
    strength : float or array_like
        κ.
    kernel : {"boost", "copy"}
    weight : float or array_like
        η.

    Returns
    -------
    array
        Broadcast shape.

    Raises
    ------
    ValueError
        The kernel is unknown; m is below 2; κ of copying lies outside [0, 1).

    Examples
    --------
    >>> uniform_growth([2, 10], 1.0).tolist()
    [1.5, 1.1]
    """
    m, kappa, eta = (np.asarray(v, dtype=np.float64) for v in (n_modes, strength, weight))
    if (m < 2).any():
        raise ValueError(f"n_modes={m.min():g} must be at least 2")
    if kernel == "boost":
        return np.asarray(1 + eta * kappa / m)
    if kernel != "copy":
        raise ValueError(f"kernel={kernel!r} is none of 'boost', 'copy'")
    if not ((kappa >= 0) & (kappa < 1)).all():
        raise ValueError("strength of copying must lie from 0 to below 1")
    odds = m * kappa / (1 - kappa)
    return np.asarray(1 + eta / m * (np.log1p(odds) - odds / (1 + odds)))


class CriticalWeights(NamedTuple):
    """Values of ηκ at which equal modes change their fate, frozen teacher and on-policy demos.

    From ``appears`` on, a collapsed policy is a second stable state; above ``coexists`` it is the
    preferred one (of lower free energy); from ``unstable`` on, equality doesn't last.
    """

    appears: float
    coexists: float
    unstable: float


def critical_weights(n_modes: int) -> CriticalWeights:
    """Critical ηκ of the frozen boost with on-policy demonstrations and equal modes.

    p ∝ exp(ηκ p), the mean-field Potts model: coexistence at 2 (m-1) ln(m-1) / (m-2), instability
    at m. For two modes all three are 2.

    Parameters
    ----------
    n_modes : int
        m, at least 2.

    Returns
    -------
    CriticalWeights

    Raises
    ------
    ValueError
        m is below 2.

    Examples
    --------
    >>> [round(value, 3) for value in critical_weights(5)]
    [3.565, 3.697, 5.0]
    """
    m = n_modes
    if m < 2:
        raise ValueError(f"n_modes={m} must be at least 2")
    if m == 2:
        return CriticalWeights(2.0, 2.0, 2.0)

    def needed(log_odds: float) -> float:  # ηκ at which this collapsed policy is fixed
        top = special.expit(log_odds)
        return float((log_odds + np.log(m - 1)) * (m - 1) / (m * top - 1))

    # The collapsed branch starts at equality (odds 1 to m-1) and is highest at both ends.
    bounds = (1e-9 - np.log(m - 1), 2 * np.log(m) + 4)
    best = optimize.minimize_scalar(
        needed, bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    return CriticalWeights(float(best.fun), float(2 * (m - 1) * np.log(m - 1) / (m - 2)), float(m))


def minority_half_life(
    share: npt.ArrayLike,
    influence: npt.ArrayLike,
    weight: npt.ArrayLike = 1.0,
    max_generations: int = 10_000,
) -> Floats:
    """Generations until the rarer of two styles has half its share, one answer a style.

    Moving teacher, demonstrations from the student, reverse KL: `StyleWorld` with two styles that
    share no answer, which is `CopyWorld`. As the share goes to 0, ln 2 / (η ln 1/(1-h)).

    Parameters
    ----------
    share : float or array_like
        The minority's first share, above 0 and up to 1/2; the skew.
    influence : float or array_like
        h, from 0 to below 1.
    weight : float or array_like
        η, not negative.
    max_generations : int
        Where the search ends.

    Returns
    -------
    array
        Broadcast shape; interpolated between generations; inf where nothing moves (equal shares, no
        influence) or it takes longer than ``max_generations``.

    Raises
    ------
    ValueError
        A value is out of range.

    Examples
    --------
    >>> minority_half_life([0.45, 0.2, 0.01], 0.5).round(2).tolist()
    [9.31, 2.43, 1.08]
    """
    first, h, eta = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (share, influence, weight))
    )
    if not ((first > 0) & (first <= 0.5)).all():
        raise ValueError("share must lie above 0 and at most at 1/2")
    if not ((h >= 0) & (h < 1)).all():
        raise ValueError("influence must lie from 0 to below 1")
    if not (np.isfinite(eta) & (eta >= 0)).all():
        raise ValueError("weight must be finite and not negative")
    result = np.full(first.size, np.inf)
    going = np.flatnonzero(((first < 0.5) & (h > 0) & (eta > 0)).ravel())
    p0, rho, eta = first.ravel(), (h / (1 - h)).ravel(), eta.ravel()
    log_odds = special.logit(p0)
    target = np.log(p0 / 2)
    last = np.log(p0)
    for t in range(max_generations):
        if not len(going):
            break
        x, r = log_odds[going], rho[going]
        low, high = special.expit(x), special.expit(-x)
        log_odds[going] = x + eta[going] * (low * np.log1p(r / low) - high * np.log1p(r / high))
        now = special.log_expit(log_odds[going])
        done = now <= target[going]
        over, before = going[done], last[going[done]]
        result[over] = t + (before - target[over]) / (before - now[done])
        last[going] = now
        going = going[~done]
    return result.reshape(first.shape)


def drift_variance(
    prob: npt.ArrayLike, boost: npt.ArrayLike, n_demos: int, weight: npt.ArrayLike = 1.0
) -> Floats:
    """Variance of the log-odds of each pair of modes that n demonstrations of a generation add.

    (ηκ)² [q_i + q_j - (q_i - q_j)²] / n for the boost, q the law the demonstrations are drawn from.

    Parameters
    ----------
    prob : array_like, shape (..., n_modes)
        q.
    boost, weight : float
        κ and η.
    n_demos : int
        n.

    Returns
    -------
    array, shape (..., n_modes, n_modes)
        Nats squared; 0 on the diagonal.

    Raises
    ------
    ValueError
        n is below 1.

    Examples
    --------
    >>> drift_variance([0.5, 0.5], 1.0, n_demos=4).tolist()
    [[0.0, 0.25], [0.25, 0.0]]
    """
    if n_demos < 1:
        raise ValueError(f"n_demos={n_demos} must be at least 1")
    q = np.asarray(prob, dtype=np.float64)
    one, other = q[..., :, None], q[..., None, :]
    scale = (np.asarray(weight, dtype=np.float64) * np.asarray(boost, dtype=np.float64)) ** 2
    return np.asarray(
        scale * (one + other - (one - other) ** 2) * (1 - np.eye(q.shape[-1])) / n_demos
    )


# --- One generation ---


def _generation(
    world: World, anchor: Floats, q: Floats, trust: Floats, divergence: Divergence
) -> Floats:
    if divergence == "reverse":
        moved = anchor + _times(trust[:, None], world.tilt(anchor, q))
        result = _normalised(np.where(anchor > -np.inf, moved, -np.inf))
    else:
        moved = anchor[:, :, None] + _times(trust[:, None, None], world.pcmi(anchor))
        moved = _normalised(np.where(anchor[:, :, None] > -np.inf, moved, -np.inf), axis=1)
        with np.errstate(divide="ignore"):
            result = _normalised(_log_sum(moved + np.log(q)[:, None, :], axis=2))
    if np.isnan(result).any():
        at = int(np.argmax(np.isnan(result).any(axis=1)))
        raise ValueError(
            f"the demonstrations of world {at} together veto every answer, so there is no optimum; "
            "lower copying or influence below 1, or take forward KL"
        )
    return result


def _demo_law(world: World, demos: Demos | npt.ArrayLike) -> Floats | None:
    """The law of demonstrations if it is always the same."""
    if isinstance(demos, str):
        if demos == "policy":
            return None
        if demos == "base":
            return _student_demos(world, world.log_base)
        if demos == "uniform":
            possible = world.demonstrable & (world.log_base > -np.inf)
            return np.asarray(possible / possible.sum(axis=1, keepdims=True))
        raise ValueError(f"demos={demos!r} is none of 'policy', 'base', 'uniform', nor a law")
    law = _probabilities(demos, "demos")
    if law.shape[1] != world.log_base.shape[1] or len(law) not in (1, len(world.log_base)):
        raise ValueError(f"demos has shape {law.shape}, but the policies {world.log_base.shape}")
    return np.broadcast_to(law, world.log_base.shape)


def _student_demos(world: World, log_policy: Floats) -> Floats:
    q = np.exp(_normalised(_only(log_policy, world.demonstrable)))
    return np.asarray(q / q.sum(axis=1, keepdims=True))


# --- Search for fixed points ---


def _starts(
    face: npt.NDArray[np.int64], base: Floats, n_random: int, rng: np.random.Generator
) -> list[Floats]:
    size = len(face)
    if size == 1:
        return [np.ones(1)]
    equal = np.full(size, 1 / size)
    leaders = list(0.95 * np.eye(size) + 0.05 * equal)
    mild = list(0.5 * np.eye(size) + 0.5 * equal)
    own = base[face] / base[face].sum()
    return [equal, own, *leaders, *mild, *rng.dirichlet(np.ones(size), size=n_random)]


def _solve(step: Step, face: npt.NDArray[np.int64], start: Floats, n: int) -> Floats | None:
    """Newton's method over the log-odds on one face."""

    def spread(x: Floats) -> Floats:
        log_p = np.full(n, -np.inf)
        log_p[face] = special.log_softmax(np.append(x, 0.0))
        return log_p

    def change(x: Floats) -> Floats:
        after = step(spread(np.clip(x, -600, 600)))[face]
        return np.asarray(after[:-1] - after[-1] - x)

    if len(face) == 1:
        return np.exp(spread(np.zeros(0)))
    with np.errstate(all="ignore"):
        root = optimize.root(change, np.log(start[:-1] / start[-1]), tol=1e-13)
    point = np.exp(spread(root.x))
    # Where the face's own edge attracts, the search runs away to it.
    if np.abs(change(root.x)).max() > 1e-8 or point[face].min() < 1e-9:
        return None
    return point


def _multiplier(step: Step, point: Floats) -> float:
    """Largest growth of a deviation: along the face, and towards modes without probability."""
    n = len(point)
    on = np.flatnonzero(point > 0)
    with np.errstate(divide="ignore"):
        log_p = np.log(point)
    growth = [0.0]
    if len(on) > 1:
        # Deviations of the log-odds, whose growth at a fixed point is that of the probabilities.
        h = 1e-5
        moves = []
        for j in on[:-1]:
            sides = []
            for sign in (1, -1):
                moved = log_p.copy()
                moved[j] += sign * h
                after = step(_normalised(moved[None])[0])[on]
                sides.append(after[:-1] - after[-1])
            moves.append((sides[0] - sides[1]) / (2 * h))
        growth.append(float(np.abs(np.linalg.eigvals(np.stack(moves, axis=1))).max()))
    tiny = -300.0  # as a log-probability: the deviation is a mode's share itself
    for j in set(range(n)) - set(on.tolist()):
        moved = log_p.copy()
        moved[j] = tiny
        growth.append(float(np.exp(step(moved)[j] - tiny)))
    return max(growth)


def _flat(step: Step, base: Floats, rng: np.random.Generator) -> bool:
    """Whether other policies are fixed as well."""
    with np.errstate(divide="ignore"):
        others = np.log(base * rng.dirichlet(np.ones(len(base)), size=4))
    return all(np.abs(np.exp(step(o)) - np.exp(o)).max() < 1e-13 for o in _normalised(others))


# --- Numbers ---


def _times(weight: Floats, values: Floats) -> Floats:
    """Product in which a weight of 0 takes no notice of infinite values."""
    weight, values = np.broadcast_arrays(weight, values)
    return np.multiply(weight, values, out=np.zeros(values.shape), where=weight != 0)


def _log_sum(log_values: Floats, axis: int = -1, keepdims: bool = False) -> Floats:
    """As scipy's logsumexp, whose checks would take most of the time here."""
    top = np.maximum(log_values.max(axis=axis, keepdims=True), -1e300)
    total = np.exp(log_values - top).sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        result = np.log(total) + top
    return np.asarray(result if keepdims else result.squeeze(axis))


def _finite(log_values: Floats) -> Floats:
    """Zero probabilities as the smallest ones, for quotients that are not used."""
    return np.maximum(log_values, -1e300)


def _normalised(log_values: Floats, axis: int = -1) -> Floats:
    total = _log_sum(log_values, axis=axis, keepdims=True)
    return np.asarray(
        np.subtract(log_values, total, where=total > -np.inf, out=np.full(log_values.shape, np.nan))
    )


def _only(log_prob: Floats, correct: npt.NDArray[np.bool_]) -> Floats:
    return np.where(correct, log_prob, -np.inf)


def _log_shares(share: npt.ArrayLike) -> tuple[Floats, Floats]:
    values = np.asarray(share, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.log(values), np.log1p(-values)


def _crossing(path: Floats, level: Floats) -> Floats:
    """When each column first falls to its level, shape (n_columns,); inf where it never does."""
    below = path <= level
    at = np.argmax(below, axis=0)
    result = np.full(path.shape[1], np.inf)
    for column in np.flatnonzero(below.any(axis=0)):
        t = at[column]
        before, after = path[t - 1, column], path[t, column]
        part = 0.0 if after == -np.inf else (before - level[column]) / (before - after)
        result[column] = t - 1 + part
    return result


# --- Arguments ---


def _set(world: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(world, name, value)  # the worlds are frozen


def _set_base(world: object, base: npt.ArrayLike, correct: npt.ArrayLike) -> None:
    p = _probabilities(base, "base")
    mask = np.asarray(correct)
    if mask.dtype != bool:
        raise ValueError(f"correct holds {mask.dtype}; give booleans")
    try:
        mask = np.broadcast_to(mask, p.shape)
    except ValueError as error:
        raise ValueError(f"correct has shape {mask.shape}, but base {p.shape}") from error
    if not (mask & (p > 0)).any(axis=1).all():
        at = int(np.argmin((mask & (p > 0)).any(axis=1)))
        raise ValueError(f"world {at} gives no correct answer, so nothing can be demonstrated")
    with np.errstate(divide="ignore"):
        _set(world, base=p, correct=mask, demonstrable=mask, log_base=np.log(p))


def _probabilities(values: npt.ArrayLike, name: str) -> Floats:
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"{name} must have shape (n_modes,) or (n_worlds, n_modes), not {array.shape}"
        )
    if not (np.isfinite(array) & (array >= 0)).all():
        world, mode = np.argwhere(~(np.isfinite(array) & (array >= 0)))[0]
        raise ValueError(
            f"{name}[{world}, {mode}] is {array[world, mode]}; probabilities are finite and not "
            "negative"
        )
    total = array.sum(axis=1)
    if (np.abs(total - 1) > 1e-6).any():
        at = int(np.argmax(np.abs(total - 1)))
        raise ValueError(f"{name}[{at}] sums to {total[at]:.6g}; normalise it to 1")
    return np.asarray(array / total[:, None])


def _one_each(values: npt.ArrayLike, name: str, size: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((), (size,)):
        raise ValueError(f"{name} has shape {array.shape}; give one for each of {size} worlds")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return np.broadcast_to(array, (size,))


def _share_each(values: npt.ArrayLike, name: str, size: int) -> Floats:
    array = _one_each(values, name, size)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"{name}={array[(array < 0) | (array > 1)][0]} must lie between 0 and 1")
    return array


def _like(values: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    try:
        array = np.broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(f"{name} has shape {array.shape}, but the policies {shape}") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array
