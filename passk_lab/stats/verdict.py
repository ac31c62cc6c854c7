"""Better, or only narrower? The finding in words, from paired changes and their p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np

from passk_lab._text import number, plural
from passk_lab.stats._pairs import Pair, distinct_adds, make_pairs
from passk_lab.stats.intervals import format_estimate
from passk_lab.stats.resampling import Resampling, ResamplingOptions

__all__ = ["MARGIN", "Change", "Verdict", "judge", "verdict"]

MARGIN = 0.05  # a change that nobody would want to overlook

FirstTry = Literal["better", "level", "worse", "unclear"]
Reach = Literal["wider", "level", "narrower", "mixed", "unclear"]
Distinct = Literal["more", "level", "fewer", "unclear"]


@dataclass(frozen=True)
class Change:
    """A paired change against the baseline, with its interval.

    Attributes
    ----------
    k : int
        Samples per problem.
    baseline, estimate : float
        Mean over problems of the baseline and of the run.
    difference, low, high : float
        Mean difference over problems and its interval.
    n_problems : int
        Problems that both runs have.
    p_value : float, optional
        Two-sided, adjusted for everything that is said in words. Without it the interval decides.
    significance : float
        Error rate of a word.
    """

    k: int
    baseline: float
    estimate: float
    difference: float
    low: float
    high: float
    n_problems: int
    p_value: float | None = None
    significance: float = 0.05

    @property
    def direction(self) -> int:
        """1 or -1 where there is a change beyond chance, up or down, else 0."""
        if self.p_value is None:
            return int(self.low > 0) - int(self.high < 0)
        return int(np.sign(self.difference)) if self.p_value <= self.significance else 0

    @property
    def reach(self) -> float:
        """The largest change, in either direction, that the interval does not exclude."""
        return max(abs(self.low), abs(self.high))

    def within(self, margin: float) -> bool:
        """Whether the interval excludes every change larger than the margin."""
        return self.reach <= margin + 1e-9


@dataclass(frozen=True)
class Verdict:
    """What became of a run against the baseline, in words, with the numbers it rests on.

    Attributes
    ----------
    run, split, baseline : str
        What was compared.
    first_try : str
        "better", "worse", "level" (any change is smaller than the margin) or "unclear".
    reach : str or None
        What many tries reach: "wider", "narrower", "level", "unclear", or "mixed" where pass@k at
        the largest k and distinct correct answers moved apart. None where only one k was compared.
    label : str
        Both in words, such as "better at the first try, narrower at 128"; "no clear change" where
        both are level, and "too few problems to tell" where nothing is known.
    sentence : str
        The finding in plain language.
    evidence : tuple of str
        One line a measure: the change, its interval and its p-value.
    cautions : tuple of str
        What limits the finding.
    advice : tuple of str
        What would tell more, in the same words for every run.
    distinct : str or None
        Distinct correct answers at the largest k: "more", "fewer", "level" or "unclear". None where
        they weren't compared.
    differences : tuple of str
        Of each line of the evidence the difference of the means, as it is written there.
    clear : tuple of bool
        Whether each line of the evidence is a change beyond chance.
    lost : bool
        Something fell that more tries don't bring back: narrower or mixed; or worse at the first
        try and not wider. ``--fail-if-narrower`` exits with 1.
    """

    run: str
    split: str
    baseline: str
    first_try: FirstTry
    reach: Reach | None
    label: str
    sentence: str
    evidence: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    distinct: Distinct | None = None
    differences: tuple[str, ...] = ()
    clear: tuple[bool, ...] = ()
    lost: bool = False

    @property
    def gained(self) -> bool:
        """Whether it is better at the first try or reaches wider."""
        return self.first_try == "better" or self.reach == "wider"


def verdict(
    first: Change,
    last: Change | None = None,
    distinct: Change | None = None,
    *,
    run: str = "run",
    baseline: str = "baseline",
    split: str = "id",
    margin: float = MARGIN,
    subject: str = "this model",
) -> Verdict:
    r"""Say in words what the paired changes show.

    Parameters
    ----------
    first : Change
        pass@k at the smallest k, commonly 1.
    last : Change, optional
        pass@k at the largest k; None where only one k was compared.
    distinct : Change, optional
        distinct@k over correct answers at the largest k; None where answers aren't known.
    run, baseline, split : str
        Names for the text.
    margin : float
        Without a change beyond chance it is "level" only where the interval excludes a change of
        pass@k by more than this, and of distinct answers by more than this share of the baseline's.
    subject : str
        Of the sentence.

    Returns
    -------
    Verdict

    Examples
    --------
    >>> found = verdict(Change(1, 0.40, 0.48, 0.08, 0.05, 0.11, 200, p_value=0.001),
    ...                 Change(64, 0.95, 0.90, -0.05, -0.08, -0.02, 200, p_value=0.004),
    ...                 Change(64, 5.1, 2.3, -2.8, -3.2, -2.4, 200, p_value=0.001))
    >>> found.label
    'better at the first try, narrower at 64'
    >>> print(found.sentence)  # doctest: +NORMALIZE_WHITESPACE
    Against the baseline, this model solves more at the first try, solves fewer problems within
    64 tries, and finds fewer distinct correct answers.
    >>> print(*found.evidence, sep="\n")
    pass@1 0.400 -> 0.480: +0.080 [+0.050, +0.110], adjusted p = 0.001
    pass@64 0.950 -> 0.900: -0.050 [-0.080, -0.020], adjusted p = 0.004
    distinct correct answers in 64 samples 5.10 -> 2.30: -2.80 [-3.20, -2.40], adjusted p = 0.001
    """
    near = _pass(first, margin, f"at {_tries(first.k)}", "much", ("less", "more"))
    solved = [near]
    if last is not None:
        amounts = ("fewer problems", "more problems")
        solved.append(_pass(last, margin, f"within {last.k} tries", "many problems", amounts))
    measures = [*solved, *([] if distinct is None else [_answers(distinct, margin)])]
    far = measures[1:]
    first_try: FirstTry = "better" if first.direction > 0 else "worse"
    if not first.direction:
        first_try = "unclear" if near.unclear else "level"
    reach = _reach(far) if far else None
    return Verdict(
        run=run,
        split=split,
        baseline=baseline,
        first_try=first_try,
        reach=reach,
        label=_label(first_try, reach, first.k, far[0].change.k if far else 0),
        sentence=_sentence(subject, measures),
        evidence=tuple(measure.line for measure in measures),
        cautions=tuple(_cautions(solved)),
        advice=tuple(_advice(solved)),
        distinct=None if distinct is None else _distinct(measures[-1]),
        differences=tuple(measure.difference for measure in measures),
        clear=tuple(measure.change.direction != 0 for measure in measures),
        lost=reach in ("narrower", "mixed") or (first_try == "worse" and reach != "wider"),
    )


@dataclass(frozen=True)
class _Measure:
    """A change and how it is spoken of."""

    change: Change
    margin: float
    name: str
    digits: int
    where: str  # a change can't be told
    words: tuple[str, str, str]  # fell, level, rose

    @property
    def unclear(self) -> bool:
        """Whether there is neither a change nor an interval that excludes one."""
        return not self.change.direction and not self.change.within(self.margin)

    @property
    def difference(self) -> str:
        """Write the difference of the means."""
        return number(self.change.difference, self.digits, signed=True)

    @property
    def line(self) -> str:
        change, digits = self.change, self.digits
        found = (change.difference, change.low, change.high)
        p = "" if change.p_value is None else f", adjusted p = {_p_text(change.p_value)}"
        return (
            f"{self.name} {change.baseline:.{digits}f} -> {change.estimate:.{digits}f}: "
            f"{format_estimate(*found, digits=digits, signed=True)}{p}"
        )


def _pass(
    change: Change, margin: float, where: str, level: str, moved: tuple[str, str]
) -> _Measure:
    fell, rose = (f"solves {amount} {where}" for amount in moved)
    words = (fell, f"solves about as {level} {where}", rose)
    return _Measure(change, margin, f"pass@{change.k}", 3, where, words)


def _answers(change: Change, margin: float) -> _Measure:
    what = "distinct correct answers"
    fell, level, rose = (f"finds {many} {what}" for many in ("fewer", "about as many", "more"))
    name = f"{what} in {plural(change.k, 'sample')}"
    margin *= abs(change.baseline)
    return _Measure(change, margin, name, 2, f"in {what}", (fell, level, rose))


def _tries(k: int) -> str:
    return "the first try" if k == 1 else f"{k} tries"


def judge(
    rollouts: Any,
    baseline: str,
    k: int | Sequence[int] | None = None,
    *,
    distinct: bool = False,
    margin: float = MARGIN,
    over_seeds: bool = False,
    **resampling: Unpack[ResamplingOptions],
) -> list[Verdict]:
    """Say of every run and split whether it became better, or only narrower.

    A word of change is a statistical claim: where no run differs from the baseline, at most
    1 - ``confidence`` of all calls say a single one, over all runs, splits and measures together.

    Parameters
    ----------
    rollouts, baseline, k, over_seeds
        As for `passk_lab.compare_runs`. A list of pairs has the values already.
    distinct : bool
        Count distinct correct answers, too; needs the column ``answer``.
    margin : float
        As for `verdict`.
    **resampling
        ``confidence, random_state``: see `passk_lab.stats.Resampling`.

    Returns
    -------
    list of Verdict

    Raises
    ------
    ValueError
        As for `passk_lab.compare_runs`.

    Notes
    -----
    Measures are pass@k at the smallest and at the largest k, and distinct@k at the largest where
    some problem has two correct answers. Their p-values hold under both of two hypotheses, see
    docs/definitions.md: both runs are the same model (samples of a problem are dealt out anew,
    which is exact at unequal numbers of samples), and both are equally good over problems like
    these (problems, or clusters, change their signs). They are adjusted over the measures
    by the largest statistic (Westfall and Young), and over runs and splits by Holm's method.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"run": "base", "split": "id", "problem_id": range(90),
    ...                       "n_samples": 8, "n_correct": [0, 2, 4] * 30})
    >>> both = pd.concat([table, table.assign(run="rl", n_correct=[0, 8, 8] * 30)])
    >>> [found.label for found in judge(both, "base", random_state=0)]
    ['better at the first try, level at 8']
    """
    if isinstance(rollouts, list) and all(isinstance(one, Pair) for one in rollouts):
        pairs = rollouts
    else:
        metrics = ["pass_at_k", *(["distinct_at_k"] if distinct else [])]
        how = Resampling(**resampling)
        pairs = make_pairs(rollouts, baseline, k, metrics, how, over_seeds=over_seeds)
    families = [_family(pair) for pair in pairs]
    alone = [
        pair.reference.adjusted([pair.columns(name).start + at for name, at in family.values()])
        for pair, family in zip(pairs, families, strict=True)
    ]
    found = []
    for pair, family, p in zip(pairs, families, _holm(alone), strict=True):
        limits = pair.reference.interval
        changes = {}
        for (name, (metric, at)), p_value in zip(family.items(), p, strict=True):
            ours, theirs = pair.at_ks(metric)
            column = pair.columns(metric).start + at
            changes[name] = Change(
                k=int(pair.ks[at]),
                baseline=float(theirs.mean[at]),
                estimate=float(ours.mean[at]),
                difference=float(pair.reference.difference[column]),
                low=float(limits[0, column]),
                high=float(limits[1, column]),
                n_problems=len(ours.problem_id),
                p_value=float(p_value),
                significance=1 - pair.reference.confidence,
            )
        found.append(
            verdict(
                **changes,
                run=pair.run,
                baseline=baseline,
                split=pair.split,
                margin=margin,
                subject=_subject(pair),
            )
        )
    return found


def _family(pair: Pair) -> dict[str, tuple[str, int]]:
    """Metric and place among the ks of what words are about."""
    last = len(pair.ks) - 1
    family = {"first": ("pass_at_k", 0)}
    if last:
        family["last"] = ("pass_at_k", last)
        if distinct_adds(pair):
            family["distinct"] = ("distinct_at_k", last)
    return family


def _holm(found: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Adjust p-values of several comparisons, each adjusted over its measures already."""
    smallest = np.array([p.min() for p in found])
    adjusted = list(found)
    passed = 0.0
    for rank, at in enumerate(np.argsort(smallest, kind="stable")):
        factor = len(found) - rank
        passed = max(passed, factor * smallest[at])
        adjusted[at] = np.clip(np.maximum(passed, factor * found[at]), 0.0, 1.0)
    return adjusted


def _subject(pair: Pair) -> str:
    n_seeds, n_base = (len(of["pass_at_k"].values) for of in (pair.mine, pair.base))
    if n_seeds == 1:
        return "this model"
    against = f" against {n_base}" if n_base > 1 else ""
    return f"this method ({n_seeds} training seeds{against})"


def _reach(far: Sequence[_Measure]) -> Reach:
    signs = {measure.change.direction for measure in far}
    if {1, -1} <= signs:
        return "mixed"
    if -1 in signs:
        return "narrower"
    if 1 in signs:
        return "wider"
    return "unclear" if any(measure.unclear for measure in far) else "level"


def _distinct(measure: _Measure) -> Distinct:
    if measure.change.direction:
        return "more" if measure.change.direction > 0 else "fewer"
    return "unclear" if measure.unclear else "level"


def _label(first_try: FirstTry, reach: Reach | None, first_k: int, last_k: int) -> str:
    words = {first_try, reach or first_try}
    if words == {"level"}:
        return "no clear change"
    if words <= {"level", "unclear"}:
        return "too few problems to tell"
    parts = [f"{first_try} at {_tries(first_k)}"]
    if reach is not None:
        parts.append(f"{reach} at {last_k}")
    return ", ".join(parts)


def _sentence(subject: str, measures: Sequence[_Measure]) -> str:
    parts = [m.words[m.change.direction + 1] for m in measures if not m.unclear]
    unknown = [measure.where for measure in measures if measure.unclear]
    problems = plural(measures[0].change.n_problems, "problem")
    if not parts:
        return f"{problems} are too few to tell a change from chance."
    text = f"Against the baseline, {subject} {_listed(parts)}."
    if unknown:
        text += f" Whether there is a change {_listed(unknown)}, {problems} can't tell."
    return text


def _listed(parts: Sequence[str]) -> str:
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _cautions(solved: Sequence[_Measure]) -> list[str]:
    vague = [f"{m.change.reach:.2f} in {m.name}" for m in solved if m.unclear]
    return [f"a change of up to {' and '.join(vague)} can't be excluded"] if vague else []


def _advice(solved: Sequence[_Measure]) -> list[str]:
    found = []
    if any(measure.unclear for measure in solved):
        found.append("smaller changes take more problems or samples; passk-lab plan says how many")
    if len(solved) == 1:
        found.append(
            f"only {solved[0].name} was compared: whether a run is narrower shows with more "
            "samples per problem"
        )
    return found


def _p_text(p: float) -> str:
    return f"{p:.2g}" if p < 0.1 else f"{p:.2f}"
