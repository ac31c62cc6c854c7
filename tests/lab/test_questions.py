"""Sampling replies to questions: the table, resuming, and what vLLM is asked for."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from pandas.testing import assert_frame_equal

from passk_lab.cli import main
from passk_lab.lab.experiments import science
from passk_lab.lab.experiments.science import ScienceSuite, _split_questions
from passk_lab.lab.loop import TrainConfig
from passk_lab.lab.model import ModelConfig, build_model, load_model, load_tokenizer
from passk_lab.lab.questions import (
    SampleConfig,
    TransformersBackend,
    VllmBackend,
    sample_questions,
)
from passk_lab.lab.sampling import score
from passk_lab.lab.tasks.science_qa import ScienceTask, load_questions
from passk_lab.lab.tasks.text import TextEncoder
from passk_lab.rollouts.files import read_metadata, read_rollouts, write_rollouts
from tests.helpers import letter_tokenizer, refuses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of random weights with a byte-level tokenizer, and questions."""
    folder = tmp_path_factory.mktemp("model")
    chat = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    tokenizer = letter_tokenizer(chat_template=chat, eos_token="<end>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    config = ModelConfig(len(tokenizer), 512, d_model=16, n_layers=1, n_heads=2)
    build_model(config, seed=0).save_pretrained(folder)
    lines = [
        {"question": f"Is {i} odd?", "type": "mcq-2-choices", "answerKey": "AB"[i % 2],
         "choices": {"text": ["no", "yes"], "label": ["A", "B"]}}
        for i in range(5)
    ]  # fmt: skip
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def sampled(folder, out, *more):
    arguments = ["sample", str(folder / "questions.jsonl"), "--model", str(folder), "--out"]
    options = ["-n", "4", "--batch", "2", "--max-tokens", "40", "--device", "cpu", "--quiet"]
    return main([*arguments, str(out), *options, *more])


def test_the_command(folder, tmp_path):
    out = tmp_path / "rollouts.parquet"
    assert sampled(folder, out, "--temperature", "0.8", "--seed", "3", "--run", "tiny") == 0
    table = read_rollouts(out)
    assert table["problem_id"].unique().tolist() == [f"questions.jsonl:{i}" for i in range(1, 6)]
    assert table.groupby("problem_id").size().tolist() == [4] * 5
    assert (table["run"] == "tiny").all()
    assert (table["temperature"] == 0.8).all()
    assert (table["seed"] == 3).all()
    note = read_metadata(out)
    assert note["config"]["model"] == folder.name
    assert note["versions"]["transformers"] == transformers.__version__
    assert (table["token_entropy"] > 0).all()
    assert not table.loc[~table["ended"], "correct"].any()
    assert table["n_tokens"].max() <= 40


def test_log_probabilities_are_those_of_the_chat(folder):
    backend = TransformersBackend.load(folder)
    questions = load_questions(folder / "questions.jsonl")[:2]
    task = ScienceTask(tuple(questions), TextEncoder(backend.tokenizer), 40, 512)
    replies = backend.sample(task, questions, 3, 0.8, seed=1)
    assert [len(group) for group in replies] == [3, 3]
    for question, group in zip(questions, replies, strict=True):
        contexts, tokens = [task.encode(question)] * 3, [reply for reply, _, _ in group]
        with torch.no_grad():
            logits = score(
                load_model(folder), contexts, tokens, 1, temperature=0.8, return_logits=True
            ).log_softmax(-1)
        for (reply, logprob, mean_entropy), rows in zip(group, logits, strict=True):
            n = len(reply)
            assert logprob == pytest.approx(float(rows[range(n), reply].sum()), abs=1e-3)
            entropy = -(rows[:n].exp() * rows[:n]).sum(-1).mean()
            assert mean_entropy == pytest.approx(float(entropy), abs=1e-4)


def test_an_interrupted_command_ends_with_the_same_table(folder, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    assert sampled(folder, whole) == 0
    original = TransformersBackend.sample
    calls = []

    def fails(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("no space left")
        return original(self, *arguments)

    monkeypatch.setattr(TransformersBackend, "sample", fails)
    assert sampled(folder, broken) == 2
    assert len(read_rollouts(broken)) == 16
    calls.clear()
    assert sampled(folder, broken) == 0
    assert len(calls) == 1
    assert_frame_equal(read_rollouts(broken), read_rollouts(whole))


def test_other_arguments_need_another_file(folder, tmp_path, capsys):
    out = tmp_path / "rollouts.parquet"
    assert sampled(folder, out, "--limit", "2") == 0
    assert sampled(folder, out, "--limit", "2", "--temperature", "0.5") == 2
    assert "was made with temperature=1.0, not 0.5" in capsys.readouterr().err
    assert sampled(folder, tmp_path / "rollouts.csv") == 2
    assert "sampled into a .parquet file" in capsys.readouterr().err


def test_vllm_is_missed(folder, tmp_path, capsys):
    if "vllm" in sys.modules:
        pytest.skip("vLLM is installed")
    assert sampled(folder, tmp_path / "r.parquet", "--backend", "vllm") == 2
    assert "needs vllm, which isn't installed" in capsys.readouterr().err


def test_what_vllm_is_asked_for(folder, tmp_path, monkeypatch):
    """Not vLLM itself, which needs a GPU: what goes in and comes out by its documentation."""
    asked = {"prompts": []}

    class Engine:
        def __init__(self, **options):
            asked["engine"] = options
            limits = SimpleNamespace(max_model_len=512)
            self.llm_engine = SimpleNamespace(model_config=limits)

        def generate(self, prompts, parameters, use_tqdm):
            asked["prompts"] += prompts
            asked["parameters"] = parameters
            right, wrong = load_tokenizer(folder)(["Answer: A", "Answer: B"])["input_ids"]
            replies = [(*right, 0), (*wrong, 0), right]  # the last one is cut
            outputs = [
                SimpleNamespace(token_ids=reply, cumulative_logprob=-1.5 - i)
                for i, reply in enumerate(replies)
            ]
            return [SimpleNamespace(outputs=outputs) for _ in prompts]

    fake = ModuleType("vllm")
    fake.LLM = Engine
    fake.SamplingParams = lambda **options: options
    monkeypatch.setitem(sys.modules, "vllm", fake)
    backend = VllmBackend(folder, tensor_parallel_size=2)
    questions = tuple(load_questions(folder / "questions.jsonl"))
    task = ScienceTask(questions, TextEncoder(backend.tokenizer), 40, backend.context_length)
    config = SampleConfig(3, 0.7, batch=2)
    out = tmp_path / "r.parquet"
    table = sample_questions(backend, task, out, config, run="big", progress=False)
    assert asked["engine"] == {
        "model": str(folder), "logprobs_mode": "processed_logprobs", "tensor_parallel_size": 2,
    }  # fmt: skip
    assert asked["prompts"] == [{"prompt_token_ids": task.encode(q)} for q in questions]
    expected = {"n": 3, "temperature": 0.7, "top_p": 1.0, "top_k": -1, "max_tokens": 40}
    assert expected.items() <= asked["parameters"].items()
    assert asked["parameters"]["stop_token_ids"] == [task.eos_id]
    # Each reply stays with its question: their right answers take turns.
    right = np.repeat([q.answer for q in questions], 3)
    assert table["problem_id"].tolist() == np.repeat([q.problem_id for q in questions], 3).tolist()
    assert table["answer"].fillna("-").tolist() == ["A", "B", "-"] * 5
    assert table["correct"].tolist() == (table["answer"] == right).tolist()
    assert table["ended"].tolist() == [True, True, False] * 5
    assert table["logprob"].tolist() == [-1.5, -2.5, -3.5] * 5
    assert table["n_tokens"].tolist() == [10, 10, 9] * 5
    assert "token_entropy" not in table  # vLLM doesn't tell


@pytest.mark.parametrize("name", ["n_samples", "batch"])
def test_numbers_that_make_no_sense(name):
    refuses(f"{name}=0", SampleConfig, **{name: 0})


def test_training_on_questions(folder, tmp_path, capsys, monkeypatch):
    """Random weights know nothing, so everything that begins with a letter counts as right."""
    runs = {
        name: TrainConfig(name, steps=2, prompts_per_step=2, group_size=4, save_every=1)
        for name in ("grpo", "sdsd")
    }
    suite = ScienceSuite(runs, (0,), n_test=2, n_samples=3, max_answer_tokens=20)
    monkeypatch.setitem(science.SUITES, "science", suite)
    verify = ScienceTask.verify
    monkeypatch.setattr(
        ScienceTask, "verify", lambda self, q, a: verify(self, q, a) or bool(a and a[:1].isascii())
    )
    command = ["train", "--suite", "science", "--base", str(folder), "--device", "cpu", "--quiet"]
    command += ["--questions", str(folder / "questions.jsonl"), "--out", str(tmp_path / "lab")]
    assert main(command) == 0
    rollouts = tmp_path / "lab" / "rollouts"
    files = [rollouts / f"{name}-0.parquet" for name in ("base", "grpo", "sdsd")]
    assert sorted(rollouts.iterdir()) == files
    tables = {file.stem: read_rollouts(file) for file in files}
    asked = {q.problem_id for q in _split_questions(load_questions(folder), 2)[1]}
    for name, table in tables.items():
        assert set(table["problem_id"]) == asked
        assert table.groupby("problem_id").size().tolist() == [3, 3]
        assert set(table["run"]) == {name.removesuffix("-0")}
    # Training moved the weights, so the same random numbers give other log-probabilities.
    for name in ("grpo-0", "sdsd-0"):
        assert (tables[name]["logprob"] != tables["base-0"]["logprob"]).any()
        metrics = (tmp_path / "lab" / "runs" / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in metrics] == [1, 2]
        assert any(json.loads(line)["loss"] != 0 for line in metrics)
    times = [file.stat().st_mtime_ns for file in files]
    assert main(command) == 0
    assert [file.stat().st_mtime_ns for file in files] == times
    assert main([*command, "--runs", "grpo,gppo"]) == 2
    assert "run 'gppo' is unknown; the known ones: grpo, sdsd" in capsys.readouterr().err
    assert main([*command[:-4], "--out", str(tmp_path)]) == 2
    assert "--suite science needs --questions" in capsys.readouterr().err
    assert main([*command[:2], "science-huge", *command[3:]]) == 2
    known = "suite 'science-huge' is unknown; the known ones: paths, paths-large, paths-rates, "
    assert known in capsys.readouterr().err
    said = "n_test=5 must leave some of the 5 questions"
    refuses(said, _split_questions, load_questions(folder), 5)


def test_scoring_replies_to_questions(folder, tmp_path):
    """Prompts come from the questions themselves, so nobody has to write them down."""
    questions = load_questions(folder / "questions.jsonl")
    table = pd.DataFrame(
        {
            "problem_id": np.repeat([q.problem_id for q in questions[:2]], 2),
            "sample_id": [0, 1] * 2,
            "text": ["Answer: A", "Answer: B"] * 2,
            "correct": [True, False, False, True],
        }
    )
    write_rollouts(table, tmp_path / "r.parquet")
    out = tmp_path / "scores.parquet"
    command = ["score", str(tmp_path / "r.parquet"), "--model", str(folder), "--device", "cpu"]
    command += ["--questions", str(folder / "questions.jsonl"), "--out", str(out), "--quiet"]
    assert main(command) == 0
    scores = pd.read_parquet(out)
    assert scores[["sample_id", "demo_id"]].to_numpy().tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    backend = TransformersBackend.load(folder)
    task = ScienceTask(tuple(questions), TextEncoder(backend.tokenizer), 40, 512)
    answer = [task.encode_answer("Answer: B")]
    alone = score(backend.model, [task.encode(questions[0])], answer, task.pad_id)
    shown = score(backend.model, [task.encode(questions[0], "Answer: A")], answer, task.pad_id)
    np.testing.assert_allclose(scores["logprob"][1], alone.sum().item(), rtol=1e-5)
    np.testing.assert_allclose(scores["logprob_given_demo"][1], shown.sum().item(), rtol=1e-5)
