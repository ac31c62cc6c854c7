import numpy as np
import pandas as pd
import pytest

from passk_lab import counts, distinct_at_k
from passk_lab.metrics.embedding import pairwise_cosine_distance, vendi_score
from passk_lab.metrics.functional import semantic_entropy
from passk_lab.metrics.ngram import distinct_n
from passk_lab.stats._estimates import mean_table
from passk_lab.stats.diversity import _against, diversity_summary, with_semantic_modes
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.values import ProblemValues
from tests.helpers import refuses
from tests.summaries import entropy_summary, functional_summary, ngram_summary

FAST = {"n_resamples": 300, "random_state": 0}
FEW = ["distinct_1", "self_bleu"]


def run(name, n_modes, n_problems=20, n=6, seed=0, n_words=6):
    """Each rollout takes one of the problem's modes, its answer, and some words of that mode."""
    rng = np.random.default_rng(seed)
    size = n_problems * n
    modes, words = rng.integers(n_modes, size=size), rng.choice(8, (size, n_words))
    columns = {
        "run": name,
        "problem_id": np.repeat([f"p{i:02d}" for i in range(n_problems)], n),
        "sample_id": np.tile(np.arange(n), n_problems),
        "correct": rng.random(size) < 0.6,
        "answer": [f"a{mode}" for mode in modes],
        "text": [" ".join(f"m{m}w{w}" for w in ws) for m, ws in zip(modes, words, strict=True)],
        "logprob": -rng.exponential(3.0, size),
        "n_tokens": n_words,
        "token_entropy": rng.random(size),
    }
    return pd.DataFrame(columns)


def by_mode(texts):
    """Embeds the mode, and a little of the words."""
    return [[*(np.arange(8) == int(t[1])), 0.1 * t.count("w1"), 0.1 * t.count("w2")] for t in texts]


@pytest.fixture(scope="module")
def two_runs():
    return pd.concat([run("wide", 6, seed=1), run("slim", 2, seed=2)], ignore_index=True)


def keyed(found):
    return found.set_index(["run", "family", "metric"]).sort_index()


@pytest.mark.slow
def test_estimates_are_those_of_the_families(two_runs):
    pytest.importorskip("sklearn")
    found = diversity_summary(two_runs, embedder=by_mode, **FAST)
    assert list(dict.fromkeys(found["family"])) == [
        "functional", "ngram", "embedding", "semantic", "entropy",
    ]  # fmt: skip
    meanings = with_semantic_modes(two_runs, by_mode)
    for family, expected in {
        "functional": functional_summary(two_runs, **FAST),
        "ngram": ngram_summary(two_runs, **FAST),
        "semantic": functional_summary(meanings, correct_only=False, **FAST),
        "entropy": entropy_summary(two_runs, **FAST),
    }.items():
        mine = found[(found["family"] == family) & (found["metric"] != "semantic_entropy")]
        assert mine["metric"].tolist() == expected["metric"].tolist()
        assert mine["estimate"].tolist() == pytest.approx(expected["estimate"].tolist())
        assert mine["n_problems"].eq(20).all()
    one = keyed(found).loc["wide"]["estimate"]
    wide = two_runs[two_runs["run"] == "wide"]
    groups = [by_mode(part["text"]) for _, part in wide.groupby("problem_id")]
    cells = counts(meanings[meanings["run"] == "wide"], modes=True)["mode_counts"]
    for (family, metric), values in {
        ("embedding", "cosine_distance"): [pairwise_cosine_distance(g) for g in groups],
        ("embedding", "vendi"): [vendi_score(g) for g in groups],
        ("semantic", "semantic_entropy"): [semantic_entropy(c, "chao_jost") for c in cells],
    }.items():
        assert one[family, metric] == pytest.approx(np.mean(values))


@pytest.mark.slow
def test_intervals_and_paired_differences(two_runs):
    pytest.importorskip("sklearn")
    found = keyed(diversity_summary(two_runs, "wide", embedder=by_mode, **FAST))
    assert (found["low"] <= found["estimate"] + 1e-9).all()
    assert (found["estimate"] <= found["high"] + 1e-9).all()
    assert found.loc["wide", ["difference", "difference_low"]].isna().all(axis=None)
    assert found.loc["wide", "n_paired"].eq(0).all()
    slim, wide = found.loc["slim"], found.loc["wide"]
    same = slim["n_paired"] == 20
    gap = slim["estimate"] - wide["estimate"]
    assert slim["difference"][same].tolist() == pytest.approx(gap[same].tolist())
    # Fewer modes in every respect, at the same entropies of tokens.
    for family, metric, sign in [
        ("functional", "distinct@6", -1),
        ("ngram", "distinct_1", -1),
        ("ngram", "self_bleu", 1),
        ("embedding", "cosine_distance", -1),
        ("embedding", "vendi", -1),
        ("semantic", "distinct@6", -1),
        ("semantic", "semantic_entropy", -1),
    ]:
        row = slim.loc[family, metric]
        assert sign * row["difference"] > 0
        assert row["difference_low"] * row["difference_high"] > 0
    row = slim.loc["entropy", "sequence_entropy"]
    assert row["difference_low"] < 0 < row["difference_high"]


def test_differences_pair_problems():
    """Problems differ a lot, runs always by the same: nothing is left to chance."""
    values = pd.DataFrame({"problem_id": list("abcdef"), "split": "id", "m": [0.0, 9, 4, 7, 1, 3]})
    both = pd.concat(
        [values.assign(run="base"), values.assign(run="rl", m=values["m"] - 0.25).iloc[1:]]
    )
    values = ProblemValues.of_frame(both, ["run", "split"])
    how = Resampling(500, random_state=0)
    gaps = _against("base", values, how)
    assert gaps[["run", "metric", "n_paired"]].to_numpy().tolist() == [["rl", "m", 5]]
    numbers = gaps[["difference", "difference_low", "difference_high"]].to_numpy()
    assert numbers == pytest.approx(-0.25)
    means = mean_table(values, ["run", "split"], "metric", how)
    assert (means["high"] - means["low"]).min() > 2


def test_infinite_hill_numbers():
    """Order 2 is averaged as a chance, and two infinite means have no difference."""
    values = pd.DataFrame({"problem_id": list("ab") * 3, "split": "id"})
    values["run"] = np.repeat(["base", "none", "some"], 2)
    values["effective_answers"] = [np.inf, np.inf, np.inf, np.inf, 2.0, np.inf]
    values = ProblemValues.of_frame(values, ["run", "split"])
    how = Resampling(500, random_state=0)
    means = mean_table(values, ["run", "split"], "metric", how).set_index("run")
    assert means["estimate"].to_dict() == {"base": np.inf, "none": np.inf, "some": 4}
    assert means.loc["some", ["low", "high"]].tolist() == [2, np.inf]
    gaps = _against("base", values, how).set_index("run")
    assert gaps.loc["none"].isna().sum() == 3
    assert gaps.loc["some", "difference"] == -np.inf
    back = _against("some", values, how).set_index("run")
    assert back.loc["base", ["difference", "difference_high"]].tolist() == [np.inf, np.inf]


@pytest.mark.slow
def test_unequal_numbers_are_compared_at_the_smallest():
    pytest.importorskip("sklearn")
    many = run("many", 6, n=24, seed=3)
    few = run("few", 6, n=6, seed=4)
    table = pd.concat([many, few], ignore_index=True)
    options = {"embedder": by_mode, "ngram_metrics": FEW, **FAST}
    equal = keyed(diversity_summary(table, "few", **options)).loc["many"]
    of_all = keyed(diversity_summary(table, "few", n_samples="all", **options)).loc["many"]
    for family, metric in [("ngram", "self_bleu"), ("embedding", "vendi"),
                           ("embedding", "effective_rank")]:  # fmt: skip
        row = equal.loc[family, metric]
        assert row["n_samples"] == 6
        assert row["difference_low"] < 0 < row["difference_high"]
        naive = of_all.loc[family, metric]
        assert naive["n_samples"] == 0
        assert naive["difference_low"] > 0
    # No bias in n: all samples are taken in any case.
    row = equal.loc["embedding", "cosine_distance"]
    assert row["n_samples"] == 0
    assert row["difference_low"] < 0 < row["difference_high"]
    # Rarefied, over all choices of 6.
    cells = counts(many, modes=True)
    expected = distinct_at_k(list(cells["correct_mode_counts"]), 6, n_samples=cells["n_samples"])
    assert equal.loc["functional", "distinct@6"]["estimate"] == pytest.approx(expected.mean())


@pytest.mark.slow
def test_seeds_are_averaged(two_runs):
    seeds = [pd.concat([run("wide", 6, seed=s), run("slim", 2, seed=s + 9)]) for s in (1, 2)]
    both = pd.concat([part.assign(seed=s) for s, part in enumerate(seeds)], ignore_index=True)
    how = {"embedder": by_mode, "ngram_metrics": FEW, **FAST}
    found = keyed(diversity_summary(both, "wide", over_seeds=True, **how))
    alone = [keyed(diversity_summary(part, **how)) for part in seeds]
    for name in ("distinct@6", "distinct_1", "cosine_distance", "semantic_entropy"):
        rows = found.xs(name, level="metric")
        mean = sum(part.xs(name, level="metric")["estimate"] for part in alone) / 2
        np.testing.assert_allclose(rows["estimate"], mean[rows.index])
    assert (found["low"] <= found["estimate"]).all()
    gap = found.loc[("slim", "functional", "distinct@6")]
    assert gap["difference_low"] < gap["difference"] < gap["difference_high"] < 0
    refuses("no column 'seed'", diversity_summary, two_runs, over_seeds=True)


@pytest.mark.slow
def test_processes_change_nothing(two_runs):
    pytest.importorskip("joblib")
    one, two = (diversity_summary(two_runs, "wide", n_jobs=n, **FAST) for n in (1, 2))
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.slow
def test_files_give_the_same(two_runs, tmp_path):
    path = tmp_path / "rollouts.parquet"
    two_runs.to_parquet(path)
    pd.testing.assert_frame_equal(
        diversity_summary(path, "slim", ngram_metrics=FEW, **FAST),
        diversity_summary(two_runs, "slim", ngram_metrics=FEW, **FAST),
    )


@pytest.mark.slow
def test_correct_only(two_runs):
    pytest.importorskip("sklearn")
    found = keyed(diversity_summary(two_runs, embedder=by_mode, correct_only=True, n_samples="all",
                          ngram_metrics=["distinct_1"], **FAST)).loc["wide"]  # fmt: skip
    right = two_runs[two_runs["correct"] & (two_runs["run"] == "wide")]
    groups = [part["text"].tolist() for _, part in right.groupby("problem_id")]
    expected = {
        ("ngram", "distinct_1"): np.mean([distinct_n(texts, 1) for texts in groups]),
        ("embedding", "vendi"): np.mean([vendi_score(by_mode(texts)) for texts in groups]),
        # Modes are answers here, so correct modes are correct answers.
        ("semantic", "distinct@6"): found["estimate"]["functional", "distinct@6"],
    }
    assert found["estimate"][list(expected)].to_dict() == pytest.approx(expected)


@pytest.mark.slow
def test_edges():
    """Empty, identical, single and foreign texts in one table."""
    pytest.importorskip("sklearn")
    texts = {
        "empty": ["", "", ""],
        "identical": ["so it goes"] * 3,
        "single": ["only one"],
        "scripts": ["東京に行く", "हिन्दी में लिखा है", "هذا نص عربي"],
        "long": [" ".join(map(str, range(s, s + 20_000))) for s in (0, 0, 30_000)],
    }
    table = pd.DataFrame(
        [(p, t) for p, ts in texts.items() for t in ts], columns=["problem_id", "text"]
    ).assign(correct=True)
    metrics = ["distinct_1", "self_bleu", "self_repetition", "compression_gzip"]
    found = diversity_summary(table, embedder="tfidf", ngram_metrics=metrics, **FAST)
    found = found.set_index(["family", "metric"])
    assert found["n_defined"]["ngram"].to_dict() == {
        "distinct_1": 3, "self_bleu": 4, "self_repetition": 4, "compression_gzip": 3,
    }  # fmt: skip
    assert found["n_defined"]["embedding"].tolist() == [4, 4, 4]
    # Empty and identical: one meaning; scripts: three; long: two, of which one twice.
    vendi = [1, 1, 3, np.exp(-(np.log(2 / 3) * 2 / 3 + np.log(1 / 3) / 3))]
    assert found["estimate"]["embedding", "vendi"] == pytest.approx(np.mean(vendi), rel=0.01)
    assert found["estimate"]["semantic", "distinct@3"] == pytest.approx(7 / 4)
    assert found["n_defined"]["semantic", "distinct@3"] == 4
    assert found["estimate"].notna().all()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, {"baseline": "best"}, "baseline 'best' is none of the runs: wide, slim"),
        (lambda t: t.assign(text=None), {}, "column 'text', row 0: the text is missing"),
        (lambda t: t[["problem_id", "correct"]], {}, "needs one of the columns 'answer', 'text'"),
        (lambda t: t.drop(columns="text"), {"embedder": "tfidf"}, "the embedder needs it"),
        (lambda t: t.iloc[:0], {}, "holds no rollouts"),
        (lambda t: t, {"n_samples": 0}, "n_samples=0 must be"),
        (lambda t: t, {"ngram_metrics": ["bleu"]}, "metrics holds 'bleu'"),
        (lambda t: t, {"embedder": 3}, "embedder must be a name or a callable"),
    ],
)
def test_refusals(two_runs, change, options, message):
    options = {"ngram_metrics": ["distinct_1"], **options}
    refuses(message, diversity_summary, change(two_runs), **options)


@pytest.mark.slow
def test_one_column_is_enough(two_runs):
    keys = ["run", "problem_id", "correct"]
    for column, family in [("answer", "functional"), ("text", "ngram"), ("logprob", "entropy")]:
        found = diversity_summary(two_runs[[*keys, column]], **FAST)
        assert set(found["family"]) == {family}
