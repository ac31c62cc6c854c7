"""Sampling speed against transformers' ``generate``: same model, same prompts, one run.

    python benchmarks/sampling.py

Prints a Markdown table. Small models first learn answers of 4 to 9 tokens and an end token, so that
rows end at different times as they do in training. Two kinds of answers: *random* ones, any
token after any other, so that samples of a prompt have nothing in common; and *likely* ones, each
token one of three that may follow the one before, so that samples share beginnings as a trained
model's do. The calls take turns and the best time of each counts: on a CPU the processor's time in
one thread, so that other work on the machine hardly matters. ``generate`` gets no top-k filter and
returns no scores; `sample` returns log-probabilities and entropies too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from measuring import best_times
from tqdm import tqdm

from passk_lab.lab import _decoding, sampling
from passk_lab.lab.model import ModelConfig, build_model

PAD, EOS, START = 0, 1, 2
VOCABULARY = 170
MAX_NEW_TOKENS = 16
FOLLOWERS = np.random.default_rng(0).integers(3, VOCABULARY, (VOCABULARY, 3))
SHARES = [0.65, 0.25, 0.1]


def random_prompt(rng: np.random.Generator) -> list[int]:
    return [*rng.integers(3, VOCABULARY, rng.integers(24, 32)).tolist(), START]


def random_answer(rng: np.random.Generator) -> list[int]:
    return [*rng.integers(3, VOCABULARY, rng.integers(4, 10)).tolist(), EOS]


def likely_answer(rng: np.random.Generator) -> list[int]:
    tokens = [START]
    for follower in rng.choice(3, rng.integers(4, 10), p=SHARES):
        tokens.append(int(FOLLOWERS[tokens[-1], follower]))
    return [*tokens[1:], EOS]


def trained_model(
    answer: Callable[[np.random.Generator], list[int]], n_steps: int, rng: np.random.Generator
) -> transformers.LlamaForCausalLM:
    """A model of the default size that has seen answers of one kind."""
    config = ModelConfig(VOCABULARY, context_length=64, pad_id=PAD, eos_id=EOS)
    model = build_model(config, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in tqdm(range(n_steps), desc=f"training: {answer.__name__}", mininterval=5):
        prompts = [random_prompt(rng) for _ in range(16)]
        answers = [answer(rng) for _ in range(16)]
        loss = -sampling.score(model, prompts, answers, PAD).sum() / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def waited(call: Callable[[], Any]) -> Callable[[], Any]:
    def wait() -> None:
        call()
        torch.cuda.synchronize()

    return wait


def sample_any_architecture(model: Any, *arguments: Any) -> sampling.Samples:
    """`sample` as it is for models other than Llama."""
    with mock.patch.object(_decoding, "LlamaForCausalLM", type(None)):
        return sampling.sample(model, *arguments)


def compare(model: Any, prompts: list[list[int]], n_samples: int, rounds: int) -> list[str]:
    longest = max(len(prompt) for prompt in prompts)
    padded = [[PAD] * (longest - len(prompt)) + prompt for prompt in prompts]
    tokens = torch.tensor(padded, device=model.device)
    arguments = (model, prompts, n_samples, sampling.Decoding(MAX_NEW_TOKENS, EOS, PAD))

    def generate() -> torch.Tensor:
        return model.generate(
            tokens,
            attention_mask=(tokens != PAD).long(),
            do_sample=True,
            top_k=0,
            num_return_sequences=n_samples,
            max_new_tokens=MAX_NEW_TOKENS,
            pad_token_id=PAD,
            eos_token_id=EOS,
        )

    drawn = sampling.sample(*arguments)
    print(
        f"answers of {int(drawn.mask.sum(1).min())} to {int(drawn.mask.sum(1).max())} tokens, "
        f"{drawn.mask.sum() / len(drawn.mask):.1f} on average, "
        f"{drawn.entropy.sum() / drawn.mask.sum():.2f} nats a token; "
        f"generate ran {generate().shape[1] - longest} steps"
    )
    calls = {
        "transformers `generate`": generate,
        "`sample`, any architecture": lambda: sample_any_architecture(*arguments),
        "`sample`, Llama": lambda: sampling.sample(*arguments),
    }
    if model.device.type == "cuda":
        best = best_times({name: waited(call) for name, call in calls.items()}, rounds)
    else:
        best = best_times(calls, rounds, time.process_time)
    n_tokens = int(drawn.mask.sum())
    first = next(iter(best.values()))
    return [
        f"{name} | {seconds * 1e3:.0f} ms | {n_tokens / seconds:,.0f} | {first / seconds:.1f}"
        for name, seconds in best.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300, help="training steps of each model")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = []
    for answer in (random_answer, likely_answer):
        model = trained_model(answer, options.steps, rng).to(options.device)
        prompts = [random_prompt(rng) for _ in range(options.prompts)]
        torch.manual_seed(0)
        kind = answer.__name__.removesuffix("_answer")
        print(f"{kind}: ", end="")
        rows += [
            f"| {kind} | {row} |"
            for row in compare(model, prompts, options.samples, options.rounds)
        ]
    device = torch.cuda.get_device_name() if options.device != "cpu" else "one CPU thread"
    print(
        f"{model.num_parameters() / 1e6:.2f} M parameters, {options.prompts} prompts x "
        f"{options.samples} samples, {device}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}\n\n| answers | | time | tokens per second | ratio |\n"
        "| --- | --- | --- | --- | --- |"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
