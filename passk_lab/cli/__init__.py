"""The command ``passk-lab``: a module a subcommand.

Exit codes: 0 done; 1 a run lost something and ``--fail-if-narrower`` was given; 2 wrong input or
usage; 130 interrupted; 141 the reader of the output went away.

A help text has to come at once, so the commands import what they run only when they run it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from passk_lab import __version__
from passk_lab._lazy import lazy
from passk_lab._text import visible
from passk_lab.cli import convert, plan, report, sample, score, train

__all__ = ["main"]

__getattr__, __dir__ = lazy(__name__, __all__)


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
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what can be written here
        with contextlib.suppress(ImportError):
            from argcomplete import autocomplete

            autocomplete(parser)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        code: int = options.run_command(options)
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
    for module in (report, plan, convert, sample, train, score):
        module.COMMAND.add_to(commands)
    return parser
