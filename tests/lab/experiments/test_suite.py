import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from passk_lab import read_rollouts
from passk_lab.cli import main
from passk_lab.lab.evaluate import answer_logprobs
from passk_lab.lab.experiments import concepts, run_suite
from passk_lab.lab.experiments import suite as suites
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.methods import METHODS
from passk_lab.lab.pretrain import PretrainConfig
from passk_lab.lab.tasks.paths import PathTask
from passk_lab.rollouts.files import read_metadata
from tests.helpers import refuses

SHIPPED = Path(__file__).parents[3] / "data" / "paths" / "base"
TINY = suites.Suite(
    pretrain=PretrainConfig(steps=3, batch_size=8, warmup=1),
    runs={
        name: TrainConfig(name, prompts_per_step=2, group_size=2, save_every=1)
        for name in ("sdsd", "grpo", "grpo/kl")
    },
    steps=(2,), policy_steps=(1, 2), seeds=(0, 1), n_problems=6, n_samples=4,
    d_model=32, n_layers=2, n_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return TINY.make_base(tmp_path_factory.mktemp("base"), progress=False)


def test_every_method_has_a_run():
    both = {**suites.SUITES["paths"].runs, **concepts.SUITES["concepts"].runs}
    assert {config.method.split("/")[0] for config in both.values()} == set(METHODS)
    assert all(name == c.method for name, c in suites.SUITES["paths"].runs.items())


def test_prompts_of_every_split(base):
    prompts = TINY.evaluation_prompts(base, suites.ALL_SPLITS)
    again = TINY.evaluation_prompts(base, suites.ALL_SPLITS)
    for split, made in prompts.items():
        assert [p.problem_id for p in made] == [p.problem_id for p in again[split]]
        assert all(p.problem_id.startswith(split) for p in made)
    for usual, blocked in zip(prompts["id"], prompts["ood-blocked"], strict=True):
        answers = TINY.task.correct_answers(usual)
        favourite = answers[int(np.argmax(answer_logprobs(base, TINY.task, usual, answers)))]
        assert not TINY.task.verify(blocked, favourite)
    refuses("'ood-harder' is none of", TINY.evaluation_prompts, base, ["ood-harder"])


@pytest.mark.slow
def test_a_suite_writes_every_run_and_resumes(base, tmp_path):
    files = run_suite(TINY, base, tmp_path, progress=False)
    assert [f.stem for f in files] == [
        "base-0", "base-1",
        "sdsd-0", "sdsd-1", "grpo-0", "grpo-1", "grpo-kl-0", "grpo-kl-1",
    ]  # fmt: skip
    table = read_rollouts(files)
    assert set(table["run"]) == {"base", "sdsd", "grpo", "grpo/kl"}
    last = table[(table["run"] == "sdsd") & (table["step"] == 2) & (table["seed"] == 1)]
    assert set(last["split"]) == set(suites.ALL_SPLITS)
    assert (last.groupby("problem_id").size() == 4).all()
    assert read_metadata(files[2])["train"]["method"] == "sdsd"
    before = {f: f.read_bytes() for f in files}
    files[2].unlink()
    run_suite(TINY, base, tmp_path, progress=False, jobs=2)
    first, second = read_rollouts(files[2]), table[(table["run"] == "sdsd") & (table["seed"] == 0)]
    assert first.equals(second.reset_index(drop=True)[first.columns])
    for file in files[:2] + files[3:]:
        assert file.read_bytes() == before[file]

    # The exact probabilities agree with what was sampled, at every step that was asked for.
    policy = pd.read_parquet(tmp_path / "policies" / "sdsd-0.parquet")
    assert set(policy.loc[policy["split"] == "id", "step"]) == {1, 2}
    assert set(policy["split"]) == {*suites.ALL_SPLITS, suites.VALIDATION}
    drawn = first.dropna(subset="answer").merge(
        policy, on=["run", "split", "seed", "step", "problem_id", "answer"], suffixes=("", "_exact")
    )
    assert np.allclose(drawn["logprob"], drawn["logprob_exact"], atol=1e-3)

    # What student and teacher make of a demonstration, at every step.
    use = pd.read_parquet(tmp_path / "use" / "sdsd-0.parquet")
    assert set(zip(use["who"], use["step"], strict=True)) == {
        (who, step) for who in ("student", "teacher") for step in (1, 2)
    }
    assert use["correct_given_demo"].between(0, 1).all()
    # Methods are chosen on problems of their own.
    assert set(policy.loc[policy["split"] == suites.VALIDATION, "step"]) == {2}


def test_every_run_at_every_rate():
    main = suites.SUITES["paths"].runs
    assert {config.learning_rate for config in main.values()} == {suites.MAIN_RATE}
    others = suites.SUITES["paths-rates"].runs
    for name, config in others.items():
        run, _, rate = name.partition("@")
        assert config == replace(main[run], learning_rate=float(rate))
        assert config.learning_rate != suites.MAIN_RATE
    for run in ("sdsd", "grpo", "grpo/kl", "sdsd-composed", "dkpo/mixed", "mara"):
        rates = {
            config.learning_rate for name, config in others.items() if name.startswith(f"{run}@")
        }
        assert rates | {suites.MAIN_RATE} == set(suites.RATES)


@pytest.mark.slow
def test_work_side_by_side_gives_the_same_numbers_and_a_failing_worker_is_heard(base, tmp_path):
    """Two processes with one thread each against one process with one thread."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (_, one) = run_suite(TINY, base, tmp_path / "one", ["grpo"], [0], progress=False)
        torch.set_num_threads(2)
        strange = tmp_path / "two" / "runs" / "sdsd-0"
        shutil.copytree(tmp_path / "one" / "runs" / "grpo-0", strange)
        with pytest.raises(ValueError, match=r"sdsd-0.*was saved with another config"):
            run_suite(TINY, base, tmp_path / "two", ["grpo", "sdsd"], [0], 2, progress=False)
    finally:
        torch.set_num_threads(threads)
    two = tmp_path / "two" / one.relative_to(tmp_path / "one")
    assert read_rollouts(one).equals(read_rollouts(two))


def test_a_saved_base_is_loaded(base, tmp_path):
    base.save_pretrained(tmp_path / "saved")
    again = TINY.make_base(tmp_path / "saved")
    torch.testing.assert_close(again.state_dict(), base.state_dict(), rtol=0, atol=0)
    larger = replace(TINY, task=PathTask(max_nodes=14))
    refuses("the task needs", larger.make_base, tmp_path / "saved")


@pytest.mark.slow
def test_the_shipped_base_is_what_its_readme_says():
    """Quick form of the measurement: the targets of the experiment hold for the shipped weights."""
    suite = replace(suites.SUITES["paths"], n_samples=64)
    base = suite.make_base(SHIPPED)
    found = suite.base_report(base, n_prompts=40)
    assert 0.3 <= found["pass@1"] <= 0.6
    assert found["pass@64"] > 0.9
    assert found["effective_paths"] >= 3
    # A demonstration raises its own path's probability about as Bayes' rule says.
    assert found["demo_model_given_demo"] - found["demo_model"] > 0.25


def test_base_report(base):
    found = replace(TINY, n_samples=64).base_report(base)
    assert 0 <= found["pass@1"] <= found["pass@64"] <= 1
    assert found["effective_paths"] >= 1
    assert found["demo_exact_given_demo"] > found["demo_exact"]


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(suites.SUITES, "paths", TINY)
    monkeypatch.chdir(tmp_path)
    call = ["train", "--suite", "paths", "--out", "lab", "--quiet"]
    assert main([*call, "--runs", "grpo", "--seeds", "0"]) == 0
    assert (tmp_path / "lab" / "rollouts" / "grpo-0.parquet").exists()
    assert main([*call, "--runs", "ppo"]) == 2
    assert "'ppo' is unknown; the known ones: sdsd, grpo" in capsys.readouterr().err
    assert main(["train", "--suite", "chess", "--out", "lab"]) == 2
