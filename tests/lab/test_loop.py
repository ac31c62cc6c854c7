import itertools
import json
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from passk_lab.lab._run import log_metrics
from passk_lab.lab.loop import Interrupted, TrainConfig, train
from passk_lab.lab.methods import METHODS
from passk_lab.lab.model import ModelConfig
from passk_lab.lab.pretrain import PretrainConfig, _learning_rate_at, pretrain
from passk_lab.lab.tasks.paths import PathTask
from tests.helpers import refuses

TASK = PathTask()
SHAPE = ModelConfig(TASK.vocab_size, TASK.context_length, d_model=32, n_layers=2, n_heads=2)
SMALL = {"prompts_per_step": 4, "group_size": 4, "save_every": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base that has seen a few documents, so that some rollouts are correct."""
    config = PretrainConfig(steps=60, batch_size=64, learning_rate=5e-3, warmup=10)
    return pretrain(TASK, SHAPE, config, tmp_path_factory.mktemp("base"), progress=False)


@pytest.fixture(autouse=True)
def easy(monkeypatch):
    """Count every readable answer as correct: so small a base solves nothing."""
    monkeypatch.setattr(PathTask, "verify", lambda self, prompt, answer: answer is not None)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("teacher", ["frozen", "ema", "live"])
def test_a_resumed_run_gives_the_same_numbers(base, tmp_path, teacher):
    config = {"method": "sdsd", "teacher": teacher, **SMALL}
    whole = train(TASK, base, TrainConfig(steps=4, **config), tmp_path / "a", progress=False)
    train(TASK, base, TrainConfig(steps=2, **config), tmp_path / "b", progress=False)
    resumed = train(TASK, base, TrainConfig(steps=4, **config), tmp_path / "b", progress=False)
    assert same(whole, resumed)
    assert not same(whole, base)
    for one, other in zip(metrics(tmp_path / "a"), metrics(tmp_path / "b"), strict=True):
        for name in ("step", "loss", "correct", "token_entropy", "grad_norm"):
            assert one[name] == other[name]
    assert len({step["loss"] for step in metrics(tmp_path / "a")}) == 4  # other rollouts each


def test_frozen_embeddings_stay_and_the_rest_moves(base, tmp_path):
    options = {"method": "sdsd", "freeze_embeddings": True, **SMALL}
    after = train(TASK, base, TrainConfig(steps=2, **options), tmp_path, progress=False)
    moved = {
        name: not torch.equal(new, old)
        for (name, new), old in zip(after.named_parameters(), base.parameters(), strict=True)
    }
    assert not moved.pop("model.embed_tokens.weight")
    assert all(moved.values())


def test_settings_of_the_optimizer_and_of_the_pass_through_the_model(base, tmp_path):
    def trained(name, **changes):
        config = TrainConfig(steps=3, method="sdsd", **SMALL, **changes)
        return train(TASK, base, config, tmp_path / name, progress=False)

    plain = trained("plain")
    assert not same(plain, trained("betas", betas=(0.5, 0.5)))
    tree = trained("tree", as_tree=True)  # other last bits, no more
    for one, other in zip(plain.parameters(), tree.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_fewer_steps_than_are_done_are_taken_anew(base, tmp_path):
    """A suite that was killed asks again for the models in the middle of training."""
    config = {"method": "sdsd", **SMALL}
    early = train(TASK, base, TrainConfig(steps=1, **config), tmp_path / "a", progress=False)
    late = train(TASK, base, TrainConfig(steps=4, **config), tmp_path / "b", progress=False)
    again = train(TASK, base, TrainConfig(steps=1, **config), tmp_path / "b", progress=False)
    assert same(early, again)
    assert not same(early, late)
    # An older checkpoint that is kept does.
    resumed = train(TASK, base, TrainConfig(steps=4, **config), tmp_path / "b", progress=False)
    assert same(resumed, late)


def test_pretraining_resumes_to_the_same_numbers(tmp_path):
    config = PretrainConfig(steps=6, batch_size=8, save_every=3, warmup=2)
    whole = pretrain(TASK, SHAPE, config, tmp_path / "a", "cpu", False)

    class Killed(Exception):
        pass

    calls = []

    class Dying(PathTask):
        def documents(self, n, rng):
            calls.append(n)
            if len(calls) == 5:
                raise Killed
            return super().documents(n, rng)

    with pytest.raises(Killed):
        pretrain(Dying(), SHAPE, config, tmp_path / "b", "cpu", False)
    assert same(whole, pretrain(TASK, SHAPE, config, tmp_path / "b", "cpu", False))


def test_another_config_is_refused(base, tmp_path):
    train(TASK, base, TrainConfig(steps=1, method="grpo", **SMALL), tmp_path, progress=False)
    other = TrainConfig(steps=2, method="rloo", **SMALL)
    refuses("method", train, TASK, base, other, tmp_path, progress=False)


def test_given_prompts_are_the_only_ones(base, tmp_path, monkeypatch):
    given = TASK.sample(5, np.random.default_rng(3))
    asked = []
    encode = PathTask.encode

    def noted(self, prompt, demo=None):
        asked.append(prompt.problem_id)
        return encode(self, prompt, demo)

    monkeypatch.setattr(PathTask, "encode", noted)
    config = TrainConfig(steps=3, **SMALL)
    train(TASK, base, config, tmp_path, progress=False, prompts=given)
    assert set(asked) == {prompt.problem_id for prompt in given}
    with pytest.raises(ValueError, match="prompts: 3 are fewer than prompts_per_step=4"):
        train(TASK, base, config, tmp_path, progress=False, prompts=given[:3])


def test_a_batch_without_a_correct_rollout_is_skipped(base, tmp_path, monkeypatch):
    monkeypatch.setattr(PathTask, "verify", lambda self, prompt, answer: False)
    after = train(TASK, base, TrainConfig(steps=2, **SMALL), tmp_path, progress=False)
    assert same(after, base)
    assert [m["skipped"] for m in metrics(tmp_path)] == [1.0, 1.0]
    assert metrics(tmp_path)[0]["unsolved_groups"] == 1.0


def test_a_loss_that_is_no_number_stops_and_saves(base, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "sdsd", lambda batch: torch.tensor(float("nan")))
    with pytest.raises(FloatingPointError, match="loss is nan at step 0"):
        train(TASK, base, TrainConfig(steps=2, **SMALL), tmp_path, progress=False)
    assert any((tmp_path / "not-finite").iterdir())


def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(base, tmp_path):
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    config = TrainConfig(steps=10_000, method="grpo", **{**SMALL, "save_every": 10_000})
    with pytest.raises(Interrupted, match="goes on from there"):
        train(TASK, base, config, tmp_path, progress=False)
    done = metrics(tmp_path)[-1]["step"]
    train(TASK, base, replace(config, steps=done + 1), tmp_path, progress=False)
    assert [m["step"] for m in metrics(tmp_path)] == list(range(1, done + 2))


def test_metrics_of_repeated_steps_are_replaced(tmp_path):
    for step, loss in ((1, 0.5), (2, 0.4), (3, 0.3), (2, 0.1)):
        log_metrics(tmp_path, {"step": step, "loss": loss})
    assert metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.1}]


@pytest.mark.parametrize("cut", [3, 12, 20, 26])
def test_a_line_cut_short_is_dropped(tmp_path, cut):
    """A killed process leaves part of a line; what was whole before it stays."""
    log_metrics(tmp_path, {"step": 1, "loss": 0.5})
    whole = (tmp_path / "metrics.jsonl").read_text()
    line = '{"step": 2, "loss": 0.25}'
    (tmp_path / "metrics.jsonl").write_text(whole + line[:cut])
    log_metrics(tmp_path, {"step": 3, "loss": 0.1})
    kept = [{"step": 2, "loss": 0.25}] if cut > len(line) - 1 else []
    assert metrics(tmp_path) == [{"step": 1, "loss": 0.5}, *kept, {"step": 3, "loss": 0.1}]


def test_learning_rate():
    config = PretrainConfig(steps=1_000, warmup=100, learning_rate=1.0)
    rates = [_learning_rate_at(step, config) for step in range(1_000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
