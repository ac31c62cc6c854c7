"""The report: verdicts on planted behaviour, a safe and whole page, the same bytes twice."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from passk_lab import compare_runs, metric_table, pass_at_k, write_rollouts
from passk_lab.report import build_report
from passk_lab.report._worst import worst_problems
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.study import Study
from passk_lab.stats.diversity import diversity_summary
from passk_lab.stats.verdict import Change, judge, verdict
from tests.helpers import refuses

pytestmark = pytest.mark.slow  # whole reports

FAST = {"n_resamples": 400}


@pytest.fixture
def drawn():
    """Asked for by the tests that look at the figures."""


@pytest.fixture
def compared():
    """Asked for by the tests that look at the diversity of texts."""


@pytest.fixture(autouse=True)
def _no_text_diversity(request, monkeypatch):
    """Left out of the other tests, to save their time."""
    if "compared" not in request.fixturenames:
        monkeypatch.setattr("passk_lab.report.analysis.text_diversity", lambda *_: (None, []))


@pytest.fixture(autouse=True)
def _blank_figures(request, monkeypatch):
    """Drawing takes most of a report's time; the other tests do with empty figures."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(
            "passk_lab.report._figures._draw", lambda *_, **__: Figure(figsize=(0.5, 0.5))
        )


def rollouts(run, right, modes=4, n=16, split="id") -> pd.DataFrame:
    """Rollouts with exact counts: problem i has right[i] correct ones, spread over its modes."""
    modes = np.broadcast_to(modes, len(right))
    parts = []
    for i, (c, m) in enumerate(zip(right, modes, strict=True)):
        sample = np.arange(n)
        answers = [f"a{j % m}" if j < c else "wrong" for j in sample]
        texts = [f"{run} tried {i}: {answer}" for answer in answers]
        part = {"sample_id": sample, "correct": sample < c, "answer": answers, "text": texts}
        parts.append(pd.DataFrame({"run": run, "split": split, "problem_id": f"p{i:03d}", **part}))
    return pd.concat(parts, ignore_index=True)


def table(*runs) -> pd.DataFrame:
    return pd.concat(runs, ignore_index=True)


def right(rng, problems=60, low=0.05, high=0.9, n=16):
    return rng.binomial(n, rng.uniform(low, high, problems))


def planted(kind: str, seed: int) -> pd.DataFrame:
    """A baseline and a run whose behaviour is known, by the label it should get."""
    rng = np.random.default_rng(seed)
    base = np.maximum(right(rng), 1)
    tuned, modes = {
        "no clear change": (base, 4),
        "better at the first try, level at 16": (np.minimum(base + 4, 16), 4),
        "better at the first try, narrower at 16": (np.minimum(base + 4, 16), 1),
        "level at the first try, narrower at 16": (base, 1),
        "worse at the first try, narrower at 16": (base // 3, 4),
        "worse at the first try, wider at 16": (np.where(base > 5, base - 2, base), 8),
        "better at the first try, mixed at 16": (np.where(base > 4, 16, 0), 12),
    }[kind]
    return table(rollouts("base", base), rollouts("tuned", tuned, modes))


PLANTED = [
    "better at the first try, narrower at 16",
    "level at the first try, narrower at 16",
    "worse at the first try, narrower at 16",
    "worse at the first try, wider at 16",
    "better at the first try, mixed at 16",
]


@pytest.fixture(scope="module")
def two_splits() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return table(
        rollouts("base", right(rng)),
        rollouts("sdsd", right(rng, low=0, high=1), 1),
        rollouts("base", right(rng, 20), split="ood"),
        rollouts("sdsd", right(rng, 20), split="ood"),
    )


@pytest.fixture(scope="module")
def whole(two_splits, tmp_path_factory):
    """A report with all that it can have: made before figures and texts are left out."""
    out = tmp_path_factory.mktemp("whole")
    return build_report(two_splits, "base", out=out, random_state=3, **FAST)


class TestVerdict:
    @staticmethod
    def change(sign, k=1, n=100, width=0.01):
        middle = 0.1 * sign
        return Change(k, 0.5, 0.5 + middle, middle, middle - width, middle + width, n)

    @pytest.mark.parametrize(
        ("first", "last", "distinct", "label", "lost"),
        [
            (1, 1, 1, "better at the first try, wider at 64", False),
            (1, 0, 0, "better at the first try, level at 64", False),
            (1, 0, -1, "better at the first try, narrower at 64", True),
            (1, -1, -1, "better at the first try, narrower at 64", True),
            (1, -1, 0, "better at the first try, narrower at 64", True),
            (0, -1, 0, "level at the first try, narrower at 64", True),
            (0, 0, -1, "level at the first try, narrower at 64", True),
            (0, 1, 0, "level at the first try, wider at 64", False),
            (-1, 1, 1, "worse at the first try, wider at 64", False),
            (1, -1, 1, "better at the first try, mixed at 64", True),
            (-1, 1, -1, "worse at the first try, mixed at 64", True),
            (-1, 0, 0, "worse at the first try, level at 64", True),
            (0, 0, 0, "no clear change", False),
        ],
    )  # fmt: skip
    def test_table(self, first, last, distinct, label, lost):
        found = verdict(*(self.change(s, k) for s, k in ((first, 1), (last, 64), (distinct, 64))))
        assert (found.label, found.lost) == (label, lost)

    def test_sentences_agree_with_the_signs(self):
        words = {1: "solves more", -1: "solves (less|fewer)", 0: "solves about as m"}
        for signs in itertools.product((-1, 0, 1), repeat=3):
            found = verdict(*map(self.change, signs, (1, 64, 64)))
            for sign in signs[:2]:
                assert re.search(words[sign], found.sentence)
            assert ("narrower" in found.label) == (min(signs[1:]) < 0 and max(signs[1:]) < 1)
            assert found.gained == (signs[0] > 0 or (max(signs[1:]) > 0 and min(signs[1:]) > -1))

    def test_one_k_alone(self):
        found = verdict(self.change(1))
        assert found.label == "better at the first try"
        assert found.reach is None
        assert len(found.evidence) == 1
        assert any("only pass@1" in line for line in found.advice)

    def test_an_interval_that_touches_zero_is_not_clear(self):
        assert Change(1, 0.5, 0.6, 0.1, 0.0, 0.2, 100).direction == 0
        assert Change(1, 0.5, 0.4, -0.1, -0.2, 0.0, 100).direction == 0

    def test_p_values_decide_where_there_are_any(self):
        values = (1, 0.5, 0.6, 0.1, 0.01, 0.2, 100)
        assert Change(*values, p_value=0.051).direction == 0
        assert Change(*values, p_value=0.05).direction == 1
        assert Change(*values, p_value=0.05, significance=0.01).direction == 0

    def test_wide_intervals_are_no_evidence_of_no_change(self):
        assert verdict(self.change(0, width=0.04), self.change(0, 64)).label == "no clear change"
        found = verdict(self.change(0, width=0.06), self.change(0, 64))
        assert found.label == "too few problems to tell"
        assert (found.first_try, found.reach) == ("unclear", "level")
        assert any("up to 0.06 in pass@1 can't be excluded" in c for c in found.cautions)
        wider = verdict(self.change(0, width=0.06), self.change(0, 64), margin=0.1)
        assert wider.label == "no clear change"
        half = verdict(self.change(0, width=0.06), self.change(-1, 64))
        assert half.label == "unclear at the first try, narrower at 64"
        assert (
            "Whether there is a change at the first try, 100 problems can't tell" in half.sentence
        )

    def test_the_margin_of_distinct_answers_is_a_share(self):
        distinct = Change(64, 6.0, 6.0, 0.0, -0.29, 0.29, 100)
        found = verdict(self.change(0), self.change(0, 64), distinct)
        assert found.label == "no clear change"
        distinct = Change(64, 5.0, 5.0, 0.0, -0.29, 0.29, 100)
        found = verdict(self.change(0), self.change(0, 64), distinct)
        assert found.label == "too few problems to tell"

    def test_numbers_in_the_evidence(self):
        found = verdict(Change(1, 0.25, 0.5, 0.25, 0.125, 0.375, 50, p_value=0.0005), split="ood")
        said = "pass@1 0.250 -> 0.500: +0.250 [+0.125, +0.375], adjusted p = 0.0005"
        assert found.evidence == (said,)

    @pytest.mark.parametrize("kind", PLANTED)
    @pytest.mark.parametrize("seed", range(3))
    def test_planted_behaviour_is_found(self, kind, seed, tmp_path):
        report = build_report(planted(kind, seed), "base", out=tmp_path, **FAST)
        assert [v.label for v in report.verdicts] == [kind]

    def test_identical_runs(self, tmp_path):
        data = planted("no clear change", 0)
        (found,) = build_report(data, "base", out=tmp_path, **FAST).verdicts
        assert (found.first_try, found.lost) == ("level", False)
        assert re.search(
            r"\+0.000 \[-0.0[1-4]\d, \+0.0[1-4]\d\], adjusted p = 1", found.evidence[0]
        )

    def test_the_report_says_what_judge_says(self, two_splits, whole):
        found = judge(two_splits, "base", distinct=True, random_state=3, **FAST)
        assert sorted(found, key=lambda v: v.split) == list(whole.verdicts)

    def test_no_problem_with_two_answers(self, tmp_path):
        data = table(rollouts("base", [4] * 30, 1), rollouts("tuned", [12] * 30, 1))
        report = build_report(data, "base", out=tmp_path, **FAST)
        assert len(report.verdicts[0].evidence) == 2
        assert report.sections[0].distinct is None
        assert not list(tmp_path.glob("distinct*"))
        assert sum("two different correct answers" in note for note in report.notes) == 1

    @pytest.mark.parametrize(("c", "words"), [(0, "verifier ran"), (8, "verifier can fail")])
    def test_all_wrong_or_all_right(self, c, words, tmp_path):
        data = table(*(rollouts(run, [c] * 20, 1, n=8) for run in ("base", "tuned")))
        report = build_report(data, "base", out=tmp_path, **FAST)
        assert report.verdicts[0].label == "too few problems to tell"
        assert sum(words in note for note in report.notes) == 2

    def test_seeds_are_resampled_unless_pooled(self, tmp_path):
        """Training seeds that differ by more than the change: a word of the pooled report alone."""
        base = table(*(rollouts("base", [4 + s] * 40, 1).assign(seed=s) for s in (0, 4, 8)))
        tuned = table(*(rollouts("tuned", [6 + s] * 40, 1).assign(seed=s) for s in (0, 4, 8)))
        both = table(base, tuned)
        report = build_report(both, "base", out=tmp_path, **FAST)
        assert report.verdicts[0].first_try == "unclear"
        assert report.sections[0].overview()["seeds"].tolist() == [3, 3]
        assert sum("have 3 training seeds" in note for note in report.notes) == 1
        pooled = build_report(
            both.assign(sample_id=both["sample_id"] + 16 * both["seed"]).drop(columns="seed"),
            "base", out=tmp_path / "none", **FAST,
        )  # fmt: skip
        same = build_report(both, "base", out=tmp_path / "pooled", pool_seeds=True, **FAST)
        assert same.verdicts == pooled.verdicts
        assert same.verdicts[0].first_try == "better"

    @pytest.mark.parametrize(
        ("low", "high", "p", "word"),
        [(-3.2, -2.4, 0.001, "fewer"), (2.4, 3.2, 0.001, "more"), (-0.1, 0.1, 1, "level"),
         (-2, 1, 0.4, "unclear")],
    )  # fmt: skip
    def test_distinct_answers_alone_and_what_is_clear(self, low, high, p, word):
        middle = (low + high) / 2
        found = verdict(
            Change(1, 0.4, 0.48, 0.08, 0.05, 0.11, 200, p_value=0.001),
            Change(64, 0.95, 0.94, -0.01, -0.08, 0.06, 200, p_value=0.7),
            Change(64, 5.1, 5.1 + middle, middle, low, high, 200, p_value=p),
        )
        assert found.distinct == word
        assert found.clear == (True, False, p < 0.05)
        assert len(found.clear) == len(found.evidence)
        alone = verdict(Change(1, 0.4, 0.4, 0.0, -0.2, 0.2, 20, p_value=1))
        assert (alone.distinct, alone.clear) == (None, (False,))
        assert len(alone.advice) == 2


class TestTables:
    def test_report_holds_what_the_library_computes(self, two_splits, whole):
        assert [s.split for s in whole.sections] == ["id", "ood"]
        one = two_splits[two_splits["split"] == "id"]
        expected = compare_runs(one, "base", random_state=3, **FAST).differences
        pd.testing.assert_frame_equal(whole.sections[0].differences, expected, check_dtype=False)
        (found, _) = whole.verdicts
        last = expected.iloc[-1]
        said = f"{last['difference']:+.3f} [{last['low']:+.3f}, {last['high']:+.3f}]"
        assert said in found.evidence[1]

    def test_csv_beside_each_figure(self, whole):
        folder = whole.page.parent
        for section in whole.sections:
            tables = {
                "pass_at_k": section.curve,
                "distinct_at_k": section.distinct,
                "pass_rates": section.rates,
                "differences": section.differences,
                "worst_problems": section.worst,
            }
            for stem, expected in tables.items():
                name = f"{stem}-{section.split}"
                shared = pd.read_csv(folder / f"{name}.csv")[list(expected.columns)]
                pd.testing.assert_frame_equal(shared, expected, check_dtype=False)
                for ending in () if stem == "worst_problems" else ("png", "svg"):
                    assert (folder / f"{name}.{ending}").stat().st_size > 1000
        assert "k_cross" in pd.read_csv(folder / "differences-id.csv")
        assert set(whole.files) == set(folder.iterdir())

    def test_summary_is_strict_json(self, whole):
        def refuse(name):
            raise AssertionError(f"{name} is no JSON")

        summary = json.loads(whole.summary.read_text(), parse_constant=refuse)
        assert summary["baseline"] == "base"
        assert summary["n_resamples"] == FAST["n_resamples"]
        labels = [v["label"] for s in summary["splits"] for v in s["verdicts"]]
        assert labels == [v.label for v in whole.verdicts]
        first = summary["splits"][0]["pass_at_k"][0]
        assert first["estimate"] == whole.sections[0].curve["estimate"].iloc[0]

    def test_worst_problems(self):
        base, tuned = [16, 8, 4, 0, 8], [0, 7, 4, 5, 9]
        both = counts(table(rollouts("base", base), rollouts("tuned", tuned, 1)))
        found = worst_problems(both, "base")
        assert found["problem_id"].tolist() == ["p000", "p001"]
        ks = np.array([1, 2, 4, 8, 16])
        drop = np.mean(pass_at_k(16, 8, ks) - pass_at_k(16, 7, ks))
        assert found["drop"].tolist() == pytest.approx([1.0, drop])
        assert found[["correct_baseline", "correct"]].values.tolist() == [[16, 0], [8, 7]]
        assert found[["distinct_baseline", "distinct"]].values.tolist() == [[4, 0], [4, 1]]

    def test_worst_problems_with_unequal_samples(self):
        both = counts(table(rollouts("base", [8, 8], n=8), rollouts("tuned", [0, 16], n=16)))
        assert worst_problems(both, "base")["drop"].tolist() == [1.0]

    def test_overview_puts_the_baseline_first(self, tmp_path):
        data = table(rollouts("a", [8] * 12), rollouts("z", [4] * 12))
        report = build_report(data, "z", out=tmp_path, **FAST)
        found = report.sections[0].overview("z")
        assert found["run"].tolist() == ["z", "a"]
        assert list(found.columns) == ["run", "problems", "pass@1", "pass@4", "pass@16",
                                       "distinct@16"]  # fmt: skip
        assert found["pass@1"].tolist() == ["0.250 [0.055, 0.572]", "0.500 [0.211, 0.789]"]

    def test_given_k(self, tmp_path):
        report = build_report(
            planted("better at the first try, level at 16", 0),
            "base",
            out=tmp_path,
            k=[2, 5],
            **FAST,
        )
        assert sorted(set(report.sections[0].curve["k"])) == [2, 5]
        assert report.verdicts[0].evidence[0].startswith("pass@2 ")
        assert report.verdicts[0].evidence[1].startswith("pass@5 ")

    def test_one_sample_a_problem(self, tmp_path):
        data = table(rollouts("base", [1, 0] * 10, n=1), rollouts("tuned", [1] * 20, n=1))
        (found,) = build_report(data, "base", out=tmp_path, **FAST).verdicts
        assert found.label == "better at the first try"
        assert any("only pass@1" in line for line in found.advice)


class TestInputs:
    @pytest.mark.usefixtures("compared")
    def test_formats_give_the_same_page(self, two_splits, tmp_path):
        data = two_splits.assign(token_entropy=np.linspace(0, 1, len(two_splits)))
        files = [tmp_path / f"r.{ending}" for ending in ("parquet", "jsonl", "csv")]
        for path in files[:2]:
            write_rollouts(data, path)
        data.to_csv(files[2], index=False)
        pages = {
            build_report(source, "base", out=tmp_path / str(i), **FAST).page.read_text()
            for i, source in enumerate([data, *files, files[1:2]])
        }
        (page,) = pages
        assert "base tried" in page
        assert "token entropy ↑" in page

    def test_integer_problem_ids_in_parquet(self, tmp_path):
        data = planted("worse at the first try, narrower at 16", 0)
        data["problem_id"] = data["problem_id"].str[1:].astype(int) + 1000
        data.to_parquet(tmp_path / "r.parquet")
        page = build_report(tmp_path / "r.parquet", "base", out=tmp_path, **FAST).page.read_text()
        assert "base tried" in page

    def test_one_file_can_be_named(self, tmp_path):
        rollouts("x", [4] * 10).drop(columns="run").to_parquet(tmp_path / "r.parquet")
        found = Study(tmp_path / "r.parquet", run="mine").counts()
        assert set(found["run"]) == {"mine"}

    def test_samples_of_a_problem_in_two_files(self, tmp_path):
        data = planted("no clear change", 0)
        files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
        for half, path in enumerate(files):
            data[data["sample_id"] // 8 == half].to_parquet(path)
        pd.testing.assert_frame_equal(Study(files).counts(), counts(data))

    def test_answers_in_one_file_only(self, tmp_path):
        files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
        rollouts("base", [4] * 10).to_parquet(files[0])
        rollouts("tuned", [4] * 10).drop(columns="answer").to_parquet(files[1])
        report = build_report(files, "base", out=tmp_path / "out", **FAST)
        assert report.sections[0].distinct is None
        assert any("'answer'" in note for note in report.notes)

    def test_without_answers(self, tmp_path):
        data = planted("better at the first try, narrower at 16", 0)
        for out, source in (("a", data.drop(columns="answer")), ("b", data)):
            report = build_report(source, "base", out=tmp_path / out, distinct=False, **FAST)
            assert not (tmp_path / out / "distinct_at_k.png").exists()
            assert report.verdicts[0].label == "better at the first try, unclear at 16"

    @pytest.mark.parametrize("ending", ["parquet", "jsonl"])
    def test_pooled_steps_are_said(self, ending, tmp_path):
        data = rollouts("tuned", [4] * 10)
        data["step"] = data["sample_id"] // 8 * 100
        write_rollouts(data, tmp_path / f"r.{ending}")
        notes = Study(tmp_path / f"r.{ending}").notes()
        assert any("'tuned' pools the rollouts of 2 steps" in note for note in notes)

    def test_no_baseline(self, tmp_path):
        report = build_report(
            planted("better at the first try, level at 16", 0), out=tmp_path, **FAST
        )
        assert report.verdicts == ()
        assert not (tmp_path / "differences.png").exists()
        assert (tmp_path / "pass_at_k.png").exists()
        assert "--baseline" in report.page.read_text()
        assert any("runs here: base, tuned" in note for note in report.notes)

    @pytest.mark.parametrize(
        ("runs", "splits", "note"),
        [
            ([rollouts("base", [4] * 10)], [], "only run"),
            ([planted("no clear change", 0),
              *(rollouts(run, [4] * 10, split="ood") for run in ("x", "y"))],
             ["id"], "'ood' has no rollouts of the baseline"),
            ([rollouts("base", [4] * 30), rollouts("tuned", [8] * 25)],
             ["id"], "5 problems.*25 are compared"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_compared_is_said(self, runs, splits, note, tmp_path, recwarn):
        report = build_report(table(*runs), "base", out=tmp_path, **FAST)
        assert [v.split for v in report.verdicts] == splits
        assert any(re.search(note, said) for said in report.notes)
        assert not [w for w in recwarn if issubclass(w.category, UserWarning)]

    @pytest.mark.parametrize(
        ("baseline", "options", "message"),
        [
            ("bse", {}, r"'bse'; did you mean 'base'\? \(runs: base, tuned"),
            ("base", {"k": [1, 17]}, "k=17 exceeds the 16 samples of problem 'p000'"),
            ("base", {"metrics": ["g_pass"]}, "g_pass_at_k"),
        ],
    )
    def test_unknown_names_and_large_k_are_refused(self, baseline, options, message, tmp_path):
        refuses(
            message, build_report, planted("no clear change", 0), baseline, out=tmp_path, **options
        )

    def test_out_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        said = r"can't write into .*choose another folder"
        for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
            refuses(
                said, build_report, planted("no clear change", 0), "base", out=out, error=OSError
            )


def test_same_seed_same_bytes(two_splits, whole, tmp_path, drawn, compared):
    again = build_report(two_splits, "base", out=tmp_path, random_state=3, **FAST)
    assert sorted(p.name for p in again.files) == sorted(p.name for p in whole.files)
    for path in whole.files:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_another_seed_moves_the_intervals_only(two_splits, whole, tmp_path):
    other = build_report(two_splits, "base", out=tmp_path, random_state=1, **FAST)
    one, two = (report.sections[0].differences for report in (whole, other))
    assert (one["difference"] == two["difference"]).all()
    assert not (one["p_value"] == two["p_value"]).all()


def test_a_failed_write_keeps_the_old_page(two_splits, tmp_path, monkeypatch):
    page = build_report(two_splits, "base", out=tmp_path, **FAST).page
    before = page.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    options = {"out": tmp_path, "random_state": 9, **FAST}
    refuses("disk full", build_report, two_splits, "base", error=OSError, **options)
    assert page.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


VOID = {"meta", "img", "wbr", "source", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects tags, attributes and text."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.links, self.texts = [], [], [], []
        self.attributes = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [
            v
            for name, v in attrs
            if name in ("src", "href", "xlink:href", "srcset", "data", "action")
        ]
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


class TestPage:
    def test_whole_and_self_contained(self, whole):
        page = Page(whole.page)
        assert page.links
        assert all(link.startswith(("data:", "#")) for link in page.links)
        assert not {"img", "iframe", "object", "embed", "link", "form"} & set(page.tags)
        assert page.tags.count("script") == 1
        assert not {name for name in page.attributes if name == "style" or name.startswith("on")}
        raw = whole.page.read_text()
        (css,) = re.findall(r"<style>(.*?)</style>", raw, re.S)
        assert "url(" not in css
        assert "@import" not in css
        assert "prefers-color-scheme: dark" in css
        (script,) = re.findall(r"<script>(.*?)</script>", raw, re.S)
        style, code = (
            base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
            for part in (css, script)
        )
        assert (
            f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{code}'; "
            "base-uri 'none'; form-action 'none'"
        ) in raw
        assert not re.search(r"url\((?!#)", raw)

    def test_links_lead_somewhere(self, whole):
        raw = whole.page.read_text()
        ids = re.findall(r'\bid="([^"]+)"', raw)
        assert len(ids) == len(set(ids))
        found = set(re.findall(r'href="#([^"]+)"', raw)) | set(re.findall(r"url\(#([^)]+)\)", raw))
        assert found <= set(ids)
        assert {"split-0", "split-1", "run-0-0", "run-1-0"} <= found

    def test_one_figure_for_light_and_dark(self, whole):
        raw = whole.page.read_text()
        figures = re.findall(r"<figure>.*?</figure>", raw, re.S)
        assert len(figures) == 2 * 4
        for figure in figures:
            assert set(re.findall(r'data-run="(\d)"', figure)) <= {"0", "1"}
            assert not re.findall(r'(?:fill|stroke)="#', figure)
        declared = set(re.findall(r"(--c\d+):", raw))
        assert set(re.findall(r"var\((--c\d+)\)", "".join(figures))) <= declared

    def test_each_mark_says_its_value(self, whole):
        raw = whole.page.read_text()
        for row in whole.sections[0].curve.to_dict("records"):
            value = f"{row['run']}, k = {row['k']}: {row['estimate']:.3f} ["
            assert f"<title>{value}" in raw
        rates = whole.sections[1].rates.to_dict("records")
        assert all(f"<title>{r['run']}, {r['bin']}: {r['problems']} problem" in raw for r in rates)

    def test_says_the_verdict_and_its_evidence(self, tmp_path):
        report = build_report(
            planted("better at the first try, narrower at 16", 0), "base", out=tmp_path, **FAST
        )
        text = re.sub(r"\s+", " ", Page(report.page).text)
        (found,) = report.verdicts
        assert "Better at the first try, narrower at 16" in text
        for line in (found.sentence, *found.evidence):
            assert line in text

    def test_samples_of_the_worst_problems(self, tmp_path):
        data = planted("worse at the first try, narrower at 16", 0)
        report = build_report(data, "base", out=tmp_path, n_worst=3, **FAST)
        text = Page(report.page).text
        worst = report.sections[0].worst
        assert len(worst) == 3
        for problem in worst["problem_id"]:
            number = int(problem[1:])
            assert f"base tried {number}: a0" in text
            assert f"tuned tried {number}: wrong" in text
        assert len(re.findall("tried", text)) == 3 * 4

    def test_as_many_problems_and_texts_as_asked_for(self, tmp_path):
        data = planted("worse at the first try, narrower at 16", 0)
        report = build_report(data, "base", out=tmp_path, n_worst=7, n_texts=5, **FAST)
        page = Page(report.page)
        assert len(re.findall("tried", page.text)) == 7 * 2 * 5
        assert len(report.sections[0].worst) == 7
        page = Page(build_report(data, "base", out=tmp_path, n_worst=0, **FAST).page)
        assert "tried" not in page.text

    def test_problems_of_very_many_runs_are_listed_but_not_all_opened(self, tmp_path):
        data = planted("worse at the first try, narrower at 16", 0)
        runs = [data[data["run"] == "tuned"].assign(run=f"r{i}") for i in range(30)]
        base = data[data["run"] == "base"]
        raw = build_report(table(base, *runs), "base", out=tmp_path, **FAST).page.read_text()
        assert raw.count("<tbody data-run") == 30 * 10
        assert raw.count('class="drill"') == 30 * (250 // 30)

    def test_answers_and_prompt(self, tmp_path):
        """Counts of baseline and run side by side, none is an answer, too."""
        base = rollouts("base", [8, 16], 2).assign(prompt=lambda t: "ask " + t["problem_id"])
        tuned = rollouts("tuned", [0, 16], 2)
        tuned.loc[tuned.index[:3], "answer"] = None
        data = table(base, tuned)
        report = build_report(data, "base", out=tmp_path, distinct=True, **FAST)
        raw = report.page.read_text()
        (drill,) = re.findall(r'<div class="drill">.*?</div>', raw, re.S)
        assert "ask p000" in drill
        rows = re.findall(r"<tr>(<td.*?)</tr>", drill, re.S)
        cells = {tuple(re.findall(r"<td[^>]*>(.*?)</td>", row)) for row in rows}
        assert cells == {
            ("wrong", "no", "8", "13"),
            ("a0", "yes", "4", "0"),
            ("a1", "yes", "4", "0"),
            ("<em>none</em>", "no", "0", "3"),
        }

    def test_a_prompt_of_messages(self, tmp_path):
        base, tuned = rollouts("base", [8, 16], 2), rollouts("tuned", [0, 16], 2)
        base["prompt"] = [[{"role": "user", "content": "How many?"}]] * len(base)
        base.to_parquet(tmp_path / "base.parquet")
        tuned.to_parquet(tmp_path / "tuned.parquet")
        files = [tmp_path / "base.parquet", tmp_path / "tuned.parquet"]
        page = build_report(files, "base", out=tmp_path / "out", **FAST).page
        assert "<pre>user: How many?</pre>" in page.read_text()

    @pytest.mark.parametrize("label", PLANTED)
    def test_matrix(self, label, tmp_path):
        report = build_report(planted(label, 0), "base", out=tmp_path, **FAST)
        (found,) = report.verdicts
        raw = report.page.read_text()
        matrix = re.search(r'<table class="matrix">.*?</table>', raw, re.S)[0]
        cells = re.findall(r'<td class="(\w+)"><span aria-hidden="true">(.)</span> (\w+)', matrix)
        words = [found.first_try, found.reach, found.distinct]
        assert [word for _, _, word in cells] == words
        tones = {"better": ("good", "▲"), "more": ("good", "▲"), "wider": ("good", "▲"),
                 "worse": ("bad", "▼"), "fewer": ("bad", "▼"), "narrower": ("bad", "▼"),
                 "mixed": ("mixed", "◆"), "level": ("level", "＝"),
                 "unclear": ("unclear", "?")}  # fmt: skip
        assert [cell[:2] for cell in cells] == [tones[word] for word in words]
        (said,) = re.findall(r'<ul class="evidence">.*?</ul>', raw, re.S)
        bold = ["<strong>" in line for line in re.findall("<li>.*?</li>", said)]
        assert tuple(bold) == found.clear

    @pytest.mark.parametrize("baseline", ["base", None])
    def test_matrix_of_steps(self, baseline, tmp_path):
        data = planted("worse at the first try, narrower at 16", 0)
        parts = [data[data["run"] == "base"].assign(step=0)]
        parts += [
            data[data["run"] == run].assign(run="rl", step=step)
            for run, step in (("base", 10), ("tuned", 20))
        ]
        whole = table(*parts)
        if baseline is None:
            whole = whole[whole["run"] == "rl"]
        page = build_report(whole, baseline, out=tmp_path, **FAST).page
        matrix = re.search(r'<table class="matrix">.*?</table>', page.read_text(), re.S)[0]
        steps = re.findall(r'step (\d+)</td>\s*<td class="\w+"><[^>]*>.</span> (\w+)', matrix)
        assert steps[-1] == ("20", "worse")
        assert "fewer" in matrix.rpartition("step 20")[2]
        assert len(steps) == (2 if baseline else 1)


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "markup": "</pre></div><img src=x onerror=alert(1)>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "nul": "a\x00b",
    "terminal": "\x1b[2J\x1b]0;title\x07",
    "bidi": "\u202efdp.exe",
    "formula": "=HYPERLINK(\"http://evil.example\")",
    "quotes": "\"'><b>",
    "path": "../../etc/passwd",
    "dollar": "$\\frac{$",
}  # fmt: skip


class TestUntrusted:
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_names_ids_and_texts(self, kind, tmp_path, compared):
        bad = HOSTILE[kind]
        data = planted("worse at the first try, narrower at 16", 0)
        data["split"] = np.where(data["problem_id"] < "p030", bad, "other " + bad)
        data["problem_id"] = data["problem_id"] + bad
        data["run"] = data["run"] + bad
        data["answer"] = data["answer"] + bad
        data["text"] = bad + data["text"]
        out = tmp_path / "deep" / "out"
        report = build_report(data, "base" + bad, out=out, **FAST)
        page = Page(report.page)
        assert not {"img", "b"} & set(page.tags)
        assert page.tags.count("script") == 1
        assert all(link.startswith(("data:", "#")) for link in page.links)
        assert "onerror" not in page.attributes
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", report.page.read_text())
        if kind in ("script", "markup", "template", "quotes", "path", "formula", "dollar"):
            assert bad in page.text
        assert sorted(tmp_path.rglob("*")) == sorted({tmp_path / "deep", out, *report.files})
        assert all(path.parent == out for path in report.files)

    def test_lone_surrogates(self, tmp_path, compared):
        data = planted("worse at the first try, narrower at 16", 0)
        # pandas refuses them in its string columns; rows read from JSON come as plain objects.
        for name in ("text", "run"):
            spoilt = [value + "\ud83d" for value in data[name]]
            data[name] = pd.Series(spoilt, dtype=object)
        page = build_report(data, "base\\ud83d", out=tmp_path, **FAST).page
        assert "\\ud83d" in page.read_text(encoding="utf-8")

    def test_long_text_is_cut_and_its_length_said(self, tmp_path, drawn):
        data = (
            planted("worse at the first try, narrower at 16", 0)
            .query("problem_id < 'p012'")
            .assign(text="x" * 1_000_000)
        )
        page = build_report(data, "base", out=tmp_path, **FAST).page
        assert page.stat().st_size < 1_500_000
        text = Page(page).text
        assert "first 1,200 of 1,000,000 characters" in text
        assert "x" * 1200 in text
        assert "x" * 1201 not in text

    def test_csv_formulas(self, tmp_path, compared):
        data = planted("worse at the first try, narrower at 16", 0)
        names = dict(zip(data["problem_id"].unique(), itertools.cycle("=+-@"), strict=False))
        data["problem_id"] = data["problem_id"].map(lambda p: names[p] + p)
        data["run"] = "-" + data["run"]
        build_report(data, "-base", out=tmp_path, **FAST)
        for path in tmp_path.glob("*.csv"):
            written = pd.read_csv(path, dtype=str, keep_default_na=False)
            for name in written.columns:
                numeric = pd.to_numeric(written[name].replace("", "0"), errors="coerce").notna()
                text = written[name][~numeric]
                assert not text.str.match(r"[=+\-@]").any(), (path.name, name)
        worst = pd.read_csv(tmp_path / "worst_problems.csv")
        assert worst["problem_id"].str.match(r"'[=+\-@]p\d{3}").all()
        differences = pd.read_csv(tmp_path / "differences.csv")
        assert (differences["run"] == "'-tuned").all()
        # Numbers stay numbers, the negative ones too.
        assert differences["difference"].min() < 0

    def test_splits_whose_names_clash_as_files(self, tmp_path):
        data = table(
            *(
                planted("worse at the first try, narrower at 16", 0).assign(split=s)
                for s in ("a/b", "a b", "A-B", "///")
            )
        )
        report = build_report(data, "base", out=tmp_path, **FAST)
        assert len(report.files) == len(set(report.files)) == 4 * 13 + 2
        assert len({path.name.lower() for path in report.files}) == len(report.files)
        assert all(path.exists() for path in report.files)


def by_last_letter(texts):
    return [[text.endswith(end) for end in ("0", "1", "2", "3", "g")] for text in texts]


class TestMetrics:
    NAMES = ("g_pass_at_k:0.5", "support_kept", "effective_answers", "self_bleu")

    def test_table_page_and_files(self, two_splits, tmp_path):
        report = build_report(two_splits, "base", out=tmp_path, metrics=self.NAMES, **FAST)
        page = re.sub(r"\s+", " ", Page(report.page).text)
        for section in report.sections:
            rows = two_splits[two_splits["split"] == section.split]
            expected = metric_table(rows, self.NAMES, "base", random_state=0, **FAST)
            pd.testing.assert_frame_equal(section.metrics, expected)
            written = pd.read_csv(tmp_path / f"metrics-{section.split}.csv")
            pd.testing.assert_frame_equal(written, expected, check_dtype=False)
            row = expected.query("run == 'sdsd' and metric == 'self_bleu'").iloc[0]
            assert f"{row['difference']:+.3f} [{row['difference_low']:+.3f}" in page
        assert "self_bleu ↓" in page
        assert "Share of the baseline's solved problems that the run solves, too." in page
        assert set(report.files) == set(tmp_path.iterdir())

    def test_bold_only_where_it_is_clear(self, two_splits, tmp_path):
        names = ("pass_at_k", "never_solved", "max_at_k")
        scored = two_splits.assign(score=np.random.default_rng(0).random(len(two_splits)))
        report = build_report(scored, "base", out=tmp_path, metrics=names, **FAST)
        html = report.page.read_text()
        clear = 0
        for section in report.sections:
            for row in section.metrics[section.metrics["n_paired"] > 0].to_dict("records"):
                change = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}"
                bold = row["difference_low"] > 0 or row["difference_high"] < 0
                assert (f"<strong>{change}" in html) >= bold
                clear += bold
        assert html.count('<span class="interval"><strong>') == clear


@pytest.mark.usefixtures("compared")
class TestTextDiversity:
    def test_table_page_and_files(self, two_splits, whole):
        page = re.sub(r"\s+", " ", Page(whole.page).text)
        stored = json.loads(whole.summary.read_text())["splits"]
        for section, kept in zip(whole.sections, stored, strict=True):
            found = section.diversity
            rows = two_splits[two_splits["split"] == section.split].drop(columns="answer")
            expected = diversity_summary(rows, "base", random_state=3, n_draws=1, **FAST)
            pd.testing.assert_frame_equal(found, expected)
            written = pd.read_csv(whole.page.parent / f"diversity-{section.split}.csv")
            pd.testing.assert_frame_equal(written, found, check_dtype=False)
            assert kept["diversity"][0]["estimate"] == found["estimate"].iloc[0]
            row = found[(found["run"] == "sdsd") & (found["metric"] == "self_bleu")].iloc[0]
            low, high = row["difference_low"], row["difference_high"]
            assert f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]" in page
            assert row["difference"] > 0
        assert "16 texts of each problem, right or wrong; 60 problems." in page
        assert "self-BLEU ↓" in page
        assert "meanings" not in page

    def test_meanings_where_asked_for(self, two_splits, tmp_path):
        pytest.importorskip("sklearn")
        report = build_report(two_splits, "base", out=tmp_path, embedder=by_last_letter, **FAST)
        found = report.sections[0].diversity.set_index(["run", "metric"])["difference"]
        assert found["sdsd", "distinct@16"] < -1
        page = Page(report.page).text
        assert "meanings@16 ↑" in page
        assert "Vendi ↑" in page

    def test_large_tables_are_sampled(self, tmp_path):
        data = rollouts("base", [4] * 150, n=40)
        report = build_report(data, out=tmp_path, **FAST)
        found = report.sections[0].diversity
        assert found["n_problems"].unique().tolist() == [100]
        assert found["n_samples"].unique().tolist() == [32]
        assert "difference" not in found
        page = re.sub(r"\s+", " ", Page(report.page).text)
        assert "32 texts of each problem, right or wrong; 100 of 150 problems, drawn at" in page
        assert "Third line" not in page

    def test_missing_texts_are_said(self, two_splits, tmp_path):
        data = two_splits.copy()
        data.loc[data.index[:7], "text"] = None
        report = build_report(data, "base", out=tmp_path, **FAST)
        assert any(
            "Split 'id': 7 of 1920 rollouts have no text and are left out" in n
            for n in report.notes
        )
        assert "7 of 1920 rollouts" in Page(report.page).text

    def test_a_single_k_has_no_curve_to_speak_of(self, tmp_path):
        for n in (1, 16):
            runs = table(rollouts("base", [1, 0] * 10, n=n), rollouts("rl", [1, 1] * 10, n=n))
            page = Page(build_report(runs, "base", out=tmp_path, **FAST).page).text
            assert ("Crossing and flattening" in page) is (n > 1)

    def test_without_texts_or_pairs_of_them(self, two_splits, tmp_path):
        bare = two_splits.drop(columns="text")
        report = build_report(bare, "base", out=tmp_path / "bare", **FAST)
        assert report.sections[0].diversity is None
        assert "Diversity of the texts" not in Page(report.page).text
        said, options = "no file has the column 'text'", {"embedder": "tfidf", **FAST}
        refuses(said, build_report, bare, "base", out=tmp_path, **options)
        single = rollouts("base", [1, 0] * 10, n=1)
        report = build_report(single, out=tmp_path / "single", **FAST)
        assert report.sections[0].diversity is None

    @pytest.mark.parametrize(("pool", "n", "texts"), [(False, 16, 1), (True, 32, 2)])
    def test_texts_of_a_seed_are_compared_with_each_other(self, tmp_path, pool, n, texts):
        # Each seed repeats a text of its own: one text in one model, two in both.
        parts = [
            rollouts("base", [4] * 12).assign(seed=seed, text=["a b c", "d e f"][seed])
            for seed in (0, 1)
        ]
        report = build_report(table(*parts), out=tmp_path, pool_seeds=pool, **FAST)
        found = report.sections[0].diversity.set_index("metric")
        assert found["n_samples"].max() == n
        assert found["estimate"]["distinct_2"] * n == pytest.approx(texts)

    def test_run_without_texts(self, two_splits, tmp_path):
        data = two_splits.copy()
        data.loc[data["run"] == "base", "text"] = None
        report = build_report(data, "base", out=tmp_path, **FAST)
        found = report.sections[0].diversity
        assert set(found["run"]) == {"sdsd"}
        assert "difference" not in found
        assert "Diversity of the texts" in Page(report.page).text

    def test_undefined_metrics(self, tmp_path):
        data = rollouts("base", [4] * 12).assign(text="")
        report = build_report(data, out=tmp_path, **FAST)
        assert "n/a" in Page(report.page).text
