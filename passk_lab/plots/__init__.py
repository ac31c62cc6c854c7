"""A tidy table in, an Axes out."""

from passk_lab._lazy import lazy
from passk_lab.plots.kinds import (
    PASS_RATE_BINS,
    pass_rates,
    plot_differences,
    plot_distinct_at_k,
    plot_pass_at_k,
    plot_pass_rates,
    plot_plan,
    plot_progress,
    plot_tradeoff,
)
from passk_lab.plots.style import (
    MethodStyle,
    method_colors,
    method_styles,
    save_figure,
    style,
    write_figure,
)

__all__ = [
    "PASS_RATE_BINS",
    "MethodStyle",
    "method_colors",
    "method_styles",
    "pass_rates",
    "plot_differences",
    "plot_distinct_at_k",
    "plot_pass_at_k",
    "plot_pass_rates",
    "plot_plan",
    "plot_progress",
    "plot_tradeoff",
    "save_figure",
    "style",
    "write_figure",
]

__getattr__, __dir__ = lazy(__name__, __all__)
