import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from passk_lab.metrics.passk import pass_at_k
from passk_lab.stats import judge, plan
from passk_lab.stats.power import _needed, _power
from tests.helpers import refusals, refuses


def counted(n, **correct):
    return pd.concat(
        pd.DataFrame({"run": run, "problem_id": range(len(c)), "n_samples": n, "n_correct": c})
        for run, c in correct.items()
    ).assign(split="id")


def test_without_noise_and_spread_it_is_the_textbook():
    """A change of one size in problems of one difficulty: the t-test's own sample size."""
    p, n = 0.5, 10
    table = plan(counted(n, base=[5] * 40), 0.1, n_samples=[n], spread=0.0).table
    variance = (p * (1 - p) + 0.6 * 0.4) / n
    assert table["share_problems"].item() == pytest.approx(0, abs=1e-9)
    size = table["problems"].item()
    noncentral = stats.nct(size - 1, 0.1 * np.sqrt(size / variance))
    limit = stats.t.isf(0.0125, size - 1)  # 0.05, two-sided, shared by pass@1 and pass@n
    assert noncentral.sf(limit) == pytest.approx(0.8, abs=0.02)
    assert _power(variance, 0.1, 0.025, size) == pytest.approx(noncentral.sf(limit))


@pytest.mark.parametrize("change", [0.02, -0.1])
def test_needed_and_power_are_inverse(change):
    size = _needed(0.3, change, 0.02, 0.9)
    assert _power(0.3, change, 0.02, size) == pytest.approx(0.9, abs=0.01)
    assert _power(0.3, change, 0.02, 4 * size) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "n", "change", "law", "spread"),
    [(1, 8, 0.05, (0.5, 1), 0.5), (1, 64, 0.05, (3, 0.9), 1.0), (16, 32, -0.06, (0.5, 1), 0.5)],
)
def test_the_verdict_has_the_planned_power(k, n, change, law, spread):
    """Simulated at the planned number of problems; 150 rounds are uncertain by 0.065.

    The plan shares the error rate by Bonferroni, the verdict gives away less: up to 0.1 more power.
    """
    size = plan(law, change, f"pass@{k}", n_samples=[n], spread=spread).table["problems"].item()
    rng = np.random.default_rng(0)
    many, extra = rng.beta(*law, 200_000), rng.normal(0, spread, 200_000)

    def moved(p, extra, shift):
        return special.expit(special.logit(np.clip(p, 1e-12, 1 - 1e-12)) + extra + shift)

    def gap(shift):
        return ((1 - many) ** k - (1 - moved(many, extra, shift)) ** k).mean() - change

    shift = optimize.brentq(gap, -9, 9)
    seen = 0
    for i in range(150):
        p = rng.beta(*law, size)
        after = moved(p, rng.normal(0, spread, size), shift)
        both = counted(n, base=rng.binomial(n, p), tuned=rng.binomial(n, after))
        (found,) = judge(both, "base", [1, k] if k > 1 else [1, n], random_state=i)
        word = found.reach if k > 1 else found.first_try
        seen += (
            word
            == ({1: "better", -1: "worse"} if k == 1 else {1: "wider", -1: "narrower"})[
                np.sign(change)
            ]
        )
    assert 0.8 - 3 * 0.033 <= seen / 150 <= 0.9 + 3 * 0.03


def test_the_pilots_own_noise_is_no_difficulty():
    """One sample of twenty equal problems a problem looks like 0 or 1; the fit sees through it."""
    rng = np.random.default_rng(0)
    c = rng.binomial(4, 0.3, 2_000)
    found = plan(counted(4, base=c), 0.05, n_samples=[4, 400]).table["problems"]
    alike = plan((300.0, 700.0), 0.05, n_samples=[4, 400]).table["problems"]
    np.testing.assert_allclose(found, alike, rtol=0.06)


def test_distinct_answers():
    """Noise of the rarefaction estimate by an independent simulation; problems all alike."""
    table = counted(16, base=[12] * 30).assign(
        correct_mode_counts=[np.array([6, 4, 2])] * 30, mode_counts=[np.array([6, 4, 4, 2])] * 30,
        correct_mode_ids=[np.array([3, 4, 5])] * 30,
    )  # fmt: skip
    found = plan(table, -0.2, "distinct@8", n_samples=[16])
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(16, [6 / 16, 4 / 16, 2 / 16, 4 / 16], 40_000)[:, :-1]
    noise = pass_at_k(16, drawn, 8).sum(axis=1).var()
    row = found.table.iloc[0]
    assert row["share_problems"] == pytest.approx(0, abs=1e-9)
    # Both runs are about as noisy, the sharper one a little more.
    size = _needed(2 * noise, 0.2, 0.05 / 3, 0.8)
    assert size * 0.95 <= row["problems"] <= size * 1.5
    assert "problems are needed" in found.sentence


PILOT = counted(4, a=[1, 2], b=[1, 2])
test_bad_input = refusals(
    (lambda: plan((1, 1), 0.0), "change=0.0"),
    (lambda: plan((1, 1), 0.9), r"change by between -0.500 and \+0.500 only"),
    (lambda: plan((1, 0), 0.1), "must be positive"),
    (lambda: plan((1, 1), 0.1, "maj@4"), "neither pass@K nor distinct@K"),
    (lambda: plan((1, 1), 0.1, "pass@0"), "neither pass@K nor distinct@K"),
    (lambda: plan((1, 1), 0.1, "distinct@4"), "need a pilot"),
    (lambda: plan((1, 1), 0.1, "pass@8", n_samples=[4]), "at least k=8"),
    (lambda: plan((1, 1), 0.1, power=1), "power=1"),
    (lambda: plan(PILOT, 0.1), r"several runs \(a, b\)"),
    (lambda: plan(counted(4, a=[1]), 0.1), "one problem"),
    (lambda: plan(counted(1, a=[1, 0]), 0.1), "one sample a problem"),
)


def test_no_room_for_distinct_answers():
    table = counted(4, base=[4] * 9).assign(
        correct_mode_counts=[np.array([4])] * 9, mode_counts=[np.array([4])] * 9
    )
    refuses("distinct@4 can change by", plan, table, -0.5, "distinct@4")
