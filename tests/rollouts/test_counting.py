"""Counts by SQL are those of a plain count with dictionaries, wherever the rows come from."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from passk_lab.readers import read
from passk_lab.rollouts import _parquet, _rows, files
from passk_lab.rollouts._rows import Part, count_parts
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import write_rollouts as write
from passk_lab.rollouts.study import Study
from passk_lab.rollouts.table import validate_rollouts
from tests.helpers import refusals, refuses

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
BY = (["run", "split"], ["split"], ["run", "seed"], ["seed", "step"], ["note", "run"], [])


def table(**columns):
    return pd.DataFrame({"problem_id": ["a", "a", "b"], "correct": [True, False, True], **columns})


def plain_counts(frame, by, modes):
    """Count a validated table's rows with dictionaries."""
    found = {}
    columns = [frame[name].astype(object).tolist() for name in [*by, "problem_id"]]
    columns.append(frame["correct"].tolist())
    columns.append(frame["answer"].astype(object).tolist() if modes else [None] * len(frame))
    for *key, correct, answer in zip(*columns, strict=True):
        key = tuple(None if pd.isna(value) else value for value in key)
        group = found.setdefault(key, [0, 0, Counter(), Counter()])
        group[0] += 1
        group[1] += correct
        if modes and not pd.isna(answer):
            group[2][answer] += 1
            group[3][answer] += correct
    return {
        key: (n, c, *(sorted((v for v in cell.values() if v), reverse=True) for cell in cells))
        for key, (n, c, *cells) in found.items()
    }


def check(source, frame, by=("run", "split"), modes=None):
    """Compare with the plain count of a validated table."""
    by = list(by)
    out = counts(source, by, modes)
    modes = "answer" in frame if modes is None else modes
    names = [*by, "problem_id", "n_samples", "n_correct"]
    names += ["mode_counts", "correct_mode_counts"] if modes else []
    assert list(out.columns) == [*names, *(["correct_mode_ids"] if modes else [])]
    expected = plain_counts(frame, by, modes)
    # Missing values last, as pandas sorts.
    order = sorted(expected, key=lambda key: [(value is None, value) for value in key])
    keys = out[[*by, "problem_id"]].astype(object)
    assert [tuple(row) for row in keys.where(keys.notna(), None).to_numpy()] == order
    assert out["n_samples"].dtype == out["n_correct"].dtype == np.int64
    for row, key in zip(out.to_dict("records"), order, strict=True):
        cells = [row[name] for name in names[len(by) + 3 :]]
        assert all(cell.dtype == np.int64 and cell.flags.writeable for cell in cells)
        assert (row["n_samples"], row["n_correct"], *map(list, cells)) == (
            expected[key] if modes else expected[key][:2]
        )


LM_EVAL = "lm-eval/output/tiny-llama/samples_toy_choice_2026-11-24T21-30-26.309621.jsonl"
LIGHTEVAL = (
    "lighteval/output/details/tiny-llama/2026-11-24T21-53-12.791216/"
    "details_toy_choice-0_2026-11-24T21-53-12.791216.parquet"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "options"),
    [
        (LM_EVAL, {"metric": "acc"}),
        ("inspect/json", {"scorer": "match"}),
        (LIGHTEVAL, {"metric": "acc"}),
        ("human-eval/samples.jsonl_results.jsonl", {}),
        ("evalplus/samples_eval_results.json", {}),
        ("trl/plain", {"reward": "has_a"}),
        ("verl/validation", {}),
        ("verl/rollouts", {}),
    ],
)
def test_fixtures(path, options, tmp_path):
    frame = read(path.split("/")[0], FIXTURES / path, **options).assign(run="r")
    if "answer" in frame and (frame["correct"] & frame["answer"].isna()).any():
        frame["answer"] = frame["answer"].fillna("")
    for ending in ("parquet", "jsonl"):
        write(frame, tmp_path / f"r.{ending}")
        check(tmp_path / f"r.{ending}", frame)
    check(frame, frame)
    check(frame, frame, ["split"], modes=False)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob("data/*/rollouts.parquet")), ids=str)
def test_data(path, tmp_path):
    frame = files.read_rollouts(path, ["answer"])
    if len(frame) > 30_000:
        frame = frame[frame["problem_id"].isin(frame["problem_id"].unique()[:10])]
        path = tmp_path / "some.parquet"
        write(frame, path)
    check(path, frame)
    check(path, frame, ["seed", "run"])
    check(frame, frame, modes=False)


rows = st.lists(
    st.tuples(
        st.sampled_from(["p", "q", "r", "p\x00", "1.5", "ü"]),
        st.sampled_from(["base", "rl", "it's"]),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([0, 7]),
        st.sampled_from(["x", "y", "7.0", None]),
        st.booleans(),
        st.sampled_from(["m", None]),
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(rows, st.sampled_from([1, 3, 2**40]), st.sampled_from(BY), st.sampled_from([None, False]))
def test_any_table(tmp_path_factory, data, far, by, modes):
    columns = ["problem_id", "run", "seed", "step", "answer", "correct", "note"]
    frame = pd.DataFrame(data, columns=columns).astype({"seed": "Int64"})
    frame["correct"] &= frame["answer"].notna()
    frame["sample_id"] = np.arange(len(frame)) * far
    valid = validate_rollouts(frame)
    folder = tmp_path_factory.mktemp("any")
    write(frame, folder / "r.parquet")
    write(frame, folder / "r.jsonl")
    frame.to_csv(folder / "r.csv", index=False)
    for source in (frame, folder / "r.parquet", folder / "r.jsonl"):
        check(source, valid, by, modes)
    if not valid["problem_id"].str.contains("\x00").any():
        check(folder / "r.csv", valid, by, modes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"problem_id": [7, 7, 8]},
        {"problem_id": [7.0, 7.0, 8.5]},
        {"problem_id": [True, True, False]},
        {"problem_id": pd.Categorical(["a", "b", "a"])},
        {"correct": [1, 0, 1]},
        {"correct": [1.0, 0.0, 1.0]},
        {"correct": ["yes", " False", "1"]},
        {"answer": [1.0, None, 2.0]},
        {"answer": pd.array([1, None, 2], dtype="Int64")},
        {"sample_id": [0.0, 1.0, 0.0]},
        {"sample_id": np.array([0, 1, 0], np.uint64)},
        {"seed": [None, 1.0, 2.0], "sample_id": 0},
        {"step": pd.array([None, 1, 2], dtype="UInt8"), "sample_id": 0},
        {"Correct": [1, 2, 3], "ANSWER": "x"},
        {"note": pd.to_datetime(["2020", "2021", None])},
        {"note": [np.float32(0.1), np.nan, 1]},
        {"note": pd.Series([True, None, False], dtype=object)},
        {"temperature": [1, 0, 1]},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_columns_of_other_types(changed, tmp_path, monkeypatch):
    monkeypatch.setattr(_parquet, "BATCH_ROWS", 2)
    frame = table(run="r", answer=["1", "2", "3"]).assign(**changed)
    frame.to_parquet(tmp_path / "r.parquet")
    by = [name for name in ("note", "temperature", "ANSWER") if name in frame]
    for source in (frame, tmp_path / "r.parquet"):
        check(source, validate_rollouts(frame), [*by, "run"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"problem_id": ["a", None, "b"]},
        {"run": ["x", "y", None]},
        {"correct": [0, 1, 2]},
        {"correct": [1.0, 0.0, np.nan]},
        {"correct": pd.array([True, False, None], dtype="boolean")},
        {"sample_id": [0, 1, -1]},
        {"sample_id": pd.array([0, None, 1], dtype="Int64")},
        {"sample_id": [0.5, 1, 2]},
        {"temperature": [1.0, -1.0, 0.0]},
        {"sample_id": [3, 3, 0]},
        {"sample_id": [3, 3, 0], "seed": [1, 1, 1], "step": pd.array([None] * 3, dtype="Int64")},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_refuses_what_a_table_refuses(changed, tmp_path):
    frame = table(run="r", answer="x").assign(**changed)
    frame.to_parquet(tmp_path / "r.parquet")
    by = ["run", "temperature"] if "temperature" in frame else ["run"]
    with pytest.raises(ValueError, match="row ") as expected:
        validate_rollouts(frame)
    for source, name in ((frame, "rollouts"), (tmp_path / "r.parquet", tmp_path / "r.parquet")):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            counts(source, by)
        assert str(error.value) == str(expected.value).replace("rollouts", str(name), 1)


@pytest.mark.slow
@pytest.mark.parametrize("far", [1, 2**50])
def test_first_repeated_row_is_named(far, tmp_path):
    frame = pd.DataFrame({"problem_id": [f"p{i % 3}" for i in range(3000)], "correct": True})
    frame["sample_id"] = np.arange(3000) * far
    frame.loc[[2500, 2000, 2999], "sample_id"] = [10 * far, 14 * far, 11 * far]
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "r.parquet", row_group_size=100)
    message = rf"row 2000 repeats .*problem_id='p2', sample_id={14 * far}\)"
    for source in (frame, tmp_path / "r.parquet"):
        refuses(message, counts, source)


@pytest.mark.slow
def test_files_together(tmp_path):
    parts = [table(sample_id=[0, 1, 0]), table(sample_id=[2, 3, 1])]
    for name, part in zip("ab", parts, strict=True):
        write(part, tmp_path / f"{name}.parquet")
    write(parts[1], tmp_path / "b.jsonl")
    for last in ("b.parquet", "b.jsonl"):
        paths = [tmp_path / "a.parquet", tmp_path / last]
        assert_frame_equal(count_parts([Part(path) for path in paths]), counts(pd.concat(parts)))
    # Runs stay in the order of the files.
    named = [Part(tmp_path / f"{a}.parquet", {"run": b}) for a, b in ("ab", "ba")]
    for part, frame in zip(named, parts, strict=True):
        frame.to_parquet(part.rows)
    expected = [
        counts(frame.assign(**part.known)) for part, frame in zip(named, parts, strict=True)
    ]
    assert_frame_equal(count_parts(named), pd.concat(expected, ignore_index=True))
    parts[0].to_parquet(tmp_path / "b.parquet")
    same = [Part(part.rows) for part in named]
    refuses(r"b\.parquet: row 0 repeats .*sample_id=0", count_parts, same)


@pytest.mark.slow
def test_many_files_of_the_same_columns_are_one_scan(tmp_path):
    frame = pd.DataFrame({"problem_id": np.arange(60) % 7, "file_index": 3, "correct": True})
    frame = frame.assign(sample_id=np.arange(60), file_row_number=1, seed=np.arange(60) // 30)
    parts = []
    for at in range(6):
        some = frame.iloc[at * 10 : at * 10 + 10]
        some.drop(columns="seed" if at == 2 else []).to_parquet(tmp_path / f"{at}.parquet")
        parts.append(Part(tmp_path / f"{at}.parquet"))
    together = frame.astype({"seed": "Int64"})
    together.loc[20:29, "seed"] = None
    keys = ["run", "split", "problem_id"]
    found = count_parts(parts)
    assert_frame_equal(found.sort_values(keys, ignore_index=True), counts(together))
    frame.iloc[[50, 51]].to_parquet(tmp_path / "4.parquet")
    refuses(r"5\.parquet: row 0 repeats .*sample_id=50", count_parts, parts)


def test_names_of_files_are_no_patterns(tmp_path):
    for name in ("a[1]*.parquet", "it's?.parquet", "run=x.parquet"):
        write(table(), tmp_path / name)
        assert counts(tmp_path / name)["run"].unique().tolist() == [name.split(".")[0]]


@pytest.mark.slow
def test_goes_to_disk(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    n = 400_000
    frame = pd.DataFrame({"problem_id": rng.integers(0, 50, n), "sample_id": rng.permutation(n)})
    frame["sample_id"] *= 2**30
    frame["correct"] = rng.random(n) < 0.5
    frame["answer"] = [f"a long answer that takes its room, number {i}" for i in range(n)]
    frame.to_parquet(tmp_path / "r.parquet")
    monkeypatch.setattr(_rows, "MEMORY", "100MB")
    assert counts(tmp_path / "r.parquet")["mode_counts"].map(len).sum() == n


def test_counts_refuses_a_correct_rollout_without_answer():
    frame = table(answer=["x", "y", None])
    refuses("'answer', row 2", counts, frame)
    assert counts(frame, modes=False)["n_correct"].tolist() == [1, 1]


def test_counts_by_other_columns():
    frame = table(step=[0, 1, 0])
    out = counts(frame, by=("step",))[["step", "problem_id", "n_samples"]]
    assert out.to_numpy().tolist() == [[0, "a", 1], [0, "b", 1], [1, "a", 1]]
    refuses("no column 'checkpoint' to group by", counts, frame, by=("checkpoint",))
    refuses("holds no rollouts", counts, frame[:0])


SPELLINGS = ["16", "16.0", "é", ""]
ANSWERS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("pq"), st.sampled_from(SPELLINGS)),
    min_size=1,
    max_size=30,
)


@given(ANSWERS)
@settings(max_examples=30, deadline=None)
def test_ids_name_the_answers(rows):
    """Counted alone, in a call of its own, an answer has the same id as among others."""
    frame = pd.DataFrame(rows, columns=["run", "problem_id", "answer"]).assign(correct=True)
    alone = {
        a: counts(frame[frame["answer"] == a])["correct_mode_ids"] for a in set(frame["answer"])
    }
    ids = {answer: cells.iloc[0].item() for answer, cells in alone.items()}
    assert len(set(ids.values())) == len(ids)
    for row in counts(frame).to_dict("records"):
        mine = frame[(frame["run"] == row["run"]) & (frame["problem_id"] == row["problem_id"])]
        expected = {ids[answer]: n for answer, n in mine["answer"].value_counts().items()}
        cells = (row["correct_mode_ids"].tolist(), row["correct_mode_counts"].tolist())
        assert dict(zip(*cells, strict=True)) == expected
        assert cells[1] == sorted(cells[1], reverse=True)


def families(**columns):
    table = {"run": list("aabb"), "problem_id": list("xyxy"), "correct": True}
    return pd.DataFrame({**table, "sample_id": 0, "answer": "1", **columns})


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv", None])
@pytest.mark.parametrize("name", ["cluster", "template"])
def test_clusters(ending, name, tmp_path):
    table = families(**{name: [1, 2, 1, 2]})
    source = table
    if ending is not None:
        source = tmp_path / f"r.{ending}"
        table.to_csv(source, index=False) if ending == "csv" else write(table, source)
    study = Study(source, cluster=None if name == "cluster" else name)
    assert study.counts()["cluster"].tolist() == ["1", "2", "1", "2"]
    assert study.counts(["run", "split"], modes=False)["cluster"].tolist() == ["1", "2", "1", "2"]
    assert study.rows()["cluster"].tolist() == ["1", "2", "1", "2"]
    if name == "cluster":
        assert counts(source)["cluster"].tolist() == ["1", "2", "1", "2"]
    else:
        assert "cluster" not in counts(source)


def test_clusters_of_some_files_are_not_used(tmp_path):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    table = families(cluster=list("mnmn"))
    table[:2].to_parquet(files[0])
    table[2:].drop(columns="cluster").to_parquet(files[1])
    assert "cluster" not in Study(files).counts()
    refuses(
        "b.parquet: no column 'cluster' to take the clusters",
        Study(files, cluster="cluster").counts,
    )


@pytest.mark.parametrize("ending", ["parquet", "jsonl", None])
@pytest.mark.parametrize("name", ["template", "split", "answer", "problem_id"])
def test_the_column_that_holds_the_clusters_stays(ending, name, tmp_path):
    """It may be one that the table knows, and give way to none of its own name."""
    table = families(split="id", text="t", template=list("mnmn"), cluster=list("uvuv"))
    source = table if ending is None else tmp_path / f"r.{ending}"
    if ending is not None:
        write(table, source)
    study = Study(source, cluster=name)
    counted = study.counts()
    assert counted["cluster"].tolist() == table[name].tolist()
    assert counted.drop(columns="cluster").equals(counts(table).drop(columns="cluster"))
    assert set(study.rows()) == set(table)
    rows = study.rows([name])
    assert set(rows) == {"run", "split", "problem_id", "sample_id", "correct", "cluster", name}
    for found in (rows, study.some(["x", "y"], ["text", name])):
        assert found["cluster"].tolist() == found[name].tolist() == table[name].tolist()
    if name != "answer":
        by = study.counts(["run", name] if name != "problem_id" else ["run"], modes=False)
        assert by["cluster"].tolist() == table[name].tolist()


two = families(cluster=list("mnmm"))
test_bad_clusters = refusals(
    (lambda: counts(two), "problem 'y' is in the clusters 'm' and 'n'; a problem"),
    (lambda: validate_rollouts(two), "'y' is in the clusters 'm' and 'n'; a problem"),
    (lambda: Study(two, cluster="run").counts(), "'x' is in the clusters 'a' and 'b'"),
    (lambda: counts(families(cluster=["m", None, "m", "n"])), "column 'cluster', row 1"),
    (lambda: Study(two, cluster="none").counts(), "rollouts: no column 'none'"),
)
