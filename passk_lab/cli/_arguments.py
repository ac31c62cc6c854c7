"""What the commands share: how a command is declared, types of arguments, the extra [train]."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Declares itself to a parser, or to a group of one.
Argument = Callable[[Any], Any]


def argument(usage: str, text: str, **settings: Any) -> Argument:
    """Declare an argument by "name METAVAR", its help and `add_argument`'s settings."""
    name, _, metavar = usage.partition(" ")
    if metavar:
        settings["metavar"] = metavar
    return lambda parser: parser.add_argument(name, help=text, **settings)


def flag(name: str, text: str, **settings: Any) -> Argument:
    """Declare an option without a value."""
    settings = {"action": "store_true", **settings}
    return lambda parser: parser.add_argument(name, help=text, **settings)


def one_of(*arguments: Argument) -> Argument:
    """Declare arguments of which exactly one is to be given."""

    def add(parser: argparse.ArgumentParser) -> None:
        group = parser.add_mutually_exclusive_group(required=True)
        for one in arguments:
            one(group)

    return add


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    name: str
    run: Callable[[argparse.Namespace], int]
    summary: str
    examples: str
    arguments: tuple[Argument, ...]

    def add_to(self, commands: Any) -> None:
        """Register with what `argparse.ArgumentParser.add_subparsers` gave."""
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=f"{self.summary[0].upper()}{self.summary[1:]}.",
            epilog=f"examples:\n{self.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(run_command=self.run)
        for declare in self.arguments:
            declare(parser)


def out(metavar: str, text: str) -> Argument:
    """Declare where a command writes to."""
    return argument(f"--out {metavar}", text, type=Path, required=True)


def whole(text: str, least: int) -> int:
    """Read a whole number that is not too small."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} must be at least {least}")
    return value


def positive(text: str) -> int:
    """Read a number from 1."""
    return whole(text, 1)


def not_negative(text: str) -> int:
    """Read a number from 0."""
    return whole(text, 0)


def numbers(text: str) -> list[int]:
    """Read numbers from 1, in order."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like 1,8,64") from None
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{min(found)} must be at least 1")
    return sorted(set(found))


def seeds(text: str) -> list[int]:
    """Read numbers from 0, as they stand."""
    return [not_negative(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Read names."""
    return text.split(",")


def pairs(text: str) -> dict[str, str]:
    """Read NAME=NAME,NAME=NAME."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentTypeError(
                f"{part!r} is not of the form problem_id=uid,correct=reward"
            )
        if name in found:
            raise argparse.ArgumentTypeError(f"{name!r} is given twice")
        found[name] = value
    return found


def share(text: str) -> float:
    """Read a number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be between 0 and 1, for example 0.95")
    return value


def key_value(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; a value that is JSON is read as such."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    name = name.replace("-", "_")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


@contextlib.contextmanager
def train_extra(what: str) -> Iterator[None]:
    """Around imports of what the extra brings: say that it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what} needs {error.name}; install the extra: pip install 'passk-lab[train]'"
        ) from error


def device(name: str | None) -> str:
    """Choose cuda where there is one and nothing else is wished."""
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


QUIET = flag("--quiet", "print nothing but errors")
DEVICE = argument("--device NAME", "default: cuda where there is one")

# What a file of one's own calls things.
LAYOUT = (
    argument(
        "--columns NAME=COLUMN,...",
        "what the file calls the columns, such as problem_id=uid,correct=info.grade; nested fields "
        "by dots, several as task+id, # for the number of the row; correct=true where nothing was "
        "verified",
        type=pairs,
    ),
    argument("--threshold T", "grades are numbers: correct from here on", type=float),
    argument("--right WORD,WORD,...", "grades are words: these mean correct", type=names),
    argument("--records KEY", "where the records of a JSON file are, such as results.samples"),
    flag(
        "--normalize-answers",
        "count 16, 016, 16.0 and $16$ as one answer, and placeholders such as [INVALID] as none",
    ),
    argument(
        "--placeholders WORD,WORD,...",
        "further answers that count as none, with --normalize-answers or without",
        type=names,
    ),
)


def layout_options(options: argparse.Namespace) -> dict[str, Any]:
    """What was said of the file, as fields of `passk_lab.rollouts.Layout`."""
    fields = ("columns", "threshold", "right", "records", "normalize_answers", "placeholders")
    given = {name: getattr(options, name) for name in fields}
    return {name: value for name, value in given.items() if value not in (None, False)}
