import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passk_lab.lab import rewards
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.methods import (
    METHODS,
    Batch,
    LossOptions,
    _distinct_peers,
    _peers,
    _share_of_answer,
    _strangers,
    _wrong_peers,
    get_method,
)
from passk_lab.lab.sampling import Samples
from passk_lab.lab.tasks.paths import PathTask
from tests.helpers import refuses

TASK = PathTask()


@pytest.fixture
def batch(model):
    """Rollouts by a teacher of correct paths, some of them spoilt: 3 prompts x 4."""
    prompts = TASK.sample(3, np.random.default_rng(0))
    answers, correct = [], []
    for prompt in prompts:
        right = TASK.correct_answers(prompt)
        answers += [right[0], right[0], right[1], "-".join(right[2].split("-")[:-1])]
        correct.append([True, True, True, False])
    # In the last prompt nothing is right.
    answers[8:] = ["0-1", "0-1", "1-0", "1-0"]
    correct[2] = [False] * 4
    tokens = [TASK.encode_answer(a) for a in answers]
    width = max(map(len, tokens))
    padded = torch.tensor([t + [TASK.pad_id] * (width - len(t)) for t in tokens])
    mask = torch.tensor([[i < len(t) for i in range(width)] for t in tokens])
    zeros = torch.zeros(padded.shape)
    return Batch(
        TASK, prompts, Samples(padded, mask, zeros, zeros), answers, np.array(correct),
        model, model, model, np.random.default_rng(1), LossOptions(kl_coef=0.1, at_k=2),
        demonstrator=model,
    )  # fmt: skip


def test_peers_are_correct_and_not_the_row_itself(batch):
    seen = set()
    for _ in range(50):
        picked = _peers(batch)
        assert picked[8:] == [None] * 4
        # Rows 0 and 1 hold one answer, row 2 another: row 2 never sees its own.
        assert picked[2] == batch.answers[0]
        assert picked[0] in (batch.answers[1], batch.answers[2])
        seen.add(picked[3])
    assert seen == {batch.answers[0], batch.answers[2]}


def test_the_only_correct_row_is_shown_to_itself(batch):
    batch.correct[0] = [False, False, True, False]
    assert _peers(batch)[:4] == [batch.answers[2]] * 4


def test_distinct_peers_are_balanced(batch):
    """Two of the three correct rows agree; for the wrong row both answers are equally likely."""
    popular = dict.fromkeys((_peers, _distinct_peers), 0)
    for picker in popular:
        for _ in range(600):
            popular[picker] += picker(batch)[3] == batch.answers[0]
    assert abs(popular[_peers] / 600 - 2 / 3) < 0.08
    assert abs(popular[_distinct_peers] / 600 - 1 / 2) < 0.08


def test_control_demonstrations(batch):
    assert set(_strangers(batch)[:4]) <= {batch.answers[4], batch.answers[6]}
    assert set(_strangers(batch)[8:]) <= set(batch.answers[:8])
    assert _wrong_peers(batch)[0] == batch.answers[3]
    batch.correct[:] = False
    assert _strangers(batch) == [None] * 12


@pytest.mark.parametrize("name", METHODS)
def test_every_loss_is_finite_and_has_a_gradient(name, batch, model):
    model.zero_grad()
    batch.samples.logprob.copy_(batch.student_logprob.detach())
    loss = METHODS[name](batch)
    assert torch.isfinite(loss)
    loss.backward()
    size = sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)
    if name == "control-none":
        assert size < 1e-3  # the teacher is the student, in the same context
    else:
        assert size > 1e-3


@pytest.mark.parametrize("name", ["sdsd", "grpo", "rft"])
def test_means_over_tokens_are_those_over_rows_divided_by_their_length(name, batch):
    batch.samples.logprob.copy_(batch.student_logprob.detach())
    batch.options = LossOptions()
    rows = METHODS[name](replace(batch, rng=np.random.default_rng(0))).item()
    batch.options = LossOptions(reduction="token")
    tokens = METHODS[name](replace(batch, rng=np.random.default_rng(0))).item()
    counted = {"sdsd": batch.mask[:8], "grpo": batch.mask, "rft": batch.rows(batch.correct)}[name]
    ratio = len(batch.mask) / int(counted.sum())
    assert rows != 0 or name == "grpo"
    assert tokens == pytest.approx(rows * ratio, rel=1e-4, abs=1e-7)


def test_groups_without_a_correct_rollout_don_t_teach(batch, model):
    """The third prompt's rows get no gradient from self-distillation."""
    logits = batch.student_logits.detach().requires_grad_()
    batch.__dict__["student_logits"] = logits
    METHODS["sdsd"](batch).backward()
    assert logits.grad[:8].abs().sum() > 0
    assert logits.grad[8:].abs().sum() == 0


def test_centring_the_tilt_changes_the_loss(batch):
    plain, centred = (
        METHODS[name](replace(batch, rng=np.random.default_rng(1))).item()
        for name in ("sdsd", "sdsd-centred")
    )
    assert centred != pytest.approx(plain)


def test_modulated_advantages_keep_the_mean_weight(batch):
    """The teacher moves weight between the tokens of a row; the row's total stays."""
    batch.samples.logprob.copy_(batch.student_logprob.detach())
    batch.options = LossOptions()
    logits = batch.student_logits.detach().requires_grad_()
    batch.__dict__["student_logits"] = logits
    batch.__dict__.pop("student_logprob")
    loss = METHODS["rl-modulated"](batch)
    advantages = rewards.group_advantages(batch.correct.astype(float), "grpo").ravel()
    lengths = batch.mask.sum(1).numpy()
    # On policy the ratio is 1: the loss is minus the mean over rows of advantage times length.
    assert float(loss.detach()) == pytest.approx(-(advantages * lengths).mean(), rel=1e-4)


def test_the_docs_list_every_method():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    table = page.partition("## The suite")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.M) == [*METHODS]
    assert all(loss.__doc__ for loss in METHODS.values())


def test_unknown_methods_are_refused():
    refuses("'dpo' is unknown; the known ones: sdsd, ", get_method, "dpo")
    refuses("is unknown", TrainConfig, method="sdsd2")
    for bad in ({"steps": 0}, {"teacher": "old"}, {"ema_rate": 0.0}, {"group_size": 0}):
        refuses(next(iter(bad)), TrainConfig, **bad)


def test_balanced_rows_count_distinct_answers_alike(batch):
    """Of the first prompt's correct rows two agree: each weighs half of the third; mean 1."""
    weights = _share_of_answer(batch).numpy().reshape(3, 4)
    assert weights[0].tolist() == pytest.approx([0.75, 0.75, 1.5, 0])
    assert (weights[2] == 0).all()
    logits = batch.student_logits.detach().requires_grad_()
    batch.__dict__["student_logits"] = logits
    batch.options = LossOptions(balanced=True)
    balanced = METHODS["rft"](batch).item()
    batch.options = LossOptions()
    assert balanced != pytest.approx(METHODS["rft"](batch).item())


def test_mixed_rewards_lie_between_accuracy_and_distinct_answers(batch, monkeypatch):
    seen = {}
    for mix in (0.0, 0.5, 1.0):
        batch.options = LossOptions(at_k=2, mix=mix, standardise=False)
        monkeypatch.setattr(
            "passk_lab.lab.methods._reinforce", lambda _, found, mix=mix: seen.update({mix: found})
        )
        METHODS["dkpo"](batch)
    assert seen[0.0].tolist() == batch.correct.astype(float).tolist()
    # The policy gradient of distinct@2, whose largest reward is k = 2.
    assert seen[0.5] == pytest.approx(0.5 * seen[0.0] + 0.25 * seen[1.0])


def test_the_anchored_teacher_takes_a_reward(batch):
    batch.samples.logprob.copy_(batch.student_logprob.detach())
    losses = []
    for reward in (0.0, 1.0, 2.0):
        batch.options = LossOptions(at_k=2, reward=reward)
        losses.append(METHODS["sdsd-anchored"](replace(batch, rng=np.random.default_rng(1))).item())
    added = METHODS["dkpo"](batch).item()
    assert losses[1] - losses[0] == pytest.approx(added, abs=1e-5)
    assert losses[2] - losses[0] == pytest.approx(2 * added, abs=1e-5)
