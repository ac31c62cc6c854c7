import numpy as np
import pandas as pd
import pytest

from passk_lab import counts, pass_at_k, write_rollouts
from passk_lab.metrics import METRICS
from passk_lab.metrics.functional import two_modes_at_k
from passk_lab.metrics.passk import best_of_k, maj_at_k, max_at_k
from passk_lab.rollouts.counting import as_counts
from passk_lab.stats.curves import distinct_at_k_curve, metric_curve, pass_at_k_curve
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.values import default_ks
from tests.helpers import refusals, refuses
from tests.stats.tables import rollouts


def simulate(runs=("base", "rl"), unequal=False):
    n = 16 + (np.arange(12) % 3 if unequal else 0)
    return rollouts({run: np.linspace(0.05, 0.95, 12) for run in runs}, n)


# Every registered metric of answers, counts and scores, with a setting where it takes one.
CURVES = [
    name + (":0.5" if metric.option else "")
    for name, metric in METRICS.items()
    if metric.needs not in ("texts", "tokens", "embeddings", "logprobs", "pair")
    and metric.of_means is None
]


def test_default_ks():
    assert default_ks(1) == [1]
    assert default_ks(64) == [1, 2, 4, 8, 16, 32, 64]
    assert default_ks(100) == [1, 2, 4, 8, 16, 32, 64, 100]


@pytest.mark.slow
@pytest.mark.parametrize("unequal", [False, True])
def test_curve_is_the_mean_over_problems(unequal, tmp_path):
    table = simulate(unequal=unequal)
    write_rollouts(table, tmp_path / "r.parquet")
    for source in (table, tmp_path / "r.parquet", counts(table)):
        out = pass_at_k_curve(source, random_state=0)
        assert " ".join(out.columns) == "run split k estimate low high n_problems"
        assert (out["n_problems"] == 12).all()
        assert (out["low"] <= out["estimate"]).all()
        assert (out["estimate"] <= out["high"]).all()
        for row in out.itertuples():
            mine = table[table["run"] == row.run].groupby("problem_id")["correct"]
            values = pass_at_k(mine.size().to_numpy(), mine.sum().to_numpy(), row.k)
            assert row.estimate == pytest.approx(values.mean(), rel=1e-12)


def test_pooling_would_be_wrong():
    """Averages go over problems: a problem with more samples has no more weight."""
    table = pd.DataFrame({"problem_id": ["a"] * 8 + ["b"] * 2, "correct": [True] * 8 + [False] * 2})
    assert pass_at_k_curve(table, 1)["estimate"].item() == 0.5


@pytest.mark.slow
def test_order_of_rows_does_not_matter():
    table = simulate().assign(sample_id=lambda t: t.groupby(["run", "problem_id"]).cumcount())
    shuffled = table.sample(frac=1, random_state=1)
    for metric in CURVES:
        one, two = (
            metric_curve(rows, metric, n_resamples=200, random_state=0)
            for rows in (table, shuffled)
        )
        pd.testing.assert_frame_equal(one, two)


def value_of(metric, mine, k):
    """The metric of one problem, straight from its array function."""
    n, c = len(mine), int(mine["correct"].sum())
    modes = mine.groupby("answer")["correct"].agg(["size", "first"])
    right = modes["size"][modes["first"]]
    special = {
        "distinct_at_k": lambda: sum(pass_at_k(n, int(m), k) for m in right),
        "distinct_answers_at_k": lambda: sum(pass_at_k(n, int(m), k) for m in modes["size"]),
        "maj_at_k": lambda: maj_at_k(modes["size"], modes["first"], k),
        "best_of_k": lambda: best_of_k(mine["score"], mine["correct"], k),
        "max_at_k": lambda: max_at_k(mine["score"], k),
        "two_modes_at_k": lambda: two_modes_at_k(right, k, n_samples=n),
    }
    if metric in special:
        return special[metric]()
    name, _, setting = metric.partition(":")
    function = METRICS[name]
    options = {function.option: float(setting)} if setting else {}
    if function.needs == "correct":
        enough = right.sum() >= function.least
        return function(right, **options) if enough else np.nan
    return function(n, c, k, **options) if function.at_k else function(n, c, **options)


@pytest.mark.slow
@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("metric", CURVES)
def test_every_metric_matches_its_array_function(metric, unequal):
    table = simulate(runs=("base",), unequal=unequal)
    ks = [1, 3, 8]
    (group,) = problem_values(table, metric, ks)
    for problem, values in zip(group.problem_id, group.values[0], strict=True):
        mine = table[table["problem_id"] == problem]
        expected = [value_of(metric, mine, k) for k in ks][: len(group.columns)]
        np.testing.assert_allclose(values, expected, atol=1e-12)


@pytest.mark.slow
def test_intervals_by_name():
    table = simulate(runs=("base",))
    wide = {}
    for interval in ("bootstrap", "nested", "analytic", "bayes"):
        out = pass_at_k_curve(table, [1, 4], interval=interval, n_resamples=500, random_state=0)
        assert (out["low"] < out["high"]).all()
        wide[interval] = (out["high"] - out["low"]).to_numpy()
    # For exactly these problems the interval is narrower than for problems like these.
    assert (wide["analytic"] < wide["bootstrap"]).all()
    assert (wide["bayes"] < wide["bootstrap"]).all()


def test_by_other_columns():
    table = simulate(runs=("base",)).assign(step=lambda t: t.groupby("problem_id").cumcount() % 2)
    out = pass_at_k_curve(table, 2, by=("run", "step"), random_state=0)
    assert out[["run", "step", "k"]].to_numpy().tolist() == [["base", 0, 2], ["base", 1, 2]]


@pytest.mark.slow
def test_distinct_counts_correct_answers_by_default():
    table = simulate(runs=("base",))
    some = distinct_at_k_curve(table, 16, random_state=0)["estimate"].item()
    everything = distinct_at_k_curve(table, 16, correct_only=False)["estimate"].item()
    grouped = table.groupby("problem_id")
    assert everything == pytest.approx(grouped["answer"].nunique().mean())
    right = table[table["correct"]].groupby("problem_id")["answer"].nunique()
    assert some == pytest.approx(right.sum() / 12)


def test_bayes_extends_beyond_n():
    table = simulate(runs=("base",))
    out = metric_curve(table, "bayes_pass_at_k", [16, 1000], random_state=0)
    assert out["estimate"].is_monotonic_increasing


TABLE = simulate()
test_bad_input_is_refused = refusals(
    (lambda: pass_at_k_curve(TABLE, 17), "k=17 exceeds the 16 samples of problem 'p000'"),
    (lambda: pass_at_k_curve(TABLE, 0), "k=0 must be at least 1"),
    (lambda: pass_at_k_curve(TABLE, []), "non-empty"),
    (lambda: pass_at_k_curve(TABLE, interval="exact"), "none of"),
    (lambda: pass_at_k_curve(TABLE.drop(columns="correct")), "'correct' is missing"),
    (lambda: pass_at_k_curve(counts(TABLE), by=("run", "seed")), "'seed' is missing"),
    (lambda: metric_curve(TABLE, "distinct_at_k", interval="analytic"), "for distinct_at_k"),
    (lambda: metric_curve(TABLE, "pass_hat_k", interval="bayes"), "not defined for pass_hat_k"),
    (lambda: metric_curve(TABLE, "pass@k"), "'pass@k' is unknown; there are always_"),
    (lambda: metric_curve(TABLE, "g_pass_at_k"), "g_pass_at_k:0.5"),
    (lambda: metric_curve(TABLE, "pass_at_k:0.5"), "pass_at_k has no setting"),
    (lambda: metric_curve(TABLE, "g_pass_at_k:half"), "'half' is no number"),
    (lambda: metric_curve(TABLE.drop(columns="answer"), "maj_at_k"), "'answer' is missing"),
    (lambda: metric_curve(TABLE.drop(columns="score"), "max_at_k"), "'score' is missing"),
    (lambda: metric_curve(TABLE.assign(score=np.nan), "max_at_k"), "'score', row 0"),
    (lambda: as_counts(counts(TABLE), by=("split",)), "occurs twice"),
    (lambda: as_counts(counts(TABLE, modes=False), modes=True), "'mode_counts' is missing"),
    (lambda: default_ks(0), "at least 1"),
)


def test_majority_needs_one_verdict_an_answer():
    table = pd.DataFrame(
        {"problem_id": list("aaa"), "correct": [True, False, False], "answer": ["x", "x", "y"]}
    )
    table = pd.concat([table, table.assign(correct=[True, True, False])], ignore_index=True)
    refuses("marked correct in one rollout", metric_curve, table, "maj_at_k", 2)


INTERVALS = ["auto", "korn-graubard", "bootstrap", "nested", "analytic", "bayes"]


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("right", [0, 3, 4])
def test_no_interval_is_certain(interval, right):
    """All, none or the same number of each problem's samples are correct; pass@4 is 0 or 1."""
    correct = [j < right for j in range(4)] * 12
    table = pd.DataFrame({"problem_id": np.repeat(range(12), 4), "correct": correct})
    found = pass_at_k_curve(table, [1, 4], interval=interval, n_resamples=200, random_state=0)
    assert (found["high"] - found["low"] > 0.001).all()
    assert (found["low"] >= 0).all()
    assert (found["high"] <= 1).all()
    if interval != "bayes":  # about the prior's side of the estimate
        assert (found["low"] <= found["estimate"] + 1e-12).all()
        assert (found["estimate"] <= found["high"] + 1e-12).all()
