"""A training step against TRL's trainer, and where the time of a step goes.

    python benchmarks/training.py

Prints Markdown tables. Both sides train the shipped base of the path-finding lab with GRPO on the
same prompts (8 prompts x 8 rollouts a step), grade with the same verifier, and run in one thread in
one process after each other; a step's time is the median of its steps, the first ones left out.
TRL's trainer is meant for large models on GPUs: at this size its cost is in generation and in
what it does around a step.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tqdm import tqdm

from passk_lab.lab import loop
from passk_lab.lab.experiments.suite import SUITES
from passk_lab.lab.methods import Batch
from passk_lab.lab.model import load_model

ROOT = Path(__file__).resolve().parent.parent
SUITE = SUITES["paths"]
TASK = SUITE.task
WARM_UP = 3


def our_seconds(base: Any, run: str, steps: int) -> tuple[list[float], dict[str, float]]:
    """Seconds of each step, and the share of its parts."""
    spent: dict[str, float] = {"sampling": 0.0, "teacher": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            spent[name] += time.perf_counter() - start
            return result

        return call

    seconds = []
    log = loop.log_metrics

    def note(folder: Path, record: dict[str, Any]) -> None:
        seconds.append(record["seconds"])
        log(folder, record)

    config = replace(SUITE.runs[run], steps=steps, save_every=steps)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(loop, "sample", timed("sampling", loop.sample)),
        mock.patch.object(Batch, "teacher_logits", timed("teacher", Batch.teacher_logits)),
        mock.patch.object(loop, "log_metrics", note),
    ):
        loop.train(TASK, base, config, Path(folder), progress=False)
    total = sum(seconds)
    shares = {name: value / total for name, value in spent.items()}
    shares["student and optimizer"] = 1 - sum(shares.values())
    return seconds[WARM_UP:], shares


def trl_seconds(base: Any, steps: int) -> list[float]:
    """Seconds of each step of TRL's GRPO trainer."""
    import datasets
    from tokenizers import Tokenizer, models, pre_tokenizers
    from trl import GRPOConfig, GRPOTrainer

    # In brackets, as the marks of end and padding are looked for inside of words, too.
    words = {f"<{token}>": token for token in range(TASK.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=f"<{TASK.pad_id}>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=f"<{TASK.pad_id}>", eos_token=f"<{TASK.eos_id}>"
    )
    prompts = {}
    for prompt in TASK.sample(8 * steps, 0):
        tokens = TASK.encode(prompt)
        text = " ".join(f"<{token}>" for token in tokens)
        assert fast(text)["input_ids"] == tokens
        prompts[text] = prompt

    def reward(prompts_: list[str], completion_ids: list[list[int]]) -> list[float]:
        return [
            float(TASK.verify(prompts[text], TASK.decode(ids)))
            for text, ids in zip(prompts_, completion_ids, strict=True)
        ]

    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] += time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=base,
            processing_class=fast,
            reward_funcs=lambda prompts, completion_ids, **_: reward(prompts, completion_ids),
            train_dataset=datasets.Dataset.from_dict({"prompt": list(prompts)}),
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=64,
                num_generations=8,
                max_completion_length=TASK.max_answer_tokens,
                max_steps=steps,
                learning_rate=1e-4,
                temperature=1.0,
                beta=0.0,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    return times[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, default=ROOT / "data" / "paths" / "base")
    parser.add_argument("--steps", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    runs = ("grpo", "grpo/kl", "sdsd", "sdsd-centred", "srpo")
    rows = {}
    for run in tqdm(runs, desc="ours", leave=False):
        rows[run] = our_seconds(load_model(options.base), run, options.steps)
    theirs = statistics.median(trl_seconds(load_model(options.base), options.steps))
    ours = statistics.median(rows["grpo"][0])
    print(f"\nPyTorch {torch.__version__}, one thread, 8 prompts x 8 rollouts a step\n")
    print("| trainer | a step | times ours |\n| --- | --- | --- |")
    print(f"| passk_lab, `grpo` | {ours * 1e3:.0f} ms | 1.0 |")
    print(f"| TRL `GRPOTrainer` | {theirs * 1e3:.0f} ms | {theirs / ours:.1f} |")
    print("\n| run | a step | sampling | teacher | student and optimizer |\n" + "| --- " * 5 + "|")
    for run, (seconds, shares) in rows.items():
        parts = " | ".join(f"{share:.0%}" for share in shares.values())
        print(f"| `{run}` | {statistics.median(seconds) * 1e3:.0f} ms | {parts} |")


if __name__ == "__main__":
    main()
