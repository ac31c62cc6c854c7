"""Every metric by name: what it needs, which way is better.

A metric is a function of arrays under the decorator `metric`; by its name Python
(`passk_lab.stats.metric_curve`), the command (``passk-lab report --metrics``), the page and the
documentation know it. What it needs decides what its function is called with:

| needs | arguments | columns of the rollouts |
| --- | --- | --- |
| ``counts`` | ``n_samples, n_correct`` of all problems | ``correct`` |
| ``modes`` | counts of all answers of each problem | ``answer`` |
| ``correct`` | counts of the correct answers of each problem | ``answer`` |
| ``verdicts`` | one problem's counts and marks of its answers | ``answer`` |
| ``scores`` | scores of problems with equally many samples | ``score`` |
| ``ranked`` | the same, and which samples are correct | ``score`` |
| ``texts`` | one problem's texts | ``text`` |
| ``tokens`` | the same, cut into tokens: `Texts` | ``text`` |
| ``embeddings`` | embeddings of one problem's texts | ``text`` |
| ``logprobs`` | one problem's values of ``columns``, to a value and error | those |
| ``pair`` | pass@k of each problem, of the baseline and of a run | ``correct`` |

A metric at k gets ``k`` (or ``k_max``) as its last positional argument; those of answers also
``n_samples``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args

__all__ = ["METRICS", "Metric", "find_metric", "metric"]

Need = Literal[
    "counts",
    "modes",
    "correct",
    "verdicts",
    "scores",
    "ranked",
    "texts",
    "tokens",
    "embeddings",
    "logprobs",
    "pair",
]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Metric:
    """A metric and what is to be known to compute, show and compare it."""

    name: str
    function: Callable[..., Any]
    needs: Need
    at_k: bool  # depends on the number of samples k drawn
    columns: tuple[str, ...]  # of the rollouts table, beside problem_id and correct
    says: str  # what it is, in one line
    fixed: dict[str, Any]  # arguments that this name sets
    better: Literal["higher", "lower", "neither"] = "higher"  # more able, or more diverse
    option: str | None = None  # the argument that "name:value" sets
    least: int = 1  # counted samples of a problem; undefined with fewer
    harmonic: bool = False  # mean over problems: it is the inverse of a chance, which may be 0
    # Makes the metric of the means over problems of its parts (the last axis of both, and of what
    # the function gives), for a metric that is no mean itself.
    of_means: Callable[[Any], Any] | None = None
    extra: str | None = None  # of the package, that it needs; it has to be asked for then

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function with what the name fixes."""
        return self.function(*arguments, **self.fixed, **options)

    def require(self, options: Mapping[str, Any]) -> None:
        """Refuse a call that lacks the setting that the metric can't do without."""
        if self.option is not None and self.option not in options:
            parameter = inspect.signature(self.function).parameters[self.option]
            if parameter.default is parameter.empty:
                raise ValueError(f"metric {self.name!r} needs {self.option}: {self.name}:0.5")


METRICS: dict[str, Metric] = {}
_COLUMNS: dict[str, tuple[str, ...]] = {
    "modes": ("answer",),
    "correct": ("answer",),
    "verdicts": ("answer",),
    "scores": ("score",),
    "ranked": ("score",),
    "texts": ("text",),
    "tokens": ("text",),
    "embeddings": ("text",),
}


class _MetricOptions(TypedDict, total=False):
    """Keywords of `metric`: the fields of `Metric` that a name can set."""

    better: Literal["higher", "lower", "neither"]
    columns: tuple[str, ...]
    option: str
    says: str
    least: int
    harmonic: bool
    of_means: Callable[[Any], Any]
    extra: str


def metric(
    needs: Need,
    name: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    **options: Unpack[_MetricOptions],
) -> Callable[[Function], Function]:
    """Register a function as a metric; the function itself stays as it is.

    Parameters
    ----------
    needs, name, fixed, **options
        Fields of `Metric`. Default: the name is the function's, the columns follow from ``needs``,
        and ``says`` is the first line of the docstring.

    Examples
    --------
    >>> @metric("counts", better="higher")
    ... def share_correct(n_samples, n_correct):
    ...     '''Share of the samples that are correct.'''
    ...     return n_correct / n_samples
    >>> METRICS.pop("share_correct").says
    'Share of the samples that are correct.'
    """
    if needs not in get_args(Need):
        raise ValueError(f"needs={needs!r} is none of {', '.join(get_args(Need))}")

    def register(function: Function) -> Function:
        key = name or function.__name__
        if key in METRICS:
            raise ValueError(f"a metric {key!r} is registered already; choose another name")
        doc = (inspect.getdoc(function) or "").partition("\n")[0]
        defaults: dict[str, Any] = {"columns": _COLUMNS.get(needs, ()), "says": doc}
        at_k = not {"k", "k_max"}.isdisjoint(inspect.signature(function).parameters)
        given = {**defaults, **options}
        METRICS[key] = Metric(key, function, needs, at_k, fixed=dict(fixed or {}), **given)
        return function

    return register


def find_metric(name: str) -> tuple[Metric, dict[str, Any]]:
    """Look a metric up by its name, also with its setting (``name:value``), which it gives, too.

    Examples
    --------
    >>> from passk_lab.metrics import pass_at_k  # registers them
    >>> find_metric("g_pass_at_k:0.5")[1]
    {'tau': 0.5}
    """
    key, colon, value = name.partition(":")
    if key not in METRICS:
        raise ValueError(f"metric {key!r} is unknown; there are {', '.join(sorted(METRICS))}")
    found = METRICS[key]
    if not colon:
        return found, {}
    if found.option is None:
        raise ValueError(f"metric {name!r}: {key} has no setting; write {key}")
    try:
        return found, {found.option: float(value)}
    except ValueError:
        raise ValueError(f"metric {name!r}: {value!r} is no number; write {key}:0.5") from None
