"""``passk-lab score``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passk_lab._text import look_up, visible
from passk_lab.cli._arguments import (
    DEVICE,
    LAYOUT,
    QUIET,
    Command,
    argument,
    device,
    flag,
    layout_options,
    one_of,
    out,
    positive,
    train_extra,
)

if TYPE_CHECKING:
    import pandas as pd

    from passk_lab.lab.tasks import Encoder

_ONE = (("run", str), ("split", str), ("seed", int), ("step", int))


def _run(options: argparse.Namespace) -> int:
    with train_extra("scoring"):
        from passk_lab.lab.model import load_model
    from passk_lab.lab.scoring import score
    from passk_lab.rollouts import Layout, atomic_write, read_rollouts

    if options.out.suffix != ".parquet":
        raise ValueError(f"{options.out}: scores are written as .parquet; choose such a name")
    wanted = {name: getattr(options, name) for name, _ in _ONE}
    rollouts = read_rollouts(options.file, layout=Layout(**layout_options(options)))
    table = _one_evaluation(rollouts, options.file, **wanted)
    model = load_model(options.model, device=device(options.device))
    prompts, encoder, text = _prompts(options, model, table)
    table = _first_of_each(table, options.rollouts)
    scores = score(
        model,
        prompts,
        table,
        _first_of_each(table[table["correct"] & table[text].notna()], options.demos),
        encoder=encoder,
        text=text,
        tokens=options.tokens,
        progress=not options.quiet,
    )
    with atomic_write(options.out) as temporary:
        scores.to_parquet(temporary, compression="zstd")
    if not options.quiet:
        _print_summary(scores, table["problem_id"].nunique(), options.out)
    return 0


def _prompts(
    options: argparse.Namespace, model: Any, table: pd.DataFrame
) -> tuple[dict[str, Any], Encoder, str]:
    """Find the prompts, how to encode them, and the column with what was generated."""
    from passk_lab.lab.experiments.suite import ALL_SPLITS, SUITES
    from passk_lab.lab.model import load_tokenizer
    from passk_lab.lab.tasks import TextEncoder

    if options.suite is not None:
        suite = look_up("suite", options.suite, SUITES)
        splits = [s for s in ALL_SPLITS if s in set(table["split"])]
        made = suite.evaluation_prompts(model, splits)
        prompts = {p.problem_id: p for split in made.values() for p in split}
        return prompts, suite.task, options.text or "answer"
    chat = False if options.no_chat else None
    encoder = TextEncoder(load_tokenizer(options.model), options.template, chat=chat)
    if options.questions is not None:
        from passk_lab.lab.tasks import load_questions

        questions = load_questions(options.questions, others="skip")
        found = {question.problem_id: question.text for question in questions}
    else:
        found = _read_prompts(options.prompts)
    return found, encoder, options.text or "text"


def _read_prompts(path: Path) -> dict[str, str]:
    """Read ``problem_id`` -> ``prompt`` from a file."""
    import pandas as pd

    from passk_lab.rollouts.files import iter_jsonl

    name = path.name.lower()
    if name.endswith(".parquet"):
        table = pd.read_parquet(path)
    elif name.endswith(".csv"):
        table = pd.read_csv(path, dtype=str)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        table = pd.DataFrame(list(iter_jsonl(path)))
    else:
        raise ValueError(f"{path}: unknown ending; give a .parquet, .csv, .jsonl or .jsonl.gz file")
    for column in ("problem_id", "prompt"):
        if column not in table.columns:
            raise ValueError(
                f"{path}: column {column!r} is missing; add it or rename the right one"
            )
    missing = table["prompt"].isna().to_numpy()
    if missing.any():
        raise ValueError(f"{path}: column 'prompt', row {int(missing.argmax())}: no prompt")
    table = table.astype({"problem_id": str}).drop_duplicates(["problem_id", "prompt"])
    twice = table["problem_id"].duplicated()
    if twice.any():
        problem = table.loc[twice, "problem_id"].iloc[0]
        raise ValueError(f"{path}: problem {problem!r} has two different prompts; keep one")
    return dict(zip(table["problem_id"], table["prompt"].astype(str), strict=True))


def _one_evaluation(table: pd.DataFrame, source: str, **values: str | int | None) -> pd.DataFrame:
    """Choose rollouts by ``values``, None where a column holds only one, in order of problems."""
    for name, value in values.items():
        if value is not None:
            if name not in table.columns or not (table[name] == value).any():
                raise ValueError(f"{source}: no rollout has {name} {value!r}")
            table = table[table[name] == value]
        elif name in table.columns and (table[name] != table[name].iloc[0]).any():
            some = ", ".join(map(str, table[name].unique()[:4]))
            raise ValueError(f"{source}: several values of {name} ({some}); give --{name}")
    return table.sort_values(["problem_id", "sample_id"], ignore_index=True)


def _first_of_each(table: pd.DataFrame, n: int | None) -> pd.DataFrame:
    return table if n is None else table.groupby("problem_id", sort=False).head(n)


def _print_summary(scores: pd.DataFrame, n_problems: int, path: Path) -> None:
    shown = scores[["problem_id", "demo_id"]].drop_duplicates()
    left = n_problems - shown["problem_id"].nunique()
    print(
        visible(
            f"Wrote {len(scores)} pairs of {shown['problem_id'].nunique()} problems with "
            f"{len(shown)} demonstrations into {path}."
            + (f" {left} problems have no correct rollout to show." if left else "")
        )
    )
    gain = scores["logprob_given_demo"] - scores["logprob"]
    print(f"Mean PCMI: {gain.mean():.3f} nats; largest {gain.max():.3f}, least {gain.min():.3f}.")


COMMAND = Command(
    "score",
    _run,
    "score rollouts with and without demonstrations, for the teacher's bias",
    "  passk-lab score rollouts.parquet --model my-model --prompts prompts.jsonl "
    "--out scores.parquet\n"
    "  passk-lab score rollouts.parquet --run base --model my-model \\\n"
    "      --prompts prompts.jsonl --template opsd --demos 8 --out scores.parquet\n"
    "  passk-lab score data/paths/rollouts.parquet --run base --split id --seed 0 \\\n"
    "      --model data/paths/base --suite paths --out scores.parquet\n\n"
    "Demonstrations are correct rollouts of the same problem. Needs the extra [train].",
    (
        argument("file ROLLOUTS", "a rollouts file"),
        *LAYOUT,
        argument(
            "--model PATH",
            "folder, GGUF file or hub name of the model to score with",
            required=True,
        ),
        one_of(
            argument(
                "--prompts FILE",
                "JSONL, CSV or Parquet with problem_id and prompt, the text that the model was "
                "given",
                type=Path,
            ),
            argument(
                "--questions PATH",
                "the rollouts are replies to these questions: a .jsonl file, a folder, or a hub "
                "name",
            ),
            argument("--suite NAME", "the rollouts are those of a suite's evaluation: paths"),
        ),
        out("FILE", "scores to write, a .parquet file"),
        *(
            argument(f"--{name} VALUE", f"take rollouts of this {name} only", type=kind)
            for name, kind in _ONE
        ),
        argument(
            "--template NAME",
            "how a demonstration is shown: sdpo, opsd, or a format with {prompt} and {demo} "
            "(default: sdpo)",
            default="sdpo",
        ),
        argument("--text COLUMN", "column of the output (default: text)"),
        flag("--no-chat", "don't use the tokenizer's chat template"),
        argument("--rollouts N", "at most so many rollouts of a problem", type=positive),
        argument("--demos N", "at most so many demonstrations of a problem", type=positive),
        flag("--tokens", "also write the log-probability of each token"),
        DEVICE,
        QUIET,
    ),
)
