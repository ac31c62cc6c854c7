"""Watch other people's trainers: rollouts recorded and pass@k reported while TRL trains.

    trainer = GRPOTrainer(model, reward_funcs=exact, ...)   # or SDPOTrainer
    record(trainer, "rollouts", answer=parse)
    trainer.train()

Every batch of completions becomes rows of the rollouts table, in files of one folder:

    passk-lab report rollouts/*.parquet --baseline train --out report

and at each logging step the trainer reports, beside its own numbers, ``passk/pass@k``,
``passk/distinct@k`` and an alarm. docs/hooks.md has more. Written for TRL 1.16.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from passk_lab.lab._decoding import evaluating
from passk_lab.lab.sampling import score
from passk_lab.metrics.functional import distinct_at_k
from passk_lab.metrics.passk import pass_at_k
from passk_lab.readers import stable_id
from passk_lab.rollouts._cells import completion_text, spell_messages
from passk_lab.rollouts.counting import counts
from passk_lab.rollouts.files import read_rollouts, write_rollouts
from passk_lab.rollouts.table import PathLike
from passk_lab.stats.intervals import bootstrap_mean
from passk_lab.stats.values import default_ks

__all__ = ["record"]

_LOG = logging.getLogger(__name__)
_ROWS_AT_ONCE = 64  # that are scored
_FEWEST_PAIRS = 10  # problems below which a mean difference has no interval worth the name


def record(
    trainer: Any,
    folder: PathLike,
    *,
    run: str = "train",
    reward: str | None = None,
    threshold: float = 1.0,
    answer: Callable[[str], str | None] | None = None,
    logprobs: bool = True,
    confidence: float = 0.99,
) -> None:
    """Record a trainer's rollouts and report pass@k, distinct@k and a collapse alarm.

    docs/hooks.md says what is written and reported.

    Parameters
    ----------
    trainer : GRPOTrainer, RLOOTrainer, SDPOTrainer, ...
        A trainer of TRL that samples completions and calls reward functions.
    folder : path
        Where the rollouts go; new or empty, except where training resumes from a checkpoint.
    run : str
        The column ``run``.
    reward : str, optional
        Name of the reward function that says what is correct; needed where there are several.
    threshold : float
        A completion is correct if its reward is at least this.
    answer : callable, optional
        From a completion's text to its canonical answer, or None. Without it there is neither
        distinct@k nor the alarm. A correct completion for which it gives None stands for itself.
    logprobs : bool
        Score every completion under the policy that sampled it, at the trainer's temperature.
    confidence : float
        Of the alarm's interval. It is looked at again and again, so keep it high.

    Raises
    ------
    ValueError
        The trainer has no reward functions, or several and none was chosen; the one in question is
        a model or asynchronous.
    """
    recorder = _Recorder(trainer, Path(folder), run, threshold, answer, logprobs, confidence)
    functions = getattr(trainer, "reward_funcs", None)
    if not functions:
        raise ValueError("the trainer has no reward functions, so nothing says what is correct")
    names = [getattr(f, "__name__", type(f).__name__) for f in functions]
    if reward is None and len(names) > 1:
        raise ValueError(
            f"several rewards ({', '.join(names)}): choose the one that says what is correct "
            "with reward=..."
        )
    if reward is not None and reward not in names:
        raise ValueError(f"reward {reward!r} is none of {', '.join(names)}")
    place = 0 if reward is None else names.index(reward)
    function = functions[place]
    if isinstance(function, torch.nn.Module) or inspect.iscoroutinefunction(function):
        raise ValueError(
            f"reward {names[place]!r} must be a plain function; models and coroutines can't be "
            "watched"
        )

    @functools.wraps(function)
    def watched(*args: Any, **columns: Any) -> Any:
        rewards = function(*args, **columns)
        recorder.take(rewards, **columns)
        return rewards

    functions[place] = watched
    # In front, so that the callbacks that report see what is added to the logs.
    trainer.callback_handler.callbacks.insert(0, recorder)


@dataclass(eq=False)
class _Recorder(TrainerCallback):
    """What `record` attaches; several processes gather their rows, and the main one writes."""

    trainer: Any
    folder: Path
    run: str
    threshold: float
    answer: Callable[[str], str | None] | None
    logprobs: bool
    confidence: float

    def __post_init__(self) -> None:
        self._begun = False
        self._unwritten: dict[str, list[dict[str, Any]]] = {}
        self._unreported: dict[str, list[dict[str, Any]]] = {}
        self._ungraded: Counter[str] = Counter()
        self._next_sample: Counter[tuple[str, int, str]] = Counter()
        # (split, problem) -> its counts when it was first seen.
        self._first: dict[tuple[str, str], Mapping[Any, Any]] = {}

    def take(
        self,
        rewards: Sequence[float | None],
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        problem_id: Sequence[Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep a batch of completions and their rewards."""
        trainer = self.trainer
        step = int(trainer.state.global_step)
        self._begin(step)
        split = "train" if trainer.model.training else "eval"
        spelled = [p if isinstance(p, str) else spell_messages(p) for p in prompts]
        names = map(stable_id, spelled) if problem_id is None else map(str, problem_id)
        logprobs: Sequence[float | None] = [None] * len(prompts)
        if self.logprobs:
            logprobs = self._score(prompts, completion_ids)
        rows = []
        for name, prompt, completion, ids, value, logprob in zip(
            names, spelled, completions, completion_ids, rewards, logprobs, strict=True
        ):
            text = completion_text(completion)
            correct = value is not None and bool(value >= self.threshold)
            row = {
                **{"run": self.run, "split": split, "problem_id": name, "step": step},
                **{"score": value, "correct": correct, "text": text, "n_tokens": len(ids)},
                **{"temperature": trainer.temperature, "prompt": prompt},
            }
            if logprob is not None:
                row["logprob"] = logprob
            if self.answer is not None:
                found = self.answer(text)
                row["answer"] = text.strip() if found is None and correct else found
            rows.append(row)
        for row in gather_object(rows):
            if row["score"] is None:
                self._ungraded[split] += 1
                continue
            place = (split, step, row["problem_id"])
            row["sample_id"] = self._next_sample[place]
            self._next_sample[place] += 1
            self._unwritten.setdefault(split, []).append(row)
            self._unreported.setdefault(split, []).append(row)

    @torch.no_grad()
    def _score(
        self, prompts: Sequence[Any], completion_ids: Sequence[Sequence[int]]
    ) -> list[float | None]:
        """Log-probability of each completion; None for one without tokens."""
        trainer, model = self.trainer, self.trainer.model
        written = [i for i, ids in enumerate(completion_ids) if len(ids)]
        contexts = _prompt_tokens(trainer, prompts)
        with evaluating(model):
            values = score(
                model,
                [contexts[i] for i in written],
                [list(completion_ids[i]) for i in written],
                pad_id=0,  # masked, so any token will do
                temperature=trainer.temperature,
                batch_rows=_ROWS_AT_ONCE,
            )
        totals = values.double().sum(dim=1).clamp(max=0.0).tolist()
        found = dict(zip(written, totals, strict=True))
        return [found.get(i) for i in range(len(completion_ids))]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on with the files of an interrupted training, or refuse those of another one."""
        self._begin(int(state.global_step))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Add the measures to the logs, and write the rollouts."""
        split = "eval" if any(str(name).startswith("eval_") for name in logs) else "train"
        rows = self._unreported.pop(split, [])
        if rows and state.is_world_process_zero:
            prefix = "passk/" if split == "train" else "eval_passk/"
            found = {prefix + name: value for name, value in self._measure(rows).items()}
            if self._ungraded[split]:
                found[f"{prefix}ungraded"] = float(self._ungraded.pop(split))
            logs.update(found)
            state.log_history[-1].update(found)
        self._write(state.is_world_process_zero)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what a training that resumes from this checkpoint won't sample again."""
        self._write(state.is_world_process_zero)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what is left."""
        self._write(state.is_world_process_zero)

    def _begin(self, step: int) -> None:
        if self._begun:
            return
        self._begun = True
        if not self.trainer.accelerator.is_main_process:
            return  # the main one alone reads, writes and reports
        files = sorted(self.folder.glob("*.parquet"))
        if files and step == 0:
            raise ValueError(
                f"{self.folder} holds the rollouts of another training; choose another folder, or "
                "resume that training from a checkpoint"
            )
        for file in files:
            table = read_rollouts(file)
            # Training samples these steps again. An evaluation precedes the checkpoint.
            again = table["step"] >= step + (table["split"] == "eval")
            if again.all():
                file.unlink()
            elif again.any():
                write_rollouts(table[~again], file)
            table = table[~again]
            if len(table):
                places = table.groupby(["split", "step", "problem_id"]).size()
                self._next_sample.update(dict(places))
                self._measure(table.to_dict(orient="records"))

    def _write(self, main: bool) -> None:
        for split, rows in self._unwritten.items():
            if not rows or not main:
                continue
            table = pd.DataFrame(rows)
            file = self.folder / f"{split}-{table['step'].max():08d}.parquet"
            if file.exists():
                table = pd.concat([read_rollouts(file), table], ignore_index=True)
            write_rollouts(table, file, {"recorded_from": type(self.trainer).__name__})
        self._unwritten.clear()

    def _measure(self, rows: Sequence[Mapping[Any, Any]]) -> dict[str, float]:
        table = pd.DataFrame.from_records(list(rows))
        per_problem = counts(table, by=["split", "step"], modes=self.answer is not None)
        n = per_problem["n_samples"].to_numpy()
        ks = np.array(default_ks(int(n.min())))
        passed = pass_at_k(n[:, None], per_problem["n_correct"].to_numpy()[:, None], ks)
        found = {f"pass@{k}": float(v) for k, v in zip(ks, np.mean(passed, axis=0), strict=True)}
        if self.answer is not None:
            cells = list(per_problem["correct_mode_counts"])
            distinct = distinct_at_k(cells, int(ks[-1]), n_samples=n)
            found[f"distinct@{ks[-1]}"] = float(np.mean(distinct))
            found |= self._change(per_problem)
        return {**found, "problems": float(per_problem["problem_id"].nunique())}

    def _change(self, per_problem: pd.DataFrame) -> dict[str, float]:
        """Distinct correct answers now against the first time that a problem was seen."""
        pairs = []
        latest: dict[tuple[str, str], Mapping[Any, Any]] = {}
        row: Mapping[Any, Any]
        for row in per_problem.sort_values("step", kind="stable").to_dict(orient="records"):
            place = (str(row["split"]), str(row["problem_id"]))
            latest[place] = row
            self._first.setdefault(place, row)
        for place, row in latest.items():
            if row["step"] > self._first[place]["step"]:
                pairs.append((self._first[place], row))
        if len(pairs) < _FEWEST_PAIRS:
            return {}
        k = min(row["n_samples"] for pair in pairs for row in pair)
        values = []
        for side in zip(*pairs, strict=True):
            modes, n = zip(*((r["correct_mode_counts"], r["n_samples"]) for r in side), strict=True)
            values.append(np.asarray(distinct_at_k(list(modes), k, n_samples=np.array(n))))
        change = values[1] - values[0]
        low, high = bootstrap_mean(change, confidence=self.confidence, random_state=0)
        collapse = bool(high < 0)
        if collapse:
            _LOG.warning(
                "distinct correct answers fell by %.3g of %.3g among %d samples on %d problems "
                "(%g %% interval of the change: %.3g to %.3g)",
                -change.mean(), values[0].mean(), k, len(change), 100 * self.confidence, low, high,
            )  # fmt: skip
        return {
            "distinct_change": float(change.mean()),
            "distinct_change_low": float(low),
            "distinct_change_high": float(high),
            "paired": float(len(change)),
            "collapse": float(collapse),
        }


def _prompt_tokens(trainer: Any, prompts: Sequence[Any]) -> list[list[int]]:
    """Tokens of the prompts as the trainer gives them to the model."""
    if isinstance(prompts[0], str):
        tokens = trainer.processing_class(text=list(prompts))["input_ids"]
    else:
        tokens = trainer.processing_class.apply_chat_template(
            conversation=list(prompts),
            tools=getattr(trainer, "tools", None) or None,
            chat_template=getattr(trainer, "chat_template", None),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **(trainer.chat_template_kwargs or {}),
        )["input_ids"]
    longest = getattr(trainer, "max_prompt_length", None)
    return [list(ids) if longest is None else list(ids)[-longest:] for ids in tokens]
