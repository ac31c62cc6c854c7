import numpy as np
import pandas as pd
import pytest

from passk_lab.teacher.forecast import expected_tilt, forecast, forecast_problems, forecast_rows
from passk_lab.teacher.optimum import self_distillation_optimum
from tests.helpers import refuses, rollout_table, score_table, scored_rollouts

ANSWERS = ["x", "y", "z"]


def world(n_problems=4, n=400, seed=0):
    """Problems with exact scores of every pair, one demonstration of each answer that occurred."""
    rng = np.random.default_rng(seed)
    problems, exact = [], {}
    for problem in range(n_problems):
        base, pcmi = rng.dirichlet([4, 3, 2, 3]), rng.normal(0, 0.5, (4, 3))
        drawn, alone = rng.choice(4, n, p=base), np.log(base)
        shown = [int(np.argmax(drawn == mode)) for mode in range(3) if (drawn == mode).any()]
        problems.append((drawn, alone, np.minimum(alone[:, None] + pcmi, 0), shown))
        exact[f"p{problem}"] = base, pcmi
    scores, rollouts = scored_rollouts(problems, [*ANSWERS, "wrong"])
    return rollouts, scores, exact


@pytest.fixture(scope="module")
def rows():
    rollouts, scores, _ = world()
    tilts = expected_tilt(scores, rollouts, "uniform", drop_self=False)
    return forecast_rows(tilts, rollouts)


def test_tilt_is_the_mean_over_demonstrations():
    rollouts, scores, _ = world(1, 40)
    for law in ("policy", "uniform"):  # one demonstration an answer: the same
        tilts = expected_tilt(scores, rollouts, law, drop_self=False)
        mine = (scores["logprob_given_demo"] - scores["logprob"]).groupby(scores["sample_id"])
        assert tilts["tilt"].to_numpy() == pytest.approx(mine.mean().to_numpy())
    other = expected_tilt(scores, rollouts)
    demo = scores["demo_id"].iloc[0]
    apart = scores[(scores["sample_id"] == demo) & (scores["demo_id"] != demo)]
    expected = (apart["logprob_given_demo"] - apart["logprob"]).mean()
    assert other.set_index("sample_id").loc[demo, "tilt"] == pytest.approx(expected)


def test_demonstrations_by_their_probability():
    """Each answer listed once: weights are the base's probabilities."""
    base = np.array([0.5, 0.3, 0.1])
    pcmi = np.array([[0.4, -0.2, 0.1], [0.0, 0.5, -0.3], [-0.6, 0.1, 0.7]])
    answers = rollout_table([("p", i, True, "xyz"[i]) for i in range(3)])
    log_base = np.log(base)[:, None]
    given = np.minimum(log_base + pcmi, 0)
    pairs = np.ndindex(3, 3)
    scores = score_table([("p", i, j, log_base[i, 0], given[i, j]) for i, j in pairs])
    found = expected_tilt(scores, answers, "probability", drop_self=False)
    assert found["tilt"].to_numpy() == pytest.approx((given - log_base) @ (base / base.sum()))
    some = scores[scores["sample_id"] < 2]
    said = "demonstration 2 wasn't scored as a rollout"
    refuses(said, expected_tilt, some, answers, "probability")


@pytest.mark.slow
def test_laws_differ_where_answers_are_shown_unequally():
    rollouts = rollout_table([("p", i, True, "xxxy"[i]) for i in range(4)])
    scores = score_table([("p", i, j, -3.0, -3.0 + (j == 3)) for i, j in np.ndindex(4, 4)])
    policy = expected_tilt(scores, rollouts, "policy", drop_self=False)
    uniform = expected_tilt(scores, rollouts, "uniform", drop_self=False)
    assert policy["tilt"].to_numpy() == pytest.approx(0.25)
    assert uniform["tilt"].to_numpy() == pytest.approx(0.5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_exact_rows_give_the_optimum(weight):
    """All answers with exact probabilities: the forecast is the optimum itself."""
    rollouts, scores, exact = world(3, 60)
    tilts = expected_tilt(scores, rollouts, "uniform", drop_self=False)
    first = tilts[tilts["correct"]].drop_duplicates(["problem_id", "answer"])
    policy = first[["problem_id", "answer", "logprob", "tilt"]]
    rows = forecast_rows(tilts, rollouts, policy)
    found = forecast_problems(rows, [weight], [1, 8]).set_index("problem_id")
    for name, (base, _) in exact.items():
        modes = first[first["problem_id"] == name].set_index("answer")["tilt"]
        if len(modes) < 3:
            continue
        wrong = tilts[(tilts["problem_id"] == name) & ~tilts["correct"]]["tilt"].iloc[0]
        tilt = np.array([*modes[ANSWERS], wrong])
        p = self_distillation_optimum(base, tilt[:, None], weight=weight)
        assert found.loc[name, "pass@8"] == pytest.approx(1 - p[3] ** 8)
        assert found.loc[name, "distinct@8"] == pytest.approx((1 - (1 - p[:3]) ** 8).sum())
        effective = p[:3].sum() ** 2 / (p[:3] ** 2).sum()
        assert found.loc[name, "effective_answers"] == pytest.approx(effective)


@pytest.mark.slow
def test_samples_come_near(rows):
    rollouts, scores, exact = world()
    found = forecast_problems(rows, [1.0], [1]).set_index("problem_id")
    for name, (base, _) in exact.items():
        own = rows[rows["problem_id"] == name].drop_duplicates("answer").set_index("answer")
        p = base * np.exp(own.loc[[*ANSWERS, "wrong"], "tilt"].to_numpy())
        assert found.loc[name, "pass@1"] == pytest.approx(p[:3].sum() / p.sum(), abs=0.08)
    assert len(rollouts) == len(rows) > len(scores) / 4


def test_weight_zero_is_the_base(rows):
    found = forecast_problems(rows, [0.0], [1]).set_index("problem_id")
    assert found["pass@1"].to_numpy() == pytest.approx(
        rows.groupby("problem_id")["correct"].mean().to_numpy()
    )
    assert found["effective_samples"].to_numpy() == pytest.approx(400)


def test_effective_samples_and_refusal(rows):
    found = forecast_problems(rows, [0.0, 1.0, 4.0], 1)
    falling = found.pivot_table(index="problem_id", columns="weight", values="effective_samples")
    assert (falling.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
    said = "effective samples; take a smaller weight"
    refuses(said, forecast, rows, [4.0], min_effective=390, n_resamples=50)


def test_table_with_changes(rows):
    table = forecast(rows, [0.0, 1.0], [1, 8], n_resamples=200, random_state=0)
    none = table[table["weight"] == 0]
    assert (none[["change", "change_low", "change_high"]] == 0).all(axis=None)
    assert (table["low"] <= table["estimate"]).all()
    assert set(table["n_problems"]) == {4}


def test_a_veto_is_kept_and_counted(rows):
    some = rows.copy()
    some.loc[some["answer"] == "x", "tilt"] = -np.inf
    found = forecast_problems(some, [0.0, 1.0], [8]).set_index(["problem_id", "weight"])
    counts = (some["answer"] == "x").groupby(some["problem_id"]).sum()
    assert found.xs(1.0, level="weight")["vetoed"].to_dict() == counts.to_dict()
    assert (found.xs(1.0, level="weight")["distinct@8"] <= 2).all()
    assert (found.xs(0.0, level="weight")["distinct@8"] > 2).any()


def test_rollouts_without_answer_and_problems_without_demonstration():
    rollouts, scores, _ = world(2, 30)
    more = pd.DataFrame(
        {"problem_id": ["p0", "alone"], "sample_id": [30, 0], "correct": False, "answer": None}
    )
    tilts = expected_tilt(scores, rollouts)
    rows = forecast_rows(tilts, pd.concat([rollouts, more]))
    assert (rows.loc[rows["answer"].isna(), "tilt"] == 0).all()
    assert set(rows["problem_id"]) == {"p0", "p1", "alone"}


def test_bad_input(rows):
    rollouts, scores, _ = world(2, 30)
    refuses("none of 'policy', 'uniform', 'probability'", expected_tilt, scores, rollouts, "rare")
    holes = scores.copy()
    holes.loc[5, "logprob_given_demo"] = np.nan
    refuses("a forecast needs every pair", expected_tilt, holes, rollouts)
    tilts = expected_tilt(scores, rollouts)
    refuses("was not scored", forecast_rows, tilts.iloc[1:], rollouts)
    refuses("'tilt' is missing", forecast_problems, rows.drop(columns="tilt"))
    refuses("is no tilt", forecast_problems, rows.assign(tilt=np.nan))
    refuses("at least 0", forecast_problems, rows, [-1.0])
    refuses("nothing is left", forecast_problems, rows.assign(tilt=-np.inf), [1.0])
    policy = pd.DataFrame({"problem_id": "p0", "answer": ["x"], "logprob": -1.0, "tilt": 0.0})
    refuses("'p1' is missing; list its correct answers", forecast_rows, tilts, rollouts, policy)
