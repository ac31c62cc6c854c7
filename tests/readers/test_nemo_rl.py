import json
from pathlib import Path

import pytest

from passk_lab.readers import stable_id
from passk_lab.readers.nemo_rl import read_nemo_rl
from tests.helpers import mean_pass_at_k, refuses

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nemo-rl"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def validated(folder, *records, step=1):
    path = folder / f"val_data_step{step}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def record(reward, *messages):
    messages = messages or ("2+3?", "5")
    roles = ("user", "assistant") * len(messages)
    said = [{"role": r, "content": text} for r, text in zip(roles, messages, strict=False)]
    return {"content": [said], "rewards": [reward], "idx": 0}


def evaluated(folder, *samples):
    path = folder / "evaluation_data.json"
    path.write_text(json.dumps({"evaluation_data": samples}))
    return path


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_what_nemo_rl_reported(k):
    table = read_nemo_rl(FIXTURES / "evaluation")
    expected = REPORTED["pass@k"][str(k)]
    assert mean_pass_at_k(table, k) == pytest.approx(expected, abs=1e-6)  # float32 there


def test_validation_is_what_nemo_rl_reported():
    table = read_nemo_rl(FIXTURES / "validation")
    assert table["correct"].mean() == REPORTED["validation"]["accuracy"]
    assert mean_pass_at_k(table, 4) == REPORTED["validation"]["pass_k"]


def test_evaluation():
    table = read_nemo_rl(FIXTURES / "evaluation")
    assert table["sample_id"].tolist() == [0, 1, 2, 3] * 2
    assert table["problem_id"].tolist() == [
        stable_id(p) for p in ("2+3?", "6*7?") for _ in range(4)
    ]
    assert table["text"].tolist()[:4] == ["It is 5", "5", "6", ""]
    assert table["correct"].tolist()[:4] == [True, True, False, False]
    assert set(table["run"]) == {"org/tiny-model"}
    assert set(table["temperature"]) == {0.7}
    assert "step" not in table


def test_validation():
    table = read_nemo_rl(FIXTURES / "validation")
    assert set(table["step"]) == {20}
    both = (FIXTURES / "evaluation", FIXTURES / "validation")
    first, second = (read_nemo_rl(path) for path in both)
    assert first["problem_id"].tolist() == second["problem_id"].tolist()
    assert first["text"].tolist() == second["text"].tolist()
    assert set(table["run"]) == {"default"}


def test_steps_and_conversations(tmp_path):
    validated(tmp_path, record(1.0), step=20)
    validated(tmp_path, record(0.0, "2+3?", "4?", "No.", "5"), step=3)
    (tmp_path / "train_data_step1.jsonl").write_text("{}")
    table = read_nemo_rl(tmp_path)
    assert table["step"].tolist() == [3, 20]
    assert table["problem_id"].nunique() == 1
    assert [message["content"] for message in json.loads(table["text"].iloc[0])] == [
        "4?",
        "No.",
        "5",
    ]


def test_rewards(tmp_path):
    path = validated(tmp_path, record(0.5), record(None))
    refuses("column 'reward' is missing in 1 of 2 rollouts", read_nemo_rl, path)
    table = read_nemo_rl(path, threshold=0.5, unscored="incorrect")
    assert table["correct"].tolist() == [True, False]
    assert read_nemo_rl(path, unscored="drop")["score"].tolist() == [0.5]


def test_refusals(tmp_path):
    refuses("no evaluation_data.json or val_data_step", read_nemo_rl, tmp_path)
    refuses("record 1: the messages are no prompt and a reply", read_nemo_rl,
            validated(tmp_path, record(1.0, "2+3?")))  # fmt: skip
    refuses("record 1: no field 'rewards'; this isn't validation", read_nemo_rl,
            validated(tmp_path, {"content": []}))  # fmt: skip
    for rewards in ([], [1.0, 0.0], 1.0):
        path = validated(tmp_path, record(1.0) | {"rewards": rewards})
        refuses("record 1: 'rewards' is .*, no list with one entry", read_nemo_rl, path)
    refuses("no list 'evaluation_data'", read_nemo_rl, evaluated(tmp_path))
    refuses("sample 0: no field 'response'", read_nemo_rl, evaluated(tmp_path, {"prompt": "p"}))
    refuses("'x' is no grade", read_nemo_rl,
            evaluated(tmp_path, {"prompt": "p", "response": "r", "reward": "x"}))  # fmt: skip
