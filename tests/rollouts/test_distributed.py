"""Counting on Dask gives the very table that counting in memory gives."""

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

pytestmark = pytest.mark.slow  # clusters

dask = pytest.importorskip("distributed")

from passk_lab import distinct_at_k_curve, pass_at_k_curve  # noqa: E402
from passk_lab.rollouts import distributed as module  # noqa: E402
from passk_lab.rollouts.counting import counts  # noqa: E402
from passk_lab.rollouts.distributed import summarise  # noqa: E402
from passk_lab.rollouts.files import write_rollouts  # noqa: E402
from passk_lab.stats.compare import compare_runs  # noqa: E402
from passk_lab.stats.curves import metric_curve  # noqa: E402
from tests.helpers import refuses  # noqa: E402


@pytest.fixture(scope="module")
def client():
    with dask.Client(processes=False, dashboard_address=":0", n_workers=2) as made:
        yield made


@pytest.fixture
def small(monkeypatch):
    """Shares and branches so small that there are several."""
    monkeypatch.setattr(module, "_SHARE_ROWS", 40)
    monkeypatch.setattr(module, "_FAN_IN", 2)


def rollouts(seed, n_problems=9, n_samples=8, runs=("base", "rl")):
    """Unequal numbers of samples; some wrong ones have no answer."""
    rng = np.random.default_rng(seed)
    rows = [
        (run, f"p{problem}", sample, rng.random() < 0.5, str(rng.integers(3)))
        for run, problem in product(runs, range(n_problems))
        for sample in range(rng.integers(2, n_samples + 1))
    ]
    table = pd.DataFrame(rows, columns=["run", "problem_id", "sample_id", "correct", "answer"])
    table.loc[~table["correct"] & (rng.random(len(table)) < 0.3), "answer"] = None
    return table


def scattered(table, folder, n_files, seed=0, row_group_size=5):
    """Rows in any order over some files."""
    table = table.sample(frac=1, random_state=seed)
    for place, part in enumerate(np.array_split(np.arange(len(table)), n_files)):
        arrow = pa.Table.from_pandas(table.iloc[part], preserve_index=False)
        folder.mkdir(exist_ok=True)
        pq.write_table(arrow, folder / f"part-{place}.parquet", row_group_size=row_group_size)
    return folder


@pytest.mark.parametrize("seed", range(2))
def test_counts_are_those_in_memory(seed, client, small, tmp_path):
    table = rollouts(seed)
    folder = scattered(table, tmp_path / "all", n_files=3, seed=seed)
    assert_frame_equal(summarise(folder, client), counts(table))
    without = summarise(folder / "part-*.parquet", client, modes=False)
    assert_frame_equal(without, counts(table, modes=False))


def test_every_column_can_tell_runs_apart(client, small, tmp_path):
    rng = np.random.default_rng(0)
    table = rollouts(1, n_problems=5).assign(temperature=1.0)
    table["seed"] = pd.array(rng.choice([0, 1, None], len(table)), dtype="Int64")
    table.loc[::3, "temperature"] = 0.5
    table["step"] = rng.integers(0, 2, len(table))
    table["note"] = rng.choice(["x", "y", None], len(table))
    folder = scattered(table, tmp_path / "all", n_files=2)
    for by in (["run"], ["run", "seed"], ["temperature", "step"], ["split", "note"]):
        assert_frame_equal(summarise(folder, client, by=by), counts(table, by=by))


def test_metrics_take_it(client, small, tmp_path):
    table = rollouts(2)
    counted = summarise(scattered(table, tmp_path / "all", 3), client)
    for call in (
        pass_at_k_curve,
        partial(pass_at_k_curve, interval="nested", n_resamples=50),
        distinct_at_k_curve,
        partial(metric_curve, metric="pass_hat_k", k=[1, 2]),
    ):
        assert_frame_equal(call(counted, random_state=0), call(table, random_state=0))
    found, expected = (compare_runs(t, "base", random_state=0) for t in (counted, table))
    assert_frame_equal(found.differences, expected.differences)
    assert_frame_equal(found.crossings, expected.crossings)


def test_folders_that_name_columns(client, tmp_path):
    table = rollouts(3)
    table["seed"] = 5
    for run, part in table.groupby("run"):
        folder = tmp_path / "x=1" / "all" / f"run={run}" / "seed=5"
        folder.mkdir(parents=True)
        part.drop(columns=["run", "seed"]).to_parquet(folder / "data.parquet")
    root = tmp_path / "x=1" / "all"  # what lies above isn't part of the table
    for source in (root, root / "*" / "*" / "*.parquet"):
        by = ["run", "split", "seed"]
        assert_frame_equal(summarise(source, client, by=by), counts(table, by=by))
        refuses("no column 'x' to group by", summarise, source, client, by=["x"])


def test_families_and_ids(client, small, tmp_path):
    table = rollouts(3)
    table["cluster"] = "f" + table["problem_id"].str[1:].astype(int).mod(3).astype(str)
    counted = counts(table)
    found = summarise(scattered(table, tmp_path / "good", 5), client)
    assert_frame_equal(found, counted)
    assert {"cluster", "correct_mode_ids"} <= set(found)
    assert_frame_equal(found.drop(columns="cluster"), counts(table.drop(columns="cluster")))
    table.loc[table.index[-1], "cluster"] = "other"
    folder = scattered(table, tmp_path / "bad", 5)
    refuses("problem 'p8' is in the clusters 'f2' and 'other'", summarise, folder, client)


def test_other_clusters(client, small, tmp_path):
    table = rollouts(5).drop(columns=["sample_id", "run"])
    folder = scattered(table, tmp_path / "all", 2)
    # By the scheduler's address, and one that is started for the call, with processes of its own.
    for cluster in (client.scheduler.address, None):
        assert_frame_equal(summarise(folder, cluster), counts(table))


def test_rollouts_that_occur_twice(client, small, tmp_path):
    table = rollouts(6)
    again = table.iloc[[11]]
    folder = scattered(pd.concat([table, again]), tmp_path / "all", 3)
    row = again.iloc[0]
    message = "occurs twice .*run='{run}', .*problem_id='{problem_id}', sample_id={sample_id}"
    refuses(message.format(**row), summarise, folder, client)
    # The same sample in another run, or of another seed, is another rollout.
    other = pd.concat([table.assign(seed=0), again.assign(seed=1)])
    folder = scattered(other, tmp_path / "other", 3)
    assert_frame_equal(summarise(folder, client), counts(other))


def test_ids_far_apart(client, small, tmp_path):
    table = pd.DataFrame({"problem_id": "a", "sample_id": [2**62, 0, 5, 4, 7], "correct": True})
    folder = scattered(table, tmp_path / "all", 2)
    assert summarise(folder, client)["n_samples"].tolist() == [5]


def test_refusals(client, tmp_path):
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    refuses("no parquet file", summarise, tmp_path, client)
    table = rollouts(7)
    write_rollouts(table, a)
    refuses("client is a int", summarise, tmp_path, 3)
    refuses("no column 'colour' to group by", summarise, tmp_path, client, by=["colour"])
    write_rollouts(table.drop(columns="answer"), b)
    refuses("has other columns than", summarise, tmp_path, client)
    refuses("column 'answer' is missing", summarise, b, client, modes=True)
    table.loc[table["correct"].idxmax(), "answer"] = None
    write_rollouts(table, b)
    refuses("has no answer, so its mode is unknown", summarise, b, client)
    table.assign(correct=2).to_parquet(b)
    refuses(r"b\.parquet.*'correct', row 0: .* neither true nor", summarise, b, client)
    b.write_bytes(a.read_bytes()[:-40])
    refuses("not a readable parquet file", summarise, tmp_path, client)
    pq.write_table(pa.Table.from_pandas(table[:0]), b)
    refuses("holds no rollouts", summarise, b, client)
