"""Where training would end: exact optima for prompts whose answers can all be listed.

For one prompt, π(y) is the base's probability of answer y, T_c(y) = π(y | demonstration c) the
teacher's, M(y, c) = log T_c(y) - log π(y) their pointwise conditional mutual information, q the law
of the demonstrations and s(y) = E_q M(y, c) the tilt. With D a divergence, c drawn from q
independently of y, and a teacher without gradient [1], the optimum p of each objective is:

- max E_p r - β KL(p‖π): π e^(r/β), ratios of correct answers are π's
- min E_q KL(p‖T_c) ("reverse"): geometric mean, π e^s
- min E_q KL(T_c‖p) ("forward"): arithmetic mean, E_q T_c
- min E_q JSD(p, T_c) ("jsd"): E_q log p/(p + T_c) equal for all y
- min E_q KL(p‖T_c) + β′ KL(p‖π): π e^(ηs), η = 1/(1 + β′)
- max E_p r - λ E_q KL(p‖T_c) - β KL(p‖π): π e^((r + λs)/(β + λ)): `rl_optimum` with β + λ of
  `self_distillation_optimum` with η = λ/(β + λ)

each normalised. For the other divergences the weight η moves the teachers themselves towards the
base, T_c^η π^(1-η) normalised, a trust region; under reverse KL that is the same as the penalty β′.

1. arXiv 2606.26091 has the reverse case, the base tilted by expected mutual information, and
   arXiv 2607.28582 the geometric interpolation with the base. The tests derive every row by
   minimising the objective numerically.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from passk_lab.teacher._arguments import (
    END,
    Bools,
    Floats,
    Ints,
    check_choice,
    ended,
    log_array,
    refuse_entry,
    shares,
)

__all__ = ["distillation_optimum", "rl_optimum", "self_distillation_optimum"]

_Divergence = Literal["reverse", "forward", "jsd"]


def rl_optimum(base: npt.ArrayLike, reward: npt.ArrayLike, beta: float) -> Floats:
    """Optimum of reinforcement learning with a KL penalty towards the base, π e^(r/β).

    Parameters
    ----------
    base : array_like, shape (n_answers,)
        Probabilities. If they don't sum to 1, the result is conditional on the listed answers.
    reward : array_like, shape (n_answers,)
        Or booleans: 1 for a correct answer.
    beta : float
        Weight of the penalty, positive; infinite gives the base.

    Returns
    -------
    array, shape (n_answers,)
        Probabilities.

    Examples
    --------
    >>> rl_optimum([0.3, 0.1, 0.6], [1, 1, 0], beta=1 / np.log(6)).round(3).tolist()
    [0.6, 0.2, 0.2]
    """
    log_base = _log_probabilities(base)
    rewards = np.asarray(reward, dtype=np.float64)
    if rewards.shape != log_base.shape:
        raise ValueError(
            f"reward has shape {rewards.shape}; give one for each of {len(log_base)} answers"
        )
    refuse_entry(~np.isfinite(rewards), rewards, "reward", "; rewards must be finite")
    if not beta > 0:
        raise ValueError(f"beta={beta} must be positive; at 0 every law on the best answers is one")
    message = "no answer has any probability under the base"
    return np.exp(_normalised(log_base + rewards / beta, message))


def self_distillation_optimum(
    base: npt.ArrayLike,
    pcmi: npt.ArrayLike,
    demo_weights: npt.ArrayLike | None = None,
    weight: float = 1.0,
    divergence: _Divergence = "reverse",
) -> Floats:
    """Optimum of distilling the base conditioned on demonstrations into itself.

    Parameters
    ----------
    base : array_like, shape (n_answers,)
        π, probabilities.
    pcmi : array_like, shape (n_answers, n_demos)
        M, nats: log π(y|c) - log π(y); -inf where a demonstration rules an answer out. Entries of
        answers with π = 0 are not read.
    demo_weights, divergence
        As for `distillation_optimum`.
    weight : float
        η = 1/(1 + β′), which scales the tilt; 0 gives the base.

    Returns
    -------
    array, shape (n_answers,)
        Probabilities.

    Examples
    --------
    A demonstration raises its own answer; frequent answers are shown more often, so they gain:

    >>> base = np.array([0.6, 0.4])
    >>> teacher = base * np.exp(np.eye(2))
    >>> pcmi = np.log(teacher / teacher.sum(1, keepdims=True) / base).T
    >>> self_distillation_optimum(base, pcmi, demo_weights=base).round(3).tolist()
    [0.647, 0.353]
    """
    log_base = _log_probabilities(base)
    matrix = np.asarray(pcmi, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) != len(log_base):
        raise ValueError(
            f"pcmi has shape {matrix.shape}; it needs a row for each of {len(log_base)} answers "
            "and a column for each demonstration"
        )
    given = np.where((log_base > -np.inf)[:, None], matrix, -np.inf)
    given = log_array(given, "pcmi", "n_answers", "n_demos")
    # Estimates of M need not add up to probabilities, which reverse KL doesn't mind.
    teachers, q = _weighted((log_base[:, None] + given).T, demo_weights)
    return _distil(teachers, q, divergence, log_base, weight).prob


@dataclass(frozen=True)
class _Optimum:
    """What `distillation_optimum` returns."""

    log_prob: Floats
    value: float
    vetoed: Bools

    @property
    def prob(self) -> Floats:
        return np.exp(self.log_prob)


def distillation_optimum(
    log_teacher: npt.ArrayLike,
    demo_weights: npt.ArrayLike | None = None,
    divergence: _Divergence = "reverse",
    log_base: npt.ArrayLike | None = None,
    weight: float = 1.0,
    tokens: Sequence[Sequence[Hashable]] | None = None,
) -> _Optimum:
    """Policy closest to the teachers of all demonstrations.

    As whole sequences or, with ``tokens``, if each token's loss is minimised for itself: where a
    loss summed over tokens leads, whose gradient doesn't pass through the sampling of the prefix.
    For reverse KL that is the product over tokens of the normalised exp E_q log T_c(y_t | y_<t);
    the optimum over whole sequences also multiplies each token by the agreement of the
    demonstrations about what may follow.

    Parameters
    ----------
    log_teacher : array_like, shape (n_demos, n_answers)
        log T_c(y) of whole answers, nats, -inf allowed. For JSD, and for forward KL with a weight
        other than 1, each row's probabilities must sum to 1, so all answers must be listed;
        otherwise some will do, and the result is conditional on these.
    demo_weights : array_like, shape (n_demos,), optional
        q up to a factor; uniform by default. Demonstrations of weight 0 have no say.
    divergence : {"reverse", "forward", "jsd"}
        KL(p‖T), KL(T‖p), or the Jensen-Shannon divergence of p and T.
    log_base : array_like, shape (n_answers,), optional
        Needed where ``weight`` isn't 1.
    weight : float
        η of the trust region, not negative; 0 gives the base, without any veto.
    tokens : sequence of sequences of hashable, length n_answers, optional
        Tokens of each answer, all different. An end token is added to each. Demonstrations under
        which a prefix is impossible have no say about what follows it.

    Returns
    -------
    object
        ``prob`` and ``log_prob`` (nats), shape (n_answers,); ``value``, the smallest expected
        divergence, nats, for reverse KL the demonstrations' irreducible disagreement (with tokens:
        the prefixes' values, each times the probability of getting there); ``vetoed``, a mask of
        answers that at least one demonstration with weight allows, and the optimum doesn't.

    Raises
    ------
    ValueError
        Shapes differ; a log-probability is NaN or positive; all answers are vetoed, or all tokens
        after a prefix that is reached; rows don't sum to 1 where they must; the base is missing;
        two answers are equal.

    Examples
    --------
    >>> teachers = np.log([[0.5, 0.45, 0.05], [0.5, 0.05, 0.45]])
    >>> distillation_optimum(teachers).prob.round(4).tolist()
    [0.625, 0.1875, 0.1875]
    >>> distillation_optimum(teachers, tokens=["a", "bx", "by"]).prob.round(3).tolist()
    [0.5, 0.25, 0.25]
    """
    teachers = log_array(log_teacher, "log_teacher", "n_demos", "n_answers")
    message = "; a log-probability must not be positive"
    refuse_entry(teachers > 1e-9, teachers, "log_teacher", message)
    teachers, q = _weighted(teachers, demo_weights)
    size = teachers.shape[1]
    base = None if log_base is None else log_array(log_base, "log_base", "n_answers")
    for name, given in (("log_base", base), ("tokens", tokens)):
        if given is not None and len(given) != size:
            raise ValueError(f"log_teacher lists {size} answers, but {name} {len(given)}")
    if tokens is None:
        return _distil(teachers, q, divergence, base, weight)
    return _by_token(ended(tokens), teachers, q, divergence, base, weight)


def _by_token(
    words: Sequence[Sequence[Hashable]],
    teachers: Floats,
    q: Floats,
    divergence: _Divergence,
    base: Floats | None,
    weight: float,
) -> _Optimum:
    log_prob = np.full(len(words), -np.inf)
    value = 0.0
    stack = [(np.arange(len(words)), 0, 0.0)]
    while stack:
        rows, depth, reached = stack.pop()
        branches: dict[Hashable, list[int]] = {}
        for row in rows.tolist():
            branches.setdefault(words[row][depth], []).append(row)
        groups = [np.array(group) for group in branches.values()]
        try:
            best = _next_token(groups, teachers, q, divergence, base, weight)
        except ValueError as error:
            prefix = list(words[rows[0]][:depth])
            raise ValueError(f"after the prefix {prefix}: {error}") from error
        value += float(np.exp(reached)) * best.value
        for group, log_token in zip(groups, best.log_prob, strict=True):
            if words[group[0]][depth] is END:
                log_prob[group[0]] = reached + log_token
            elif log_token > -np.inf:
                stack.append((group, depth + 1, reached + float(log_token)))
    return _Optimum(log_prob, value, _vetoed(teachers, log_prob))


def _next_token(
    groups: Sequence[Ints],
    teachers: Floats,
    q: Floats,
    divergence: _Divergence,
    base: Floats | None,
    weight: float,
) -> _Optimum:
    """Optimum over the groups of answers that share their next token."""

    def of_tokens(logs: Floats) -> Floats:
        tokens = np.stack([special.logsumexp(logs[..., g], axis=-1) for g in groups], axis=-1)
        total = special.logsumexp(tokens, axis=-1, keepdims=True)
        return np.asarray(tokens - np.where(total > -np.inf, total, 0.0))

    tokens = of_tokens(teachers)
    possible = (tokens > -np.inf).any(axis=1)
    if not possible.any():
        raise ValueError("no demonstration goes on from here; list more answers or demonstrations")
    of_base = None if base is None else of_tokens(base)
    return _distil(tokens[possible], q[possible] / q[possible].sum(), divergence, of_base, weight)


def _distil(
    teachers: Floats, q: Floats, divergence: _Divergence, base: Floats | None, weight: float
) -> _Optimum:
    check_choice(divergence, "divergence", get_args(_Divergence))
    if divergence == "jsd" or (divergence == "forward" and weight != 1):
        totals = np.exp(special.logsumexp(teachers, axis=1))
        if (np.abs(totals - 1) > 1e-6).any():
            at = int(np.argmax(np.abs(totals - 1) > 1e-6))
            raise ValueError(
                f"the teacher of demonstration {at} sums to {totals[at]:.6g} over the answers; "
                "list all answers, wrong ones included, or take reverse KL, which needs only some"
            )
    teachers = _trusted(teachers, base, weight)
    means = {"reverse": _geometric, "forward": _arithmetic, "jsd": _jensen_shannon}
    log_prob, value = means[divergence](teachers, q)
    return _Optimum(log_prob, value, _vetoed(teachers, log_prob))


def _vetoed(teachers: Floats, log_prob: Floats) -> Bools:
    return np.asarray((teachers > -np.inf).any(axis=0) & (log_prob == -np.inf))


def _geometric(teachers: Floats, q: Floats) -> tuple[Floats, float]:
    scores = q @ teachers
    message = (
        "every answer is ruled out by the base or some demonstration, so no policy has a finite "
        "reverse KL; smooth the teachers, drop a demonstration or take another divergence"
    )
    return _normalised(scores, message), -float(special.logsumexp(scores))


def _arithmetic(teachers: Floats, q: Floats) -> tuple[Floats, float]:
    scores = special.logsumexp(teachers + np.log(q)[:, None], axis=0)
    log_prob = _normalised(scores, "no answer has any probability under a teacher")
    gap = np.subtract(teachers, log_prob, out=np.zeros_like(teachers), where=teachers > -np.inf)
    return log_prob, float(q @ (np.exp(teachers) * gap).sum(axis=1))


def _jensen_shannon(teachers: Floats, q: Floats) -> tuple[Floats, float]:
    """Solve E_q log 2p/(p + T_c) = const for p.

    The map log p <- E_q log (p + T_c)/2, normalised, has this fixed point and its slope, E_q
    p/(p + T_c), lies between 0 and 1, so that it converges, but slowly where few demonstrations
    allow an answer. Newton's step costs no more, as the Jacobian is diagonal but for the
    normalisation; it is taken where it brings log p closer to being fixed.
    """
    possible = (teachers > -np.inf).any(axis=0)
    log_t = teachers[:, possible]

    def fixed(current: Floats) -> Floats:
        return np.asarray(special.log_softmax(q @ np.logaddexp(current, log_t)))

    log_p = special.log_softmax(special.logsumexp(log_t + np.log(q)[:, None], axis=0))
    image = fixed(log_p)
    for _ in range(100_000):
        error = float(np.abs(image - log_p).max())
        if error < 1e-13:
            break
        excess = np.log(2) - q @ np.logaddexp(0.0, log_t - log_p)
        slope = q @ special.expit(log_t - log_p)
        p = np.exp(log_p)
        level = (1 - p.sum() + (p * excess / slope).sum()) / (p / slope).sum()
        newton = special.log_softmax(log_p + np.clip((level - excess) / slope, -1, 1))
        next_image = fixed(newton)
        if np.abs(next_image - newton).max() < 0.9 * error:
            log_p, image = newton, next_image
        else:
            log_p, image = image, fixed(image)
    if error > 1e-10:
        raise ValueError(
            f"JSD: log-probabilities still change by {error:.1g}; the demonstrations disagree too "
            "much, so smooth the teachers"
        )
    result = np.full(teachers.shape[1], -np.inf)
    result[possible] = log_p
    mixture = np.logaddexp(log_p, log_t) - np.log(2)
    of_teacher = np.exp(log_t) * np.where(log_t > -np.inf, log_t - mixture, 0.0)
    of_policy = np.exp(log_p) * (log_p - mixture)
    return result, float(q @ (of_teacher + of_policy).sum(axis=1) / 2)


def _normalised(scores: Floats, message: str) -> Floats:
    total = special.logsumexp(scores)
    if not total > -np.inf:
        raise ValueError(message)
    return np.asarray(scores - total)


def _trusted(teachers: Floats, base: Floats | None, weight: float) -> Floats:
    if not 0 <= weight < np.inf:
        raise ValueError(f"weight={weight} must be finite and not negative")
    if weight == 1:
        return teachers
    if base is None:
        raise ValueError(f"weight={weight} pulls towards the base; give log_base")
    possible = base > -np.inf
    moved = np.full_like(teachers, -np.inf)
    moved[:, possible] = (1 - weight) * base[possible]
    if weight:  # 0 times -inf is 0: a term without weight has no say
        moved[:, possible] += weight * teachers[:, possible]
    total = special.logsumexp(moved, axis=1, keepdims=True)
    if not (total > -np.inf).all():
        raise ValueError("a demonstration rules out every answer that the base gives; drop it")
    return np.asarray(moved - total)


def _log_probabilities(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    message = ", not a probability; pass probabilities"
    refuse_entry(~((array >= 0) & (array <= 1 + 1e-9)), array, "base", message)
    with np.errstate(divide="ignore"):
        return log_array(np.log(array), "base", "n_answers")


def _weighted(teachers: Floats, demo_weights: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Teachers that have a weight, and their weights."""
    q = shares(demo_weights, len(teachers), "demo_weights")
    return teachers[q > 0], q[q > 0]
