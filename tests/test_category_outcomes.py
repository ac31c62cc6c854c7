"""The tests that hold training against the forecast, on made-up outcomes of known kinds."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.linalg import lstsq

FIGURES = Path(__file__).resolve().parent.parent / "figures"
TEMPLATES = ("repeated", "different")
TILT = {"repeated": -0.5, "different": 0.4}


@pytest.fixture
def outcomes(monkeypatch):
    monkeypatch.syspath_prepend(FIGURES)
    module = importlib.import_module("categories")
    monkeypatch.setattr(module, "HOW", module.Resampling(n_resamples=400, random_state=0))
    return module


@pytest.fixture(scope="module")
def made():
    """Policies, forecast and members: templates do what was forecast, GRPO moves at random."""
    rng = np.random.default_rng(0)
    policies, members, forecast = [], [], []
    for number in range(16):
        name, split = f"c{number:02}", "ood" if number % 2 else "id"
        base = np.sort(rng.normal(-3, 1.2, 14))[::-1]
        base -= np.log(np.exp(base).sum()) + 0.5
        at = {"split": split, "problem_id": name, "answer": [f"m{i}" for i in range(14)]}
        policies.append(pd.DataFrame({"run": "base", "seed": 0, "step": 0, **at, "logprob": base}))
        for template in TEMPLATES:
            told = base * (1 + TILT[template]) + rng.normal(0, 0.3, 14)
            told -= np.log(np.exp(told).sum())
            members.append(
                pd.DataFrame({"template": template, **at, "logprob": base, "forecast_3": told})
            )
            ratio = np.log(effective(told) / effective(base))
            forecast.append(
                {"template": template, "split": split, "problem_id": name, "log_ratio_3": ratio}
            )
            for seed in range(3):
                policies.append(outcome(f"sdsd/{template}", seed, at, told - 0.5))
        for seed in range(3):
            policies.append(outcome("grpo", seed, at, base - 9 + rng.normal(0, 0.5, 14)))
    table = pd.concat(policies, ignore_index=True)
    return table, pd.DataFrame(forecast), pd.concat(members, ignore_index=True)


def outcome(run, seed, at, logprob):
    return pd.DataFrame({"run": run, "seed": seed, "step": 75, **at, "logprob": logprob})


def effective(logprob):
    p = np.exp(logprob)
    return p.sum() ** 2 / (p**2).sum()


def test_signs(outcomes, made):
    policies, forecast, _ = made
    table = outcomes.signs(policies, forecast).set_index(["run", "split"])
    assert len(table) == 6
    for split in ("id", "ood"):
        repeated, different = (table.loc[(f"sdsd/{t}", split)] for t in TEMPLATES)
        for row in (repeated, different):
            assert row["estimate"] == pytest.approx(row["forecast"], abs=1e-9)
            assert row["same_sign"] == 1
            assert row["r"] > 0.99
            assert row["low"] <= row["estimate"] <= row["high"]
        assert repeated["low"] > 0 > different["high"]
    assert table.loc["grpo", "forecast"].isna().all()
    name = forecast["problem_id"][0]
    told = policies[(policies["problem_id"] == name) & (policies["run"] == "grpo")]
    base = policies[(policies["problem_id"] == name) & (policies["run"] == "base")]
    found = outcomes.log_ratios(policies)["grpo", "id"][name]
    exact = [np.log(effective(part["logprob"]) / effective(base["logprob"]))
             for _, part in told.groupby("seed")]  # fmt: skip
    np.testing.assert_allclose(found, exact)


def test_difference(outcomes, made):
    policies, forecast, _ = made
    table = outcomes.difference(policies, forecast).set_index("split")
    assert table["positive"].tolist() == table["n_categories"].tolist() == [8, 8]
    assert (table["low"] > 0).all()
    np.testing.assert_allclose(table["estimate"], table["forecast"])
    back = outcomes.difference(policies, forecast, "sdsd/different", "sdsd/repeated")
    np.testing.assert_allclose(back["estimate"], -table["estimate"])
    assert back["positive"].tolist() == [0, 0]


def test_survival(outcomes, made):
    policies, _, members = made
    table = outcomes.survival(policies, members).set_index(["run", "template", "split"])
    assert len(table) == 3 * 2 * 2
    for split in ("id", "ood"):
        for template in TEMPLATES:
            own = table.loc[(f"sdsd/{template}", template, split)]
            null = table.loc[("grpo", template, split)]
            other = next(t for t in TEMPLATES if t != template)
            across = table.loc[(f"sdsd/{template}", other, split)]
            assert own["partial"] == pytest.approx(1, abs=0.02)
            for row in (null, across):
                assert row["low"] < 0 < row["high"]
                assert row["low"] < row["partial"] < row["high"]


def test_partial_correlation_is_that_of_residuals(outcomes, made):
    policies, _, members = made
    found = outcomes.survival(policies, members).set_index(["run", "template", "split"])
    told = members[(members["template"] == "different") & (members["split"] == "id")]
    told = told.sort_values("logprob").groupby("problem_id").tail(12)
    after = policies[policies["run"] == "grpo"]
    pairs = after.merge(told, on=["split", "problem_id", "answer"], suffixes=("_after", ""))
    groups = pairs.groupby(["seed", "problem_id"])
    x, y, z = (
        (pairs[c] - groups[c].transform("mean")).to_numpy()
        for c in ("forecast_3", "logprob_after", "logprob")
    )
    rest = [v - z * lstsq(z[:, None], v)[0] for v in (x, y)]
    expected = np.corrcoef(*rest)[0, 1]
    assert found.loc[("grpo", "different", "id"), "partial"] == pytest.approx(expected)
