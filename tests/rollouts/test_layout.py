"""Rows of other people's files as rollouts: names, nested fields, lists, chats, counts, grades."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from passk_lab.metrics import distinct_at_k, pass_at_k
from passk_lab.readers import read
from passk_lab.rollouts import Layout, Study, read_rollouts
from passk_lab.rollouts._answers import PLACEHOLDERS
from tests.helpers import refuses

FIXTURES = Path(__file__).parents[1] / "fixtures"
GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "rollouts.md"


def jsonl(folder, *rows, name="r.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dumped(folder, value, name="r.json"):
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def cells(path, layout=None, columns=("problem_id", "correct")):
    """The rows, the same through the two ways in."""
    table = read_rollouts(path, layout=layout)
    rows = table[list(columns)].astype(object).to_numpy().tolist()
    study = Study(path, layout=layout)
    assert study.rows()[list(columns)].astype(object).to_numpy().tolist() == rows
    assert study.counts(modes=False)["n_samples"].sum() == len(rows)
    return rows


# --- Names ---


def test_nested_fields_and_ids_of_several_columns(tmp_path):
    rows = [
        {"task": t, "id": i, "info": {"grade": g}, "choices": [{"text": f"{t}{i}"}], "a.b": 1}
        for t, i, g in (("x", 0, 1), ("x", 1, 0), ("y", 0, 0), ("y", 1, 1))
    ]
    layout = Layout(
        {"problem_id": "task+id", "correct": "info.grade", "text": "choices.0.text", "more": "a.b"}
    )
    found = cells(jsonl(tmp_path, *rows), layout, ("problem_id", "correct", "text", "more"))
    assert found == [["x/0", True, "x0", 1], ["x/1", False, "x1", 1], ["y/0", False, "y0", 1],
                     ["y/1", True, "y1", 1]]  # fmt: skip
    for name in ("info.nope", "nope.grade", "choices.7.text"):
        layout = Layout({"problem_id": "task+id", "correct": name})
        refuses(
            f"no column '{name}' for 'correct'", read_rollouts, tmp_path / "r.jsonl", layout=layout
        )


def test_the_row_is_the_problem(tmp_path):
    path = jsonl(tmp_path, {"right": [True, False]}, {"right": [False]})
    found = cells(path, Layout({"problem_id": "#", "correct": "right"}))
    assert found == [["0", True], ["0", False], ["1", False]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"uid": 1, "prompt": "p", "response": "r", "reward": 0.5, "step": 3},
         "problem_id=uid,correct=reward,text=response --threshold 1"),
        ({"task_id": "a", "passed": True}, "problem_id=task_id,correct=passed"),
        ({"question_id": "q", "code_list": ["a"], "graded_list": [True]},
         "problem_id=question_id,correct=graded_list,text=code_list"),
        ({"problem_id": "q", "Score": 1}, "correct=Score"),
        ({"problem": "q", "n": 4, "c": 2}, "problem_id=problem,n_samples=n,n_correct=c"),
        ({"problem_id": "q", "verdict": 1}, "correct=NAME; correct=true where nothing is verified"),
        ({"correct": 1, "x": 2}, "problem_id=NAME; problem_id=# where each row is a problem"),
    ],
)  # fmt: skip
def test_likely_columns_are_said_and_never_taken(row, said, tmp_path):
    path = jsonl(tmp_path, row)
    for reading in (read_rollouts, lambda path: Study(path).counts()):
        with pytest.raises(ValueError, match="is missing") as error:
            reading(path)
        assert f"--columns {said}" in str(error.value)
        assert f"(columns: {', '.join(row)})" in str(error.value)
    if "NAME" not in said:
        names, _, threshold = said.partition(" --threshold ")
        columns = dict(pair.split("=") for pair in names.split(","))
        layout = Layout(columns, float(threshold) if threshold else None)
        assert len(read_rollouts(path, layout=layout)) == row.get("n", 1)


# --- JSON ---

TWO = [["q1", True], ["q1", False], ["q2", False], ["q2", False]]
LISTS = [{"problem_id": "q1", "correct": [1, 0]}, {"problem_id": "q2", "correct": [0, 0]}]


@pytest.mark.parametrize(
    ("value", "layout"),
    [
        (LISTS, None),
        ({"config": {}, "results": LISTS}, None),
        ({"config": {"n": 2}, "out": {"a": [], "b": LISTS}}, Layout(records="out.b")),
        ({"q1": [True, False], "q2": [False, False]}, None),
        ({"q1": {"correct": [1, 0]}, "q2": {"correct": [0, 0]}}, None),
        ({"q1": [{"correct": 1}, {"correct": 0}], "q2": [{"correct": 0}, {"correct": 0}]}, None),
        ({"problem_id": ["q1", "q1", "q2", "q2"], "correct": [1, 0, 0, 0]}, None),
        ({"raw_generations": {"q1": ["a", "b"], "q2": ["c", "d"]},
          "scored": {"q1": [True, False], "q2": [False, False]}}, Layout({"correct": "scored"})),
    ],
)  # fmt: skip
def test_json_files(value, layout, tmp_path):
    assert cells(dumped(tmp_path, value), layout) == TWO
    if isinstance(value, list):  # called otherwise
        assert cells(dumped(tmp_path, value, "r.jsonl"), layout) == TWO
        assert cells(jsonl(tmp_path, *value, name="lines.json"), layout) == TWO


def test_json_files_that_are_no_tables(tmp_path):
    for value, message in (
        ({"a": 1, "b": [{"x": 1}], "c": [{"x": 1}]}, "mapping of a, b, c; say where .*--records b"),
        (5, "holds 5, no list of records"),
        ([1], "record 1: expected a JSON object, found 1"),
        ([], "holds no rollouts"),
    ):
        refuses(message, read_rollouts, dumped(tmp_path, value))
    refuses("no key 'x' on the way", read_rollouts, dumped(tmp_path, {"a": 1}),
            layout=Layout(records="x"))  # fmt: skip
    path = tmp_path / "deep.json"
    for text in ("[" * 100_000, '{"a":' * 100_000):
        path.write_text(text)
        refuses("deep.json.*(can't be read|not valid JSON)", read_rollouts, path)
        lines = tmp_path / "deep.jsonl"
        lines.write_text(text + "\n")
        refuses("deep.jsonl.*(can't be read|not valid JSON)", read_rollouts, lines)
    path.write_text("[1" + "0" * 5000 + "]")
    refuses("deep.json: a value that can't be read", read_rollouts, path)
    path.write_text('[{"problem_id": "a", "correct": true')
    refuses("line 1: not valid JSON .*cut off", read_rollouts, path)


# --- Chats ---


def test_messages_are_text(tmp_path):
    chat = [{"role": "assistant", "content": "five"}]
    talk = [*chat, {"role": "user", "content": "sure?"}]
    rows = [{"problem_id": "a", "correct": 1, "text": chat},
            {"problem_id": "a", "correct": 0, "text": talk}]  # fmt: skip
    found = cells(jsonl(tmp_path, *rows), columns=["correct", "text"])
    assert found == [[True, "five"], [False, json.dumps(talk, sort_keys=True)]]
    row = {"problem_id": "a", "correct": [1, 0], "text": [chat, talk]}
    assert cells(jsonl(tmp_path, row), columns=["correct", "text"]) == found
    pd.DataFrame(rows).to_parquet(tmp_path / "r.parquet")
    assert cells(tmp_path / "r.parquet", columns=["correct", "text"]) == found


# --- Grades ---


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("pass", "fail"), ("passed", "failed"), ("correct", "incorrect"), ("C", "I"), ("y", "N"),
     ("TRUE", "False"), ("1.0", "0.0"), ("resolved", "unresolved"), (" OK ", "wrong")],
)  # fmt: skip
def test_words_that_mean_one_thing(right, wrong, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(f"problem_id,correct\na,{right}\na,{wrong}\n")
    assert cells(path) == [["a", True], ["a", False]]


def test_other_words_are_named(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("problem_id,correct\na,OK\na,Exception\na,Timeout\n")
    refuses("row 1: 'Exception' is neither true nor false; .*--right WORD", read_rollouts, path)
    layout = Layout(right=["ok"])
    assert cells(path, layout) == [["a", True], ["a", False], ["a", False]]
    assert cells(path, Layout(right=["ok", "Timeout"]))[2] == ["a", True]
    path.write_text("problem_id,correct\na,OK\na,\n")
    refuses("row 1: value is missing", read_rollouts, path, layout=layout)
    refuses("give one of them", Layout, right=["ok"], threshold=1)


def test_grades_from_a_threshold_on(tmp_path):
    path = jsonl(tmp_path, *({"problem_id": "a", "correct": c} for c in (0.2, 0.5, 1)))
    refuses("row 0: 0.2 is neither .*--threshold T", read_rollouts, path)
    found = cells(path, Layout(threshold=0.5), ["correct", "score"])
    assert found == [[False, 0.2], [True, 0.5], [True, 1.0]]


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "high"])
@pytest.mark.parametrize("name", ["plain", "nemo-rl", "inspect"])
def test_a_threshold_is_a_number(name, threshold):
    paths = {
        "plain": "plain/flat.csv",
        "nemo-rl": "nemo-rl/evaluation",
        "inspect": "inspect/eval",
    }
    columns = {"columns": {"problem_id": "task", "correct": "grade"}} if name == "plain" else {}
    with pytest.raises(ValueError, match=f"threshold={threshold!r} is no number; give one"):
        read(name, FIXTURES / paths[name], threshold=threshold, **columns)


def test_numbers_as_right_words():
    rows = [{"problem_id": 1, "correct": grade} for grade in (1.0, 0.0, 2, "2 ", "A")]
    for right, expected in (("1", [0]), ("1.0", [0]), (["2", "a"], [2, 3, 4])):
        found = Study(rows, layout=Layout(right=right)).rows()["correct"]
        assert found[found].index.tolist() == expected


def test_nothing_was_verified(tmp_path):
    path = jsonl(tmp_path, {"id": "a", "out": ["x", "y", "x"], "part": [0, 1, 0]})
    refuses("correct=true where nothing is verified", read_rollouts, path)
    layout = Layout({"problem_id": "id", "text": "out", "answer": "part", "correct": "true"})
    assert cells(path, layout, ["correct", "answer"]) == [[True, "0"], [True, "1"], [True, "0"]]


# --- Counts ---


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_counts_are_enough(ending, tmp_path):
    rng = np.random.default_rng(0)
    n = rng.integers(1, 9, 40)
    frame = pd.DataFrame({"problem_id": [f"p{i}" for i in range(40)], "n_samples": n,
                          "n_correct": rng.integers(0, n + 1)})  # fmt: skip
    frame = pd.concat([frame.assign(run=run) for run in ("base", "tuned")], ignore_index=True)
    path = tmp_path / f"c.{ending}"
    match ending:
        case "csv":
            frame.to_csv(path, index=False)
        case "jsonl":
            frame.to_json(path, orient="records", lines=True)
        case "parquet":
            frame.to_parquet(path)
    expected = frame.set_index(["run", "problem_id"])[["n_samples", "n_correct"]].sort_index()
    for found in (Study(path).counts(), Study(frame).counts()):
        found = found.set_index(["run", "problem_id"])[["n_samples", "n_correct"]].sort_index()
        pd.testing.assert_frame_equal(found, expected, check_index_type=False)


def test_answers_with_counts(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("run,problem_id,n_samples,answer,count\nm,a,10,x,3\nm,a,10,y,1\nm,b,5,,0\n")
    table = Study(path).counts()
    assert table["n_samples"].tolist() == [10, 5]
    assert table["n_correct"].tolist() == [4, 0]
    assert [list(found) for found in table["correct_mode_counts"]] == [[3, 1], []]
    assert distinct_at_k([[3, 1]], k=2, n_samples=10)[0] == pytest.approx(
        sum(pass_at_k(10, c, 2) for c in (3, 1))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("problem_id,n_samples,n_correct\na,3,4\n", "row 0: 4 correct of 3 samples"),
        ("problem_id,n_samples,n_correct\na,3,-1\n", "'n_correct', row 0: -1 is no count"),
        ("problem_id,n_samples,n_correct\na,3,0.5\n", "'n_correct', row 0: 0.5 is no count"),
        ("problem_id,n_samples,n_correct\na,,1\n", "'n_samples', row 0: None is no count"),
        ("problem_id,n_samples,answer,count\na,3,x,2\na,3,y,2\n", "row 0: 4 correct of 3 samples"),
        ("problem_id,n_samples,n_correct\na,3,1\na,3,1\n", "row 1: counted twice .*'a'"),
    ],
)
def test_counts_that_can_not_be(text, message, tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(text)
    refuses(message, read_rollouts, path)


# --- Tables of other libraries ---

FRAME = pd.DataFrame({"problem_id": ["0", "0", "1"], "correct": [True, False, False]})


@pytest.mark.parametrize(
    "given",
    [
        FRAME,
        pa.Table.from_pandas(FRAME),
        FRAME.to_dict("records"),
        FRAME.to_dict("list"),
        [[True, False], [False]],
        [np.array([1, 0]), np.array([0])],
    ],
    ids=lambda given: type(given).__name__,
)
def test_any_table(given):
    table = Study(given).rows()
    assert table[["problem_id", "correct"]].to_numpy().tolist() == FRAME.to_numpy().tolist()
    assert table["run"].unique().tolist() == ["default"]
    named = Study({"base": given, "tuned": given}).counts()
    assert named["run"].tolist() == ["base", "base", "tuned", "tuned"]
    assert named["n_samples"].tolist() == [2, 1] * 2


def test_a_square_of_verdicts():
    verdicts = np.random.default_rng(0).random((5, 7)) < 0.5
    table = Study(verdicts).counts()
    assert table["n_correct"].tolist() == verdicts.sum(axis=1).tolist()


def test_no_table():
    for given in (5, None, object()):
        refuses("is no table; give a DataFrame", Study, given)
    refuses("two axes, problems and samples", Study, np.zeros(3))
    refuses("no rollouts file given", Study, [])
    frame = FRAME.assign(run=["a", "a", "b"])
    refuses(r"rollouts\['x'\]: holds several runs", Study, {"x": frame})


def test_the_guide_lists_the_placeholders():
    section = GUIDE.read_text().partition("### What stands for no answer")[2].partition(">>>")[0]
    listed = section.partition("maj@k: ")[2].partition(", and nothing at all")[0]
    assert {"", *re.findall("`(.+?)`", listed)} == PLACEHOLDERS


def test_words_of_ones_own_for_no_answer():
    said = ["7", "idk", " <IDK> ", "[idk]", "n/a", "idk?"]
    rows = [{"problem_id": 1, "correct": a == "7", "answer": a} for a in said]

    def kept(**options):
        answers = Study(rows, layout=Layout(**options)).rows()["answer"]
        return answers.dropna().tolist()

    assert kept(placeholders="IDK") == ["7", "n/a", "idk?"]
    assert kept(placeholders=["IDK", "idk?"], normalize_answers=True) == ["7"]
    # Right in one problem, it is an answer in all.
    rows.append({"problem_id": 2, "correct": True, "answer": "idk"})
    assert kept(placeholders="idk") == ["7", "idk", "n/a", "idk?", "idk"]
