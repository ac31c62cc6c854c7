import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import optimize

from passk_lab.teacher.count_slopes import (
    COUNT_ESTIMATORS,
    _Likelihood,
    _read_counts,
    count_slope,
    count_slope_table,
    paired_counts,
)
from passk_lab.teacher.optimum import rl_optimum, self_distillation_optimum
from passk_lab.teacher.slopes import gap_slope, paired_logprobs, slope_table
from tests.helpers import refusals, refuses


def exact_modes(slope=1.7, n_problems=12, seed=0, noise=0.0):
    """Problems with 1 to 6 correct modes; the first has 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for problem in range(n_problems):
        n = 1 if problem == 0 else rng.integers(2, 7)
        before = np.log(rng.dirichlet(np.ones(n + 1)))[:n]
        raised = slope * before + noise * rng.normal(size=n)
        after = raised - np.log(np.exp(raised).sum()) + np.log(0.9)
        rows += [(f"p{problem}", f"m{i}", before[i], after[i]) for i in range(n)]
    return pd.DataFrame(rows, columns=["problem_id", "answer", "logprob_before", "logprob_after"])


def value(table, comparison, quantity="slope", estimator=None):
    rows = table[(table["comparison"] == comparison) & (table["quantity"] == quantity)]
    if estimator:
        rows = rows[rows["estimator"] == estimator]
    (row,) = rows.to_dict("records")
    return row


def test_slope_of_a_power_is_its_exponent():
    modes = exact_modes(1.7)
    table = slope_table(modes, n_resamples=300, random_state=0)
    trained = value(table, "trained")
    assert trained["estimate"] == pytest.approx(1.7, abs=1e-12)
    assert trained["low"] == pytest.approx(1.7) == trained["high"]
    assert (trained["n_problems"], trained["n_left_out"]) == (11, 1)
    assert trained["n_modes"] == len(modes) - 1
    for control in ("null", "ideal_rl"):
        assert value(table, control)["estimate"] == pytest.approx(1, abs=1e-12)
        assert value(table, control, "kl")["estimate"] == pytest.approx(0, abs=1e-12)
    kl = value(table, "trained", "kl")
    assert kl["n_problems"] == 12
    assert 0 < kl["low"] < kl["estimate"] < kl["high"]
    before = value(table, "trained", "effective_before")["estimate"]
    after = value(table, "trained", "effective_after")["estimate"]
    assert after < before == value(table, "null", "effective_after")["estimate"]


def test_slope_equals_a_regression_with_dummies():
    modes = exact_modes(1.3, noise=0.4)
    x, y = modes["logprob_before"].to_numpy(), modes["logprob_after"].to_numpy()
    design = np.column_stack([x, pd.get_dummies(modes["problem_id"]).to_numpy(float)])
    expected = np.linalg.lstsq(design, y, rcond=None)[0][0]
    assert gap_slope(x, y, modes["problem_id"]) == pytest.approx(expected, abs=1e-10)
    table = slope_table(modes, n_resamples=10, random_state=0)
    assert value(table, "trained")["estimate"] == pytest.approx(expected, abs=1e-10)


def test_ideal_rl_keeps_ratios_and_self_distillation_is_as_predicted():
    base = np.array([0.30, 0.18, 0.12, 0.40])
    raised = base * np.exp(2 * np.eye(4)[:3])
    pcmi = np.log(raised / raised.sum(axis=1, keepdims=True) / base).T
    demos = base[:3] / 0.6
    tilt = pcmi @ demos
    distilled = self_distillation_optimum(base, pcmi, demos)
    modes = pd.DataFrame({"answer": list("abcd"), "correct": [True, True, True, False]})
    modes = modes.assign(problem_id="x", logprob_before=np.log(base), tilt=tilt)
    table = slope_table(modes.assign(logprob_after=np.log(distilled)))
    assert value(table, "trained")["estimate"] == pytest.approx(1.66, abs=0.005)
    for quantity in ("slope", "kl"):
        trained = value(table, "trained", quantity)["estimate"]
        predicted = value(table, "predicted", quantity)["estimate"]
        assert predicted == pytest.approx(trained, abs=1e-12)
    log_base = np.log(base[:3])
    assert gap_slope(log_base, log_base + tilt[:3], list("xxx")) == pytest.approx(1.6603, abs=1e-4)
    # A single problem has no interval.
    assert np.isnan(value(table, "trained")["low"])
    modes["logprob_after"] = np.log(rl_optimum(base, [1, 1, 1, 0], 0.3))
    assert value(slope_table(modes), "trained")["estimate"] == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_interval_covers_the_slope_over_problems():
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(100):
        modes = exact_modes(1.5, n_problems=30, seed=trial, noise=0.8)
        row = value(slope_table(modes, n_resamples=300, random_state=rng), "trained")
        hits += row["low"] <= 1.5 <= row["high"]
    assert 0.88 <= hits / 100 <= 0.99


@pytest.mark.slow
def test_seeds_are_averaged_and_widen_the_interval():
    one = exact_modes(1.5, n_problems=40, noise=0.2)
    other = exact_modes(1.9, n_problems=40, noise=0.2)
    both = pd.concat([one.assign(seed=3), other.assign(seed=8)], ignore_index=True)
    table = slope_table(both, n_resamples=2000, random_state=0)
    alone = [value(slope_table(m, n_resamples=2000, random_state=0), "trained")
             for m in (one, other)]  # fmt: skip
    found = value(table, "trained")
    # The base is the same, so that the slope over both seeds is the mean of theirs.
    assert found["estimate"] == pytest.approx(np.mean([a["estimate"] for a in alone]), abs=1e-12)
    assert found["n_problems"] == alone[0]["n_problems"]
    assert found["n_modes"] == sum(a["n_modes"] for a in alone)
    assert found["high"] - found["low"] > max(a["high"] - a["low"] for a in alone)
    assert value(table, "null")["low"] == pytest.approx(1) == value(table, "null")["high"]
    # Without differences between seeds, the problems alone set the width.
    twice = pd.concat([one.assign(seed=0), one.assign(seed=1)], ignore_index=True)
    same = value(slope_table(twice, n_resamples=4000, random_state=0), "trained")
    assert same["high"] - same["low"] == pytest.approx(alone[0]["high"] - alone[0]["low"], rel=0.1)
    without = both[(both["seed"] == 3) | (both["problem_id"] != "p5")]
    refuses("seed 8 has no mode of problem 'p5'", slope_table, without)


def test_lost_modes_are_counted_and_give_no_nan():
    modes = exact_modes(1.2)
    modes.loc[1, "logprob_after"] = -np.inf
    table = slope_table(modes, n_resamples=50, random_state=0)
    trained = value(table, "trained")
    assert trained["n_lost"] == 1
    assert trained["estimate"] == pytest.approx(1.2)
    assert np.isfinite(value(table, "trained", "kl")["estimate"])
    # A problem all of whose modes were lost has no law among them.
    modes.loc[0, "logprob_after"] = -np.inf
    row = value(slope_table(modes, n_resamples=50, random_state=0), "trained", "kl")
    assert (row["n_problems"], row["n_left_out"]) == (11, 1)
    # A mode that the base couldn't give is infinitely far.
    modes = exact_modes(1.2)
    modes.loc[1, "logprob_before"] = -np.inf
    assert value(slope_table(modes), "trained", "kl")["estimate"] == np.inf


def test_equally_likely_modes_have_no_slope():
    third = np.log([1 / 3] * 3)
    assert np.isnan(gap_slope(third, np.log([0.5, 0.3, 0.2]), list("aaa")))
    modes = pd.DataFrame({"problem_id": "a", "logprob_before": third, "logprob_after": third})
    assert value(slope_table(modes), "trained")["n_left_out"] == 1
    assert np.isnan(count_slope([5, 5], [3, 1], ["a", "a"]))


def counts(slope, n_samples, seed, n_problems=40, n_modes=8):
    """All answers correct, as in the simulation of the theory notes."""
    rng = np.random.default_rng(seed)
    rows = []
    for problem in range(n_problems):
        p = rng.dirichlet(np.ones(n_modes))
        after = p**slope / np.sum(p**slope)
        drawn = [rng.multinomial(n_samples, law) for law in (p, after, p)]
        rows += [(f"p{problem}", f"m{i}", *row) for i, row in enumerate(zip(*drawn, strict=True))]
    return pd.DataFrame(rows, columns=["problem_id", "answer", "before", "after", "null"])


@pytest.mark.parametrize("slope", [0.6, 1.0, 2.0])
def test_likelihood_finds_what_a_numerical_maximum_finds(slope):
    table = counts(slope, 30, seed=1, n_problems=9)

    def loss(lam):
        total = 0.0
        for _, part in table.groupby("problem_id"):
            p = (part["before"] + 0.5) / (part["before"] + 0.5).sum()
            total -= np.sum(part["after"] * np.log(p**lam / np.sum(p**lam)))
        return total

    best = optimize.minimize_scalar(loss, bounds=(0, 5), method="bounded", options={"xatol": 1e-9})
    ours = count_slope(table["before"], table["after"], table["problem_id"])
    assert ours == pytest.approx(best.x, abs=1e-6)


def test_bootstrap_equals_refitting_resampled_problems():
    table = counts(1.5, 40, seed=2, n_problems=5)
    n, m, code = _read_counts(table["before"], table["after"], table["problem_id"])
    weights = np.array([[2.0, 0, 1, 0, 2], [1, 1, 1, 1, 1], [0, 5, 0, 0, 0]])
    found = _Likelihood(n, m, code).maximum(weights)
    for row, lam in zip(weights, found, strict=True):
        again = pd.concat(
            table[table["problem_id"] == f"p{i}"].assign(problem_id=f"{i}.{copy}")
            for i, times in enumerate(row.astype(int))
            for copy in range(times)
        )
        refitted = count_slope(again["before"], again["after"], again["problem_id"])
        assert lam == pytest.approx(refitted, abs=1e-9)


@pytest.mark.slow
def test_likelihood_is_least_biased():
    """The order of the estimators in the theory notes, at 64 samples a side."""
    found = {name: [] for name in COUNT_ESTIMATORS}
    for seed in range(12):
        table = count_slope_table(counts(2.0, 64, seed), n_resamples=2, random_state=seed)
        for name in COUNT_ESTIMATORS:
            found[name].append(value(table, "trained", estimator=name)["estimate"])
    bias = {name: abs(np.mean(values) - 2) for name, values in found.items()}
    assert bias["multinomial"] < 0.3
    assert bias["multinomial"] < min(bias[name] for name in COUNT_ESTIMATORS[1:])
    assert np.mean(found["ols_plus_half"]) < 1.6


@pytest.mark.slow
@pytest.mark.parametrize("second_sample", [True, False])
def test_controls_on_counts(second_sample):
    table = counts(2.0, 256, seed=4)
    if not second_sample:
        table = table.drop(columns="null")
    result = count_slope_table(table, n_resamples=200, random_state=0)
    trained = value(result, "trained", estimator="multinomial")
    assert trained["low"] < 2.05
    assert trained["low"] > 1.6
    for control in ("null", "ideal_rl"):
        row = value(result, control, estimator="multinomial")
        assert row["estimate"] == pytest.approx(1, abs=0.08)
        assert row["n_problems"] == 40
        assert value(result, control, "kl")["estimate"] < (0.05 if second_sample else 0.08)
    # KL of the normalised square from Dirichlet(1, ..., 1) over 8 modes: 0.136 on average.
    assert value(result, "trained", "kl")["estimate"] == pytest.approx(0.136, abs=0.03)
    before, after = (
        value(result, "trained", f"effective_{when}")["estimate"] for when in ("before", "after")
    )
    assert after < before - 1
    assert result.equals(count_slope_table(table, n_resamples=200, random_state=0))


def test_problems_without_slope_are_counted_in_counts():
    table = pd.DataFrame({"problem_id": list("aabcd"), "answer": ["x", "y", "x", None, "x"]})
    table = table.assign(before=[9, 3, 5, 0, 4], after=[10, 1, 7, 0, 0])
    result = count_slope_table(table, n_resamples=20, random_state=0)
    row = value(result, "trained", estimator="multinomial")
    assert (row["n_problems"], row["n_left_out"], row["n_modes"]) == (1, 3, 2)
    kl = value(result, "trained", "kl")
    assert (kl["n_problems"], kl["n_left_out"]) == (2, 2)


def test_extreme_counts_have_an_infinite_slope():
    assert count_slope([8, 2], [10, 0], ["a", "a"]) == np.inf
    assert count_slope([8, 2], [0, 10], ["a", "a"]) == -np.inf
    table = pd.DataFrame({"problem_id": list("aabb"), "answer": list("xyxy")})
    table = table.assign(before=[8, 2] * 2, after=[10, 0, 9, 0])
    row = value(count_slope_table(table, ["multinomial"], n_resamples=20), "trained")
    assert row["estimate"] == row["low"] == row["high"] == np.inf


@pytest.mark.slow
@settings(max_examples=25, phases=[Phase.generate], database=None)
@given(
    st.lists(st.tuples(*map(st.integers, (0, 0, 0), (30, 30, 3))), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_any_counts(rows, seed):
    before, after, problem = (np.array(column) for column in zip(*rows, strict=True))
    ours = count_slope(before, after, problem)
    order = np.random.default_rng(seed).permutation(len(rows))
    again = count_slope(before[order], after[order], problem[order])
    assert (np.isnan(ours) and np.isnan(again)) or ours == pytest.approx(again, abs=1e-8)
    table = pd.DataFrame(
        {"problem_id": problem, "answer": np.arange(len(rows)), "before": before, "after": after}
    )
    result = count_slope_table(table, n_resamples=5, random_state=0)
    assert (result["n_problems"] + result["n_left_out"] == len(set(problem.tolist()))).all()


def test_counts_from_rollouts():
    before = pd.DataFrame({"problem_id": list("aaabb"), "answer": ["x", "y", "w", None, "w"]})
    before["correct"] = [True, True, False, False, False]
    after = before.assign(answer=["x", "z", "w", "w", "w"])
    table = paired_counts(before, after)
    assert table["problem_id"].tolist() == list("aaab")
    assert table[["before", "after"]].values.tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    assert table["answer"].isna().tolist() == [False, False, False, True]
    of_a = after[after["problem_id"] == "a"]
    for pair, message in (
        ((before, of_a), "problem 'b' is in one table only"),
        ((before.assign(answer=None), after), "'answer', row 0: a correct rollout has no answer"),
        ((before.drop(columns="answer"), after), "column 'answer' is missing"),
    ):
        refuses(message, paired_counts, *pair)


def test_logprobs_side_by_side():
    before = pd.DataFrame(
        {"problem_id": list("baa"), "answer": list("xyx"), "logprob": [-1.0, -2.0, -3.0]}
    )
    after = before.iloc[::-1].assign(logprob=[-0.3, -0.2, -0.1])
    both = paired_logprobs(before, after)
    assert both["logprob_before"].tolist() == [-1, -2, -3]
    assert both["logprob_after"].tolist() == [-0.1, -0.2, -0.3]
    twice = pd.concat([before, before])
    for pair, message in (
        ((before, after.iloc[:2]), "answer 'x' of problem 'b' is in 'before' only"),
        ((twice, after), "before: row 3: answer 'x' of problem 'b' occurs twice"),
        ((before, after.drop(columns="logprob")), "column 'logprob' is missing"),
    ):
        refuses(message, paired_logprobs, *pair)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logprob_after": 0.5}, "column 'logprob_after', row 0: 0.5 is no log-probability"),
        ({"logprob_before": np.nan}, "column 'logprob_before', row 0: nan"),
        ({"logprob_null": 1.0}, "column 'logprob_null', row 0"),
        ({"tilt": np.inf}, "column 'tilt', row 0: inf is no tilt"),
        ({"answer": "x"}, "row 3: answer 'x' of problem 'p1' occurs twice|row 2"),
        ({"correct": False}, "no correct mode"),
        ({"logprob_before": -np.inf}, "gives none of the modes of problem"),
        ({"problem_id": None}, "missing"),
    ],
)
def test_bad_modes_are_refused(change, message):
    modes = exact_modes(n_problems=3).assign(**change)
    if change.get("problem_id", 1) is None:
        modes["answer"] = np.arange(len(modes)).astype(str)
    refuses(message, slope_table, modes)


test_bad_input_is_refused = refusals(
    (lambda: slope_table(pd.DataFrame({"problem_id": ["a"]})), "'logprob_before' is missing"),
    (lambda: gap_slope([-1.0], [-1.0, -2.0], ["a"]), "log_after 2"),
    (lambda: gap_slope([-1.0], [-1.0], ["a", "b"]), "problem has shape"),
    (lambda: gap_slope([[-1.0]], [-1.0], ["a"]), "must have shape"),
    (lambda: gap_slope([-1.0], [np.nan], ["a"]), r"log_after\[0\] is nan"),
    (lambda: count_slope([1, -1], [1, 1], ["a", "a"]), r"before\[1\] is -1"),
    (lambda: count_slope([1, 1], [1], ["a", "a"]), "but after 1"),
    (lambda: count_slope([], [], []), "must have shape"),
    (lambda: count_slope([1, 0.5], [1, 1], ["a", "a"]), "before"),
    (lambda: count_slope_table(counts(1, 5, 0), ["ols"]), "estimator='ols' is none of"),
    (lambda: count_slope_table(counts(1, 5, 0).assign(answer="x")), "occurs twice"),
)
