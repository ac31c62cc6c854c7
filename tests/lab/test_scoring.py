from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from passk_lab.cli import main
from passk_lab.cli.score import _read_prompts
from passk_lab.lab.evaluate import answer_logprobs, evaluate
from passk_lab.lab.experiments import suite as suites
from passk_lab.lab.model import ModelConfig, build_model
from passk_lab.lab.scoring import score
from passk_lab.lab.tasks.paths import PathTask
from passk_lab.lab.tasks.text import TEMPLATES, TextEncoder
from passk_lab.teacher._scores import checked_scores
from tests.helpers import refuses

TASK = PathTask()
WORDS = ModelConfig(vocab_size=16, context_length=64, d_model=32, n_layers=1, n_heads=2)


@pytest.fixture(scope="module")
def prompts():
    return {prompt.problem_id: prompt for prompt in TASK.sample(3, 0)}


@pytest.fixture(scope="module")
def rollouts(prompts):
    rows = []
    for name, prompt in prompts.items():
        answers = TASK.correct_answers(prompt)
        for place, answer in enumerate([answers[0], answers[1], answers[0], "0-1"]):
            rows.append((name, place, TASK.verify(prompt, answer), answer))
        rows.append((name, 4, False, None))
    return pd.DataFrame(rows, columns=["problem_id", "sample_id", "correct", "answer"])


def test_scores_are_the_models(model, prompts, rollouts):
    scores = score(model, prompts, rollouts, encoder=TASK, progress=False)
    assert len(scores) == 3 * 4 * 3  # four rollouts with an answer, three of them correct
    for row in scores.iloc[::5].itertuples():
        of = rollouts[rollouts["problem_id"] == row.problem_id].set_index("sample_id")["answer"]
        prompt, answer, demo = prompts[row.problem_id], of[row.sample_id], of[row.demo_id]
        (alone,) = answer_logprobs(model, TASK, prompt, [answer])
        (given,) = answer_logprobs(model, TASK, prompt, [answer], demo)
        assert row.logprob == pytest.approx(alone, abs=1e-4)
        assert row.logprob_given_demo == pytest.approx(given, abs=1e-4)
        assert row.n_tokens == len(TASK.encode_answer(answer))
    checked = checked_scores(scores, rollouts)
    assert np.isfinite(checked["pcmi"]).all()


def test_tokens_add_up(model, prompts, rollouts):
    scores = score(model, prompts, rollouts, encoder=TASK, tokens=True, progress=False)
    for name in ("logprob", "logprob_given_demo"):
        parts = scores[f"token_{name}"]
        assert parts.map(np.sum).to_numpy() == pytest.approx(scores[name].to_numpy(), abs=1e-9)
        assert (parts.map(len) == scores["n_tokens"]).all()


def test_chosen_demonstrations(model, prompts, rollouts):
    demos = rollouts[rollouts["sample_id"] == 3]  # the wrong ones, as a control
    scores = score(model, prompts, rollouts, demos, encoder=TASK, progress=False)
    assert set(scores["demo_id"]) == {3}
    refuses("incorrect", checked_scores, scores, rollouts)


def test_bad_input(model, prompts, rollouts):
    def run(*arguments, **options):
        return score(model, *arguments, encoder=TASK, progress=False, **options)

    refuses("of the rollouts is missing; give its prompt", run, {}, rollouts)
    refuses("column 'text' is missing", run, prompts, rollouts, text="text")
    unknown = rollouts.head(1).assign(sample_id=9)
    refuses("has no rollout 9 with a text", run, prompts, rollouts, unknown)
    refuses("nothing to score", run, prompts, rollouts.assign(correct=False))
    pooled = pd.concat([rollouts.assign(run=name) for name in "ab"])
    refuses("has two rollouts 0", run, prompts, pooled)


@pytest.fixture
def tokenizer():
    words = {w: i for i, w in enumerate(["<pad>", "<end>", "<?>", "solve", "x", "Correct", "2"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<?>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="<?>"
    )


def test_text_of_the_templates(tokenizer):
    demo = "a {brace} and {prompt}"
    sdpo = TextEncoder(tokenizer).text("solve x", demo)
    assert sdpo.startswith("solve x\nCorrect solution:\n\na {brace} and {prompt}\n")
    assert sdpo.endswith("Correctly solve the original question.\n")
    opsd = TextEncoder(tokenizer, "opsd").text("solve x", demo)
    assert "Here is a reference solution:\na {brace} and {prompt}\n" in opsd
    assert TextEncoder(tokenizer).text("solve {x}", None) == "solve {x}"
    own = TextEncoder(tokenizer, "{demo} | {prompt}")
    assert own.text("p", "d") == "d | p"
    assert set(TEMPLATES) == {"sdpo", "opsd"}


def test_text_model(tokenizer):
    model = build_model(WORDS, seed=0)
    rollouts = pd.DataFrame(
        {"problem_id": "a", "sample_id": [0, 1], "correct": True, "text": ["x 2", "2"]}
    )
    for chat in (False, True):
        if chat:
            tokenizer.chat_template = (
                "{% for m in messages %}{{ m['content'] }} {% endfor %}"
                "{% if add_generation_prompt %}2 {% endif %}"
            )
        encoder = TextEncoder(tokenizer, chat=chat)
        assert encoder.encode_answer("x 2") == [4, 6, 1]
        assert encoder.encode("solve x") == [3, 4] + [6] * chat
        scores = score(
            model, {"a": "solve x"}, rollouts, encoder=encoder, text="text", progress=False
        )
        assert len(scores) == 4
        assert (scores["logprob_given_demo"] < 0).all()


def test_bad_templates(tokenizer):
    refuses(r"has no \{demo\}", TextEncoder, tokenizer, "{prompt} only")
    refuses("no chat template", TextEncoder, tokenizer, chat=True)
    refuses("needs a chat template", TextEncoder, tokenizer, system="be brief")


def test_read_prompts(tmp_path):
    wanted = {"1": "solve x", "b": "solve y"}
    table = pd.DataFrame({"problem_id": ["1", "b", "b"], "prompt": ["solve x", *["solve y"] * 2]})
    table.to_parquet(tmp_path / "p.parquet")
    table.to_csv(tmp_path / "p.csv", index=False)
    table.to_json(tmp_path / "p.jsonl", orient="records", lines=True)
    for ending in ("parquet", "csv", "jsonl"):
        assert _read_prompts(tmp_path / f"p.{ending}") == wanted
    table.assign(prompt=["a", "b", "c"]).to_csv(tmp_path / "two.csv", index=False)
    refuses("'b' has two different prompts", _read_prompts, tmp_path / "two.csv")
    table.assign(prompt=["a", None, "c"]).to_csv(tmp_path / "none.csv", index=False)
    refuses("row 1: no prompt", _read_prompts, tmp_path / "none.csv")
    table[["prompt"]].to_csv(tmp_path / "bare.csv", index=False)
    refuses("'problem_id' is missing", _read_prompts, tmp_path / "bare.csv")
    refuses("unknown ending", _read_prompts, tmp_path / "p.txt")


def test_command_on_the_suite(shipped, tmp_path, monkeypatch, capsys):
    tiny = replace(suites.SUITES["paths"], n_problems=3)
    monkeypatch.setitem(suites.SUITES, "paths", tiny)
    made = tiny.evaluation_prompts(shipped)["id"]
    parts = [evaluate(shipped, tiny.task, made, 8, run="base", seed=seed) for seed in (0, 1)]
    pd.concat(parts).to_parquet(tmp_path / "rollouts.parquet")
    call = ["score", str(tmp_path / "rollouts.parquet"), "--model", shipped.name_or_path]
    call += ["--suite", "paths", "--out", str(tmp_path / "scores.parquet")]
    assert main(call) == 2
    assert "give --seed" in capsys.readouterr().err
    assert main([*call, "--seed", "1", "--demos", "2", "--quiet"]) == 0
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    shown = scores.groupby("problem_id")["demo_id"].nunique()
    assert (shown <= 2).all()
    checked_scores(scores, parts[1])
    assert main([*call, "--seed", "7"]) == 2
    assert "no rollout has seed 7" in capsys.readouterr().err


def test_command_on_text(tmp_path, tokenizer, capsys):
    build_model(WORDS, seed=0).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    pd.DataFrame(
        {"problem_id": "a", "sample_id": [0, 1], "correct": [True, False], "text": ["x 2", "2"]}
    ).to_parquet(tmp_path / "rollouts.parquet")
    (tmp_path / "prompts.csv").write_text("problem_id,prompt\na,solve x\n")
    call = ["score", str(tmp_path / "rollouts.parquet"), "--model", str(tmp_path / "model")]
    call += ["--prompts", str(tmp_path / "prompts.csv"), "--out", str(tmp_path / "s.parquet")]
    assert main([*call, "--template", "opsd", "--tokens"]) == 0
    assert "Wrote 2 pairs of 1 problems with 1 demonstrations" in capsys.readouterr().out
    scores = pd.read_parquet(tmp_path / "s.parquet")
    assert [len(t) for t in scores["token_logprob"]] == [3, 2]
    assert main([*call, "--template", "{demo}"]) == 2
    assert "has no {prompt}" in capsys.readouterr().err
