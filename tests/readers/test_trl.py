import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from passk_lab.readers import convert, stable_id
from passk_lab.readers.trl import read_trl
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import read_rollouts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "trl"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def frame(**columns):
    base = {
        "step": [1, 1],
        "prompt": ["2+3?", "2+3?"],
        "completion": ["5", "6"],
        "exact": [1.0, 0.0],
        "advantage": [0.7, -0.7],
    }
    return pd.DataFrame({**base, **columns})


def written(folder, table, name="completions_00001.parquet"):
    path = folder / name
    table.to_parquet(path)
    return path


@pytest.mark.parametrize(("name", "reward"), [("plain", None), ("conversations", "has_a")])
def test_mean_reward_is_what_trl_reported(name, reward):
    table = read_trl(FIXTURES / name, reward=reward)
    assert table.groupby(["step", "problem_id"]).size().tolist() == [4, 4, 4, 4]
    # has_a is 0 or 1 and every prompt has 4 completions: its mean is the share of correct ones.
    found = table.groupby("step")["correct"].mean().tolist()
    assert found == [step["rewards/has_a/mean"] for step in REPORTED[name]]


def test_partial_credit():
    table = read_trl(FIXTURES / "conversations", reward="share_of_b", threshold=0.3)
    means = table.groupby("step")["score"].mean().tolist()
    reported = [step["rewards/share_of_b/mean"] for step in REPORTED["conversations"]]
    assert means == pytest.approx(reported, abs=1e-6)  # TRL computes in float32
    share = [t.count("b") / max(len(t), 1) for t in table["text"]]
    assert table["correct"].tolist() == [s >= 0.3 for s in share]
    assert set(read_trl(FIXTURES / "conversations", reward="share_of_b")["correct"]) == {False}


def test_values():
    table = read_trl(FIXTURES / "plain", answer="letters")
    assert table["sample_id"].tolist() == [0, 1, 2, 3] * 4
    assert table["problem_id"].tolist() == [stable_id(p) for p in table["prompt"]]
    assert table["step"].tolist() == [1] * 8 + [2] * 8
    assert table["correct"].tolist() == ["a" in t for t in table["text"]]
    # Nothing, for a wrong completion, is no answer.
    letters = ["".join(sorted(set(t))) for t in table["text"]]
    assert table["answer"].fillna("").tolist() == letters
    assert table["answer"].isna().tolist() == [not said for said in letters]
    assert {"has_a", "letters", "advantage"} <= set(table.columns)
    assert "answer" not in read_trl(FIXTURES / "plain").columns


def test_conversations():
    table = read_trl(FIXTURES / "conversations", reward="has_a")
    assert json.loads(table["prompt"].iloc[0]) == [{"role": "user", "content": "ab"}]
    # The same seed, model and words: only the wrapping differs.
    plain = read_trl(FIXTURES / "plain")
    assert table["text"].tolist() == plain["text"].tolist()
    assert table.groupby("problem_id").ngroups == plain.groupby("problem_id").ngroups


def test_several_rewards_need_a_choice():
    with pytest.raises(ValueError, match=r"several columns .*\(has_a, share_of_b\).*reward="):
        read_trl(FIXTURES / "conversations")


def test_completions_used_for_two_steps():
    folder = FIXTURES / "reused"
    with pytest.raises(ValueError, match=r"completions_00002\.parquet: holds the very completions"):
        read_trl(folder)
    assert read_trl(folder, repeated="drop")["step"].tolist() == [1] * 16
    assert len(read_trl(folder, repeated="keep")) == 32
    (reported,) = REPORTED["reused"]
    assert read_trl(folder, repeated="drop")["correct"].mean() == reported["rewards/has_a/mean"]
    with pytest.raises(ValueError, match="is none of 'refuse', 'drop', 'keep'"):
        read_trl(folder, repeated="skip")


def test_output_folder_and_order_of_steps(tmp_path):
    (tmp_path / "completions").mkdir()
    for step in (100000, 20, 3):
        table = frame(step=step, completion=[f"{step} a", f"{step} b"])
        written(tmp_path / "completions", table, f"completions_{step:05d}.parquet")
    written(tmp_path, frame(), "other.parquet")
    table = read_trl(tmp_path)
    assert table["step"].tolist() == [3, 3, 20, 20, 100000, 100000]
    assert [f.parent.name for f in read_trl.source_files(tmp_path)] == ["completions"] * 3


def test_messages_with_tools_and_padding(tmp_path):
    # Parquet gives all messages the same keys and fills the absent ones with None.
    call = [
        {"role": "assistant", "content": None, "calls": "f()"},
        {"role": "tool", "content": "5"},
    ]
    plain = [{"role": "assistant", "content": "6", "calls": None}]
    padded = [{"role": "user", "content": "2+3?", "name": None}]
    named = [{"role": "user", "content": "2+3?", "name": "Ann"}]
    path = written(tmp_path, frame(completion=[call, plain], prompt=[padded, named]))
    table = read_trl(path)
    assert json.loads(table["text"].iloc[0]) == [
        {"role": "assistant", "calls": "f()"},
        {"role": "tool", "content": "5"},
    ]
    assert table["text"].iloc[1] == "6"
    assert json.loads(table["prompt"].iloc[0]) == [{"role": "user", "content": "2+3?"}]
    assert table["problem_id"].nunique() == 2


def test_names_that_mean_something_else_are_set_apart(tmp_path):
    table = frame(score=[5.0, 6.0], answer=["five", "six"]).rename(columns={"exact": "correct"})
    path = written(tmp_path, table)
    table = read_trl(path, reward="correct", answer="answer")
    assert table["correct"].tolist() == [True, False]
    assert table["score"].tolist() == [1.0, 0.0]
    assert table["trl_score"].tolist() == [5.0, 6.0]
    assert table["trl_correct"].tolist() == [1.0, 0.0]
    assert table["answer"].tolist() == ["five", "six"]


def test_missing_reward(tmp_path):
    path = written(tmp_path, frame(exact=[1.0, None]))
    with pytest.raises(ValueError, match=r"'exact' is missing in 1 of 2 .*unscored='drop'"):
        read_trl(path)
    assert read_trl(path, unscored="drop")["correct"].tolist() == [True]
    table = read_trl(path, unscored="incorrect", threshold=-1.0)
    assert table["correct"].tolist() == [True, False]
    assert table["score"].isna().tolist() == [False, True]


def test_the_reward_that_applies(tmp_path):
    """huggingface/trl PR #3079: a reward function gives None for prompts of another kind."""
    path = written(tmp_path, frame(exact=[1.0, None], code=[None, 0.5], reward=["a", "b"]))
    table = read_trl(path, reward=["exact", "code"])
    assert table["correct"].tolist() == [True, False]
    assert table["score"].tolist() == [1.0, 0.5]
    assert table["reward"].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="column 'exact or code' is missing in 1 of 2"):
        read_trl(written(tmp_path, frame(exact=[1.0, None], code=[None, None])),
                 reward=["exact", "code"])  # fmt: skip


def test_the_files_own_problem_id(tmp_path):
    path = written(tmp_path, frame(problem_id=["math/7", "math/7"]))
    table = read_trl(path)
    assert table["trl_problem_id"].tolist() == ["math/7"] * 2
    assert set(table["problem_id"]) == {stable_id("2+3?")}


def test_no_reward(tmp_path):
    path = written(tmp_path, frame().drop(columns="exact"))
    with pytest.raises(ValueError, match="no column could be the reward; choose"):
        read_trl(path)


@pytest.mark.parametrize("option", ["reward", "answer"])
def test_unknown_column(tmp_path, option):
    path = written(tmp_path, frame(parsed=["5", "6"]))
    with pytest.raises(ValueError, match=f"no column 'nope' for {option}; it has exact, parsed"):
        read_trl(path, **{option: "nope"})


@pytest.mark.parametrize("column", ["step", "prompt", "completion", "advantage"])
def test_missing_column(tmp_path, column):
    path = written(tmp_path, frame().drop(columns=column))
    with pytest.raises(ValueError, match=f"no field '{column}'; this isn't a completions file"):
        read_trl(path)


def test_prompt_that_is_no_text(tmp_path):
    path = written(tmp_path, frame(prompt=[None, "2+3?"]))
    with pytest.raises(ValueError, match="column 'prompt', row 0: None is neither text nor"):
        read_trl(path)


def test_truncated(tmp_path):
    path = tmp_path / "completions_00001.parquet"
    path.write_bytes((FIXTURES / "plain" / path.name).read_bytes()[:-50])
    with pytest.raises(ValueError, match="not a readable parquet file"):
        read_trl(path)


def test_folder_without_completions(tmp_path):
    with pytest.raises(ValueError, match=r"no completions_<step>\.parquet.*log_completions=True"):
        read_trl(tmp_path)


def test_file_without_rows(tmp_path):
    written(tmp_path, frame().iloc[:0], "completions_00000.parquet")
    with pytest.raises(ValueError, match="no completions were logged"):
        read_trl(tmp_path)
    shutil.copy(FIXTURES / "plain" / "completions_00001.parquet", tmp_path)
    assert len(read_trl(tmp_path)) == 8


@pytest.mark.slow
def test_conversion(tmp_path):
    target = tmp_path / "out.parquet"
    convert("trl", FIXTURES / "conversations", target, reward="has_a", answer="letters")
    table = read_trl(FIXTURES / "conversations", reward="has_a", answer="letters")
    assert read_rollouts(target).equals(table.assign(run=target.stem).astype(table.dtypes))
    assert counts(target)["n_samples"].tolist() == [4] * 4
