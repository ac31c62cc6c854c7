"""Formats whose files are tables by other names: what each program's layout means."""

import json
from pathlib import Path

import pandas as pd

from passk_lab.metrics import maj_at_k
from passk_lab.readers import read
from passk_lab.rollouts import counts
from tests.helpers import refuses

FIXTURES = Path(__file__).parents[1] / "fixtures"


def jsonl(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dumped(path, value):
    path.write_text(json.dumps(value))
    return path


def numbers(table):
    """(n, c) of each problem, in the order of their names."""
    return counts(table, modes=False)[["n_samples", "n_correct"]].to_numpy().tolist()


# --- Sentinels, and rewards of which one applies ---


def test_what_stands_for_no_answer_is_none(tmp_path):
    said = ["[incomplete reasoning]", "[incomplete reasoning]", "4", "5"]
    frame = pd.DataFrame({"step": 1, "prompt": "p", "completion": list("abcd"), "said": said,
                          "exact": [0.0, 0.0, 1.0, 0.0], "advantage": 0.0})  # fmt: skip
    path = tmp_path / "completions_00001.parquet"
    frame.to_parquet(path)
    table = read("trl", path, answer="said")
    (counted,) = counts(table).to_dict("records")
    assert counted["mode_counts"].tolist() == [1, 1]
    assert maj_at_k([1, 1], [1, 0], 2) == 0.5
    rows = [{"input": "2+2?", "output": "x", "gts": "4", "score": float(s == "4"), "pred": s}
            for s in said]  # fmt: skip
    assert read("verl", jsonl(tmp_path / "1.jsonl", *rows))["answer"].isna().sum() == 2
    # What is graded right is an answer, and other words in brackets are.
    right = [rows[0] | {"score": 1.0}, rows[1] | {"pred": "[1, 2]"}]
    assert read("verl", jsonl(tmp_path / "1.jsonl", *right))["answer"].notna().all()


def test_the_reward_that_applies(tmp_path):
    frame = pd.DataFrame({"step": 1, "prompt": ["math", "math", "code", "code"],
                          "completion": list("abcd"), "math": [1.0, 0.0, None, None],
                          "code": [None, None, 0.0, 1.0], "advantage": 0.0})  # fmt: skip
    path = tmp_path / "completions_00001.parquet"
    frame.to_parquet(path)
    refuses("several columns could be the reward", read, "trl", path)
    table = read("trl", path, reward=["math", "code"])
    assert table["correct"].tolist() == [True, False, False, True]
    assert read("trl", path, reward="math", unscored="drop")["correct"].tolist() == [True, False]


# --- Without a grade, in every reader that may meet it ---


def test_rewards_that_are_missing(tmp_path):
    row = {"input": "2+3?", "output": "5", "gts": "5", "score": 1.0}
    path = jsonl(tmp_path / "1.jsonl", row, row | {"score": None}, row | {"score": 0.0})
    refuses("column 'score' is missing in 1 of 3 rollouts .the first is row 1;", read, "verl", path)
    assert read("verl", path, unscored="drop")["correct"].tolist() == [True, False]
    assert read("verl", path, unscored="incorrect")["correct"].tolist() == [True, False, False]
    frame = pd.DataFrame({"step": 1, "prompt": "p", "completion": ["a", "b"],
                          "exact": [1.0, None], "advantage": 0.0})  # fmt: skip
    frame.to_parquet(tmp_path / "completions_00001.parquet")
    folder = tmp_path / "completions_00001.parquet"
    refuses("column 'exact' is missing in 1 of 2 rollouts", read, "trl", folder)
    dropped = read("trl", folder, unscored="drop")
    assert dropped["correct"].tolist() == [True]
    assert dropped.attrs["left_out"] == "1 rollout without a grade left out"
    assert read("trl", folder, unscored="incorrect")["correct"].tolist() == [True, False]


def test_half_an_emoji_is_spelled_out(tmp_path):
    row = {"task_id": "a\ud83d", "reward": 1.0, "trial": 0,
           "traj": [{"role": "user", "content": "\ud83d"}]}  # fmt: skip
    table = read("tau-bench", dumped(tmp_path / "r.json", [row]))
    assert table["problem_id"].tolist() == ["a\\ud83d"]
    assert "\\\\ud83d" in table["text"].item()
