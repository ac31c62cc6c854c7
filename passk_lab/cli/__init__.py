"""The command ``passk-lab``: one function a subcommand, each with its own arguments.

Exit codes: 0 done; 1 a run lost something and ``--fail-if-narrower`` was given; 2 wrong input or
usage; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passk_lab import __version__
from passk_lab._text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from passk_lab.lab.experiments.science import ScienceSuite
    from passk_lab.report.analysis import Report

__all__ = ["main"]

_Subparsers = Any  # argparse keeps the type of add_subparsers() private


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        See the module's docstring.

    Examples
    --------
    >>> main(["report", "nowhere.parquet", "--out", "report"])
    2
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character must not end the program.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Nobody reads on; without this, Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("passk-lab: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"passk-lab: error: {_message(error)}", file=sys.stderr)
        return 2


def _message(error: ValueError | OSError) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None:
            text = f"{error.filename}: {text}"
    return visible(text, lines=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="passk-lab",
        description="Did my training make the model better, or only narrower?",
        epilog="Each command explains itself: passk-lab report --help",
    )
    parser.add_argument("--version", action="version", version=f"passk-lab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for register in (
        _register_report,
        _register_convert,
        _register_sample,
        _register_train,
        _register_score,
    ):
        register(commands)
    return parser


def _add(
    commands: _Subparsers,
    name: str,
    command: Callable[[argparse.Namespace], int],
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


def _register_report(commands: _Subparsers) -> None:
    parser = _add(
        commands,
        "report",
        _report,
        "compare runs with a baseline: a table, figures, CSV files and one HTML page",
        "  passk-lab report base.parquet tuned.parquet --baseline base --out report\n"
        "  passk-lab report rollouts.parquet --baseline base --k 1,8,64 --out report\n"
        "  passk-lab report rollouts.jsonl --run my-model --out report",
    )
    parser.add_argument(
        "rollouts",
        nargs="+",
        type=Path,
        metavar="ROLLOUTS",
        help="rollouts files: .parquet, .jsonl, .jsonl.gz or .csv with the columns problem_id and "
        "correct, and where there are any run, split, answer and text; a file without a column "
        "run is named after itself where there are several",
    )
    parser.add_argument("--baseline", metavar="RUN", help="the run to compare the others with")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write into"
    )
    parser.add_argument(
        "--k",
        type=_numbers,
        metavar="K,K,...",
        help="numbers of samples, for example 1,8,64 (default: 1, 2, 4, ... up to all samples)",
    )
    parser.add_argument("--run", metavar="NAME", help="name for files without a column run")
    parser.add_argument(
        "--no-distinct",
        dest="distinct",
        action="store_false",
        default=None,
        help="leave out distinct answers, although there is a column answer",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        help="teacher scores of the baseline's rollouts, from passk-lab score: adds a forecast of "
        "self-distillation",
    )
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        help="compare the meanings of texts too: default (all-MiniLM-L6-v2, extra embed), tfidf, "
        "or name or path of a sentence-transformers model",
    )
    parser.add_argument(
        "--confidence",
        type=_share,
        default=0.95,
        metavar="C",
        help="coverage of the intervals, between 0 and 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--n-resamples",
        type=_positive,
        default=10_000,
        metavar="N",
        help="bootstrap replicates (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=_not_negative,
        default=0,
        metavar="N",
        help="of the bootstrap; the same seed gives the same files (default: %(default)s)",
    )
    parser.add_argument(
        "--fail-if-narrower",
        action="store_true",
        help="exit with 1 if a run is narrower or worse: pass@k at the largest k or the distinct "
        "correct answers fell, or pass@1 fell with nothing gained for it",
    )
    parser.add_argument("--quiet", action="store_true", help="print neither progress nor the table")


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from passk_lab.report.analysis import build_report

    with _progress(options.quiet) as say:
        report = build_report(
            options.rollouts,
            options.baseline,
            out=options.out,
            k=options.k,
            run=options.run,
            distinct=options.distinct,
            scores=options.scores,
            embedder=options.embedder,
            confidence=options.confidence,
            n_resamples=options.n_resamples,
            random_state=options.seed,
            progress=say,
        )
    if not options.quiet:
        # Not printed by rich itself, which ends the program where nobody reads on.
        console = Console(highlight=False)
        with console.capture() as capture:
            _print_report(report, console)
        sys.stdout.write(capture.get())
    return int(options.fail_if_narrower and any(v.lost for v in report.verdicts))


def _print_report(report: Report, console: Console) -> None:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from passk_lab.report.analysis import overview

    for section in report.sections:
        if len(report.sections) > 1:
            console.print(Text(visible(f"Split: {section.split}"), style="bold underline"))
        table = overview(section, report.baseline)
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for name in table.columns:
            if name == "run":
                grid.add_column(name, overflow="fold", min_width=4)
            else:
                grid.add_column(name, justify="right", no_wrap=True)
        for row in table.itertuples(index=False):
            # Text, not markup: a name like "[red]" is only a name.
            name, *cells = (visible(str(cell)) for cell in row)
            grid.add_row(Text(name), *(Text(cell.replace(" ", "\n", 1)) for cell in cells))
        console.print(grid)
        for v in section.verdicts:
            tone = "red" if v.lost else "green" if v.label in ("better", "wider") else ""
            console.print(Text(visible(f"{v.run}: {v.label}"), style=f"bold {tone}"))
            for line in (v.sentence, *v.evidence, *(f"Note: {c}." for c in v.cautions)):
                console.print(Padding(Text(visible(line)), (0, 0, 0, 2), expand=False))
        console.print()
    if report.outlook is not None:
        console.print(Text(f"Forecast of self-distillation: {report.outlook.label}", style="bold"))
        for line in (report.outlook.sentence, *report.outlook.lines):
            console.print(Padding(Text(visible(line)), (0, 0, 0, 2), expand=False))
        console.print()
    for note in report.notes:
        console.print(Text(visible(note)))
    more = len(report.files) - 1
    console.print(Text(visible(f"Wrote {report.page} and {more} files beside it.")))


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None] | None]:
    """Show the step at work on standard error, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as status:
        yield lambda step: status.update(Text(f"{step} ..."))


def _register_convert(commands: _Subparsers) -> None:
    from passk_lab.readers import FORMATS

    width = max(map(len, FORMATS))
    listing = "\n".join(f"  {name:<{width}}  {f.description}" for name, f in FORMATS.items())
    parser = _add(
        commands,
        "convert",
        _convert,
        "turn another program's logs into a rollouts file",
        "  passk-lab convert evalplus eval_results.json rollouts.parquet\n"
        "  passk-lab convert lm-eval results/ rollouts.parquet --option metric=exact_match\n"
        "  passk-lab convert plain mine.csv rollouts.parquet "
        '--option columns=\'{"problem_id": "task"}\'\n\n'
        f"formats:\n{listing}",
    )
    parser.add_argument("format", metavar="FORMAT", help="one of the formats below")
    parser.add_argument("source", type=Path, metavar="IN", help="file or folder of that program")
    parser.add_argument(
        "target", type=Path, metavar="OUT", help="file to write: .parquet, .jsonl or .jsonl.gz"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="KEY=VALUE",
        help="an option of the format's reader; a value that is JSON (a number, true, a mapping) "
        "is read as such; may be repeated",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def _convert(options: argparse.Namespace) -> int:
    from passk_lab.readers import convert

    names = [name for name, _ in options.option]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"--option {repeated[0]} is given twice")
    table = convert(options.format, options.source, options.target, **dict(options.option))
    if not options.quiet:
        print(
            visible(
                f"Wrote {options.target}: {len(table):,} rollouts of "
                f"{table['problem_id'].nunique():,} problems."
            )
        )
    return 0


def _register_sample(commands: _Subparsers) -> None:
    parser = _add(
        commands,
        "sample",
        _sample,
        "sample a language model's replies to questions, and grade them",
        "  passk-lab sample data/science/questions.jsonl --model my-model --out base.parquet\n"
        "  passk-lab sample physics.jsonl --model model.gguf -n 64 --limit 100 --out base.parquet\n"
        "  passk-lab sample physics.jsonl --model my-model --backend vllm --out base.parquet\n\n"
        "Questions are JSONL in the style of SciKnowEval, see docs/science.md. An\n"
        "interrupted command goes on where it was. Needs the extra [train].",
    )
    parser.add_argument(
        "questions", metavar="QUESTIONS", help="a .jsonl file, a folder of them, or a hub name"
    )
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="folder, GGUF file or hub name of the model"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="rollouts to write, .parquet"
    )
    parser.add_argument(
        "-n", type=_positive, default=32, metavar="N", help="replies to each question (default 32)"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="default: %(default)s"
    )
    parser.add_argument(
        "--max-tokens",
        type=_positive,
        default=256,
        metavar="N",
        help="a longer reply is cut off and has no answer (default: %(default)s)",
    )
    parser.add_argument(
        "--backend",
        choices=("transformers", "vllm"),
        default="transformers",
        help="what samples (default: %(default)s)",
    )
    parser.add_argument("--run", metavar="NAME", help="name of the run (default: the model's)")
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="the first N questions only (default: all)"
    )
    parser.add_argument(
        "--skip-others",
        action="store_true",
        help="pass over questions of types that can't be graded",
    )
    parser.add_argument("--system", metavar="TEXT", help="a system message before each question")
    parser.add_argument(
        "--batch",
        type=_positive,
        default=8,
        metavar="N",
        help="questions sampled at once (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_not_negative, default=0, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--device", metavar="NAME", help="default: cuda where there is one")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _sample(options: argparse.Namespace) -> int:
    with _train_extra("sampling"):
        from passk_lab.lab.questions import (
            Backend,
            TransformersBackend,
            VllmBackend,
            sample_questions,
        )
    from passk_lab.lab.scoring import TextEncoder
    from passk_lab.lab.tasks.science_qa import ScienceTask, load_questions

    found = load_questions(options.questions, others="skip" if options.skip_others else "refuse")
    questions = found[: options.limit]
    model = Path(options.model)
    backend: Backend
    if options.backend == "vllm":
        backend = VllmBackend(options.model)
    else:
        backend = TransformersBackend.load(options.model, _device(options.device))
    task = ScienceTask(
        tuple(questions),
        TextEncoder(backend.tokenizer, system=options.system),
        options.max_tokens,
        backend.context_length,
    )
    table = sample_questions(
        backend,
        task,
        options.n,
        options.out,
        run=options.run or model.stem,
        temperature=options.temperature,
        seed=options.seed,
        batch=options.batch,
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


def _register_train(commands: _Subparsers) -> None:
    parser = _add(
        commands,
        "train",
        _train,
        "train a small model with every method from one base and save the rollouts",
        "  passk-lab train --suite paths --out lab\n"
        "  passk-lab train --suite paths --out lab --runs sdsd,grpo --seeds 0,1,2\n"
        "  passk-lab train --suite paths --out lab --base-only\n"
        "  passk-lab train --suite science --base my-model --questions data/science --out lab\n\n"
        "An interrupted command goes on where it was. Needs the extra [train].",
    )
    parser.add_argument(
        "--suite",
        required=True,
        metavar="NAME",
        help="the experiment: paths, paths-seen, paths-large, science or science-large",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints and rollouts"
    )
    parser.add_argument(
        "--base",
        type=Path,
        metavar="DIR",
        help="a saved base, data/paths/base for one (default: DIR/base, pre-trained if missing); "
        "for science any language model: a folder, GGUF file or hub name",
    )
    parser.add_argument(
        "--questions", metavar="PATH", help="for science: a .jsonl file, a folder, or a hub name"
    )
    parser.add_argument(
        "--runs",
        type=lambda text: text.split(","),
        metavar="RUN,RUN,...",
        help="runs to train (default: all of the suite)",
    )
    parser.add_argument(
        "--seeds", type=_seeds, metavar="N,N,...", help="seeds (default: those of the suite)"
    )
    parser.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="processes side by side (default 1)"
    )
    parser.add_argument(
        "--base-only", action="store_true", help="pre-train and measure the base, nothing else"
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, ... (default: cuda where there is one)"
    )
    parser.add_argument(
        "--map",
        action="store_true",
        help="train the main methods under other authors, teachers and penalties instead",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _train(options: argparse.Namespace) -> int:
    with _train_extra("training"):
        from passk_lab.lab.experiments import science
        from passk_lab.lab.experiments.map import run_map
        from passk_lab.lab.experiments.suite import (
            SUITES,
            Suite,
            base_report,
            find,
            make_base,
            run_suite,
        )

    suites: dict[str, Suite | science.ScienceSuite] = {**SUITES, **science.SUITES}
    suite = find(suites, options.suite)
    if isinstance(suite, science.ScienceSuite):
        return _train_science(suite, options)
    folder = options.base or options.out / "base"
    base = make_base(suite, folder, _device(options.device), not options.quiet)
    if options.base_only:
        print(base_report(suite, base).round(3).to_string())
        return 0
    if options.map:
        files = run_map(base, options.out / "map", options.seeds, options.jobs, not options.quiet)
        if not options.quiet:
            print(visible(f"Wrote {len(files)} files of policies into {options.out / 'map'}."))
        return 0
    files = run_suite(
        suite, base, options.out, options.runs, options.seeds, options.jobs, not options.quiet
    )
    if not options.quiet:
        print(visible(f"Wrote {len(files)} files of rollouts into {options.out / 'rollouts'}."))
    return 0


def _train_science(suite: ScienceSuite, options: argparse.Namespace) -> int:
    from passk_lab.lab.experiments.science import run_science
    from passk_lab.lab.questions import TransformersBackend
    from passk_lab.lab.tasks.science_qa import load_questions

    for name in ("base", "questions"):
        if getattr(options, name) is None:
            raise ValueError(f"--suite {options.suite} needs --{name}")
    for name in ("map", "base_only"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is for the suites of paths")
    files = run_science(
        suite,
        TransformersBackend.load(options.base, _device(options.device), full_precision=True),
        load_questions(options.questions),
        options.out,
        options.runs,
        options.seeds,
        not options.quiet,
    )
    if not options.quiet:
        print(visible(f"Wrote {len(files)} files of rollouts into {options.out / 'rollouts'}."))
    return 0


def _register_score(commands: _Subparsers) -> None:
    parser = _add(
        commands,
        "score",
        _score,
        "score rollouts with and without demonstrations, for the teacher's bias",
        "  passk-lab score rollouts.parquet --model my-model --prompts prompts.jsonl "
        "--out scores.parquet\n"
        "  passk-lab score rollouts.parquet --run base --model my-model \\\n"
        "      --prompts prompts.jsonl --template opsd --demos 8 --out scores.parquet\n"
        "  passk-lab score data/paths/rollouts.parquet --run base --split id --seed 0 \\\n"
        "      --model data/paths/base --suite paths --out scores.parquet\n\n"
        "Demonstrations are correct rollouts of the same problem. Needs the extra [train].",
    )
    parser.add_argument("file", type=Path, metavar="ROLLOUTS", help="a rollouts file")
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="folder, GGUF file or hub name of the model to score with",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="JSONL, CSV or Parquet with problem_id and prompt, the text that the model was given",
    )
    source.add_argument(
        "--questions",
        metavar="PATH",
        help="the rollouts are replies to these questions: a .jsonl file, a folder, or a hub name",
    )
    source.add_argument(
        "--suite", metavar="NAME", help="the rollouts are those of a suite's evaluation: paths"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="scores to write, a .parquet file"
    )
    for name, kind in (("run", str), ("split", str), ("seed", int), ("step", int)):
        parser.add_argument(
            f"--{name}", type=kind, metavar="VALUE", help=f"take rollouts of this {name} only"
        )
    parser.add_argument(
        "--template",
        default="sdpo",
        metavar="NAME",
        help="how a demonstration is shown: sdpo, opsd, or a format with {prompt} and {demo} "
        "(default: sdpo)",
    )
    parser.add_argument("--text", metavar="COLUMN", help="column of the output (default: text)")
    parser.add_argument(
        "--no-chat", action="store_true", help="don't use the tokenizer's chat template"
    )
    parser.add_argument(
        "--rollouts", type=_positive, metavar="N", help="at most so many rollouts of a problem"
    )
    parser.add_argument(
        "--demos", type=_positive, metavar="N", help="at most so many demonstrations of a problem"
    )
    parser.add_argument(
        "--tokens", action="store_true", help="also write the log-probability of each token"
    )
    parser.add_argument("--device", metavar="NAME", help="default: cuda where there is one")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _score(options: argparse.Namespace) -> int:
    with _train_extra("scoring"):
        from passk_lab.lab.experiments.suite import ALL_SPLITS, SUITES, evaluation_prompts, find
        from passk_lab.lab.model import load_model, load_tokenizer
    import pandas as pd

    from passk_lab.lab.scoring import Encoder, TaskEncoder, TextEncoder, read_prompts, score
    from passk_lab.rollouts.files import atomic_write, read_rollouts

    if options.out.suffix != ".parquet":
        raise ValueError(f"{options.out}: scores are written as .parquet; choose such a name")
    table = read_rollouts(options.file)
    for name in ("run", "split", "seed", "step"):
        value = getattr(options, name)
        if value is not None:
            if name not in table.columns or not (table[name] == value).any():
                raise ValueError(f"{options.file}: no rollout has {name} {value!r}")
            table = table[table[name] == value]
        elif name in table.columns and (table[name] != table[name].iloc[0]).any():
            some = ", ".join(map(str, table[name].unique()[:4]))
            raise ValueError(f"{options.file}: several values of {name} ({some}); give --{name}")
    table = table.sort_values(["problem_id", "sample_id"], ignore_index=True)
    model = load_model(options.model, device=_device(options.device))
    encoder: Encoder
    prompts: dict[str, Any]
    if options.suite is not None:
        suite = find(SUITES, options.suite)
        encoder, text = TaskEncoder(suite.task), options.text or "answer"
        splits = [s for s in ALL_SPLITS if s in set(table["split"])]
        made = evaluation_prompts(suite, model, splits)
        prompts = {p.problem_id: p for split in made.values() for p in split}
    else:
        tokenizer = load_tokenizer(options.model)
        chat = False if options.no_chat else None
        encoder, text = TextEncoder(tokenizer, options.template, chat=chat), options.text or "text"
        if options.questions is not None:
            from passk_lab.lab.tasks.science_qa import load_questions, prompt_text

            questions = load_questions(options.questions, others="skip")
            prompts = {question.problem_id: prompt_text(question) for question in questions}
        else:
            prompts = read_prompts(options.prompts)
    table = _first_of_each(table, options.rollouts)
    demos = _first_of_each(table[table["correct"] & table[text].notna()], options.demos)
    scores = score(
        model,
        prompts,
        table,
        demos,
        encoder=encoder,
        text=text,
        tokens=options.tokens,
        progress=not options.quiet,
    )
    with atomic_write(options.out) as temporary:
        scores.to_parquet(temporary, compression="zstd")
    if not options.quiet:
        shown = scores[["problem_id", "demo_id"]].drop_duplicates()
        left = table["problem_id"].nunique() - shown["problem_id"].nunique()
        print(
            visible(
                f"Wrote {len(scores)} pairs of {shown['problem_id'].nunique()} problems with "
                f"{len(shown)} demonstrations into {options.out}."
                + (f" {left} problems have no correct rollout to show." if left else "")
            )
        )
        gain = pd.Series(scores["logprob_given_demo"] - scores["logprob"])
        print(
            f"Mean PCMI: {gain.mean():.3f} nats; largest {gain.max():.3f}, least {gain.min():.3f}."
        )
    return 0


@contextlib.contextmanager
def _train_extra(what: str) -> Iterator[None]:
    """Around imports of what the extra brings: say that it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what} needs {error.name}; install the extra: pip install 'passk-lab[train]'"
        ) from error


def _device(name: str | None) -> str:
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _first_of_each(table: Any, n: int | None) -> Any:
    return table if n is None else table.groupby("problem_id", sort=False).head(n)


def _seeds(text: str) -> list[int]:
    return [_not_negative(part) for part in text.split(",")]


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like 1,8,64") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{min(numbers)} must be at least 1")
    return sorted(set(numbers))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and 1, for example 0.95")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} must be at least {least}")
    return value


def _positive(text: str) -> int:
    return _whole(text, 1)


def _not_negative(text: str) -> int:
    return _whole(text, 0)


def _option(text: str) -> tuple[str, Any]:
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    try:
        return name.replace("-", "_"), json.loads(value)
    except json.JSONDecodeError:
        return name.replace("-", "_"), value


if __name__ == "__main__":
    sys.exit(main())
