"""What would mislead: looks at rollouts of some problems, and says what is odd about them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from passk_lab._text import plural, shorten
from passk_lab.rollouts._answers import is_placeholder, normal_form

# Columns that are looked at beside answers and texts, and their values for a reply cut off.
CUT_OFF = {"finish_reason": ("length", "max_tokens"), "truncated": ("true", "1")}
LOOKED_AT = ("answer", "text", *CUT_OFF)
_PROBLEM = ["run", "split", "problem_id"]
_LETTER = re.compile(r"\(?([A-Ja-j])\)?\.?")


def accounts(table: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
    """Say for each run and split what there is, and what is missing.

    Parameters
    ----------
    table : DataFrame
        Counts, of all problems.
    some : DataFrame
        Rollouts of some problems, with the columns `LOOKED_AT` as far as there are any.

    Returns
    -------
    DataFrame
        ``run, split, problems, rollouts``, ``fewest`` and ``most`` samples of a problem, and
        shares ``no_answer``, ``no_text``, ``cut_off`` among the rollouts in ``some``, where known.
    """
    keys = ["run", "split"]
    samples = table.groupby(keys, sort=False)["n_samples"]
    found = samples.agg(problems="size", rollouts="sum", fewest="min", most="max")
    shares = {f"no_{name}": some[name].isna() for name in ("answer", "text") if name in some}
    if "text" in some:
        shares["no_text"] = some["text"].fillna("").str.strip() == ""
    for name, values in CUT_OFF.items():
        if name in some:
            shares["cut_off"] = some[name].astype(str).str.lower().isin(values)
    for name, hit in shares.items():
        found[name] = hit.groupby([some[key].astype(str) for key in keys]).mean()
    return found.reset_index()


def oddities(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """Say what is odd, the worst first; nothing about usual rollouts."""
    some = some.astype(dict.fromkeys(_PROBLEM, str))
    for check in _CHECKS:
        yield from check(some, table)


def _named(runs: Iterable[str]) -> str:
    names = [repr(shorten(run, 40)) for run in dict.fromkeys(runs)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Run{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"


def _gold_or_flaky(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """One answer of a problem is graded both right and wrong."""
    if "answer" not in some:
        return
    rows = some[some["answer"].notna()]
    graded = rows.groupby([*_PROBLEM, "answer"], observed=True)["correct"].agg(["min", "max"])
    both = graded.index[(graded["min"] != graded["max"]).to_numpy()]
    if not len(both):
        return
    open_ = rows.groupby(_PROBLEM)["correct"].transform("nunique") > 1
    single = rows[open_].groupby(_PROBLEM)["answer"].nunique().eq(1).mean()
    run, _, problem, answer = both[0]
    if single > 0.9:
        yield (
            f"{_named(both.get_level_values('run'))}: right and wrong rollouts of a problem have "
            f"the same answer ({answer!r} in problem {problem!r}). The column 'answer' seems to "
            "hold the expected answer, not the model's: name another one with --columns "
            "answer=NAME, or leave distinct answers out with --no-distinct."
        )
        return
    problems = {key[:3] for key in both}
    yield (
        f"{_named(both.get_level_values('run'))}: in {plural(len(problems), 'problem')} one answer "
        f"is graded both right and wrong ({answer!r} in problem {problem!r} of {run!r}). Is the "
        "grader random, or the answer not all that it sees?"
    )


def _copies(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """All samples of nearly every problem are one text."""
    if "text" not in some:
        return
    groups = some[some["text"].notna()].groupby(_PROBLEM)["text"]
    counts = groups.agg(["size", "nunique"]).query("size >= 3")
    by_run = (counts["nunique"] == 1).groupby("run").agg(["mean", "size"])
    runs = by_run.index[(by_run["mean"] > 0.9) & (by_run["size"] >= 3)]
    if len(runs):
        yield (
            f"{_named(runs)}: all samples of a problem are the same text. These are not "
            "independent samples (temperature 0, a cached seed, one file read twice?), so that "
            "pass@k beyond k = 1 says nothing."
        )


def _repeated_blocks(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """The second half of a problem's samples repeats the first, text by text."""
    if "text" not in some:
        return
    found = []
    for (run, _, _), texts in some.groupby(_PROBLEM, sort=False)["text"]:
        half = len(texts) // 2
        first, second = texts.iloc[:half].tolist(), texts.iloc[half:].tolist()
        long = sum(len(t) for t in first if isinstance(t, str)) > 20 * half
        if half > 1 and first == second and len(set(first)) > 1 and long:
            found.append(str(run))
    if len(found) > 1:
        yield (
            f"{_named(found)}: in {plural(len(found), 'problem')} the second half of the samples "
            "repeats the first, text by text, as if a resumed run had written them again. They "
            "count twice: drop them, or give rollouts a sample_id."
        )


def _spellings(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """Right answers of a problem differ in spelling only."""
    if "answer" not in some:
        return
    right = some[some["correct"] & some["answer"].notna()].drop_duplicates([*_PROBLEM, "answer"])
    right = right.assign(normal=right["answer"].astype(str).map(normal_form))
    counts = right.groupby(_PROBLEM)[["answer", "normal"]].nunique()
    alike = counts.index[counts["answer"] > counts["normal"]]
    if len(alike):
        mine = right.set_index(_PROBLEM).loc[[alike[0]]]
        first = mine.groupby("normal")["answer"].agg(list).map(sorted)
        shown = ", ".join(map(repr, next(a for a in first if len(a) > 1)[:4]))
        yield (
            f"{_named(alike.get_level_values('run'))}: in {plural(len(alike), 'problem')} right "
            f"answers differ in spelling only ({shown}), and count as distinct; with "
            "--normalize-answers they are one."
        )


def _placeholders(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """Words for "no answer" count as answers."""
    if "answer" not in some:
        return
    rows = some[some["answer"].notna()]
    odd = rows[[is_placeholder(answer) for answer in rows["answer"].astype(str)]]
    if len(odd):
        share = len(odd) / len(some)
        yield (
            f"{_named(odd['run'])}: {share:.0%} of the answers stand for none "
            f"({', '.join(map(repr, odd['answer'].unique()[:3]))}), but vote in maj@k; with "
            "--normalize-answers they are none."
        )


def _guessing(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """Answers are letters of a multiple choice."""
    if "answer" not in some:
        return
    answers = some["answer"].dropna().astype(str).str.strip()
    letters = {found[1].upper() for a in answers.unique() if (found := _LETTER.fullmatch(a))}
    k = int(table["n_samples"].min())
    if len(letters) > 1 and answers.str.fullmatch(_LETTER.pattern).mean() > 0.95:
        chance = 1 - (1 - 1 / len(letters)) ** k
        yield (
            f"The answers are the letters {', '.join(sorted(letters))}: guessing alone gives "
            f"pass@{k} of about {chance:.2f}."
        )


def _other_grading(some: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """A run has clearly more rollouts without an answer, without text, or cut off."""
    shares = accounts(table, some).set_index("run")
    sizes = some.groupby("run").size()
    words = {
        "no_answer": "have no answer; was it the same grader",
        "no_text": "have no text; did all runs answer",
        "cut_off": "are cut off; was it the same length limit",
    }
    for name, said in words.items():
        if name not in shares:
            continue
        for _, part in shares.groupby("split", sort=False):
            share = part[name].dropna()
            if len(share) < 2:
                continue
            most, least = str(share.idxmax()), str(share.idxmin())
            pooled = share.mean()
            error = math.sqrt(pooled * (1 - pooled) * (1 / sizes[most] + 1 / sizes[least]))
            if share[most] - share[least] > max(0.05, 4 * error):
                yield (
                    f"{share[most]:.0%} of the rollouts of {most!r} and {share[least]:.0%} of "
                    f"{least!r} {said}?"
                )
                break


_CHECKS: tuple[Callable[[pd.DataFrame, pd.DataFrame], Iterator[str]], ...] = (
    _copies,
    _repeated_blocks,
    _gold_or_flaky,
    _spellings,
    _placeholders,
    _other_grading,
    _guessing,
)
