import json
import shutil
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

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
    assert set(table["seed"]) == {11}
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
    assert len(read_inspect(STOPPED, incomplete=True, unscored="drop")) == 2


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


def test_eval_logs_need_no_package(tmp_path):
    """What inspect_ai packed with zstd, and the deflate of older versions."""
    table = read_inspect(FIXTURES / "eval")
    same = read_inspect(PLAIN)
    order = ["problem_id", "sample_id"]
    columns = [*order, "run", "correct", "text", "answer", "n_tokens", "logprob", "temperature"]
    left, right = (t.sort_values(order, ignore_index=True)[columns] for t in (table, same))
    assert left.equals(right)
    assert by_problem(table) == reported("plain_eval", "match")["accuracy"]
    log = json.loads(PLAIN.read_text())
    samples = {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in log.pop("samples")}
    older = tmp_path / "older.eval"
    with ZipFile(older, "w", ZIP_DEFLATED) as archive:
        for name, content in {"header.json": log, **samples}.items():
            archive.writestr(name, json.dumps(content))
    assert read_inspect(older).equals(same)
    running = tmp_path / "running.eval"
    with ZipFile(running, "w", ZIP_DEFLATED) as archive:
        start = {name: log[name] for name in ("version", "eval", "plan")}
        for name, content in {"_journal/start.json": start, **samples}.items():
            archive.writestr(name, json.dumps(content))
    with pytest.raises(ValueError, match="did not finish"):
        read_inspect(running)
    assert read_inspect(running, incomplete=True)["correct"].equals(same["correct"])


def test_damaged_eval_logs(tmp_path, monkeypatch):
    whole = log_file("eval", "plain").read_bytes()
    broken = tmp_path / "broken.eval"
    for content in (
        whole[:5000],
        whole[:-100],
        whole.replace(b"\x28\xb5\x2f\xfd", b"\0\0\0\0"),
        b"",
    ):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable Inspect log"):
            read_inspect(broken)
    with ZipFile(broken, "w") as archive:
        archive.writestr("header.json", "[]")
    with pytest.raises(ValueError, match=r"its header is \[\]"):
        read_inspect(broken)
    monkeypatch.setattr("passk_lab.readers.inspect.UNPACKED_BYTES", 1 << 16)
    with ZipFile(broken, "w", ZIP_DEFLATED) as archive:
        archive.writestr("header.json", " " * (1 << 20))
    with pytest.raises(ValueError, match="it unpacks to 1 MB, over 500 times its size"):
        read_inspect(broken)


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
