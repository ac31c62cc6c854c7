"""Teacher scores, checked against their rollouts and gathered into a matrix of answers a problem.

Scores have ``problem_id``, ``sample_id`` (the rollout), ``demo_id`` (the ``sample_id`` of the
rollout shown), ``logprob`` and ``logprob_given_demo`` (nats, NaN where a pair was not scored);
rollouts say which answer each is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from passk_lab.rollouts.table import validate_rollouts
from passk_lab.teacher._arguments import Floats, Law, refuse_row, require_columns

ROLLOUT = ["problem_id", "sample_id"]
_PAIR = [*ROLLOUT, "demo_id"]
_LOGS = ["logprob", "logprob_given_demo"]
_ZERO = 1e-6  # log-probabilities summed in low precision may exceed 0 by so much


def checked_scores(scores: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
    """Check teacher scores against the rollouts they belong to; `expected_tilt` says for what.

    Gives the scores with ``answer, correct, demo_answer`` and ``pcmi`` (nats; NaN where
    ``logprob_given_demo`` is, -inf where that is).
    """
    table = _read(scores, [*_PAIR, *_LOGS], "scores")
    refuse_row(
        table.duplicated(_PAIR),
        "scores: row {row}: the pair of problem {0!r}, rollout {1} and demonstration {2} occurs "
        "twice; keep one",
        table[_PAIR],
    )
    known = _read_rollouts(rollouts)
    for place, prefix in (("sample_id", ""), ("demo_id", "demo_")):
        names = {name: prefix + name for name in ("answer", "correct")} | {"sample_id": place}
        table = table.merge(known.rename(columns=names), on=["problem_id", place], how="left")
        ids, right = table[["problem_id", place]], table[f"{prefix}correct"]
        refuse_row(
            right.isna(),
            f"scores: column {place!r}, row {{row}}: problem {{0!r}} has no rollout {{1}}; give "
            "the rollouts that were scored, demonstrations among them",
            ids,
        )
        table[f"{prefix}correct"] = right.astype(bool)
        refuse_row(
            table[f"{prefix}correct"] & table[f"{prefix}answer"].isna(),
            f"rollouts: column 'answer': rollout {{1}} of problem {{0!r}} (scores: {place!r}, row "
            "{row}) is correct and has no answer; give its canonical form",
            ids,
        )
    refuse_row(
        ~table.pop("demo_correct"),
        "scores: column 'demo_id', row {row}: demonstration {1} of problem {0!r} is incorrect; "
        "drop it",
        table[["problem_id", "demo_id"]],
    )
    return table.assign(pcmi=table["logprob_given_demo"] - table["logprob"])


@dataclass(frozen=True)
class Problem:
    """Scores of one problem, averaged over the rollouts and demonstrations of each answer."""

    name: str
    modes: list[str]  # correct answers that were scored, rows
    demo_modes: list[str]  # answers that were shown, columns
    matrix: Floats  # (n_modes, n_demo_modes), NaN where missing
    log_base: Floats  # (n_modes,)
    incorrect: Floats | None  # (n_demo_modes,), mean over incorrect rollouts
    counts: dict[str, int]  # correct rollouts with each answer

    def demo_law(self, law: Law) -> tuple[Floats, float]:
        """Give q over the columns, and its share on answers never shown."""
        counts = dict.fromkeys(self.counts, 1) if law == "uniform" else self.counts
        shown = np.array([counts[mode] for mode in self.demo_modes], dtype=float)
        return shown / shown.sum(), float(1 - shown.sum() / sum(counts.values()))


def problems(scores: pd.DataFrame, rollouts: pd.DataFrame, drop_self: bool) -> Iterator[Problem]:
    """Yield the problems with a scored correct rollout; arguments as for `tilt_sources`."""
    pairs = checked_scores(scores, rollouts)
    if drop_self:
        pairs = pairs[pairs["sample_id"] != pairs["demo_id"]]
    pairs = pairs[pairs["pcmi"].notna()]
    # First over demonstrations, then over rollouts: each rollout counts alike.
    each = _means(pairs, ["problem_id", "correct", "sample_id", "answer", "demo_answer"])
    cells = _means(each[each["correct"]], ["problem_id", "answer", "demo_answer"])
    cells = cells.astype(object)  # many small lookups follow, which Arrow's strings are slow at
    wrong = _nested(_means(each[~each["correct"]], ["problem_id", "demo_answer"]))
    scored = pairs[pairs["correct"]].drop_duplicates(ROLLOUT)
    bases = _nested(_means(scored.assign(pcmi=scored["logprob"]), ["problem_id", "answer"]))
    known = _read_rollouts(rollouts)
    right = known[known["correct"]]
    counts = _nested(right.groupby(["problem_id", "answer"]).size().reset_index())
    for name, part in cells.groupby("problem_id", sort=False):
        rows, modes = pd.factorize(part["answer"], sort=True)
        columns, demo_modes = pd.factorize(part["demo_answer"], sort=True)
        matrix = np.full((len(modes), len(demo_modes)), np.nan)
        matrix[rows, columns] = part["pcmi"].to_numpy(float)
        incorrect = None
        if name in wrong:
            incorrect = np.array([wrong[name].get(mode, np.nan) for mode in demo_modes])
        log_base = np.array([bases[name][mode] for mode in modes])
        labels = str(name), list(modes), list(demo_modes)
        yield Problem(*labels, matrix, log_base, incorrect, counts[name])


def context_effects(control: pd.DataFrame, rollouts: pd.DataFrame) -> dict[Any, dict[str, float]]:
    """PCMI of each problem's correct answers given demonstrations of other problems."""
    table = _read(control, [*ROLLOUT, *_LOGS], "control")
    refuse_row(
        ~np.isfinite(table["logprob_given_demo"]),
        "control: column 'logprob_given_demo', row {row}: {0} isn't finite; leave the row out",
        table[["logprob_given_demo"]],
    )
    table = table.merge(_read_rollouts(rollouts), on=ROLLOUT, how="left")
    refuse_row(
        table["correct"].isna(),
        "control: column 'sample_id', row {row}: problem {0!r} has no rollout {1}",
        table[ROLLOUT],
    )
    table["pcmi"] = table["logprob_given_demo"] - table["logprob"]
    right = table[table["correct"].astype(bool)]
    each = _means(right, ["problem_id", "answer", "sample_id"])
    return _nested(_means(each, ["problem_id", "answer"]))


def _means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean of ``pcmi`` in each group; unlike pandas' own it is -inf, not NaN, if one of them is."""
    code = table.groupby(keys, dropna=False).ngroup().to_numpy()
    _, first, size = np.unique(code, return_index=True, return_counts=True)
    total = np.bincount(code, table["pcmi"].to_numpy(float))
    return table[keys].iloc[first].assign(pcmi=total / size).reset_index(drop=True)


def _nested(table: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    """Values of the third column by problem and answer, the first two."""
    result: dict[Any, dict[str, Any]] = {}
    for problem, answer, value in zip(*(table[name].tolist() for name in table), strict=True):
        result.setdefault(problem, {})[answer] = value
    return result


def _read(table: pd.DataFrame, names: Sequence[str], source: str) -> pd.DataFrame:
    require_columns(table, names, source)
    table = table[list(names)].reset_index(drop=True).astype({"problem_id": str})
    for name in {"sample_id", "demo_id"} & set(names):
        try:
            table[name] = table[name].astype("int64")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{source}: column {name!r} must hold whole numbers, the sample_id of a rollout: "
                f"{error}"
            ) from error
    for name in _LOGS:
        table[name] = table[name].astype(float)
        refuse_row(
            table[name] > _ZERO,
            f"{source}: column {name!r}, row {{row}}: {{0}} is positive and so no "
            "log-probability; sum the tokens' log-probabilities in nats",
            table[[name]],
        )
    refuse_row(
        ~np.isfinite(table["logprob"]),
        f"{source}: column 'logprob', row {{row}}: {{0}} isn't finite, yet the base sampled the "
        "rollout; score it again without a demonstration",
        table[["logprob"]],
    )
    return table


def _read_rollouts(rollouts: pd.DataFrame) -> pd.DataFrame:
    names = [*ROLLOUT, "correct", "answer"]
    require_columns(rollouts, names[1:], "rollouts")
    table = validate_rollouts(rollouts)
    refuse_row(
        table.duplicated(ROLLOUT),
        "rollouts: row {row}: problem {0!r} has two rollouts {1}; keep the run that was scored",
        table[ROLLOUT],
    )
    return table[names].astype({"problem_id": str})
