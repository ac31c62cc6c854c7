"""Where training would end: exact optima for prompts whose answers can all be listed.

For one prompt, π(y) is the base's probability of answer y, T_c(y) = π(y | demonstration c) the
teacher's, M(y, c) = log T_c(y) - log π(y) their pointwise conditional mutual information, q the law
of the demonstrations and s(y) = E_q M(y, c) the tilt. With D a divergence, c drawn from q
independently of y, and a teacher without gradient [1]_:

==========================================  ====================================================
objective                                   optimum p
==========================================  ====================================================
max E_p r - β KL(p‖π)                       π e^(r/β), ratios of correct answers are π's
min E_q KL(p‖T_c) ("reverse")               geometric mean, π e^s
min E_q KL(T_c‖p) ("forward")               arithmetic mean, E_q T_c
min E_q JSD(p, T_c) ("jsd")                 E_q log p/(p + T_c) equal for all y
min E_q KL(p‖T_c) + β′ KL(p‖π)              π e^(ηs), η = 1/(1 + β′)
max E_p r - λ E_q KL(p‖T_c) - β KL(p‖π)     π e^((r + λs)/(β + λ))
==========================================  ====================================================

each normalised. For the other divergences the weight η moves the teachers themselves towards the
base, T_c^η π^(1-η) normalised, a trust region; under reverse KL that is the same as the penalty β′.

Everything is computed from logarithms, and -inf is a probability of zero. Under reverse KL an
answer which one teacher rules out is ruled out for good, whatever the others say: a veto.
`Optimum` says where that happened.

.. [1] arXiv 2606.26091 has the reverse case, the base tilted by expected mutual information, and
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

from passk_lab.teacher._arguments import END, ended, log_vector

__all__ = [
    "Divergence",
    "Optimum",
    "distillation_optimum",
    "expected_pcmi",
    "log_rl_optimum",
    "regularised_optimum",
    "rl_optimum",
    "self_distillation_optimum",
    "token_optimum",
    "trust_weight",
]

Floats = npt.NDArray[np.float64]
Divergence = Literal["reverse", "forward", "jsd"]

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Optimum:
    """An optimal policy over listed answers.

    Attributes
    ----------
    log_prob : array, shape (n_answers,)
        Nats; -inf for answers it never gives. Sums to 1 over the answers that were listed.
    value : float
        The objective there, nats: the smallest expected divergence (for reverse KL that is the
        demonstrations' irreducible disagreement, -log Z) or, with a reward, the largest objective.
    vetoed : array of bool, shape (n_answers,)
        Answers that at least one demonstration with weight allows, and the optimum doesn't.
    """

    log_prob: Floats
    value: float
    vetoed: npt.NDArray[np.bool_]

    @property
    def prob(self) -> Floats:
        """Probabilities, shape (n_answers,)."""
        return np.exp(self.log_prob)


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

    Raises
    ------
    ValueError
        A probability is negative or all are zero, a reward isn't finite, β isn't positive.

    Examples
    --------
    >>> rl_optimum([0.3, 0.1, 0.6], [1, 1, 0], beta=1 / np.log(6)).round(3).tolist()
    [0.6, 0.2, 0.2]
    """
    return np.exp(log_rl_optimum(_log_probabilities(base, "base"), reward, beta))


def log_rl_optimum(log_base: npt.ArrayLike, reward: npt.ArrayLike, beta: float) -> Floats:
    """As `rl_optimum`, from and to log-probabilities.

    Parameters
    ----------
    log_base : array_like, shape (n_answers,)
        Nats, -inf allowed.
    reward, beta
        As for `rl_optimum`.

    Returns
    -------
    array, shape (n_answers,)

    Raises
    ------
    ValueError
        As for `rl_optimum`.

    Examples
    --------
    >>> log_rl_optimum([-1000.0, -1000.0, -np.inf], [1, 1, 1], beta=1e-3).round(4).tolist()
    [-0.6931, -0.6931, -inf]
    """
    log_base = log_vector(log_base, "log_base", "n_answers")
    rewards = _rewards(reward, len(log_base))
    if not beta > 0:
        raise ValueError(f"beta={beta} must be positive; at 0 every law on the best answers is one")
    return _normalised(log_base + rewards / beta, "no answer has any probability under the base")


def self_distillation_optimum(
    base: npt.ArrayLike,
    pcmi: npt.ArrayLike,
    demo_weights: npt.ArrayLike | None = None,
    weight: float = 1.0,
    divergence: Divergence = "reverse",
) -> Floats:
    """Optimum of distilling the base conditioned on demonstrations into itself.

    Parameters
    ----------
    base : array_like, shape (n_answers,)
        π, probabilities.
    pcmi : array_like, shape (n_answers, n_demos)
        M, nats: log π(y|c) - log π(y); -inf where a demonstration rules an answer out. Entries of
        answers with π = 0 are not read.
    demo_weights : array_like, shape (n_demos,), optional
        q up to a factor; uniform by default.
    weight : float
        η = 1/(1 + β′), which scales the tilt; 0 gives the base.
    divergence : {"reverse", "forward", "jsd"}

    Returns
    -------
    array, shape (n_answers,)
        Probabilities.

    Raises
    ------
    ValueError
        Shapes differ; a value is NaN or +inf; demonstrations together veto every answer; answers
        are missing where the divergence needs all (see `distillation_optimum`).

    Examples
    --------
    A demonstration raises the log-probability of its own answer by 1; frequent answers serve as
    demonstrations more often, so they gain under reverse KL:

    >>> base = np.array([0.6, 0.4])
    >>> teacher = base * np.exp(np.eye(2))
    >>> pcmi = np.log(teacher / teacher.sum(1, keepdims=True) / base).T
    >>> self_distillation_optimum(base, pcmi, demo_weights=base).round(3).tolist()
    [0.647, 0.353]
    >>> self_distillation_optimum(base, pcmi).round(3).tolist()
    [0.6, 0.4]
    """
    log_base = _log_probabilities(base, "base")
    # Estimates of M need not add up to probabilities, which reverse KL doesn't mind.
    teachers, q = _weighted(_log_teacher(log_base, pcmi), demo_weights)
    return _distil(teachers, q, divergence, log_base, weight).prob


def distillation_optimum(
    log_teacher: npt.ArrayLike,
    demo_weights: npt.ArrayLike | None = None,
    divergence: Divergence = "reverse",
    log_base: npt.ArrayLike | None = None,
    weight: float = 1.0,
) -> Optimum:
    """Policy closest to the teachers of all demonstrations, as whole sequences.

    Parameters
    ----------
    log_teacher : array_like, shape (n_demos, n_answers)
        log T_c(y), nats, -inf allowed. For JSD, and for forward KL with a weight other than 1,
        each row's probabilities must sum to 1, so all answers must be listed; otherwise some of
        them will do, and the result is conditional on these.
    demo_weights : array_like, shape (n_demos,), optional
        q up to a factor; uniform by default. Demonstrations of weight 0 have no say.
    divergence : {"reverse", "forward", "jsd"}
        KL(p‖T), KL(T‖p), or the Jensen-Shannon divergence of p and T.
    log_base : array_like, shape (n_answers,), optional
        Needed where ``weight`` isn't 1.
    weight : float
        η of the trust region, not negative; 0 gives the base, without any veto.

    Returns
    -------
    Optimum

    Raises
    ------
    ValueError
        Shapes differ; a log-probability is NaN or positive; all answers are vetoed, so that no
        policy has a finite reverse KL; rows don't sum to 1 where they must; the base is missing.

    Examples
    --------
    >>> teachers = np.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    >>> distillation_optimum(teachers).prob.round(3).tolist()
    [0.369, 0.369, 0.261]
    >>> distillation_optimum(teachers, divergence="forward").prob.round(3).tolist()
    [0.375, 0.375, 0.25]
    """
    teachers, q = _teachers(log_teacher, demo_weights)
    return _distil(teachers, q, divergence, log_base, weight)


def regularised_optimum(
    log_base: npt.ArrayLike,
    log_teacher: npt.ArrayLike,
    reward: npt.ArrayLike,
    beta: float,
    distillation: float,
    demo_weights: npt.ArrayLike | None = None,
) -> Optimum:
    """Optimum of reward, reverse-KL distillation and KL penalty together, π e^((r + λs)/(β + λ)).

    Parameters
    ----------
    log_base : array_like, shape (n_answers,)
    log_teacher : array_like, shape (n_demos, n_answers)
    reward : array_like, shape (n_answers,)
    beta : float
        β, weight of KL(p‖π); not negative.
    distillation : float
        λ, weight of E_q KL(p‖T_c); not negative, and not 0 together with β.
    demo_weights : array_like, shape (n_demos,), optional

    Returns
    -------
    Optimum

    Raises
    ------
    ValueError
        As for `distillation_optimum`; a weight is negative or both are 0.

    Examples
    --------
    >>> base, teacher = np.log([0.5, 0.25, 0.25]), np.log([[0.25, 0.5, 0.25]])
    >>> regularised_optimum(base, teacher, [1, 1, 0], 0.5, 0.5).prob.round(3).tolist()
    [0.442, 0.442, 0.115]
    """
    log_base = log_vector(log_base, "log_base", "n_answers")
    teachers, q = _teachers(log_teacher, demo_weights)
    if teachers.shape[1] != len(log_base):
        raise ValueError(
            f"log_teacher lists {teachers.shape[1]} answers, but log_base {len(log_base)}"
        )
    rewards = _rewards(reward, len(log_base))
    total = beta + distillation
    if not (beta >= 0 and distillation >= 0 and 0 < total < np.inf):
        raise ValueError(
            f"beta={beta} and distillation={distillation} must not be negative, and one of them "
            "must be positive"
        )
    scores = (rewards + _times(beta, log_base) + _times(distillation, q @ teachers)) / total
    scores = np.where(log_base > -np.inf, scores, -np.inf)
    log_prob = _normalised(scores, _ALL_VETOED)
    value = float(total * special.logsumexp(scores))
    allowed = (log_base > -np.inf) & (teachers > -np.inf).any(axis=0)
    return Optimum(log_prob, value, allowed & (log_prob == -np.inf))


def token_optimum(
    answers: Sequence[Sequence[Hashable]],
    log_teacher: npt.ArrayLike,
    demo_weights: npt.ArrayLike | None = None,
    divergence: Divergence = "reverse",
    log_base: npt.ArrayLike | None = None,
    weight: float = 1.0,
) -> Optimum:
    """Optimum if each token's loss is minimised for itself, prefix by prefix.

    A loss summed over tokens whose gradient doesn't pass through the sampling of the prefix forgets
    what a token means for later ones. Its optimum is, for reverse KL, the product over tokens of
    the normalised exp E_q log T_c(y_t | y_<t). The optimum over whole sequences also multiplies
    each token by the agreement of the demonstrations about what may follow.

    Parameters
    ----------
    answers : sequence of sequences of hashable, length n_answers
        Tokens of each answer, all different. An end token is added to each.
    log_teacher : array_like, shape (n_demos, n_answers)
        log T_c(y) of whole answers, nats. Those of tokens follow from it. Demonstrations under
        which a prefix is impossible have no say about what follows it.
    demo_weights, divergence, log_base, weight
        As for `distillation_optimum`, applied at every prefix.

    Returns
    -------
    Optimum
        ``value`` adds up the prefixes' values, each weighed by the optimum's probability of
        getting there.

    Raises
    ------
    ValueError
        As for `distillation_optimum`; two answers are equal; after a prefix that the optimum can
        reach, the demonstrations veto every token.

    Examples
    --------
    Demonstrations agree about what follows "a" and quarrel after "b":

    >>> answers = ["a", "bx", "by"]
    >>> teachers = np.log([[0.5, 0.45, 0.05], [0.5, 0.05, 0.45]])
    >>> token_optimum(answers, teachers).prob.round(3).tolist()
    [0.5, 0.25, 0.25]
    >>> distillation_optimum(teachers).prob.round(4).tolist()
    [0.625, 0.1875, 0.1875]
    """
    words = ended(answers)
    teachers, q = _teachers(log_teacher, demo_weights)
    if teachers.shape[1] != len(words):
        raise ValueError(f"log_teacher lists {teachers.shape[1]} answers, but answers {len(words)}")
    base = None if log_base is None else log_vector(log_base, "log_base", "n_answers")
    if base is not None and len(base) != len(words):
        raise ValueError(f"log_base lists {len(base)} answers, but answers {len(words)}")
    log_prob = np.full(len(words), -np.inf)
    value = 0.0
    stack = [(np.arange(len(words)), 0, 0.0)]
    while stack:
        rows, depth, reached = stack.pop()
        branches: dict[Hashable, list[int]] = {}
        for row in rows.tolist():
            branches.setdefault(words[row][depth], []).append(row)
        groups = [np.array(group) for group in branches.values()]
        tokens = np.stack([special.logsumexp(teachers[:, g], axis=1) for g in groups], axis=1)
        here = special.logsumexp(tokens, axis=1)
        possible = here > -np.inf
        tokens = tokens[possible] - here[possible, None]
        of_base = None
        if base is not None:
            of_base = np.array([special.logsumexp(base[group]) for group in groups])
            if (of_base > -np.inf).any():
                of_base = of_base - special.logsumexp(of_base)
        try:
            best = distillation_optimum(tokens, q[possible], divergence, of_base, weight)
        except ValueError as error:
            prefix = list(words[rows[0]][:depth])
            raise ValueError(f"after the prefix {prefix}: {error}") from error
        value += float(np.exp(reached)) * best.value
        for group, log_token in zip(groups, best.log_prob, strict=True):
            if log_token == -np.inf:
                continue
            if words[group[0]][depth] is END:
                log_prob[group[0]] = reached + log_token
            else:
                stack.append((group, depth + 1, reached + float(log_token)))
    return Optimum(log_prob, value, (teachers > -np.inf).any(axis=0) & (log_prob == -np.inf))


def expected_pcmi(pcmi: npt.ArrayLike, demo_weights: npt.ArrayLike | None = None) -> Floats:
    """Tilt s(y) = E_q M(y, c).

    Parameters
    ----------
    pcmi : array_like, shape (n_answers, n_demos)
        Nats; -inf allowed.
    demo_weights : array_like, shape (n_demos,), optional
        q up to a factor; uniform by default.

    Returns
    -------
    array, shape (n_answers,)
        -inf where a demonstration with weight rules the answer out.

    Raises
    ------
    ValueError
        A value is NaN or +inf; shapes differ.

    Examples
    --------
    >>> expected_pcmi([[1.0, 3.0], [-np.inf, 0.0]], [0.25, 0.75]).tolist()
    [2.5, -inf]
    """
    matrix = _matrix(pcmi, "pcmi", "(n_answers, n_demos)")
    q = _weights(demo_weights, matrix.shape[1])
    return matrix[:, q > 0] @ q[q > 0]


def trust_weight(penalty: float) -> float:
    """Weight η = 1/(1 + β′) of the tilt under an additional penalty β′ KL(p‖π).

    Parameters
    ----------
    penalty : float
        β′, not negative.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        The penalty is negative.

    Examples
    --------
    >>> trust_weight(1.0)
    0.5
    """
    if not penalty >= 0:
        raise ValueError(f"penalty={penalty} must not be negative")
    return 1 / (1 + penalty)


# --- The three means ---


def _distil(
    teachers: Floats,
    q: Floats,
    divergence: Divergence,
    log_base: npt.ArrayLike | None,
    weight: float,
) -> Optimum:
    if divergence not in get_args(Divergence):
        raise ValueError(
            f"divergence={divergence!r} is none of {', '.join(map(repr, get_args(Divergence)))}"
        )
    if divergence == "jsd" or (divergence == "forward" and weight != 1):
        _refuse_partial(np.exp(special.logsumexp(teachers, axis=1)))
    teachers = _trusted(teachers, log_base, weight)
    means = {"reverse": _geometric, "forward": _arithmetic, "jsd": _jensen_shannon}
    log_prob, value = means[divergence](teachers, q)
    return Optimum(log_prob, value, (teachers > -np.inf).any(axis=0) & (log_prob == -np.inf))


_ALL_VETOED = (
    "every answer is ruled out by the base or some demonstration, so no policy has a finite "
    "reverse KL; smooth the teachers, drop a demonstration or take another divergence"
)


def _geometric(teachers: Floats, q: Floats) -> tuple[Floats, float]:
    scores = q @ teachers
    return _normalised(scores, _ALL_VETOED), -float(special.logsumexp(scores))


def _arithmetic(teachers: Floats, q: Floats) -> tuple[Floats, float]:
    scores = special.logsumexp(teachers + np.log(q)[:, None], axis=0)
    log_prob = _normalised(scores, "no answer has any probability under a teacher")
    prob = np.exp(teachers)
    gap = np.subtract(teachers, log_prob, out=np.zeros_like(teachers), where=teachers > -np.inf)
    return log_prob, float(q @ (prob * gap).sum(axis=1))


def _jensen_shannon(
    teachers: Floats, q: Floats, tolerance: float = 1e-13, max_steps: int = 100_000
) -> tuple[Floats, float]:
    """Solve E_q log 2p/(p + T_c) = const for p.

    The map log p <- E_q log (p + T_c)/2, normalised, has this fixed point and its slope, E_q
    p/(p + T_c), lies between 0 and 1, so that it converges, but slowly where few demonstrations
    allow an answer. Newton's step costs no more, as the Jacobian is diagonal but for the
    normalisation; it is taken where it brings log p closer to being fixed.
    """
    possible = (teachers > -np.inf).any(axis=0)
    log_t = teachers[:, possible]
    log_p = special.logsumexp(log_t + np.log(q)[:, None], axis=0)
    log_p = log_p - special.logsumexp(log_p)

    def fixed(current: Floats) -> Floats:
        image = q @ np.logaddexp(current, log_t)
        return np.asarray(image - special.logsumexp(image))

    image = fixed(log_p)
    for _ in range(max_steps):
        error = float(np.abs(image - log_p).max())
        if error < tolerance:
            break
        excess = np.log(2) - q @ np.logaddexp(0.0, log_t - log_p)
        slope = q @ special.expit(log_t - log_p)
        p = np.exp(log_p)
        level = (1 - p.sum() + (p * excess / slope).sum()) / (p / slope).sum()
        newton = log_p + np.clip((level - excess) / slope, -1, 1)
        newton = newton - special.logsumexp(newton)
        next_image = fixed(newton)
        if np.abs(next_image - newton).max() < 0.9 * error:
            log_p, image = newton, next_image
        else:
            log_p = image
            image = fixed(log_p)
    else:
        if error > 1e-10:
            raise ValueError(
                f"JSD: log-probabilities still change by {error:.1g} after {max_steps} steps; the "
                "demonstrations disagree too much, so smooth the teachers"
            )
    result = np.full(teachers.shape[1], -np.inf)
    result[possible] = log_p
    mixture = np.logaddexp(log_p, log_t) - np.log(2)
    of_teacher = np.exp(log_t) * np.where(log_t > -np.inf, log_t - mixture, 0.0)
    of_policy = np.exp(log_p) * (log_p - mixture)
    return result, float(q @ (of_teacher + of_policy).sum(axis=1) / 2)


# --- Arguments ---


def _times(factor: float, logs: Floats) -> Floats:
    """Product in which 0 times -inf is 0: a term without weight has no say."""
    return factor * logs if factor else np.zeros_like(logs)


def _normalised(scores: Floats, problem: str) -> Floats:
    total = special.logsumexp(scores)
    if not total > -np.inf:
        raise ValueError(problem)
    return np.asarray(scores - total)


def _log_probabilities(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    bad = ~((array >= 0) & (array <= 1 + 1e-9))
    if array.ndim == 1 and bad.any():
        at = int(np.argmax(bad))
        raise ValueError(f"{name}[{at}] is {array[at]}, not a probability; pass probabilities")
    with np.errstate(divide="ignore"):
        return log_vector(np.log(array), name, "n_answers")


def _rewards(values: npt.ArrayLike, n_answers: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n_answers,):
        raise ValueError(
            f"reward has shape {array.shape}; give one for each of {n_answers} answers"
        )
    if not np.isfinite(array).all():
        at = int(np.argmax(~np.isfinite(array)))
        raise ValueError(f"reward[{at}] is {array[at]}; rewards must be finite")
    return array


def _matrix(values: npt.ArrayLike, name: str, shape: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    bad = np.isnan(array) | (array == np.inf)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}[{row}, {column}] is {array[row, column]}; it must be finite or -inf"
        )
    return array


def _weights(values: npt.ArrayLike | None, size: int) -> Floats:
    if values is None:
        return np.full(size, 1 / size)
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"demo_weights has shape {array.shape}; give one for each of {size} demos")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.sum() > 0):
        raise ValueError("demo_weights must be finite, not negative, and some of them positive")
    return np.asarray(array / array.sum())


def _log_teacher(log_base: Floats, pcmi: npt.ArrayLike) -> Floats:
    array = np.asarray(pcmi, dtype=np.float64)
    if array.ndim != 2 or len(array) != len(log_base):
        raise ValueError(
            f"pcmi has shape {array.shape}; it needs a row for each of {len(log_base)} answers and "
            "a column for each demonstration"
        )
    given = (log_base > -np.inf)[:, None]
    matrix = _matrix(np.where(given, array, -np.inf), "pcmi", "(n_answers, n_demos)")
    return np.asarray((log_base[:, None] + matrix).T)


def _teachers(
    log_teacher: npt.ArrayLike, demo_weights: npt.ArrayLike | None
) -> tuple[Floats, Floats]:
    teachers = _matrix(log_teacher, "log_teacher", "(n_demos, n_answers)")
    if (teachers > 1e-9).any():
        row, column = np.argwhere(teachers > 1e-9)[0]
        raise ValueError(
            f"log_teacher[{row}, {column}] is {teachers[row, column]}; a log-probability must not "
            "be positive"
        )
    return _weighted(teachers, demo_weights)


def _weighted(teachers: Floats, demo_weights: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Teachers that have a weight, and their weights."""
    q = _weights(demo_weights, len(teachers))
    return teachers[q > 0], q[q > 0]


def _trusted(teachers: Floats, log_base: npt.ArrayLike | None, weight: float) -> Floats:
    if not 0 <= weight < np.inf:
        raise ValueError(f"weight={weight} must be finite and not negative")
    if weight == 1:
        return teachers
    if log_base is None:
        raise ValueError(f"weight={weight} pulls towards the base; give log_base")
    base = log_vector(log_base, "log_base", "n_answers")
    if len(base) != teachers.shape[1]:
        raise ValueError(f"log_teacher lists {teachers.shape[1]} answers, but log_base {len(base)}")
    possible = base > -np.inf
    moved = np.full_like(teachers, -np.inf)
    moved[:, possible] = (1 - weight) * base[possible] + _times(weight, teachers[:, possible])
    total = special.logsumexp(moved, axis=1, keepdims=True)
    if not (total > -np.inf).all():
        raise ValueError("a demonstration rules out every answer that the base gives; drop it")
    return np.asarray(moved - total)


def _refuse_partial(totals: Floats) -> None:
    bad = np.abs(totals - 1) > _SUM_TOLERANCE
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"the teacher of demonstration {at} sums to {totals[at]:.6g} over the answers; list "
            "all answers, wrong ones included, or take reverse KL, which needs only some"
        )
