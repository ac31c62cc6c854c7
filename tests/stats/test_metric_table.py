import numpy as np
import pandas as pd
import pytest

from passk_lab import compare_runs, metric_table
from passk_lab.metrics import METRICS, metric, sharpening_tax, support_change
from passk_lab.metrics.passk import pass_at_k
from passk_lab.stats.curves import metric_curve
from passk_lab.stats.resampling import Resampling

N, P = 8, 30


@pytest.fixture(scope="module")
def rollouts():
    rng = np.random.default_rng(0)
    parts = []
    for run, shift in (("tuned", 0.1), ("base", 0.0), ("other", -0.1)):
        p = np.clip(rng.beta(0.4, 0.6, P) + shift, 0, 1)
        correct = rng.random((P, N)) < p[:, None]
        answer = np.where(correct, rng.integers(0, 3, (P, N)), rng.integers(3, 6, (P, N)))
        table = pd.DataFrame(
            {
                "run": run,
                "problem_id": np.repeat([f"p{i:02d}" for i in range(P)], N),
                "correct": correct.ravel(),
                "answer": answer.ravel().astype(str),
                "score": rng.random(P * N),
                "text": [" ".join(map(str, rng.integers(0, 9, 5))) for _ in range(P * N)],
                "logprob": -rng.exponential(3.0, P * N),
                "token_entropy": rng.random(P * N),
                "n_tokens": 5,
            }
        )
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def counts_of(rollouts):
    found = rollouts.pivot_table("correct", "problem_id", "run", aggfunc="sum")
    return {run: found[run].to_numpy() for run in found}


@pytest.mark.slow
def test_every_metric_is_reached_by_its_name(rollouts):
    pytest.importorskip("rapidfuzz")
    names = [
        name + (":0.5" if m.option else "")
        for name, m in METRICS.items()
        if m.needs != "embeddings" and name != "compression_zstd"
    ]
    table = metric_table(rollouts, names, "base", n_resamples=50, random_state=0)
    assert set(table["metric"]) == set(names)
    assert list(dict.fromkeys(table["run"])) == ["base", "other", "tuned"]
    pairs = table["metric"].map(lambda name: METRICS[name.partition(":")[0]].needs == "pair")
    assert (table.loc[pairs, "run"] != "base").all()
    compared = table[~pairs & (table["run"] != "base")]
    assert compared["difference"].notna().mean() > 0.95
    assert (compared["n_paired"] > 0).all()
    assert table.loc[table["run"] == "base", "difference"].isna().all()


@pytest.mark.slow
def test_estimates_and_differences_are_those_of_curves_and_comparisons(rollouts):
    names = ["pass_at_k", "distinct_at_k", "g_pass_at_k:0.5", "max_at_k"]
    table = metric_table(rollouts, names, "base", random_state=0).set_index(["metric", "run", "k"])
    for name in names:
        curve = metric_curve(rollouts, name, [1, N], random_state=0).set_index(["run", "k"])
        gaps = compare_runs(rollouts, "base", [1, N], name, random_state=0).differences
        for columns, other in (
            (["estimate", "low", "high"], curve[["estimate", "low", "high"]]),
            (
                ["difference", "difference_low", "difference_high"],
                gaps.set_index(["run", "k"])[["difference", "low", "high"]],
            ),
        ):
            mine = table.loc[name].loc[other.index, columns]
            np.testing.assert_allclose(mine.to_numpy(), other.to_numpy(), atol=1e-12)


@pytest.mark.slow
def test_support_is_that_of_its_function_in_every_replicate(rollouts):
    names = ["support_kept", "support_gained", "support_score"]
    table = metric_table(rollouts, names, "base", random_state=3)
    correct = counts_of(rollouts)
    how = Resampling(random_state=3)
    solved = [correct[run] > 0 for run in ("base", "tuned")]
    drawn = support_change(*solved, how.draws(P))
    for name, point, replicates in zip(names, support_change(*solved), drawn, strict=True):
        row = table[(table["metric"] == name) & (table["run"] == "tuned")].iloc[0]
        low, high = how.percentiles(np.asarray(replicates)[:, None], P)
        assert row["k"] == N
        assert row["estimate"] == pytest.approx(point, abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]), abs=1e-12)


@pytest.mark.slow
def test_scaled_tax_is_a_ratio_of_means(rollouts):
    table = metric_table(rollouts, ["scaled_sharpening_tax"], "base", k=[1, 4], random_state=0)
    correct = counts_of(rollouts)
    rows = table.set_index(["run", "k"])
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
def test_a_metric_of_ones_own(rollouts):
    @metric("counts")
    def laplace(n_samples, n_correct):
        """Accuracy with one success and one failure added."""
        return (n_correct + 1) / (n_samples + 2)

    @metric("texts", better="lower")
    def mean_length(texts):
        """Characters of a text."""
        return sum(map(len, texts)) / len(texts)

    try:
        table = metric_table(rollouts, ["laplace", "mean_length"], "base", random_state=0)
    finally:
        del METRICS["laplace"], METRICS["mean_length"]
    row = table[(table["run"] == "tuned") & (table["metric"] == "laplace")].iloc[0]
    assert row["estimate"] == pytest.approx(np.mean((counts_of(rollouts)["tuned"] + 1) / (N + 2)))
    lengths = table.loc[table["metric"] == "mean_length", "estimate"]
    assert lengths.tolist() == [9, 9, 9]


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
def test_bad_input_is_refused(rollouts, metrics, options, message):
    with pytest.raises(ValueError, match=message):
        metric_table(rollouts, metrics, **options)


def test_a_taken_name_and_an_unknown_need_are_refused():
    with pytest.raises(ValueError, match="'pass_at_k' is registered already"):
        metric("counts", "pass_at_k")(lambda n_samples, n_correct: n_correct)
    with pytest.raises(ValueError, match="needs='rows' is none of counts"):
        metric("rows")
