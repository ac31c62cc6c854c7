import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passk_lab.readers import convert
from passk_lab.readers.plain import read_plain
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import read_rollouts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "plain"
FILES = sorted(f.name for f in FIXTURES.iterdir() if f.stem.split(".")[0] in ("flat", "nested"))
COLUMNS = {"problem_id": "task", "text": "completion", "answer": "parsed", "correct": "grade"}


def jsonl(folder, rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def csv(folder, text, name="mine.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_all_forms_are_there():
    assert len(FILES) == 7


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_rollouts(name):
    table = read_plain(FIXTURES / name, columns=COLUMNS, threshold=0.5)
    assert table["problem_id"].tolist() == ["001", "001", "001", "002", "002", "10"]
    assert table["sample_id"].tolist() == [0, 1, 2, 0, 1, 0]
    assert table["correct"].tolist() == [True, True, False, False, True, False]
    assert table["score"].tolist() == [1.0, 0.5, 0.0, 0.0, 1.0, 0.25]
    assert table["level"].tolist() == ["easy"] * 3 + ["hard"] * 3
    answers = table["answer"].astype(object).where(table["answer"].notna(), None)
    assert answers.tolist() == ["007", "7", None, "1e3", "12", "NA"]
    # CSV has no way to tell an empty text from a missing one.
    texts = table["text"].fillna("").tolist()
    assert texts[:3] == ["It is 007.", 'He said "7",\nthen left', ""]
    assert texts[3:] == ["tab\there", "Größe: 12 µm", "None"]


@pytest.mark.parametrize("name", ["flat.csv", "nested.jsonl"])
def test_grades_other_than_0_and_1_need_a_threshold(name):
    with pytest.raises(ValueError, match=r"column 'grade', row 1: .*0\.5.* --threshold"):
        read_plain(FIXTURES / name, columns=COLUMNS)


def test_grades_of_0_and_1_need_none(tmp_path):
    path = csv(tmp_path, "problem_id,correct\na,1\na,0.0\nb,1\n")
    table = read_plain(path)
    assert table["correct"].tolist() == [True, False, True]
    assert "score" not in table
    assert read_plain(path, threshold=0.5).equals(table)


def test_score_of_the_file_is_kept(tmp_path):
    path = csv(tmp_path, "problem_id,correct,score\na,0.7,9\n")
    table = read_plain(path, threshold=0.5)
    assert (table["correct"].item(), table["score"].item()) == (True, 9)


def test_words(tmp_path):
    path = csv(tmp_path, "problem_id,correct\na,Yes\na,no\n")
    assert read_plain(path)["correct"].tolist() == [True, False]
    path = csv(tmp_path, "problem_id,correct\na,perhaps\n")
    with pytest.raises(ValueError, match="'perhaps' is neither true nor false"):
        read_plain(path)
    with pytest.raises(ValueError, match="row 0: 'perhaps' is no grade"):
        read_plain(path, threshold=0.5)


def test_large_whole_numbers_stay_exact(tmp_path):
    big = 1234567890123456789
    rows = [
        {"problem_id": big, "correct": True, "answer": big},
        {"problem_id": big + 1, "correct": False, "answer": None},
    ]
    table = read_plain(jsonl(tmp_path, rows))
    assert table["problem_id"].tolist() == [str(big), str(big + 1)]
    assert table["answer"].iloc[0] == str(big)
    nested = [{"problem_id": "a", "correct": [True, False], "answer": [big, None]}]
    assert read_plain(jsonl(tmp_path, nested))["answer"].iloc[0] == str(big)


def test_lists_that_are_not_named_are_repeated(tmp_path):
    rows = [{"problem_id": "a", "correct": [True, False], "choices": ["x", "y", "z"], "t": [1, 2]}]
    table = read_plain(jsonl(tmp_path, rows), columns={"seconds": "t"})
    assert table["choices"].tolist() == [["x", "y", "z"]] * 2
    assert table["seconds"].tolist() == [1, 2]


def test_a_problem_in_two_rows(tmp_path):
    rows = [{"problem_id": "a", "correct": [True, False]}, {"problem_id": "a", "correct": [True]}]
    assert read_plain(jsonl(tmp_path, rows))["sample_id"].tolist() == [0, 1, 2]


def test_lists_of_unequal_length(tmp_path):
    rows = [
        {"problem_id": "a", "right": [True], "outputs": ["x"]},
        {"problem_id": "b", "right": [True, False], "outputs": ["x", "y", "z"]},
    ]
    columns = {"correct": "right", "text": "outputs"}
    with pytest.raises(ValueError, match=r"row 1: 'outputs' has 3 entries, 'right' 2"):
        read_plain(jsonl(tmp_path, rows), columns=columns)


def test_empty_list(tmp_path):
    rows = [{"problem_id": "a", "correct": [True]}, {"problem_id": "b", "correct": []}]
    with pytest.raises(ValueError, match="row 1: 'correct' is an empty list"):
        read_plain(jsonl(tmp_path, rows))


def test_lists_in_some_rows(tmp_path):
    rows = [{"problem_id": "a", "correct": [True]}, {"problem_id": "b", "correct": True}]
    with pytest.raises(ValueError, match="'correct', row 1: True is no list, unlike"):
        read_plain(jsonl(tmp_path, rows))


def test_lists_beside_a_single_grade(tmp_path):
    rows = [{"problem_id": "a", "correct": True, "logprob": [-1.0, -2.0]}]
    with pytest.raises(ValueError, match="'logprob' holds lists but the column for 'correct'"):
        read_plain(jsonl(tmp_path, rows))


def test_missing_grade_in_a_list(tmp_path):
    rows = [{"problem_id": "a", "correct": [True, None]}]
    with pytest.raises(ValueError, match="column 'correct', row 1: value is missing"):
        read_plain(jsonl(tmp_path, rows))


def test_mapped_column_that_is_not_there():
    with pytest.raises(ValueError, match=r"no column 'nope' for 'text' \(columns: task, level"):
        read_plain(FIXTURES / "flat.csv", columns={"text": "nope"})


@pytest.mark.parametrize("columns", ["task", ["task"], {"text": 3}])
def test_mapping_that_is_none(columns):
    with pytest.raises(ValueError, match="is no mapping of names"):
        read_plain(FIXTURES / "flat.csv", columns=columns)


def test_taken_name(tmp_path):
    path = csv(tmp_path, "problem_id,correct,strict\na,1,0\n")
    with pytest.raises(ValueError, match=r"'strict' is to become 'correct'.*correct_file=correct"):
        read_plain(path, columns={"correct": "strict"})
    table = read_plain(path, columns={"correct": "strict", "correct_file": "correct"})
    assert (table["correct"].item(), table["correct_file"].item()) == (False, 1)


def test_names_can_be_swapped_and_used_twice(tmp_path):
    path = csv(tmp_path, "problem_id,correct,text,answer\na,1,5,It is 5\n")
    table = read_plain(path, columns={"text": "answer", "answer": "text"})
    assert (table["text"].item(), table["answer"].item()) == ("It is 5", "5")
    table = read_plain(path, columns={"run": "text", "text": "text", "label": "answer"})
    assert table[["run", "text", "label"]].iloc[0].tolist() == ["5", "5", "It is 5"]


def test_required_column():
    with pytest.raises(ValueError, match="required column 'problem_id' is missing"):
        read_plain(FIXTURES / "flat.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV file"),
        ("problem_id,correct\na,1,surplus\n", "not a readable CSV file"),
        ("problem_id,correct\na,1\na,1,surplus\n", "not a readable CSV file"),
        ('problem_id,correct\na,"1\n', "not a readable CSV file"),
        ("problem_id,correct\na,1\na\n", "row 1: value is missing"),
    ],
)
def test_broken_csv(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_plain(csv(tmp_path, text))


@pytest.mark.parametrize("name", ["flat.parquet", "flat.jsonl", "flat.jsonl.gz"])
def test_truncated(tmp_path, name):
    path = tmp_path / name
    path.write_bytes((FIXTURES / name).read_bytes()[:-20])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        read_plain(path, columns=COLUMNS, threshold=0.5)


def test_packed_by_another_name(tmp_path):
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(b"problem_id,correct\na,1\n")
    assert len(read_plain(path)) == 1
    path.write_bytes(gzip.compress(b"problem_id,correct\na,1\n")[:-9])
    with pytest.raises(ValueError, match="damaged and can't be unpacked"):
        read_plain(path)


def test_empty_and_unknown(tmp_path):
    with pytest.raises(ValueError, match="holds no rollouts"):
        read_plain(jsonl(tmp_path, []))
    with pytest.raises(ValueError, match="unknown ending"):
        read_plain(csv(tmp_path, "problem_id,correct\n", "mine.xlsx"))


def test_nested_parquet_with_missing_entries(tmp_path):
    path = tmp_path / "mine.parquet"
    rows = [{"problem_id": "a", "correct": [True, False], "answer": ["5", None], "n": [[1], [2]]}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    table = read_plain(path)
    assert table["answer"].isna().tolist() == [False, True]
    assert counts(table)["mode_counts"].iloc[0].tolist() == [1]


@pytest.mark.parametrize("name", FILES)
def test_conversion(tmp_path, name):
    target = tmp_path / "out.parquet"
    convert("plain", FIXTURES / name, target, columns=COLUMNS, threshold=0.5)
    table = read_plain(FIXTURES / name, columns=COLUMNS, threshold=0.5).assign(run="out")
    pd.testing.assert_frame_equal(read_rollouts(target), table, check_dtype=False)
