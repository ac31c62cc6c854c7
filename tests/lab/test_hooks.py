"""Real trainers of TRL train a tiny random model on the CPU while they are recorded."""

import json
import logging
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

from passk_lab import distinct_at_k_curve, pass_at_k_curve
from passk_lab.lab.hooks import record
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.readers.trl import read_trl
from passk_lab.rollouts.files import read_metadata, read_rollouts
from tests.helpers import letter_tokenizer, refuses

LETTERS = "abcd"
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)
KINDS = {"grpo": (GRPOTrainer, GRPOConfig), "sdpo": (SDPOTrainer, SDPOConfig)}
WORDS = [x + y + z for x in LETTERS for y in LETTERS for z in LETTERS]


def tiny_model():
    """Random weights, which write short words of the letters."""
    return build_model(ModelConfig(7, 64, d_model=16, n_layers=1, n_heads=2, pad_id=0, eos_id=1), 0)


def text_of(completion):
    return completion if isinstance(completion, str) else completion[0]["content"]


def has_a(completions, **_):
    return [float("a" in text_of(c)) for c in completions]


def share_of_b(completions, **_):
    return [text_of(c).count("b") / max(len(text_of(c)), 1) for c in completions]


def letters(text):
    return "".join(sorted(set(text))) or None


class Listener(TrainerCallback):
    """Stands for Weights & Biases and the like: sees what is reported."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **_):
        self.logs.append({"step": state.global_step, **logs})


def made(
    kind, folder, rewards=(has_a,), prompts=("ab", "cd", "dc", "bd"), evaluated=None, **options
):
    trainer, config = KINDS[kind]
    if kind == "sdpo":
        options["teacher_model_kind"] = "live"  # others copy the model from its name
    # Older transformers, of those that the package runs on, know it by its first name.
    renamed = "activation_checkpointing" in {field.name for field in fields(config)}
    recomputed = "activation_checkpointing" if renamed else "gradient_checkpointing"
    options = {
        "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 6,
        "max_steps": 3, "logging_steps": 1, "report_to": [], "save_strategy": "no",
        "use_cpu": True, "bf16": False, recomputed: False, "seed": 0, "disable_tqdm": True,
        **options,
    }  # fmt: skip
    listener = Listener()
    return trainer(
        model=tiny_model(),
        reward_funcs=list(rewards),
        args=config(output_dir=str(folder), **options),
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        eval_dataset=None if evaluated is None else Dataset.from_dict({"prompt": evaluated}),
        processing_class=letter_tokenizer(
            [*LETTERS, ">"], chat_template=TEMPLATE, pad_token="<pad>", eos_token="<eos>"
        ),
        callbacks=[listener],
    ), listener


def recorded(folder):
    return pd.concat([read_rollouts(f) for f in sorted(Path(folder).glob("*.parquet"))])


def total_logprob(model, context, completion, temperature):
    """By one plain forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *completion]])).logits[0].float() / temperature
    rows = torch.log_softmax(logits, -1)[len(context) - 1 : -1]
    return float(rows[range(len(completion)), completion].sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conversation", [False, True])
def test_recorded_rollouts(kind, conversation, tmp_path):
    prompts = ["ab", "cd", "dc", "bd"]
    if conversation:
        prompts = [[{"role": "user", "content": word}] for word in prompts]
    sampled = []

    def exact(completions, completion_ids, **_):
        sampled.extend(completion_ids)
        return has_a(completions)

    trainer, listener = made(
        kind, tmp_path / "out", rewards=[exact], prompts=prompts, temperature=0.7
    )
    before = tiny_model()
    before.load_state_dict(trainer.model.state_dict())
    record(trainer, tmp_path / "rollouts", run=kind, answer=letters)
    trainer.train()

    table = recorded(tmp_path / "rollouts")
    assert len(table) == 3 * 8
    assert table.groupby(["step", "problem_id"]).size().tolist() == [4] * 6
    assert sorted(table["step"].unique()) == [0, 1, 2]
    assert set(table["run"]) == {kind}
    assert set(table["split"]) == {"train"}
    assert table["correct"].tolist() == ["a" in text for text in table["text"]]
    assert table["answer"].fillna("").tolist() == [letters(t) or "" for t in table["text"]]
    names = [f.name for f in sorted((tmp_path / "rollouts").iterdir())]
    assert names == [f"train-{step:08d}.parquet" for step in range(3)]
    meta = read_metadata(tmp_path / "rollouts" / names[0])
    assert meta["recorded_from"] == type(trainer).__name__

    # What TRL reported itself.
    name = {"grpo": "rewards/exact/mean", "sdpo": "self_distillation/reward_mean"}[kind]
    logs = [entry for entry in listener.logs if name in entry]
    means = table.groupby("step")["score"].mean()
    assert [entry[name] for entry in logs] == pytest.approx(means.tolist(), abs=1e-6)
    # What was added, both reported and kept in the trainer's state, is that of the table.
    for step, entry in enumerate(logs):
        part = table[table["step"] == step]
        curve = pass_at_k_curve(part, n_resamples=10).set_index("k")["estimate"]
        assert {k: entry[f"passk/pass@{k}"] for k in curve.index} == pytest.approx(curve.to_dict())
        widest = distinct_at_k_curve(part, 4, n_resamples=10)["estimate"].item()
        assert entry["passk/distinct@4"] == pytest.approx(widest)
        assert entry["passk/problems"] == 2
    history = [e for e in trainer.state.log_history if "passk/pass@1" in e]
    assert [e["passk/pass@1"] for e in history] == [e["passk/pass@1"] for e in logs]

    # Step 0 was sampled from the model as it came.
    tokenizer = trainer.processing_class
    for row, tokens in zip(table.itertuples(), sampled[:8], strict=False):
        word = json.loads(row.prompt)[0]["content"] + ">" if conversation else row.prompt
        context = tokenizer(word)["input_ids"]
        assert row.step == 0
        assert row.text == tokenizer.decode(tokens, skip_special_tokens=True)
        assert row.n_tokens == len(tokens)
        expected = total_logprob(before, context, list(tokens), 0.7)
        assert row.logprob == pytest.approx(expected, abs=1e-4)


def test_same_rows_as_the_completions_files(tmp_path):
    trainer, _ = made(
        "grpo", tmp_path, rewards=[has_a, share_of_b], log_completions=True,
        num_completions_to_print=0,
    )  # fmt: skip
    record(trainer, tmp_path / "rollouts", reward="has_a", logprobs=False)
    trainer.train()
    mine = recorded(tmp_path / "rollouts")
    theirs = read_trl(tmp_path, reward="has_a")
    for column in ("problem_id", "sample_id", "correct", "score", "text", "prompt"):
        assert mine[column].tolist() == theirs[column].tolist()
    # Their file names the step after the update.
    assert (mine["step"] + 1).tolist() == theirs["step"].tolist()
    assert not {"logprob", "answer"} & set(mine.columns)


def test_logprobs_are_those_that_sdpo_learns_with(tmp_path):
    seen = []

    class Spy(TrainerCallback):
        def on_self_distillation_batch_prepared(self, old_per_token_logps=None, **_):
            seen.append(old_per_token_logps)

    # A batch that serves two updates: TRL then needs the log-probabilities at sampling.
    trainer, _ = made("sdpo", tmp_path, num_iterations=2, max_steps=4)
    trainer.add_callback(Spy)
    record(trainer, tmp_path / "rollouts", answer=letters)
    trainer.train()
    table = recorded(tmp_path / "rollouts")
    assert table.groupby("step").size().to_dict() == {0: 8, 2: 8}
    assert len(seen) == 2
    for step, values in zip((0, 2), seen, strict=True):
        part = table[table["step"] == step]
        mask = torch.arange(values.shape[1]) < torch.tensor(part["n_tokens"].tolist())[:, None]
        theirs = (values * mask).sum(1).tolist()
        assert part["logprob"].tolist() == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_collapse_is_noticed(kind, tmp_path, caplog):
    """Everything is correct, but words of the letter a are better: most others vanish."""

    def likes_a(completions, **_):
        return [1 + c.count("a") / max(len(c), 1) for c in completions]

    options = {} if kind == "grpo" else {"success_reward_threshold": 1.5}
    trainer, listener = made(
        kind, tmp_path, rewards=[likes_a], prompts=WORDS[:12], evaluated=WORDS[20:40],
        max_steps=40, learning_rate=0.05, lr_scheduler_type="constant", logging_steps=10,
        eval_strategy="steps", eval_steps=40, eval_on_start=True, num_generations_eval=8,
        per_device_eval_batch_size=40, per_device_train_batch_size=16, **options,
    )  # fmt: skip
    record(trainer, tmp_path / "rollouts", answer=lambda text: text, logprobs=False)
    with caplog.at_level(logging.WARNING, "passk_lab.lab.hooks"):
        trainer.train()
    first, last = [e for e in listener.logs if "eval_passk/pass@1" in e]
    assert (first["step"], last["step"]) == (0, 40)
    assert "eval_passk/collapse" not in first
    assert last["eval_passk/paired"] == 20
    table = recorded(tmp_path / "rollouts")
    table = table[table["split"] == "eval"]
    found = {}
    for step, part in table.groupby("step"):
        curve = distinct_at_k_curve(part, 8, n_resamples=10)
        found[step] = curve["estimate"].item()
    change = found[40] - found[0]
    assert last["eval_passk/distinct_change"] == pytest.approx(change)
    low, high = last["eval_passk/distinct_change_low"], last["eval_passk/distinct_change_high"]
    assert low < change < high
    assert high < 0
    assert last["eval_passk/collapse"] == 1
    assert "distinct correct answers fell" in caplog.text
    # Training prompts come again as well, and are compared with their first time.
    assert [e for e in listener.logs if e.get("passk/paired") == 12]


def test_resumed_training_goes_on_with_the_files(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "logging_steps": 3}

    class Killed(Exception):
        pass

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 5:
                raise Killed

    trainer, _ = made("grpo", tmp_path, **options)
    trainer.add_callback(Kill)
    record(trainer, tmp_path / "rollouts", answer=letters)
    with pytest.raises(Killed):
        trainer.train()
    # Written at the logs of step 3 and the checkpoints of steps 2 and 4; the last batch is lost.
    assert sorted(recorded(tmp_path / "rollouts")["step"].unique()) == [0, 1, 2, 3]

    trainer, _ = made("grpo", tmp_path, **options)
    record(trainer, tmp_path / "rollouts", answer=letters)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    table = recorded(tmp_path / "rollouts")
    assert table.groupby("step").size().to_dict() == dict.fromkeys(range(6), 8)
    assert not table.duplicated(["step", "problem_id", "sample_id"]).any()

    again, _ = made("grpo", tmp_path, **options)
    record(again, tmp_path / "rollouts")
    refuses("holds the rollouts of another training", again.train)


class Fake:
    """What the recorder asks of a trainer."""

    def __init__(self, *rewards):
        self.reward_funcs = list(rewards)
        self.state = SimpleNamespace(global_step=0, log_history=[{}], is_world_process_zero=True)
        self.model = SimpleNamespace(training=True)
        self.callback_handler = SimpleNamespace(callbacks=[])
        self.accelerator = SimpleNamespace(is_main_process=True)
        self.temperature = 1.0

    def sample(self, prompts, completions, **columns):
        ids = [[2] * len(c) for c in completions]
        return self.reward_funcs[0](
            prompts=prompts, completions=completions, completion_ids=ids, **columns
        )

    def log(self, **logs):
        self.callback_handler.callbacks[0].on_log(None, self.state, None, logs=logs)
        return logs


def test_change_against_the_first_time(tmp_path):
    fake = Fake(has_a)
    record(fake, tmp_path, answer=letters, logprobs=False)
    prompts = [w for w in WORDS[:12] for _ in range(3)]
    fake.sample(prompts, ["a", "ab", "ac"] * 12)
    assert "passk/paired" not in fake.log(loss=1.0)
    fake.state.global_step = 7
    fake.sample(prompts, ["a", "ab", "ab"] * 6 + ["a", "a", "b"] * 6)
    logs = fake.log(loss=1.0)
    # From 3 distinct correct answers to 2 in half of the problems, to 1 in the others.
    assert logs["passk/distinct_change"] == pytest.approx(-1.5)
    assert logs["passk/distinct@3"] == pytest.approx(1.5)
    assert logs["passk/pass@1"] == pytest.approx((1 + 2 / 3) / 2)
    assert logs["passk/paired"] == 12
    assert logs["passk/collapse"] == 1
    assert -2 <= logs["passk/distinct_change_low"] < -1.5 < logs["passk/distinct_change_high"] < 0
    assert fake.state.log_history[-1]["passk/collapse"] == 1
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "train-00000000.parquet", "train-00000007.parquet",
    ]  # fmt: skip


def test_no_alarm_without_a_loss(tmp_path, caplog):
    fake = Fake(has_a)
    record(fake, tmp_path, answer=letters, logprobs=False)
    rng = np.random.default_rng(0)
    prompts = [w for w in WORDS for _ in range(4)]
    for step in range(2):
        fake.state.global_step = step
        fake.sample(prompts, ["a" + rng.choice(["", "b", "c"]) for _ in prompts])
        logs = fake.log(loss=1.0)
    assert logs["passk/collapse"] == 0
    assert logs["passk/distinct_change_low"] < 0 < logs["passk/distinct_change_high"]
    assert not caplog.records


def test_rewards_of_none_are_left_out(tmp_path):
    fake = Fake(lambda completions, **_: [None if c == "d" else 1.0 for c in completions])
    record(fake, tmp_path, logprobs=False)
    assert fake.sample(["ab"] * 3, ["a", "d", "b"]) == [1.0, None, 1.0]
    logs = fake.log(loss=1.0)
    assert logs["passk/ungraded"] == 1
    assert recorded(tmp_path)["text"].tolist() == ["a", "b"]


def test_names_of_the_data_set_and_evaluations(tmp_path):
    fake = Fake(has_a)
    record(fake, tmp_path, answer=lambda text: None, logprobs=False)
    fake.sample(["ab"] * 2, ["a", "b"], problem_id=[17, 17])
    fake.model.training = False
    fake.sample(["cd"] * 2, ["a", "b"], problem_id=["x", "x"])
    assert set(fake.log(eval_loss=1.0)) == {
        "eval_loss", "eval_passk/pass@1", "eval_passk/pass@2", "eval_passk/distinct@2",
        "eval_passk/problems",
    }  # fmt: skip
    assert "passk/pass@1" in fake.log(loss=1.0)
    table = recorded(tmp_path)
    assert table["problem_id"].tolist() == ["x", "x", "17", "17"]
    assert table["split"].tolist() == ["eval", "eval", "train", "train"]
    # A correct completion without an answer stands for itself; a wrong one has none.
    assert table["answer"].fillna("-").tolist() == ["a", "-", "a", "-"]


@pytest.mark.parametrize(
    ("rewards", "options", "message"),
    [
        ([], {}, "no reward functions"),
        ([has_a, share_of_b], {}, r"several rewards \(has_a, share_of_b\)"),
        ([has_a], {"reward": "has_b"}, "'has_b' is none of has_a"),
        ([torch.nn.Linear(1, 1)], {}, "must be a plain function"),
    ],
)
def test_trainers_that_cannot_be_watched(rewards, options, message, tmp_path):
    refuses(message, record, Fake(*rewards), tmp_path, **options)
