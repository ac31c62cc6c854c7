import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passk_lab.lab.rewards import (
    disjoint_share,
    dkpo_rewards,
    group_advantages,
    mara_rewards,
    pkpo_rewards,
    ucpo_advantages,
)
from tests.helpers import refusals

torch.set_num_threads(1)
NAN, INF = float("nan"), float("inf")
seeds = st.integers(0, 2**32 - 1)


def gradient(value, parameter):
    return torch.autograd.grad(value, parameter)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
def test_advantages_of_equal_rewards_are_exactly_zero(kind):
    rewards = np.array([[0.1] * 7, [1e9 / 3] * 7, [0.0] * 7])
    assert (group_advantages(rewards, kind) == 0).all()


@settings(max_examples=50)
@given(seed=seeds, n=st.integers(2, 9))
def test_advantages_against_their_definitions(seed, n):
    rewards = np.random.default_rng(seed).normal(size=(4, n))
    grpo, dr_grpo, rloo = (group_advantages(rewards, k) for k in ("grpo", "dr_grpo", "rloo"))
    for i, j in itertools.product(range(4), range(n)):
        others = np.delete(rewards[i], j)
        assert rloo[i, j] == pytest.approx(rewards[i, j] - others.mean())
        assert dr_grpo[i, j] == pytest.approx(rewards[i, j] - rewards[i].mean())
    np.testing.assert_allclose(dr_grpo, grpo * (rewards.std(1, ddof=1, keepdims=True) + 1e-4))


def expected_policy_gradient(logits, correct, n, rewards):
    """E sum_i s_i grad log p(y_i) over all groups of n answers, by enumeration."""
    p = logits.softmax(-1)
    score = torch.eye(len(p), dtype=torch.float64) - p  # row y: grad log p(y)
    groups = np.array(list(itertools.product(range(len(p)), repeat=n)))
    s = torch.tensor(np.asarray(rewards(correct[groups]), dtype=np.float64))
    weight = p[groups].prod(1)
    return torch.einsum("g,gi,giv->v", weight, s, score[groups])


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 6) for k in range(1, n + 1)])
@pytest.mark.parametrize("baseline", [False, True])
def test_pkpo_is_unbiased_for_the_gradient_of_pass_at_k(n, k, baseline):
    logits = torch.tensor([0.3, -0.8, 1.1, 0.0], dtype=torch.float64, requires_grad=True)
    correct = np.array([True, True, False, False])
    accuracy = logits.softmax(-1)[torch.tensor(correct)].sum()
    exact = gradient(1 - (1 - accuracy) ** k, logits)[0]
    found = expected_policy_gradient(
        logits.detach(), correct, n, lambda c: pkpo_rewards(c, k, baseline)
    )
    torch.testing.assert_close(found, exact)


def test_pkpo_with_the_group_mean_subtracted_is_biased():
    # The documentation warns of it; should it ever hold, the warning has to go.
    logits = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64, requires_grad=True)
    correct = np.array([True, False, False])
    exact = gradient(1 - (1 - logits.softmax(-1)[0]) ** 3, logits)[0]
    found = expected_policy_gradient(
        logits.detach(), correct, 4, lambda c: group_advantages(pkpo_rewards(c, 3), "rloo")
    )
    assert not torch.allclose(found, exact, rtol=0.05)


def test_pkpo_at_k_1_is_the_plain_reward():
    correct = np.array([[1, 0, 1, 0, 0]])
    np.testing.assert_allclose(pkpo_rewards(correct, 1), correct / 5)


def test_mara_makes_the_optimum_flat_over_good_answers():
    base = np.array([0.30, 0.18, 0.02, 0.40, 0.10])
    reward = np.array([1.0, 1.0, 1.0, 0.0, 0.2])
    for beta in (0.01, 0.1, 1.0):
        plain = base * np.exp(reward / beta)
        augmented = mara_rewards(reward[None], np.log(base)[None], beta)[0]
        flat = base * np.exp(augmented / beta)
        np.testing.assert_allclose(flat[:3], flat[0], rtol=1e-9)
        # The anchor, the base's favourite, keeps its reward, and so do the wrong answers.
        np.testing.assert_allclose(flat[[0, 3, 4]], plain[[0, 3, 4]])


def test_mara_by_group():
    rewards = np.array([[0.0, 1.0, 1.0], [0.0, 0.5, 0.9], [2.0, 1.0, 0.0]])
    logprob = np.array([[-0.1, -3.0, -2.0], [-1.0, -1.0, -1.0], [-4.0, -3.0, -1.0]])
    expected = [[0.0, 1.5, 1.0], [0.0, 0.5, 0.9], [1.5, 1.0, 0.0]]
    np.testing.assert_allclose(mara_rewards(rewards, logprob, 0.5), expected)
    lower = mara_rewards(rewards[1:2], logprob[1:2] - [[0, 0, 1]], 0.5, threshold=0.5)
    np.testing.assert_allclose(lower, [[0.0, 0.5, 1.0]])


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 6) for k in range(1, n + 1)])
@pytest.mark.parametrize("baseline", [False, True])
def test_dkpo_is_unbiased_for_the_gradient_of_distinct_at_k(n, k, baseline):
    if k > n - baseline:
        pytest.skip("the group without a rollout is smaller than k")
    logits = torch.tensor([0.3, -0.8, 1.1, 0.0], dtype=torch.float64, requires_grad=True)
    correct = np.array([True, True, True, False])
    p = logits.softmax(-1)[torch.tensor(correct)]
    exact = gradient((1 - (1 - p) ** k).sum(), logits)[0]

    def rewards(groups):
        return dkpo_rewards(groups, k, baseline)

    # Answers by number; the wrong one is None.
    named = np.array([0, 1, 2, None], dtype=object)
    found = expected_policy_gradient(logits.detach(), named, n, rewards)
    torch.testing.assert_close(found, exact)


def test_dkpo_by_hand_and_against_pkpo():
    # One right answer only: distinct@k is pass@k, whose rewards with a baseline these are.
    group = ["a", None, "a", None, "a"]
    correct = [[answer is not None for answer in group]]
    np.testing.assert_allclose(dkpo_rewards([group], 3), pkpo_rewards(correct, 3, baseline=True))
    # All different: nobody else has one's answer.
    np.testing.assert_allclose(dkpo_rewards([["a", "b", "c"]], 3), [[1.0, 1.0, 1.0]])
    np.testing.assert_allclose(dkpo_rewards([["a", "a", None]], 1), [[1 / 3, 1 / 3, 0]])


def test_ucpo_keeps_the_sum_and_favours_the_rare():
    rng = np.random.default_rng(0)
    correct = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    advantages = group_advantages(correct)
    logprob = np.log(rng.random((3, 5)))
    found = ucpo_advantages(advantages, correct, logprob, 0.2)
    np.testing.assert_allclose(found.sum(1), advantages.sum(1), atol=1e-12)
    assert (np.argsort(-found[0, :3]) == np.argsort(logprob[0, :3])).all()
    np.testing.assert_array_equal(found[1:], advantages[1:])
    np.testing.assert_allclose(ucpo_advantages(advantages, correct, logprob, 0.0), advantages)


def test_disjoint_share_by_counting():
    rng = np.random.default_rng(0)
    groups = [[frozenset(rng.choice(4, rng.integers(0, 3), replace=False)) for _ in range(5)]
              for _ in range(6)]  # fmt: skip
    found = disjoint_share(groups)
    for g, i in itertools.product(range(6), range(5)):
        others = Counter(groups[g][i].isdisjoint(groups[g][j]) for j in range(5) if j != i)
        assert found[g, i] == others[True] / 4


test_bad_input_is_named = refusals(
    (lambda: group_advantages([[0, 1]], "ppo"), "known: grpo, dr_grpo, rloo"),
    (lambda: group_advantages([[0], [1]]), "at least 2"),
    (lambda: group_advantages([0, 1]), r"must be \[G, n\]"),
    (lambda: group_advantages([[0, 1], [1, NAN]]), r"rewards\[1, 1\] is nan"),
    (lambda: pkpo_rewards([[0, 1, 0.5]], 2), r"correct\[0, 2\] is 0\.5; it must be 0 or 1"),
    (lambda: pkpo_rewards([[0, 1]], 3), "k=3 must be between 1 and the 2 rollouts"),
    (lambda: pkpo_rewards([[0, 1]], 0), "k=0 must be between 1 and the 2 rollouts"),
    (lambda: mara_rewards([[0, 1]], [[-1, -INF]], 0.1), r"base_logprob\[0, 1\] is -inf"),
    (lambda: mara_rewards([[0, 1]], [[-1, -2, -3]], 0.1), "must have one shape"),
    (lambda: mara_rewards([[0, 1]], [[-1, -2]], -0.1), "beta=-0.1 must be"),
    (lambda: dkpo_rewards([["a", None]], 3), "k=3 must be between 1 and 2"),
    (lambda: dkpo_rewards([["a", None]], 2, baseline=True), "k=2 must be between 1 and 1"),
    (lambda: dkpo_rewards([["a", None], ["a"]], 1), "differ in their number"),
)
