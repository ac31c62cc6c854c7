"""Score the base's answers with every correct path as a demonstration; see README.md.

``python data/paths/score.py lab`` reads the base's rollouts of a suite, and writes
``answers.parquet`` (every correct path of each problem, and the wrong ones that the base gave) and
``scores.parquet`` beside this file. A demonstration with a number from 1000 on is a correct path of
another problem: what any context does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from passk_lab.lab.experiments.suite import SUITES
from passk_lab.lab.model import load_model
from passk_lab.lab.scoring import score
from passk_lab.lab.tasks.paths import PathPrompt
from passk_lab.rollouts import atomic_write, read_rollouts

HERE = Path(__file__).resolve().parent
N_CONTROLS = 4
OTHERS = 1000  # numbers of demonstrations from other problems


def list_answers(prompts: list[PathPrompt], rollouts: pd.DataFrame) -> pd.DataFrame:
    """Every correct path of each problem and the wrong answers of its rollouts, numbered."""
    task = SUITES["paths"].task
    wrong = rollouts[~rollouts["correct"] & rollouts["answer"].notna()]
    given = wrong.groupby("problem_id")["answer"].unique()
    parts = []
    for prompt in prompts:
        right = task.correct_answers(prompt)
        others = sorted(given.get(prompt.problem_id, []))
        parts.append(
            pd.DataFrame(
                {
                    "problem_id": prompt.problem_id,
                    "sample_id": np.arange(len(right) + len(others)),
                    "correct": np.arange(len(right) + len(others)) < len(right),
                    "answer": [*right, *others],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def controls(answers: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A few correct paths of other problems for each problem."""
    right = answers[answers["correct"]]
    parts = []
    for problem in answers["problem_id"].unique():
        others = right[right["problem_id"] != problem]
        drawn = others.iloc[rng.choice(len(others), N_CONTROLS, replace=False)]
        ids = OTHERS + np.arange(N_CONTROLS)
        parts.append(drawn.assign(problem_id=problem, sample_id=ids, correct=False))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Score and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lab", type=Path, help="folder that the suite wrote")
    lab = parser.parse_args().lab
    suite = SUITES["paths"]
    base = load_model(HERE / "base")
    prompts = suite.evaluation_prompts(base)["id"]
    rollouts = read_rollouts(lab / "rollouts" / "base-0.parquet")
    answers = list_answers(prompts, rollouts[rollouts["split"] == "id"])
    other = controls(answers, np.random.default_rng(0))
    scores = score(
        base,
        {prompt.problem_id: prompt for prompt in prompts},
        pd.concat([answers, other], ignore_index=True),
        pd.concat([answers[answers["correct"]], other], ignore_index=True),
        encoder=suite.task,
    )
    scores = scores[scores["sample_id"] < OTHERS]
    scores = scores.astype({"logprob": "float32", "logprob_given_demo": "float32"})
    scores = scores.astype({"sample_id": "int16", "demo_id": "int16", "n_tokens": "int8"})
    for name, table in (("answers", answers), ("scores", scores)):
        with atomic_write(HERE / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False, compression="zstd")


if __name__ == "__main__":
    main()
