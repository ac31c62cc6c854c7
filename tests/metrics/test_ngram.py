import gzip
import logging
import math
import re
import time
import warnings
from collections import Counter
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passk_lab.metrics.ngram import (
    compression_ratio,
    distinct_n,
    ead,
    ngram_diversity_score,
    rouge_l_homogenisation,
    self_bleu,
    self_repetition,
)
from passk_lab.metrics.registry import METRICS
from passk_lab.metrics.tokenizers import tokenize
from tests.summaries import ngram_summary

CORPORA = {
    "english": [
        "The cat sat on the mat, and the dog (a big one) barked: 'woof!'",
        "The cat sat on a mat; 1,000.50 dollars were paid in 2024-05.",
        "A dog barked at the cat, the cat sat on the mat.",
        "The cat sat on the mat, and the dog (a big one) barked: 'woof!'",
        "It isn't & never was &quot;simple&quot; to split re-\njoined <skipped> words\nor lines.",
    ],
    "short": ["a b c", "a b", "a", "", "b c d e f", "a b c", "x"],
    "repeats": ["the the the the", "the the", "the cat the cat the cat the", "cat", "the"],
    "scripts": [
        "东京 大阪 です。",
        "हिन्दी में लिखा है",
        "هذا نص عربي",
        "東京 大阪 です!",
        "हिन्दी में नहीं",
    ],
    "apart": ["a b c d e", "f g h i j", "k l m n o"],
    "equal": ["so it goes on"] * 4,
}


def words_of(seed, n_texts=12, longest=30, vocabulary=12):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(vocabulary))
    return [
        " ".join(f"w{t}" for t in rng.choice(vocabulary, rng.integers(0, longest), p=shares))
        for _ in range(n_texts)
    ]


ALL = [*CORPORA.values(), *map(words_of, range(4))]


def grams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


# --- Self-BLEU against its references ---


@pytest.mark.slow
@pytest.mark.parametrize("effective_order", [True, False])
@pytest.mark.parametrize(
    ("smoothing", "value"),
    [
        ("exp", None),
        ("floor", None),
        ("floor", 0.01),
        ("add-k", None),
        ("add-k", 3),
        ("none", None),
    ],
)
def test_self_bleu_is_sacrebleus(smoothing, value, effective_order):
    bleu = pytest.importorskip("sacrebleu.metrics").BLEU
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    for order in (4, 2):
        scorer = bleu(
            smooth_method=smoothing,
            smooth_value=value,
            effective_order=effective_order,
            max_ngram_order=order,
        )
        for texts in ALL:
            expected = [
                scorer.sentence_score(text, texts[:at] + texts[at + 1 :]).score / 100
                for at, text in enumerate(texts)
            ]
            ours = self_bleu(texts, order, "13a", smoothing, value, effective_order, average=False)
            assert ours == pytest.approx(expected, abs=1e-12)
            assert self_bleu(
                texts, order, "13a", smoothing, value, effective_order
            ) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["method0", "method1", "method2", "method3"])
def test_self_bleu_is_nltks(method):
    nltk = pytest.importorskip("nltk.translate.bleu_score")
    smooth = getattr(nltk.SmoothingFunction(), method)
    for order in (4, 2):
        for texts in ALL:
            split = [text.split() for text in texts]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = [
                    nltk.sentence_bleu(
                        split[:at] + split[at + 1 :], text, (1 / order,) * order, smooth
                    )
                    for at, text in enumerate(split)
                ]
            ours = self_bleu(texts, order, "whitespace", method, average=False)
            assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.lists(st.text("ab.,1-&\n '", max_size=25), min_size=2, max_size=6))
def test_any_signs_as_sacrebleu_does(texts):
    sacrebleu = pytest.importorskip("sacrebleu")
    expected = [
        sacrebleu.sentence_bleu(text, texts[:at] + texts[at + 1 :]).score / 100
        for at, text in enumerate(texts)
    ]
    assert self_bleu(texts, average=False) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.text(max_size=40))
def test_13a_is_sacrebleus(text):
    module = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a")
    assert tokenize("13a")(text) == module.Tokenizer13a()(text.rstrip()).split()


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.text("abc ", max_size=12), min_size=2, max_size=6))
def test_clipping_by_the_top_two_is_clipping_by_the_others(texts):
    split = [text.split() for text in texts]
    expected = []
    for at, text in enumerate(split):
        others = [Counter(grams(other, 1)) for other in split[:at] + split[at + 1 :]]
        hits = sum(
            min(c, max(other[g] for other in others)) for g, c in Counter(grams(text, 1)).items()
        )
        length = min(
            (len(o) for o in split[:at] + split[at + 1 :]), key=lambda n: (abs(n - len(text)), n)
        )
        penalty = math.exp(min(0.0, 1 - length / len(text))) if text else 0.0
        expected.append(penalty * hits / max(len(text), 1))
    ours = self_bleu(texts, 1, "whitespace", "none", average=False)
    assert ours == pytest.approx(expected, abs=1e-12)


def test_self_bleu_at_the_edges():
    assert self_bleu(CORPORA["equal"]) == 1
    assert self_bleu(CORPORA["apart"]) == 0
    assert self_bleu(["", ""]) == 0
    assert self_bleu(["a b", "a b", ""], average=False).tolist() == [1, 1, 0]
    for text in ("one text", ""):
        with pytest.raises(ValueError, match="holds one text, and self-BLEU compares"):
            self_bleu([text])


def test_self_bleu_is_quick():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.zipf(1.3, 100) % 2000) for _ in range(200)]
    self_bleu(texts)
    start = time.perf_counter()
    self_bleu(texts)
    assert time.perf_counter() - start < 0.5  # 0.03 s on an idle core; nltk takes 9 s


# --- The other metrics against their definitions ---


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("texts", ALL)
def test_distinct_and_repetition(texts, n):
    split = [text.split() for text in texts]
    everything = [g for text in split for g in grams(text, n)]
    if everything:
        distinct = len(set(everything))
        assert distinct_n(texts, n, "whitespace") == distinct / len(everything)
        v = 5000
        expected = distinct / (v * (1 - ((v - 1) / v) ** len(everything)))
        assert ead(texts, n, vocabulary_size=v, tokenizer="whitespace") == pytest.approx(expected)
        assert ead(texts, n, vocabulary_size=np.inf, tokenizer="whitespace") == distinct_n(
            texts, n, "whitespace"
        )
        score = sum(distinct_n(texts, m, "whitespace") for m in range(1, n + 1))
        assert ngram_diversity_score(texts, n, "whitespace") == pytest.approx(score)
    else:
        with pytest.raises(ValueError, match=f"no text of {n} tokens"):
            distinct_n(texts, n, "whitespace")
    sets = [set(grams(text, n)) for text in split]
    repeated = [
        math.log(1 + sum(g in other for j, other in enumerate(sets) if j != i for g in sets[i]))
        for i in range(len(sets))
    ]
    assert self_repetition(texts, n, "whitespace") == pytest.approx(np.mean(repeated))


def test_ead_does_not_punish_length():
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 300, size))) for size in (100, 10_000)]
    assert [distinct_n([t], 1) > 0.1 for t in texts] == [True, False]
    for text in texts:
        assert ead([text], vocabulary_size=300) == pytest.approx(1, abs=0.05)
    assert ead(["a a a"], vocabulary_size=1) == 1
    with pytest.raises(ValueError, match="vocabulary_size=2 is below the 3 distinct"):
        ead(["a b c"], vocabulary_size=2)


def subsequence(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        last = 0
        for j, y in enumerate(b):
            last, row[j + 1] = row[j + 1], last + 1 if x == y else max(row[j], row[j + 1])
    return row[-1]


@pytest.mark.parametrize("texts", ALL)
def test_rouge_l(texts, monkeypatch):
    pytest.importorskip("rapidfuzz")
    split = [text.split() for text in texts]
    pairs = [
        2 * subsequence(a, b) / (len(a) + len(b)) if a or b else 1.0
        for a, b in combinations(split, 2)
    ]
    assert rouge_l_homogenisation(texts, "whitespace") == pytest.approx(np.mean(pairs), abs=1e-12)
    monkeypatch.setattr("passk_lab.metrics.ngram._BLOCK", 2 * len(texts))
    assert rouge_l_homogenisation(texts, "whitespace") == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.slow
def test_rouge_l_of_more_words_than_characters():
    pytest.importorskip("rapidfuzz")
    numbers = list(map(str, range(60_000)))
    texts = [" ".join(numbers), " ".join(numbers[50_000:] + ["x"] * 10)]
    assert rouge_l_homogenisation(texts) == pytest.approx(2 * 10_000 / 70_010)


def test_rouge_l_at_the_edges(monkeypatch):
    pytest.importorskip("rapidfuzz")
    assert rouge_l_homogenisation(["", ""]) == 1
    assert rouge_l_homogenisation(["", "a"]) == 0
    assert rouge_l_homogenisation(CORPORA["equal"]) == 1
    with pytest.raises(ValueError, match="holds one text, and homogenisation"):
        rouge_l_homogenisation(["a"])
    monkeypatch.setitem(__import__("sys").modules, "rapidfuzz.process", None)
    with pytest.raises(ValueError, match=r"pip install 'passk-lab\[text\]'"):
        rouge_l_homogenisation(["a", "b"])


def test_compression_ratio():
    texts = words_of(0)
    data = "\n".join(texts).encode()
    assert compression_ratio(texts) == len(data) / len(gzip.compress(data))
    assert compression_ratio(["same words"] * 200) > 20 > compression_ratio(["same words"])
    assert compression_ratio(["half an emoji \ud83d"]) > 0
    with pytest.raises(ValueError, match="empty texts only"):
        compression_ratio(["", ""])
    with pytest.raises(ValueError, match="algorithm='rar'"):
        compression_ratio(texts, "rar")


def test_zstd(monkeypatch):
    far = [str(np.random.default_rng(0).bytes(30_000))] * 2
    if any(map(find_spec, ["zstandard", "compression"])):
        assert compression_ratio(far, "zstd") > 1.8 * compression_ratio(far, "gzip")
    for name in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ValueError, match="needs zstandard"):
        compression_ratio(far, "zstd")


# --- Tokenisers ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ünïcode naïve café", ["Ünïcode", "naïve", "café"]),
        ("e\u0301t\u00e9", ["e\u0301t\u00e9"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("مَرْحَبًا بكم", ["مَرْحَبًا", "بكم"]),
        ("東京タワーへ行く。", [*"東京タワーへ行く。"]),
        ("GPU用の4つ", ["GPU", "用", "の", "4", "つ"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("x_1=3.5", ["x_1", "=", "3", ".", "5"]),
        (" \n\t", []),
    ],
)
def test_words_of_any_script(text, expected):
    assert tokenize("words")(text) == expected


@settings(max_examples=100)
@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_the_quick_way_for_ascii_agrees(text):
    # A letter beyond ASCII, apart from the rest, forces the full pattern.
    assert tokenize("words")(text + " é") == [*tokenize("words")(text), "é"]


def test_scripts_without_spaces_are_compared_within_sentences():
    texts = ["我喜欢吃苹果", "我喜欢吃香蕉"]
    assert self_bleu(texts, tokenizer="words") > 0.5
    assert distinct_n(texts, 1) == 8 / 12
    assert distinct_n(texts, 1, "characters") == 8 / 12


def test_callables():
    assert distinct_n(["a-b", "b-c"], 1, lambda text: text.split("-")) == 0.75
    assert distinct_n(["ab"], 1, lambda text: [ord(sign) for sign in text]) == 1
    with pytest.raises(ValueError, match="tokenizer returned a string"):
        distinct_n(["a b"], 1, str.upper)
    with pytest.raises(ValueError, match="tokenizer must be a name or a callable"):
        distinct_n(["a b"], 1, 3)


@pytest.mark.slow
def test_hugging_face_tokenizers(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"a": 0, "b": 1, "[UNK]": 2, "[S]": 3}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[S] $A", special_tokens=[("[S]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    assert list(tokenize(fast)("a b a")) == [0, 1, 0]
    fast.save_pretrained(tmp_path)
    assert distinct_n(["a b", "a a"], 1, str(tmp_path)) == 0.5


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"'word' is none of 'words'.* need transformers"):
        distinct_n(["a"], 1, "word")


@pytest.mark.slow
def test_hugging_face_names_that_do_not_load(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="can't load it"):
        tokenize(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: distinct_n("one text"), "texts is a single text"),
        (lambda: distinct_n([]), "texts is empty"),
        (lambda: distinct_n(["a", None]), r"texts\[1\] is NoneType"),
        (lambda: compression_ratio([float("nan")]), r"texts\[0\] is float"),
        (lambda: distinct_n(["a"], 0), "n=0 must be at least 1"),
        (lambda: ngram_diversity_score(["a"], 0), "max_order=0"),
        (lambda: self_bleu(["a", "b"], 0), "max_order=0"),
        (lambda: self_bleu(["a", "b"], smoothing="add"), "smoothing='add' is none of 'exp'"),
        (lambda: self_repetition(["a b c d"]), "one text, and self-repetition"),
        (lambda: ngram_diversity_score(["a b"], 3), "no text of 3 tokens"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- Summary ---


def table_of(**problems):
    rows = [(name, text) for name, texts in problems.items() for text in texts]
    return pd.DataFrame(rows, columns=["problem_id", "text"]).assign(correct=True)


def test_summary_is_the_mean_over_problems():
    pytest.importorskip("rapidfuzz")
    problems = {f"p{seed}": words_of(seed, 8, 40) for seed in range(5)}
    table = table_of(**problems)
    metrics = [
        name
        for name, metric in METRICS.items()
        if metric.needs in ("texts", "tokens") and name != "compression_zstd"
    ]
    found = ngram_summary(table, metrics, random_state=0, n_resamples=500).set_index("metric")
    vocabulary = len({word for texts in problems.values() for t in texts for word in t.split()})
    for metric, of in {
        "distinct_1": lambda t: distinct_n(t, 1),
        "distinct_2": lambda t: distinct_n(t, 2),
        "ead": lambda t: ead(t, vocabulary_size=vocabulary),
        "ngram_diversity": ngram_diversity_score,
        "self_bleu": self_bleu,
        "self_repetition": self_repetition,
        "rouge_l": rouge_l_homogenisation,
        "compression_gzip": compression_ratio,
    }.items():
        row = found.loc[metric]
        assert row["estimate"] == pytest.approx(np.mean([of(t) for t in problems.values()]))
        assert row["low"] <= row["estimate"] <= row["high"]
        assert (row["n_samples"], row["n_problems"], row["n_defined"]) == (8, 5, 5)


@pytest.mark.slow
def test_unequal_numbers_are_compared_at_the_smallest():
    rng = np.random.default_rng(0)

    def problem(n):
        return [" ".join(map(str, rng.integers(0, 50, 30))) for _ in range(n)]

    wide = table_of(**{f"p{i}": problem(40) for i in range(20)}).assign(run="many")
    slim = table_of(**{f"p{i}": problem(5) for i in range(20)}).assign(run="few")
    table = pd.concat([wide, slim])
    metrics = ["distinct_1", "self_bleu"]
    equal = ngram_summary(table, metrics, random_state=0, n_resamples=200)
    assert equal["n_samples"].unique().tolist() == [5]
    naive = ngram_summary(table, metrics, n_samples="all", random_state=0, n_resamples=200)
    assert naive["n_samples"].unique().tolist() == [0]
    for metric in metrics:
        few, many = equal[equal["metric"] == metric]["estimate"]
        assert few == pytest.approx(many, rel=0.15)
        few, many = naive[naive["metric"] == metric]["estimate"]
        assert max(few, many) > 1.5 * min(few, many)
    again = ngram_summary(table, metrics, random_state=0, n_resamples=200)
    pd.testing.assert_frame_equal(equal, again)


def test_undefined_problems_are_counted():
    table = table_of(one=["a b"], empty=["", ""], two=["a b c", "a b d"], short=["a", "b"])
    found = ngram_summary(table, random_state=0).set_index("metric")
    assert (found["n_problems"] == 4).all()
    assert found["n_defined"].to_dict() == {
        "distinct_1": 2, "distinct_2": 1, "ead": 2, "ngram_diversity": 0, "self_bleu": 3,
        "self_repetition": 3, "compression_gzip": 2,
    }  # fmt: skip
    assert found["estimate"].isna().tolist() == [m == "ngram_diversity" for m in found.index]
    all_of_them = ngram_summary(table, ["distinct_1", "self_bleu"], n_samples="all", random_state=0)
    assert all_of_them["n_defined"].tolist() == [3, 3]


def test_correct_only():
    table = table_of(a=["x y", "x y", "z w"], b=["u", "v", "v"])
    table["correct"] = [True, True, False, True, False, False]
    found = ngram_summary(table, ["distinct_1"], correct_only=True, random_state=0).iloc[0]
    assert (found["estimate"], found["n_defined"], found["n_samples"]) == (0.5, 1, 2)


def test_self_bleu_of_the_summary_has_sacrebleus_tokeniser():
    texts = ["it's 1,000.5", "it's 1,000.6", "it is"]
    for given_tokenizer, used in [("words", "13a"), ("characters", "13a"), (list, list)]:
        found = ngram_summary(
            table_of(a=texts), ["self_bleu"], tokenizer=given_tokenizer, random_state=0
        )
        assert found["estimate"].iloc[0] == pytest.approx(self_bleu(texts, tokenizer=used))


def test_files_and_groups(tmp_path):
    table = table_of(a=["x y", "x z"]).assign(run="r", split="id", step=[1, 1])
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    found = ngram_summary(path, ["distinct_1"], by=["run", "step"], random_state=0)
    assert list(found.columns[:3]) == ["run", "step", "metric"]
    assert found["estimate"].tolist() == [0.75]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.drop(columns="text"), {}, "column 'text' is missing"),
        (lambda t: t.assign(text=[None, "a"]), {}, "column 'text', row 0: the text is missing"),
        (lambda t: t, {"metrics": ["bleu"]}, "metrics holds 'bleu', which is none of distinct_1"),
        (lambda t: t, {"by": ["model"]}, "column 'model' is missing"),
        (lambda t: t, {"n_samples": 0}, "n_samples=0 must be"),
        (lambda t: t, {"n_samples": "most"}, "n_samples='most' must be"),
        (lambda t: t, {"n_draws": 0}, "n_draws=0"),
        (lambda t: t, {"vocabulary_size": 1}, "vocabulary_size=1 is below"),
    ],
)
def test_tables_that_are_refused(change, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ngram_summary(change(table_of(a=["x y", "z"])), **options)


@pytest.mark.slow
def test_a_very_long_text():
    long = " ".join(map(str, range(200_000)))
    start = time.perf_counter()
    assert self_bleu([long, long]) == pytest.approx(1)
    assert distinct_n([long]) == 1
    assert time.perf_counter() - start < 20


def test_self_bleu_of_scripts_without_blanks():
    """Nearly equal texts are nearly equal in any script; to plain 13a a sentence was one token."""
    chinese = ["我认为答案是四因为二加二等于四", "我认为答案是四因为二加二等于四。",
               "我认为答案是四因为二加二得四", "我觉得答案是四因为二加二等于四"]  # fmt: skip
    english = ["I think that the answer is four because two plus two equals four",
               "I think that the answer is four because two plus two equals four.",
               "I think that the answer is four because two plus two makes four",
               "I believe that the answer is four because two plus two equals four"]  # fmt: skip
    assert self_bleu(chinese) == pytest.approx(self_bleu(english), abs=0.1)
    assert self_bleu(chinese) > 0.8
    assert tokenize("bleu")("ありがとう。thanks, 3.5%") == [
        *"ありがとう。",
        "thanks",
        ",",
        "3.5",
        "%",
    ]
