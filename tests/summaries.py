"""Means over problems of one family of diversity metrics, for tests."""

from passk_lab.rollouts.counting import as_counts
from passk_lab.stats._estimates import mean_table
from passk_lab.stats._families import (
    entropy_values,
    functional_values,
    ngram_values,
    split_options,
)
from passk_lab.stats.resampling import Resampling
from passk_lab.stats.values import ProblemValues

BY = ("run", "split")


def _means(values, by, how):
    return mean_table(ProblemValues.of_frame(values, by), by, "metric", how).drop(columns="n_seeds")


def functional_summary(rollouts, k=None, correct_only=True, by=BY, **resampling):
    table = as_counts(rollouts, list(by), modes=True)
    ks = table["n_samples"].min() if k is None else k
    values = functional_values(table, ks, correct_only, list(by))
    return _means(values, list(by), Resampling(**resampling))


def entropy_summary(rollouts, metrics=None, by=BY, **resampling):
    values = entropy_values(rollouts, metrics, list(by))
    return _means(values, list(by), Resampling(**resampling)).drop(columns="n_defined")


def ngram_summary(rollouts, metrics=None, by=BY, **options):
    choice, how = split_options(options)
    values, size = ngram_values(rollouts, metrics, list(by), choice, how.generator())
    return _means(values, list(by), how).assign(n_samples=size or 0)
