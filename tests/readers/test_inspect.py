import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from passk_lab.readers import _zip
from passk_lab.readers.inspect import read_inspect

FIXTURES = Path(__file__).parents[1] / "fixtures" / "inspect"
REPORTED = json.loads((FIXTURES / "reported.json").read_text())["scores"]


def log_file(folder, task):
    (file,) = (FIXTURES / folder).glob(f"*_{task}_*")
    return file


SUMS, PLAIN = log_file("json", "sums"), log_file("json", "plain")
FRAGILE, STOPPED = log_file("errors", "fragile"), log_file("stopped", "fragile")


def reported(task, name, reducer="mean"):
    (score,) = [s for s in REPORTED[task] if s["name"] == name and s["reducer"] == reducer]
    return {metric: entry["value"] for metric, entry in score["metrics"].items()}


def by_problem(table, column="correct"):
    return table.groupby("problem_id")[column].mean().mean()


def pass_at(table, k):
    def one(correct):
        n, c = len(correct), int(correct.sum())
        return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    return table.groupby("problem_id")["correct"].apply(one).mean()


def changed(folder, source, change, name="log.json"):
    log = json.loads(source.read_text())
    change(log)
    path = folder / name
    path.write_text(json.dumps(log))
    return path


def test_plain_log():
    table = read_inspect(PLAIN)
    assert len(table) == 16
    assert set(table["problem_id"]) == {"plain/two", "plain/five", "plain/nine", "plain/7"}
    assert table.groupby("problem_id")["sample_id"].apply(sorted).tolist() == [[0, 1, 2, 3]] * 4
    assert set(table["run"]) == {"mockllm/model"}
    assert set(table["temperature"]) == {0.7}
    assert "seed" not in table  # which would be of training
    assert set(table["sampling_seed"]) == {11}
    two = table[table["problem_id"] == "plain/two"].sort_values("sample_id")
    assert two["text"].tolist() == ["It is 2", "It is 2", "Surely 2", "It is 3"]
    assert two["answer"].tolist() == two["text"].tolist()  # what match() says it compared
    assert two["correct"].tolist() == [True, True, True, False]
    assert two["n_tokens"].tolist() == [3, 3, 2, 3]
    assert two["logprob"].tolist() == [-1.5, -1.5, -1.0, -1.5]
    assert {"score", "error"}.isdisjoint(table.columns)
    assert by_problem(table) == reported("plain", "match")["accuracy"]
    assert pass_at(table, 2) == pytest.approx(reported("plain", "match", "pass_at_2")["accuracy"])


@pytest.mark.slow
def test_letters_and_partial_credit():
    table = read_inspect(SUMS, scorer="graded")
    assert by_problem(table, "score") == reported("sums", "graded")["accuracy"]
    assert sorted(table["score"].unique()) == [0.0, 0.5, 1.0]
    assert pass_at(table, 2) == pytest.approx(reported("sums", "graded", "pass_at_2")["accuracy"])
    # "N": the scorer found no answer.
    nine = table[table["problem_id"] == "sums/nine"].sort_values("sample_id")
    assert nine["answer"].isna().tolist() == [False, False, True, False]
    assert not nine["correct"].any()
    lenient = read_inspect(SUMS, scorer="graded", threshold=0.5)
    assert lenient["correct"].tolist() == (table["score"] >= 0.5).tolist()


def test_numeric_scores():
    table = read_inspect(SUMS, scorer="closeness")
    assert by_problem(table, "score") == pytest.approx(reported("sums", "closeness")["mean"])
    assert (table["correct"] == (table["score"] == 1.0)).all()
    loose = read_inspect(SUMS, scorer="closeness", threshold=0.75)
    assert loose["correct"].sum() > table["correct"].sum()


def test_dictionary_scores_need_a_key():
    with pytest.raises(ValueError, match="several keys; choose key= one of 'exact', 'polite'"):
        read_inspect(SUMS, scorer="aspects")
    table = read_inspect(SUMS, scorer="aspects", key="exact")
    assert by_problem(table) == reported("sums", "exact")["mean"]
    assert set(table["scorer"]) == {"aspects/exact"}
    with pytest.raises(ValueError, match="no key 'kind'"):
        read_inspect(SUMS, scorer="aspects", key="kind")
    with pytest.raises(ValueError, match="has no keys"):
        read_inspect(SUMS, scorer="match", key="exact")


def test_scorer_must_be_chosen():
    with pytest.raises(
        ValueError, match="several scorers; choose scorer= one of 'match', 'graded'"
    ):
        read_inspect(SUMS)
    with pytest.raises(ValueError, match="no scorer 'f1'"):
        read_inspect(SUMS, scorer="f1")


def test_samples_without_a_score():
    with pytest.raises(ValueError, match=r"3 of 16 samples have no score by 'sometimes'.*sandbox"):
        read_inspect(FRAGILE)
    dropped = read_inspect(FRAGILE, unscored="drop")
    assert dropped.attrs["left_out"] == "3 rollouts without a grade left out"
    assert len(dropped) == 13
    assert by_problem(dropped) == pytest.approx(reported("fragile", "sometimes")["accuracy"])
    # Epochs keep their numbers where one is left out.
    five = dropped.loc[dropped["problem_id"] == "fragile/five", "sample_id"]
    assert sorted(five) == [0, 2, 3]
    counted = read_inspect(FRAGILE, unscored="incorrect")
    assert len(counted) == 16
    assert counted["correct"].sum() == dropped["correct"].sum()
    failed = counted[counted["error"].notna()]
    assert len(failed) == 3
    assert not failed["correct"].any()
    assert failed["error"].str.contains("sandbox went away").sum() == 2
    assert (failed["error"] == "invalid_response_format").sum() == 1
    with pytest.raises(ValueError, match="unscored='skip' is none of 'refuse'"):
        read_inspect(FRAGILE, unscored="skip")


def test_invalidated_samples_have_no_score(tmp_path):
    path = changed(
        tmp_path, PLAIN, lambda log: log["samples"][0].update(invalidation={"author": "me"})
    )
    with pytest.raises(ValueError, match=r"1 of 16 .*\(invalidated\)"):
        read_inspect(path)


def test_unfinished_evaluations():
    with pytest.raises(ValueError, match=r"did not finish \(status 'error', 4 samples logged\)"):
        read_inspect(STOPPED)
    with pytest.raises(ValueError, match="2 of 4 samples have no score"):
        read_inspect(STOPPED, incomplete=True)
    kept = read_inspect(STOPPED, incomplete=True, unscored="drop")
    assert len(kept) == 2
    assert kept.attrs["left_out"].endswith("left out, among them all of 2 problems")


def test_a_retry_supersedes_the_log_it_finished(tmp_path):
    task_id = json.loads(PLAIN.read_text())["eval"]["task_id"]

    def unfinished(log):
        log["status"] = "cancelled"
        log["samples"] = log["samples"][:3]

    changed(tmp_path, PLAIN, unfinished, "earlier.json")
    shutil.copy(PLAIN, tmp_path)
    table = read_inspect(tmp_path)
    assert len(table) == 16
    assert task_id == json.loads((tmp_path / "earlier.json").read_text())["eval"]["task_id"]
    assert len(read_inspect(tmp_path, merge_reruns=True, incomplete=True)) == 16


def test_folder_and_task():
    assert read_inspect.source_files(FIXTURES / "json") == sorted([SUMS, PLAIN])
    assert len(read_inspect(FIXTURES / "json", scorer="match")) == 32
    assert len(read_inspect(FIXTURES / "json", task="plain")) == 16
    with pytest.raises(ValueError, match=r"no samples of task 'x' \(tasks: plain, sums\)"):
        read_inspect(FIXTURES / "json", task="x")


def test_reruns_are_merged_only_when_asked(tmp_path):
    shutil.copy(PLAIN, tmp_path)
    changed(tmp_path, PLAIN, lambda log: log["eval"].update(task_id="another"))
    with pytest.raises(ValueError, match="run more than once"):
        read_inspect(tmp_path)
    table = read_inspect(tmp_path, merge_reruns=True)
    assert table.groupby("problem_id")["sample_id"].apply(sorted).tolist() == [list(range(8))] * 4


def test_models_become_runs(tmp_path):
    shutil.copy(PLAIN, tmp_path)
    changed(tmp_path, PLAIN, lambda log: log["eval"].update(model="other/model", task_id="b"))
    assert set(read_inspect(tmp_path)["run"]) == {"mockllm/model", "other/model"}


def set_value(value):
    def change(log):
        log["samples"][0]["scores"]["match"]["value"] = value

    return change


@pytest.mark.parametrize(
    ("value", "score"),
    [(True, 1.0), (False, 0.0), ("yes", 1.0), ("No", 0.0), ("0.25", 0.25), (3, 3.0), ("P", 0.5)],
)
def test_values_are_read_as_inspect_reads_them(tmp_path, value, score):
    table = read_inspect(changed(tmp_path, PLAIN, set_value(value)))
    assert table["correct"][0] == (score >= 1.0)
    assert table.get("score", table["correct"].astype(float))[0] == score


@pytest.mark.parametrize("value", ["A", "inf", ["C"], "c"])
def test_values_that_are_no_score(tmp_path, value):
    with pytest.raises(ValueError, match=r"sample 7, epoch 1: .* is .*neither C, P, I, N"):
        read_inspect(changed(tmp_path, PLAIN, set_value(value)))


def test_message_in_parts(tmp_path):
    def change(log):
        output = log["samples"][0]["output"]
        del output["completion"]
        parts = [{"type": "text", "text": "It "}, {"type": "image", "image": "x"}]
        output["choices"][0]["message"]["content"] = [*parts, {"type": "text", "text": "is"}]
        log["samples"][1]["output"] = {"choices": []}
        log["samples"][2]["output"]["completion"] = "half \ud83d nul \x00" + "x" * 1_000_000

    table = read_inspect(changed(tmp_path, PLAIN, change))
    assert table["text"][0] == "It is"
    assert table["text"].isna().tolist()[:3] == [False, True, False]
    assert table["text"][2].startswith("half \\ud83d nul \x00xx")
    assert len(table["text"][2]) > 1_000_000


ORDER = ["problem_id", "sample_id"]


def zipped(folder, log, method=zipfile.ZIP_STORED, name="log.eval", place="samples/{}.json"):
    """Write a log as Inspect lays out its zip files."""
    path = folder / name
    header = {name: value for name, value in log.items() if name != "samples"}
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("_journal/start.json", json.dumps({"eval": log["eval"]}))
        for sample in log["samples"]:
            entry = place.format(f"{sample['id']}_epoch_{sample['epoch']}")
            archive.writestr(entry, json.dumps(sample))
        archive.writestr("summaries.json", "[]")
        archive.writestr("header.json", json.dumps(header))
    return path


def test_eval_log_says_what_the_json_log_says():
    table = read_inspect(FIXTURES / "eval")  # compressed with Zstandard, as Inspect does now
    same = read_inspect(PLAIN)
    columns = [*ORDER, "run", "correct", "text", "answer", "n_tokens", "logprob", "temperature"]
    left, right = (t.sort_values(ORDER, ignore_index=True)[columns] for t in (table, same))
    assert left.equals(right)
    assert by_problem(table) == reported("plain_eval", "match")["accuracy"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", ["samples/{}.json", "samples/{}/sample.json"])
def test_eval_log_of_other_times(tmp_path, method, place):
    path = zipped(tmp_path, json.loads(SUMS.read_text()), method, place=place)
    with zipfile.ZipFile(path, "a") as archive:  # parts that are not read
        archive.writestr("samples/two_epoch_1/events/0.json", "[]")
    assert read_inspect(path, scorer="graded").equals(read_inspect(SUMS, scorer="graded"))


def test_small_eval_log(tmp_path):
    """Case 07: the standard library reads it."""
    samples = [
        {"id": i, "epoch": epoch, "input": "?", "target": "4", "output": {"completion": "4"},
         "scores": {"match": {"value": value, "answer": "4"}}}
        for i in (1, 2)
        for epoch, value in ((1, "C"), (2, "I"))
    ]  # fmt: skip
    spec = {"task": "sums", "model": "mockllm/model"}
    path = zipped(tmp_path, {"status": "success", "eval": spec, "samples": samples})
    table = read_inspect(path)
    assert table["problem_id"].tolist() == ["sums/1", "sums/1", "sums/2", "sums/2"]
    assert table["correct"].tolist() == [True, False, True, False]
    assert table["answer"].tolist() == ["4"] * 4


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_entry_of_a_name_counts(tmp_path):
    log = json.loads(PLAIN.read_text())
    path = zipped(tmp_path, log)
    sample = log["samples"][0]
    with zipfile.ZipFile(path, "a") as archive:
        sample["scores"]["match"]["value"] = "I"
        archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    table = read_inspect(path)
    assert len(table) == 16
    found = table[table["problem_id"] == f"plain/{sample['id']}"]
    assert not found.loc[found["sample_id"] == sample["epoch"] - 1, "correct"].item()


def test_unfinished_eval_log(tmp_path):
    path = tmp_path / "log.eval"
    log = json.loads(PLAIN.read_text())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps({"eval": log["eval"], "plan": {}}))
        for sample in log["samples"][:2]:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
    with pytest.raises(ValueError, match=r"did not finish \(status 'started', 2 samples logged\)"):
        read_inspect(path)
    assert len(read_inspect(path, incomplete=True)) == 2


def test_broken_eval_logs(tmp_path):
    path = tmp_path / "broken.eval"
    whole = log_file("eval", "plain").read_bytes()
    inside = whole.index(b"samples/two_epoch_1.json") + 100
    for content in (whole[:5000], b"", whole[:inside] + b"x" * 50 + whole[inside + 50 :]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.eval: can't be unpacked .*cut off"):
            read_inspect(path)
    for entries, message in (
        ({"summaries.json": "[]"}, "no Inspect log, which has a header.json and samples"),
        ({"header.json": "[]"}, "header.json: no object"),
        ({"header.json": "{"}, "header.json, line 1: not valid JSON"),
        ({"header.json": "[" * 10**5}, "header.json: JSON that can't be read"),
        ({"header.json": '{"a": ' + "1" * 5000 + "}"}, "header.json: JSON that can't be read"),
        ({"header.json": "{}"}, "no Inspect log, which has eval.task"),
        ({"header.json": '{"eval": {"task": "a", "model": "b"}, "status": "success"}'}, "no samp"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in entries.items():
                archive.writestr(name, text)
        with pytest.raises(ValueError, match=rf"broken\.eval: .*{message}"):
            read_inspect(path)


def test_zip_bombs_are_refused(tmp_path, monkeypatch):
    bomb = zipped(tmp_path, json.loads(PLAIN.read_text()), zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        for epoch in (5, 6, 7, 8, 9):
            archive.writestr(f"samples/two_epoch_{epoch}.json", bytes(10**7))
    with pytest.raises(ValueError, match=r"samples/two_epoch_5\.json, line 1: not valid JSON"):
        read_inspect(bomb)  # small enough to look into
    monkeypatch.setattr(_zip, "LIMIT_BYTES", 10**6)
    with pytest.raises(
        ValueError, match=r"to 50,.* bytes, more than 1,000,000 and more than 200 t"
    ):
        read_inspect(bomb)


@pytest.mark.parametrize("method", [8, 93])
def test_an_entry_is_no_larger_than_it_says(tmp_path, method):
    """A header that lies about the size gets no further than that."""
    source = log_file("eval", "plain") if method == 93 else zipped(
        tmp_path, json.loads(PLAIN.read_text()), method
    )  # fmt: skip
    with zipfile.ZipFile(source) as archive:
        size = archive.getinfo("header.json").file_size
    content = source.read_bytes()
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"header.json")) + 24
    assert content[at : at + 4] == size.to_bytes(4, "little")
    path = tmp_path / "lying.eval"
    path.write_bytes(content[:at] + (10).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(ValueError, match=r"lying\.eval: can't be unpacked .*Bad CRC-32"):
        read_inspect(path)


def case(folder, *samples):
    """A log as in the cases made after public reports."""
    log = {"status": "success", "eval": {"task": "t", "model": "m/x"}, "samples": samples}
    path = folder / "log.json"
    path.write_text(json.dumps(log))
    return path


def of_case(epoch, value, answer=None, name="a"):
    output = {"choices": [{"message": {"content": "x"}}], "completion": "x"}
    scores = {"match": {"value": value, "answer": answer}}
    return {"id": name, "epoch": epoch, "output": output, "scores": scores}


def test_partial_credit_of_epochs(tmp_path):
    """Case 10: fractional scores are neither lost nor counted as right."""
    values = ("C", "P", "I", 0.25)
    path = case(tmp_path, *(of_case(i, value) for i, value in enumerate(values, start=1)))
    assert read_inspect(path)["correct"].sum() == 1
    assert read_inspect(path, threshold=0.5)["correct"].sum() == 2
    assert read_inspect(path)["score"].tolist() == [1.0, 0.5, 0.0, 0.25]


def test_answers_of_epochs(tmp_path):
    """Case 11: every epoch keeps its own answer."""
    values = (("C", "7"), ("I", "8"), ("C", "7"), ("I", None))
    path = case(tmp_path, *(of_case(i, *value) for i, value in enumerate(values, start=1)))
    table = read_inspect(path)
    assert table["answer"].tolist()[:3] == ["7", "8", "7"]
    assert table["answer"].isna().tolist() == [False, False, False, True]
    assert table.loc[table["correct"], "answer"].nunique() == 1


def test_problems_whose_samples_all_failed(tmp_path):
    """Case 55: 16 samples and 4 whole problems don't vanish without a word."""
    failed = [
        {"id": f"p{i}", "epoch": epoch, "output": {}, "error": {"message": "ConnectionError"}}
        for i in range(1, 5)
        for epoch in range(1, 5)
    ]
    path = case(tmp_path, *(of_case(epoch, "C", name="p0") for epoch in range(1, 5)), *failed)
    assert by_problem(read_inspect(path, unscored="incorrect")) == 1 / 5
    kept = read_inspect(path, unscored="drop")
    assert by_problem(kept) == 1.0
    told = "16 rollouts without a grade left out, among them all of 4 problems"
    assert kept.attrs["left_out"] == told


def test_broken_files(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(PLAIN.read_text()[:-100])
    with pytest.raises(ValueError, match="line 1: not valid JSON"):
        read_inspect(path)
    path.write_bytes(b'{"eval": "\xff"}')
    with pytest.raises(ValueError, match="not UTF-8"):
        read_inspect(path)
    for content in ("[]", "{}", '{"eval": {"task": "x"}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match="no Inspect log"):
            read_inspect(path)
    path = changed(tmp_path, PLAIN, lambda log: log.pop("samples"))
    with pytest.raises(ValueError, match="holds no samples"):
        read_inspect(path)
    path = changed(tmp_path, PLAIN, lambda log: log["samples"][2].pop("epoch"))
    with pytest.raises(ValueError, match="sample 2: epoch missing"):
        read_inspect(path)
    path = changed(tmp_path, PLAIN, lambda log: [s.pop("scores") for s in log["samples"]])
    with pytest.raises(ValueError, match="no sample has a score"):
        read_inspect(path)


def test_missing_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_inspect(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no Inspect logs"):
        read_inspect(tmp_path)
