import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from passk_lab.teacher import decompose
from passk_lab.teacher._scores import checked_scores
from passk_lab.teacher.optimum import self_distillation_optimum
from passk_lab.teacher.slopes import gap_slope
from passk_lab.teacher.sources import SOURCES, problem_decompositions, source_table, tilt_sources
from tests.helpers import refusals, refuses, scored_rollouts

quick = settings(max_examples=25, phases=[Phase.generate], database=None)


def planted(seed, n=5, m=4):
    rng = np.random.default_rng(seed)
    w, nu = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    a, b = rng.normal(size=n), rng.normal(size=m)
    a, b = a - w @ a, b - nu @ b
    g = rng.normal(size=(n, m))
    g = g - (g @ nu)[:, None]
    g = g - w @ g
    mean = rng.normal()
    return mean, a, b, g, w, nu, mean + a[:, None] + b + g


@pytest.mark.slow
@quick
@given(st.integers(0, 10**6))
def test_planted_effects_come_back(seed):
    mean, a, b, g, w, nu, matrix = planted(seed)
    parts = decompose(matrix, w, nu)
    assert parts.mean == pytest.approx(mean, abs=1e-12)
    assert parts.rollout_effect == pytest.approx(a, abs=1e-12)
    assert parts.demo_effect == pytest.approx(b, abs=1e-12)
    assert parts.interaction == pytest.approx(g, abs=1e-12)
    total = parts.mean + parts.rollout_effect[:, None] + parts.demo_effect + parts.interaction
    assert total == pytest.approx(matrix, abs=1e-14)
    assert sum(parts.shares().values()) == pytest.approx(1, abs=1e-12)
    # The tilt's formula, for any law of the demonstrations.
    q = np.random.default_rng(seed + 1).dirichlet(np.ones(4))
    assert parts.tilt(q) == pytest.approx(mean + a + q @ b + g @ (q - nu), abs=1e-12)
    assert parts.tilt(q) == pytest.approx(matrix @ q, abs=1e-12)


@pytest.mark.slow
@quick
@given(st.integers(0, 10**6))
def test_missing_pairs_are_fitted_by_weighted_least_squares(seed):
    *_, w, nu, matrix = planted(seed)
    rng = np.random.default_rng(seed)
    holes = np.where(rng.random(matrix.shape) < 0.15, np.nan, matrix)
    holes[0], holes[:, 0] = matrix[0], matrix[:, 0]
    parts = decompose(holes, w, nu)
    rows, columns = np.nonzero(~np.isnan(holes))
    root = np.sqrt(w[rows] * nu[columns])
    design = np.column_stack([np.eye(5)[rows], np.eye(4)[columns]])
    fit = np.linalg.lstsq(design * root[:, None], holes[rows, columns] * root, rcond=None)[0]
    ours = parts.mean + parts.rollout_effect[:, None] + parts.demo_effect
    assert ours[rows, columns] == pytest.approx(design @ fit, abs=1e-8)
    missing = np.isnan(holes)
    assert parts.n_missing == missing.sum()
    assert (np.isnan(parts.interaction) == missing).all()
    assert parts.filled == pytest.approx(np.where(missing, ours, holes), abs=1e-8)
    assert w @ parts.rollout_effect == pytest.approx(0, abs=1e-10)
    assert nu @ parts.demo_effect == pytest.approx(0, abs=1e-10)


def test_rows_and_columns_without_weight_have_effects_all_the_same():
    matrix = np.array([[1.0, 2.0, 5.0], [3.0, 4.0, 0.0], [9.0, 9.0, 9.0]])
    w, nu = [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]
    full = decompose(matrix, w, nu)
    assert full.rollout_effect.tolist() == [-1, 1, 6.5]
    assert full.demo_effect.tolist() == [-0.5, 0.5, 0]
    holes = matrix.copy()
    holes[2, 2] = np.nan
    parts = decompose(holes, w, nu)
    assert parts.rollout_effect == pytest.approx(full.rollout_effect)
    assert parts.demo_effect == pytest.approx(full.demo_effect)


def test_vetoed_rollouts_are_kept_and_spoil_nothing():
    matrix = np.array([[1.0, 2.0], [3.0, 5.0], [-np.inf, 1.0]])
    parts = decompose(matrix)
    assert parts.vetoed.tolist() == [False, False, True]
    assert parts.rollout_effect[2] == -np.inf
    assert np.isnan(parts.interaction[2]).all()
    alone = decompose(matrix[:2])
    assert parts.mean == alone.mean
    assert parts.demo_effect.tolist() == alone.demo_effect.tolist()
    assert parts.shares() == alone.shares()
    assert parts.tilt([0.5, 0.5]).tolist() == [1.5, 4.0, -np.inf]
    assert parts.tilt([0, 1]).tolist() == [2.0, 5.0, 1.0]
    matrix[0, 0] = np.nan
    matrix[2, 1] = np.nan
    assert decompose(matrix).tilt([1, 1])[2] == -np.inf


def test_copying_is_the_diagonal():
    parts = decompose(np.eye(4) * 3)
    assert parts.within_minus_between("abcd", "abcd") == pytest.approx(3)
    assert parts.shares()["interaction"] == pytest.approx(1)
    assert np.isnan(decompose(np.ones((2, 2))).within_minus_between("ab", "cd"))
    assert np.isnan(decompose(np.ones((2, 2))).shares()["rollout"])


def test_a_coherent_joint_law_has_a_symmetric_matrix():
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(3))
    styles = rng.dirichlet(np.ones(5), size=3)
    base = prior @ styles
    joint = np.einsum("s,sy,sc->yc", prior, styles, styles)
    pcmi = np.log(joint / np.outer(base, base))
    assert decompose(pcmi).asymmetry() == pytest.approx(0, abs=1e-12)
    pcmi[0, 1] += 2
    assert decompose(pcmi).asymmetry() == pytest.approx(2 / np.sqrt(10))
    pcmi[0, 1] = np.nan
    assert decompose(pcmi).asymmetry() == pytest.approx(0, abs=1e-12)
    assert np.isnan(decompose([[1.0]]).asymmetry())


def test_slope_is_one_plus_teacher_plus_sampling():
    """The copying mixture of the theory notes: 1 - .252 + .460 = 1.209."""
    found = []
    for base in (np.array([0.5, 0.3, 0.2]), np.array([0.30, 0.18, 0.12, 0.40])):
        teachers = 0.5 * base + 0.5 * np.eye(len(base))[:3]
        pcmi = np.log(teachers / base).T[:3]
        q, log_base = base[:3] / base[:3].sum(), np.log(base[:3])
        parts = decompose(pcmi)
        sampling = parts.interaction @ (q - parts.demo_weights)
        centred = log_base - log_base.mean()
        teacher_part = centred @ parts.rollout_effect / (centred @ centred)
        sampling_part = centred @ sampling / (centred @ centred)
        whole = gap_slope(
            log_base, np.log(self_distillation_optimum(base[:3], pcmi, q)), list("xxx")
        )
        assert whole == pytest.approx(1 + teacher_part + sampling_part, abs=1e-12)
        predicted = gap_slope(log_base, log_base + parts.tilt(q), list("xxx"))
        assert whole == pytest.approx(predicted, abs=1e-12)
        found.append((teacher_part, sampling_part, whole))
    assert found[0] == pytest.approx((-0.252, 0.460, 1.209), abs=0.0005)
    assert found[1] == pytest.approx((-0.279, 0.592, 1.313), abs=0.002)


test_bad_matrices_are_refused = refusals(
    (lambda: decompose([1.0, 2.0]), "must have shape"),
    (lambda: decompose([[1.0, np.inf]]), r"pcmi\[0, 1\] is inf"),
    (lambda: decompose([[-np.inf]]), "every rollout with weight"),
    (lambda: decompose([[1.0], [2.0]], [1.0]), "rollout_weights has shape"),
    (lambda: decompose([[1.0], [2.0]], [-1.0, 1.0]), "rollout_weights must be finite"),
    (lambda: decompose([[1.0, np.nan]]), "demonstration 1 has no scored pair"),
    (lambda: decompose([[1.0, 2.0], [np.nan] * 2]), "rollout 1 has no scored pair"),
    (lambda: decompose([[1.0, np.nan], [np.nan, 2.0]]), "fall apart into 2 groups"),
    (lambda: decompose([[1.0]]).within_minus_between("ab", "a"), "labels for a matrix"),
    (lambda: decompose([[1.0, 2.0]]).asymmetry(), "must be the same answers"),
)


def adds_up(sources):
    parts = sources[list(SOURCES)].sum(axis=1).to_numpy()
    return parts == pytest.approx(sources["tilt"].to_numpy(), abs=1e-12)


def world(n_problems=4, seed=0, n_samples=12, n_demos=6):
    """Every right answer occurs at least twice, and one rollout is wrong."""
    rng = np.random.default_rng(seed)
    problems = []
    for _ in range(n_problems):
        law = rng.dirichlet(np.full(3, 2.0))
        alone = np.log(0.7 * law)
        drawn = [0, 0, 1, 1, 2, 2, *rng.choice(3, n_samples - 6, p=law), 3]
        pcmi = rng.normal(size=(3, 3)) + np.eye(3)
        given = np.vstack([np.minimum(alone[:, None] + pcmi, 0), [-2.0] * 3])
        problems.append((drawn, [*alone, -1.5], given, range(n_demos)))
    return scored_rollouts(problems, ["m0", "m1", "m2", "wrong"])


def test_sources_add_up_to_the_tilt():
    scores, rollouts = world()
    sources = tilt_sources(scores, rollouts)
    assert adds_up(sources)
    assert len(sources) == 12
    assert (sources["n_missing"] == 0).all()
    assert sources.groupby("problem_id")["base_share"].sum().to_numpy() == pytest.approx(1)
    for _, part in sources.groupby("problem_id"):
        assert np.ptp(part["constant"]) == 0
        assert (part["preference_copying"] + part["preference_cross"]).sum() == pytest.approx(0)


@pytest.mark.slow
def test_tilt_is_the_mean_over_demonstrations():
    scores, rollouts = world()
    sources = tilt_sources(scores, rollouts).set_index(["problem_id", "answer"])
    pairs = checked_scores(scores, rollouts)
    for (problem, answer), part in pairs[pairs["correct"]].groupby(["problem_id", "answer"]):
        share = rollouts[(rollouts["problem_id"] == problem) & rollouts["correct"]]
        q = share["answer"].value_counts(normalize=True)
        by_mode = part.groupby("demo_answer")["pcmi"].mean()
        expected = (q * by_mode).sum()
        assert sources.loc[(problem, answer), "tilt"] == pytest.approx(expected, abs=1e-12)


def test_balanced_demonstrations_leave_only_the_teachers_preference():
    scores, rollouts = world()
    sources = tilt_sources(scores, rollouts, demo_law="uniform")
    assert sources["sampling_copying"].abs().max() < 1e-12
    assert sources["sampling_cross"].abs().max() < 1e-12
    assert adds_up(sources)


@pytest.mark.slow
def test_a_control_takes_out_what_any_context_does():
    scores, rollouts = world(seed=1)
    control = scores[scores["demo_id"] == 0].drop(columns="demo_id").reset_index(drop=True)
    answers = rollouts["answer"].to_numpy()
    control["logprob_given_demo"] = control["logprob"] + np.where(answers == "m0", -0.5, 0.0)
    plain = tilt_sources(scores, rollouts)
    sources = tilt_sources(scores, rollouts, control)
    assert sources["tilt"].to_numpy() == pytest.approx(plain["tilt"].to_numpy(), abs=1e-12)
    assert adds_up(sources)
    expected = np.where(sources["answer"] == "m0", -0.5, 0.0) + 0.5 / 3
    assert sources["any_context"].to_numpy() == pytest.approx(expected)
    assert (plain["any_context"] == 0).all()
    vetoed = control.assign(logprob_given_demo=-np.inf)
    for bad, message in (
        (control[answers != "m0"], "answer 'm0' of problem 'p0' is scored, but has no"),
        (control.assign(sample_id=99), "control: column 'sample_id', row 0"),
        (vetoed, "control: column 'logprob_given_demo', row 0"),
    ):
        refuses(message, tilt_sources, scores, rollouts, bad)


@pytest.mark.slow
def test_vetoed_answers_are_kept_with_their_tilt():
    scores, rollouts = world(n_problems=2)
    first = rollouts["answer"][0]
    at = (scores["problem_id"] == "p0") & (scores["sample_id"] == 0) & (scores["demo_id"] == 2)
    scores.loc[at, "logprob_given_demo"] = -np.inf
    sources = tilt_sources(scores, rollouts)
    hit = (sources["problem_id"] == "p0") & (sources["answer"] == first)
    assert sources.loc[hit, "tilt"].tolist() == [-np.inf]
    assert sources["vetoed"].sum() == 1
    assert sources.loc[hit, list(SOURCES)].isna().all(axis=None)
    assert np.isfinite(sources.loc[~hit, [*SOURCES, "tilt"]].to_numpy()).all()
    table = source_table(sources, n_resamples=50, random_state=0)
    assert (table["n_vetoed"] == 1).all()
    assert np.isfinite(table["estimate"]).all()
    assert problem_decompositions(scores, rollouts)["n_vetoed"].tolist() == [1, 0]


@pytest.mark.slow
def test_missing_and_unshown_answers_are_reported():
    scores, rollouts = world(n_problems=1, n_demos=12)
    pairs = checked_scores(scores, rollouts)
    unshown = scores[(pairs["demo_answer"] != "m2").to_numpy()]
    sources = tilt_sources(unshown, rollouts)
    share = (rollouts["answer"] == "m2").sum() / rollouts["correct"].sum()
    assert sources["unscored_demo_share"].to_numpy() == pytest.approx(share)
    assert len(sources) == 3
    hole = (pairs["answer"] == "m0") & (pairs["demo_answer"] == "m1")
    holed = scores.assign(logprob_given_demo=scores["logprob_given_demo"].mask(hole.to_numpy()))
    sources = tilt_sources(holed, rollouts)
    assert sources["n_missing"].tolist() == [1, 0, 0]
    assert adds_up(sources)
    assert problem_decompositions(holed, rollouts)["n_missing"].tolist() == [1]
    # Leaving the rows out is the same as NaN.
    assert tilt_sources(holed.dropna(), rollouts).equals(sources)


@pytest.mark.slow
def test_showing_a_rollout_itself_is_left_out():
    scores, rollouts = world(n_problems=1)
    itself = scores["sample_id"] == scores["demo_id"]
    inflated = scores.assign(
        logprob_given_demo=scores["logprob_given_demo"].mask(itself, scores["logprob"] * 0.01)
    )
    expected = tilt_sources(scores, rollouts)
    assert tilt_sources(inflated, rollouts)["tilt"].to_numpy() == pytest.approx(
        expected["tilt"].to_numpy()
    )
    kept = tilt_sources(inflated, rollouts, drop_self=False)
    assert not np.allclose(kept["tilt"], expected["tilt"])


@pytest.mark.slow
def test_source_table_adds_up_and_predicts_the_slope():
    scores, rollouts = world(n_problems=8)
    sources = tilt_sources(scores, rollouts)
    table = source_table(sources, n_resamples=200, random_state=0)
    assert table.equals(source_table(sources, n_resamples=200, random_state=0))
    for measure in ("popular", "slope"):
        part = table[table["measure"] == measure].set_index("source")["estimate"]
        assert part[list(SOURCES)].sum() == pytest.approx(part["tilt"], abs=1e-12)
        assert part["teacher_preference"] + part["demonstration_sampling"] == pytest.approx(
            part["tilt"], abs=1e-12
        )
        assert part["constant"] == pytest.approx(0, abs=1e-12)
    slope = table.query("measure == 'slope' and source == 'tilt'")["estimate"].item()
    before = sources["log_base"]
    after = before + sources["tilt"]
    assert 1 + slope == pytest.approx(gap_slope(before, after, sources["problem_id"]))
    assert (table["low"] <= table["estimate"] + 1e-12).all()
    assert (table["estimate"] <= table["high"] + 1e-12).all()
    assert set(table["n_problems"]) == {8}
    alone = source_table(sources[sources["problem_id"] == "p0"], n_resamples=20)
    assert alone["low"].isna().all()


def test_problems_with_one_answer_are_counted():
    scores, rollouts = world(n_problems=3)
    one = rollouts["problem_id"] == "p0"
    rollouts.loc[one & rollouts["correct"], "answer"] = "m0"
    sources = tilt_sources(scores, rollouts)
    table = source_table(sources, n_resamples=20, random_state=0)
    assert set(table["n_problems"]) == {2}
    assert set(table["n_left_out"]) == {1}
    refuses("no problem has two answers", source_table, sources[sources["problem_id"] == "p0"])
    refuses("column 'tilt' is missing", source_table, sources.drop(columns="tilt"))


@pytest.mark.slow
def test_problem_decompositions():
    scores, rollouts = world(n_problems=5)
    problems = problem_decompositions(scores, rollouts)
    assert problems[["rollout", "demo", "interaction"]].sum(axis=1).to_numpy() == pytest.approx(1)
    assert (problems["n_modes"] == 3).all()
    sources = tilt_sources(scores, rollouts)
    means = sources.groupby("problem_id")["tilt"].mean()
    # Incorrect rollouts lose half a nat under every demonstration.
    assert problems["accuracy_contrast"].to_numpy() == pytest.approx(means.to_numpy() + 0.5)
    without = rollouts["correct"]
    kept = scores[scores["sample_id"] < 12]
    assert problem_decompositions(kept, rollouts[without])["accuracy_contrast"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logprob_given_demo": 0.5}, "column 'logprob_given_demo', row 0: 0.5 is positive"),
        ({"logprob": 0.5}, "column 'logprob', row 0: 0.5 is positive"),
        ({"logprob": -np.inf}, "column 'logprob', row 0: -inf isn't finite"),
        ({"logprob": np.nan}, "column 'logprob', row 0: nan isn't finite"),
        ({"sample_id": 99}, "row 6: the pair of problem 'p0', rollout 99 and"),
        ({"demo_id": 99}, "row 1: the pair of problem 'p0', rollout 0 and"),
        ({"sample_id": "x"}, "column 'sample_id' must hold whole numbers"),
        ({"problem_id": "other"}, "problem 'other' has no rollout 0"),
    ],
)
def test_bad_scores_are_refused(change, message):
    scores, rollouts = world(n_problems=1)
    refuses(message, checked_scores, scores.assign(**change), rollouts)


@pytest.mark.slow
def test_scores_without_their_rollouts_are_refused():
    scores, rollouts = world(n_problems=1)
    one = scores.iloc[:1]
    for bad, message in (
        (one.assign(sample_id=99), "'sample_id', row 0: problem 'p0' has no rollout 99"),
        (one.assign(demo_id=99), "'demo_id', row 0: problem 'p0' has no rollout 99"),
        (one.assign(demo_id=12), "'demo_id', row 0: demonstration 12 of problem 'p0' is"),
        (one.drop(columns="demo_id"), "scores: column 'demo_id' is missing"),
    ):
        refuses(message, checked_scores, bad, rollouts)
    for bad, message in (
        (rollouts.drop(columns="answer"), "rollouts: column 'answer' is missing"),
        (pd.concat([rollouts.assign(run=run) for run in "ab"]), "has two rollouts 0"),
        (rollouts.assign(answer=None), r"rollout 0 of problem 'p0' .* is correct and has no"),
    ):
        refuses(message, checked_scores, one, bad)
    refuses("demo_law='best'", tilt_sources, scores, rollouts, demo_law="best")
    wrong = scores[scores["sample_id"] == 12]
    for function in (tilt_sources, problem_decompositions):
        refuses("no pair has a correct rollout", function, wrong, rollouts)


def test_what_cant_be_fitted_names_the_problem():
    scores, rollouts = world(n_problems=1)
    pairs = checked_scores(scores, rollouts)
    diagonal = scores[(pairs["answer"] == pairs["demo_answer"]).to_numpy()]
    refuses(r"problem 'p0', answers .*fall apart into 3 groups", tilt_sources, diagonal, rollouts)
