import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from passk_lab.teacher.optimum import distillation_optimum, rl_optimum, self_distillation_optimum
from tests.helpers import refusals, refuses

BASE = np.array([0.30, 0.18, 0.12, 0.40])  # the last answer is wrong
CORRECT = np.array([True, True, True, False])
POLICY_DEMOS = BASE[:3] / BASE[:3].sum()
UNIFORM_DEMOS = np.full(3, 1 / 3)


def token_optimum(answers, log_teacher, demo_weights=None, **options):
    return distillation_optimum(log_teacher, demo_weights, tokens=answers, **options)


def boost(kappa):
    raised = BASE * np.exp(kappa * np.eye(4)[:3])
    return raised / raised.sum(axis=1, keepdims=True)


def copy_mixture(kappa):
    return (1 - kappa) * BASE + kappa * np.eye(4)[:3]


def slope(after):
    """Of log-probability after on before, over the correct answers."""
    return np.polyfit(np.log(BASE[:3]), np.log(after[:3]), 1)[0]


def random_world(seed, n_demos=3, n_answers=5):
    rng = np.random.default_rng(seed)
    teachers = rng.dirichlet(np.ones(n_answers), size=n_demos) + 0.01
    teachers /= teachers.sum(axis=1, keepdims=True)
    base = rng.dirichlet(np.ones(n_answers)) + 0.01
    return teachers, rng.dirichlet(np.ones(n_demos)), base / base.sum()


def kl(p, t):
    return np.sum(special.rel_entr(p, t), axis=-1)


def jsd(p, t):
    middle = (p + t) / 2
    return (kl(p, middle) + kl(t, middle)) / 2


OBJECTIVES = {"reverse": lambda p, t: kl(p, t), "forward": lambda p, t: kl(t, p), "jsd": jsd}


# With respect to p. Each objective is convex: at its minimum over the simplex, and only there, the
# gradient is the same for every answer.
GRADIENTS = {
    "reverse": lambda p, t: np.log(p / t) + 1,
    "forward": lambda p, t: -t / p,
    "jsd": lambda p, t: np.log(2 * p / (p + t)) / 2,
}


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.floats(0.1, 4), st.sampled_from(["reverse", "forward", "jsd"]))
def test_distillation_minimises_the_divergence(seed, spread, divergence):
    rng = np.random.default_rng(seed)
    teachers = special.softmax(spread * rng.normal(size=(4, 6)), axis=1)
    q = rng.dirichlet(np.ones(4))
    ours = distillation_optimum(np.log(teachers), q, divergence)
    assert ours.prob.sum() == pytest.approx(1, abs=1e-12)
    assert np.ptp(q @ GRADIENTS[divergence](ours.prob, teachers)) < 1e-9
    assert ours.value == pytest.approx(q @ OBJECTIVES[divergence](ours.prob, teachers), abs=1e-12)
    assert not ours.vetoed.any()
    order = rng.permutation(6)
    again = distillation_optimum(np.log(teachers[:, order]), q, divergence)
    assert again.prob == pytest.approx(ours.prob[order], abs=1e-10)


@pytest.mark.parametrize("divergence", ["reverse", "forward", "jsd"])
@pytest.mark.parametrize("eta", [0.3, 1.5])
def test_the_trust_region_moves_the_teachers(divergence, eta):
    teachers, q, base = random_world(7)
    moved = teachers**eta * base ** (1 - eta)
    moved /= moved.sum(axis=1, keepdims=True)
    ours = self_distillation_optimum(base, np.log(teachers / base).T, q, eta, divergence)
    assert ours.sum() == pytest.approx(1, abs=1e-12)
    assert np.ptp(q @ GRADIENTS[divergence](ours, moved)) < 1e-9


@pytest.mark.parametrize("penalty", [0.0, 0.5, 3.0])
def test_a_penalty_towards_the_base_scales_the_tilt(penalty):
    teachers, q, base = random_world(8)
    pcmi = np.log(teachers / base).T
    eta = 1 / (1 + penalty)
    ours = self_distillation_optimum(base, pcmi, q, eta)
    assert np.ptp(q @ np.log(ours / teachers) + penalty * np.log(ours / base)) < 1e-9
    by_hand = base * np.exp(eta * (pcmi @ q))
    assert ours == pytest.approx(by_hand / by_hand.sum(), abs=1e-12)


@pytest.mark.parametrize(("beta", "distillation"), [(0.7, 0.4), (0.0, 0.5), (0.5, 0.0)])
def test_reward_distillation_and_penalty_together(beta, distillation):
    teachers, q, base = random_world(9)
    reward = np.array([1.0, 0, 1, 0, 0.5])
    total = beta + distillation
    distilled = self_distillation_optimum(
        base, np.log(teachers / base).T, q, weight=distillation / total
    )
    ours = rl_optimum(distilled, reward, total)
    assert ours.sum() == pytest.approx(1, abs=1e-12)
    slope = distillation * q @ np.log(ours / teachers) + beta * np.log(ours / base) - reward
    assert np.ptp(slope) < 1e-9


def test_rl_maximises_the_penalised_reward():
    beta = 0.5
    ours = rl_optimum(BASE, CORRECT, beta)
    assert ours.sum() == pytest.approx(1, abs=1e-12)
    assert np.ptp(beta * np.log(ours / BASE) - CORRECT) < 1e-9
    # The log-odds of being correct rise by 1/β, and ratios among correct answers stay.
    assert special.logit(ours[:3].sum()) == pytest.approx(special.logit(0.6) + 1 / beta)
    assert slope(ours) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("teachers", "demos", "slopes"),
    [
        (boost(2.0), POLICY_DEMOS, (1.66, 1.57, 1.31)),
        (boost(2.0), UNIFORM_DEMOS, (1.00, 0.79, 0.63)),
        (copy_mixture(0.5), POLICY_DEMOS, (1.31, 1.2345, 1.00)),
        (copy_mixture(0.5), UNIFORM_DEMOS, (0.72, 0.53, 0.37)),
    ],
)
def test_slopes_of_the_world_with_four_answers(teachers, demos, slopes):
    found = [
        slope(distillation_optimum(np.log(teachers), demos, divergence).prob)
        for divergence in ("reverse", "jsd", "forward")
    ]
    assert found == pytest.approx(slopes, abs=0.0051)


TREE = ["", "a", "aa", "aab", "b", "ba", "bb", "cab", "cac"]


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_token_optimum_on_a_tree(seed):
    teachers, q, base = random_world(seed, n_demos=3, n_answers=len(TREE))
    ours = token_optimum(TREE, np.log(teachers), q)
    whole = distillation_optimum(np.log(teachers), q)
    assert ours.prob.sum() == pytest.approx(1, abs=1e-12)
    assert ours.value == pytest.approx(q @ kl(ours.prob, teachers), abs=1e-12)
    assert whole.value <= ours.value + 1e-12
    # One demonstration leaves nothing to disagree about.
    alone = token_optimum(TREE, np.log(teachers[:1]))
    assert alone.prob == pytest.approx(teachers[0], abs=1e-12)
    # The tilt at each prefix by hand, for the first token.
    first = np.array([word[:1] for word in TREE])
    letters = ["", "a", "b", "c"]
    mass = np.array([[row[first == letter].sum() for letter in letters] for row in teachers])
    expected = special.softmax(q @ np.log(mass))
    assert [ours.prob[first == letter].sum() for letter in letters] == pytest.approx(expected)
    half = token_optimum(TREE, np.log(teachers), q, log_base=np.log(base), weight=0.5)
    of_base = np.array([base[first == letter].sum() for letter in letters])
    expected = special.softmax(0.5 * q @ np.log(mass) + 0.5 * np.log(of_base))
    assert [half.prob[first == letter].sum() for letter in letters] == pytest.approx(expected)


def test_forward_token_optimum_is_the_arithmetic_mean_of_each_token():
    answers = ["ax", "ay", "bx"]
    teachers = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    ours = token_optimum(answers, np.log(teachers), divergence="forward").prob
    assert ours == pytest.approx([0.5 * 0.5625, 0.5 * 0.4375, 0.5])


def test_jsd_where_demonstrations_hardly_overlap():
    teachers = np.array([[0.999, 1e-12, 0.001 - 1e-12], [1e-12, 0.5, 0.5 - 1e-12]])
    q = np.array([0.999, 0.001])
    p = distillation_optimum(np.log(teachers), q, "jsd").prob
    levels = q @ np.log(2 * p / (p + teachers))
    assert np.ptp(levels) < 1e-9


def test_one_demonstrations_zero_is_a_veto_under_reverse_kl_only():
    with np.errstate(divide="ignore"):
        teachers = np.log([[0.5, 0.5, 0.0], [0.2, 0.0, 0.8]])
    reverse = distillation_optimum(teachers)
    assert reverse.prob.tolist() == [1.0, 0.0, 0.0]
    assert reverse.vetoed.tolist() == [False, True, True]
    assert reverse.value == pytest.approx(-0.5 * np.log(0.1))
    for divergence in ("forward", "jsd"):
        other = distillation_optimum(teachers, divergence=divergence)
        assert (other.prob > 0.01).all()
        assert not other.vetoed.any()
    jsd_prob = distillation_optimum(teachers, divergence="jsd").prob
    assert np.ptp(np.mean(np.log(2 * jsd_prob / (jsd_prob + np.exp(teachers))), axis=0)) < 1e-12
    # A demonstration that is never drawn vetoes nothing, and a weight of 0 is the base.
    assert distillation_optimum(teachers, [1, 0]).prob.tolist() == [0.5, 0.5, 0.0]
    base = np.full(3, 1 / 3)
    pcmi = teachers.T - np.log(base)[:, None]
    assert self_distillation_optimum(base, pcmi, weight=0.0) == pytest.approx(base)


def test_answers_nobody_gives_stay_out_without_being_vetoed():
    with np.errstate(divide="ignore"):
        teachers = np.log([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    for divergence in ("reverse", "forward", "jsd"):
        found = distillation_optimum(teachers, divergence=divergence)
        assert found.prob[2] == 0
        assert not found.vetoed.any()
    assert rl_optimum([0.5, 0.0, 0.5], [0, 1, 0], 1.0)[1] == 0
    # Not read where the base is zero.
    pcmi = [[0.1], [np.nan], [-0.1]]
    assert self_distillation_optimum([0.5, 0.0, 0.5], pcmi)[1] == 0


def test_a_prefix_after_which_all_tokens_are_vetoed():
    with np.errstate(divide="ignore"):
        teachers = np.log([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    refuses(r"after the prefix \['b'\].*ruled out", token_optimum, ["a", "bx", "by"], teachers)
    assert distillation_optimum(teachers).prob.tolist() == [1, 0, 0]
    # Out of reach, it does no harm.
    with np.errstate(divide="ignore"):
        teachers = np.log([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    found = token_optimum(["a", "bx", "by"], teachers)
    assert found.prob.tolist() == [1, 0, 0]
    assert found.vetoed.tolist() == [False, False, True]


def test_tiny_probabilities_dont_underflow():
    teachers = np.array([[-1000.0, -1000.0 - np.log(3)], [-3000.0, -3000.0]])
    assert distillation_optimum(teachers).prob[0] == pytest.approx(3**0.5 / (1 + 3**0.5))


test_bad_input_is_refused = refusals(
    (lambda: rl_optimum([0.5, -0.1], [1, 0], 1.0), r"base\[1\] is -0.1"),
    (lambda: rl_optimum([0.0, 0.0], [1, 0], 1.0), "no answer has any probability"),
    (lambda: rl_optimum([0.5, 0.5], [1], 1.0), "reward has shape"),
    (lambda: rl_optimum([0.5, 0.5], [1, np.nan], 1.0), r"reward\[1\] is nan"),
    (lambda: rl_optimum([0.5, 0.5], [1, 0], 0.0), "beta=0.0 must be positive"),
    (lambda: rl_optimum([[0.5, 0.5]], [1, 0], 1.0), "must have shape"),
    (lambda: distillation_optimum([[0.1, -1.0]]), r"log_teacher\[0, 0\] is 0.1"),
    (lambda: distillation_optimum([[np.nan, -1.0]]), r"\[0, 0\] is nan"),
    (lambda: distillation_optimum([-1.0, -1.0]), "must have shape"),
    (lambda: distillation_optimum([[-1.0, -1.0]], [1, 2]), "demo_weights has shape"),
    (lambda: distillation_optimum([[-1.0, -1.0]], [-1]), "not negative"),
    (lambda: distillation_optimum([[-1.0, -1.0]], divergence="kl"), "is none of"),
    (lambda: distillation_optimum([[-1.0, -1.0]], divergence="jsd"), "sums to 0.735759"),
    (lambda: distillation_optimum([[-1.0, -1.0]], weight=0.5), "give log_base"),
    (lambda: distillation_optimum([[-1.0, -1.0]], weight=-1), "not negative"),
    (lambda: distillation_optimum([[-1.0, -1.0]], weight=0.5, log_base=[0.0]), "but log_base 1"),
    (
        lambda: distillation_optimum([[0.0, -np.inf]], weight=0.5, log_base=[-np.inf, 0.0]),
        "rules out every answer",
    ),
    (lambda: distillation_optimum([[0.0, -np.inf], [-np.inf, 0.0]]), "every answer is"),
    (lambda: self_distillation_optimum([0.5, 0.5], [[0.0]]), "a row for each of 2"),
    (lambda: self_distillation_optimum([0.5, 0.5], [[0.0], [np.inf]]), r"pcmi\[1, 0\] is inf"),
    (lambda: token_optimum(["a", "a"], [[-1.0, -1.0]]), "answers 0 and 1 are equal"),
    (lambda: token_optimum(["a"], [[-1.0, -1.0]]), "lists 2 answers, but tokens 1"),
    (lambda: token_optimum(["a"], [[0.0]], log_base=[0.0, 0.0]), "but log_base 2"),
)
