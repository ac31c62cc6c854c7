import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from passk_lab.readers.lm_eval import read_lm_eval

FIXTURES = Path(__file__).parents[1] / "fixtures" / "lm-eval"
OUTPUT = FIXTURES / "output"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())["results"]


def samples(task):
    (file,) = OUTPUT.rglob(f"samples_{task}_*.jsonl")
    return file


def raw(task):
    return [json.loads(line) for line in samples(task).read_text().splitlines()]


def written(folder, rows, name="samples_toy_2026-01-01T00-00-00.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mean_by_problem(table):
    return table.groupby("problem_id")["correct"].mean().mean()


def pass_at(table, k):
    def one(correct):
        n, c = len(correct), int(correct.sum())
        return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    return table.groupby("problem_id")["correct"].apply(one).mean()


def test_one_response():
    table = read_lm_eval(samples("toy_single"))
    rows = raw("toy_single")
    assert table["problem_id"].tolist() == [f"toy_single/{row['doc_id']}" for row in rows]
    assert table["text"].tolist() == [row["resps"][0][0] for row in rows]
    assert table["answer"].tolist() == [row["filtered_resps"][0] for row in rows]
    assert set(table["run"]) == {"tiny-llama"}
    assert set(table["temperature"]) == {0.7}
    assert "seed" not in table  # which would be of training
    assert set(table["sampling_seed"]) == {1234}
    assert "score" not in table.columns
    assert 0 < table["correct"].mean() < 1
    assert table["correct"].mean() == REPORTED["toy_single"]["exact_match,none"]


def test_a_grade_for_each_response():
    table = read_lm_eval(samples("toy_each"))
    assert table.groupby("problem_id").size().tolist() == [4] * 8
    assert mean_by_problem(table) == pytest.approx(REPORTED["toy_each"]["each,all"])
    expected = [grade == 1.0 for row in raw("toy_each") for grade in row["each"]]
    assert table["correct"].tolist() == expected
    assert table["text"].tolist() == [text for row in raw("toy_each") for text in row["resps"][0]]
    assert table["sample_id"].tolist() == [0, 1, 2, 3] * 8


@pytest.mark.parametrize("name", ["score-first", "maj@5"])
def test_filtered_is_the_answer_that_was_graded(name):
    table = read_lm_eval(samples("toy_vote"), filter=name, repeats="filtered")
    rows = [row for row in raw("toy_vote") if row["filter"] == name]
    assert table["answer"].tolist() == [row["filtered_resps"][0] for row in rows]
    assert table["correct"].mean() == REPORTED["toy_vote"][f"exact_match,{name}"]
    assert "text" not in table.columns


@pytest.mark.parametrize(
    ("task", "options"), [("toy_vote", {"filter": "maj@5"}), ("toy_pass", {"metric": "pass@1"})]
)
def test_ungraded_responses_are_refused(task, options):
    with pytest.raises(ValueError, match=r"doc_id 0.*doesn't say which response is correct"):
        read_lm_eval(samples(task), **options)


@pytest.mark.parametrize("metric", ["pass@1", "pass@2", "pass@4"])
def test_counts_from_pass_at_k(metric):
    rows = raw("toy_pass")
    table = read_lm_eval(samples("toy_pass"), metric=metric, repeats="counts")
    assert {"text", "answer"}.isdisjoint(table.columns)
    assert table.groupby("problem_id").size().tolist() == [6] * 8
    truth = [sum(text.strip() == row["target"] for text in row["resps"][0]) for row in rows]
    assert table.groupby("problem_id", sort=False)["correct"].sum().tolist() == truth
    for k in (1, 2, 4):
        assert pass_at(table, k) == pytest.approx(REPORTED["toy_pass"][f"pass@{k},all"])


def test_counts_from_averaged_exact_match():
    table = read_lm_eval(samples("toy_mean"), repeats="counts")
    assert len(table) == 32
    assert mean_by_problem(table) == pytest.approx(REPORTED["toy_mean"]["exact_match,all"])


def test_saturated_pass_at_k_is_refused(tmp_path):
    row = raw("toy_pass")[0] | {"pass@4": 1.0}
    with pytest.raises(ValueError, match="fits 3 to 6 correct of 6"):
        read_lm_eval(written(tmp_path, [row]), metric="pass@4", repeats="counts")
    row["pass@1"] = 0.4
    with pytest.raises(ValueError, match="no share of correct ones"):
        read_lm_eval(written(tmp_path, [row]), metric="pass@1", repeats="counts")


def test_counts_of_a_filtered_answer_are_refused():
    with pytest.raises(ValueError, match="left one of 5 responses"):
        read_lm_eval(samples("toy_vote"), filter="maj@5", repeats="counts")


def test_filtered_with_several_answers_is_refused():
    with pytest.raises(ValueError, match="one number for all of them"):
        read_lm_eval(samples("toy_mean"), repeats="filtered")


@pytest.mark.parametrize("name", ["score-first", "maj@5"])
def test_regrade_with_the_pattern_of_the_filter(name):
    table = read_lm_eval(
        samples("toy_vote"), filter=name, repeats="regrade", answer_pattern="([a-d])"
    )
    assert table.groupby("problem_id").size().tolist() == [5] * 8
    rows = [row for row in raw("toy_vote") if row["filter"] == name]
    assert table["answer"].tolist() == [text[0] for row in rows for text in row["resps"][0]]
    assert table["correct"].tolist() == [
        text[0] == row["target"] for row in rows for text in row["resps"][0]
    ]
    # The reported scores follow from the responses that were graded here.
    if name == "score-first":
        first = table[table["sample_id"] == 0]
        assert first["correct"].mean() == REPORTED["toy_vote"]["exact_match,score-first"]
    else:
        votes = [
            Counter(answers).most_common(1)[0][0] == row["target"]
            for row, (_, answers) in zip(
                rows, table.groupby("problem_id", sort=False)["answer"], strict=True
            )
        ]
        assert np.mean(votes) == REPORTED["toy_vote"]["exact_match,maj@5"]


@pytest.mark.parametrize(
    ("task", "options"), [("toy_mean", {}), ("toy_pass", {"metric": "pass@2"})]
)
def test_regrade_over_lists_reproduces_the_share(task, options):
    table = read_lm_eval(samples(task), repeats="regrade", **options)
    counted = read_lm_eval(samples(task), repeats="counts", **options)
    by_problem = [t.groupby("problem_id")["correct"].sum().tolist() for t in (table, counted)]
    assert by_problem[0] == by_problem[1]
    assert table["answer"].notna().all()


def test_regrade_refuses_a_pattern_that_is_not_the_filters():
    with pytest.raises(ValueError, match="give the pattern of the task's regex filter"):
        read_lm_eval(samples("toy_vote"), filter="maj@5", repeats="regrade")


def test_regrade_refuses_what_contradicts_the_grade(tmp_path):
    rows = raw("toy_single")
    rows[2]["exact_match"] = 1.0 - rows[2]["exact_match"]
    with pytest.raises(ValueError, match=r"doc_id 2 .*grades in another way"):
        read_lm_eval(written(tmp_path, rows), repeats="regrade")


def test_regrade_refuses_a_document_without_filtered_responses(tmp_path):
    rows = raw("toy_single")
    rows[2]["filtered_resps"] = [[]]
    with pytest.raises(ValueError, match=r"doc_id 2 .*'filtered_resps' is empty"):
        read_lm_eval(written(tmp_path, rows), repeats="regrade")


def test_regrade_with_target_pattern(tmp_path):
    rows = [row | {"target": f"because #### {row['target']}"} for row in raw("toy_single")]
    path = written(tmp_path, rows)
    table = read_lm_eval(path, repeats="regrade", target_pattern="#### (.+)")
    assert table["correct"].tolist() == read_lm_eval(samples("toy_single"))["correct"].tolist()
    with pytest.raises(ValueError, match="target_pattern finds nothing"):
        read_lm_eval(path, repeats="regrade", target_pattern="@@ (.+)")
    with pytest.raises(ValueError, match="answer_pattern='\\(' is no regular expression"):
        read_lm_eval(path, repeats="regrade", answer_pattern="(")
    with pytest.raises(ValueError, match="only used with"):
        read_lm_eval(path, answer_pattern="a")


def test_predict_only_can_only_be_regraded(tmp_path):
    rows = [row | {"metrics": ["bypass"], "bypass": 999} for row in raw("toy_single")]
    path = written(tmp_path, rows)
    with pytest.raises(ValueError, match="predict_only"):
        read_lm_eval(path)
    table = read_lm_eval(path, repeats="regrade")
    assert table["correct"].mean() == REPORTED["toy_single"]["exact_match,none"]


def test_likelihood_task_gives_one_rollout_without_answer():
    for metric in ("acc", "acc_norm"):
        table = read_lm_eval(samples("toy_choice"), metric=metric)
        assert table["correct"].mean() == REPORTED["toy_choice"][f"{metric},none"]
        assert {"answer", "text"}.isdisjoint(table.columns)
    with pytest.raises(ValueError, match="likelihood task"):
        read_lm_eval(samples("toy_choice"), metric="acc", repeats="regrade")


def test_choices_are_never_made_silently():
    with pytest.raises(
        ValueError, match="several metrics; choose metric= one of 'acc', 'acc_norm'"
    ):
        read_lm_eval(samples("toy_choice"))
    with pytest.raises(ValueError, match="several filters; choose filter= one of 'score-first'"):
        read_lm_eval(samples("toy_vote"))
    with pytest.raises(ValueError, match="no metric 'f1'; choose metric= one of 'exact_match'"):
        read_lm_eval(samples("toy_single"), metric="f1")
    with pytest.raises(ValueError, match="repeats='all' is none of 'graded'"):
        read_lm_eval(samples("toy_single"), repeats="all")


def test_folder_with_several_tasks():
    assert len(read_lm_eval.source_files(OUTPUT)) == 6
    table = read_lm_eval(OUTPUT, task="toy_each")
    assert set(table["task"]) == {"toy_each"}
    with pytest.raises(ValueError, match=r"no samples of task 'x' \(tasks: toy_choice"):
        read_lm_eval(OUTPUT, task="x")


def test_tasks_of_a_folder_are_told_apart(tmp_path):
    for task in ("toy_single", "toy_each"):
        shutil.copy(samples(task), tmp_path)
    table = read_lm_eval(tmp_path)
    assert len(table) == 8 + 32
    assert table["problem_id"].nunique() == 16
    assert set(table["run"]) == {"default"}  # no results file beside, no folder named after a model


def test_reruns_are_merged_only_when_asked(tmp_path):
    rows = raw("toy_single")
    for date in ("2026-01-01T00-00-00", "2026-01-02T00-00-00"):
        written(tmp_path, rows, f"samples_toy_{date}.jsonl")
    with pytest.raises(ValueError, match="run more than once"):
        read_lm_eval(tmp_path)
    table = read_lm_eval(tmp_path, merge_reruns=True)
    assert table.groupby("problem_id")["sample_id"].apply(list).tolist() == [[0, 1]] * 8


def test_models_of_a_folder_become_runs(tmp_path):
    for model in ("one", "two"):
        (tmp_path / model).mkdir()
        shutil.copy(samples("toy_single"), tmp_path / model)
    assert set(read_lm_eval(tmp_path)["run"]) == {"one", "two"}


def test_older_versions_list_no_metrics(tmp_path):
    rows = [
        {name: value for name, value in row.items() if name not in ("metrics", "filter")}
        for row in raw("toy_single")
    ]
    table = read_lm_eval(written(tmp_path, rows))
    assert table["correct"].mean() == REPORTED["toy_single"]["exact_match,none"]


def test_partial_credit_and_threshold(tmp_path):
    rows = [row | {"exact_match": 0.5} for row in raw("toy_single")]
    path = written(tmp_path, rows)
    assert not read_lm_eval(path)["correct"].any()
    table = read_lm_eval(path, threshold=0.5)
    assert table["correct"].all()
    assert set(table["score"]) == {0.5}


def test_nothing_found_is_a_missing_answer(tmp_path):
    row = raw("toy_single")[0] | {"filtered_resps": ["[invalid]"], "exact_match": 0.0}
    other = raw("toy_single")[1]
    table = read_lm_eval(written(tmp_path, [row, other]))
    assert table["answer"].isna().tolist() == [True, False]


def test_numpy_booleans_written_as_strings(tmp_path):
    rows = [row | {"exact_match": str(i == 1)} for i, row in enumerate(raw("toy_single"))]
    assert read_lm_eval(written(tmp_path, rows))["correct"].sum() == 1


@pytest.mark.parametrize("value", [[0, 1], "high", None, float("nan")])
def test_values_that_are_no_grade(tmp_path, value):
    rows = [row | {"exact_match": value} for row in raw("toy_single")]
    with pytest.raises(ValueError, match=r"doc_id 0 .*'exact_match' is .*choose another metric"):
        read_lm_eval(written(tmp_path, rows))


def test_odd_text_survives(tmp_path):
    text = "nul \x00, half an emoji \ud83d, " + "long " * 200_000
    row = raw("toy_single")[0] | {"resps": [[text]]}
    table = read_lm_eval(written(tmp_path, [row]))
    assert table["text"][0] == text.replace("\ud83d", "\\ud83d")


def test_broken_files(tmp_path):
    whole = samples("toy_single").read_bytes()
    path = tmp_path / "samples_toy_2026-01-01T00-00-00.jsonl"
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="line 8: not valid JSON"):
        read_lm_eval(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no samples"):
        read_lm_eval(path)
    path.write_text(json.dumps({"task_id": "a", "completion": "b"}))
    with pytest.raises(ValueError, match="no field 'doc_id'; this isn't a samples file of lm-eval"):
        read_lm_eval(path)
    row = raw("toy_single")[0]
    with pytest.raises(ValueError, match=r"doc_id 0 .*occurs twice"):
        read_lm_eval(written(tmp_path, [row, row]))
    with pytest.raises(ValueError, match="must be lists"):
        read_lm_eval(written(tmp_path, [row | {"resps": "b"}]))
    rows = raw("toy_single")
    del rows[3]["exact_match"]
    with pytest.raises(ValueError, match=r"doc_id 3 .*metric 'exact_match' is missing"):
        read_lm_eval(written(tmp_path, rows))
    written(tmp_path, raw("toy_single"))
    (tmp_path / "results_2026-01-01T00-00-00.json").write_text("{")
    with pytest.raises(ValueError, match=r"results_2026.*not valid JSON"):
        read_lm_eval(tmp_path)


def test_missing_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_lm_eval(tmp_path / "nothing")
    with pytest.raises(ValueError, match="--log_samples"):
        read_lm_eval(tmp_path)


def document(resps, filtered, grade):
    return {"doc_id": 0, "target": "4", "arguments": {}, "resps": resps,
            "filtered_resps": filtered, "filter": "none", "metrics": ["exact_match"],
            "exact_match": grade}  # fmt: skip


def test_a_reply_without_text_is_a_reply(tmp_path):
    """Thinking used up its tokens: not a likelihood task, whose document is one rollout."""
    path = written(tmp_path, [document([["4", None, "5", "4"]], ["4"], 1.0)])
    with pytest.raises(ValueError, match="4 responses but one value of 'exact_match'"):
        read_lm_eval(path)
    table = read_lm_eval(path, repeats="regrade")
    assert table["correct"].tolist() == [True, False, False, True]
    assert table["text"].isna().tolist() == [False, True, False, False]
    assert table["answer"].isna().tolist() == [False, True, False, False]
    everything = document([["4", None, "5", "4"]], [["4", None, "5", "4"]], 0.5)
    counted = read_lm_eval(written(tmp_path, [everything]), repeats="counts")
    assert counted["correct"].tolist() == [True, True, False, False]
    alone = read_lm_eval(written(tmp_path, [document([[None]], [""], 0.0)]))
    assert alone["correct"].tolist() == [False]
    assert not {"answer", "text"} & set(alone)


def test_a_response_without_lists_around_it(tmp_path):
    """As lmms-eval writes it."""
    rows = [document(["it is 4"], "4", 1.0), document(["it is 5"], "5", 0.0) | {"doc_id": 1}]
    table = read_lm_eval(written(tmp_path, rows))
    assert table["text"].tolist() == ["it is 4", "it is 5"]
    assert table["answer"].tolist() == ["4", "5"]
    assert table["correct"].tolist() == [True, False]
    # A reply without text, and responses that the filter left as they are, which aren't written.
    rows = [document([None], None, 0.0), document(None, "5", 0.0) | {"doc_id": 1}]
    del rows[1]["resps"], rows[1]["arguments"]
    table = read_lm_eval(written(tmp_path, rows))
    assert table["correct"].tolist() == [False, False]
    assert table["text"].isna().tolist() == [True, False]
    assert table["answer"].isna().tolist() == [True, False]


def test_files_of_lmms_eval(tmp_path):
    folder = tmp_path / "org__model"
    folder.mkdir()
    row = document(["it is 4"], "4", 1.0) | {"input": "q", "token_counts": [None]}
    del row["metrics"], row["arguments"]
    (folder / "20260101_100000_samples_sums.jsonl").write_text(json.dumps(row))
    (folder / "20260101_100000_results.json").write_text("{}")
    table = read_lm_eval(tmp_path)
    assert table[["run", "problem_id", "metric"]].to_numpy().tolist() == [
        ["org__model", "sums/0", "exact_match"]
    ]


def test_repeats_as_further_requests(tmp_path):
    """As lmms-eval writes them: several responses, never the parts of a likelihood task."""
    path = written(tmp_path, [document([["4"], ["5"], [None]], ["4", "5", None], 1 / 3)])
    with pytest.raises(ValueError, match="3 responses but one value of 'exact_match'"):
        read_lm_eval(path)
    table = read_lm_eval(path, repeats="regrade")
    assert table["correct"].tolist() == [True, False, False]
    assert read_lm_eval(path, repeats="counts")["correct"].tolist() == [True, False, False]


def test_text_beside_likelihoods(tmp_path):
    path = written(tmp_path, [document([["4", 3]], ["4"], 1.0)])
    with pytest.raises(ValueError, match=r"\['4', 3\] are neither texts nor likelihoods"):
        read_lm_eval(path)
