"""What a reader of a report should know about its data, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from passk_lab._text import plural
from passk_lab.stats.checkpoints import first_narrower


def gaps(table: pd.DataFrame, baseline: str | None, runs: Sequence[str]) -> Iterable[str]:
    """Say which runs have no counterpart in the baseline, wholly or for some problems."""
    if baseline is None:
        hint = f"runs here: {', '.join(runs)}" if len(runs) > 1 else "add its rollouts first"
        yield (
            "No baseline was given, so nothing is compared. Name one with --baseline RUN "
            f"(baseline=... in Python; {hint})."
        )
        return
    if len(runs) == 1:
        yield "The baseline is the only run; add the rollouts of a run to compare."
    for split, rows in table.groupby("split", sort=False):
        problems = {run: set(part["problem_id"]) for run, part in rows.groupby("run", sort=False)}
        if baseline not in problems:
            yield f"Split {split!r} has no rollouts of the baseline, so nothing is compared there."
            continue
        reference = problems.pop(baseline)
        for run, mine in problems.items():
            alone = mine ^ reference
            if alone:
                shown = ", ".join(map(repr, sorted(map(str, alone))[:2]))
                yield (
                    f"Run {run!r}, split {split!r}: {plural(len(alone), 'problem')} that only the "
                    f"run or only the baseline has ({shown}) {'are' if len(alone) > 1 else 'is'} "
                    f"left out; {len(mine & reference)} are compared."
                )


def short_of_samples(table: pd.DataFrame) -> Iterable[str]:
    """Point at few problems whose few samples end the curves of all early."""
    found: dict[str, list[str]] = {}
    for (run, split), rows in table.groupby(["run", "split"], sort=False):
        n = rows["n_samples"]
        enough = int(n.quantile(0.1, interpolation="lower"))
        few = rows[n < enough]
        if len(few) and enough >= 2 * int(n.min()):
            first = few.sort_values("n_samples", kind="stable").iloc[0]
            said = (
                f"split {split!r}: problem {first['problem_id']!r} has "
                f"{plural(int(first['n_samples']), 'sample')}, and {len(rows) - len(few)} of "
                f"{len(rows)} have {enough} or more, so that curves end at k = {int(n.min())}; "
                f"--min-samples {enough} leaves out the {plural(len(few), 'problem')} with fewer."
            )
            found.setdefault(said, []).append(repr(run))
    for said, runs in found.items():
        yield f"Run{'s' if len(runs) > 1 else ''} {', '.join(runs)}, {said}"


def narrowing(table: pd.DataFrame) -> Iterable[str]:
    """Say at which checkpoint a run is narrower first."""
    for (run, split), step in first_narrower(table).items():
        where = f"Run {run!r}, split {split!r}"
        if step is None:
            yield f"{where}: reach is narrower at none of its checkpoints, as far as can be told."
        else:
            yield f"{where}: reach is narrower first at the checkpoint of step {step}."


def extremes(table: pd.DataFrame, runs: Sequence[str]) -> Iterable[str]:
    """Point at runs that are all wrong or all right, where mostly the verifier is at fault."""
    for run in runs:
        rows = table[table["run"] == run]
        n, c = int(rows["n_samples"].sum()), int(rows["n_correct"].sum())
        if c == 0:
            yield f"Run {run!r}: none of {n:,} rollouts is correct. Check that the verifier ran."
        elif c == n:
            yield f"Run {run!r}: all {n:,} rollouts are correct. Check that the verifier can fail."


def answers(table: pd.DataFrame, asked: bool | None) -> tuple[dict[str, bool], list[str]]:
    """Whether distinct answers say more than pass@k, split by split, and why they don't."""
    splits = list(dict.fromkeys(table["split"]))
    if "correct_mode_counts" not in table:
        said = (
            "The rollouts have no column 'answer' (the canonical answer): a loss of distinct "
            "correct answers would not be seen."
        )
        return dict.fromkeys(splits, False), [said] if asked is None else []
    several = table["correct_mode_counts"].map(len) > 1
    found = {split: bool(several[table["split"] == split].any()) for split in splits}
    notes = []
    for split in splits:
        if not found[split]:
            where = f"Split {split!r}: no" if len(splits) > 1 else "No"
            notes.append(
                f"{where} problem has two different correct answers, so distinct answers say no "
                "more than pass@k and are left out."
            )
    return found, notes
