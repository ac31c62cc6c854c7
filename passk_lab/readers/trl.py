"""TRL: the ``completions_<step>.parquet`` that GRPOTrainer writes with ``log_completions=True``.

They lie in ``<output_dir>/completions``, one a logging step, one row a completion: ``step``,
``prompt``, ``completion``, a column a reward function, columns that reward functions logged
(``log_extra``), and ``advantage``. Prompt and completion are text or lists of messages. RLOO,
SDPO and SDFT trainers of TRL 1.16 write no such files; DistillationTrainer's have no reward.

A file holds the *latest generation batch*: with ``logging_steps`` above 1 the batches between are
not on disk, and a batch that serves several steps (``steps_per_generation``, ``num_iterations``) is
logged again at each: see ``repeated``. Completions of an evaluation go into the same file and can't
be told apart, so evaluate without ``log_completions``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from passk_lab._text import check_choice
from passk_lab.readers import _shared as shared
from passk_lab.readers.common import stable_id
from passk_lab.rollouts._cells import completion_text, spell_messages
from passk_lab.rollouts._parquet import open_parquet, read_parquet
from passk_lab.rollouts.table import PathLike

__all__ = ["read_trl"]

_FIELDS = ("step", "prompt", "completion", "advantage")
_NAME = re.compile(r"completions_([0-9]+)\.parquet")


def _source_files(path: Path) -> list[Path]:
    """Give the file itself, or a folder's ``completions_<step>.parquet`` in order of steps."""
    if not path.is_dir():
        return [path]
    folders = [path, path / "completions"]
    found = {f: _NAME.fullmatch(f.name) for folder in folders for f in folder.glob("*.parquet")}
    steps = {file: int(match[1]) for file, match in found.items() if match}
    if not steps:
        raise ValueError(
            f"{path}: no completions_<step>.parquet in this folder; train with log_completions=True"
        )
    return sorted(steps, key=lambda file: (steps[file], file))


@shared.reads_files(_source_files)
def read_trl(
    path: PathLike,
    *,
    reward: str | Sequence[str] | None = None,
    threshold: float = 1.0,
    answer: str | None = None,
    repeated: Literal["refuse", "drop", "keep"] = "refuse",
    unscored: shared.Unscored = "refuse",
) -> pd.DataFrame:
    """Read completions that TRL logged while it trained.

    Parameters
    ----------
    path : path
        A ``completions`` folder, the output folder it lies in, or one parquet file.
    reward : str or sequence of str, optional
        The column that says what is correct. Needed where there are several columns of floats. Of
        several names the first that gave a reward counts, row by row, as where each kind of prompt
        has a reward function of its own.
    threshold : float
        A completion is correct if its reward is at least ``threshold``.
    answer : str, optional
        The column with the canonical answer, if a reward function logged it.
    repeated : {"refuse", "drop", "keep"}
        What to do if a file holds the very completions of the file before it: "drop" if they are
        the same rollouts, used for another step, "keep" if the model gave the same texts again.
    unscored : {"refuse", "drop", "incorrect"}
        What to do with completions that the reward function gave nothing (None).

    Returns
    -------
    DataFrame
        The rollouts table with ``problem_id`` (`passk_lab.readers.stable_id` of the prompt),
        ``step``, ``score`` (the reward), and all columns of the file; one whose name has another
        meaning in the rollouts table is called ``trl_<name>``.

    Raises
    ------
    ValueError
        No or several possible rewards, a missing reward, completions logged repeatedly.

    Examples
    --------
    >>> import tempfile
    >>> frame = pd.DataFrame({"step": [5, 5], "prompt": ["2+3?"] * 2, "completion": ["5", "6"],
    ...                       "exact": [1.0, 0.0], "advantage": [0.7, -0.7]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_parquet(Path(folder, "completions_00005.parquet"))
    ...     read_trl(folder)[["text", "correct"]].to_numpy().tolist()
    [['5', True], ['6', False]]
    """
    check_choice(repeated, ("refuse", "drop", "keep"), "repeated")
    path = Path(path)
    parts: list[pd.DataFrame] = []
    before: pd.DataFrame | None = None
    for file in _source_files(path):
        part = _read_file(file)
        if part.empty:  # logged before the first completions, by an evaluation or an early end
            continue
        again = before is not None and part.drop(columns="step").equals(before)
        before = part.drop(columns="step")
        if again and repeated == "refuse":
            raise ValueError(
                f"{file}: holds the very completions of the file before it: repeated='drop' if "
                "they served several steps, repeated='keep' if the model really gave them again"
            )
        if again and repeated == "drop":
            continue
        rewards = _reward(part, reward, str(file))
        table = _rollouts(part, rewards, answer, str(file))
        parts.append(shared.graded(table, str(rewards.name), threshold, unscored, str(file)))
    if not parts:
        raise ValueError(f"{path}: no completions were logged")
    return shared.joined(parts, str(path))


def _read_file(file: Path) -> pd.DataFrame:
    with open_parquet(file) as parquet:
        names = parquet.schema_arrow.names
        shared.require_fields(names, _FIELDS, str(file), "a completions file of TRL's GRPOTrainer")
        table = read_parquet(parquet, names, file)
    frame = table.to_pandas()
    prompts, completions = (table[name].to_pylist() for name in ("prompt", "completion"))
    for name, cells in (("prompt", prompts), ("completion", completions)):
        for row, cell in enumerate(cells):
            if not isinstance(cell, str | list):
                raise ValueError(
                    f"{file}: column {name!r}, row {row}: {cell!r} is neither text nor messages"
                )
    frame["prompt"] = [p if isinstance(p, str) else spell_messages(p) for p in prompts]
    frame["completion"] = [completion_text(c) for c in completions]
    return frame


def _own(part: pd.DataFrame) -> list[str]:
    return [name for name in part.columns if name not in _FIELDS]


def _require_own(part: pd.DataFrame, name: str, option: str, source: str) -> None:
    if name not in _own(part):
        raise ValueError(
            f"{source}: no column {name!r} for {option}; it has {', '.join(_own(part)) or 'none'}"
        )


def _reward(part: pd.DataFrame, reward: str | Sequence[str] | None, source: str) -> pd.Series:
    """Give the rewards, of several columns the first that has one, row by row."""
    known = [name for name in _own(part) if pd.api.types.is_float_dtype(part[name].dtype)]
    if reward is None and len(known) != 1:
        raise ValueError(
            f"{source}: {'several columns' if known else 'no column'} could be the reward"
            f"{' (' + ', '.join(known) + ')' if known else ''}; choose one with reward=..."
        )
    chosen = known if reward is None else [reward] if isinstance(reward, str) else list(reward)
    for name in chosen:
        _require_own(part, name, "reward", source)
    return part[chosen].bfill(axis=1).iloc[:, 0].rename(" or ".join(chosen))


def _rollouts(
    part: pd.DataFrame, rewards: pd.Series, answer: str | None, source: str
) -> pd.DataFrame:
    made = {
        "problem_id": part["prompt"].map(stable_id),
        "step": part["step"],
        "correct": rewards,
        "score": rewards,
        "text": part["completion"],
    }
    if answer is not None:
        _require_own(part, answer, "answer", source)
        made["answer"] = part[answer]
    return shared.with_rest(made, part.drop(columns=["completion", "step"]), "trl")
