"""What generations of self-distillation do to listed answers, forecast from the base alone.

A teacher that follows its student teaches what it was taught. Let m_c(v) = log T_c(v | prefix) -
log π(v | prefix) be what demonstration c does to token v in the base. If training leaves m as it
is, then in time τ, counted in generations,

    d log p(v | prefix) / dτ = Σ_c q(c) m_c(v) + const,    q(c) ∝ p(c) on the correct answers,

from the base at τ = 0: the replicator equation at each prefix, which is what a loss summed over
tokens minimises (see `distillation_optimum`). A frozen teacher instead has the fixed point
p ∝ π exp(Σ q m) in which only the demonstrations follow the student.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import get_args

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from passk_lab.teacher._arguments import (
    Floats,
    Ints,
    Law,
    Teacher,
    check_choice,
    ended,
    whole_ks,
)
from passk_lab.teacher._modes import outcome
from passk_lab.teacher._scores import checked_scores

__all__ = ["forecast_generations"]

# Of a generation. Halving the step moves distinct@64 of the lab by 0.003 on average, at 2.4
# generations, and by 0.06 on one problem.
_STEPS = 16


def forecast_generations(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    generations: Sequence[float] = (0.0, 1.0, 2.0, 4.0),
    k: int | Sequence[int] = (1, 8, 64),
    tokens: Callable[[str], Sequence[Hashable]] | None = None,
    demo_law: Law = "policy",
    teacher: Teacher = "moving",
    weight: float = 1.0,
) -> pd.DataFrame:
    """Forecast pass@k, distinct@k and effective answers of each problem over generations.

    Parameters
    ----------
    scores, rollouts : DataFrame
        As for `expected_tilt`. Answers are whole outputs; each counts once. Wrong ones that aren't
        listed make the base look more accurate than it is, so compare with generation 0.
    generations : sequence of float
        Times τ, not negative; 0 is the base. For a frozen teacher, how far the tilt has been taken
        up, at most 1.
    k : int or sequence of int
    tokens : callable, optional
        Tokens of an answer, for the optimum of a loss over tokens. Default: an answer is one token,
        for that over whole sequences.
    demo_law : {"policy", "uniform"}
        Demonstrations as the policy of the moment gives them, or every correct answer alike.
    teacher : {"moving", "frozen"}
    weight : float
        η = 1 / (1 + β′), see `self_distillation_optimum`.

    Returns
    -------
    DataFrame
        One row a problem and generation: ``problem_id, generation, pass@<k> ..., distinct@<k> ...,
        effective_answers``.

    Raises
    ------
    ValueError
        As for `expected_tilt`; a problem's correct answers weren't all demonstrations and rollouts;
        demonstrations together rule out everything that follows a prefix which is reached.

    Examples
    --------
    >>> rollouts = pd.DataFrame({"problem_id": "p", "sample_id": [0, 1], "correct": True,
    ...                          "answer": ["x", "y"]})
    >>> scores = pd.DataFrame({"problem_id": "p", "sample_id": [0, 0, 1, 1], "demo_id": [0, 1] * 2,
    ...                        "logprob": np.log([0.6, 0.6, 0.4, 0.4])})
    >>> scores["logprob_given_demo"] = np.log([0.8, 0.4, 0.2, 0.6])
    >>> forecast_generations(scores, rollouts, k=1)[["generation", "effective_answers"]].round(2)
       generation  effective_answers
    0         0.0               1.92
    1         1.0               1.78
    2         2.0               1.54
    3         4.0               1.14
    """
    ks = whole_ks(k)
    pairs = checked_scores(scores, rollouts)
    pairs = pairs.drop_duplicates(["problem_id", "answer", "demo_answer"])
    records = []
    for problem, part in pairs.groupby("problem_id", sort=True):
        row, names = pd.factorize(part["answer"], sort=True)
        column, demos = pd.factorize(part["demo_answer"], sort=True)
        matrix = np.full((len(names), len(demos)), np.nan)
        matrix[row, column] = part["pcmi"]
        for at, demo in np.argwhere(np.isnan(matrix)):
            raise ValueError(
                f"scores: problem {problem!r}: answer {names[at]!r} has no score after "
                f"demonstration {demos[demo]!r}; every pair is needed"
            )
        correct = np.zeros(len(names), dtype=bool)
        log_base = np.empty(len(names))
        correct[row], log_base[row] = part["correct"], part["logprob"]
        odd = set(names[correct]) ^ set(demos)
        if odd:
            raise ValueError(
                f"scores: problem {problem!r}: answer {min(odd)!r} is a demonstration or a correct "
                "rollout only; score every correct answer in both places"
            )
        words = [[name] if tokens is None else tokens(name) for name in names]
        tree = _AnswerTree(words, log_base, matrix, pd.Index(names).get_indexer(demos))
        policies = _evolve(tree, generations, demo_law, teacher, weight)
        for generation, log_prob in zip(generations, policies, strict=True):
            label = {"problem_id": problem, "generation": float(generation)}
            records.append({**label, **outcome(np.exp(log_prob[correct]), ks)})
    return pd.DataFrame(records)


class _AnswerTree:
    """Listed answers as a tree of tokens, with what each demonstration does at each branch.

    ``pcmi`` is [answers, demonstrations]; ``demos`` says which answer each demonstration is.
    """

    def __init__(
        self, answers: Sequence[Sequence[Hashable]], log_base: Floats, pcmi: Floats, demos: Ints
    ) -> None:
        self.demos = demos
        vetoed = (pcmi == -np.inf).all(axis=0)
        if vetoed.any():
            at = int(np.argmax(vetoed))
            raise ValueError(f"demonstration {at} rules out every listed answer; leave it out")
        teachers = log_base[:, None] + pcmi
        branches: dict[tuple[Hashable, ...], dict[Hashable, list[int]]] = {}
        for at, word in enumerate(ended(answers)):
            for depth, token in enumerate(word):
                branches.setdefault(word[:depth], {}).setdefault(token, []).append(at)
        # Where only one token can follow, there is nothing to learn.
        forks = [list(tokens.values()) for tokens in branches.values() if len(tokens) > 1]
        groups = [group for fork in forks for group in fork]
        sizes, counts = (np.array([len(x) for x in of], dtype=np.int64) for of in (forks, groups))
        self.starts = np.cumsum(sizes) - sizes
        self.fork = np.repeat(np.arange(len(forks)), sizes)
        rows = np.array([at for group in groups for at in group], dtype=np.int64)
        columns = np.repeat(np.arange(len(groups)), counts)
        shape = len(log_base), len(groups)
        self.passes = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        firsts = np.cumsum(counts) - counts
        self.log_branch = self.normalised(np.logaddexp.reduceat(log_base[rows], firsts))
        given = self.normalised(np.logaddexp.reduceat(teachers[rows], firsts))
        gain = given - self.log_branch[:, None]
        # A demonstration under which the prefix is impossible has no say about what follows it.
        self.gain = np.where(np.isnan(gain), 0.0, gain)

    def normalised(self, log_values: Floats) -> Floats:
        """Subtract each fork's logarithm of its sum; NaN where that is nothing."""
        with np.errstate(invalid="ignore"):
            total = np.logaddexp.reduceat(log_values, self.starts)
            return np.asarray(log_values - total[self.fork])

    def moved(self, log_branch: Floats) -> Floats:
        """As `normalised`, but -inf where all is ruled out; `_evolve` sees if it matters."""
        found = self.normalised(log_branch)
        return np.where(np.isnan(found), -np.inf, found)

    def log_prob(self, log_branch: Floats) -> Floats:
        """Log-probabilities of whole answers from those of the branches, shape (n_answers,)."""
        impossible = np.isneginf(log_branch)
        sums = self.passes @ np.where(impossible, 0.0, log_branch)
        return np.where(self.passes @ impossible.astype(float) > 0, -np.inf, sums)

    def tilt(self, log_branch: Floats, demo_law: Law) -> Floats:
        """Expected gain of each branch under the demonstrations that a policy would be shown."""
        if demo_law == "uniform":
            q = np.full(len(self.demos), 1 / len(self.demos))
        else:
            log_q = self.log_prob(log_branch)[self.demos]
            top = log_q.max()
            q = np.exp(log_q - top) if np.isfinite(top) else np.ones(len(log_q))
            q = q / q.sum()
        return np.asarray(self.gain[:, q > 0] @ q[q > 0])


def _evolve(
    tree: _AnswerTree,
    generations: Sequence[float],
    demo_law: Law = "policy",
    teacher: Teacher = "moving",
    weight: float = 1.0,
) -> Floats:
    """Log-probabilities [generations, answers]; arguments as for `forecast_generations`."""
    times = np.asarray(generations, dtype=np.float64)
    check_choice(teacher, "teacher", get_args(Teacher))
    check_choice(demo_law, "demo_law", get_args(Law))
    if not (times >= 0).all() or not weight >= 0:
        raise ValueError("generations and weight must not be negative")
    if teacher == "frozen" and times.max(initial=0.0) > 1:
        raise ValueError("a frozen teacher's tilt is taken up once: generations are at most 1")
    found = np.empty((len(times), tree.passes.shape[0]))
    log_branch, now = tree.log_branch, 0.0
    for at in np.argsort(times, kind="stable"):
        if teacher == "frozen":
            log_branch = _fixed_point(tree, weight * times[at], demo_law)
        else:
            span = times[at] - now
            steps = int(np.ceil(span * _STEPS))
            for _ in range(steps):
                log_branch = _step(tree, log_branch, weight * span / steps, demo_law)
            now = times[at]
        found[at] = tree.log_prob(log_branch)
    if (np.exp(found).sum(axis=1) < 1 - 1e-6).any():
        raise ValueError(
            "demonstrations together rule out every answer that goes on from a prefix which the "
            "policy reaches; list more answers, or leave one of the demonstrations out"
        )
    return found


def _step(tree: _AnswerTree, log_branch: Floats, size: float, demo_law: Law) -> Floats:
    """One step of Heun's method, second order in its size."""
    first = tree.tilt(log_branch, demo_law)
    second = tree.tilt(tree.moved(log_branch + size * first), demo_law)
    return tree.moved(log_branch + size / 2 * (first + second))


def _fixed_point(tree: _AnswerTree, weight: float, demo_law: Law) -> Floats:
    log_branch = tree.log_branch
    if weight == 0:
        return log_branch
    for _ in range(1000):
        aim = tree.log_branch + weight * tree.tilt(log_branch, demo_law)
        # Halfway there: the map may overshoot where demonstrations say much.
        new = tree.moved(np.logaddexp(log_branch, tree.normalised(aim)) - np.log(2))
        with np.errstate(invalid="ignore"):
            change = np.nanmax(np.abs(np.exp(new) - np.exp(log_branch)), initial=0.0)
        log_branch = new
        if change < 1e-12:
            break
    return log_branch
