"""Tables of rollouts and of a teacher's scores, from rows."""

import pandas as pd


def rollout_table(rows):
    return pd.DataFrame(rows, columns=["problem_id", "sample_id", "correct", "answer"])


def score_table(rows):
    names = ["problem_id", "sample_id", "demo_id", "logprob", "logprob_given_demo"]
    return pd.DataFrame(rows, columns=names)
