from itertools import product

import numpy as np
import pandas as pd
import pytest

from passk_lab.stats.policies import POLICY_METRICS, policy_curve, policy_summary, policy_values
from tests.helpers import refuses


def table(seeds=(0,), problems=("a", "b")):
    rng = np.random.default_rng(0)
    rows = []
    for seed, problem in product(seeds, problems):
        p = rng.dirichlet(np.ones(4))[:3]  # the rest is wrong answers
        for answer in range(3):
            rows.append(("sdsd", "id", seed, problem, f"{answer}", np.log(p[answer]), 1 << answer))
    columns = ["run", "split", "seed", "problem_id", "answer", "logprob", "concepts"]
    return pd.DataFrame(rows, columns=columns)


def enumerated(p, k):
    """Expectations over every sequence of k draws: any correct, distinct, concepts (= answers)."""
    law = [*p, 1 - sum(p)]
    any_correct = distinct = 0.0
    for draws in product(range(len(law)), repeat=k):
        weight = np.prod([law[d] for d in draws])
        found = set(draws) - {len(p)}
        any_correct += weight * bool(found)
        distinct += weight * len(found)
    return any_correct, distinct


@pytest.mark.parametrize("k", [1, 2, 4])
def test_against_every_sequence_of_draws(k):
    policies = table()
    for place, problem in enumerate("ab"):
        p = np.exp(policies.loc[policies["problem_id"] == problem, "logprob"]).to_numpy()
        any_correct, distinct = enumerated(p, k)
        expected = {
            "pass_at_k": any_correct,
            "distinct_at_k": distinct,
            "coverage_at_k": distinct / 3,
            "concept_coverage_at_k": distinct / 3,
            "effective_answers": p.sum() ** 2 / (p**2).sum(),
        }
        for metric, value in expected.items():
            found = policy_values(policies, metric, k)[0].values
            assert found[0, place, 0] == pytest.approx(value, abs=1e-12)


def test_shared_concepts_and_unreachable_ones():
    policies = table(problems=("a",)).assign(concepts=[0b101, 0b100, 0b100])
    p = np.exp(policies["logprob"]).to_numpy()
    found = policy_values(policies, "concept_coverage_at_k", 2)[0].values
    # Concept 1 can't be visited and doesn't count.
    expected = (1 - (1 - p[0]) ** 2 + 1 - (1 - p.sum()) ** 2) / 2
    assert found[0, 0, 0] == pytest.approx(expected)


def test_extreme_probabilities():
    policies = pd.DataFrame(
        {"problem_id": ["a", "a", "b"], "answer": ["x", "y", "x"], "logprob": [0.0, -2000.0, -50.0]}
    )
    values = policy_values(policies, "pass_at_k", [1, 2**40], by=())[0].values[0]
    assert values[0].tolist() == [1.0, 1.0]
    assert values[1, 1] == pytest.approx(2**40 * np.exp(-50), rel=1e-6)
    effective = policy_values(policies, "effective_answers", 1, by=())[0].values
    assert effective[0, :, 0].tolist() == [1, 1]


def test_categorical_problems_in_any_order():
    policies = table(seeds=(0, 1))
    shuffled = policies.sample(frac=1, random_state=0)
    shuffled["problem_id"] = pd.Categorical(shuffled["problem_id"], categories=["b", "a"])
    for metric in POLICY_METRICS:
        ours = policy_values(policies, metric, [1, 3])[0]
        other = policy_values(shuffled, metric, [1, 3])[0]
        assert other.problem_id.tolist() == ours.problem_id.tolist()
        assert other.values == pytest.approx(ours.values, abs=1e-12)


def test_curve_and_summary():
    policies = table(seeds=(0, 1, 2))
    curve = policy_curve(policies, "coverage_at_k", [1, 8], n_resamples=200, random_state=0)
    assert set(curve["n_seeds"]) == {3}
    assert set(curve["n_problems"]) == {2}
    assert (curve["low"] <= curve["estimate"]).all()
    summary = policy_summary(policies[policies["seed"] == 0])
    assert summary["pass@1"] == pytest.approx(
        policy_values(policies, "pass_at_k", 1)[0].values[0].mean()
    )


def test_bad_input():
    policies = table(seeds=(0, 1))
    uneven = policies[(policies["seed"] == 0) | (policies["problem_id"] == "a")]
    positive = policies.assign(logprob=[-1, -1, 0.5] + [-1] * 9)
    for message, bad in (
        ("column 'answer' is missing", policies.drop(columns="answer")),
        (r"row 2: 0\.5 is no log-probability", positive),
        ("occurs twice", pd.concat([policies, policies])),
        ("differ in problem 'b'", uneven),
    ):
        refuses(message, policy_values, bad)
    refuses("'best_of_k' is none of pass_at_k", policy_values, policies, "best_of_k")
    bad = policies.drop(columns="concepts")
    refuses("'concepts' is missing", policy_values, bad, "concept_coverage_at_k")
    refuses("at least 1", policy_values, policies, k=[0])
