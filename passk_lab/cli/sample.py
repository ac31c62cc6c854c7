"""``passk-lab sample``."""

from __future__ import annotations

import argparse
from pathlib import Path

from passk_lab._text import visible
from passk_lab.cli._arguments import (
    DEVICE,
    QUIET,
    Command,
    argument,
    device,
    flag,
    not_negative,
    out,
    positive,
    train_extra,
)


def _run(options: argparse.Namespace) -> int:
    with train_extra("sampling"):
        from passk_lab.lab.questions import (
            SampleConfig,
            TransformersBackend,
            VllmBackend,
            sample_questions,
        )
    from passk_lab.lab.tasks import ScienceTask, TextEncoder, load_questions

    found = load_questions(options.questions, others="skip" if options.skip_others else "refuse")
    questions = found[: options.limit]
    model = Path(options.model)
    backend: TransformersBackend | VllmBackend
    if options.backend == "vllm":
        backend = VllmBackend(options.model)
    else:
        backend = TransformersBackend.load(options.model, device(options.device))
    task = ScienceTask(
        tuple(questions),
        TextEncoder(backend.tokenizer, system=options.system),
        options.max_tokens,
        backend.context_length,
    )
    table = sample_questions(
        backend,
        task,
        options.out,
        SampleConfig(options.n, options.temperature, options.seed, options.batch),
        run=options.run or model.stem,
        note={"model": model.name},
        progress=not options.quiet,
    )
    if not options.quiet:
        print(
            visible(
                f"Wrote {options.out}: {len(table):,} rollouts of {len(questions):,} questions; "
                f"{table['correct'].mean():.1%} correct, {table['ended'].mean():.1%} ended."
            )
        )
    return 0


COMMAND = Command(
    "sample",
    _run,
    "sample a language model's replies to questions, and grade them",
    "  passk-lab sample data/science/questions.jsonl --model my-model --out base.parquet\n"
    "  passk-lab sample physics.jsonl --model model.gguf -n 64 --limit 100 --out base.parquet\n"
    "  passk-lab sample physics.jsonl --model my-model --backend vllm --out base.parquet\n\n"
    "Questions are JSONL in the style of SciKnowEval, see docs/science.md. An\n"
    "interrupted command goes on where it was. Needs the extra [train].",
    (
        argument("questions QUESTIONS", "a .jsonl file, a folder of them, or a hub name"),
        argument("--model PATH", "folder, GGUF file or hub name of the model", required=True),
        out("FILE", "rollouts to write, .parquet"),
        argument("-n N", "replies to each question (default 32)", type=positive, default=32),
        argument("--temperature T", "default: %(default)s", type=float, default=1.0),
        argument(
            "--max-tokens N",
            "a longer reply is cut off and has no answer (default: %(default)s)",
            type=positive,
            default=256,
        ),
        argument(
            "--backend",
            "what samples (default: %(default)s)",
            choices=("transformers", "vllm"),
            default="transformers",
        ),
        argument("--run NAME", "name of the run (default: the model's)"),
        argument("--limit N", "the first N questions only (default: all)", type=positive),
        flag("--skip-others", "pass over questions of types that can't be graded"),
        argument("--system TEXT", "a system message before each question"),
        argument(
            "--batch N",
            "questions sampled at once (default: %(default)s)",
            type=positive,
            default=8,
        ),
        argument("--seed N", "default: %(default)s", type=not_negative, default=0),
        DEVICE,
        QUIET,
    ),
)
