"""What generations of self-distillation do to listed answers, forecast from the base alone.

A teacher that follows its student teaches what it was taught: each generation tilts the last one,
and is shown demonstrations of the last one. Let m_c(v) = log T_c(v | prefix) - log π(v | prefix) be
what demonstration c does to token v in the base. If training leaves m as it is, then in time τ,
counted in generations,

    d log p(v | prefix) / dτ = Σ_c q(c) m_c(v) + const,    q(c) ∝ p(c) on the correct answers,

from the base at τ = 0. With one token an answer this is the replicator equation of
`passk_lab.teacher.dynamics`, with the mutual information that was measured as its pay-off; on a
tree of tokens it is the same at each prefix, which is what a loss summed over tokens minimises (see
`passk_lab.teacher.optimum.token_optimum`). A frozen teacher instead has the fixed point
p ∝ π exp(Σ q m) in which only the demonstrations follow the student.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array

from passk_lab.teacher._arguments import check_choice, ended, log_vector, whole_ks
from passk_lab.teacher.decomposition import Law, checked_scores
from passk_lab.teacher.forecast import outcome

__all__ = ["AnswerTree", "evolve", "forecast_generations"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Teacher = Literal["moving", "frozen"]

# Of a generation. Halving the step moves distinct@64 of the lab by 0.003 on average, at 2.4
# generations, and by 0.06 on one problem.
_STEPS = 16


class AnswerTree:
    """Listed answers as a tree of tokens, with what each demonstration does at each branch.

    Parameters
    ----------
    answers : sequence of sequences of hashable, length n_answers
        Tokens of each answer, all different; an end token is added to each. One token an answer
        makes it a list.
    log_base : array_like, shape (n_answers,)
        log π of whole answers, nats, finite. Everything is conditional on the listed answers.
    pcmi : array_like, shape (n_answers, n_demos)
        log π(y|c) - log π(y), nats, -inf where a demonstration rules an answer out.
    demos : array_like of int, shape (n_demos,)
        Which answer each demonstration is; no answer twice.

    Raises
    ------
    ValueError
        Shapes differ, an answer occurs twice, a value is NaN or infinite where it mustn't be, or a
        demonstration rules out every answer.

    Examples
    --------
    >>> tree = AnswerTree([["a"], ["b", "x"], ["b", "y"]], np.log([0.5, 0.3, 0.2]),
    ...                   np.zeros((3, 1)), [0])
    >>> np.exp(tree.log_prob(tree.log_branch)).round(3).tolist()
    [0.5, 0.3, 0.2]
    """

    def __init__(
        self,
        answers: Sequence[Sequence[Hashable]],
        log_base: npt.ArrayLike,
        pcmi: npt.ArrayLike,
        demos: npt.ArrayLike,
    ) -> None:
        base = log_vector(log_base, "log_base", "n_answers")
        matrix = np.asarray(pcmi, dtype=np.float64)
        self.demos = np.asarray(demos, dtype=np.int64)
        _check(answers, base, matrix, self.demos)
        teachers = base[:, None] + matrix
        branches: dict[tuple[Hashable, ...], dict[Hashable, list[int]]] = {}
        for at, word in enumerate(ended(answers)):
            for depth, token in enumerate(word):
                branches.setdefault(word[:depth], {}).setdefault(token, []).append(at)
        # Where only one token can follow, there is nothing to learn.
        forks = [list(tokens.values()) for tokens in branches.values() if len(tokens) > 1]
        sizes = np.array([len(fork) for fork in forks], dtype=np.int64)
        groups = [group for fork in forks for group in fork]
        counts = np.array([len(group) for group in groups], dtype=np.int64)
        self.starts = np.cumsum(sizes) - sizes
        self.fork = np.repeat(np.arange(len(forks)), sizes)
        rows = np.array([at for group in groups for at in group], dtype=np.int64)
        columns = np.repeat(np.arange(len(groups)), counts)
        self.passes = csr_array(
            (np.ones(len(rows)), (rows, columns)), shape=(len(base), len(groups))
        )
        firsts = np.cumsum(counts) - counts
        self.log_branch = self.normalised(np.logaddexp.reduceat(base[rows], firsts))
        given = self.normalised(np.logaddexp.reduceat(teachers[rows], firsts))
        gain = given - self.log_branch[:, None]
        # A demonstration under which the prefix is impossible has no say about what follows it.
        self.gain = np.where(np.isnan(gain), 0.0, gain)

    def normalised(self, log_values: Floats) -> Floats:
        """Subtract each fork's logarithm of its sum; NaN where that is nothing."""
        with np.errstate(invalid="ignore"):
            total = np.logaddexp.reduceat(log_values, self.starts)
            return np.asarray(log_values - total[self.fork])

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


def evolve(
    tree: AnswerTree,
    generations: Sequence[float],
    demo_law: Law = "policy",
    teacher: Teacher = "moving",
    weight: float = 1.0,
) -> Floats:
    """Policies after some generations.

    Parameters
    ----------
    tree : AnswerTree
    generations : sequence of float
        Times τ, not negative; 0 is the base. For a frozen teacher, how far the tilt has been taken
        up, at most 1: each is a fixed point of its own.
    demo_law : {"policy", "uniform"}
        Demonstrations as the policy of the moment gives them, or every correct answer alike.
    teacher : {"moving", "frozen"}
    weight : float
        η = 1 / (1 + β') with a penalty β' to the base (frozen) or to the last generation (moving).

    Returns
    -------
    array, shape (len(generations), n_answers)
        Log-probabilities, nats, conditional on the listed answers.

    Raises
    ------
    ValueError
        A name is unknown, a time or the weight is negative, or exceeds 1 with a frozen teacher;
        demonstrations together rule out everything that follows a prefix which is reached.

    Examples
    --------
    Each of two answers gains from being shown itself; the more frequent one is shown more often:

    >>> tree = AnswerTree([["a"], ["b"]], np.log([0.6, 0.4]), np.eye(2), [0, 1])
    >>> np.exp(evolve(tree, [0, 1, 4])).round(2).tolist()
    [[0.6, 0.4], [0.66, 0.34], [0.92, 0.08]]
    >>> np.exp(evolve(tree, [4], demo_law="uniform")).round(2).tolist()
    [[0.6, 0.4]]
    """
    times = np.asarray(generations, dtype=np.float64)
    check_choice(teacher, "teacher", get_args(Teacher))
    check_choice(demo_law, "demo_law", get_args(Law))
    if not (times >= 0).all() or not weight >= 0:
        raise ValueError("generations and weight must not be negative")
    if teacher == "frozen":
        if times.max(initial=0.0) > 1:
            raise ValueError("a frozen teacher's tilt is taken up once: generations are at most 1")
        points = [tree.log_prob(_fixed_point(tree, weight * t, demo_law)) for t in times]
        return _complete(np.array(points).reshape(len(times), tree.passes.shape[0]))
    found = np.empty((len(times), tree.passes.shape[0]))
    log_branch, now = tree.log_branch, 0.0
    for at in np.argsort(times, kind="stable"):
        span = times[at] - now
        steps = int(np.ceil(span * _STEPS))
        for _ in range(steps):
            log_branch = _step(tree, log_branch, weight * span / steps, demo_law)
        now = times[at]
        found[at] = tree.log_prob(log_branch)
    return _complete(found)


def _step(tree: AnswerTree, log_branch: Floats, size: float, demo_law: Law) -> Floats:
    """One step of Heun's method, second order in its size."""
    first = tree.tilt(log_branch, demo_law)
    halfway = _finite(tree.normalised(log_branch + size * first))
    second = tree.tilt(halfway, demo_law)
    return _finite(tree.normalised(log_branch + size / 2 * (first + second)))


def _fixed_point(tree: AnswerTree, weight: float, demo_law: Law) -> Floats:
    log_branch = tree.log_branch
    if weight == 0:
        return log_branch
    for _ in range(1000):
        aim = tree.log_branch + weight * tree.tilt(log_branch, demo_law)
        # Halfway there: the map may overshoot where demonstrations say much.
        new = _finite(tree.normalised(np.logaddexp(log_branch, tree.normalised(aim)) - np.log(2)))
        with np.errstate(invalid="ignore"):
            moved = np.nanmax(np.abs(np.exp(new) - np.exp(log_branch)), initial=0.0)
        log_branch = new
        if moved < 1e-12:
            break
    return log_branch


def _finite(log_branch: Floats) -> Floats:
    """Give a fork where everything is ruled out no probability; `_complete` sees if it matters."""
    return np.where(np.isnan(log_branch), -np.inf, log_branch)


def _complete(log_prob: Floats) -> Floats:
    lost = np.exp(log_prob).sum(axis=1) < 1 - 1e-6
    if lost.any():
        raise ValueError(
            "demonstrations together rule out every answer that goes on from a prefix which the "
            "policy reaches; list more answers, or leave one of the demonstrations out"
        )
    return log_prob


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
        As for `passk_lab.teacher.decomposition.checked_scores`. Answers must be whole outputs, so
        that ``logprob`` is that of the answer; each answer counts once. Correct answers that are
        not listed can't be forecast; wrong ones that are not listed make the base look more
        accurate than it is, so compare with generation 0.
    generations, demo_law, teacher, weight
        As for `evolve`.
    k : int or sequence of int
    tokens : callable, optional
        Tokens of an answer, for the optimum of a loss over tokens. Default: an answer is one token,
        for that over whole sequences.

    Returns
    -------
    DataFrame
        One row a problem and generation: ``problem_id, generation, pass@<k> ..., distinct@<k> ...,
        effective_answers``.

    Raises
    ------
    ValueError
        As for `checked_scores`, `AnswerTree` and `evolve`; a pair of answer and demonstration has
        no score; a problem's correct answers weren't all demonstrations and rollouts.

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
    keys = ["problem_id", "answer", "demo_answer"]
    pairs = pairs.drop_duplicates(keys)
    records = []
    for problem, part in pairs.groupby("problem_id", sort=True):
        row, names = pd.factorize(part["answer"], sort=True)
        column, demos = pd.factorize(part["demo_answer"], sort=True)
        matrix = np.full((len(names), len(demos)), np.nan)
        matrix[row, column] = part["pcmi"]
        if np.isnan(matrix).any():
            at, demo = np.argwhere(np.isnan(matrix))[0]
            raise ValueError(
                f"scores: problem {problem!r}: answer {names[at]!r} has no score after "
                f"demonstration {demos[demo]!r}; every pair is needed"
            )
        correct = np.zeros(len(names), dtype=bool)
        correct[row] = part["correct"]
        log_base = np.empty(len(names))
        log_base[row] = part["logprob"]
        odd = set(names[correct]) ^ set(demos)
        if odd:
            raise ValueError(
                f"scores: problem {problem!r}: answer {min(odd)!r} is a demonstration or a correct "
                "rollout only; score every correct answer in both places"
            )
        tree = AnswerTree(
            [[name] if tokens is None else tokens(name) for name in names],
            log_base,
            matrix,
            pd.Index(names).get_indexer(demos),
        )
        policies = evolve(tree, generations, demo_law, teacher, weight)
        for generation, log_prob in zip(generations, policies, strict=True):
            label = {"problem_id": problem, "generation": float(generation)}
            records.append({**label, **outcome(np.exp(log_prob[correct]), ks)})
    return pd.DataFrame(records)


def _check(
    answers: Sequence[Sequence[Hashable]], base: Floats, matrix: Floats, demos: Ints
) -> None:
    n = len(answers)
    if len(base) != n or matrix.shape != (n, len(demos)) or not n or not len(demos):
        raise ValueError(
            f"{n} answers and {len(demos)} demonstrations need log_base of shape ({n},) and pcmi "
            f"of shape ({n}, {len(demos)}), got {base.shape} and {matrix.shape}"
        )
    if not np.isfinite(base).all():
        at = int(np.argmin(np.isfinite(base)))
        raise ValueError(f"log_base[{at}] is {base[at]}; leave out what the base never gives")
    if not (matrix < np.inf).all():
        row, column = np.argwhere(~(matrix < np.inf))[0]
        raise ValueError(f"pcmi[{row}, {column}] is {matrix[row, column]}; it is finite or -inf")
    if demos.min() < 0 or demos.max() >= n or len(np.unique(demos)) < len(demos):
        raise ValueError("demos must be places of different answers")
    if (matrix == -np.inf).all(axis=0).any():
        at = int(np.argmax((matrix == -np.inf).all(axis=0)))
        raise ValueError(f"demonstration {at} rules out every listed answer; leave it out")
