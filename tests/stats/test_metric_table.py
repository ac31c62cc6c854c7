import numpy as np
import pandas as pd
import pytest

from passk_lab import compare_runs, metric_table
from passk_lab.metrics import METRICS, metric, sharpening_tax, support_change
from passk_lab.metrics.passk import pass_at_k
from passk_lab.stats.curves import metric_curve
from passk_lab.stats.resampling import Resampling
from tests.helpers import refuses
from tests.stats.tables import rollouts

N, P = 8, 30


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    shifts = {"tuned": 0.1, "base": 0.0, "other": -0.1}
    rates = {run: np.clip(rng.beta(0.4, 0.6, P) + shift, 0, 1) for run, shift in shifts.items()}
    size = len(rates) * P * N
    return rollouts(
        rates, N, n_tokens=5, token_entropy=rng.random(size), logprob=-rng.exponential(3.0, size),
        text=[" ".join(map(str, words)) for words in rng.integers(0, 9, (size, 5))],
    )  # fmt: skip


def counts_of(table):
    found = table.pivot_table("correct", "problem_id", "run", aggfunc="sum")
    return {run: found[run].to_numpy() for run in found}


@pytest.mark.slow
def test_every_metric_is_reached_by_its_name(table):
    pytest.importorskip("rapidfuzz")
    names = [
        name + (":0.5" if m.option else "")
        for name, m in METRICS.items()
        if m.needs != "embeddings" and name != "compression_zstd"
    ]
    found = metric_table(table, names, "base", n_resamples=50, random_state=0)
    assert set(found["metric"]) == set(names)
    assert list(dict.fromkeys(found["run"])) == ["base", "other", "tuned"]
    pairs = found["metric"].map(lambda name: METRICS[name.partition(":")[0]].needs == "pair")
    assert (found.loc[pairs, "run"] != "base").all()
    compared = found[~pairs & (found["run"] != "base")]
    assert compared["difference"].notna().mean() > 0.95
    assert (compared["n_paired"] > 0).all()
    assert found.loc[found["run"] == "base", "difference"].isna().all()


@pytest.mark.slow
def test_estimates_and_differences_are_those_of_curves_and_comparisons(table):
    names = ["pass_at_k", "distinct_at_k", "g_pass_at_k:0.5", "max_at_k"]
    found = metric_table(table, names, "base", random_state=0).set_index(["metric", "run", "k"])
    for name in names:
        curve = metric_curve(table, name, [1, N], random_state=0).set_index(["run", "k"])
        gaps = compare_runs(table, "base", [1, N], name, random_state=0).differences
        for columns, other in (
            (["estimate", "low", "high"], curve[["estimate", "low", "high"]]),
            (
                ["difference", "difference_low", "difference_high"],
                gaps.set_index(["run", "k"])[["difference", "low", "high"]],
            ),
        ):
            mine = found.loc[name].loc[other.index, columns]
            np.testing.assert_allclose(mine.to_numpy(), other.to_numpy(), atol=1e-12)


@pytest.mark.slow
def test_support_is_that_of_its_function_in_every_replicate(table):
    names = ["support_kept", "support_gained", "support_score"]
    found = metric_table(table, names, "base", random_state=3)
    correct = counts_of(table)
    how = Resampling(random_state=3)
    solved = [correct[run] > 0 for run in ("base", "tuned")]
    drawn = support_change(*solved, how.draws(P))
    for name, point, replicates in zip(names, support_change(*solved), drawn, strict=True):
        row = found[(found["metric"] == name) & (found["run"] == "tuned")].iloc[0]
        low, high = how.percentiles(np.asarray(replicates)[:, None], P)
        assert row["k"] == N
        assert row["estimate"] == pytest.approx(point, abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]), abs=1e-12)


@pytest.mark.slow
def test_scaled_tax_is_a_ratio_of_means(table):
    found = metric_table(table, ["scaled_sharpening_tax"], "base", k=[1, 4], random_state=0)
    correct = counts_of(table)
    rows = found.set_index(["run", "k"])
    means = {
        run: sharpening_tax(N, c, 4).mean() / (3 * (1 - pass_at_k(N, c, 1).mean()))
        for run, c in correct.items()
    }
    for run, value in means.items():
        assert rows.loc[(run, 4), "estimate"] == pytest.approx(value)
        assert np.isnan(rows.loc[(run, 1), "estimate"])
    assert rows.loc[("tuned", 4), "difference"] == pytest.approx(means["tuned"] - means["base"])
    assert rows.loc[("tuned", 4), "low"] < means["tuned"] < rows.loc[("tuned", 4), "high"]


@pytest.mark.slow
def test_a_metric_of_ones_own(table):
    @metric("texts", better="lower")
    def mean_length(texts):
        """Characters of a text."""
        return sum(map(len, texts)) / len(texts)

    try:
        found = metric_table(table, ["mean_length"], "base", random_state=0)
    finally:
        del METRICS["mean_length"]
    assert found["estimate"].tolist() == [9, 9, 9]


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        (["pass@k"], {}, "'pass@k' is unknown"),
        (["support_kept"], {}, "compares runs with a baseline"),
        (["pass_at_k"], {"baseline": "best"}, "'best' is none of the runs: base, other, tuned"),
        (["cover_at_tau"], {}, "needs tau: cover_at_tau:0.5"),
        (["pass_at_k"], {"k": 9}, "k=9 exceeds the 8 samples"),
        (["vendi"], {}, "needs an embedder"),
    ],
)
def test_bad_input_is_refused(table, metrics, options, message):
    refuses(message, metric_table, table, metrics, **options)


def test_a_taken_name_and_an_unknown_need_are_refused():
    taken = metric("counts", "pass_at_k")
    refuses("'pass_at_k' is registered already", taken, lambda n_samples, n_correct: n_correct)
    refuses("needs='rows' is none of counts", metric, "rows")


@pytest.mark.slow
def test_seeds_are_resampled_and_averaged(table):
    rng = np.random.default_rng(1)
    parts = [table.assign(seed=seed, correct=rng.permutation(table["correct"])) for seed in (0, 1)]
    both = pd.concat([table.assign(seed=2), *parts], ignore_index=True)
    names = ["pass_at_k", "hill_1_corrected", "support_kept", "max_at_k", "distinct_1"]
    columns = ["run", "metric", "k"]
    found = metric_table(both, names, "base", over_seeds=True, n_resamples=300, random_state=0)
    apart = pd.concat(
        metric_table(part, names, "base", n_resamples=10, random_state=0)
        for _, part in both.groupby("seed")
    ).groupby(columns)["estimate"]
    single = found.set_index(columns)
    for name in ("pass_at_k", "max_at_k", "distinct_1"):
        rows = single.xs(name, level="metric", drop_level=False)
        np.testing.assert_allclose(rows["estimate"], apart.mean()[rows.index])
    pooled = metric_table(both, names, "base", n_resamples=300, random_state=0)
    wide, narrow = (
        (t.loc[t["metric"] == "pass_at_k", "high"] - t.loc[t["metric"] == "pass_at_k", "low"])
        for t in (found, pooled)
    )
    assert (wide.to_numpy()[::2] > narrow.to_numpy()[::2]).all()
    assert found["estimate"].notna().all()
