"""Rollouts drawn for tests."""

import numpy as np
import pandas as pd


def rollouts(rates, n=8, seed=0, **columns):
    """Runs by their chance of a correct sample in each problem.

    Samples are n, or a number a problem. Answers 0 to 2 are right and 3 to 8 wrong; some scores
    are equal.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for run, p in rates.items():
        problem = np.repeat(np.arange(len(p)), n)
        size = len(problem)
        correct = rng.random(size) < np.asarray(p)[problem]
        answer = np.where(correct, rng.integers(0, 3, size), rng.integers(3, 9, size)).astype(str)
        names = [f"p{i:03d}" for i in problem]
        part = {"run": run, "problem_id": names, "correct": correct, "answer": answer}
        parts.append(pd.DataFrame({**part, "score": correct + rng.normal(size=size).round(1)}))
    return pd.concat(parts, ignore_index=True).assign(**columns)
