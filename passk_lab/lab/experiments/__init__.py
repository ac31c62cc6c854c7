"""Experiments that run from start to finish: `passk-lab train --suite NAME`.

A suite says what is trained from one base and how it is measured; `run_suite` does it. Those known
by name are the ``SUITES`` of ``categories`` (naming members of a category), ``concepts`` (the
paper's Concept Graph), ``suite`` (path finding) and ``science`` (questions in words).
"""

from collections import ChainMap
from typing import Any

from passk_lab._lazy import lazy
from passk_lab.lab.experiments import categories, concepts, science, suite
from passk_lab.lab.experiments._runs import run_suite
from passk_lab.lab.experiments.categories import CategorySuite
from passk_lab.lab.experiments.concepts import ConceptSuite
from passk_lab.lab.experiments.science import ScienceSuite
from passk_lab.lab.experiments.suite import Suite

__all__ = ["SUITES", "CategorySuite", "ConceptSuite", "ScienceSuite", "Suite", "run_suite"]

__getattr__, __dir__ = lazy(__name__, __all__)

SUITES: ChainMap[str, Any] = ChainMap(
    categories.SUITES, concepts.SUITES, science.SUITES, suite.SUITES
)
