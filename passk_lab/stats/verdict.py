"""Better, or only narrower? The finding in words, from paired changes and their intervals."""

from __future__ import annotations

from dataclasses import dataclass

from passk_lab._text import interval, number

__all__ = ["MIN_PROBLEMS", "RESOLUTION", "Change", "Verdict", "verdict"]

MIN_PROBLEMS = 10  # below, a bootstrap over problems says little
RESOLUTION = 0.05  # a change of pass@k that nobody would want to overlook


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
    """

    k: int
    baseline: float
    estimate: float
    difference: float
    low: float
    high: float
    n_problems: int

    @property
    def direction(self) -> int:
        """1 or -1 where the interval lies above or below zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def reach(self) -> float:
        """The largest change, in either direction, that the interval does not exclude."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Verdict:
    """What became of a run against the baseline, in words, with the numbers it rests on.

    Attributes
    ----------
    run, split, baseline : str
        What was compared.
    label : str
        "better", "better and narrower", "narrower, not better", "narrower", "wider", "worse",
        "mixed", "no clear change" or "too few problems to tell".
    sentence : str
        The finding in plain language.
    evidence : tuple of str
        One line a measure: the change and its interval.
    cautions : tuple of str
        What limits the finding.
    lost : bool
        Something clearly fell that more tries don't bring back: pass@k at the largest k or
        distinct correct answers; or pass@k at the smallest k with nothing gained for it.
    """

    run: str
    split: str
    baseline: str
    label: str
    sentence: str
    evidence: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    lost: bool = False


# (pass@1, pass@K, distinct@K): 1 clearly up, -1 clearly down, 0 not clear or not measured.
_LABELS = {
    (1, 1, 1): "better",
    (1, 1, 0): "better",
    (1, 1, -1): "better and narrower",
    (1, 0, 1): "better",
    (1, 0, 0): "better",
    (1, 0, -1): "better and narrower",
    (1, -1, 1): "mixed",
    (1, -1, 0): "narrower, not better",
    (1, -1, -1): "narrower, not better",
    (0, 1, 1): "wider",
    (0, 1, 0): "wider",
    (0, 1, -1): "better and narrower",
    (0, 0, 1): "wider",
    (0, 0, 0): "no clear change",
    (0, 0, -1): "narrower",
    (0, -1, 1): "mixed",
    (0, -1, 0): "narrower",
    (0, -1, -1): "narrower",
    (-1, 1, 1): "wider",
    (-1, 1, 0): "wider",
    (-1, 1, -1): "mixed",
    (-1, 0, 1): "wider",
    (-1, 0, 0): "worse",
    (-1, 0, -1): "worse",
    (-1, -1, 1): "worse",
    (-1, -1, 0): "worse",
    (-1, -1, -1): "worse",
}
_TOO_FEW = "too few problems to tell"


def verdict(
    first: Change,
    last: Change | None = None,
    distinct: Change | None = None,
    *,
    run: str = "run",
    baseline: str = "baseline",
    split: str = "id",
) -> Verdict:
    r"""Say in words what the paired changes show. Nothing but their intervals decides.

    A change counts where its interval excludes zero. The model is *better* where pass@k rose at
    the smallest or the largest k and fell at neither; *narrower* where pass@k at the largest k
    or the number of distinct correct answers fell although it is not plainly *worse* (worse at
    the smallest k with nothing gained for it); *wider* where it trades the first try for more at
    many tries, or finds more at the same first try.

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

    Returns
    -------
    Verdict
        With fewer than `MIN_PROBLEMS` problems, or with no clear change while an interval of
        pass@k reaches beyond `RESOLUTION`, the label is "too few problems to tell".

    Examples
    --------
    >>> found = verdict(Change(1, 0.40, 0.48, 0.08, 0.05, 0.11, 200),
    ...                 Change(64, 0.95, 0.90, -0.05, -0.08, -0.02, 200),
    ...                 Change(64, 5.1, 2.3, -2.8, -3.2, -2.4, 200), run="sdsd", baseline="base")
    >>> found.label
    'narrower, not better'
    >>> print(*found.evidence, sep="\n")
    pass@1 0.400 -> 0.480: +0.080 [+0.050, +0.110]
    pass@64 0.950 -> 0.900: -0.050 [-0.080, -0.020]
    distinct correct answers in 64 samples 5.10 -> 2.30: -2.80 [-3.20, -2.40]
    """
    signs = (
        first.direction,
        0 if last is None else last.direction,
        0 if distinct is None else distinct.direction,
    )
    label = _LABELS[signs]
    lost = label == "worse" or signs[1] < 0 or signs[2] < 0
    cautions = []
    few = first.n_problems < MIN_PROBLEMS
    unclear = [c for c in (first, last) if c is not None and c.direction == 0]
    vague = [c for c in unclear if not c.reach <= RESOLUTION + 1e-9]
    if few:
        label, lost = _TOO_FEW, False
        cautions.append(
            f"{_plural(first.n_problems, 'problem')}: an interval over so few is not reliable; "
            f"take at least {MIN_PROBLEMS}, better 50 or more"
        )
    elif label == "no clear change" and vague:
        label = _TOO_FEW
    if vague:
        reach = " and ".join(f"up to {c.reach:.2f} in pass@{c.k}" for c in vague)
        cautions.append(
            f"a change of {reach} can't be excluded; more problems make the intervals narrower"
        )
    if last is None:
        cautions.append(
            f"only pass@{first.k} was compared: whether the run is narrower shows with more "
            "samples per problem"
        )
    if distinct is None:
        cautions.append(
            "the answers' canonical forms are not in the rollouts (column 'answer'): a loss of "
            "distinct answers would not be seen"
        )
    return Verdict(
        run=run,
        split=split,
        baseline=baseline,
        label=label,
        sentence=_sentence(first, last, distinct, few),
        evidence=_evidence(first, last, distinct),
        cautions=tuple(cautions),
        lost=lost,
    )


def _sentence(first: Change, last: Change | None, distinct: Change | None, few: bool) -> str:
    if few:
        return "There are too few problems to tell a change from chance."
    tries = "the first try" if first.k == 1 else f"{first.k} tries"
    parts = [
        {
            1: f"solves more at {tries}",
            0: f"shows no clear change at {tries}",
            -1: f"solves less at {tries}",
        }[first.direction]
    ]
    if last is not None:
        parts.append(
            {
                1: f"solves more problems within {last.k} tries",
                0: f"shows no clear change in the problems solved within {last.k} tries",
                -1: f"solves fewer problems within {last.k} tries",
            }[last.direction]
        )
    if distinct is not None:
        parts.append(
            {
                1: "finds more distinct correct answers",
                0: "shows no clear change in distinct correct answers",
                -1: "finds fewer distinct correct answers",
            }[distinct.direction]
        )
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
    return f"Against the baseline it {text}."


def _evidence(first: Change, last: Change | None, distinct: Change | None) -> tuple[str, ...]:
    lines = [_line(f"pass@{c.k}", c, 3) for c in (first, last) if c is not None]
    if distinct is not None:
        what = f"distinct correct answers in {_plural(distinct.k, 'sample')}"
        lines.append(_line(what, distinct, 2))
    return tuple(lines)


def _line(what: str, change: Change, digits: int) -> str:
    limits = interval(change.low, change.high, digits, signed=True)
    return (
        f"{what} {change.baseline:.{digits}f} -> {change.estimate:.{digits}f}: "
        f"{number(change.difference, digits, signed=True)} {limits}"
    )


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
