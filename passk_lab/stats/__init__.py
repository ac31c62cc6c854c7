"""From values per problem to conclusions: curves, intervals, comparisons, verdicts."""

from passk_lab._lazy import lazy
from passk_lab.stats.betabinomial import BetaBinomial, fit_beta_binomial
from passk_lab.stats.checkpoints import checkpoints, first_narrower
from passk_lab.stats.compare import (
    Comparison,
    compare_runs,
    curve_crossings,
    matched_differences,
    paired_differences,
    problem_differences,
)
from passk_lab.stats.curves import distinct_at_k_curve, metric_curve, pass_at_k_curve
from passk_lab.stats.diversity import (
    TextChoice,
    TextOptions,
    diversity_summary,
    with_semantic_modes,
)
from passk_lab.stats.extrapolate import extrapolate_pass_at_k, held_out_check
from passk_lab.stats.intervals import (
    analytic_interval,
    bayes_interval,
    bootstrap_mean,
    format_estimate,
    nested_bootstrap,
)
from passk_lab.stats.metric_table import metric_table
from passk_lab.stats.metric_values import problem_values
from passk_lab.stats.policies import POLICY_METRICS, policy_curve, policy_summary, policy_values
from passk_lab.stats.power import Plan, plan
from passk_lab.stats.resampling import Resampling, ResamplingOptions
from passk_lab.stats.values import ProblemValues, default_ks
from passk_lab.stats.verdict import MARGIN, Change, Verdict, judge, verdict

__all__ = [
    "MARGIN",
    "POLICY_METRICS",
    "BetaBinomial",
    "Change",
    "Comparison",
    "Plan",
    "ProblemValues",
    "Resampling",
    "ResamplingOptions",
    "TextChoice",
    "TextOptions",
    "Verdict",
    "analytic_interval",
    "bayes_interval",
    "bootstrap_mean",
    "checkpoints",
    "compare_runs",
    "curve_crossings",
    "default_ks",
    "distinct_at_k_curve",
    "diversity_summary",
    "extrapolate_pass_at_k",
    "first_narrower",
    "fit_beta_binomial",
    "format_estimate",
    "held_out_check",
    "judge",
    "matched_differences",
    "metric_curve",
    "metric_table",
    "nested_bootstrap",
    "paired_differences",
    "pass_at_k_curve",
    "plan",
    "policy_curve",
    "policy_summary",
    "policy_values",
    "problem_differences",
    "problem_values",
    "verdict",
    "with_semantic_modes",
]

__getattr__, __dir__ = lazy(__name__, __all__)
