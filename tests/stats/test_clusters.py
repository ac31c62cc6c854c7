"""Families of problems on their way from the rollouts to the intervals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from passk_lab.metrics.registry import METRICS
from passk_lab.rollouts.counting import as_counts, counts
from passk_lab.rollouts.study import Study
from passk_lab.stats._estimates import mean_table, pair_table
from passk_lab.stats.compare import compare_runs
from passk_lab.stats.curves import metric_curve
from passk_lab.stats.diversity import diversity_summary
from passk_lab.stats.metric_table import metric_table
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.resampling import Resampling
from tests.helpers import refuses
from tests.stats import tables

FEW = {"n_resamples": 400, "random_state": 0}
HOW = Resampling(**FEW)
BY = ("run", "split")
NAMES = [
    {"g_pass_at_k": "g_pass_at_k:0.5", "cover_at_tau": "cover_at_tau:0.5"}.get(name, name)
    for name, metric in METRICS.items()
    if metric.needs not in ("pair", "embeddings") and name != "compression_zstd"
]


def family(names):
    """Six problems a family."""
    return [f"f{int(name[1:]) // 6}" for name in names]


@pytest.fixture(scope="module")
def table():
    """Two runs on 24 problems, as hard as their family is."""
    rates = np.repeat([0.1, 0.9, 0.3, 0.7], 6)
    found = tables.rollouts({"base": rates, "rl": rates**0.5}, n=6)
    more = {"n_tokens": 3, "token_entropy": 0.5, "logprob": -1.0 - np.arange(len(found)) % 7}
    text = "the answer is " + found["answer"] + " of " + found["problem_id"]
    return found.assign(text=text, cluster=family(found["problem_id"]), **more)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_has_the_families(table, name):
    if name == "rouge_l":
        pytest.importorskip("rapidfuzz")
    for values in problem_values(table, name):
        assert list(values.clusters) == family(values.problem_id)
        assert values.n_problems == 4
        shuffled = values.take(np.arange(len(values.problem_id))[::-2])
        assert list(shuffled.clusters) == family(shuffled.problem_id)
    for values in problem_values(table.drop(columns="cluster"), name):
        assert values.clusters is None


@pytest.mark.parametrize("name", ["pass_at_k", "distinct_at_k", "best_of_k", "entropy_rate"])
def test_shared_problems_keep_their_families(table, name):
    base, other = problem_values(table, name)
    for part in base.take(np.arange(20)).shared(other.take(np.arange(23, 3, -1))):
        assert len(part.problem_id) == 16
        assert list(part.clusters) == family(part.problem_id)


def test_counted_tables_keep_the_families(table):
    counted = as_counts(counts(table))
    assert counted["cluster"].tolist() == family(counted["problem_id"])
    (base, _) = problem_values(counted, "pass_at_k")
    assert list(base.clusters) == family(base.problem_id)


def copies(table, n=6):
    """Each problem n times, under other names, as one family."""
    parts = [
        table.assign(problem_id=table["problem_id"] + f"-{i}", cluster=table["problem_id"])
        for i in range(n)
    ]
    return pd.concat(parts, ignore_index=True)


METRICS_OF_MANY = ["pass_at_k", "distinct_at_k", "max_at_k", "effective_answers", "entropy_rate"]


@pytest.mark.parametrize("interval", ["mean", "pair"])
@pytest.mark.parametrize("name", METRICS_OF_MANY)
def test_copies_of_a_problem_tell_nothing_new(table, name, interval):
    """The oracle: a table where each problem stands once."""
    once = table.drop(columns="cluster")
    many = problem_values(copies(once), name)
    found, expected = many, problem_values(once, name)
    ends = ["low", "high"]
    if interval == "mean":
        ours, theirs = (mean_table(part, BY, "k", HOW)[ends] for part in (found, expected))
        loose = mean_table([replace(part, clusters=None) for part in many], BY, "k", HOW)[ends]
    else:
        ours, theirs = (pair_table(*part, HOW) for part in (found, expected))
        loose = pair_table(*(replace(part, clusters=None) for part in many), HOW)
    for end in ends:
        expected = pytest.approx(np.asarray(theirs[end]), abs=1e-9, nan_ok=True)
        assert np.asarray(ours[end]) == expected
    wide, narrow = (np.nanmax(found["high"] - found["low"]) for found in (ours, loose))
    assert narrow < wide


def test_tables_resample_families_whole(table):
    """As on one problem a family; without families, intervals are narrower."""
    once = table.drop(columns="cluster")
    many = copies(once)

    def tables_of(rows):
        yield metric_table(rows, ["pass_at_k", "max_at_k", "support_kept"], "base", k=2, **FEW)
        yield metric_curve(rows, "distinct_at_k", **FEW)
        yield diversity_summary(rows.drop(columns="text"), "base", **FEW)

    loose = many.drop(columns="cluster")
    for alone, whole, apart in zip(*map(tables_of, (once, many, loose)), strict=True):
        for end in ("low", "high"):
            assert whole[end].to_numpy() == pytest.approx(alone[end].to_numpy(), nan_ok=True)
        assert (apart["high"] - apart["low"]).max() < (whole["high"] - whole["low"]).max()


def test_comparisons_resample_families_whole(table):
    with_families, without = (
        compare_runs(rows, "base", k=[1, 2], **FEW).differences
        for rows in (table, table.drop(columns="cluster"))
    )
    assert (with_families["difference"] == without["difference"]).all()
    widths = [found["high"] - found["low"] for found in (with_families, without)]
    assert (widths[0] != widths[1]).all()


def test_seeds_keep_families_and_problems_in_files_of_any_order(table, tmp_path):
    """The problems of one seed come in another order than those of the other."""
    seeds = pd.concat(
        [
            table[table["run"] == run].assign(run="rl", seed=seed, sample_id=np.arange(144) % 6)
            for seed, run in enumerate(("base", "rl"))
        ]
    )
    late = seeds["problem_id"] >= "p012"
    first = (seeds["seed"] == 0) == late
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, part in zip(files, (seeds[first], seeds[~first]), strict=True):
        part.to_parquet(path)
    (whole,) = problem_values(seeds, "pass_at_k", 1, over_seeds=True)
    (parts,) = problem_values(Study(files), "pass_at_k", 1, over_seeds=True)
    assert list(parts.clusters) == family(parts.problem_id)
    assert list(parts.problem_id) != list(whole.problem_id)
    parts, whole = parts.shared(whole)
    np.testing.assert_array_equal(parts.values, whole.values)


@pytest.mark.parametrize("name", NAMES)
def test_two_families_of_a_problem_are_refused(table, name):
    odd = table.assign(cluster=table["cluster"].where(table.index != len(table) - 1, "other"))
    refuses("problem 'p023' is in the clusters 'f3' and 'other'", problem_values, odd, name)
