"""The suite on a model of a few letters, whose answers can all be enumerated."""

import itertools
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from torch.nn.functional import log_softmax

from passk_lab.cli import main
from passk_lab.lab.experiments import categories, run_suite
from passk_lab.lab.experiments.categories import (
    SUITES,
    CategorySuite,
    _forecast_members,
    _forecast_shares,
    _forecast_table,
    _member_policy,
    _split_categories,
)
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.lab.questions import TransformersBackend
from passk_lab.lab.tasks.categories import (
    TEMPLATES,
    CategoryQuestion,
    CategoryTask,
    load_categories,
)
from passk_lab.lab.tasks.text import TextEncoder
from passk_lab.teacher import forecast_generations
from tests.helpers import letter_tokenizer, refuses, score_table

MAKE = Path(__file__).parents[3] / "data" / "categories" / "make.py"
MEMBERS = (("a",), ("b", "ab"), ("ba",), ("bb",))
QUESTIONS = tuple(CategoryQuestion(f"a {name}", MEMBERS) for name in ("bag", "cab", "dab", "gab"))


def save_model(folder):
    """A model that knows five letters, space and line break, and nothing about them."""
    special = {"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = letter_tokenizer([*"abABs", "Ġ", "Ċ"], **special)
    tokenizer.save_pretrained(folder)
    config = ModelConfig(len(tokenizer), 512, d_model=16, n_layers=2, n_heads=2,
                         initializer_range=0.3)  # fmt: skip
    build_model(config, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backend(folder):
    return TransformersBackend.load(folder)


@pytest.fixture(scope="module")
def task(backend):
    return CategoryTask(QUESTIONS, TextEncoder(backend.tokenizer, chat=False), 4, 512)


def enumerated(model, task, question, demo=None):
    """Probability of every member, by following all sequences of tokens to their ends."""
    found = dict.fromkeys(task.correct_answers(question), 0.0)
    tokens = range(task.vocab_size)
    context = task.encode(question, demo)
    total = 0.0
    for length in range(1, task.max_answer_tokens + 1):
        before = itertools.product([t for t in tokens if t not in task.ends], repeat=length - 1)
        rows = torch.tensor([[*context, *prefix] for prefix in before])
        with torch.no_grad():
            logp = log_softmax(model(rows).logits[:, len(context) - 1 :].double(), -1)
        for row, values in zip(rows.tolist(), logp, strict=True):
            said = row[len(context) :]
            reached = values[range(len(said)), said].sum()
            for end in task.ends:
                p = float((reached + values[-1, end]).exp())
                total += p
                answer = task.canonical(question, task.decode([*said, end]))
                if task.verify(question, answer):
                    found[answer] += p
    assert 0.05 < total < 1
    return found


def test_probabilities_are_those_of_all_texts_that_the_verifier_accepts(backend, task):
    policy = _member_policy(backend.model, task, QUESTIONS[:2])
    assert policy["problem_id"].unique().tolist() == ["bag", "cab"]
    for question in QUESTIONS[:2]:
        exact = enumerated(backend.model, task, question)
        rows = policy[policy["problem_id"] == question.problem_id]
        assert rows["answer"].tolist() == ["a", "b", "ba", "bb"]
        np.testing.assert_allclose(np.exp(rows["logprob"]), list(exact.values()), rtol=1e-4)


def test_one_pass_is_the_optimum_of_the_teachers():
    rng = np.random.default_rng(0)
    base, shown = rng.normal(size=4), np.array([0, 2, 3])
    teachers = rng.normal(size=(4, 3))
    teachers -= logsumexp(teachers, axis=0)
    log_base = base - logsumexp(base)
    q = np.exp(log_base[shown]) / np.exp(log_base[shown]).sum()

    def distance(x):
        p = softmax(x)
        return q @ [(p * (np.log(p) - teacher)).sum() for teacher in teachers.T]

    best = softmax(minimize(distance, np.zeros(4), tol=1e-12).x)
    found = _forecast_shares(base, teachers - log_base[:, None], shown, 1)
    np.testing.assert_allclose(found, best, atol=1e-5)


def test_many_passes_end_where_a_frozen_teacher_does():
    base = np.log([0.5, 0.3, 0.2])
    pcmi = np.array([[0.3, -0.1, -0.2], [-0.2, 0.4, 0.0], [-0.4, -0.1, 0.5]])
    found = _forecast_shares(base, pcmi, np.arange(3), 200)
    scores = score_table([
        ("p", i, j, base[i], base[i] + pcmi[i, j]) for i in range(3) for j in range(3)
    ])  # fmt: skip
    rollouts = pd.DataFrame(
        {"problem_id": "p", "sample_id": range(3), "correct": True, "answer": list("xyz")}
    )
    exact = forecast_generations(scores, rollouts, (1.0,), k=1, teacher="frozen")
    assert 1 / (found**2).sum() == pytest.approx(exact["effective_answers"].item(), abs=1e-6)
    assert not np.allclose(found, _forecast_shares(base, pcmi, np.arange(3), 1), atol=1e-3)


@pytest.mark.parametrize("n_demos", [2, 4])
def test_the_forecast_is_made_of_what_the_templates_change(backend, task, monkeypatch, n_demos):
    monkeypatch.setattr(categories, "_LEAST", 1e-99)
    monkeypatch.setattr(categories, "_N_DEMOS", n_demos)
    question = QUESTIONS[0]
    found = _forecast_members(backend.model, task, [question], progress=False)
    alone = np.log(list(enumerated(backend.model, task, question).values()))
    shown = np.argsort(-alone)[:n_demos]
    names = task.correct_answers(question)
    for template, part in found.groupby("template", sort=False):
        teacher = replace(task, template=template)
        given = [
            list(enumerated(backend.model, teacher, question, names[at]).values()) for at in shown
        ]
        pcmi = np.log(np.transpose(given)) - alone[:, None]
        for t in (1, 3):
            exact = np.log(_forecast_shares(alone, pcmi, shown, t))
            np.testing.assert_allclose(part[f"forecast_{t}"], exact, atol=1e-3)
    assert found["template"].unique().tolist() == list(TEMPLATES)


def test_rare_spellings_hardly_matter(backend, task, monkeypatch):
    usual = _forecast_members(backend.model, task, QUESTIONS[:1], progress=False)
    monkeypatch.setattr(categories, "_LEAST", 1e-99)
    whole = _forecast_members(backend.model, task, QUESTIONS[:1], progress=False)
    np.testing.assert_allclose(usual["forecast_3"], whole["forecast_3"], atol=0.1)


def test_table_of_the_forecast():
    members = pd.DataFrame(
        {"template": "repeated", "split": "id", "problem_id": "p", "answer": ["x", "y"],
         "logprob": np.log([0.4, 0.1]), "forecast_1": np.log([0.5, 0.5]),
         "forecast_3": np.log([1.0, 1e-12])}
    )  # fmt: skip
    (row,) = _forecast_table(members).to_dict("records")
    assert row["pass@1"] == pytest.approx(0.5)
    assert row["effective_answers"] == pytest.approx(0.25 / 0.17)
    assert row["effective_1"] == pytest.approx(2)
    assert row["log_ratio_3"] == pytest.approx(np.log(0.17 / 0.25), abs=1e-6)


def test_the_shipped_forecast_is_of_the_shipped_lists():
    members = pd.read_parquet(MAKE.with_name("forecast.parquet"))
    table = pd.read_csv(MAKE.with_name("forecast.csv"))
    pd.testing.assert_frame_equal(
        _forecast_table(members), table, rtol=5e-3, atol=2e-3, check_dtype=False
    )
    trained, held_out = _split_categories(load_categories(MAKE.parent))
    for template in TEMPLATES:
        part = members[members["template"] == template]
        for split, questions in (("id", trained), ("ood", held_out)):
            listed = [(q.problem_id, names[0]) for q in questions for names in q.members]
            rows = part.loc[part["split"] == split, ["problem_id", "answer"]]
            assert list(rows.itertuples(index=False, name=None)) == listed


SMALL = {"prompts_per_step": 2, "group_size": 4, "save_every": 1, "teacher": "frozen",
         "freeze_embeddings": True, "as_tree": True, "learning_rate": 1e-2}  # fmt: skip


@pytest.fixture
def suite(monkeypatch):
    """Two updates; every readable answer is a member, so that there is something to learn."""
    monkeypatch.setattr(
        CategoryTask, "decode", lambda self, tokens: ["a", "ba", "b", None][sum(tokens) % 4]
    )
    runs = {name: TrainConfig(name, steps=2, **SMALL) for name in ("grpo", "dkpo", "sdsd/copying")}
    return CategorySuite(runs, {"sdsd/copying": "copying"}, (1, 2), (0,), 4, QUESTIONS)


def test_the_suite_writes_every_run(suite, backend, tmp_path):
    files = run_suite(suite, backend, tmp_path, progress=False)
    assert [file.stem for file in files] == ["base-0", "grpo-0", "dkpo-0", "sdsd-copying-0"]
    tables = {file.stem: pd.read_parquet(file) for file in files}
    base = tables.pop("base-0")
    assert base["step"].unique().tolist() == [0]
    assert base.groupby("split")["problem_id"].unique().map(list).to_dict() == {
        "id": ["bag", "dab"], "ood": ["cab", "gab"]
    }  # fmt: skip
    for name, table in tables.items():
        assert table["step"].unique().tolist() == [1, 2]
        for _, part in table.groupby("step"):
            assert part["answer"].tolist() == base["answer"].tolist()
            assert not np.allclose(part["logprob"], base["logprob"], atol=1e-4), name
        note = table.attrs["passk_lab"]
        assert note["template"] == ("copying" if "sdsd" in name else None)
        assert note["train"]["learning_rate"] == 1e-2
        kept = tmp_path / "runs" / name
        assert [path.name for path in kept.iterdir()] == ["metrics.jsonl"]  # checkpoints went
    written = [file.stat().st_mtime_ns for file in files]
    assert run_suite(suite, backend, tmp_path, progress=False) == files
    assert [file.stat().st_mtime_ns for file in files] == written


def test_what_is_shipped_is_what_was_written(suite, backend, tmp_path, monkeypatch):
    suite = replace(suite, seeds=(0, 1))
    files = run_suite(suite, backend, tmp_path, ["grpo", "sdsd/copying"], progress=False)
    script = runpy.run_path(str(MAKE))
    script["write"].__globals__["HERE"] = tmp_path
    monkeypatch.setattr("sys.argv", ["make.py", str(tmp_path)])
    script["main"]()
    policies = pd.read_parquet(tmp_path / "policies.parquet")
    runs = [
        ("base", 0, 0),
        *((run, seed, 2) for run in ("grpo", "sdsd/copying") for seed in (0, 1)),
    ]
    kept = policies.astype({"run": str})[["run", "seed", "step"]].drop_duplicates()
    assert sorted(kept.itertuples(index=False, name=None)) == sorted(runs)
    written = pd.concat(map(pd.read_parquet, files)).astype({"answer": str})
    both = policies.astype({"answer": str, "run": str}).merge(
        written, on=["run", "seed", "step", "split", "problem_id", "answer"], how="left"
    )
    np.testing.assert_allclose(both["logprob_x"], both["logprob_y"], atol=6e-4)
    assert len(policies) == 5 * 16
    steps = pd.read_parquet(tmp_path / "steps.parquet").astype({"run": str})
    assert len(steps) == (1 + 2 * 2 * 2) * 4
    part = written[(written["run"] == "grpo") & (written["seed"] == 1) & (written["step"] == 1)]
    p = np.exp(part.loc[part["problem_id"] == "gab", "logprob"])
    row = steps.query("run == 'grpo' and seed == 1 and step == 1 and problem_id == 'gab'")
    assert row["pass@1"].item() == pytest.approx(p.sum(), abs=1e-4)
    assert row["effective_answers"].item() == pytest.approx(p.sum() ** 2 / (p**2).sum(), abs=1e-4)
    assert row["distinct@16"].item() == pytest.approx((1 - (1 - p) ** 16).sum(), abs=1e-4)
    note = json.loads(pq.read_schema(tmp_path / "policies.parquet").metadata[b"passk_lab"])
    assert note["sdsd/copying"]["template"] == "copying"


def test_a_killed_run_goes_on_to_the_same_numbers(suite, backend, tmp_path, monkeypatch):
    run = ["sdsd/copying"]
    *_, whole = run_suite(suite, backend, tmp_path / "whole", run, progress=False)
    original, calls = categories._member_policy, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 5:  # both splits of the base and of the first step are done
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(categories, "_member_policy", killed)
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite, backend, tmp_path / "part", run, progress=False)
    assert not (tmp_path / "part" / "policies" / whole.name).exists()
    *_, resumed = run_suite(suite, backend, tmp_path / "part", run, progress=False)
    pd.testing.assert_frame_equal(pd.read_parquet(resumed), pd.read_parquet(whole))


def test_teachers_see_their_template(suite, backend, tmp_path, monkeypatch):
    seen = set()
    original = CategoryQuestion.shown

    def noted(self, answer, template):
        seen.add(template)
        return original(self, answer, template)

    monkeypatch.setattr(CategoryQuestion, "shown", noted)
    run_suite(suite, backend, tmp_path, ["sdsd/copying"], progress=False)
    assert seen == {"copying"}


def test_split_is_stated():
    made = [CategoryQuestion(f"a {name}", MEMBERS) for name in ("dab", "Bag", "cab", "ab")]
    trained, held_out = _split_categories(made)
    names = [[q.problem_id for q in part] for part in (trained, held_out)]
    assert names == [["ab", "cab"], ["Bag", "dab"]]
    refuses("leaves none to hold out", _split_categories, made[:1])
    questions = load_categories(MAKE.parent)
    trained, held_out = _split_categories(questions)
    assert trained == questions[::2]
    assert held_out == questions[1::2]
    assert len(trained) == len(held_out) == 30


def test_the_shipped_suite_is_what_the_forecast_is_about():
    suite = SUITES["categories"]
    assert list(suite.templates.values()) == list(TEMPLATES)
    assert set(suite.runs) == {"grpo", "dkpo", *suite.templates}
    assert {config.teacher for config in suite.runs.values()} == {"frozen"}
    assert {config.steps for config in suite.runs.values()} == {suite.steps[-1]}
    refuses("leaves none to hold out", replace(suite, questions=QUESTIONS[:1]).plan,
            None, None, (), 1, False)  # fmt: skip


def test_the_command(folder, tmp_path, capsys):
    file = tmp_path / "categories.tsv"
    file.write_text("category\tmembers\na bag\ta, b/ab, ba\na cab\ta, b\n")
    command = [
        "train",
        "--suite",
        "categories",
        "--base",
        str(folder),
        "--device",
        "cpu",
        "--quiet",
    ]
    forecast = [*command, "--questions", str(file), "--out", str(tmp_path), "--base-only"]
    assert main(forecast) == 0
    assert "log_ratio_3" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "forecast.csv")
    assert table["problem_id"].tolist() == ["bag"] * 3 + ["cab"] * 3
    members = pd.read_parquet(tmp_path / "forecast.parquet")
    pd.testing.assert_frame_equal(
        _forecast_table(members.astype({"logprob": float})), table, atol=2e-3, check_dtype=False
    )
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "--suite categories needs --questions" in capsys.readouterr().err
    science = [*forecast, "--suite", "science", "--questions", "data/science"]
    assert main(science) == 2
    assert "measures nothing but its runs" in capsys.readouterr().err
