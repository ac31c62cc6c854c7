"""Rewards and advantages of groups of rollouts.

Arrays are [G, n]: n rollouts of each of G prompts. Wrong shapes, options and numbers are a
ValueError that names them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from passk_lab.metrics.passk import pass_at_k

__all__ = [
    "disjoint_share",
    "dkpo_rewards",
    "group_advantages",
    "mara_rewards",
    "pkpo_rewards",
    "ucpo_advantages",
]

Advantage = Literal["grpo", "dr_grpo", "rloo"]
Floats = npt.NDArray[np.float64]


def group_advantages(rewards: npt.ArrayLike, kind: Advantage = "grpo") -> Floats:
    """Advantages [G, n] of rollouts against their own group of n >= 2.

    - "grpo": (r - mean) / (std + 1e-4), the standard deviation with n - 1, as in TRL
      (arXiv:2402.03300, section 4.1.2)
    - "dr_grpo": r - mean (arXiv:2503.20783, section 3)
    - "rloo": r - mean of the others (Kool et al. 2019), n / (n - 1) times "dr_grpo"

    Exactly 0 in a group whose rewards are all equal.

    Examples
    --------
    >>> group_advantages([[1, 0, 0, 1], [1, 1, 1, 1]], "rloo").round(3).tolist()
    [[0.667, -0.667, -0.667, 0.667], [0.0, 0.0, 0.0, 0.0]]
    """
    if kind not in get_args(Advantage):
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(get_args(Advantage))}")
    values = _groups("rewards", rewards)
    n = values.shape[1]
    if n < 2:
        raise ValueError(f"rewards has {n} rollout(s) a group; a baseline needs at least 2")
    # The mean of equal numbers can miss them by a rounding error.
    varies = np.ptp(values, axis=1, keepdims=True) > 0
    centred = np.where(varies, values - values.mean(1, keepdims=True), 0.0)
    if kind == "grpo":
        centred = centred / (values.std(1, ddof=1, keepdims=True) + 1e-4)
    if kind == "rloo":
        centred = centred * (n / (n - 1))
    return centred


def pkpo_rewards(correct: npt.ArrayLike, k: int, baseline: bool = False) -> Floats:
    """Rewards [G, n] whose policy gradient is an unbiased gradient of pass@k.

    With c of n rollouts correct and rho(n, c, k) the unbiased pass@k,

        s_i = k / n                          where rollout i is correct,
        s_i = k / n rho(n - 1, c, k - 1)     where it is wrong,

    and E sum_i s_i grad log p(y_i) = grad pass@k: a *sum* over the group (Walder and Karkhanis,
    arXiv:2505.15201). Subtracting the group's mean would bias it, for s_j depends on y_i.

    Parameters
    ----------
    correct : array [G, n]
        Booleans, or 0 and 1.
    k : int
        1 <= k <= n.
    baseline : bool
        Subtract k / n times the pass@(k - 1) of the other rollouts, which doesn't depend on y_i
        (the paper's "loo - 1"). Wrong rollouts then get 0, and correct ones little where others
        would have solved it anyway: k / n (1 - rho(n - 1, c - 1, k - 1)).

    Examples
    --------
    >>> pkpo_rewards([[1, 0, 0, 0]], k=2).round(4).tolist()
    [[0.5, 0.1667, 0.1667, 0.1667]]
    """
    hits = _groups("correct", correct)
    _all("correct", hits, np.isin(hits, (0, 1)), "it must be 0 or 1")
    n = hits.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} must be between 1 and the {n} rollouts of a group")
    others = hits.sum(1, keepdims=True) - hits
    # The best of no rollouts is no success.
    solved = pass_at_k(n - 1, others, k - 1) if k > 1 else np.zeros_like(hits)
    rewards = np.maximum(hits, solved) - (solved if baseline else 0.0)
    return np.asarray(k / n * rewards)


def mara_rewards(
    rewards: npt.ArrayLike, base_logprob: npt.ArrayLike, beta: float, threshold: float = 1.0
) -> Floats:
    """Mode-anchored rewards [G, n]: make the KL-regularised optimum flat over good answers.

    In each group the anchor z is the good rollout (reward >= threshold) that the base pi_0 finds
    most likely. Every good rollout gets R(z) + beta (log pi_0(z) - log pi_0(y)), the others keep
    their reward: the optimum of E r - beta KL(p || pi_0), pi_0 exp(r / beta), then gives every good
    answer the same probability. Algorithm 1 of GX-Chen et al. (arXiv:2510.20817) for a batch of one
    prompt's samples; rewards of different groups can differ by a constant.

    Parameters
    ----------
    rewards : array [G, n]
    base_logprob : array [G, n]
        log pi_0(y) of the whole answer under the base, in nats.
    beta : float
        The loss's own KL coefficient, >= 0.
    threshold : float
        From which reward on an answer is good.

    Examples
    --------
    >>> mara_rewards([[1, 1, 0]], np.log([[0.4, 0.1, 0.5]]), beta=0.1).round(4).tolist()
    [[1.0, 1.1386, 0.0]]
    """
    values, logprob = _groups("rewards", rewards), _groups("base_logprob", base_logprob)
    if values.shape != logprob.shape:
        raise ValueError(
            f"rewards {values.shape} and base_logprob {logprob.shape} must have one shape [G, n]"
        )
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta={beta} must be a finite number, at least 0")
    good = values >= threshold
    anchor = np.where(good, logprob, -np.inf).argmax(1)[:, None]
    reward, top = (np.take_along_axis(x, anchor, 1) for x in (values, logprob))
    return np.where(good, reward + beta * (top - logprob), values)


def dkpo_rewards(
    answers: Sequence[Sequence[Hashable | None]], k: int, baseline: bool = False
) -> Floats:
    r"""Rewards [G, n] whose policy gradient is an unbiased gradient of distinct@k.

    The expected number of distinct correct answers among k, D_k = sum_m 1 - (1 - p_m)^k over the
    correct answers m, has the gradient E_y k (1 - p_y)^(k-1) r(y) grad log p(y). From a group of n,

        s_i = (k / n) r_i C(n - 1 - c_i, k - 1) / C(n - 1, k - 1),

    with c_i the *other* rollouts that give the same answer, is unbiased for it, as a *sum* over the
    group: a correct answer counts as far as k - 1 others would have missed it.

    Parameters
    ----------
    answers : sequence [G, n]
        The answer of each correct rollout; None where it is wrong.
    k : int
        1 <= k <= n; with a baseline k <= n - 1. At k = 1 these are the plain rewards, by n.
    baseline : bool
        Subtract from each the mean of the others' rewards in the group without it, which doesn't
        depend on it.

    Examples
    --------
    >>> dkpo_rewards([["a", "a", "b", None]], k=2).round(3).tolist()
    [[0.333, 0.333, 0.5, 0.0]]
    """
    n = len(answers[0])
    if any(len(group) != n for group in answers):
        raise ValueError("answers: groups differ in their number of rollouts")
    if not 1 <= k <= n - baseline:
        raise ValueError(f"k={k} must be between 1 and {n - baseline}, for groups of {n}")
    rewards = np.array([_distinct_rewards(list(group), k) for group in answers])
    if not baseline:
        return rewards
    others = [
        [np.mean(_distinct_rewards([*group[:i], *group[i + 1 :]], k)) for i in range(n)]
        for group in answers
    ]
    # Of a group of n - 1 the rewards have the factor k / (n - 1).
    return rewards - np.array(others) * (n - 1) / n


def _distinct_rewards(group: Sequence[Hashable | None], k: int) -> Floats:
    n = len(group)
    found = Counter(answer for answer in group if answer is not None)
    others = np.array([found[answer] - 1 if answer is not None else n - 1 for answer in group])
    right = np.array([answer is not None for answer in group])
    missed = 1 - pass_at_k(n - 1, others, k - 1) if k > 1 else np.ones(n)
    return np.asarray(k / n * right * missed)


def ucpo_advantages(
    advantages: npt.ArrayLike,
    correct: npt.ArrayLike,
    mean_logprob: npt.ArrayLike,
    tau: float = 0.2,
) -> Floats:
    """Advantages tilted to rare correct rollouts (UCPO, arXiv:2605.00365).

    With n_c correct rollouts in the group, a correct one gets

        A n_c ((1 - tau) / n_c + tau q^-1 / sum_j q_j^-1),

    with q = exp(mean_logprob), its mean probability a token. Wrong ones keep A.

    Examples
    --------
    >>> mean = np.log([[0.8, 0.2, 0.5]])
    >>> ucpo_advantages([[1.0, 1.0, -2.0]], [[1, 1, 0]], mean).round(2).tolist()
    [[0.88, 1.12, -2.0]]
    """
    values, right = _groups("advantages", advantages), _groups("correct", correct) > 0
    inverse = np.where(right, np.exp(-_groups("mean_logprob", mean_logprob)), 0.0)
    share = inverse / np.maximum(inverse.sum(1, keepdims=True), 1e-300)
    tilt = (1 - tau) + tau * right.sum(1, keepdims=True) * share
    return np.where(right, values * tilt, values)


def disjoint_share(concepts: Sequence[Sequence[frozenset[int]]]) -> Floats:
    """Share of the group's other rollouts [G, n] whose set of concepts is disjoint from its own.

    Examples
    --------
    >>> one, two = frozenset({1}), frozenset({2})
    >>> disjoint_share([[one, one, two, one | two]]).round(3).tolist()
    [[0.333, 0.333, 0.667, 0.0]]
    """
    return np.array(
        [[np.mean([not (mine & other) for j, other in enumerate(group) if j != i])
          for i, mine in enumerate(group)] for group in concepts]
    )  # fmt: skip


def _groups(name: str, values: npt.ArrayLike) -> Floats:
    """Rewards as a finite float64 array [G, n]."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be [G, n], prompts by rollouts, not of shape {array.shape}")
    _all(name, array, np.isfinite(array), "every rollout needs a number")
    return array


def _all(name: str, array: Floats, good: npt.NDArray[np.bool_], wanted: str) -> None:
    if not good.all():
        group, rollout = np.argwhere(~good)[0]
        raise ValueError(f"{name}[{group}, {rollout}] is {array[group, rollout]:g}; {wanted}")
