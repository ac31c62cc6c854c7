"""Join the replies of a finished science suite into the files beside this one.

``python data/science/collect.py lab --model model.gguf --questions sciknoweval`` reads what
``passk-lab train --suite science --out lab`` wrote and

- gives each reply a mode: replies to a question, of all runs, that mean about the same
  (`passk_lab.metrics.embedding.with_semantic_modes`, default model and threshold);
- scores the base's replies with and without correct ones (`passk_lab.lab.scoring.score`).

Texts are left out: they repeat questions that aren't ours to give away. Needs the extras ``train``
and ``embed``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from passk_lab.lab.questions import TransformersBackend
from passk_lab.lab.scoring import score
from passk_lab.lab.tasks import TextEncoder, load_questions
from passk_lab.metrics.embedding import THRESHOLD
from passk_lab.rollouts import atomic_write, read_metadata, read_rollouts, write_rollouts
from passk_lab.stats.diversity import with_semantic_modes

HERE = Path(__file__).resolve().parent
COLUMNS = [
    "run", "split", "seed", "problem_id", "sample_id", "correct", "answer", "mode", "ended",
    "logprob", "n_tokens", "token_entropy",
]  # fmt: skip
N_DEMOS = 4


def joined(files: list[Path]) -> pd.DataFrame:
    """All rollouts, with the mode of each text; the base's are numbered through all seeds."""
    table = pd.concat([read_rollouts(file) for file in files], ignore_index=True)
    # The base is one model under all seeds, so that scores of its replies need no seed.
    per_seed = table["sample_id"].max() + 1
    table.loc[table["run"] == "base", "sample_id"] += table["seed"] * per_seed
    # An empty reply means nothing, and nothing can be embedded of it.
    texts = table.assign(text=table["text"].where(table["text"] != "", "(empty)"))
    return table.assign(mode=with_semantic_modes(texts)["answer"].to_numpy())


def base_rollouts(table: pd.DataFrame) -> pd.DataFrame:
    """Replies of the base that can be scored: one that was cut off has no end to count."""
    base = table[(table["run"] == "base") & (table["text"] != "") & table["ended"]]
    return base.drop(columns="seed").sort_values(["problem_id", "sample_id"], ignore_index=True)


def scored(base: pd.DataFrame, model: str, questions: str) -> pd.DataFrame:
    """Scores of the base's replies; wrong replies as well, alone and after correct ones."""
    backend = TransformersBackend.load(model)
    prompts = {q.problem_id: q.text for q in load_questions(questions, others="skip")}
    demos = base[base["correct"]].groupby("problem_id").head(N_DEMOS)
    return score(
        backend.model, prompts, base, demos, encoder=TextEncoder(backend.tokenizer), text="text"
    )


def main() -> None:
    """Read a suite's folder and write the files beside this one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lab", type=Path, help="folder that the suite wrote")
    parser.add_argument("--model", required=True, help="the base: folder, GGUF file or hub name")
    parser.add_argument("--questions", required=True, help="the questions that were asked")
    options = parser.parse_args()
    files = sorted((options.lab / "rollouts").glob("*.parquet"))
    table = joined(files)
    note = {"command": "python data/science/collect.py lab", "threshold": THRESHOLD}
    note |= {file.stem: read_metadata(file) for file in files}
    kept = table[COLUMNS].round({"logprob": 2, "token_entropy": 3})
    write_rollouts(kept, HERE / "rollouts.parquet", note)
    scores = scored(base_rollouts(table), options.model, options.questions)
    narrow = {"logprob": np.float32, "logprob_given_demo": np.float32}
    with atomic_write(HERE / "scores.parquet") as temporary:
        scores.astype(narrow).to_parquet(temporary, index=False, compression="zstd")


if __name__ == "__main__":
    main()
