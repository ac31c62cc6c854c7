import json
from pathlib import Path

import pytest

from passk_lab.readers import stable_id
from passk_lab.readers.nemo_skills import read_nemo_skills
from tests.helpers import mean_pass_at_k, refuses

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nemo-skills"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())


def row(**fields):
    return {"problem": "p", "generation": "g", "predicted_answer": "5", **fields}


def written(folder, *rows, name="output.jsonl"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("mode", "k"), [("pass@1[avg-of-3]", 1), ("pass@2", 2), ("pass@3", 3)])
def test_pass_at_k_is_what_nemo_skills_reported(mode, k):
    compared = read_nemo_skills(FIXTURES / "symbolic")
    expected = REPORTED["symbolic"][mode]["symbolic_correct"]
    assert 100 * mean_pass_at_k(compared, k) == pytest.approx(expected, abs=1e-9)
    for metric, name in (("symbolic_correct", "symbolic_correct"), ("judgement", "judge_correct")):
        table = read_nemo_skills(FIXTURES / "judged", metric=metric, unscored="incorrect")
        expected = REPORTED["judged"][mode][name]
        assert 100 * mean_pass_at_k(table, k) == pytest.approx(expected, abs=1e-9)


def test_files_are_samples_of_one_run():
    table = read_nemo_skills(FIXTURES / "symbolic")
    assert [file.name for file in read_nemo_skills.source_files(FIXTURES / "symbolic")] == [
        "output-rs0.jsonl", "output-rs1.jsonl", "output-rs2.jsonl"
    ]  # fmt: skip
    first = table[table["problem_id"] == "toy-0"]
    assert first["sample_id"].tolist() == [0, 1, 2]
    assert first["correct"].tolist() == [True, False, False]  # 016 is not 16 there
    assert first["answer"].tolist() == ["16", "016", "14"]
    assert first["text"].tolist() == [r"\boxed{16}", r"It is \boxed{016}.", r"\boxed{14}"]
    assert first["n_tokens"].tolist() == [10, 18, 10]
    assert set(first["expected_answer"]) == {"16"}
    assert set(table["run"]) == {"default"}
    assert "seed" not in table
    # Nothing in a box is no answer; an empty generation is a rollout.
    assert table["answer"].isna().sum() == 2
    assert "" in set(table["text"])
    one = read_nemo_skills(FIXTURES / "symbolic" / "output-rs1.jsonl")
    assert one["correct"].tolist() == [False, True, False, False]


def test_the_judges_last_word_counts():
    path = FIXTURES / "judged"
    refuses("several metrics; choose metric=", read_nemo_skills, path)
    refuses(r"rs2\.jsonl: column 'judgement' is missing in 1 of 4 rollouts .*toy-2",
            read_nemo_skills, path, metric="judgement")  # fmt: skip
    table = read_nemo_skills(path, metric="judgement", unscored="drop")
    assert table.attrs["left_out"] == "1 rollout without a grade left out"
    right = table.groupby("problem_id")["correct"].agg(["size", "sum"]).to_numpy().tolist()
    assert right == [[3, 2], [3, 2], [2, 1], [3, 0]]


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("judgement", "A", "C"),
        ("judgement", "correct", "INCORRECT"),
        ("is_correct-plus", True, False),
        ("graded_list", [True], [False]),
        ("proof_status", "completed", "timeout"),
        ("status", "pass", "fail"),
        ("strict_eval", {"follow_all_instructions": True}, {"follow_all_instructions": False}),
        ("swe-bench-metrics", {"resolved": True}, {"resolved": False}),
    ],
)
def test_grades_of_other_benchmarks(tmp_path, field, right, wrong):
    path = written(tmp_path, row(**{field: right}), row(**{field: wrong}))
    assert read_nemo_skills(path)["correct"].tolist() == [True, False]
    nothing = written(tmp_path, row(**{field: right}), row(**{field: None}))
    refuses(f"'{field}' is missing in 1 of 2", read_nemo_skills, nothing)


def test_another_grade_and_a_threshold(tmp_path):
    path = written(tmp_path, row(seq_match_ratio=0.9), row(seq_match_ratio=0.2))
    refuses("no grade .*grade it first, or name it: metric=", read_nemo_skills, path)
    table = read_nemo_skills(path, metric="seq_match_ratio", threshold=0.5)
    assert table["correct"].tolist() == [True, False]


def test_names_of_problems(tmp_path):
    path = written(tmp_path, row(is_correct=True))
    assert read_nemo_skills(path)["problem_id"].tolist() == [stable_id("p")]
    asked = {"question": "q", "generation": "g", "is_correct": True}
    table = read_nemo_skills(written(tmp_path, asked))
    assert table["problem_id"].tolist() == [stable_id("q")]
    for name in ("problem_id", "task_id", "instance_id"):
        table = read_nemo_skills(written(tmp_path, row(is_correct=True, **{name: "p7"})))
        assert table["problem_id"].tolist() == ["p7"]
    refuses("no field 'problem'; this isn't an output whose problems have names", read_nemo_skills,
            written(tmp_path, {"generation": "g", "is_correct": True}))  # fmt: skip


def test_ids_that_are_unique_only_within_a_subset(tmp_path):
    rows = [row(id=0, subset=s, expected_answer=s, is_correct=True) for s in ("a", "b")]
    path = written(tmp_path, *rows)
    refuses("one 'id' with 2 values of 'expected_answer'.*problem_id=", read_nemo_skills, path)
    table = read_nemo_skills(path, problem_id=["subset", "id"])
    assert table["problem_id"].nunique() == 2
    assert read_nemo_skills(path, problem_id="subset")["problem_id"].tolist() == ["a", "b"]
    refuses("no field 'nope'", read_nemo_skills, path, problem_id="nope")


def test_four_files_are_four_samples_of_one_run(tmp_path):
    """NeMo-Skills, trl PR #5786, open-instruct PR #614: a file a sample, of one model."""
    for seed in range(4):
        rows = ({"problem_id": f"p{i}", "correct": seed < 2} for i in range(12))
        written(tmp_path, *rows, name=f"output-rs{seed}.jsonl")
    table = read_nemo_skills(tmp_path)
    assert table.groupby("problem_id").size().tolist() == [4] * 12
    assert table["run"].nunique() == 1
    assert [mean_pass_at_k(table, k) for k in (1, 4)] == [0.5, 1.0]


def test_what_is_no_run_of_samples(tmp_path):
    refuses("no output-rs<seed>", read_nemo_skills, tmp_path)
    graded = row(is_correct=True)
    written(tmp_path, graded, name="output-rs0.jsonl")
    written(tmp_path, graded, name="output-rs10.jsonl")
    written(tmp_path, graded, name="output-rs9.jsonl")
    written(tmp_path, graded, name="outputs.jsonl")  # another program's
    names = [file.name for file in read_nemo_skills.source_files(tmp_path)]
    assert names == ["output-rs0.jsonl", "output-rs9.jsonl", "output-rs10.jsonl"]
    for name in ("output-rs11_chunk_0.jsonl", "output-rs11.jsonl-async"):
        part = written(tmp_path, graded, name=name)
        refuses(f"{name}: part of a run that did not finish", read_nemo_skills, tmp_path)
        part.unlink()
    greedy = written(tmp_path, graded)
    refuses("holds output.jsonl beside output-rs", read_nemo_skills, tmp_path)
    greedy.unlink()
    written(tmp_path / "aime24", graded)
    refuses(r"in several folders \(\., aime24\)", read_nemo_skills, tmp_path)


def test_other_records(tmp_path):
    refuses("no grade .*grade it first", read_nemo_skills, written(tmp_path, {"problem": "p"}))
    path = written(tmp_path, row(is_correct=True, text="x", answer="gold"), row(is_correct="x"))
    refuses("column 'is_correct', row 1: 'x' is no grade", read_nemo_skills, path)
    table = read_nemo_skills(written(tmp_path, row(is_correct=True, text="x", answer="gold")))
    assert table[["answer", "nemo_answer", "nemo_text"]].to_numpy().tolist() == [["5", "gold", "x"]]
