import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from passk_lab.cli import main
from passk_lab.lab.experiments import run_suite
from passk_lab.lab.experiments._runs import run_file
from passk_lab.lab.experiments.concepts import SUITES, ConceptSuite
from passk_lab.lab.experiments.science import SUITES as OF_TEXT
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.lab.pretrain import PretrainConfig
from passk_lab.lab.questions import TransformersBackend
from passk_lab.lab.tasks import load_questions
from passk_lab.lab.tasks.concepts import SPLITS, ConceptTask
from passk_lab.lab.tasks.text import TextTask
from tests.helpers import letter_tokenizer

SHIPPED = Path(__file__).parents[3] / "data" / "concepts"
SMALL = {"prompts_per_step": 2, "group_size": 3, "save_every": 1}
TINY = ConceptSuite(
    ConceptTask(longest_seen=4),
    {
        "grpo-diversity": TrainConfig("grpo-diversity", **SMALL),
        "sdsd-external/it": TrainConfig("sdsd-external", **SMALL),
        "sdsd/frozen": TrainConfig("sdsd/frozen", teacher="frozen", **SMALL),
    },
    {"sdsd-external/it": "grpo-diversity"},
    PretrainConfig(steps=3, batch_size=8, warmup=1),
    steps=(1, 2), seeds=(0, 1), n_problems=4, n_samples=5, d_model=32, n_layers=2, n_heads=2,
)  # fmt: skip


def test_demonstrators_are_runs():
    suite = SUITES["concepts"]
    assert set(suite.demonstrators.values()) <= {"base", *suite.runs}
    external = {name for name, c in suite.runs.items() if c.method == "sdsd-external"}
    assert set(suite.demonstrators) == external
    assert len(external) >= 6


def test_every_method_runs_at_every_rate():
    runs = SUITES["concepts"].runs
    rates = {}
    for name, config in runs.items():
        rates.setdefault(name.partition("@")[0], set()).add(config.learning_rate)
    swept = {name for name, found in rates.items() if len(found) == 3}
    assert {"grpo", "sdsd", "grpo-diversity", "dkpo/2", "sdsd-composed"} <= swept


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "correct", "obeys"), [
    ("base", 0.5, 0.9), ("base-stubborn", 0.5, 0.2), ("base-short", 0.5, 0.7),
])  # fmt: skip
def test_the_shipped_bases_do_what_they_are_for(folder, correct, obeys):
    suite = replace(SUITES["concepts"], n_problems=24)
    base = suite.make_base(SHIPPED / folder)
    found = suite.base_report(base)
    assert found["pass@1 id"] > correct
    assert 0.8 < found["easy"] < 0.95
    assert obeys < found["hard after hard"] < obeys + 0.2
    assert found["correct after hard"] > 0.85


@pytest.mark.slow
def test_a_suite_writes_every_measure_and_resumes(tmp_path):
    base = TINY.make_base(tmp_path / "base", progress=False)
    files = run_suite(TINY, base, tmp_path, progress=False)
    assert [f.stem for f in files][2:] == [
        "grpo-diversity-0", "grpo-diversity-1", "sdsd-external-it-0", "sdsd-external-it-1",
        "sdsd-frozen-0", "sdsd-frozen-1",
    ]  # fmt: skip
    policy = pd.read_parquet(files[4])
    last = policy[policy["step"] == 2]
    assert set(last["split"]) == set(SPLITS)
    assert set(policy.loc[policy["step"] == 1, "split"]) == {"id", "harder"}
    assert (np.exp(policy["logprob"]) <= 1).all()
    assert not last.loc[last["split"] == "harder", "easy"].any()
    assert last.loc[last["split"] == "mirror", "easy"].all()
    samples = pd.read_parquet(tmp_path / "samples" / "sdsd-external-it-0.parquet")
    assert (samples["n_samples"] == 5).all()
    assert (samples["valid_concepts"] <= samples[["concepts", "n_correct"]].min(axis=1)).all()
    use = pd.read_parquet(tmp_path / "use" / "sdsd-external-it-0.parquet")
    assert set(use["who"]) == {"student", "teacher"}
    assert policy.attrs["passk_lab"]["train"]["method"] == "sdsd-external"
    before = {f: f.read_bytes() for f in files}
    files[4].unlink()
    run_suite(TINY, base, tmp_path, progress=False)
    assert pd.read_parquet(files[4]).equals(policy)
    assert all(f.read_bytes() == content for f, content in before.items() if f != files[4])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["concepts-lm", "science-large"])
def test_the_papers_sizes_run_with_a_tiny_model(name, tmp_path, monkeypatch):
    """One step of the suite that is meant for a GPU; random replies, half of them "right"."""
    tokenizer = letter_tokenizer(eos_token="<end>", pad_token="<pad>")
    tokenizer.save_pretrained(tmp_path / "model")
    sizes = ModelConfig(len(tokenizer), 4096, d_model=16, n_layers=1, n_heads=2)
    build_model(sizes, seed=0).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(TextTask, "decode", lambda self, tokens: self.text(list(tokens)) or "x")
    monkeypatch.setattr(TextTask, "verify", lambda self, prompt, answer: ord(answer[0]) % 2 == 0)
    suite = OF_TEXT[name]
    runs = {
        run: replace(config, steps=1, prompts_per_step=2, group_size=4, autocast=False)
        for run, config in suite.runs.items()
    }
    backend = TransformersBackend.load(tmp_path / "model", "cpu", full_precision=True)
    small = {"runs": runs, "n_test": 2, "n_samples": 2, "max_answer_tokens": 4, "seeds": (0,)}
    if name == "concepts-lm":
        small |= {"n_train": 4, "task": ConceptTask(n_chains=1, n_concepts=3)}
    else:
        small["questions"] = load_questions(SHIPPED.parent / "science")[:6]
    files = run_suite(replace(suite, **small), backend, tmp_path, progress=False)
    assert len(files) == 1 + len(runs)
    assert all(file.exists() for file in files)
    for run in runs:
        folder = run_file(tmp_path, "runs", run, 0).with_suffix("")
        (step,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        assert step["grad_norm"] > 0


def test_the_command_names_what_is_missing(tmp_path, capsys):
    assert main(["train", "--suite", "concepts-lm", "--out", str(tmp_path)]) == 2
    assert "--suite concepts-lm needs --base" in capsys.readouterr().err
