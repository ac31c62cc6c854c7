"""From values per problem to conclusions: curves, intervals, comparisons, verdicts."""

from passk_lab.stats.answers import functional_summary, functional_values
from passk_lab.stats.compare import Comparison, compare_runs, crossing_point, problem_differences
from passk_lab.stats.curves import (
    METRICS,
    ProblemValues,
    default_ks,
    distinct_at_k_curve,
    metric_curve,
    pass_at_k_curve,
    problem_values,
)
from passk_lab.stats.diversity import diversity_summary
from passk_lab.stats.entropies import entropies_of, entropy_summary, entropy_values
from passk_lab.stats.extrapolate import (
    BetaBinomial,
    extrapolate_pass_at_k,
    fit_beta_binomial,
    held_out_check,
)
from passk_lab.stats.intervals import (
    analytic_interval,
    bayes_interval,
    bootstrap_mean,
    bootstrap_replicates,
    nested_bootstrap,
    percentiles,
)
from passk_lab.stats.meanings import embed_problems, mode_names, with_semantic_modes
from passk_lab.stats.policies import POLICY_METRICS, policy_curve, policy_summary, policy_values
from passk_lab.stats.seeds import (
    check_same_problems,
    crossed_bootstrap,
    matched_differences,
    problem_weights,
    seed_crossings,
    seed_curve,
    seed_differences,
    seed_replicates,
    seed_values,
    values_curve,
)
from passk_lab.stats.texts import common_size, draw_texts, ngram_summary, ngram_values, read_texts
from passk_lab.stats.verdict import MIN_PROBLEMS, RESOLUTION, Change, Verdict, verdict

__all__ = [
    "METRICS",
    "MIN_PROBLEMS",
    "POLICY_METRICS",
    "RESOLUTION",
    "BetaBinomial",
    "Change",
    "Comparison",
    "ProblemValues",
    "Verdict",
    "analytic_interval",
    "bayes_interval",
    "bootstrap_mean",
    "bootstrap_replicates",
    "check_same_problems",
    "common_size",
    "compare_runs",
    "crossed_bootstrap",
    "crossing_point",
    "default_ks",
    "distinct_at_k_curve",
    "diversity_summary",
    "draw_texts",
    "embed_problems",
    "entropies_of",
    "entropy_summary",
    "entropy_values",
    "extrapolate_pass_at_k",
    "fit_beta_binomial",
    "functional_summary",
    "functional_values",
    "held_out_check",
    "matched_differences",
    "metric_curve",
    "mode_names",
    "nested_bootstrap",
    "ngram_summary",
    "ngram_values",
    "pass_at_k_curve",
    "percentiles",
    "policy_curve",
    "policy_summary",
    "policy_values",
    "problem_differences",
    "problem_values",
    "problem_weights",
    "read_texts",
    "seed_crossings",
    "seed_curve",
    "seed_differences",
    "seed_replicates",
    "seed_values",
    "values_curve",
    "verdict",
    "with_semantic_modes",
]
