import itertools
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import comb, factorial, prod

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passk_lab import counts, distinct_at_k, distinct_at_k_curve, hill_number
from passk_lab.metrics.functional import (
    ModeCounts,
    chao1,
    good_turing_coverage,
    semantic_entropy,
    two_modes_at_k,
)
from passk_lab.metrics.novelty import distinct_k, utility_k
from passk_lab.stats.intervals import bootstrap_mean
from tests.summaries import functional_summary

EXACT = Fraction(1, 10**12)

# Spiders caught in girdled and in logged plots: a standard example of the R package iNEXT.
GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, *[2] * 4, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, *[3] * 4, *[2] * 4, *[1] * 14]

mode_counts = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def close(value: float, exact: Fraction) -> bool:
    return abs(Fraction(value) - exact) <= EXACT * abs(exact)


def partitions(n, top=None):
    """All multisets of positive counts that sum to n."""
    if n == 0:
        yield ()
    for first in range(min(n, top or n), 0, -1):
        yield from ((first, *rest) for rest in partitions(n - first, first))


def urn(sizes, wrong=0):
    """One entry a sample: its mode, None for samples that are not counted."""
    return [m for m, size in enumerate(sizes) for _ in range(size)] + [None] * wrong


def mean_over_subsets(samples, k, statistic):
    values = [statistic(set(drawn) - {None}) for drawn in itertools.combinations(samples, k)]
    return Fraction(sum(values), len(values))


def multinomial(p, n):
    """All counts of n samples from p, with their exact probabilities."""
    for sizes in itertools.product(range(n + 1), repeat=len(p)):
        if sum(sizes) == n:
            ways = factorial(n) // prod(map(factorial, sizes))
            yield sizes, ways * prod(q**size for q, size in zip(p, sizes, strict=True))


def expectation(p, n, statistic):
    return sum(weight * Fraction(statistic(sizes)) for sizes, weight in multinomial(p, n))


P = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 12), Fraction(1, 12))


# --- distinct@k and relatives ---


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_distinct_at_k_is_the_mean_over_subsets(n, wrong):
    for sizes in partitions(n):
        for k in range(1, n + wrong + 1):
            exact = mean_over_subsets(urn(sizes, wrong), k, len)
            assert close(distinct_at_k(sizes, k, n_samples=n + wrong), exact), (sizes, k)


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_two_modes_at_k_is_the_share_of_subsets(n, wrong):
    for sizes in partitions(n):
        for k in range(1, n + wrong + 1):
            exact = mean_over_subsets(urn(sizes, wrong), k, lambda seen: len(seen) >= 2)
            value = two_modes_at_k(sizes, k, n_samples=n + wrong)
            assert abs(Fraction(value) - exact) <= Fraction(1, 10**14), (sizes, k)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 3_000, 40_000])
def test_distinct_at_k_is_exact_for_many_samples(n):
    sizes = [1, 1, 2, 7, n // 10, n // 3]
    for k in (1, 2, 17, n // 7, n // 2, n - 1, n):
        exact = sum(1 - Fraction(comb(n - size, k), comb(n, k)) for size in sizes)
        assert close(distinct_at_k(sizes, k, n_samples=n), exact), k


@pytest.mark.slow
@given(mode_counts)
def test_distinct_at_k_at_its_ends(sizes):
    assert distinct_at_k(sizes, sum(sizes)) == len(sizes)
    assert distinct_at_k(sizes, 1) == pytest.approx(1, rel=1e-12)


@pytest.mark.slow
@given(mode_counts, st.integers(0, 20))
def test_distinct_at_k_rises_ever_slower(sizes, wrong):
    n = sum(sizes) + wrong
    curve = distinct_at_k(sizes, range(1, n + 1), n_samples=n)
    steps = np.diff(curve)
    assert (steps >= -1e-12).all()
    assert (np.diff(steps) <= 1e-12).all()
    assert (curve <= np.minimum(np.arange(1, n + 1), len(sizes)) + 1e-12).all()


@pytest.mark.slow
@given(mode_counts, st.randoms(), st.data())
def test_neither_order_nor_empty_modes_matter(sizes, random, data):
    k = data.draw(st.integers(1, sum(sizes)))
    shuffled = [*sizes, 0, 0]
    random.shuffle(shuffled)
    for function in (distinct_at_k, two_modes_at_k):
        assert function(shuffled, k) == pytest.approx(function(sizes, k), rel=1e-12, abs=1e-14)
    for function in (chao1, good_turing_coverage, semantic_entropy):
        assert function(shuffled) == pytest.approx(function(sizes), rel=1e-12, abs=1e-14)
    for q in (0, 1, 2):
        assert hill_number(shuffled, q) == pytest.approx(hill_number(sizes, q), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_rarefaction_is_unbiased(k):
    truth = sum(1 - (1 - p) ** k for p in P)
    assert close(float(expectation(P, 5, lambda sizes: distinct_at_k(sizes, k))), truth)


def test_rarefaction_of_correct_modes_is_unbiased():
    truth = sum(1 - (1 - p) ** 3 for p in P[1:])  # the first mode is the wrong answer
    mean = expectation(P, 5, lambda sizes: distinct_at_k(sizes[1:], 3, n_samples=5))
    assert close(float(mean), truth)


# --- Hill numbers, entropy, Chao1, coverage ---


@pytest.mark.parametrize("q", [0, 1e-9, 0.3, 0.5, 0.999999, 1, 1 + 1e-9, 1.5, 1.6, 2, 7.5, 2000])
@pytest.mark.parametrize("sizes", [[1], [5, 5], [6, 2, 1, 1], GIRDLED, [10**6, 1, 1]])
def test_naive_hill_number_by_its_formula(sizes, q):
    with mpmath.workdps(50):
        p = [mpmath.mpf(size) / sum(sizes) for size in sizes]
        if q == 1:
            exact = mpmath.exp(-sum(x * mpmath.log(x) for x in p))
        else:
            exact = sum(x ** mpmath.mpf(q) for x in p) ** (1 / (1 - mpmath.mpf(q)))
        assert hill_number(sizes, q, "naive") == pytest.approx(float(exact), rel=1e-12)


def test_naive_hill_number_of_infinite_order():
    assert hill_number([[6, 2, 2], [4]], np.inf, "naive").tolist() == [10 / 6, 1]


@pytest.mark.slow
@given(mode_counts)
def test_hill_numbers_fall_with_the_order(sizes):
    orders = [0, 0.5, 1, 1.5, 2, 5, np.inf]
    values = np.array([hill_number(sizes, q, "naive") for q in orders])
    assert (np.diff(values) <= 1e-12 * len(sizes)).all()
    assert values[0] == len(sizes)
    assert values[-1] >= 1
    assert hill_number(sizes, 0) >= len(sizes)
    assert hill_number(sizes, 2) >= hill_number(sizes, 2, "naive") * (1 - 1e-12)


@pytest.mark.parametrize("size", [1, 4, 13])
def test_equal_modes_count_as_they_are(size):
    for q in (0, 0.7, 1, 2, 3):
        assert hill_number([size] * 6, q, "naive") == pytest.approx(6, rel=1e-12)


def test_chance_of_agreement_is_unbiased():
    truth = sum(p * p for p in P)
    mean = expectation(P, 5, lambda sizes: 1 / hill_number(sizes, 2))
    assert close(float(mean), truth)


def test_no_two_alike_is_infinitely_diverse_at_order_two():
    assert hill_number([1, 1, 1], 2) == np.inf
    assert hill_number([1], 2) == np.inf
    assert hill_number([7], 2) == 1


def chao_jost(sizes):
    """The entropy as published, term by term."""
    n = sum(sizes)
    once, twice = sizes.count(1), sizes.count(2)
    with mpmath.workdps(60 + n):  # the bracket cancels to about e^-n
        total = sum(
            Fraction(x, n) * sum(Fraction(1, k) for k in range(x, n)) for x in sizes if x < n
        )
        total = mpmath.mpf(total.numerator) / total.denominator
        if once and (twice or once > 1):
            if twice:
                a = mpmath.mpf(2 * twice) / ((n - 1) * once + 2 * twice)
            else:
                a = mpmath.mpf(2) / ((n - 1) * (once - 1) + 2)
            rest = -mpmath.log(a) - sum((1 - a) ** r / r for r in range(1, n))
            total += mpmath.mpf(once) / n * (1 - a) ** (1 - n) * rest
        return float(total)


@pytest.mark.parametrize(
    "sizes",
    [
        *[list(s) for n in range(1, 8) for s in partitions(n)],
        GIRDLED,
        LOGGED,
        [1] * 200,
        [*[1] * 150, 2],
        [*[2] * 100, 1],
        [400, 1],
        [300, 1, 1],
        [50, 40, 3, 1, 1],
    ],
    ids=lambda sizes: f"{len(sizes)}-{sum(sizes)}",
)
def test_chao_jost_entropy_as_published(sizes):
    exact = chao_jost(sizes)
    assert semantic_entropy(sizes, "chao_jost") == pytest.approx(exact, rel=1e-12, abs=1e-15)
    assert hill_number(sizes, 1) == pytest.approx(np.exp(exact), rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "miller_madow", "chao_wang_jost"),
    [
        (GIRDLED, 2.564269972596332, 2.6265692086448866),
        (LOGGED, 2.7401141533907074, 2.793436684838287),
        ([5, 3, 1, 1, 1], 1.548529233873386, 1.7277033729708646),
        ([9, 1], 0.3750829733914482, 0.3828968253968254),
    ],
    ids=["girdled", "logged", "five", "two"],
)
def test_entropies_agree_with_infomeasure(sizes, miller_madow, chao_wang_jost):
    # Values of infomeasure 0.6.3, approaches "miller_madow" and "chao_wang_jost".
    assert semantic_entropy(sizes, "miller_madow") == pytest.approx(miller_madow, rel=1e-12)
    assert semantic_entropy(sizes, "chao_jost") == pytest.approx(chao_wang_jost, rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "without_factor"), [(GIRDLED, 44.0), (LOGGED, 61.5), ([5, 3, 1, 1, 1], 8.0)]
)
def test_chao1_agrees_with_scikit_bio_up_to_its_factor(sizes, without_factor):
    # Values of scikit-bio 0.7.4, chao1(bias_corrected=False), which leaves out (n-1)/n.
    n, seen = sum(sizes), len(sizes)
    expected = seen + (n - 1) / n * (without_factor - seen)
    assert chao1(sizes) == pytest.approx(expected, rel=1e-14)
    assert hill_number(sizes, 0) == chao1(sizes)


def test_coverage_by_its_formulas():
    # f1 = 12, f2 = 4 of 168; scikit-bio 0.7.4 gives goods_coverage 0.9285714285714286.
    assert good_turing_coverage(GIRDLED, "turing") == pytest.approx(0.9285714285714286, rel=1e-15)
    expected = 1 - Fraction(12, 168) * Fraction(167 * 12, 167 * 12 + 2 * 4)
    assert close(good_turing_coverage(GIRDLED), expected)
    expected = 1 - Fraction(3, 11) * Fraction(10 * 2, 10 * 2 + 2)  # f1 = 3, f2 = 0
    assert close(good_turing_coverage([5, 3, 1, 1, 1]), expected)
    assert good_turing_coverage([[4, 3], [5, 1], [1]]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("n", [2, 4, 6])
def test_turing_coverage_is_that_of_one_sample_less(n):
    truth = 1 - sum(p * (1 - p) ** (n - 1) for p in P)
    mean = expectation(P, n, lambda sizes: good_turing_coverage(sizes, "turing"))
    assert close(float(mean), truth)


@pytest.mark.slow
@pytest.mark.parametrize("p", [P, (Fraction(1, 6),) * 6, (Fraction(7, 10), *[Fraction(1, 10)] * 3)])
def test_corrections_lessen_the_bias(p):
    entropy = -sum(float(x) * np.log(float(x)) for x in p)
    bias = {
        name: abs(float(expectation(p, 6, lambda sizes: semantic_entropy(sizes, name))) - entropy)  # noqa: B023
        for name in ("naive", "miller_madow", "chao_jost")
    }
    assert bias["chao_jost"] < bias["miller_madow"] < bias["naive"]


# --- NoveltyBench ---

CLASSES = ["a", "b", "a", "c", "a", "b"]
UTILITIES = [Fraction(x, 4) for x in (3, 8, 1, 0, 5, 2)]


def utility(samples, k, p):
    weights = [p**i for i in range(k)]
    seen, total = set(), Fraction(0)
    for weight, (label, value) in zip(weights, samples, strict=False):
        total += weight * value * (label not in seen)
        seen.add(label)
    return total / sum(weights)


@pytest.mark.parametrize("patience", [Fraction(4, 5), Fraction(1, 3), Fraction(1), Fraction(0)])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_utility_k_by_its_formula(k, patience):
    samples = list(zip(CLASSES, UTILITIES, strict=True))
    values = [float(value) for value in UTILITIES]
    found = utility_k(CLASSES, values, k, float(patience))
    assert found == pytest.approx(float(utility(samples, k, patience)), rel=1e-12)


def test_distinct_k_in_the_given_order():
    ks = range(1, 7)
    assert distinct_k(CLASSES, ks).tolist() == [len(set(CLASSES[:k])) for k in ks]


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.data())
def test_without_discount_utility_is_distinct_classes_per_sample(classes, data):
    k = data.draw(st.integers(1, len(classes)))
    gained = utility_k(classes, np.ones(len(classes)), k, 1.0)
    assert gained == pytest.approx(distinct_k(classes, k) / k, rel=1e-12)


def test_novelty_of_several_problems():
    classes = [CLASSES, [1, 1, 2], np.array(["x", "y", "x", "x"])]
    utilities = [[float(u) for u in UTILITIES], [1.0, 2.0, 3.0], np.array([0.5, 1, 0, 2])]
    distinct = distinct_k(classes, [1, 3])
    gained = utility_k(classes, utilities, [1, 3])
    for row, (labels, values) in enumerate(zip(classes, utilities, strict=True)):
        np.testing.assert_allclose(distinct[row], distinct_k(labels, [1, 3]))
        np.testing.assert_allclose(gained[row], utility_k(labels, values, [1, 3]), rtol=1e-14)
    assert distinct_k(classes, 3).tolist() == distinct[:, 1].tolist()
    assert utility_k(classes, utilities, 3).tolist() == gained[:, 1].tolist()


# --- Shapes and arguments ---

ONE_VALUE = [
    chao1,
    good_turing_coverage,
    lambda sizes: good_turing_coverage(sizes, "turing"),
    semantic_entropy,
    lambda sizes: semantic_entropy(sizes, "miller_madow"),
    lambda sizes: semantic_entropy(sizes, "chao_jost"),
    *(lambda sizes, q=q: hill_number(sizes, q) for q in (0, 1, 2)),
    *(lambda sizes, q=q: hill_number(sizes, q, "naive") for q in (0, 1, 2, 0.7, 3, np.inf)),
]
PROBLEMS = [[3, 1], [1, 1, 1], [4], [2, 2, 1, 1], GIRDLED]


@pytest.mark.parametrize("function", ONE_VALUE)
def test_several_problems_at_once(function):
    alone = [function(sizes) for sizes in PROBLEMS]
    assert all(isinstance(value, float) for value in alone)
    padded = np.zeros((len(PROBLEMS), len(GIRDLED)))
    for row, sizes in zip(padded, PROBLEMS, strict=True):
        row[: len(sizes)] = sizes
    for problems in (PROBLEMS, padded, pd.Series([np.array(s) for s in PROBLEMS], index=[9] * 5)):
        np.testing.assert_allclose(function(problems), alone, rtol=1e-14)


@pytest.mark.parametrize("function", ONE_VALUE)
def test_counts_that_were_read_before(function):
    modes = ModeCounts.of(PROBLEMS)
    assert ModeCounts.of(modes) is modes
    np.testing.assert_array_equal(function(modes), function(PROBLEMS))
    last = modes.take(np.arange(len(PROBLEMS)) == 4)
    assert function(last).tolist() == [function(GIRDLED)]
    assert function(modes.take(np.zeros(len(PROBLEMS), dtype=bool))).shape == (0,)
    assert distinct_at_k(last, [1, 4]).tolist() == [distinct_at_k(GIRDLED, [1, 4]).tolist()]


@pytest.mark.parametrize("function", [distinct_at_k, two_modes_at_k])
def test_shapes_of_curves(function):
    one = function([3, 1, 2], [1, 3, 4])
    assert isinstance(function([3, 1, 2], 3), float)
    assert one.shape == (3,)
    assert function([3, 1, 2], 3) == one[1]
    many = function([[3, 1, 2], [6], []], [1, 3, 4], n_samples=[6, 8, 5])
    assert many.shape == (3, 3)
    np.testing.assert_allclose(many[0], one)
    np.testing.assert_allclose(many[1], function([6], [1, 3, 4], n_samples=8))
    assert many[2].tolist() == [0, 0, 0]
    assert function([[3, 1, 2], [6], []], 3, n_samples=8).shape == (3,)
    assert function([], 3, n_samples=8) == 0


BAD_COUNTS = [
    ([3, -1], "problem 0 holds -1"),
    ([[3, 1], [2, -2]], "problem 1 holds -2"),
    ([3, 1.5], r"mode_counts\[1\]=1.5 is not a whole number"),
    ([3, np.nan], r"mode_counts\[1\]=nan"),
    ([[3], [2, np.nan]], r"mode_counts\[1\]\[1\]=nan"),
    ([[3], [2, None]], r"mode_counts\[1\]\[1\]=nan"),
    (["many", "few"], "mode_counts must hold whole numbers"),
    ([[3], 2], r"mode_counts\[1\] is a single value"),
    ([[[3], [2, 1]], [1]], r"mode_counts\[0\] "),
    (np.ones((2, 2, 2), int), r"mode_counts\[0\] has 2 dimensions"),
    (np.ones((0, 3), int), "no problem"),
    ([True, False], "booleans"),
    (Counter("aab"), "Counter"),
    ("aab", "not str"),
    (4, "not int"),
    (np.array(4), "not ndarray"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_COUNTS)
@pytest.mark.parametrize("function", [chao1, lambda bad: distinct_at_k(bad, 1)])
def test_bad_counts_are_refused(function, bad, message):
    with pytest.raises(ValueError, match=message):
        function(bad)


@pytest.mark.parametrize("function", ONE_VALUE)
@pytest.mark.parametrize("empty", [[], [0, 0], [[3, 1], []]])
def test_no_samples_are_refused(function, empty):
    with pytest.raises(ValueError, match=rf"problem {int(empty == [[3, 1], []])} has no samples"):
        function(empty)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([3, 1], 0), {}, "k=0 must be at least 1"),
        (([3, 1], 5), {}, "k=5 exceeds the 4 samples of problem 0"),
        (([[3, 1], [2]], [1, 3]), {}, "k=3 exceeds the 2 samples of problem 1"),
        (([3, 1], 1.5), {}, "k=1.5 is not a whole number"),
        (([3, 1], []), {}, "k must be a number or a non-empty"),
        (([3, 1], [[1]]), {}, "k must be a number or a non-empty"),
        (([], 1), {}, "k=1 exceeds the 0 samples"),
        (([3, 1], 1), {"n_samples": 3}, "n_samples=3 of problem 0 is below .* 4"),
        (([[3, 1], [2]], 1), {"n_samples": [4, 1]}, "n_samples=1 of problem 1 is below"),
        (([[3, 1], [2]], 1), {"n_samples": [4, 4, 4]}, r"n_samples has shape \(3,\)"),
        (([3, 1], 1), {"n_samples": np.nan}, "n_samples=nan"),
    ],
)
@pytest.mark.parametrize("function", [distinct_at_k, two_modes_at_k])
def test_bad_draws_are_refused(function, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hill_number([1], -1), "q=-1"),
        (lambda: hill_number([1], np.nan, "naive"), "q=nan"),
        (lambda: hill_number([1], 3), "no corrected estimator.*'naive'"),
        (lambda: hill_number([1], 1, "plain"), "estimator='plain'"),
        (lambda: semantic_entropy([1], "plain"), "estimator='plain'"),
        (lambda: good_turing_coverage([1], "plain"), "estimator='plain'"),
        (lambda: distinct_k(["a", None], 1), "problem 0: a label is missing"),
        (lambda: distinct_k([["a"], ["a", float("nan")]], 1), "problem 1: a label is missing"),
        (lambda: distinct_k([["a"], []], 1), "problem 1 is empty"),
        (lambda: distinct_k([[{}]], 1), "labels"),
        (lambda: distinct_k(["a"], 2), "k=2 exceeds"),
        (lambda: utility_k(["a"], [1.0], 1, patience=1.2), "patience=1.2"),
        (lambda: utility_k(["a"], [1.0], 1, patience=np.nan), "patience=nan"),
        (lambda: utility_k(["a", "b"], [1.0], 1), "one number for each sample"),
        (lambda: utility_k([["a"], ["b"]], [1.0, 2.0], 1), "one number for each sample"),
        (lambda: utility_k([["a"], ["b"]], [[1.0], [np.inf]], 1), "problem 1 holds inf"),
        (lambda: utility_k(["a"], ["good"], 1), "utilities must hold numbers"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_arrays_need_no_pandas():
    code = (
        "import sys; from passk_lab import distinct_at_k, hill_number; "
        "sys.exit(any(name in sys.modules for name in ('pandas', 'pyarrow', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- The summary of a table ---


def rollouts(**runs):
    """One row a letter: capital letters are correct answers, "-" a wrong one without answer."""
    rows = [
        {"run": run, "problem_id": name, "correct": c.isupper(), "answer": None if c == "-" else c}
        for run, problems in runs.items()
        for name, samples in problems.items()
        for c in samples
    ]
    return pd.DataFrame(rows)


TABLE = rollouts(
    base={"p": "AABCx-", "q": "AAAAAA", "r": "xxyy--", "s": "Axxxxx"},
    tuned={"p": "AAAAAAB-", "q": "AAAAA", "r": "ABxxx", "s": "AAAxxx"},
)


def lookup(summary, run):
    part = summary[(summary["run"] == run) & (summary["split"] == "id")]
    return part.set_index("metric")


def test_summary_of_correct_modes():
    summary = functional_summary(TABLE, random_state=0)
    assert summary.columns.tolist() == (
        ["run", "split", "metric", "estimate", "low", "high", "n_problems", "n_defined"]
    )
    assert not summary.isna().any().any()
    # 5 is the smallest number of samples of both runs.
    base = lookup(summary, "base")
    modes, n = [[2, 1, 1], [6], [], [1]], [6, 6, 6, 6]
    means = {
        "distinct@5": distinct_at_k(modes, 5, n_samples=n).mean(),
        "two_modes@5": two_modes_at_k(modes, 5, n_samples=n).mean(),
        "n_counted": (4 + 6 + 0 + 1) / 4,
        "hill_0_naive": (3 + 1 + 1) / 3,
        "hill_1_naive": (2**1.5 + 1 + 1) / 3,
        "effective_answers_naive": 3 / (6 / 16 + 1 + 1),
        "hill_0_corrected": (chao1([2, 1, 1]) + 1) / 2,
        "hill_1_corrected": (np.exp(chao_jost([2, 1, 1])) + 1) / 2,
        "effective_answers": 1 / ((1 / 6 + 1) / 2),
        "coverage": (good_turing_coverage([2, 1, 1]) + 1) / 2,
    }
    assert base.index.tolist() == list(means)
    np.testing.assert_allclose(base["estimate"], list(means.values()), rtol=1e-12)
    assert base["n_problems"].tolist() == [4] * 10
    assert base["n_defined"].tolist() == [4] * 3 + [3] * 3 + [2] * 4
    assert lookup(summary, "tuned")["n_defined"].tolist() == [4] * 10
    assert (summary["low"] <= summary["estimate"]).all()
    assert (summary["estimate"] <= summary["high"]).all()


def test_summary_of_all_modes():
    summary = functional_summary(TABLE, k=[2, 4], correct_only=False, random_state=0)
    base = lookup(summary, "base")
    modes = [[2, 1, 1, 1], [6], [2, 2], [5, 1]]
    for k in (2, 4):
        expected = distinct_at_k(modes, k, n_samples=6).mean()
        assert base.loc[f"distinct@{k}", "estimate"] == pytest.approx(expected, rel=1e-12)
    expected = np.mean(hill_number(modes, 1))
    assert base.loc["hill_1_corrected", "estimate"] == pytest.approx(expected, rel=1e-12)
    assert base.loc["n_counted", "estimate"] == (5 + 6 + 4 + 6) / 4


@pytest.mark.slow
def test_summary_agrees_with_the_curve():
    summary = functional_summary(TABLE, k=3, random_state=0)
    curve = distinct_at_k_curve(TABLE, k=3, random_state=0)
    mine = summary[summary["metric"] == "distinct@3"]
    np.testing.assert_allclose(mine["estimate"], curve["estimate"], rtol=1e-14)


@pytest.mark.slow
def test_summary_has_intervals_over_problems():
    summary = functional_summary(TABLE, k=3, confidence=0.8, n_resamples=20_000, random_state=1)
    values = distinct_at_k([[2, 1, 1], [6], [], [1]], 3, n_samples=6)
    low, high = bootstrap_mean(values, n_resamples=20_000, confidence=0.8, random_state=2)
    row = lookup(summary, "base").loc["distinct@3"]
    assert row["low"] == pytest.approx(low, abs=0.02)
    assert row["high"] == pytest.approx(high, abs=0.02)
    agreement = np.array([1 / 6, 1])
    low, high = bootstrap_mean(agreement, n_resamples=20_000, confidence=0.8, random_state=2)
    row = lookup(summary, "base").loc["effective_answers"]
    assert (row["low"], row["high"]) == pytest.approx((1 / high, 1 / low), abs=0.02)


@pytest.mark.slow
def test_summary_repeats_with_its_seed_and_takes_counts():
    first = functional_summary(TABLE, random_state=3)
    pd.testing.assert_frame_equal(first, functional_summary(TABLE, random_state=3))
    pd.testing.assert_frame_equal(first, functional_summary(counts(TABLE), random_state=3))


@pytest.mark.slow
def test_summary_reads_files_and_groups_by_any_column(tmp_path):
    table = TABLE.assign(step=np.where(TABLE["run"] == "base", 10, 20))
    table.to_parquet(tmp_path / "rollouts.parquet")
    summary = functional_summary(tmp_path / "rollouts.parquet", by=["step"], random_state=0)
    assert summary.columns[:2].tolist() == ["step", "metric"]
    whole = functional_summary(TABLE, random_state=0)
    np.testing.assert_allclose(summary["estimate"], whole["estimate"], rtol=1e-14)


def test_summary_says_where_nothing_is_defined():
    table = rollouts(none={"p": "xyz", "q": "x--"}, single={"p": "Axx", "q": "xBy"})
    summary = functional_summary(table, n_resamples=100, random_state=0)
    none, single = lookup(summary, "none"), lookup(summary, "single")
    for name in ("distinct@3", "two_modes@3", "n_counted"):
        assert none.loc[name, ["estimate", "low", "high"]].tolist() == [0, 0, 0]
        assert none.loc[name, "n_defined"] == 2
    undefined = none.index[3:]
    assert none.loc[undefined, "n_defined"].tolist() == [0] * 7
    assert none.loc[undefined, ["estimate", "low", "high"]].isna().all().all()
    assert single["n_defined"].tolist() == [2] * 6 + [0] * 4
    assert single["estimate"].isna().tolist() == [False] * 6 + [True] * 4


def test_summary_of_answers_that_never_agree():
    table = rollouts(wide={"p": "ABC", "q": "AB-"})
    row = lookup(functional_summary(table, n_resamples=100, random_state=0), "wide")
    assert row.loc["effective_answers", ["estimate", "low", "high"]].tolist() == [np.inf] * 3
    assert np.isfinite(row.drop("effective_answers")[["estimate", "low", "high"]].to_numpy()).all()
