import json
from pathlib import Path

import pytest

from passk_lab.readers import convert
from passk_lab.readers.verifiers import read_verifiers
from tests.helpers import mean_pass_at_k, refuses

FIXTURES = Path(__file__).parents[1] / "fixtures" / "verifiers"
SAVED = FIXTURES / "sums--tiny-model"
TRACES = FIXTURES / "traces"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def row(**fields):
    said = [{"role": "assistant", "content": "It is 5"}]
    asked = [{"role": "user", "content": "2+3?"}]
    return {"example_id": 0, "prompt": asked, "completion": said, "answer": "5", "reward": 1.0,
            "error": None, **fields}  # fmt: skip


def written(folder, *rows, name="results.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_what_verifiers_reported(k):
    """It counts errors as wrong, and partial reward from its threshold on as right."""
    table = read_verifiers(SAVED, unscored="incorrect")
    assert mean_pass_at_k(table, k) == pytest.approx(REPORTED["pass_at_k"][str(k)], abs=1e-12)


def test_values():
    table = read_verifiers(SAVED, unscored="incorrect")
    assert table["problem_id"].tolist() == ["sums/0"] * 4 + ["sums/1"] * 4
    assert table["sample_id"].tolist() == [0, 1, 2, 3] * 2
    assert set(table["run"]) == {"tiny-model"}
    assert set(table["temperature"]) == {0.7}
    assert table["score"].tolist() == [0.5, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert table["correct"].tolist() == [True, True, False, False, True, False, False, False]
    strict = read_verifiers(SAVED, unscored="incorrect", threshold=1.0)
    assert strict["correct"].sum() == 2
    assert table["text"].iloc[3] == "Five \u2028 I think"
    assert table["prompt"].iloc[0] == "2+3?"
    assert table["n_tokens"].iloc[0] == 7
    # Nobody's answer: the expected one. An empty reply is a reply, none at all isn't.
    assert "answer" not in table
    assert table["verifiers_answer"].iloc[0] == "5"
    assert table["text"].iloc[6] == ""
    assert table["text"].isna().sum() == 1
    assert table["error"].dropna().item().startswith("ModelError() -> ConnectionError")


def test_errors_are_no_grades(tmp_path):
    refuses("'reward' is missing in 1 of 8 rollouts .*row 5", read_verifiers, SAVED)
    kept = convert("verifiers", SAVED, tmp_path / "kept.parquet", unscored="drop")
    assert kept.groupby("problem_id").size().tolist() == [4, 3]
    assert read_verifiers(SAVED, unscored="drop").attrs["left_out"] == (
        "1 rollout without a grade left out"
    )


def test_a_metric_instead_of_the_reward():
    table = read_verifiers(SAVED, reward="exact", unscored="incorrect", threshold=1.0)
    assert table["correct"].tolist() == [False, True, False, False, True, False, False, False]
    refuses("no field 'nope'", read_verifiers, SAVED, reward="nope")


def test_the_models_answer_if_it_was_saved(tmp_path):
    path = written(tmp_path, row(said="5"), row(said="[INVALID]", reward=0.0))
    table = read_verifiers(path, answer="said")
    assert table["answer"].isna().tolist() == [False, True]
    assert table["verifiers_answer"].tolist() == ["5", "5"]
    assert set(table["run"]) == {"default"}
    refuses("no field 'nope'", read_verifiers, path, answer="nope")


def test_examples_that_are_unique_only_within_a_task(tmp_path):
    path = written(tmp_path, row(task="sums"), row(task="products", answer="6"))
    refuses("one 'example_id' with 2 values of 'answer'.*problem_id=", read_verifiers, path)
    table = read_verifiers(path, problem_id=["task", "example_id"])
    assert table["problem_id"].nunique() == 2
    assert read_verifiers(path, problem_id="task")["problem_id"].tolist() == ["sums", "products"]


def test_conversations(tmp_path):
    turns = [{"role": "assistant", "content": "Let me see."}, {"role": "tool", "content": "5"},
             {"role": "assistant", "content": "It is 5"}]  # fmt: skip
    table = read_verifiers(written(tmp_path, row(completion=turns), row(completion="It is 5")))
    assert json.loads(table["text"].iloc[0]) == turns
    assert table["text"].iloc[1] == "It is 5"


def test_traces():
    refuses("'reward' is missing in 1 of 4 rollouts .*row 3", read_verifiers, TRACES)
    table = read_verifiers(TRACES, unscored="incorrect")
    assert table["correct"].tolist() == [True, False, True, False]
    assert table["sample_id"].tolist() == [0, 1, 0, 1]
    assert table["problem_id"].nunique() == 2
    assert table["problem_id"].str.startswith("sums/").all()
    assert table["text"].iloc[:3].tolist() == ["5", "It is 6", "42"]
    assert table["prompt"].iloc[0] == "2+3?"
    assert table["length"].iloc[:3].tolist() == [1.0, 7.0, 2.0]
    # The episode that failed before any trace began is a rollout of the same model.
    assert set(table["run"]) == {"tiny-model"}
    assert table["error"].tolist()[3] == "no route to the model"
    assert not {"answer", "verifiers_answer"} & set(table)


def episode(*agents, ok=True, **rewards):
    nodes = [{"message": {"role": "assistant", "content": "5"}, "sampled": True}]
    traces = [{"agent": {"name": name}, "ok": ok, "nodes": nodes,
               "rewards": {k: v and {"score": v, "weight": 0.5} for k, v in rewards.items()}}
              for name in agents]  # fmt: skip
    return {"task": {"key": "t", "data": {"idx": 0, "answer": "5"}}, "traces": traces}


def test_rewards_have_weights_and_agents_names(tmp_path):
    path = written(tmp_path, episode("solver", "judge", exact=1.0, form=1.0, speed=None),
                   name="traces.jsonl")  # fmt: skip
    refuses("several agents; choose agent= one of 'solver', 'judge'", read_verifiers, path)
    table = read_verifiers(path, agent="solver")
    assert table[["correct", "score", "exact"]].to_numpy().tolist() == [[True, 1.0, 1.0]]
    assert table["verifiers_answer"].tolist() == ["5"]
    refuses("no agent 'x'", read_verifiers, path, agent="x")
    broken = written(tmp_path, episode("solver", ok=False, exact=1.0), name="traces.jsonl")
    refuses("'reward' is missing in 1 of 1", read_verifiers, broken)
    table = read_verifiers(broken, unscored="incorrect")
    assert table[["correct", "error"]].to_numpy().tolist() == [[False, "not completed"]]


def saved(folder, name, *, step):
    """Save the episodes as prime-rl does (its FileMonitor), which adds group, run and env.name."""
    episodes = [json.loads(line) for line in (TRACES / "traces.jsonl").read_text().splitlines()]
    for one in episodes:
        kind = {"type": name.split("/")[0], "step": step}
        one["env"]["name"] = "sums-1"
        one |= {"group": {"id": "g"}, "run": {"type": "train", "id": "r", "work": kind}}
    path = folder / "rollouts" / f"step_{step}" / name
    path.parent.mkdir(parents=True)
    return written(path.parent, *episodes, name=path.name)


def test_a_training_run_of_prime_rl(tmp_path):
    for step in (20, 100):
        for subset in ("train/all", "train/effective", "eval/all"):
            saved(tmp_path, f"{subset}/traces.jsonl", step=step)
    refuses("several subsets; choose subset= one of 'eval/all', 'train/all', 'train/effective'",
            read_verifiers, tmp_path, unscored="drop")  # fmt: skip
    table = read_verifiers(tmp_path, subset="eval/all", unscored="incorrect")
    assert table["step"].tolist() == [100] * 4 + [20] * 4
    assert table["correct"].tolist() == [True, False, True, False] * 2
    assert table["problem_id"].nunique() == 2
    assert set(table["run"]) == {"tiny-model"}
    one = tmp_path / "rollouts" / "step_20" / "eval" / "all" / "traces.jsonl"
    for path in (one, one.parent.parent):
        assert read_verifiers(path, unscored="drop")["step"].tolist() == [20] * 3
    refuses("no subset 'eval'", read_verifiers, one, subset="eval")


def test_rollouts_of_prime_rl_before_traces(tmp_path):
    folder = tmp_path / "step_7"
    folder.mkdir()
    written(folder, row(), row(reward=0.0), name="train_rollouts.jsonl")
    path = written(folder, row(), name="eval_rollouts_sums.jsonl")
    refuses("several subsets; choose subset= one of 'eval', 'train'", read_verifiers, tmp_path)
    assert read_verifiers(folder, subset="train")["step"].tolist() == [7, 7]
    assert read_verifiers(path)["correct"].tolist() == [True]


def test_refusals(tmp_path):
    refuses("no results.jsonl or traces.jsonl here", read_verifiers, tmp_path)
    without = row()
    del without["reward"]
    refuses("record 2: no field 'reward'; this isn't results of verifiers", read_verifiers,
            written(tmp_path, row(), without))  # fmt: skip
    refuses("column 'reward', row 0: 'good' is no grade", read_verifiers,
            written(tmp_path, row(reward="good")))  # fmt: skip
    refuses("record 2: no field 'task'; this isn't an episode", read_verifiers,
            written(tmp_path, episode("a"), {"traces": []}, name="traces.jsonl"))  # fmt: skip
