import json
import re
import shutil
from pathlib import Path

import pytest

from passk_lab.metrics import pass_hat_k
from passk_lab.readers import convert
from passk_lab.readers.tau_bench import read_tau_bench
from passk_lab.rollouts import Study, counts, read_metadata
from tests.helpers import refuses

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tau-bench"
FIRST = FIXTURES / "airline.json"
SECOND = FIXTURES / "tau2" / "results.json"
FOLDER = FIXTURES / "tau2" / "folder"
PRINTED = dict(re.findall(r"k=(\d): ([\d.]+)", (FIXTURES / "printed.txt").read_text()))
REPORTED = json.loads((FIXTURES / "reported_tau2.json").read_text())


def numbers(table):
    """(n, c) of each problem, in the order of their names."""
    return counts(table, modes=False)[["n_samples", "n_correct"]].to_numpy().tolist()


def mean_pass_hat_k(table, k):
    counted = counts(table, modes=False)
    return pass_hat_k(counted["n_samples"], counted["n_correct"], k).mean()


def dumped(folder, value):
    path = folder / "r.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("k", [1, 2, 3])
def test_pass_hat_k_is_what_tau_bench_printed(k):
    """It counts trials that failed as wrong."""
    table = read_tau_bench(FIRST, unscored="incorrect")
    assert mean_pass_hat_k(table, k) == pytest.approx(float(PRINTED[str(k)]), abs=1e-12)


@pytest.mark.parametrize("path", [SECOND, FOLDER, FOLDER / "results.json"])
@pytest.mark.parametrize("k", [1, 2])
def test_pass_hat_k_is_what_tau2_bench_reported(path, k):
    """It leaves out what failed, and with it a task of which every trial did (tau2-bench #493)."""
    table = read_tau_bench(path, unscored="drop")
    assert mean_pass_hat_k(table, k) == pytest.approx(REPORTED["pass_hat_ks"][str(k)], abs=1e-12)
    assert REPORTED["infra_error_count"] == 2
    said = "2 rollouts without a grade left out, among them all of 1 problem"
    assert table.attrs["left_out"] == said


def test_trials():
    table = read_tau_bench(FIRST, unscored="incorrect")
    assert numbers(table) == [[3, 2], [3, 1], [3, 0]]
    first = table[table["problem_id"] == "0"]
    assert first["sample_id"].tolist() == [0, 1, 2]
    assert first["correct"].tolist() == [True, False, True]
    assert json.loads(first["text"].iloc[0])[1] == {"role": "assistant", "content": "Done."}
    assert table["error"].dropna().tolist() == ["no route to the model"] * 3
    assert table["text"].isna().sum() == 3
    assert set(table["run"]) == {"default"}
    refuses(r"column 'reward' is missing in 3 of 9 .*row 2; problems: 2\)", read_tau_bench, FIRST)


def test_simulations():
    table = read_tau_bench(SECOND, unscored="incorrect")
    names = ["create_task_1", "create_task_1_nl_eval", "create_task_1_with_env_assertions"]
    assert sorted(set(table["problem_id"])) == [f"mock/{name}" for name in names]
    assert numbers(table) == [[2, 1], [2, 0], [2, 2]]
    assert set(table["run"]) == {"tiny-model"}
    assert set(table["temperature"]) == {0.0}
    assert table["error"].dropna().tolist() == ["no route to the model"] * 2
    assert set(table["termination_reason"]) == {"user_stop", "infrastructure_error"}
    assert json.loads(table["text"].iloc[0])[-2]["content"] == "Done."
    refuses("column 'reward' is missing in 2 of 6 rollouts", read_tau_bench, SECOND)
    folder = read_tau_bench(FOLDER, unscored="incorrect")
    assert numbers(folder) == numbers(table)
    assert len(read_tau_bench.source_files(FOLDER)) == 7


def test_what_is_left_out_stays_known(tmp_path):
    convert("tau-bench", SECOND, tmp_path / "kept.parquet", unscored="drop")
    said = "2 rollouts without a grade left out, among them all of 1 problem"
    assert read_metadata(tmp_path / "kept.parquet")["converted_from"]["left_out"] == said
    assert any(said in note for note in Study(tmp_path / "kept.parquet").notes())


def simulation(task, trial, reward=1.0, **fields):
    return {"id": f"{task}-{trial}", "task_id": task, "trial": trial,
            "reward_info": {"reward": reward}, **fields}  # fmt: skip


def test_trials_that_never_ran_are_missing(tmp_path):
    content = {"info": {"num_trials": 2}, "tasks": [{"id": "a"}, {"id": "b"}]}
    path = dumped(tmp_path, {**content, "simulations": [simulation("a", 1)]})
    refuses("is missing in 3 of 4 rollouts", read_tau_bench, path)
    table = read_tau_bench(path, unscored="incorrect")
    assert numbers(table) == [[2, 1], [2, 0]]
    assert table["error"].dropna().tolist() == ["missing"] * 3
    # Without numbers of trials they are counted.
    path = dumped(tmp_path, {**content, "simulations": [simulation("a", None)] * 2})
    assert numbers(read_tau_bench(path, unscored="incorrect")) == [[2, 2], [2, 0]]


def test_what_ended_early_has_a_reward(tmp_path):
    content = {"info": {}, "tasks": []}
    reasons = enumerate(("max_steps", "unexpected_error", "agent_error"))
    ended = [simulation("a", n, 0.0, termination_reason=reason) for n, reason in reasons]
    table = read_tau_bench(dumped(tmp_path, {**content, "simulations": ended}))
    assert table["correct"].tolist() == [False] * 3
    assert "error" not in table


def test_partial_reward(tmp_path):
    rows = [{"task_id": 0, "reward": reward, "trial": n} for n, reward in enumerate((0.5, 0.0))]
    path = dumped(tmp_path, rows)
    assert read_tau_bench(path)["correct"].tolist() == [False, False]
    table = read_tau_bench(path, threshold=0.5)
    assert table["correct"].tolist() == [True, False]
    assert table["score"].tolist() == [0.5, 0.0]


def test_half_an_emoji_is_spelled_out(tmp_path):
    row = {"task_id": "a\ud83d", "reward": 1.0, "trial": 0,
           "traj": [{"role": "user", "content": "\ud83d"}]}  # fmt: skip
    table = read_tau_bench(dumped(tmp_path, [row]))
    assert table["problem_id"].tolist() == ["a\\ud83d"]
    assert "\\\\ud83d" in table["text"].item()


def test_refusals(tmp_path):
    refuses("neither a list of trials", read_tau_bench, dumped(tmp_path, {"a": 1}))
    refuses("trial 0: no field 'reward'", read_tau_bench, dumped(tmp_path, [{"task_id": 1}]))
    refuses("trial 0: no field 'task_id'", read_tau_bench, dumped(tmp_path, [3]))
    refuses("the file holds no trials", read_tau_bench, dumped(tmp_path, []))
    refuses("no results.json in this folder", read_tau_bench, tmp_path)
    twice = {"task_id": 1, "reward": 0.0, "trial": 0}
    refuses("repeats an earlier rollout", read_tau_bench, dumped(tmp_path, [twice, twice]))
    refuses("'high' is no grade", read_tau_bench, dumped(tmp_path, [twice | {"reward": "high"}]))
    folder = shutil.copytree(FOLDER, tmp_path / "folder")
    next((folder / "simulations").iterdir()).unlink()
    refuses("1 of 6 simulations have no file", read_tau_bench, folder)
