import numpy as np
import pandas as pd
import pytest

from passk_lab.metrics.entropy import (
    entropy_per_token,
    entropy_rate,
    mean_token_entropy,
    sequence_entropy,
    sequence_entropy_from_tokens,
)
from tests.summaries import entropy_summary

# A policy that can be enumerated: after "a" a second token follows, "b" ends at once.
FIRST = np.array([0.7, 0.3])
SECOND = np.array([0.6, 0.3, 0.1])
PROB = np.array([*(FIRST[0] * SECOND), FIRST[1]])
LENGTH = np.array([2, 2, 2, 1])


def entropy(p):
    return -np.sum(p * np.log(p))


TOKEN_ENTROPY = np.array([(entropy(FIRST) + entropy(SECOND)) / 2] * 3 + [entropy(FIRST)])


def draw(seed, size):
    return np.random.default_rng(seed).choice(4, size=size, p=PROB)


def test_both_estimates_are_unbiased_from_one_sample_on():
    # Exactly: the expectation over all outcomes of one sample.
    by_answer = [sequence_entropy([np.log(p)])[0] for p in PROB]
    by_token = [
        sequence_entropy_from_tokens([h], [n])[0]
        for h, n in zip(TOKEN_ENTROPY, LENGTH, strict=True)
    ]
    assert PROB @ by_answer == pytest.approx(entropy(PROB), abs=1e-12)
    assert PROB @ by_token == pytest.approx(entropy(PROB), abs=1e-12)
    # And of two.
    pairs = [[sequence_entropy(np.log([p, q]))[0] for q in PROB] for p in PROB]
    assert PROB @ pairs @ PROB == pytest.approx(entropy(PROB), abs=1e-12)


def test_entropies_of_tokens_vary_less_here():
    by_answer, by_token = -np.log(PROB), TOKEN_ENTROPY * LENGTH
    spread = [PROB @ (v - PROB @ v) ** 2 for v in (by_answer, by_token)]
    assert spread[1] < 0.8 * spread[0]


@pytest.mark.parametrize(
    ("estimate", "truth"),
    [
        (lambda s: sequence_entropy(np.log(PROB[s])), entropy(PROB)),
        (lambda s: sequence_entropy_from_tokens(TOKEN_ENTROPY[s], LENGTH[s]), entropy(PROB)),
        (lambda s: entropy_per_token(np.log(PROB[s]), LENGTH[s]), PROB @ (-np.log(PROB) / LENGTH)),
        (lambda s: entropy_rate(np.log(PROB[s]), LENGTH[s]), entropy(PROB) / (PROB @ LENGTH)),
        (lambda s: mean_token_entropy(TOKEN_ENTROPY[s]), PROB @ TOKEN_ENTROPY),
    ],
)
def test_estimates_and_their_standard_errors(estimate, truth):
    found = np.array([estimate(draw(seed, 200)) for seed in range(400)])
    assert found[:, 0].mean() == pytest.approx(truth, abs=4 * found[:, 0].std() / 20 + 1e-12)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.12)


def test_one_sample_has_an_entropy_but_no_error():
    for found in (
        sequence_entropy([-2.0]),
        entropy_per_token([-2.0], [1]),
        entropy_rate([-2.0], [1]),
        mean_token_entropy([2.0]),
        sequence_entropy_from_tokens([2.0], [1]),
    ):
        assert found == (2.0, np.inf)


def test_certain_answers_have_no_entropy():
    assert sequence_entropy([0.0, 0.0]) == (0.0, 0.0)
    assert sequence_entropy([1e-6, 0.0]) == (0.0, 0.0)  # rounding of the program that saved it
    assert sequence_entropy_from_tokens([0.0, 0.0], [0, 3]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sequence_entropy([]), "logprob must have shape"),
        (lambda: sequence_entropy([[0.0]]), "logprob must have shape"),
        (lambda: sequence_entropy([-1.0, np.nan]), r"logprob\[1\]=nan is not finite; save it"),
        (lambda: sequence_entropy([-np.inf]), r"logprob\[0\]=-inf"),
        (lambda: sequence_entropy([0.5]), r"logprob\[0\]=0.5 is positive; a log-prob"),
        (lambda: entropy_per_token([-1.0], [1, 2]), "n_tokens has 2 entries"),
        (lambda: entropy_per_token([-1.0], [0]), r"n_tokens\[0\]=0 leaves nothing"),
        (lambda: entropy_rate([0.0], [0]), r"n_tokens\[0\]=0 leaves nothing"),
        (lambda: mean_token_entropy([-1.0]), r"token_entropy\[0\]=-1.0"),
        (lambda: sequence_entropy_from_tokens([1.0], [-1]), "must not be negative"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def table(n_problems=6):
    parts = []
    for run in ("base", "trained"):
        for at in range(n_problems):
            s = draw(at + 100 * (run == "base"), 3 + at)
            parts.append(
                pd.DataFrame(
                    {
                        "run": run,
                        "problem_id": f"p{at}",
                        "correct": s == 0,
                        "logprob": np.log(PROB[s]),
                        "n_tokens": LENGTH[s],
                        "token_entropy": TOKEN_ENTROPY[s],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def test_summary_is_the_mean_over_problems():
    data = table()
    found = entropy_summary(data, random_state=0, n_resamples=500)
    assert list(found.columns) == [
        "run", "split", "metric", "estimate", "low", "high", "n_problems",
    ]  # fmt: skip
    assert len(found) == 10
    of_base = found[found["run"] == "base"].set_index("metric")
    problems = [part for _, part in data[data["run"] == "base"].groupby("problem_id")]
    for metric, of in {
        "token_entropy": lambda p: p["token_entropy"].mean(),
        "sequence_entropy": lambda p: -p["logprob"].mean(),
        "sequence_entropy_from_tokens": lambda p: (p["token_entropy"] * p["n_tokens"]).mean(),
        "entropy_per_token": lambda p: (-p["logprob"] / p["n_tokens"]).mean(),
        "entropy_rate": lambda p: -p["logprob"].sum() / p["n_tokens"].sum(),
    }.items():
        row = of_base.loc[metric]
        assert row["estimate"] == pytest.approx(np.mean([of(p) for p in problems]))
        assert row["low"] <= row["estimate"] <= row["high"]
        assert row["n_problems"] == 6
    pd.testing.assert_frame_equal(found, entropy_summary(data, random_state=0, n_resamples=500))


def test_summary_takes_what_is_there(tmp_path):
    data = table()
    path = tmp_path / "rollouts.parquet"
    data.drop(columns=["n_tokens", "token_entropy"]).to_parquet(path)
    found = entropy_summary(path, by=["run"], random_state=0, n_resamples=50)
    assert found["metric"].unique().tolist() == ["sequence_entropy"]
    found = entropy_summary(data, ["entropy_rate"], random_state=0, n_resamples=50)
    assert found["metric"].unique().tolist() == ["entropy_rate"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t[["problem_id", "correct"]], {}, "need the column 'logprob' or"),
        (lambda t: t.drop(columns="n_tokens"), {"metrics": ["entropy_rate"]}, "'n_tokens' is miss"),
        (lambda t: t, {"metrics": ["perplexity"]}, "'perplexity', which is none of "),
        (lambda t: t, {"by": ["model"]}, "no column 'model'"),
        (lambda t: t.assign(logprob=t["logprob"].where(t["problem_id"] != "p2")), {},
         r"problem_id='p2': logprob\[0\]=nan"),
        (lambda t: t.assign(n_tokens=pd.array([None] * len(t), "Int64")), {}, "n_tokens.0.=nan"),
        (lambda t: t.iloc[:0], {}, "holds no rollouts"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(change, options, message):
    with pytest.raises(ValueError, match=message):
        entropy_summary(change(table()), **options)
