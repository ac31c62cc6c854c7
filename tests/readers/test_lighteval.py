import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passk_lab.readers.lighteval import read_lighteval

FIXTURES = Path(__file__).parents[1] / "fixtures" / "lighteval"
OUTPUT = FIXTURES / "output"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())["results"]
AVERAGE, PASS = "avg@n:n=4", "pass@k:k=2&n=6"


def details(task):
    (file,) = OUTPUT.rglob(f"details_{task}-0_*.parquet")
    return file


def raw(task):
    return pq.read_table(details(task)).to_pylist()


def written(folder, rows, name="details_toy_2026-01-01T00-00-00.parquet"):
    path = folder / name
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def by_problem(table):
    return table.groupby("problem_id")["correct"].mean().mean()


def pass_at(table, k):
    def one(correct):
        n, c = len(correct), int(correct.sum())
        return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    return table.groupby("problem_id")["correct"].apply(one).mean()


def test_one_response():
    table = read_lighteval(details("toy_one"))
    rows = raw("toy_one")
    assert table["problem_id"].tolist() == [f"toy_one|0/{row['doc']['id']}" for row in rows]
    assert table["text"].tolist() == [row["model_response"]["text"][0] for row in rows]
    assert table["correct"].tolist() == [row["metric"]["em"] == 1 for row in rows]
    assert 0 < table["correct"].mean() < 1
    assert table["correct"].mean() == REPORTED["toy_one|0"]["em"]
    assert set(table["run"]) == {"tiny-llama"}
    assert set(table["temperature"]) == {0.7}
    assert "seed" not in table  # which would be of training
    assert set(table["sampling_seed"]) == {3}
    assert {"score", "answer"}.isdisjoint(table.columns)


def test_ungraded_responses_are_refused():
    for task, options in (("toy_many", {"metric": AVERAGE}), ("toy_vote", {})):
        with pytest.raises(ValueError, match="doesn't say which response is correct"):
            read_lighteval(details(task), **options)


def test_counts_from_pass_at_k():
    table = read_lighteval(details("toy_many"), metric=PASS, repeats="counts")
    assert table.groupby("problem_id").size().tolist() == [6] * 8
    assert {"text", "answer"}.isdisjoint(table.columns)
    assert pass_at(table, 2) == pytest.approx(REPORTED["toy_many|0"][PASS])
    truth = [
        sum(text == row["doc"]["choices"][0] for text in row["model_response"]["text"])
        for row in raw("toy_many")
    ]
    assert table.groupby("problem_id", sort=False)["correct"].sum().tolist() == truth


def test_counts_from_the_average_over_the_first_n():
    table = read_lighteval(details("toy_many"), metric=AVERAGE, repeats="counts")
    assert table.groupby("problem_id").size().tolist() == [4] * 8
    assert by_problem(table) == pytest.approx(REPORTED["toy_many|0"][AVERAGE])


@pytest.mark.parametrize("metric", [AVERAGE, PASS])
def test_regrade_reproduces_the_reported_numbers(metric):
    table = read_lighteval(details("toy_many"), metric=metric, repeats="regrade")
    assert table.groupby("problem_id").size().tolist() == [6] * 8
    assert pass_at(table, 2) == pytest.approx(REPORTED["toy_many|0"][PASS])
    first = table[table["sample_id"] < 4]
    assert by_problem(first) == pytest.approx(REPORTED["toy_many|0"][AVERAGE])
    assert table["answer"].tolist() == table["text"].tolist()


def test_regrade_of_votes():
    table = read_lighteval(details("toy_vote"), repeats="regrade")
    assert len(table) == 40
    votes = []
    for row, (_, group) in zip(
        raw("toy_vote"), table.groupby("problem_id", sort=False), strict=True
    ):
        answers = group["answer"].tolist()
        votes.append(max(answers, key=answers.count) == row["doc"]["choices"][0])
    assert np.mean(votes) == REPORTED["toy_vote|0"]["maj@n:n=5"]


def test_regrade_with_a_pattern(tmp_path):
    rows = raw("toy_many")
    for row in rows:
        texts = [f"I think that\nthe answer is {t}." for t in row["model_response"]["text"]]
        row["model_response"].update(text=texts, text_post_processed=None)
    path = written(tmp_path, rows)
    options = {"metric": PASS, "repeats": "regrade"}
    table = read_lighteval(path, answer_pattern="answer is ([a-d])", **options)
    same = read_lighteval(details("toy_many"), **options)
    assert table["correct"].tolist() == same["correct"].tolist()
    assert table["answer"].tolist() == same["answer"].tolist()
    with pytest.raises(ValueError, match="grades in another way"):
        read_lighteval(path, **options)
    with pytest.raises(ValueError, match="answer_pattern='\\[' is no regular"):
        read_lighteval(path, answer_pattern="[", **options)
    with pytest.raises(ValueError, match="only used with repeats='regrade'"):
        read_lighteval(path, answer_pattern="a")


def test_answers_come_from_the_text_without_reasoning(tmp_path):
    rows = raw("toy_one")
    for row in rows:
        row["model_response"]["text"] = [
            f"<think>{'b a' * 5}</think>{row['model_response']['text'][0]}"
        ]
    table = read_lighteval(written(tmp_path, rows), repeats="regrade")
    assert table["correct"].mean() == REPORTED["toy_one|0"]["em"]
    assert table["text"].str.startswith("<think>").all()
    assert set(table["answer"]) <= set("abcd")


def test_several_golds(tmp_path):
    rows = raw("toy_one")
    for row in rows:
        row["doc"].update(choices=["a", "b", "c", "d"], gold_index=[0, 1])
        row["metric"]["em"] = int(row["model_response"]["text"][0] in "ab")
    table = read_lighteval(written(tmp_path, rows), repeats="regrade")
    assert table["correct"].tolist() == table["answer"].isin(["a", "b"]).tolist()
    rows[0]["doc"]["gold_index"] = [7]
    with pytest.raises(ValueError, match="points to none of 4 choices"):
        read_lighteval(written(tmp_path, rows), repeats="regrade")


def test_likelihood_task_gives_one_rollout_without_text():
    table = read_lighteval(details("toy_choice"))
    assert table["correct"].mean() == REPORTED["toy_choice|0"]["acc"]
    assert {"answer", "text"}.isdisjoint(table.columns)
    with pytest.raises(ValueError, match="likelihood task"):
        read_lighteval(details("toy_choice"), repeats="regrade")


def test_choices_are_never_made_silently():
    with pytest.raises(ValueError, match=f"several metrics; choose metric= one of '{AVERAGE}'"):
        read_lighteval(details("toy_many"))
    with pytest.raises(ValueError, match="no metric 'f1'"):
        read_lighteval(details("toy_one"), metric="f1")
    with pytest.raises(ValueError, match="repeats='all' is none of"):
        read_lighteval(details("toy_one"), repeats="all")


def test_counts_need_a_metric_that_counts(tmp_path):
    with pytest.raises(ValueError, match="doesn't say how many responses are correct"):
        read_lighteval(details("toy_vote"), repeats="counts")
    with pytest.raises(ValueError, match="doesn't say how many responses are correct"):
        read_lighteval(details("toy_many"), metric="g-pass@2_0.5", repeats="counts")
    rows = raw("toy_many")
    rows[0]["metric"][AVERAGE] = 0.4
    with pytest.raises(ValueError, match="no share of correct ones among 4"):
        read_lighteval(written(tmp_path, rows), metric=AVERAGE, repeats="counts")
    rows[0]["metric"][PASS] = 1.0
    with pytest.raises(ValueError, match="fits 5 to 6 correct of 6"):
        read_lighteval(written(tmp_path, rows), metric=PASS, repeats="counts")
    rows[0]["model_response"]["text"] = ["a"]
    with pytest.raises(ValueError, match=r"1 responses, but .* is over 6"):
        read_lighteval(written(tmp_path, rows), metric=PASS, repeats="counts")


def test_folder():
    assert len(read_lighteval.source_files(OUTPUT)) == 4
    table = read_lighteval(OUTPUT, task="toy_one|0")
    assert set(table["task"]) == {"toy_one|0"}
    with pytest.raises(
        ValueError, match=r"no samples of task 'x' \(tasks: toy_choice\|0, toy_many"
    ):
        read_lighteval(OUTPUT, task="x")


def test_folder_without_its_place(tmp_path):
    for task in ("toy_one", "toy_choice"):
        shutil.copy(details(task), tmp_path)
    table = read_lighteval(tmp_path)
    assert table["problem_id"].nunique() == 16
    assert set(table["run"]) == {"default"}
    assert "temperature" not in table.columns


def test_models_become_runs_and_reruns_are_merged_only_when_asked(tmp_path):
    date = details("toy_one").parent.name
    for model in ("org/one", "org/two"):
        folder = tmp_path / "details" / model / date
        folder.mkdir(parents=True)
        shutil.copy(details("toy_one"), folder)
    assert set(read_lighteval(tmp_path)["run"]) == {"org/one", "org/two"}
    later = tmp_path / "details" / "org/one" / "2027-01-01T00-00-00"
    later.mkdir()
    shutil.copy(details("toy_one"), later / f"details_toy_one-0_{later.name}.parquet")
    with pytest.raises(ValueError, match="run more than once"):
        read_lighteval(tmp_path)
    table = read_lighteval(tmp_path, merge_reruns=True)
    sizes = table.groupby("run")["sample_id"].apply(lambda ids: sorted(set(ids)))
    assert sizes.to_dict() == {"org/one": [0, 1], "org/two": [0]}


def test_partial_credit_and_threshold(tmp_path):
    rows = raw("toy_one")
    for row in rows:
        row["metric"]["em"] = 0.5
    path = written(tmp_path, rows)
    assert not read_lighteval(path)["correct"].any()
    table = read_lighteval(path, threshold=0.5)
    assert table["correct"].all()
    assert set(table["score"]) == {0.5}


def test_broken_files(tmp_path):
    path = tmp_path / "details_toy_2026-01-01T00-00-00.parquet"
    path.write_bytes(details("toy_one").read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable parquet file"):
        read_lighteval(path)
    with pytest.raises(ValueError, match=r"no lighteval details \(expected .*it has problem_id"):
        read_lighteval(written(tmp_path, [{"problem_id": "a", "correct": True}]))
    with pytest.raises(ValueError, match="older layout"):
        read_lighteval(written(tmp_path, [{"predictions": ["a"], "metrics": {"em": 1}}]))
    rows = raw("toy_one")
    for row in rows:
        del row["doc"]["gold_index"]
    with pytest.raises(ValueError, match=r"doc\.gold_index is missing"):
        read_lighteval(written(tmp_path, rows))
    rows = raw("toy_one")
    with pytest.raises(ValueError, match="occurs twice"):
        read_lighteval(written(tmp_path, [rows[0], rows[0]]))
    rows[1]["metric"]["em"] = None
    with pytest.raises(ValueError, match="metric 'em' is None, not a number"):
        read_lighteval(written(tmp_path, rows))
    pq.write_table(pq.read_table(details("toy_one")).slice(0, 0), path)
    with pytest.raises(ValueError, match="holds no documents"):
        read_lighteval(path)


def test_broken_results_file(tmp_path):
    shutil.copytree(OUTPUT, tmp_path / "output")
    (results,) = (tmp_path / "output").rglob("results_*.json")
    results.write_text("{")
    with pytest.raises(ValueError, match=r"results_.*not valid JSON"):
        read_lighteval(tmp_path / "output")


def test_missing_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_lighteval(tmp_path / "nothing")
    with pytest.raises(ValueError, match="--save-details"):
        read_lighteval(tmp_path)
