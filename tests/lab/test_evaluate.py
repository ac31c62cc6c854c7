import copy

import numpy as np
import pytest
import torch

from passk_lab.lab import evaluate as module
from passk_lab.lab.evaluate import answer_logprobs, evaluate, follows_demonstration
from passk_lab.lab.tasks.paths import PathTask
from passk_lab.rollouts.table import validate_rollouts

TASK = PathTask()


@pytest.fixture(scope="module")
def prompts():
    return TASK.sample(5, np.random.default_rng(0))


def test_the_table_is_valid_and_repeatable(model, prompts, monkeypatch):
    monkeypatch.setattr(module, "_PROMPTS_AT_ONCE", 2)
    settings = {"run": "base", "seed": 3, "step": 7}
    table = evaluate(model, TASK, prompts, 6, **settings)
    assert len(validate_rollouts(table)) == 30
    assert table["problem_id"].nunique() == 5
    assert set(table["step"]) == {7}
    again = evaluate(model, TASK, prompts, 6, **settings)
    assert table.equals(again)
    other = evaluate(model, TASK, prompts, 6, **{**settings, "seed": 4})
    assert not table["logprob"].equals(other["logprob"])


def test_logprobs_are_those_of_the_samples(model, prompts):
    """A sampled answer's log-probability equals its exact one."""
    table = evaluate(model, TASK, prompts, 200, run="base")
    readable = table[table["answer"].notna()]
    for row in readable.head(5).itertuples():
        prompt = next(p for p in prompts if p.problem_id == row.problem_id)
        (exact,) = answer_logprobs(model, TASK, prompt, [row.answer])
        assert row.logprob == pytest.approx(exact, abs=1e-3)


def test_exact_columns_are_bayes_rule(model, prompts):
    found = follows_demonstration(model, TASK, prompts)
    for prompt, row in zip(prompts, found.itertuples(), strict=True):
        law = TASK.document_law(prompt)
        assert row.exact == pytest.approx(law[row.demo] / sum(law.values()))
        given = TASK.document_law(prompt, row.demo)
        assert row.exact_given_demo == pytest.approx(given[row.demo] / sum(given.values()))
        assert row.exact_given_demo > row.exact
        right = TASK.correct_answers(prompt)
        total = np.exp(answer_logprobs(model, TASK, prompt, right)).sum()
        assert row.correct == pytest.approx(total)


def test_a_composed_teacher_has_its_own_policy_and_the_base_s_use(model, prompts):
    """As its own base it is the model itself; of another policy it takes all but the use."""
    prompt = prompts[0]
    right = TASK.correct_answers(prompt)
    given = answer_logprobs(model, TASK, prompt, right, right[0])
    assert answer_logprobs(model, TASK, prompt, right, right[0], model) == pytest.approx(
        given, abs=1e-4
    )
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1.1)
    composed = answer_logprobs(moved, TASK, prompt, right, right[0], model)
    assert np.abs(composed - given).max() > 1e-3
    # Without an effect in the base, nothing is left of the demonstration.
    alone = answer_logprobs(moved, TASK, prompt, right, None, model)
    assert alone == pytest.approx(answer_logprobs(moved, TASK, prompt, right), abs=1e-4)
