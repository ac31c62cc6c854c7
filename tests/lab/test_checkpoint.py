import os
import pickle
import random
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from passk_lab.lab._checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from passk_lab.lab.model import ModelConfig, build_model, load_model
from tests.helpers import refuses

SIZES = ModelConfig(vocab_size=20, context_length=16, d_model=32, n_layers=2, n_heads=4)


@dataclass
class Settings:
    group: int = 8
    shape: tuple = (1, 2)
    n_steps: int = 100
    teacher: dict = field(default_factory=lambda: {"rate": 0.05})


def weights(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Run:
    """A small training run whose data come from every kind of generator."""

    def __init__(self):
        self.model = build_model(SIZES, seed=0)
        groups = [
            {"params": p, "lr": 0.01 / (i + 1)} for i, p in enumerate(self.model.parameters())
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.1, betas=(0.8, 0.95))
        self.data = torch.Generator().manual_seed(1)
        self.step = 0

    def train(self, n_steps):
        for _ in range(n_steps):
            tokens = torch.randint(0, 20, (4, 12), generator=self.data)
            # Python and numpy make two normal numbers at once and keep the second.
            drawn = random.gauss(0, 9), np.random.normal(0, 9), torch.normal(0.0, 9.0, ()).item()  # noqa: NPY002
            tokens[3, :3] = torch.tensor([int(number) % 20 for number in drawn])
            loss = self.model(tokens, labels=tokens).loss
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.step += 1

    def save(self, folder):
        state = {"step": self.step, "data": self.data.get_state()}
        return save_checkpoint(folder, self.model, self.optimizer, state=state)

    def resume(self, folder):
        state = load_checkpoint(folder, self.model, self.optimizer)
        self.step = state["step"]
        self.data.set_state(state["data"])


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    straight = Run()
    straight.train(3)
    straight.save(tmp_path)
    straight.train(3)

    for seed in (random.seed, np.random.seed, torch.manual_seed):  # a new process has other states
        seed(12345)
    resumed = Run()
    resumed.train(1)  # must leave no trace
    resumed.resume(tmp_path)
    assert resumed.step == 3
    assert not equal(weights(resumed.model), weights(straight.model))
    resumed.train(3)
    assert resumed.step == straight.step == 6
    assert equal(weights(resumed.model), weights(straight.model))
    moments = [
        [value for state in run.optimizer.state.values() for value in state.values()]
        for run in (resumed, straight)
    ]
    assert equal(*moments)
    assert moments[0]


def test_saving_does_not_disturb_the_run(tmp_path):
    one, other = Run(), Run()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    one.train(2)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    other.train(1)
    other.save(tmp_path)
    other.train(1)
    assert equal(weights(one.model), weights(other.model))


def test_the_model_folder_loads_on_its_own(tmp_path):
    model = build_model(SIZES, seed=5)
    path = save_checkpoint(tmp_path, model)
    assert equal(weights(load_model(path / "model")), weights(model))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop])
def test_other_optimizers_and_plain_modules(kind, tmp_path):
    models = [nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)) for _ in range(2)]
    optimizers = [kind(model.parameters(), lr=0.1) for model in models]
    inputs = torch.randn(8, 3)

    def step(i):
        optimizers[i].zero_grad()
        models[i](inputs).square().mean().backward()
        optimizers[i].step()

    step(0)
    save_checkpoint(tmp_path, models[0], optimizers[0])
    load_checkpoint(tmp_path, models[1], optimizers[1])
    step(0)
    step(1)
    assert equal(weights(models[0]), weights(models[1]))


def test_state_comes_back_as_it_was(tmp_path):
    tensors = {"a": {"b": torch.zeros(2, 0)}, "half": torch.ones(2, dtype=torch.bfloat16)}
    state = {
        "step": 40, "big": 2**100, "tiny": 5e-324, "third": 1 / 3, "flag": True, "none": None,
        "infinite": [float("inf"), float("-inf")], "name": "sdsd/frozen ü",
        "scalar": np.float32(0.1).item(), "pair": (1, (2.5, "x")), "empty": [{}, [], ()],
        "by_number": {0: "a", (1, 2): "b", "__tensor__": "c"},
        "tensors": {"a/b": torch.arange(3), **tensors},
    }  # fmt: skip
    save_checkpoint(tmp_path, nn.Linear(1, 1), state=state)
    loaded = load_checkpoint(tmp_path)
    exact = {"rtol": 0, "atol": 0}  # the types of tensors as well
    torch.testing.assert_close(loaded.pop("tensors"), state.pop("tensors"), **exact)
    assert loaded == state
    assert type(loaded["pair"]) is tuple


def test_a_second_models_weights_fit_into_the_state(tmp_path):
    teacher = build_model(SIZES, seed=8)  # its tied weights share memory
    save_checkpoint(tmp_path, build_model(SIZES, seed=7), state={"teacher": teacher.state_dict()})
    again = build_model(SIZES, seed=9)
    again.load_state_dict(load_checkpoint(tmp_path)["teacher"])
    assert equal(weights(again), weights(teacher))


class Attack:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_no_code_of_a_file_is_run(tmp_path):
    model = nn.Linear(1, 1)
    path = save_checkpoint(tmp_path / "run", model, state={"step": 1})
    torch.save({"state": {"step": Attack(tmp_path / "ran")}}, path / "state.pt")
    refuses(r"state\.pt is missing or damaged", load_checkpoint, path, model)
    (path / "state.pt").write_bytes(pickle.dumps(Attack(tmp_path / "ran")))
    refuses(r"state\.pt is missing or damaged", load_checkpoint, path, model)
    assert not (tmp_path / "ran").exists()


def test_the_last_ones_are_kept(tmp_path):
    for step in range(5):
        path = save_checkpoint(tmp_path, nn.Linear(1, 1), state={"step": step})
    kept = list_checkpoints(tmp_path)
    assert [p.name for p in kept] == [f"checkpoint-00000{number}" for number in (4, 5)]
    assert path == kept[-1]
    assert load_checkpoint(tmp_path) == {"step": 4}
    assert load_checkpoint(kept[0]) == {"step": 3}
    assert set(tmp_path.iterdir()) == set(kept)


class Crash(BaseException):
    """Like a kill: nothing catches it, and cleaning up fails."""


@pytest.mark.parametrize(
    ("place", "name"),
    [(os, "rename"), (os, "fsync"), (shutil, "rmtree"), (torch, "save"), (Path, "mkdir")],
)
@pytest.mark.parametrize("call", range(1, 7))
def test_a_crash_in_any_step_leaves_whole_checkpoints(tmp_path, monkeypatch, place, name, call):
    for step in (1, 2):
        model = nn.Linear(1, 1)
        save_checkpoint(tmp_path, model, state={"step": step})
    real, count = getattr(place, name), 0

    def crash(*arguments, **options):
        nonlocal count
        count += 1
        if count >= call:
            raise Crash
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, crash)
        try:
            save_checkpoint(tmp_path, nn.Linear(1, 1), state={"step": 3})
        except Crash:
            assert count >= call
        else:
            assert count < call
    survivor = load_checkpoint(tmp_path, nn.Linear(1, 1))
    assert survivor["step"] in (2, 3)
    for path in list_checkpoints(tmp_path):
        load_checkpoint(path, nn.Linear(1, 1))
    save_checkpoint(tmp_path, nn.Linear(1, 1), state={"step": 4})
    assert load_checkpoint(tmp_path)["step"] == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_config_is_refused_field_by_field(tmp_path):
    save_checkpoint(tmp_path, nn.Linear(1, 1), config=asdict(Settings()))
    load_checkpoint(tmp_path, config=asdict(Settings()))
    for config, message in (
        (asdict(Settings(4, n_steps=200, shape=(1, 3))),
         r"group is 8 there and 4 here; n_steps is 100 there and 200 here; shape is .*; use"),
        ({"teacher": {"rate": 0.05}, "shape": [1, 2], "n_steps": 100},
         r"group is 8 there and absent here"),
        (asdict(Settings(teacher={"rate": 0.1})), r"teacher\.rate is 0\.05 there and 0\.1 here"),
    ):  # fmt: skip
        refuses(message, load_checkpoint, tmp_path, config=config)


def test_another_model_is_refused_and_nothing_is_changed(tmp_path):
    save_checkpoint(tmp_path, build_model(SIZES, seed=0))
    other = build_model(ModelConfig(20, 16, d_model=32, n_layers=1, n_heads=2), seed=1)
    before, state = weights(other), torch.get_rng_state()
    refuses(r"model\.num_attention_heads is 4 there and 2 here", load_checkpoint, tmp_path, other)
    assert equal(weights(other), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_plain_module_of_another_shape_is_refused(tmp_path):
    save_checkpoint(tmp_path, nn.Linear(2, 3, bias=False))
    other = nn.Linear(2, 2, bias=False)
    refuses(r"weight is \(3, 2\) there and \(2, 2\) here", load_checkpoint, tmp_path, other)
    refuses("bias is absent there", load_checkpoint, tmp_path, nn.Linear(2, 3))


def test_no_checkpoint_says_so(tmp_path):
    refuses("has no checkpoint", load_checkpoint, tmp_path, error=FileNotFoundError)
    refuses("has no checkpoint", load_checkpoint, tmp_path / "nowhere", error=FileNotFoundError)


@pytest.mark.parametrize("name", ["state.pt", "checkpoint.json", "model/model.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    model = nn.Linear(4, 4)
    path = save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=1.0))
    if damage == "missing":
        (path / name).unlink()
    else:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} is missing or damaged.*remove checkpoint-000001"):
        load_checkpoint(tmp_path, model)


def test_a_run_folder_may_be_moved(tmp_path):
    save_checkpoint(tmp_path / "here", nn.Linear(1, 1), state={"step": 1})
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_checkpoint(tmp_path / "there") == {"step": 1}
