"""What would mislead: looks at rollouts, and says what is odd about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from passk_lab._text import plural, shorten
from passk_lab.rollouts._answers import is_placeholder, normal_form
from passk_lab.rollouts.study import Study

# What programs call the one answer that they expect.
REFERENCES = ("gold", "target", "ground_truth", "reference", "expected_answer", "reference_answer")
# What tells problems of several tasks apart that are called alike.
_TASKS = ("task", "dataset", "data_source", "benchmark", "subset", "subject", "question", "problem")
LOOKED_AT = ("answer", "text", "error", *REFERENCES, *_TASKS)
_RUN = ["run", "split"]
_PROBLEM = [*_RUN, "problem_id"]
_LETTER = re.compile(r"\(?([A-Ja-j])\)?\.?")
_LIKELY = -np.log(1e6)  # of samples to come in such an order by chance, at most
_SAID = {
    "no_answer": "have no answer; was it the same grader",
    "no_text": "have no text; did all runs answer",
    "cut_off": "are cut off; was it the same length limit",
}
_MISSING = (*_SAID, "errors")


@dataclass(frozen=True)
class Looked:
    """What is looked at.

    Attributes
    ----------
    table : DataFrame
        Counts, of all problems.
    some : DataFrame
        Rollouts of some problems, with the columns `LOOKED_AT` as far as there are any.
    missing, copies : DataFrame
        Of all problems, see `Study`.
    """

    table: pd.DataFrame
    some: pd.DataFrame
    missing: pd.DataFrame
    copies: pd.DataFrame

    @classmethod
    def at(cls, study: Study, table: pd.DataFrame, problems: Iterable[str]) -> Looked:
        """Look at all that a study has, and closer at some problems."""
        some = study.some(problems, LOOKED_AT).astype(dict.fromkeys(_PROBLEM, str))
        return cls(table, some, study.missing(), study.copies())

    @property
    def kinds(self) -> list[str]:
        """What is known to be missing."""
        return [name for name in _MISSING if name in self.missing]

    @property
    def accounts(self) -> pd.DataFrame:
        """What there is of each run and split, see `passk_lab.report.Report`."""
        samples = self.table.groupby(_RUN, sort=False)["n_samples"]
        found = samples.agg(problems="size", rollouts="sum", fewest="min", most="max")
        everywhere = self.table.groupby("split")["problem_id"].nunique().to_dict()
        splits = found.index.get_level_values("split")
        found["absent"] = np.array([everywhere[split] for split in splits]) - found["problems"]
        sums = self.missing.drop(columns="problem_id").groupby(_RUN).sum()
        for name in self.kinds:
            found[name] = sums[name] / sums[f"known {name}"].where(lambda known: known > 0)
        return found.reset_index()

    def count(self, problems: Iterable[tuple[str, str]]) -> str:
        """Say how many problems these are, given by split and name."""
        found = plural(len(set(problems)), "problem")
        looked, existing = (
            len(rows[["split", "problem_id"]].drop_duplicates()) for rows in (self.some, self.table)
        )
        return found if looked == existing else f"{found} of {looked} looked at"


def oddities(looked: Looked) -> Iterator[str]:
    """Say what is odd, the worst first; nothing about usual rollouts."""
    for check in _CHECKS:
        yield from check(looked)


def _named(runs: Iterable[str]) -> str:
    names = [repr(shorten(run, 40)) for run in dict.fromkeys(runs)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Run{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"


def _equal_texts(looked: Looked) -> Iterator[str]:
    """All samples of nearly every problem are one text."""
    if "text" not in looked.some:
        return
    rows = looked.some[looked.some["text"].fillna("").str.strip() != ""]
    if "error" in rows:
        rows = rows[rows["error"].isna()]
    counts = rows.groupby(_PROBLEM)["text"].agg(["size", "nunique"]).query("size >= 3")
    by_run = (counts["nunique"] == 1).groupby("run").agg(["mean", "size"])
    runs = by_run.index[(by_run["mean"] > 0.9) & (by_run["size"] >= 3)]
    if len(runs):
        yield (
            f"{_named(runs)}: all samples of a problem are the same text. These are not "
            "independent samples (temperature 0, a cached seed, one file read twice?), so that "
            "pass@k beyond k = 1 says nothing."
        )


def _samples_again(looked: Looked) -> Iterator[str]:
    """Samples of a problem are there twice, in the same order: all, or those at its start."""
    # Where most orders look so, none says anything.
    known = looked.copies[looked.copies["chance"] < 0.5]
    for (run, split, begun, copies), rows in known.groupby([*_RUN, "begun", "copies"], sort=False):
        again = rows[rows["again"]]
        seen, expected = len(again), rows["chance"].sum()
        # Chernoff's bound of so many among problems with these chances.
        if not seen or seen - expected + seen * np.log(expected / seen) > _LIKELY:
            continue
        mine = looked.table[(looked.table["run"] == run) & (looked.table["split"] == split)]
        extra = int((again["n"] - again["n"] // again["copies"]).sum())
        yield (
            f"Run {run!r}: in {len(again)} of {plural(len(mine), 'problem')} the "
            f"{'first ' if begun else ''}samples are there "
            f"{'twice' if copies == 2 else 'three times'}, in the same order, as a "
            f"{'run that broke off and was resumed' if begun else 'resumed run'} "
            f"writes them again: {extra:,} of {mine['n_samples'].sum():,} rollouts are counted "
            "again. Drop them."
        )


def _several_in_one(looked: Looked) -> Iterator[str]:
    """Problems of several tasks have one name."""
    for name in _TASKS:
        if name not in looked.some:
            continue
        values = looked.some[name].dropna().astype(str)
        numbers = values.groupby([looked.some[key] for key in _PROBLEM]).nunique()
        odd = numbers.index[numbers > 1]
        if len(odd):
            mine = looked.some[_PROBLEM].eq(list(odd[0])).all(axis=1)
            shown = ", ".join(repr(shorten(one, 40)) for one in values[mine].unique()[:3])
            yield (
                f"{_named(odd.get_level_values('run'))}: in {looked.count(key[1:] for key in odd)} "
                f"the column {name!r} has several values ({shown} in problem {odd[0][2]!r}). If "
                "these are problems of one name, tell them apart: --columns "
                f"problem_id={name}+problem_id,name=problem_id."
            )
            return


def _names_alike(looked: Looked) -> Iterator[str]:
    """Names of problems differ in surrounding blanks only, in one run or between two."""
    names = looked.table[["split", "problem_id"]].astype(str).drop_duplicates()
    stripped = names["problem_id"].str.strip()
    first = names.groupby(["split", stripped], sort=False)["problem_id"].transform("first")
    odd = names[first != names["problem_id"]]
    if len(odd):
        yield (
            f"{plural(len(odd), 'problem')} and others have names that differ in blanks only "
            f"({first[odd.index[0]]!r} and {odd['problem_id'].iloc[0]!r}), and count as several: "
            "spell them alike."
        )


def _in_error(looked: Looked) -> Iterator[str]:
    """Rollouts that ended in an error count as answers."""
    if "errors" not in looked.missing:
        return
    shares = looked.accounts.groupby("run", sort=False)["errors"].max()
    odd = shares[shares > 0.05]
    if len(odd):
        yield (
            f"{_named(map(str, odd.index))}: {odd.max():.0%} of the rollouts ended in an error, "
            "which says nothing about the model, but they count: sample them again, or leave them "
            "out."
        )


def _contradictions(looked: Looked) -> Iterator[str]:
    """One answer of a problem is graded both right and wrong."""
    if "answer" not in looked.some:
        return
    rows = looked.some[looked.some["answer"].notna()]
    graded = rows.groupby([*_PROBLEM, "answer"], observed=True)["correct"].agg(["min", "max"])
    both = graded.index[(graded["min"] != graded["max"]).to_numpy()]
    if not len(both):
        yield from _other_verdicts(looked, graded["max"].reset_index())
        return
    open_ = rows.groupby(_PROBLEM)["correct"].transform("nunique") > 1
    single = rows[open_].groupby(_PROBLEM)["answer"].nunique().eq(1).mean()
    run, _, problem, answer = both[0]
    runs = _named(both.get_level_values("run"))
    if single > 0.9:
        yield (
            f"{runs}: right and wrong rollouts of a problem have the same answer ({answer!r} in "
            f"problem {problem!r}). The column 'answer' seems to hold the expected answer, not the "
            "model's: name another one with --columns answer=NAME, or leave distinct answers out "
            "with --no-distinct."
        )
        return
    yield (
        f"{runs}: in {looked.count(key[1:3] for key in both)} one answer is graded both right and "
        f"wrong ({answer!r} in problem {problem!r} of {run!r}). Is the grader random, or the "
        "answer not all that it sees?"
    )


def _other_verdicts(looked: Looked, verdicts: pd.DataFrame) -> Iterator[str]:
    """An answer is right in one run and wrong in another."""
    keys = ["split", "problem_id", "answer"]
    apart = verdicts[verdicts.groupby(keys, observed=True)["max"].transform("nunique") > 1]
    if len(apart):
        first = apart[(apart[keys] == apart[keys].iloc[0]).all(axis=1)].sort_values("max")
        wrong, right = first["run"].iloc[[0, -1]]
        yield (
            f"In {looked.count(apart[keys[:2]].itertuples(index=False, name=None))} an answer is "
            f"right in one run and wrong in another ({first['answer'].iloc[0]!r} in problem "
            f"{first['problem_id'].iloc[0]!r}: right in {right!r}, wrong in {wrong!r}). Were they "
            "graded alike?"
        )


def _spellings(looked: Looked) -> Iterator[str]:
    """Right answers of a problem differ in spelling only, or there are several for one question."""
    if "answer" not in looked.some:
        return
    right = looked.some[looked.some["correct"] & looked.some["answer"].notna()]
    right = right.drop_duplicates([*_PROBLEM, "answer"])
    right = right.assign(normal=right["answer"].astype(str).map(normal_form))
    counts = right.groupby(_PROBLEM)[["answer", "normal"]].nunique()
    alike = counts.index[counts["answer"] > counts["normal"]]
    if not len(alike):
        yield from _more_than_expected(looked, right, counts.index[counts["normal"] > 1])
        return
    mine = right.set_index(_PROBLEM).loc[[alike[0]]]
    first = mine.groupby("normal")["answer"].agg(list).map(sorted)
    shown = ", ".join(map(repr, next(a for a in first if len(a) > 1)[:4]))
    yield (
        f"{_named(alike.get_level_values('run'))}: in {looked.count(key[1:] for key in alike)} "
        f"right answers differ in spelling only ({shown}), and count as distinct; with "
        "--normalize-answers they are one."
    )


def _more_than_expected(looked: Looked, right: pd.DataFrame, several: pd.Index) -> Iterator[str]:
    """Several answers are right where a column holds the one that is expected."""
    for name in REFERENCES:
        if name not in right or not len(several):
            continue
        expected = right.groupby(_PROBLEM)[name].nunique()
        one = several[(expected[several] == 1).to_numpy()]
        # Elsewhere the column has several, too, and the problems have several solutions.
        if len(one) <= 0.5 * len(several) or (expected > 1).any():
            continue
        mine = right.set_index(_PROBLEM).loc[[one[0]], "answer"]
        yield (
            f"{_named(one.get_level_values('run'))}: in {looked.count(key[1:] for key in one)} "
            f"several answers are right ({', '.join(map(repr, mine[:4]))} in problem "
            f"{one[0][2]!r}), though one is expected (column {name!r}). Distinct answers may count "
            "spellings."
        )
        return


def _placeholders(looked: Looked) -> Iterator[str]:
    """Words for "no answer" count as answers."""
    if "answer" not in looked.some:
        return
    rows = looked.some[looked.some["answer"].notna()]
    wrong = set(rows["answer"]) - set(rows.loc[rows["correct"], "answer"])
    odd = rows[rows["answer"].isin([answer for answer in wrong if is_placeholder(answer)])]
    if len(odd):
        share = len(odd) / looked.some["run"].isin(odd["run"]).sum()
        yield (
            f"{_named(odd['run'])}: {share:.0%} of the answers stand for none "
            f"({', '.join(map(repr, odd['answer'].unique()[:3]))}), but vote in maj@k; with "
            "--normalize-answers they are none."
        )


def _guessing(looked: Looked) -> Iterator[str]:
    """Answers are letters of a multiple choice."""
    if "answer" not in looked.some:
        return
    answers = looked.some["answer"].dropna().astype(str).str.strip()
    letters = {found[1].upper() for a in answers.unique() if (found := _LETTER.fullmatch(a))}
    k = int(looked.table["n_samples"].min())
    if len(letters) > 1 and answers.str.fullmatch(_LETTER.pattern).mean() > 0.95:
        chance = 1 - (1 - 1 / len(letters)) ** k
        yield (
            f"The answers are the letters {', '.join(sorted(letters))}: guessing alone gives "
            f"pass@{k} of about {chance:.2f}."
        )


def _other_conditions(looked: Looked) -> Iterator[str]:
    """A run has clearly more rollouts without an answer, without text, cut off, or in error."""
    accounts = looked.accounts
    for name in _SAID:
        if name not in looked.missing:
            continue
        for split, part in accounts.groupby("split", sort=False):
            share = part.set_index("run")[name].dropna()
            if len(share) < 2:
                continue
            most, least = str(share.idxmax()), str(share.idxmin())
            gap = share[most] - share[least]
            if gap > 0.05 and gap > 4 * _error(looked.missing, name, str(split), [most, least]):
                yield (
                    f"{share[most]:.0%} of the rollouts of {most!r} and {share[least]:.0%} of "
                    f"{least!r} {_SAID[name]}?"
                )
                break


def _error(missing: pd.DataFrame, name: str, split: str, runs: list[str]) -> float:
    """Standard error of a difference of shares: of rollouts, or of problems, if that is more."""
    rows = missing[(missing["split"] == split) & missing["run"].isin(runs)]
    rows = rows.astype({"run": str, "problem_id": str})
    known, hits = (
        rows.pivot_table(column, "problem_id", "run", "sum", fill_value=0)[runs]
        for column in (f"known {name}", name)
    )
    off = (hits - known * hits.sum() / known.sum()) / known.sum()
    pooled = hits.to_numpy().sum() / known.to_numpy().sum()
    of_rollouts = pooled * (1 - pooled) * (1 / known.sum()).sum()
    of_problems = ((off[runs[0]] - off[runs[1]]) ** 2).sum()
    return float(np.sqrt(max(of_rollouts, of_problems)))


_CHECKS: tuple[Callable[[Looked], Iterator[str]], ...] = (
    _equal_texts,
    _samples_again,
    _several_in_one,
    _names_alike,
    _in_error,
    _contradictions,
    _spellings,
    _placeholders,
    _other_conditions,
    _guessing,
)
