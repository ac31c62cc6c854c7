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
        if options.base_only:
            print(suite.base_report(base, options.out, not options.quiet).round(3).to_string())
            return 0
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
    return _say(files, files[0].parent.name, files[0].parent, options.quiet)


def _with_questions(suite: Any, options: argparse.Namespace) -> tuple[Any, Any]:
    from passk_lab.lab.experiments import CategorySuite, ScienceSuite
    from passk_lab.lab.questions import TransformersBackend
    from passk_lab.lab.tasks import load_categories, load_questions

    loaders: dict[type, Any] = {CategorySuite: load_categories, ScienceSuite: load_questions}
    load = loaders.get(type(suite))
    for name in ("base", "questions") if load else ("base",):
        if getattr(options, name) is None:
            raise ValueError(f"--suite {options.suite} needs --{name}")
    if options.map:
        raise ValueError("--map is for the suites of paths")
    if options.base_only and not isinstance(suite, CategorySuite):
        raise ValueError(f"--base-only: --suite {options.suite} measures nothing but its runs")
    if load:
        suite = replace(suite, questions=load(options.questions))
    base = TransformersBackend.load(options.base, device(options.device), full_precision=True)
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
    "  passk-lab train --suite categories --base my-model --questions data/categories --out lab\n"
    "  passk-lab train --suite science --base my-model --questions data/science --out lab\n\n"
    "An interrupted command goes on where it was. Needs the extra [train].",
    (
        argument(
            "--suite NAME",
            "the experiment: categories, concepts, concepts-lm, paths, paths-rates, paths-seen, "
            "paths-large, science or science-large",
            required=True,
        ),
        out("DIR", "folder for checkpoints and rollouts"),
        argument(
            "--base DIR",
            "a saved base, data/paths/base for one (default: DIR/base, pre-trained if "
            "missing); for categories, science and concepts-lm any language model: a folder, GGUF "
            "file or hub name",
            type=Path,
        ),
        argument(
            "--questions PATH",
            "for science: a .jsonl file, a folder, or a hub name; for categories: a .tsv file or a "
            "folder",
        ),
        argument("--runs RUN,RUN,...", "runs to train (default: all of the suite)", type=names),
        argument("--seeds N,N,...", "seeds (default: those of the suite)", type=seeds),
        argument("--jobs N", "processes side by side (default 1)", type=positive, default=1),
        flag("--base-only", "pre-train and measure the base, or forecast from it; nothing else"),
        argument("--device NAME", "cpu, cuda, ... (default: cuda where there is one)"),
        flag("--map", "train the main methods under other authors, teachers and penalties instead"),
        QUIET,
    ),
)
