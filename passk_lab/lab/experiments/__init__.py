"""Experiments that run from start to finish: `passk-lab train --suite NAME`.

A suite says what is trained from one base and how it is measured; `run_suite` does it. A suite of
your own goes into ``SUITES`` of ``suite`` (path finding) or ``science`` (questions in words).
"""

from passk_lab._text import look_up
from passk_lab.lab.experiments import science, suite
from passk_lab.lab.experiments.runs import run_suite
from passk_lab.lab.experiments.science import ScienceSuite
from passk_lab.lab.experiments.suite import Suite, base_report, evaluation_prompts, make_base

__all__ = [
    "ScienceSuite",
    "Suite",
    "base_report",
    "evaluation_prompts",
    "get_suite",
    "make_base",
    "run_suite",
]


def get_suite(name: str) -> Suite | ScienceSuite:
    """Look a suite up by name; ValueError lists the known ones.

    Examples
    --------
    >>> get_suite("paths").seeds
    (0, 1, 2)
    """
    known: dict[str, Suite | ScienceSuite] = {**suite.SUITES, **science.SUITES}
    return look_up("suite", name, known)
