"""What every training has: steps that resume, a log, checkpoints, a loss that must be a number."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from passk_lab.lab._checkpoint import list_checkpoints, load_checkpoint, save_checkpoint


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the step was finished and saved; the message says how to go on."""


@dataclass
class Run:
    """What changes in training, and the folder that keeps it.

    ``settings`` are those that a run must resume with; ``average`` follows the model.
    """

    folder: Path
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    settings: Mapping[str, Any]
    average: PreTrainedModel | None = None

    def steps(
        self, until: int, save_every: int, label: str, progress: bool
    ) -> Generator[int, None, None]:
        """Go through the steps to take, from the newest checkpoint on; save, and heed Ctrl-C."""
        first = self._resume(until)
        bar = tqdm(range(first, until), label, until, initial=first, disable=not progress)
        with _finish_step() as stop:
            for step in bar:
                yield step
                done = step + 1
                if done == until or stop.is_set() or done % save_every == 0:
                    self._save(self.folder, done)
                if stop.is_set():
                    raise Interrupted(
                        f"stopped after step {done}, which is saved in {self.folder}; the same "
                        "command goes on from there"
                    )

    def learn(self, loss: torch.Tensor, step: int, rate: float, max_norm: float) -> float:
        """Take an optimizer step; the gradient's norm before it was clipped."""
        if not torch.isfinite(loss):
            kept = self.folder / "not-finite"
            self._save(kept, step)
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {step}; the state before the update is saved "
                f"in {kept}"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        self.optimizer.step()
        return float(norm)

    def _resume(self, until: int) -> int:
        """Load the newest checkpoint of at most so many steps, if there is one; steps done so far.

        Where all kept ones are beyond, the steps are taken anew: they give the same numbers.
        """
        for checkpoint in reversed(list_checkpoints(self.folder)):
            if load_checkpoint(checkpoint, config=self.settings)["step"] <= until:
                state = load_checkpoint(checkpoint, self.model, self.optimizer)
                if self.average is not None:
                    self.average.load_state_dict(state["teacher"])
                return int(state["step"])
        return 0

    def _save(self, folder: Path, step: int) -> None:
        state: dict[str, Any] = {"step": step}
        if self.average is not None:
            state["teacher"] = self.average.state_dict()
        save_checkpoint(folder, self.model, self.optimizer, state=state, config=self.settings)


def log_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    """Append one line to ``metrics.jsonl``; lines of steps that are run again are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = text.splitlines()
    kept = len(lines)
    # Steps ascend, so what is to be replaced stands at the end; so does a line cut short by a kill.
    while kept and not _before(lines[kept - 1], record["step"]):
        kept -= 1
    whole = kept == len(lines) and text.endswith("\n")
    with open(path, "a" if whole else "w") as file:
        if not whole:
            file.writelines(line + "\n" for line in lines[:kept])
        file.write(json.dumps(record) + "\n")


def _before(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] < step)
    except (json.JSONDecodeError, KeyError, TypeError):
        return False


@contextmanager
def _finish_step() -> Iterator[Event]:
    """Let Ctrl-C wait for the end of the step; a second one stops at once."""
    stop = Event()

    def request(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    try:
        before = signal.signal(signal.SIGINT, request)
    except ValueError:  # not in the main thread: whoever runs us handles it
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
