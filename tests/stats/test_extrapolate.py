from functools import partial

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import psi
from scipy.stats import beta as beta_distribution
from scipy.stats import betabinom, binom, chi2

from passk_lab.metrics.passk import pass_at_k
from passk_lab.rollouts.files import write_rollouts
from passk_lab.stats import _likelihood as lk
from passk_lab.stats import extrapolate as ex
from passk_lab.stats.betabinomial import BetaBinomial, fit_beta_binomial
from passk_lab.stats.extrapolate import extrapolate_pass_at_k, held_out_check
from tests.helpers import refusals, refuses

MODELS = ["beta-binomial", "zero-inflated", "zero-one-inflated"]


def log_pmf(c, n, fit):
    """Reference: scipy's beta-binomial with point masses."""
    beta = betabinom.logpmf(c, n, fit.alpha, fit.beta)
    with np.errstate(divide="ignore"):
        zero, one, rest = np.log([fit.p_zero, fit.p_one, 1 - fit.p_zero - fit.p_one])
    masses = np.where(c == 0, zero, -np.inf), np.where(c == n, one, -np.inf)
    return np.logaddexp.reduce([beta + rest, *masses])


def draw(rng, n, alpha, beta, p_zero=0.0, p_one=0.0):
    p = rng.beta(alpha, beta, len(n))
    kind = rng.random(len(n))
    p[kind < p_zero] = 0
    p[kind > 1 - p_one] = 1
    return rng.binomial(n, p)


def table(n, c, **columns):
    counted = {"problem_id": np.arange(len(c)), "n_samples": n, "n_correct": c}
    return pd.DataFrame({"run": "default", "split": "id", **counted, **columns})


modelled = partial(extrapolate_pass_at_k, model="beta-binomial", n_resamples=50, random_state=0)


def information(n, alpha, beta):
    """Expected Fisher information of (log α, log β) from one problem with n samples."""
    c = np.arange(n + 1)
    shared = psi(alpha + beta) - psi(alpha + beta + n)
    of_alpha = alpha * (psi(alpha + c) - psi(alpha) + shared)
    of_beta = beta * (psi(beta + n - c) - psi(beta) + shared)
    score = np.stack([of_alpha, of_beta])
    return (score * betabinom.pmf(c, n, alpha, beta)) @ score.T


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 1.0), (2.0, 5.0), (0.2, 0.1)])
def test_recovers_planted_parameters(alpha, beta):
    # Each squared error, weighed by the information, is chi-squared with 2 degrees of freedom.
    n = np.repeat([16, 64], 750)
    total = 750 * (information(16, alpha, beta) + information(64, alpha, beta))
    distance = 0.0
    for seed in range(20):
        fit = fit_beta_binomial(n, draw(np.random.default_rng(seed), n, alpha, beta))
        error = np.log([fit.alpha / alpha, fit.beta / beta])
        distance += error @ total @ error
    assert chi2.ppf(1e-4, 40) < distance < chi2.ppf(1 - 1e-4, 40)


def test_recovers_point_masses():
    # Half of 4000 problems in the beta part, hardly any of them with c = 0 or n by chance.
    rng = np.random.default_rng(0)
    n = np.full(4000, 50)
    fit = fit_beta_binomial(n, draw(rng, n, 4, 4, 0.3, 0.2), model="zero-one-inflated")
    for share, planted in ((fit.p_zero, 0.3), (fit.p_one, 0.2)):
        assert abs(share - planted) < 4 * np.sqrt(planted * (1 - planted) / 4000)
    assert abs(fit.mean - 0.5) < 4 * np.sqrt(0.25 / 9 / 2000 * (1 + 8 / 50))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sizes", [[12], [5, 12, 30], [700]])
def test_loglik_is_the_sum_of_log_probabilities(model, sizes):
    rng = np.random.default_rng(1)
    n = rng.choice(sizes, 300)
    c = draw(rng, n, 0.4, 0.9, 0.2, 0.1)
    weights = rng.random(300)
    fit = fit_beta_binomial(n, c, weights, model)
    assert fit.loglik == pytest.approx(weights @ log_pmf(c, n, fit), rel=1e-10)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sizes", [[12], [5, 12, 30], [700]])
def test_derivatives_by_finite_differences(model, sizes):
    rng = np.random.default_rng(2)
    n = rng.choice(sizes, 200)
    c = draw(rng, n, 0.4, 0.9, 0.2, 0.1)
    n, c, mult = lk.distinct_counts(n, c, np.ones(200))
    free = [True, True, *lk._MASSES[model]]
    likelihood = lk.Likelihood(n, c, np.stack([mult, rng.random(len(n))]), free)
    rows = np.arange(2)
    x = np.array([[-0.4, 0.3, 0.2, 0.1], [1.1, 0.04, 0.05, 0.3]]) * free
    _, gradient, hessian = likelihood(x, rows)
    for i, step in zip(np.flatnonzero(free), 1e-5 * np.eye(4)[free], strict=True):
        (above, g_above, _), (below, g_below, _) = (
            likelihood(x + step, rows),
            likelihood(x - step, rows),
        )
        scale = np.abs(gradient).max()
        np.testing.assert_allclose((above - below) / 2e-5, gradient[:, i], atol=1e-6 * scale)
        slope = ((g_above - g_below) / 2e-5)[:, free]
        np.testing.assert_allclose(slope, hessian[:, i, free], atol=1e-6 * np.abs(hessian).max())


@pytest.mark.parametrize("top", [5, 128, 129, 5000, 100_000])
def test_sums_over_samples_are_exact_by_interpolation(top):
    levels = np.unique(np.array([0, 1, top // 3, top - 1, top]))
    nodes, weights = lk.sum_below(levels)
    assert len(nodes) <= 128 + 20 * 10
    for power, centre in ((1, 0.7), (2, 0.01), (1, 40.0)):
        terms = 1 / (centre + np.arange(top, dtype=float)) ** power
        direct = [terms[:level].sum() for level in levels]
        np.testing.assert_allclose(weights @ (centre + nodes) ** -power, direct, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_no_general_optimiser_finds_better(model):
    rng = np.random.default_rng(3)
    free = lk._MASSES[model]

    def population(x):
        masses = np.exp(np.append(0, np.where(free, x[2:], -np.inf)))
        masses /= masses.sum()
        shape = np.exp(np.clip(x[:2], -8, 8))
        return BetaBinomial.from_shape(*shape, *masses[1:])

    for _ in range(12):
        size = rng.integers(5, 80)
        n = rng.integers(4, 20, size)
        c = draw(rng, n, *np.exp(rng.uniform(-3, 2, 2)), 0.2 * rng.integers(0, 3))
        c[:2] = [1, 2]
        fit = fit_beta_binomial(n, c, model=model)
        for _ in range(3):
            found = minimize(
                lambda x, n=n, c=c: -log_pmf(c, n, population(x)).sum(),
                rng.normal([0, 0, -1, -1], 1), method="Nelder-Mead", options={"maxiter": 1500},
            )  # fmt: skip
            assert fit.loglik >= -found.fun - 1e-7


@pytest.mark.slow
def test_fits_of_resamples_are_those_of_each_alone():
    rng = np.random.default_rng(4)
    n, c = np.array([6, 6, 6, 9, 9, 9, 9]), np.array([0, 2, 6, 0, 1, 5, 9])
    weights = rng.multinomial(20, np.full(7, 1 / 7), size=30).astype(float)
    weights[0] = [9, 0, 3, 4, 0, 0, 4]
    for model in MODELS:
        together, values = lk.fit_rows(n, c, weights, model)
        for row, w in enumerate(weights):
            alone = fit_beta_binomial(n, c, w, model)
            assert values[row] == pytest.approx(alone.loglik, abs=1e-8)
            assert together[row, 0] == pytest.approx(alone.mean, abs=1e-4)
    assert together[0, 1] == 1


pairs_of_counts = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
counts_lists = st.lists(pairs_of_counts, min_size=1, max_size=12).map(lambda all_: [*all_, (9, 4)])


@pytest.mark.slow
@settings(max_examples=60)
@given(counts_lists, st.data())
def test_weights_are_repeated_rows(pairs, data):
    n, c = np.array(pairs).T
    repeats = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(n), max_size=len(n))))
    weighted = fit_beta_binomial(n, c, repeats)
    repeated = fit_beta_binomial(np.repeat(n, repeats), np.repeat(c, repeats))
    assert weighted.loglik == pytest.approx(repeated.loglik, rel=1e-10)
    assert weighted.mean == pytest.approx(repeated.mean, rel=1e-6)
    assert weighted.limit == repeated.limit


@pytest.mark.slow
@settings(max_examples=60)
@given(counts_lists, st.floats(-3, 3), st.floats(-3, 3))
def test_fit_beats_any_parameters_and_more_parameters_never_fit_worse(pairs, log_a, log_b):
    n, c = np.array(pairs).T
    fits = [fit_beta_binomial(n, c, model=model) for model in MODELS]
    any_fit = BetaBinomial.from_shape(np.exp(log_a), np.exp(log_b))
    assert fits[0].loglik >= log_pmf(c, n, any_fit).sum() - 1e-9
    assert fits[1].loglik >= fits[0].loglik - 1e-7
    assert fits[2].loglik >= fits[1].loglik - 1e-7
    # Correct and wrong are symmetric.
    other = fit_beta_binomial(n, n - c)
    assert fits[0].loglik == pytest.approx(other.loglik, abs=1e-9)
    assert fits[0].mean == pytest.approx(1 - other.mean, abs=1e-6)


def test_counts_without_overdispersion_give_the_binomial():
    n, c = np.array([10, 10, 10, 20]), np.array([3, 3, 4, 6])
    fit = fit_beta_binomial(n, c)
    assert fit.limit == "binomial"
    assert fit.alpha == fit.beta == fit.concentration == np.inf
    assert fit.mean == pytest.approx(16 / 50)
    assert fit.loglik == pytest.approx(binom.logpmf(c, n, 16 / 50).sum())
    assert fit.pass_at_k([1, 7]) == pytest.approx([0.32, 1 - 0.68**7], rel=1e-8)
    assert fit.posterior_pass_at_k(10, 0, 7) == pytest.approx(1 - 0.68**7, rel=1e-8)


def test_a_concentration_just_short_of_infinite_is_its_limit():
    near, limit = BetaBinomial(0.2, 1e12), BetaBinomial(0.2, np.inf)
    assert near.pass_at_k(50) == pytest.approx(limit.pass_at_k(50), rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_two_point_limit(model):
    n, c = np.array([6, 6, 9, 9]), np.array([0, 6, 0, 0])
    fit = fit_beta_binomial(n, c, model=model)
    assert fit.limit == "two-point"
    assert (fit.mean, fit.alpha, fit.beta) == (0.25, 0.0, 0.0)
    assert fit.loglik == pytest.approx(np.log(0.25) + 3 * np.log(0.75))
    assert fit.pass_at_k([1, 10**6]).tolist() == [0.25, 0.25]
    assert fit.posterior_pass_at_k(6, [0, 6], 100).tolist() == [0, 1]
    # Nothing fits better: a beta distribution only gets there in the limit.
    near = [BetaBinomial(0.25, s) for s in (1e-1, 1e-3, 1e-6)]
    values = [log_pmf(c, n, population).sum() for population in near]
    assert values == sorted(values)
    assert values[-1] < fit.loglik < values[-1] + 1e-4


@pytest.mark.parametrize(("c", "mean"), [(0, 0.0), (8, 1.0)])
def test_all_wrong_or_all_correct(c, mean):
    fit = fit_beta_binomial([8] * 5, [c] * 5)
    assert (fit.mean, fit.loglik, fit.limit) == (mean, 0.0, "two-point")
    assert fit.pass_at_k(1000) == mean
    assert fit.posterior_pass_at_k(8, c, 1000) == mean


def test_impossible_counts_under_a_limit_are_named():
    two_points = BetaBinomial(0.5, 0)
    refuses("n_correct=1 of n_samples=8 can't", two_points.posterior_pass_at_k, 8, [0, 1], 5)


test_fit_refuses = refusals(
    (lambda: fit_beta_binomial([], []), "no problems"),
    (lambda: fit_beta_binomial([5], [6]), "problem 0: n_correct exceeds"),
    (lambda: fit_beta_binomial([5, 5], [1, -1]), "problem 1: n_correct must not be negative"),
    (lambda: fit_beta_binomial([5, 0], [1, 0]), "problem 1 has no samples"),
    (lambda: fit_beta_binomial([1, 1, 1], [0, 1, 1]), "at least 2 samples"),
    (lambda: fit_beta_binomial([5, 5], [1]), "shape"),
    (lambda: fit_beta_binomial([5.5, 5], [1, 2]), "whole"),
    *[
        (lambda weights=weights: fit_beta_binomial([5, 5], [1, 2], weights), "weights")
        for weights in ([1, -1], [1, np.nan], [0, 0], [1])
    ],
    (lambda: fit_beta_binomial([2, 2], [1, 2], model="zero-inflated"), "at least 3 samples"),
    (lambda: fit_beta_binomial([3, 3], [1, 2], model="zero-one-inflated"), "at least 4 samples"),
    (
        lambda: fit_beta_binomial([5, 5], [1, 2], model="normal"),
        "choose from beta-binomial, zero-inflated",
    ),
)


def test_a_fit_that_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr(lk, "_STEPS", 1)
    counts = table(8, [0, 1, 5], run="base")
    refuses(r"'base'.*did not converge", extrapolate_pass_at_k, counts, 16, error=RuntimeError)


@pytest.mark.parametrize(
    "values", [(1.5, 1), (np.nan, 1), (0.5, -1), (0.5, np.nan), (0.5, 1, 0.7, 0.4), (0.5, 1, -0.1)]
)
def test_population_refuses(values):
    refuses("mean|concentration|p_zero", BetaBinomial, *values)
    refuses("positive", BetaBinomial.from_shape, 0, 1)


def exact_pass(a, b, k):
    a, b = mpmath.mpf(a), mpmath.mpf(b)
    return 1 - mpmath.beta(a, b + int(k)) / mpmath.beta(a, b)


@pytest.mark.parametrize("alpha", [1e-6, 0.01, 0.3, 2.0, 50.0, 1e5])
@pytest.mark.parametrize("beta", [0.01, 0.7, 3.0, 400.0, 1e6])
def test_pass_at_k_against_mpmath(alpha, beta):
    population = BetaBinomial.from_shape(alpha, beta)
    ks = [1, 2, 3, 17, 100, 12345, 10**6, 10**9]
    with mpmath.workdps(60):
        # The parameters as the object holds them, so that only pass@k is on trial.
        exact = [float(exact_pass(population.alpha, population.beta, k)) for k in ks]
    np.testing.assert_allclose(population.pass_at_k(ks), exact, rtol=1e-10)


def test_pass_at_k_against_integration():
    for alpha, beta, k in ((0.5, 2.0, 10), (3.0, 1.5, 4), (1.0, 30.0, 200)):
        value = beta_distribution(alpha, beta).expect(lambda p, k=k: 1 - (1 - p) ** k)
        population = BetaBinomial.from_shape(alpha, beta)
        assert population.pass_at_k(k) == pytest.approx(value, 1e-8)


def test_pass_at_k_shapes_and_masses():
    population = BetaBinomial.from_shape(0.5, 2, 0.3, 0.1)
    beta = BetaBinomial.from_shape(0.5, 2)
    assert isinstance(population.pass_at_k(3), float)
    assert population.pass_at_k(1) == pytest.approx(0.1 + 0.6 * beta.mean)
    ks = np.array([[1, 2], [30, 400]])
    np.testing.assert_allclose(population.pass_at_k(ks), 0.1 + 0.6 * beta.pass_at_k(ks))
    assert population.pass_at_k([]).shape == (0,)
    assert population.pass_at_k(10**15) == pytest.approx(0.7, abs=1e-6)
    refuses("k=0", population.pass_at_k, [1, 0])


@pytest.mark.parametrize("masses", [(0, 0), (0.3, 0), (0.2, 0.4)])
def test_posterior_against_bayes_in_mpmath(masses):
    population = BetaBinomial.from_shape(0.4, 0.8, *masses)
    with mpmath.workdps(40):
        a, b = mpmath.mpf(population.alpha), mpmath.mpf(population.beta)
        share = (1 - mpmath.mpf(masses[0]) - masses[1]) / mpmath.beta(a, b)
        for n, c, k in ((8, 0, 5), (8, 3, 100), (8, 8, 2), (1, 0, 1), (0, 0, 7), (500, 0, 10**6)):
            zero, one = masses[0] * (c == 0), masses[1] * (c == n)
            middle = share * mpmath.beta(a + c, b + n - c)
            exact = (one + middle * exact_pass(a + c, b + n - c, k)) / (zero + one + middle)
            assert population.posterior_pass_at_k(n, c, k) == pytest.approx(float(exact), rel=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("masses", [(0, 0), (0.3, 0), (0.2, 0.4)])
@pytest.mark.parametrize("k", [1, 4, 9, 10, 80])
def test_the_anchored_estimate_is_right_on_average(masses, k):
    # Over all counts that the population can give it has the population's pass@k as its mean:
    # exactly, not only for many samples.
    population = BetaBinomial.from_shape(0.6, 1.1, *masses)
    c = np.arange(10)
    weights = np.exp(log_pmf(c, 9, population))[None]
    mean = ex._mean_pass(np.full(10, 9), c, k, weights, population._numbers())
    assert mean[0] == pytest.approx(population.pass_at_k(k), rel=1e-12)


COLUMNS = "run split k estimate low high fit_low fit_high n_problems n_samples basis"
N = np.array([8, 8, 8, 16, 16, 16])
C = np.array([0, 2, 8, 0, 1, 9])


def test_estimates_by_hand():
    ks = [1, 8, 9, 16, 40]
    fit = fit_beta_binomial(N, C)
    curve = modelled(table(N, C), ks)
    assert " ".join(curve) == COLUMNS
    assert curve["basis"].tolist() == ["samples", "samples", *["beta-binomial"] * 3]
    assert curve[["fit_low", "fit_high"]].isna().all(axis=None)
    assert (curve[["n_problems", "n_samples"]] == [6, 16]).all(axis=None)
    unsolved = [fit.posterior_pass_at_k(8, 0, k - 8) if k > 8 else 0 for k in ks]
    both = [fit.posterior_pass_at_k(16, 0, k - 16) if k > 16 else 0 for k in ks]
    for i, k in enumerate(ks):
        single = [unsolved[i], 1, 1] if k > 8 else pass_at_k(8, C[:3], k)
        single = [*single, *([both[i], 1, 1] if k > 16 else pass_at_k(16, C[3:], k))]
        assert curve["estimate"][i] == pytest.approx(np.mean(single), rel=1e-10)


@pytest.mark.slow
def test_interval_is_that_of_refits_to_resampled_problems():
    values = []
    for w in np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), size=200):
        fit = fit_beta_binomial(N, C, w)
        unsolved = [w[i] and w[i] * fit.posterior_pass_at_k(N[i], 0, 40 - N[i]) for i in (0, 3)]
        values.append((w[C > 0].sum() + sum(unsolved)) / 6)
    curve = modelled(table(N, C), 40, n_resamples=4000)
    # 200 against 4000 resamples: compare the interval's levels among the reference values.
    for bound, level in ((curve["low"][0], 0.025), (curve["high"][0], 0.975)):
        below, upto = np.mean(values < bound - 1e-9), np.mean(values <= bound + 1e-9)
        slack = 4 * np.sqrt(level * (1 - level) / 200)
        assert below - slack <= level <= upto + slack


@pytest.mark.parametrize("model", MODELS)
def test_curve_rises_and_continues_the_unbiased_one(model):
    rng = np.random.default_rng(0)
    n = np.full(60, 10)
    ks = np.arange(1, 60)
    curve = modelled(table(n, draw(rng, n, 0.4, 1)), ks, model=model)
    steps = np.diff(curve["estimate"])
    assert (steps > 0).all()
    # The step from n to n + 1 is no larger than the one before it by more than noise.
    assert steps[9] < 2 * steps[8]
    assert (curve["low"] <= curve["estimate"]).all()
    assert (curve["estimate"] <= curve["high"]).all()


@pytest.mark.slow
def test_rollouts_path_and_counts_are_the_same(tmp_path):
    problems = [(f"p{i}", j < C[i]) for i, n in enumerate(N) for j in range(n)]
    one = pd.DataFrame(problems, columns=["problem_id", "correct"])
    rollouts = pd.concat([one.assign(run=run) for run in ("a", "b")])
    write_rollouts(rollouts, tmp_path / "r.parquet")
    given = pd.concat([table(N, C, run=run, split="id") for run in ("a", "b")])
    sources = (rollouts, tmp_path / "r.parquet", given)
    results = [modelled(source, [4, 64]) for source in sources]
    assert results[0]["run"].tolist() == ["a", "a", "b", "b"]
    for other in results[1:]:
        pd.testing.assert_frame_equal(results[0], other, check_dtype=False)
    one = modelled(given[:6], [4, 64], by=[])
    pd.testing.assert_frame_equal(one, results[2][:2].drop(columns=["run", "split"]))


def test_resampling_in_pieces_changes_nothing(monkeypatch):
    whole = modelled(table(N, C), 64)
    monkeypatch.setattr(ex, "CHUNK", 160)
    pd.testing.assert_frame_equal(whole, modelled(table(N, C), 64))


def test_unsolved_everywhere_has_a_distribution_free_bound():
    n, size, k = 8, 30, 64
    curve = modelled(table(n, np.zeros(size, int)), [4, k], confidence=0.9)
    assert curve[["estimate", "low"]].to_numpy().tolist() == [[0, 0], [0, 0]]
    # Were every p just so high that pass@k is the bound, all zeros had a chance of 5 %.
    p = 1 - (1 - curve["high"][1]) ** (1 / k)
    assert (1 - p) ** (n * size) == pytest.approx(0.05)
    # And within n: problems solved at once, or never.
    assert (1 - curve["high"][0]) ** size == pytest.approx(0.05)


def test_two_points_have_a_distribution_free_interval():
    c = np.array([8] * 12 + [0] * 18)
    curve = modelled(table(8, c), [8, 80])
    assert curve["estimate"].tolist() == [0.4, 0.4]
    low, high = beta_distribution.ppf([0.025, 0.975], [12, 13], [19, 18])
    assert curve["low"].tolist() == pytest.approx([low, low])
    assert curve["high"].tolist() == pytest.approx([high, 1 - (1 - high) ** 10])
    always = modelled(table(8, np.full(30, 8)), 80)
    assert always["estimate"][0] == always["high"][0] == 1
    assert always["low"][0] == pytest.approx(0.025 ** (1 / 30))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": []}, "k is empty"),
        ({"model": "normal"}, "model='normal' is unknown"),
        ({"n_resamples": 0}, "n_resamples=0"),
        ({"confidence": 95}, "confidence=95"),
        ({"by": ("run", "checkpoint")}, "'checkpoint' is missing"),
        ({"rollouts": table(N, C).drop(columns="n_samples")}, "'correct' is missing"),
        ({"rollouts": table(N, C + 9)}, "problem 0: n_correct exceeds"),
        ({"rollouts": table(N * 0, C * 0)}, "problem 0 has no samples"),
        ({"rollouts": table(N, C)[:0]}, "empty"),
        ({"rollouts": table(N, C)[:1]}, "run 'default', split 'id': one problem"),
        ({"rollouts": table(N, C, problem_id="a")}, "a problem occurs twice"),
        ({"rollouts": table(1, C > 0)}, "booleans"),
        ({"rollouts": table(1, (C > 0).astype(int))}, "run 'default'.*at least 2 samples"),
    ],
)
def test_tables_refuse(change, message):
    refuses(message, extrapolate_pass_at_k, **{"rollouts": table(N, C), "k": 64, **change})


def test_held_out_check_compares_with_the_hidden_samples():
    rng = np.random.default_rng(0)
    n = np.full(80, 40)
    counts = pd.concat([table(n, draw(rng, n, 0.3, 1), run=run) for run in ("a", "b")])
    check = held_out_check(counts, n_splits=3, n_resamples=100, random_state=1)
    names = "run split n_fit k predicted low high observed error covered detectable"
    assert " ".join(check) == names
    assert check["run"].tolist() == ["a"] * 3 + ["b"] * 3
    assert (check[["n_fit", "k"]] == [10, 40]).all(axis=None)
    for run, group in check.groupby("run"):
        c = counts.loc[counts["run"] == run, "n_correct"]
        assert (group["observed"] == pass_at_k(40, c, 40).mean()).all()
    assert (check["error"] == check["predicted"] - check["observed"]).all()
    inside = (check["low"] <= check["observed"]) & (check["observed"] <= check["high"])
    assert (check["covered"] == inside).all()
    again = held_out_check(counts, n_splits=3, n_resamples=100, random_state=1)
    pd.testing.assert_frame_equal(check, again)


def test_held_out_check_with_degenerate_counts():
    check = held_out_check(table(16, np.repeat([0, 16], 5)), n_splits=1, n_resamples=10)
    assert check[["predicted", "observed", "covered"]].to_numpy().tolist() == [[0.5, 0.5, True]]
    # One unsolved problem among many: some resamples hold none that is not always solved.
    check = held_out_check(table(16, [0, *[16] * 9, 8]), n_splits=1, n_resamples=200)
    assert check[["predicted", "low", "high"]].notna().all(axis=None)


test_held_out_check_refuses = refusals(
    (lambda: held_out_check(table(N, C), fraction=1), "fraction=1"),
    (lambda: held_out_check(table(N, C), n_splits=0), "n_splits=0"),
    (lambda: held_out_check(table(N, C), fraction=0.1), "run 'default'.*at least 2 samples"),
)


def within(hits, trials, level=0.95, slack=0.0):
    """Whether a count of hits fits a coverage of ``level``, ``slack`` less or more."""
    low, high = binom.ppf([1e-4, 1 - 1e-4], trials, np.clip([level - slack, level + slack], 0, 1))
    return (low <= hits) & (hits <= high)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "p_zero", "trials"), [("beta-binomial", 0, 400), ("zero-inflated", 0.2, 200)]
)
def test_interval_covers_the_population(model, p_zero, trials):
    """A percentile interval of 100 problems is known to be a little off.

    A coverage of 0.83 fails 99 times of 100 in 400 trials, one of 0.79 in 200.
    """
    ks = [32, 64, 256, 3200]
    truth = BetaBinomial.from_shape(0.3, 1.0, p_zero).pass_at_k(ks)
    rng = np.random.default_rng(0)
    hits = np.zeros(4)
    n = np.full(100, 32)
    for _ in range(trials):
        counts = table(n, draw(rng, n, 0.3, 1.0, p_zero))
        curve = modelled(counts, ks, model=model, n_resamples=200, random_state=rng)
        hits += (curve["low"] <= truth) & (truth <= curve["high"])
    assert within(hits, trials, slack=0.02).all()


@pytest.mark.slow
def test_held_out_prediction_is_unbiased_and_covers():
    rng = np.random.default_rng(0)
    n = np.full(100, 64)
    how = {"n_splits": 1, "n_resamples": 300, "random_state": rng}
    tables = (table(n, draw(rng, n, 0.3, 1.0)) for _ in range(400))
    rows = pd.concat(held_out_check(counts, **how) for counts in tables)
    error = rows["error"]
    assert abs(error.mean()) < 4 * error.std() / 20 + 0.005
    assert within(rows["covered"].sum(), 400, slack=0.02)


@pytest.mark.slow
def test_distribution_free_interval_holds_its_level():
    # The worst case: every p the same, and so small that hardly any sample is correct.
    rng = np.random.default_rng(0)
    p, trials, missed = 0.012, 2000, 0
    truth = 1 - (1 - p) ** 64
    for c in rng.binomial(8, p, size=(trials, 30)):
        if not c.any():
            curve = modelled(table(8, c), 64, n_resamples=1)
            missed += not curve["low"][0] <= truth <= curve["high"][0]
    assert missed <= binom.ppf(1 - 1e-4, trials, 0.025)


@pytest.mark.slow
def test_the_check_finds_a_detectable_error_four_times_in_five():
    rng = np.random.default_rng(0)
    how = {"n_splits": 1, "n_resamples": 200, "random_state": rng}
    n = np.full(100, 64)
    rows = pd.concat(held_out_check(table(n, draw(rng, n, 0.3, 1.0)), **how) for _ in range(300))
    for side in (1, -1):
        moved = rows["observed"] + side * rows["detectable"]
        found = (moved < rows["low"]) | (moved > rows["high"])
        assert within(found.sum(), 300, level=0.8, slack=0.03)
