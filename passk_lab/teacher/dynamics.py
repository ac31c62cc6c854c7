"""Self-distillation repeated, generation after generation, in worlds whose answers can be listed.

Each generation the student becomes the optimum of distilling a teacher that has seen a
demonstration (`passk_lab.teacher.optimum`), and then is base and teacher of the next. Formulas and
proofs are in docs/dynamics.md; under forward KL a trust factor η puts T_c^η b^(1-η), normalised, in
place of T_c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from passk_lab.teacher._arguments import Bools, Floats, Ints, RandomState, Teacher, check_choice
from passk_lab.teacher._simplex import (
    World,
    fitting,
    log_sum,
    normalised,
    probabilities,
    times,
)

__all__ = [
    "Trajectory",
    "fixed_points",
    "rl_trajectory",
    "self_distillation_trajectory",
]

_Demos = Literal["policy", "base", "uniform"]
_Divergence = Literal["reverse", "forward"]
_Gradient = Literal["natural", "vanilla"]
_Step = Callable[[Floats], Floats]

_MOST_MODES = 8  # of a search over all faces of the simplex


@dataclass(frozen=True)
class Trajectory:
    """Policies of all generations, the first of which is the base."""

    log_prob: Floats  # (n_generations + 1, n_worlds, n_modes), nats
    correct: Bools  # (n_worlds, n_modes)

    @property
    def prob(self) -> Floats:
        """Probabilities, shape (n_generations + 1, n_worlds, n_modes)."""
        return np.exp(self.log_prob)

    @property
    def accuracy(self) -> Floats:
        """Probability of a correct mode, shape (n_generations + 1, n_worlds)."""
        return np.exp(log_sum(self._log_correct))

    @property
    def effective_modes(self) -> Floats:
        """1 / Σ p² over the correct modes, p normalised, shape (n_generations + 1, n_worlds)."""
        once, twice = log_sum(self._log_correct), log_sum(2 * self._log_correct)
        return np.exp(2 * once - twice)

    @property
    def _log_correct(self) -> Floats:
        return np.where(self.correct, self.log_prob, -np.inf)

    def half_life(self) -> Floats:
        """Generations until the base's rarest correct mode has half its share of the correct ones.

        Shape (n_worlds,), interpolated along the logarithm; inf where it didn't come to that.
        """
        share = normalised(self._log_correct)
        rarest = np.argmin(np.where(share[0] > -np.inf, share[0], np.inf), axis=1)
        path = np.take_along_axis(share, rarest[None, :, None], axis=2)[..., 0]
        level = path[0] - np.log(2)
        result = np.full(len(rarest), np.inf)
        below = path <= level
        for world in np.flatnonzero(below.any(axis=0)):
            t = np.argmax(below[:, world])
            before, after = path[t - 1 : t + 1, world]
            result[world] = t - 1 + (before - level[world]) / (before - after)
        return result


def self_distillation_trajectory(
    world: World,
    n_generations: int,
    teacher: Teacher = "moving",
    demos: _Demos | npt.ArrayLike = "policy",
    weight: npt.ArrayLike = 1.0,
    divergence: _Divergence = "reverse",
    n_demos: int | None = None,
    random_state: RandomState = None,
) -> Trajectory:
    """Distil again and again, each generation to its optimum.

    Parameters
    ----------
    world : BoostWorld or StyleWorld
    n_generations : int
    teacher : {"moving", "frozen"}
        Whether teacher and base of a generation are the student of the last, or the first base.
    demos : {"policy", "base", "uniform"} or array_like, shape (n_modes,) or (n_worlds, n_modes)
        Demonstrations are drawn from the student's correct answers, from the first base's, from
        all correct modes alike, or from a law given here.
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
        Demonstrations together veto every answer of a world.

    Examples
    --------
    >>> from passk_lab.teacher import BoostWorld
    >>> world = BoostWorld([0.5, 0.3, 0.2], boost=1.0)
    >>> self_distillation_trajectory(world, 8).prob[[1, 2, 4, 6, 8], 0, 0].round(3).tolist()
    [0.559, 0.637, 0.829, 0.96, 0.994]
    """
    size, n_modes = world.log_base.shape
    _check_generations(n_generations)
    check_choice(teacher, "teacher", get_args(Teacher))
    check_choice(divergence, "divergence", get_args(_Divergence))
    if n_demos is not None and n_demos < 1:
        raise ValueError(f"n_demos={n_demos} must be at least 1, or None for their whole law")
    trust = fitting(weight, "weight", (size,))
    if (trust < 0).any():
        raise ValueError(f"weight={trust.min()} must not be negative")
    law = _demo_law(world, demos)
    rng = np.random.default_rng(random_state)
    path = np.empty((n_generations + 1, size, n_modes))
    path[0] = world.log_base
    for t in range(n_generations):
        q = _student_demos(world, path[t]) if law is None else law
        if n_demos is not None:
            q = rng.multinomial(n_demos, q) / n_demos
        anchor = path[0] if teacher == "frozen" else path[t]
        path[t + 1] = _generation(world, anchor, q, trust, divergence)
    return Trajectory(path, world.correct)


def rl_trajectory(
    base: npt.ArrayLike,
    reward: npt.ArrayLike,
    n_generations: int,
    step: npt.ArrayLike = 1.0,
    gradient: _Gradient = "natural",
) -> Trajectory:
    """Reinforcement learning on the same modes, for comparison (docs/dynamics.md, section 6).

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
        The replicator p' ∝ p e^(step r) (mirror descent), or the policy gradient of a softmax,
        which moves the logits by step p(y) (r(y) - E_p r).

    Returns
    -------
    Trajectory

    Examples
    --------
    >>> path = rl_trajectory([0.30, 0.18, 0.12, 0.40], [1, 1, 1, 0], 4)
    >>> path.prob[4, 0].round(3).tolist()
    [0.494, 0.296, 0.198, 0.012]
    """
    p = probabilities(base, "base")
    rewards = fitting(reward, "reward", p.shape)
    steps = fitting(step, "step", (len(p),))[:, None]
    _check_generations(n_generations)
    check_choice(gradient, "gradient", get_args(_Gradient))
    path = np.empty((n_generations + 1, *p.shape))
    with np.errstate(divide="ignore"):
        path[0] = np.log(p)
    for t in range(n_generations):
        move = rewards
        if gradient == "vanilla":
            now = np.exp(path[t])
            move = now * (rewards - (now * rewards).sum(axis=1, keepdims=True))
        path[t + 1] = normalised(path[t] + steps * move)
    return Trajectory(path, rewards > 0)


def _check_generations(n_generations: int) -> None:
    if n_generations < 0:
        raise ValueError(f"n_generations={n_generations} must not be negative")


def _generation(
    world: World, anchor: Floats, q: Floats, trust: Floats, divergence: _Divergence
) -> Floats:
    possible = anchor > -np.inf
    if divergence == "reverse":
        moved = anchor + times(trust[:, None], world.tilt(anchor, q))
        result = normalised(np.where(possible, moved, -np.inf))
    else:
        moved = anchor[:, :, None] + times(trust[:, None, None], world.pcmi(anchor))
        moved = normalised(np.where(possible[:, :, None], moved, -np.inf), axis=1)
        with np.errstate(divide="ignore"):
            result = normalised(log_sum(moved + np.log(q)[:, None, :]))
    if np.isnan(result).any():
        at = int(np.argmax(np.isnan(result).any(axis=1)))
        raise ValueError(
            f"the demonstrations of world {at} together veto every answer, so there is no optimum; "
            "lower copying or influence below 1, or take forward KL"
        )
    return result


def _demo_law(world: World, demos: _Demos | npt.ArrayLike) -> Floats | None:
    """The law of demonstrations if it is always the same."""
    shape = world.log_base.shape
    if isinstance(demos, str):
        check_choice(demos, "demos", get_args(_Demos))
        if demos == "policy":
            return None
        if demos == "base":
            return _student_demos(world, world.log_base)
        possible = world.correct & (world.log_base > -np.inf)
        return np.asarray(possible / possible.sum(axis=1, keepdims=True))
    law = probabilities(demos, "demos")
    if law.shape[1] != shape[1] or len(law) not in (1, shape[0]):
        raise ValueError(f"demos has shape {law.shape}, but the policies {shape}")
    return np.broadcast_to(law, shape)


def _student_demos(world: World, log_policy: Floats) -> Floats:
    q = np.exp(normalised(np.where(world.correct, log_policy, -np.inf)))
    return np.asarray(q / q.sum(axis=1, keepdims=True))


# --- Fixed points ---


class _FixedPoint(NamedTuple):
    """A policy that a generation leaves as it is, see `fixed_points`."""

    prob: Floats
    multiplier: float
    stable: bool


def fixed_points(
    world: World,
    teacher: Teacher = "moving",
    demos: _Demos = "policy",
    weight: float = 1.0,
    n_starts: int = 32,
    random_state: RandomState = 0,
) -> list[_FixedPoint]:
    """Find fixed points of reverse-KL generations, by Newton's method from many starts.

    Parameters
    ----------
    world : BoostWorld or StyleWorld
        One, of at most 8 modes if the teacher moves.
    teacher, demos, weight
        As for `self_distillation_trajectory`, without a law given.
    n_starts, random_state
        Random starts, spread over the faces of the simplex where the teacher moves (with it, a mode
        without probability stays so, and every face is a world of its own).

    Returns
    -------
    list of named tuples
        ``prob``, shape (n_modes,); ``multiplier``, the largest factor by which a small deviation
        grows in a generation; ``stable``, whether that is below 1 by more than 1e-6. Stable ones
        first, then by the largest probability. Without any tilt every policy is fixed, and only the
        base is returned.

    Examples
    --------
    Between the critical weights of docs/dynamics.md both equality and collapse are stable:

    >>> from passk_lab.teacher import BoostWorld
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
    moving = teacher == "moving"
    faces = _faces(world, moving)
    rng = np.random.default_rng(random_state)
    law = _demo_law(world, demos)
    trust = fitting(weight, "weight", (1,))

    def step(log_p: Floats) -> Floats:
        q = _student_demos(world, log_p[None]) if law is None else law
        anchor = log_p[None] if moving else world.log_base
        return _generation(world, anchor, q, trust, "reverse")[0]

    base = np.exp(world.log_base[0])
    if np.abs(np.exp(step(world.log_base[0])) - base).max() < 1e-14 and _flat(step, base, rng):
        return [_FixedPoint(base, 1.0, False)]
    found: list[Floats] = []
    each = -(-n_starts // len(faces))
    for face in faces:
        for start in _starts(face, base, each, rng):
            point = _solve(step, face, start, len(base))
            if point is not None and not any(np.abs(p - point).max() < 1e-6 for p in found):
                found.append(point)
    points = [_FixedPoint(p, m, m < 1 - 1e-6) for p in found for m in [_multiplier(step, p)]]
    return sorted(points, key=lambda x: (not x.stable, -round(x.prob.max(), 6), *-x.prob.round(6)))


def _faces(world: World, moving: bool) -> list[Ints]:
    """Sets of modes that can be fixed with no others: all, or any with a moving teacher."""
    alive = np.flatnonzero(world.log_base[0] > -np.inf)
    if moving and len(alive) > _MOST_MODES:
        raise ValueError(
            f"world has {len(alive)} modes, and with a moving teacher {2 ** len(alive)} faces to "
            f"search; take at most {_MOST_MODES}"
        )
    return [
        np.array(face)
        for size in (range(1, len(alive) + 1) if moving else [len(alive)])
        for face in combinations(alive, size)
        # Without a correct mode there are no demonstrations.
        if world.correct[0, list(face)].any()
    ]


def _starts(face: Ints, base: Floats, n_random: int, rng: np.random.Generator) -> list[Floats]:
    size = len(face)
    if size == 1:
        return [np.ones(1)]
    equal = np.full(size, 1 / size)
    leaders = list(0.95 * np.eye(size) + 0.05 * equal)
    mild = list(0.5 * np.eye(size) + 0.5 * equal)
    own = base[face] / base[face].sum()
    return [equal, own, *leaders, *mild, *rng.dirichlet(np.ones(size), size=n_random)]


def _solve(step: _Step, face: Ints, start: Floats, n: int) -> Floats | None:
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


def _multiplier(step: _Step, point: Floats) -> float:
    """Largest growth of a deviation: along the face, and towards modes without probability."""
    on, off = np.flatnonzero(point > 0), np.flatnonzero(point == 0)
    with np.errstate(divide="ignore"):
        log_p = np.log(point)

    def moved(mode: np.intp, to: float) -> Floats:
        after = log_p.copy()
        after[mode] = to
        return after

    def odds(log_p: Floats) -> Floats:
        after = step(normalised(log_p))[on]
        return np.asarray(after[:-1] - after[-1])

    growth = [0.0]
    if len(on) > 1:
        # Deviations of the log-odds, whose growth at a fixed point is that of the probabilities.
        h = 1e-5
        moves = [(odds(moved(j, log_p[j] + h)) - odds(moved(j, log_p[j] - h))) / (2 * h)
                 for j in on[:-1]]  # fmt: skip
        growth.append(float(np.abs(np.linalg.eigvals(np.stack(moves, axis=1))).max()))
    tiny = -300.0  # as a log-probability: the deviation is a mode's share itself
    growth += [float(np.exp(step(moved(j, tiny))[j] - tiny)) for j in off]
    return max(growth)


def _flat(step: _Step, base: Floats, rng: np.random.Generator) -> bool:
    """Whether other policies are fixed as well."""
    with np.errstate(divide="ignore"):
        others = np.log(base * rng.dirichlet(np.ones(len(base)), size=4))
    return all(np.abs(np.exp(step(o)) - np.exp(o)).max() < 1e-13 for o in normalised(others))
