import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from passk_lab.teacher.dynamics import fixed_points, rl_trajectory
from passk_lab.teacher.dynamics import self_distillation_trajectory as trajectory
from passk_lab.teacher.optimum import distillation_optimum
from passk_lab.teacher.worlds import BoostWorld, StyleWorld
from tests.helpers import refusals, refuses

FOUR = np.array([0.30, 0.18, 0.12, 0.40])  # the last is wrong
CORRECT = np.array([True, True, True, False])
STYLES = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.1, 0.3, 0.5]])
copying = StyleWorld.copying


def slope(before, after):
    return np.polyfit(np.log(before), np.log(after), 1)[0]


def stays(prob, abs=1e-12):
    """As in the first generation."""
    return prob == pytest.approx(np.broadcast_to(prob[0], prob.shape), abs=abs)


def random_worlds(seed, n_worlds=3, n_modes=4, correct=True):
    rng = np.random.default_rng(seed)
    base = rng.dirichlet(np.ones(n_modes), size=n_worlds)
    return (
        BoostWorld(base, rng.uniform(0.1, 3, n_worlds), rng.normal(size=n_modes), correct),
        copying(base, rng.uniform(0.1, 0.9, n_worlds), correct),
        StyleWorld(
            rng.dirichlet(np.ones(3), size=n_worlds),
            rng.dirichlet(np.ones(n_modes), size=(n_worlds, 3)),
            rng.uniform(0.1, 0.9, n_worlds),
            correct,
        ),
    )


@pytest.mark.parametrize(("kappa", "top"), [(1.5, 0.685), (4.0, 0.980)])
def test_frozen_boost(kappa, top):
    world = BoostWorld([0.5, 0.3, 0.2], kappa)
    path = trajectory(world, 200, teacher="frozen")
    assert path.prob[-1, 0, 0] == pytest.approx(top, abs=5e-4)
    p = path.prob[-1, 0]
    assert p == pytest.approx(special.softmax(np.log([0.5, 0.3, 0.2]) + kappa * p), abs=1e-9)


@pytest.mark.slow
def test_practical_policy_gradient_amplifies_and_ideal_rl_does_not():
    vanilla = rl_trajectory(FOUR, CORRECT, 16_000, step=0.05, gradient="vanilla")
    for accuracy, expected in [(0.77, 1.21), (0.90, 1.52), (0.99, 2.5)]:
        at = np.argmax(vanilla.accuracy[:, 0] >= accuracy)
        assert slope(FOUR[:3], vanilla.prob[at, 0, :3]) == pytest.approx(expected, abs=0.03)
    natural = rl_trajectory(FOUR, CORRECT, 30)
    assert natural.accuracy[-1, 0] > 0.99
    ratios = natural.prob[:, 0, :3] / natural.prob[:, 0, :1]
    assert ratios == pytest.approx(np.tile(FOUR[:3] / FOUR[0], (31, 1)), rel=1e-12)
    assert natural.effective_modes == pytest.approx(natural.effective_modes[0, 0], rel=1e-12)


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
@pytest.mark.parametrize("weight", [1.0, 0.4])
@pytest.mark.parametrize("demos", ["policy", "uniform"])
@pytest.mark.parametrize("correct", [True, CORRECT])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_generation_is_the_optimum_of_distillation(kind, correct, demos, weight, divergence):
    world = random_worlds(kind, correct=correct)[kind]
    path = trajectory(world, 3, demos=demos, weight=weight, divergence=divergence)
    for t in range(3):
        teachers = np.swapaxes(path.log_prob[t][:, :, None] + world.pcmi(path.log_prob[t]), 1, 2)
        assert special.logsumexp(teachers, axis=2) == pytest.approx(0, abs=1e-12)
        law = np.where(world.correct, path.prob[t] if demos == "policy" else 1.0, 0.0)
        for w in range(3):
            best = distillation_optimum(
                teachers[w], law[w], divergence, path.log_prob[t, w], weight
            )
            assert path.log_prob[t + 1, w] == pytest.approx(best.log_prob, abs=1e-9)


def test_the_teacher_of_styles_is_the_posterior_prediction():
    prior, h = np.array([0.6, 0.4]), 0.7
    world = StyleWorld(prior, STYLES, h)
    base = prior @ STYLES
    assert np.exp(world.log_base[0]) == pytest.approx(base)
    posterior = prior[:, None] * STYLES / base  # style, demonstration
    teacher = (1 - h) * base[:, None] + h * STYLES.T @ posterior
    assert np.exp(world.pcmi(world.log_base)[0]) == pytest.approx(teacher / base[:, None])


def test_later_generations_keep_the_styles_of_answers():
    prior, h = np.array([0.6, 0.4]), 0.7
    world = StyleWorld(prior, STYLES, h)
    p = trajectory(world, 5).prob[5, 0]
    joint = p * (prior[:, None] * STYLES) / (prior @ STYLES)
    later = StyleWorld(joint.sum(1), joint / joint.sum(1, keepdims=True), h)
    assert later.pcmi(np.log(p)[None]) == pytest.approx(world.pcmi(np.log(p)[None]), abs=1e-12)


def test_one_answer_a_style_is_the_copy_mixture():
    p = np.array([0.5, 0.3, 0.2])
    world = copying(p, 0.6)
    teacher = 0.4 * p[:, None] + 0.6 * np.eye(3)
    assert np.exp(world.pcmi(world.log_base)[0]) == pytest.approx(teacher / p[:, None])


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
@pytest.mark.parametrize("demos", ["policy", "base", "uniform"])
@pytest.mark.parametrize("teacher", ["moving", "frozen"])
def test_uninformative_demonstrations_move_nothing(teacher, demos, divergence):
    p = np.array([0.5, 0.3, 0.2])
    for world in (
        BoostWorld(p, 0.0),
        copying(p, 0.0),
        StyleWorld([0.6, 0.4], STYLES, 0.0),
        StyleWorld([0.6, 0.4], np.tile(STYLES[1], (2, 1)), 1.0),  # styles that don't differ
    ):
        path = trajectory(
            world, 30, teacher, demos, divergence=divergence, n_demos=3, random_state=0
        )
        assert stays(path.prob)


@pytest.mark.slow
@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.floats(0.1, 0.95), st.floats(0.3, 2)
)
@settings(max_examples=20)
def test_with_a_copying_teacher_the_winner_takes_all(weights, kappa, eta):
    p = np.array(weights)
    p[0] = p.max() * 1.05
    p /= p.sum()
    path = trajectory(copying(p, kappa), 400, weight=eta)
    odds = path.log_prob[:, 0, :1] - path.log_prob[:, 0, 1:]
    # The bound of the proof, in every generation.
    gap = (1 - p[1:].max() / p[0]) / len(p)
    rho = kappa / (1 - kappa)
    bound = eta * gap * (np.log1p(rho) - rho / (1 + rho))
    assert (np.diff(odds, axis=0) >= bound - 1e-9).all()
    assert (odds[-1] - odds[0] >= 400 * bound * (1 - 1e-9)).all()
    assert path.effective_modes[-1, 0] <= path.effective_modes[0, 0]


@pytest.mark.slow
def test_the_winner_has_taken_all():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), size=50)
    path = trajectory(copying(p, 0.8), 2000)
    assert np.isfinite(path.log_prob).all()  # nothing underflows
    assert path.effective_modes[-1] == pytest.approx(1, abs=1e-9)
    assert (path.prob[-1].argmax(axis=1) == p.argmax(axis=1)).all()
    # Losers decay by (1-κ)^η a generation in the end.
    assert np.diff(path.log_prob[-2:, 0, p[0].argmin()]) == pytest.approx(np.log(0.2))


def test_one_demonstration_of_a_perfect_copier_decides_at_once():
    world = copying([0.5, 0.3, 0.2], 1.0)
    path = trajectory(world, 1, n_demos=1, random_state=0)
    assert sorted(path.prob[1, 0]) == [0, 0, 1]
    refuses("world 0 together veto every answer", trajectory, world, 1)


def test_balanced_demonstrations_freeze_the_ratios_and_preferences_grow_linearly():
    preference = np.array([0.2, 0.0, -0.1])
    world = BoostWorld([0.5, 0.3, 0.2], 1.5)
    path = trajectory(world, 20, demos="uniform")
    assert stays(path.prob)
    world = BoostWorld([0.5, 0.3, 0.2], 1.5, preference)
    path = trajectory(world, 20, demos="uniform", weight=0.5)
    odds = path.log_prob[:, 0, :1] - path.log_prob[:, 0, 1:]
    grown = odds[0] + 0.5 * np.arange(21)[:, None] * (preference[0] - preference[1:])
    assert odds == pytest.approx(grown, abs=1e-10)


def test_balanced_demonstrations_of_a_copier_level_the_modes():
    path = trajectory(copying([0.7, 0.2, 0.1], 0.5), 200, demos="uniform")
    assert path.prob[-1, 0] == pytest.approx(1 / 3, abs=1e-9)
    assert (np.diff(path.effective_modes[:, 0]) >= -1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_forward_kl_is_the_identity_where_the_joint_law_is_coherent(seed):
    boost, *coherent = random_worlds(seed)
    for world in coherent:
        path = trajectory(world, 10, divergence="forward")
        assert stays(path.prob)
    moved = trajectory(boost, 10, divergence="forward").prob
    assert np.abs(moved[-1] - moved[0]).max() > 0.01


def test_all_frozen_goes_once_to_the_optimum():
    world = BoostWorld([0.5, 0.3, 0.2], 2.0)
    path = trajectory(world, 5, teacher="frozen", demos="base")
    assert path.prob[1, 0] == pytest.approx(
        special.softmax(np.log([0.5, 0.3, 0.2]) + 2 * np.array([0.5, 0.3, 0.2]))
    )
    assert stays(path.prob[1:], 1e-15)


@pytest.mark.slow
def test_the_time_to_collapse_from_near_equality():
    m, kappa, start, end = 4, 0.05, 1e-6, 1e-3
    p = np.full(m, 1 / m)
    p[0] += start
    path = trajectory(BoostWorld(p / p.sum(), kappa), 3000)
    taken = np.argmax(path.prob[:, 0, 0] > 1 - end)
    theory = m / kappa * np.log(1 / (m * start)) + np.log(1 / end) / kappa
    assert taken == pytest.approx(theory, rel=0.1)


def test_drift_of_the_log_odds():
    p = np.array([0.5, 0.3, 0.2])
    world = BoostWorld(np.tile(p, (40_000, 1)), 1.2)
    log_p = trajectory(world, 1, demos=p, weight=0.5, n_demos=6, random_state=0).log_prob[1]
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        expected = (0.5 * 1.2) ** 2 * (p[i] + p[j] - (p[i] - p[j]) ** 2) / 6
        assert np.var(log_p[:, i] - log_p[:, j]) == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
def test_balanced_in_the_mean_still_drifts():
    world = BoostWorld(np.full((500, 4), 0.25), 1.0)
    path = trajectory(world, 400, demos="uniform", n_demos=4, random_state=1)
    assert path.effective_modes[-1].mean() < 1.5


@pytest.mark.slow
def test_forward_kl_with_few_demonstrations_is_neutral_drift():
    p, kappa, n, t = np.array([0.5, 0.3, 0.2]), 0.8, 5, 6
    world = copying(np.tile(p, (20_000, 1)), kappa)
    path = trajectory(world, t, divergence="forward", n_demos=n, random_state=2).prob[-1]
    assert path.mean(axis=0) == pytest.approx(p, abs=0.01)
    differ = (1 - (path**2).sum(axis=1)).mean()
    assert differ == pytest.approx((1 - kappa**2 / n) ** t * (1 - (p**2).sum()), rel=0.01)


def test_random_states_repeat():
    world = copying([0.5, 0.5], 0.5)
    first, second = (trajectory(world, 5, n_demos=2, random_state=7).log_prob for _ in "ab")
    assert (first == second).all()


@pytest.mark.slow
def test_moving_worlds_rest_on_equal_modes_only_and_keep_one():
    for kernel, world in [
        ("boost", BoostWorld([0.5, 0.3, 0.2], 0.7)),
        ("copy", copying([0.5, 0.3, 0.2], 0.7)),
    ]:
        found = fixed_points(world, weight=0.6)
        assert len(found) == 7
        assert [p.stable for p in found] == [True] * 3 + [False] * 4
        for point in found[3:]:
            m = round(1 / point.prob.max())
            assert np.sort(point.prob)[::-1] == pytest.approx([1 / m] * m + [0] * (3 - m), abs=1e-9)
            odds = m * 0.7 / (1 - 0.7)
            slope_at_equality = {"boost": 0.7, "copy": np.log1p(odds) - odds / (1 + odds)}
            growth = 1 + 0.6 / m * slope_at_equality[kernel]
            assert point.multiplier == pytest.approx(growth, abs=1e-6)
    for world, decay in ((BoostWorld, np.exp(-0.7)), (copying, 0.3)):
        found = fixed_points(world([0.5, 0.5], 0.7))[0].multiplier
        assert found == pytest.approx(decay, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "appears"), [(3, 2.746), (5, 3.565)])
def test_fixed_points_around_the_critical_weights(m, appears):
    def stable(kappa):
        points = fixed_points(BoostWorld(np.full(m, 1 / m), kappa), "frozen", n_starts=8)
        tops = [p.prob.max() for p in points if p.stable]
        return sum(top > 1 / m + 1e-3 for top in tops), any(top < 1 / m + 1e-3 for top in tops)

    assert stable(appears - 0.02) == (0, True)
    assert stable(appears + 0.02) == (m, True)
    assert stable(m - 0.02) == (m, True)
    assert stable(m + 0.02) == (m, False)


def test_fixed_points_of_a_skewed_frozen_world_are_where_iterations_end():
    world = BoostWorld([0.5, 0.3, 0.2], 1.5)
    (only,) = fixed_points(world, "frozen")
    assert only.stable
    assert only.prob[0] == pytest.approx(0.685, abs=5e-4)
    path = trajectory(world, 40, "frozen").prob[:, 0]
    errors = np.abs(path - only.prob).max(axis=1)
    assert errors[30] / errors[29] == pytest.approx(only.multiplier, rel=0.01)


@pytest.mark.slow
def test_two_answers_of_any_styles_rest_at_equality():
    world = StyleWorld([0.8, 0.2], [[0.9, 0.1], [0.3, 0.7]], 0.9)
    inner = [p for p in fixed_points(world) if p.prob.min() > 0]
    assert [p.prob.round(9).tolist() for p in inner] == [[0.5, 0.5]]
    assert not inner[0].stable


@pytest.mark.slow
def test_losers_whose_styles_overlap_die_slowly():
    prior, styles = np.array([0.8, 0.2]), np.array([[0.9, 0.1], [0.3, 0.7]])
    h, eta, t = 0.9, 0.6, 4000
    path = trajectory(StyleWorld(prior, styles, h), t, weight=eta)
    first, second = (prior[:, None] * styles / (prior @ styles)).T
    chi = np.sum((second - first) ** 2 / first)
    rate = eta * (h * chi - np.log1p(h * chi))
    # Over the second half, where the start and terms of second order matter little.
    steps = np.diff(1 / path.prob[[t // 2, t], 0, 1]) / (t / 2)
    assert steps == pytest.approx(rate, rel=0.02)


def test_where_every_policy_is_fixed():
    (only,) = fixed_points(copying([0.5, 0.3, 0.2], 0.0))
    assert only.prob == pytest.approx([0.5, 0.3, 0.2])
    assert not only.stable


def half_life(share, influence, weight=1.0, n_generations=300):
    """Of the rarer of two styles, one answer a style."""
    share, influence = (v.ravel() for v in np.broadcast_arrays(share, influence))
    base = np.stack([1 - share, share], axis=1)
    path = trajectory(copying(base, influence), n_generations, weight=weight)
    return path.half_life()


@pytest.mark.slow
def test_half_life_falls_with_skew_and_influence():
    skews, influences = np.array([[0.49], [0.3], [0.1], [1e-9]]), np.array([0.1, 0.5, 0.9])
    found = half_life(skews, influences).reshape(4, 3)
    assert (np.diff(found, axis=0) < 0).all()
    assert (np.diff(found, axis=1) < 0).all()
    assert found[-1] == pytest.approx(np.log(2) / -np.log1p([-0.1, -0.5, -0.9]), rel=1e-6)
    assert half_life([0.5, 0.2], [0.5, 0.0]).tolist() == [np.inf, np.inf]
    assert half_life(0.2, 0.5, 0.0) == np.inf
    assert half_life(0.4, 1e-3, n_generations=10) == np.inf


def test_accuracy_and_effective_modes():
    world = BoostWorld([FOUR, FOUR[[1, 0, 2, 3]]], [1.0, 2.0], correct=CORRECT)
    path = trajectory(world, 3)
    assert path.accuracy[0] == pytest.approx(0.6)
    assert (np.diff(path.accuracy, axis=0) > 0).all()
    even = trajectory(BoostWorld(np.full(7, 1 / 7)), 0)
    assert even.effective_modes == pytest.approx(7)


def test_zero_probabilities_stay():
    world = StyleWorld([0.6, 0.4], STYLES * [1, 1, 1, 0] / [[1.0], [0.5]], 0.5)
    for divergence in ("reverse", "forward"):
        for demos in ("policy", "uniform"):
            path = trajectory(world, 5, demos=demos, divergence=divergence)
            assert (path.prob[:, 0, 3] == 0).all()
            assert path.prob.sum(axis=2) == pytest.approx(1)


@pytest.mark.slow
def test_a_thousand_worlds_are_quick():
    rng = np.random.default_rng(0)
    world = StyleWorld(
        rng.dirichlet(np.ones(4), size=1000), rng.dirichlet(np.ones(10), size=(1000, 4)), 0.8
    )
    start = time.perf_counter()
    path = trajectory(world, 50)
    assert time.perf_counter() - start < 10  # about 1 s on an idle core
    assert path.log_prob.shape == (51, 1000, 10)


test_refusals = refusals(
    (lambda: BoostWorld([0.5, 0.4]), "base.0. sums to 0.9; normalise"),
    (lambda: BoostWorld([1.5, -0.5]), "base.0, 1. is -0.5"),
    (lambda: BoostWorld([0.5, 0.5], [1.0, 2.0]), "boost has shape"),
    (lambda: BoostWorld([0.5, 0.5], np.inf), "boost must be finite"),
    (lambda: BoostWorld([0.5, 0.5], preference=[1, 2, 3]), "preference has shape"),
    (lambda: BoostWorld([0.5, 0.5], correct=[1, 0]), "correct holds"),
    (lambda: BoostWorld([0.5, 0.5], correct=[True] * 3), "correct has shape"),
    (lambda: BoostWorld([1.0, 0.0], correct=[False, True]), "gives no correct answer"),
    (lambda: copying([0.5, 0.5], 1.5), "influence=1.5 must lie between"),
    (lambda: StyleWorld([0.5, 0.5], [[1.0]]), "styles has shape"),
    (lambda: StyleWorld(np.full((3, 2), 0.5), np.full((2, 2, 2), 0.5)), "prior has 3 worlds"),
    (lambda: trajectory(copying([1.0]), -1), "n_generations=-1"),
    (lambda: trajectory(copying([1.0]), 1, "slow"), "teacher='slow'"),
    (lambda: trajectory(copying([1.0]), 1, demos="x"), "demos='x'"),
    (lambda: trajectory(copying([1.0]), 1, demos=[0.5, 0.5]), "demos has"),
    (lambda: trajectory(copying([1.0]), 1, weight=-1), "weight=-1"),
    (lambda: trajectory(copying([1.0]), 1, n_demos=0), "n_demos=0"),
    (lambda: trajectory(copying([1.0]), 1, divergence="jsd"), "divergence='jsd'"),
    (lambda: rl_trajectory([0.5, 0.5], [1, 0, 0], 1), "reward has shape"),
    (lambda: rl_trajectory([1.0], [1], 1, gradient="x"), "gradient='x'"),
    (lambda: rl_trajectory([1.0], [1], -1), "n_generations=-1"),
    (lambda: fixed_points(copying(np.full((2, 2), 0.5))), "world holds 2 worlds"),
    (lambda: fixed_points(copying(np.full(9, 1 / 9))), "at most 8"),
)
