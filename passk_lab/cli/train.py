"""``passk-lab train``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from passk_lab._text import look_up, visible
from passk_lab.cli._arguments import (
    QUIET,
    Command,
    argument,
    device,
    flag,
    names,
    out,
    positive,
    seeds,
    train_extra,
)


def _run(options: argparse.Namespace) -> int:
    with train_extra("training"):
        from passk_lab.lab.experiments import SUITES, ConceptSuite, Suite, run_suite
        from passk_lab.lab.experiments.map import run_map

    suite = look_up("suite", options.suite, SUITES)
    base: Any
    if not isinstance(suite, ConceptSuite | Suite):
        suite, base = _with_questions(suite, options)
    else:
        folder = options.base or options.out / "base"
        base = suite.make_base(folder, device(options.device), not options.quiet)
        if options.base_only:
            print(suite.base_report(base).round(3).to_string())
            return 0
    rest = (options.seeds, options.jobs, not options.quiet)
    if options.map:
        files = run_map(base, options.out / "map", *rest)
        return _say(files, "policies", options.out / "map", options.quiet)
    files = run_suite(suite, base, options.out, options.runs, *rest)
    return _say(files, "rollouts", options.out / "rollouts", options.quiet)


def _with_questions(suite: Any, options: argparse.Namespace) -> tuple[Any, Any]:
    from passk_lab.lab.experiments import ScienceSuite
    from passk_lab.lab.questions import TransformersBackend
    from passk_lab.lab.tasks import load_questions

    of_science = isinstance(suite, ScienceSuite)
    for name in ("base", "questions") if of_science else ("base",):
        if getattr(options, name) is None:
            raise ValueError(f"--suite {options.suite} needs --{name}")
    for name in ("map", "base_only"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is for the suites of paths")
    base = TransformersBackend.load(options.base, device(options.device), full_precision=True)
    if of_science:
        suite = replace(suite, questions=load_questions(options.questions))
    return suite, base


def _say(files: Sequence[Path], what: str, folder: Path, quiet: bool) -> int:
    if not quiet:
        print(visible(f"Wrote {len(files)} files of {what} into {folder}."))
    return 0


COMMAND = Command(
    "train",
    _run,
    "train a small model with every method from one base and save the rollouts",
    "  passk-lab train --suite paths --out lab\n"
    "  passk-lab train --suite paths --out lab --runs sdsd,grpo --seeds 0,1,2\n"
    "  passk-lab train --suite paths --out lab --base-only\n"
    "  passk-lab train --suite science --base my-model --questions data/science --out lab\n\n"
    "An interrupted command goes on where it was. Needs the extra [train].",
    (
        argument(
            "--suite NAME",
            "the experiment: concepts, concepts-lm, paths, paths-seen, paths-large, science or "
            "science-large",
            required=True,
        ),
        out("DIR", "folder for checkpoints and rollouts"),
        argument(
            "--base DIR",
            "a saved base, data/paths/base for one (default: DIR/base, pre-trained if "
            "missing); for science and concepts-lm any language model: a folder, GGUF file or hub "
            "name",
            type=Path,
        ),
        argument("--questions PATH", "for science: a .jsonl file, a folder, or a hub name"),
        argument("--runs RUN,RUN,...", "runs to train (default: all of the suite)", type=names),
        argument("--seeds N,N,...", "seeds (default: those of the suite)", type=seeds),
        argument("--jobs N", "processes side by side (default 1)", type=positive, default=1),
        flag("--base-only", "pre-train and measure the base, nothing else"),
        argument("--device NAME", "cpu, cuda, ... (default: cuda where there is one)"),
        flag("--map", "train the main methods under other authors, teachers and penalties instead"),
        QUIET,
    ),
)
