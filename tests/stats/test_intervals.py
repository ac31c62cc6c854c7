import numpy as np
import pytest
from scipy import stats

from passk_lab import pass_at_k
from passk_lab.metrics.passk import bayes_pass_at_k, pass_hat_k
from passk_lab.stats.intervals import (
    analytic_interval,
    bayes_interval,
    bootstrap_mean,
    format_estimate,
    nested_bootstrap,
)
from passk_lab.stats.resampling import Resampling
from tests.helpers import refusals


@pytest.mark.parametrize("other", [[2.0, 3.0], [0.0, 1.0]])
def test_replicates_have_the_bootstrap_law(other):
    """Against all 4^4 resamples of four problems, some of them alike, two columns kept together."""
    values = np.array([[0.0, 1.0], [0.5, -1.0], [0.5, -1.0], other])
    grids = np.stack(np.meshgrid(*[range(4)] * 4), axis=-1).reshape(-1, 4)
    every = values[grids].mean(axis=1)
    drawn = Resampling(40_000, random_state=0).replicates(values)
    np.testing.assert_allclose(drawn.mean(axis=0), every.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(every.T, bias=True), atol=0.03)
    for q in (0.05, 0.5, 0.95):
        # Mid-distribution values, so that a difference of rounding in a tie does not matter.
        point = np.quantile(every[:, 0], q) + 1e-9
        share = (every[:, 0] <= point).mean()
        assert (drawn[:, 0] <= point).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.slow
def test_equal_problems_are_interchangeable():
    values = np.repeat([[0.1], [0.7]], [300, 100], axis=0)
    spread = Resampling(20_000, random_state=0).replicates(values).std()
    assert spread == pytest.approx(values.std() / np.sqrt(400), rel=0.03)


def test_blocks_do_not_change_the_law(monkeypatch):
    different = np.random.default_rng(0).random((50, 2))
    for values in (different, np.repeat(different[:2], 40, axis=0)):
        whole = Resampling(500, random_state=3).replicates(values)
        monkeypatch.setattr("passk_lab.stats.resampling._BLOCK", 1000)
        np.testing.assert_allclose(Resampling(500, random_state=3).replicates(values), whole)
        monkeypatch.undo()


def test_seed_decides():
    values = np.random.default_rng(0).random(30)
    assert bootstrap_mean(values, random_state=1) == bootstrap_mean(values, random_state=1)
    assert bootstrap_mean(values, random_state=1) != bootstrap_mean(values, random_state=2)


def test_percentiles_widen_for_few_problems():
    draws = np.random.default_rng(0).normal(size=(100_000, 1))
    plain = np.ptp(Resampling().percentiles(draws))
    assert plain == pytest.approx(2 * 1.96, abs=0.05)
    for n in (5, 20):
        wide = np.ptp(Resampling().percentiles(draws, n))
        expected = 2 * stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1))
        assert wide == pytest.approx(expected, rel=0.05)


def test_analytic_variance_is_that_of_the_estimator():
    """At k = 1 the estimator is a binomial share, whose variance is known."""
    n, c = 50, 20
    low, high = analytic_interval([n], [c], 1)
    p = (c + 0.5) / (n + 1)
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(p * (1 - p) / n), rel=1e-6)
    # And for other k against simulation, for three problems at once.
    n, p, k = np.array([12, 30, 30]), np.array([0.2, 0.5, 0.1]), 5
    c = np.array([2, 15, 3])
    low, high = analytic_interval(n, c, k)
    draws = np.random.default_rng(0).binomial(n, (c + 0.5) / (n + 1), (200_000, 3))
    spread = pass_at_k(n, draws, k).mean(axis=1).std()
    assert (high - low) / 2 == pytest.approx(1.959964 * spread, rel=0.01)


def test_bayes_interval_is_the_posterior():
    low, high = bayes_interval([20], [7], 1, prior=(0.5, 0.5))
    posterior = stats.beta(7.5, 13.5)
    assert (low, high) == pytest.approx(posterior.ppf([0.025, 0.975]), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("n_problems", "tolerance"), [(2, 0.04), (30, 0.003)])
def test_bayes_interval_has_the_posterior_moments(n_problems, tolerance):
    """Against draws: the moments always, the quantiles the better the more problems."""
    n, k = np.tile([20, 8], n_problems // 2), 4
    c = np.tile([7, 0], n_problems // 2)
    draws = 1 - (1 - np.random.default_rng(0).beta(1 + c, 1 + n - c, (200_000, len(n)))) ** k
    mean = draws.mean(axis=1)
    assert bayes_pass_at_k(n, c, k).mean() == pytest.approx(mean.mean(), abs=2e-3)
    low, high = bayes_interval(n, c, k, prior=(1, 1))
    concentration = mean.mean() * (1 - mean.mean()) / mean.var() - 1
    matched = stats.beta(mean.mean() * concentration, (1 - mean.mean()) * concentration)
    assert (low, high) == pytest.approx(tuple(matched.ppf([0.025, 0.975])), abs=2e-3)
    assert (low, high) == pytest.approx(tuple(np.quantile(mean, [0.025, 0.975])), abs=tolerance)


@pytest.mark.parametrize("k", [1, 64, 1000])
def test_bayes_interval_of_large_n_is_finite(k):
    for prior in ((1, 1), "fitted"):
        low, high = bayes_interval([1000] * 5, [0, 1, 500, 999, 1000], k, prior)
        assert 0 < low < high <= 1


@pytest.mark.parametrize("c", [[0, 0, 0], [20, 20, 20], [0, 20, 20], [7, 7, 7], [7]])
def test_bayes_interval_without_a_fitted_prior(c):
    """Counts that determine no prior (none, all, no spread) still give an honest interval."""
    low, high = bayes_interval([20] * len(c), c, 2)
    assert 0 <= low < high <= 1
    assert (low, high) == bayes_interval([20] * len(c), c, 2, prior=(0.5, 0.5))


def test_nested_bootstrap_is_centred_and_wider():
    rng = np.random.default_rng(0)
    n = np.full(60, 8)
    c = rng.binomial(8, rng.beta(1, 3, 60))
    ks = [1, 4, 8]
    low, high = nested_bootstrap(n, c, ks, n_resamples=4000, random_state=0)
    values = pass_at_k(n[:, None], c[:, None], ks)
    plain = bootstrap_mean(values, random_state=0)
    assert (high - low >= 0.98 * (plain[1] - plain[0])).all()
    np.testing.assert_allclose((low + high) / 2, values.mean(axis=0), atol=0.03)
    alone = nested_bootstrap(n, c, 4, statistic=pass_hat_k, n_resamples=500, random_state=0)
    assert np.shape(alone) == (2,)


test_bad_input_is_refused = refusals(
    (lambda: bootstrap_mean([]), "shape"),
    (lambda: bootstrap_mean([[0.1], [np.nan]]), r"values\[1, 0\] is nan"),
    (lambda: bootstrap_mean([0.1, 0.2], confidence=95), "confidence=95"),
    (lambda: bootstrap_mean([0.1, 0.2], n_resamples=0), "n_resamples=0"),
    (lambda: analytic_interval([[10]], [[1]], 1), "1-d"),
    (lambda: analytic_interval([10], [1], 1, confidence=0), "confidence"),
    (lambda: bayes_interval([10], [1], 1, confidence=1), "confidence"),
    (lambda: nested_bootstrap([10], [11], 1), "exceeds n_samples"),
    (lambda: analytic_interval([10], [11], 1), "exceeds n_samples"),
)


def plain(n, c, k, rng):
    return bootstrap_mean(pass_at_k(n, c, k), n_resamples=500, random_state=rng)


def nested(n, c, k, rng):
    return nested_bootstrap(n, c, k, n_resamples=200, random_state=rng)


def fitted(n, c, k, rng):
    return bayes_interval(n, c, k)


THESE = np.random.default_rng(1).beta(0.5, 1, 60)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 8])
@pytest.mark.parametrize(
    ("interval", "accuracies", "rounds", "least", "most"),
    [
        # Of the mean over the population; problems are drawn anew.
        (plain, lambda rng: rng.beta(0.5, 1, 20), 500, 0.92, 0.975),
        (plain, lambda rng: rng.beta(0.5, 1, 100), 500, 0.92, 0.975),
        (nested, lambda rng: rng.beta(0.5, 1, 20), 500, 0.93, 1.0),
        (nested, lambda rng: rng.beta(0.5, 1, 100), 500, 0.93, 1.0),
        # Of the mean over these problems; only their samples are drawn anew.
        (lambda n, c, k, _: analytic_interval(n, c, k), lambda _: THESE, 2000, 0.93, 0.985),
        # Accuracies come from the prior: then a credible interval covers with its own level.
        (
            lambda n, c, k, _: bayes_interval(n, c, k, prior=(1, 1)),
            lambda rng: rng.random(30),
            *(2000, 0.935, 0.965),
        ),
        (fitted, lambda rng: rng.beta(0.5, 1, 100), 500, 0.91, 0.98),
    ],
    ids=["plain-20", "plain-100", "nested-20", "nested-100", "analytic", "bayes", "fitted"],
)
def test_coverage(k, interval, accuracies, rounds, least, most):
    """How often 95 % intervals from 16 samples hold pass@k.

    In 500 rounds an interval that covers 0.88 fails 99 times of 100.
    """
    rng = np.random.default_rng(0)
    population = 1 - stats.beta(0.5, 1).expect(lambda p: (1 - p) ** k)
    inside = 0
    for _ in range(rounds):
        p = accuracies(rng)
        low, high = interval(np.full(len(p), 16), rng.binomial(16, p), k, rng)
        truth = population if interval in (plain, nested) else (1 - (1 - p) ** k).mean()
        inside += low <= truth <= high
    assert least <= inside / rounds <= most


@pytest.mark.parametrize(
    ("found", "options", "words"),
    [
        ((0.41, 0.39, 0.43), {}, "0.41 [0.39, 0.43]"),
        ((0.4, 0.0, 1), {"digits": 3}, "0.400 [0.000, 1.000]"),
        ((1234.5, -2, 7), {"digits": 0}, "1234 [-2, 7]"),
        ((0.1, -0.02, 0.3), {"signed": True}, "+0.10 [-0.02, +0.30]"),
        ((-0.001, -0.004, 0.2), {}, "0.00 [0.00, 0.20]"),
        ((0.4567, 0.4, 0.5), {"percent": True}, "46% [40%, 50%]"),
        ((0.4567, 0.4, 0.5), {"percent": True, "signed": True, "digits": 1},
         "+45.7% [+40.0%, +50.0%]"),
        ((np.nan, 0.4, 0.5), {}, "n/a"),
        ((0.41, np.nan, np.nan), {"percent": True}, "41% [n/a, n/a]"),
        ((2.5, -np.inf, np.inf), {"digits": 0}, "2 [-∞, ∞]"),
        ((2.5, 0, np.inf), {"signed": True}, "+2.50 [+0.00, +∞]"),
        (np.float32([0.5, 0.25, 0.75]), {}, "0.50 [0.25, 0.75]"),
    ],
)  # fmt: skip
def test_estimates_in_words(found, options, words):
    assert format_estimate(*found, **options) == words
