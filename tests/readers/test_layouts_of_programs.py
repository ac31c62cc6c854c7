"""Formats whose files are tables by other names: what each program's layout means."""

import json

import pandas as pd
import pytest

from passk_lab.metrics import maj_at_k
from passk_lab.readers import read
from passk_lab.rollouts import counts
from tests.helpers import refuses


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


def in_verl(folder, graded):
    rows = [{"input": "q", "output": "o", "score": float(right), "pred": said}
            for said, right in graded]  # fmt: skip
    return read("verl", jsonl(folder / "1.jsonl", *rows))


def in_trl(folder, graded):
    said, right = zip(*graded, strict=True)
    path = folder / "completions_00001.parquet"
    pd.DataFrame({"step": 1, "prompt": "p", "completion": "c", "advantage": 0.0, "said": said,
                  "exact": list(map(float, right))}).to_parquet(path)  # fmt: skip
    return read("trl", path, answer="said")


def in_nemo_skills(folder, graded):
    rows = [{"problem": "p", "generation": "g", "predicted_answer": said, "is_correct": right}
            for said, right in graded]  # fmt: skip
    return read("nemo-skills", jsonl(folder / "output.jsonl", *rows))


def in_verifiers(folder, graded):
    rows = [{"example_id": 0, "completion": "c", "reward": float(right), "said": said}
            for said, right in graded]  # fmt: skip
    return read("verifiers", jsonl(folder / "results.jsonl", *rows), answer="said")


def in_lm_eval(folder, graded):
    rows = [{"doc_id": n, "target": "4", "arguments": {}, "resps": [["r"]], "metrics": ["em"],
             "filtered_resps": [said], "em": float(right)}
            for n, (said, right) in enumerate(graded)]  # fmt: skip
    return read("lm-eval", jsonl(folder / "samples.jsonl", *rows))


def in_lighteval(folder, graded):
    path = folder / "details_sums_2026-01-01T10-00-00.parquet"
    rows = [{"doc": {"id": str(n), "task_name": "sums", "choices": ["4" if not right else said],
                     "gold_index": 0},
             "metric": {"em": float(right)}, "model_response": {"text": [said]}}
            for n, (said, right) in enumerate(graded)]  # fmt: skip
    pd.DataFrame(rows).to_parquet(path)
    return read("lighteval", path, repeats="regrade")


def in_inspect(folder, graded):
    samples = [{"id": n, "epoch": 1, "output": {},
                "scores": {"s": {"value": right, "answer": said}}}
               for n, (said, right) in enumerate(graded)]  # fmt: skip
    log = {"status": "success", "eval": {"task": "t", "model": "m"}, "samples": samples}
    return read("inspect", dumped(folder / "log.json", log))


@pytest.mark.parametrize(
    "reader",
    [in_verl, in_trl, in_nemo_skills, in_verifiers, in_lm_eval, in_lighteval, in_inspect],
)
def test_no_answer_is_none_in_every_reader(tmp_path, reader):
    """huggingface/trl PR #5308: what a grader says where it found none must not vote."""
    wrong = ["[INVALID]", "[invalid]", "[incomplete reasoning]", "[]", "", "[1, 2]", "None of them"]
    table = reader(tmp_path, [*((said, False) for said in wrong), ("[none]", True), ("4", True)])
    assert table["correct"].tolist() == [False] * 7 + [True] * 2
    found = [None if pd.isna(answer) else answer for answer in table["answer"]]
    assert found == [None] * 5 + ["[1, 2]", "None of them", "[none]", "4"]


def nameless_lighteval(folder):
    path = folder / "details_sums_2026-01-01T10-00-00.parquet"
    rows = [{"doc": {"id": name, "task_name": "sums", "choices": ["4"], "gold_index": 0},
             "metric": {"em": 1.0}, "model_response": {"text": ["4"]}}
            for name in ("a", None)]  # fmt: skip
    pd.DataFrame(rows).to_parquet(path)
    return path


NAMELESS = {
    "inspect": lambda folder: dumped(
        folder / "log.json",
        {"status": "success", "eval": {"task": "t", "model": "m"},
         "samples": [{"id": None, "epoch": 1, "output": {}, "scores": {"s": {"value": 1}}}]},
    ),
    "lm-eval": lambda folder: jsonl(
        folder / "samples.jsonl",
        {"doc_id": None, "target": "4", "arguments": {}, "resps": [["r"]], "metrics": ["em"],
         "filtered_resps": ["r"], "em": 1.0},
    ),
    "lighteval": nameless_lighteval,
    "verifiers": lambda folder: jsonl(
        folder / "results.jsonl",
        *({"example_id": name, "completion": "c", "reward": 1.0} for name in (0, None)),
    ),
    "tau-bench": lambda folder: dumped(
        folder / "r.json", [{"task_id": None, "reward": 1.0, "trial": 0, "traj": []}]
    ),
    "livecodebench": lambda folder: dumped(
        folder / "x_eval_all.json",
        [{"question_id": None, "output_list": ["x"], "code_list": ["c"], "graded_list": [True]}],
    ),
    "nemo-skills": lambda folder: jsonl(
        folder / "output.jsonl", {"id": None, "generation": "g", "is_correct": True}
    ),
    "human-eval": lambda folder: jsonl(
        folder / "s.jsonl_results.jsonl", {"task_id": None, "completion": "c", "passed": True}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMELESS)
def test_a_problem_without_a_name_is_no_problem_none(name, tmp_path):
    refuses("the problem has no name|'problem_id', row 0: value is missing", read, name,
            NAMELESS[name](tmp_path))  # fmt: skip


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
