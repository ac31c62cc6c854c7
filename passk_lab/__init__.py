"""Did my training make the model better, or only narrower?

Estimators of pass@k and its relatives, diversity and their intervals over saved rollouts.
Names are loaded on first use, so that ``import passk_lab`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from passk_lab._lazy import lazy

if TYPE_CHECKING:
    from passk_lab.metrics.functional import distinct_at_k, hill_number
    from passk_lab.metrics.passk import (
        bayes_pass_at_k,
        best_of_k,
        g_pass_at_k,
        maj_at_k,
        max_at_k,
        pass_at_k,
        pass_hat_k,
    )
    from passk_lab.rollouts import counts, read_rollouts, validate_rollouts, write_rollouts
    from passk_lab.stats.compare import compare_runs
    from passk_lab.stats.curves import distinct_at_k_curve, metric_curve, pass_at_k_curve
    from passk_lab.stats.diversity import diversity_summary
    from passk_lab.stats.intervals import format_estimate
    from passk_lab.stats.metric_table import metric_table
    from passk_lab.stats.verdict import judge

__version__ = "0.1.0"

_HOME = {
    "read_rollouts": "rollouts",
    "write_rollouts": "rollouts",
    "validate_rollouts": "rollouts",
    "counts": "rollouts",
    "pass_at_k": "metrics",
    "pass_hat_k": "metrics",
    "g_pass_at_k": "metrics",
    "bayes_pass_at_k": "metrics",
    "maj_at_k": "metrics",
    "best_of_k": "metrics",
    "max_at_k": "metrics",
    "distinct_at_k": "metrics",
    "hill_number": "metrics",
    "pass_at_k_curve": "stats",
    "distinct_at_k_curve": "stats",
    "compare_runs": "stats",
    "diversity_summary": "stats",
    "metric_curve": "stats",
    "metric_table": "stats",
    "judge": "stats",
    "format_estimate": "stats",
}

__all__ = [
    "bayes_pass_at_k",
    "best_of_k",
    "compare_runs",
    "counts",
    "distinct_at_k",
    "distinct_at_k_curve",
    "diversity_summary",
    "format_estimate",
    "g_pass_at_k",
    "hill_number",
    "judge",
    "maj_at_k",
    "max_at_k",
    "metric_curve",
    "metric_table",
    "pass_at_k",
    "pass_at_k_curve",
    "pass_hat_k",
    "read_rollouts",
    "validate_rollouts",
    "write_rollouts",
]

__getattr__, __dir__ = lazy(__name__, [*__all__, "__version__"], _HOME)
