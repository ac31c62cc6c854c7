"""The bootstrap over problems, and seeds, of this room's tables: one place to exchange it."""

from __future__ import annotations

import numpy as np

from passk_lab.stats.intervals import bootstrap_replicates, percentiles
from passk_lab.stats.seeds import problem_weights, seed_replicates
from passk_lab.teacher._arguments import Floats, Ints, RandomState


class Bootstrap:
    """Settings of the resampling, and the source of randomness that a table's rows share."""

    def __init__(self, n_resamples: int, confidence: float, random_state: RandomState) -> None:
        self.n_resamples = n_resamples
        self.confidence = confidence
        self.rng = np.random.default_rng(random_state)

    def means(self, values: Floats) -> Floats:
        """Means over resampled problems and seeds of values [seeds, problems, columns]."""
        if len(values) == 1:
            return bootstrap_replicates(values[0], self.n_resamples, self.rng)
        weights = problem_weights(values.shape[1], self.n_resamples, self.rng)
        return seed_replicates(values, weights, self.rng)

    def counts(self, n_problems: int) -> Ints:
        """How often each problem is drawn, shape (n_resamples, n_problems)."""
        uniform = np.full(n_problems, 1 / n_problems)
        return self.rng.multinomial(n_problems, uniform, size=self.n_resamples)

    def ends(self, drawn: Floats, n_problems: int) -> tuple[Floats, Floats]:
        """Limits of each column of replicates."""
        return percentiles(drawn, self.confidence, n_problems)
