"""Did my training make the model better, or only narrower?

Estimators of pass@k and its relatives, diversity and their intervals over saved rollouts.
Names are loaded on first use, so that ``import passk_lab`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from passk_lab import diversity as diversity
    from passk_lab.compare import compare_runs
    from passk_lab.curves import distinct_at_k_curve, pass_at_k_curve
    from passk_lab.diversity.functional import distinct_at_k, hill_number
    from passk_lab.passk import (
        bayes_pass_at_k,
        best_of_k,
        g_pass_at_k,
        maj_at_k,
        max_at_k,
        pass_at_k,
        pass_hat_k,
    )
    from passk_lab.rollouts import counts, read_rollouts, validate_rollouts, write_rollouts

__version__ = "0.1.0"

_HOME = {
    "read_rollouts": "rollouts",
    "write_rollouts": "rollouts",
    "validate_rollouts": "rollouts",
    "counts": "rollouts",
    "pass_at_k": "passk",
    "pass_hat_k": "passk",
    "g_pass_at_k": "passk",
    "bayes_pass_at_k": "passk",
    "maj_at_k": "passk",
    "best_of_k": "passk",
    "max_at_k": "passk",
    "distinct_at_k": "diversity.functional",
    "hill_number": "diversity.functional",
    "pass_at_k_curve": "curves",
    "distinct_at_k_curve": "curves",
    "compare_runs": "compare",
}

__all__ = [
    "bayes_pass_at_k",
    "best_of_k",
    "compare_runs",
    "counts",
    "distinct_at_k",
    "distinct_at_k_curve",
    "g_pass_at_k",
    "hill_number",
    "maj_at_k",
    "max_at_k",
    "pass_at_k",
    "pass_at_k_curve",
    "pass_hat_k",
    "read_rollouts",
    "validate_rollouts",
    "write_rollouts",
]


def __getattr__(name: str) -> Any:
    if name == "diversity":
        return import_module("passk_lab.diversity")
    if name not in _HOME:
        raise AttributeError(f"module 'passk_lab' has no attribute {name!r}")
    value = getattr(import_module(f"passk_lab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, "diversity"])
