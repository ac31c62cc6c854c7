import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from passk_lab.teacher.generations import _AnswerTree as AnswerTree
from passk_lab.teacher.generations import _evolve as evolve
from passk_lab.teacher.generations import forecast_generations
from passk_lab.teacher.optimum import distillation_optimum
from tests.helpers import refusals, refuses, rollout_table, score_table

WORDS = ["a", "bx", "by", "bzq", "bzr", "c"]


def teachers(seed, n_demos=3):
    rng = np.random.default_rng(seed)
    n = len(WORDS)
    base = np.log(rng.dirichlet(np.ones(n)))
    given_demo = np.log(rng.dirichlet(np.ones(n), size=n_demos))
    return base, given_demo


def tree_of(words, base, given_demo):
    return AnswerTree(words, base, (given_demo - base).T, np.arange(len(given_demo)))


@pytest.mark.parametrize("seed", range(5))
def test_frozen_teacher_with_even_demonstrations_is_the_known_optimum(seed):
    base, given_demo = teachers(seed)
    for words, optimum in (
        (WORDS, distillation_optimum(given_demo, log_base=base, weight=0.6, tokens=WORDS)),
        ([[w] for w in WORDS], distillation_optimum(given_demo, log_base=base, weight=0.6)),
    ):
        tree = tree_of(words, base, given_demo)
        found = evolve(tree, [1.0], demo_law="uniform", teacher="frozen", weight=0.6)
        assert found[0] == pytest.approx(optimum.log_prob, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_moving_teacher_is_the_differential_equation(seed):
    base, given_demo = teachers(seed)
    tree = tree_of([[w] for w in WORDS], base, given_demo)
    pcmi = (given_demo - base).T

    def slope(_, log_p):
        q = np.exp(log_p[:3]) / np.exp(log_p[:3]).sum()
        tilt = pcmi @ q
        return tilt - np.exp(log_p) @ tilt

    times = [0.3, 1.0, 2.5]
    expected = solve_ivp(slope, (0, 2.5), base, t_eval=times, rtol=1e-10, atol=1e-12).y.T
    found = evolve(tree, times)
    assert np.exp(found) == pytest.approx(np.exp(expected), abs=2e-3)
    # Half the weight takes twice the time, in whatever order the times are asked for.
    assert evolve(tree, [5.0, 0.6], weight=0.5)[[1, 0]] == pytest.approx(found[[0, 2]], abs=5e-3)


def test_frozen_teacher_with_the_students_demonstrations_is_a_fixed_point():
    base, given_demo = teachers(4)
    pcmi = (given_demo - base).T
    log_p = evolve(tree_of([[w] for w in WORDS], base, given_demo), [1.0], teacher="frozen")[0]
    q = np.exp(log_p[:3]) / np.exp(log_p[:3]).sum()
    again = base + pcmi @ q
    assert log_p == pytest.approx(again - np.log(np.exp(again).sum()), abs=1e-9)


@pytest.mark.slow
def test_an_uninformative_demonstration_moves_nothing_and_a_copying_one_takes_all():
    base = np.log([0.5, 0.3, 0.2])
    idle = AnswerTree(["a", "bx", "by"], base, np.zeros((3, 3)), np.arange(3))
    assert evolve(idle, [0, 1, 50]) == pytest.approx(np.tile(base, (3, 1)), abs=1e-12)
    copying = AnswerTree(["a", "bx", "by"], base, 3 * np.eye(3) - 1.5, np.arange(3))
    assert np.exp(evolve(copying, [50])[0]) == pytest.approx([1, 0, 0], abs=1e-6)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.floats(0, 6))
@settings(max_examples=25)
def test_policies_sum_to_one(seed, time):
    base, given_demo = teachers(seed)
    for teacher in ("moving", "frozen"):
        at = min(time, 1.0) if teacher == "frozen" else time
        log_p = evolve(tree_of(WORDS, base, given_demo), [at], teacher=teacher)
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-9)


def test_a_single_answer_stays():
    tree = tree_of(["ab"], -np.ones(1), np.array([[-0.8]]))
    assert evolve(tree, [0, 2]).tolist() == [[0.0], [0.0]]
    assert evolve(tree, [1], teacher="frozen").tolist() == [[0.0]]


def test_vetoes_leave_the_others():
    base, given_demo = teachers(0)
    given_demo[0, 1] = -np.inf  # demonstration "a" rules "bx" out
    log_p = evolve(tree_of(WORDS, base, given_demo), [0.0, 1.0])
    assert np.isfinite(log_p[0]).all()
    assert log_p[1, 1] == -np.inf
    assert np.exp(log_p[1]).sum() == pytest.approx(1)
    # Both branches after "b" are ruled out, by one demonstration each.
    pcmi = np.array([[0.0, 0.0], [-np.inf, 0.2], [0.1, -np.inf]])
    two = AnswerTree(["a", "bx", "by"], np.log([0.4, 0.3, 0.3]), pcmi, np.arange(2))
    refuses("rule out every answer that goes on", evolve, two, [1.0])


def problem(n_correct=3):
    base, given_demo = teachers(1)
    correct = np.arange(len(WORDS)) < n_correct
    rollouts = rollout_table([("p", i, correct[i], word) for i, word in enumerate(WORDS)])
    pairs = np.ndindex(len(WORDS), n_correct)
    scores = score_table([("p", i, j, base[i], given_demo[j, i]) for i, j in pairs])
    return rollouts, scores, base, given_demo


def test_table_from_scores():
    rollouts, scores, base, given_demo = problem()
    table = forecast_generations(scores, rollouts, [0, 1.5], k=[1, 8], tokens=list)
    policies = np.exp(evolve(tree_of(WORDS, base, given_demo), [0, 1.5]))[:, :3]
    accuracy = policies.sum(axis=1)
    assert table["pass@1"].to_numpy() == pytest.approx(accuracy)
    assert table["pass@8"].to_numpy() == pytest.approx(1 - (1 - accuracy) ** 8)
    assert table["distinct@8"].to_numpy() == pytest.approx((1 - (1 - policies) ** 8).sum(axis=1))
    effective = accuracy**2 / (policies**2).sum(axis=1)
    assert table["effective_answers"].to_numpy() == pytest.approx(effective)
    # As a list of answers, and not a tree, the forecast is another one.
    other = forecast_generations(scores, rollouts, [1.5], k=1)
    assert abs(other["pass@1"][0] - accuracy[1]) > 1e-3


def test_rollouts_of_one_answer_count_once():
    rollouts, scores, *_ = problem()
    again = rollouts.iloc[:1].assign(sample_id=99)
    more = scores[scores["sample_id"] == 0].assign(sample_id=99)
    twice = forecast_generations(
        pd.concat([scores, more], ignore_index=True), pd.concat([rollouts, again]), [1.0]
    )
    assert twice.equals(forecast_generations(scores, rollouts, [1.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, r: (s.drop(index=4), r), "'bx' has no score after demonstration 'bx'"),
        (lambda s, r: (s[s["sample_id"] != 0], r), "answer 'a' is a demonstration or a correct"),
        (lambda s, r: (s[s["demo_id"] != 2], r), "answer 'by' is a demonstration or a correct"),
    ],
)
def test_incomplete_scores_are_refused(change, message):
    rollouts, scores, *_ = problem()
    scores, rollouts = change(scores, rollouts)
    refuses(message, forecast_generations, scores.reset_index(drop=True), rollouts, [1.0])


TREE = tree_of(WORDS, *teachers(0))
test_bad_trees_and_options_are_refused = refusals(
    (lambda: tree_of(["a", "a"], -np.ones(2), -np.ones((1, 2))), "0 and 1 are equal"),
    (lambda: tree_of(["a"], np.zeros(1), np.array([[-np.inf]])), "rules out every listed"),
    (lambda: evolve(TREE, [-1.0]), "must not be negative"),
    (lambda: evolve(TREE, [1.0], weight=-1.0), "must not be negative"),
    (lambda: evolve(TREE, [2.0], teacher="frozen"), "at most 1"),
    (lambda: evolve(TREE, [1.0], teacher="live"), "teacher='live' is none of"),
    (lambda: evolve(TREE, [1.0], demo_law="even"), "demo_law='even' is none of"),
)
