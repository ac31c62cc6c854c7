"""What a demonstration-conditioned teacher does to the student: optima, slopes, sources of bias."""

from passk_lab._lazy import lazy
from passk_lab.teacher.count_slopes import count_slope, count_slope_table, paired_counts
from passk_lab.teacher.decomposition import Decomposition, decompose
from passk_lab.teacher.dynamics import (
    Trajectory,
    fixed_points,
    rl_trajectory,
    self_distillation_trajectory,
)
from passk_lab.teacher.forecast import (
    TooFewSamples,
    expected_tilt,
    forecast,
    forecast_problems,
    forecast_rows,
)
from passk_lab.teacher.generations import forecast_generations
from passk_lab.teacher.optimum import (
    distillation_optimum,
    rl_optimum,
    self_distillation_optimum,
)
from passk_lab.teacher.slopes import (
    gap_slope,
    paired_logprobs,
    slope_table,
)
from passk_lab.teacher.sources import problem_decompositions, source_table, tilt_sources
from passk_lab.teacher.worlds import BoostWorld, StyleWorld

__all__ = [
    "BoostWorld",
    "Decomposition",
    "StyleWorld",
    "TooFewSamples",
    "Trajectory",
    "count_slope",
    "count_slope_table",
    "decompose",
    "distillation_optimum",
    "expected_tilt",
    "fixed_points",
    "forecast",
    "forecast_generations",
    "forecast_problems",
    "forecast_rows",
    "gap_slope",
    "paired_counts",
    "paired_logprobs",
    "problem_decompositions",
    "rl_optimum",
    "rl_trajectory",
    "self_distillation_optimum",
    "self_distillation_trajectory",
    "slope_table",
    "source_table",
    "tilt_sources",
]

__getattr__, __dir__ = lazy(__name__, __all__)
