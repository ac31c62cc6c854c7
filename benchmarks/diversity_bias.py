"""How diversity metrics depend on the number of samples: the tables of docs/diversity.md.

The truth is known because answers, texts and embeddings are drawn from a law written here. Run it
with ``python benchmarks/diversity_bias.py``; it takes some minutes and needs the extras ``text``
and ``embed`` (no model is loaded).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import put_tables, table
from scipy import stats
from tqdm import tqdm

from passk_lab.metrics import (
    compression_ratio,
    distinct_at_k,
    distinct_n,
    ead,
    effective_rank,
    hill_number,
    ngram_diversity_score,
    pairwise_cosine_distance,
    rouge_l_homogenisation,
    self_bleu,
    self_repetition,
    semantic_entropy,
    semantic_modes,
    vendi_score,
)

TARGET = Path(__file__).parent.parent / "docs" / "diversity.md"
SIZES = (8, 32, 128)
ROUNDS = 1_000
CLOSE = 0.05  # a bias that is called small, relative to the true value
N_SOLUTIONS, N_WORDS, VOCABULARY, DIMENSIONS = 24, 30, 2_000, 64
N_ALL_WORDS = VOCABULARY + N_SOLUTIONS * N_WORDS
SHARPER = 1.3  # the narrower run's frequencies are these powers, as at temperature 1 / 1.3
LARGE = 400_000  # draws that stand for the law itself, where its value has no formula


@dataclass(frozen=True)
class Problem:
    """One problem's solutions; a run differs from another in how often it takes each."""

    frequencies: np.ndarray
    centres: np.ndarray  # of the embeddings, (solutions, dimensions)

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
        """Answers, texts and embeddings of n samples."""
        solution = rng.choice(N_SOLUTIONS, n, p=self.frequencies)
        return {
            "answers": np.bincount(solution),
            "texts": [self._text(s, rng) for s in solution],
            "embeddings": self.embeddings(solution, rng),
        }

    def embeddings(self, solution: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Around each solution's centre, (samples, dimensions)."""
        noise = rng.normal(size=(len(solution), DIMENSIONS)) * 0.4 / np.sqrt(DIMENSIONS)
        return self.centres[solution] + noise

    def _text(self, solution: int, rng: np.random.Generator) -> str:
        """The solution's own words in order; each is left out or replaced by one of all runs."""
        own = VOCABULARY + solution * N_WORDS + np.arange(N_WORDS)
        common = rng.choice(VOCABULARY, N_WORDS, p=_zipf(VOCABULARY))
        words = np.where(rng.random(N_WORDS) < 0.35, common, own)[rng.random(N_WORDS) > 0.1]
        return " ".join(f"w{word}" for word in words)


def _zipf(n: int) -> np.ndarray:
    weights = 1 / np.arange(1, n + 1)
    return weights / weights.sum()


def problems() -> tuple[Problem, Problem]:
    centres = np.random.default_rng(7).normal(size=(N_SOLUTIONS, DIMENSIONS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    wide = _zipf(N_SOLUTIONS)
    narrow = wide**SHARPER / (wide**SHARPER).sum()
    return Problem(wide, centres), Problem(narrow, centres)


def hill(problem: Problem, q: float) -> float:
    p = problem.frequencies
    return float(np.exp(stats.entropy(p)) if q == 1 else (p**q).sum() ** (1 / (1 - q)))


def of_law(function: Callable[[np.ndarray], float]) -> Callable[[Problem], float]:
    def value(problem: Problem) -> float:
        rng = np.random.default_rng(11)
        solution = rng.choice(N_SOLUTIONS, LARGE, p=problem.frequencies)
        return function(problem.embeddings(solution, rng))

    return value


def mean_rouge(problem: Problem) -> float:
    rng = np.random.default_rng(11)
    values = [rouge_l_homogenisation(problem.draw(500, rng)["texts"]) for _ in range(20)]
    return float(np.mean(values))


def distinct_8(problem: Problem) -> float:
    return float((1 - (1 - problem.frequencies) ** 8).sum())


def modes_of(embeddings: np.ndarray) -> np.ndarray:
    return np.bincount(semantic_modes(embeddings))


@dataclass(frozen=True)
class Metric:
    """A metric, what it reads, its value for the law (or words), whether higher is more diverse."""

    name: str
    reads: str
    value: Callable[[Any], float]
    truth: Callable[[Problem], float] | str
    higher: bool = True
    harmonic: bool = False  # averaged as its inverse, for it is infinite where no two agree

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """The values as they are averaged, larger for the more diverse."""
        return (-1 / values if self.harmonic else values) * (1 if self.higher else -1)


METRICS = [
    Metric("distinct@8", "answers", lambda a: distinct_at_k(a, 8), distinct_8),
    *(
        Metric(
            f"Hill number, q = {q}, {kind}",
            "answers",
            partial(hill_number, q=q, estimator=kind),
            partial(hill, q=q),
            harmonic=q == 2,
        )
        for q in (0, 1, 2)
        for kind in ("naive", "corrected")
    ),
    *(
        Metric(
            f"semantic entropy, {kind.replace('_', '-')}",
            "answers",
            partial(semantic_entropy, estimator=kind),
            lambda problem: float(stats.entropy(problem.frequencies)),
        )
        for kind in ("naive", "miller_madow", "chao_jost")
    ),
    Metric(
        "cosine distance", "embeddings", pairwise_cosine_distance, of_law(pairwise_cosine_distance)
    ),
    *(
        Metric(
            f"Vendi score, q = {q}",
            "embeddings",
            partial(vendi_score, q=q),
            of_law(partial(vendi_score, q=q)),
        )
        for q in (1, 2)
    ),
    Metric("effective rank", "embeddings", effective_rank, of_law(effective_rank)),
    Metric("distinct@8 of semantic modes", "embeddings",
           lambda e: distinct_at_k(modes_of(e), 8), distinct_8),
    Metric("ROUGE-L homogenisation", "texts", rouge_l_homogenisation, mean_rouge, False),
    Metric("self-BLEU", "texts", self_bleu, "towards 1", False),
    Metric("self-repetition", "texts", self_repetition, "no limit", False),
    Metric("compression ratio, gzip", "texts", compression_ratio, "depends on length", False),
    Metric("compression ratio, zstd", "texts",
           lambda t: compression_ratio(t, "zstd"), "depends on length", False),
    Metric("distinct-1", "texts", lambda t: distinct_n(t, 1), "towards 0"),
    Metric("distinct-2", "texts", lambda t: distinct_n(t, 2), "towards 0"),
    Metric("n-gram diversity", "texts", ngram_diversity_score, "towards 0"),
    Metric("EAD", "texts", lambda t: ead(t, vocabulary_size=N_ALL_WORDS), "towards 1 at last"),
]  # fmt: skip


def simulate(problem: Problem, seed: int) -> dict[tuple[str, int], np.ndarray]:
    """Values of each metric in many data sets of each size."""
    found: dict[tuple[str, int], list[float]] = {}
    rng = np.random.default_rng(seed)
    for n in SIZES:
        for _ in tqdm(range(ROUNDS), desc=f"n = {n}", leave=False):
            sample = problem.draw(n, rng)
            for metric in METRICS:
                found.setdefault((metric.name, n), []).append(metric.value(sample[metric.reads]))
    return {key: np.array(values) for key, values in found.items()}


def bias_rows(problem: Problem, found: dict[tuple[str, int], np.ndarray]) -> list[list[str]]:
    rows = []
    for metric in tqdm(METRICS, desc="true values", leave=False):
        truth = metric.truth if isinstance(metric.truth, str) else metric.truth(problem)
        cells = []
        for n in SIZES:
            values = found[metric.name, n]
            mean = 1 / (1 / values).mean() if metric.harmonic else values.mean()
            close = not isinstance(truth, str) and abs(mean / truth - 1) <= CLOSE
            cells.append(f"**{mean:.3g}**" if close else f"{mean:.3g}")
        rows.append([metric.name, truth if isinstance(truth, str) else f"{truth:.3g}", *cells])
    return rows


def power_rows(
    wide: dict[tuple[str, int], np.ndarray], narrow: dict[tuple[str, int], np.ndarray]
) -> list[list[str]]:
    """Problems for a paired 95 % interval to exclude zero in 8 of 10 cases."""
    rows = []
    for metric in METRICS:
        cells = []
        for n in SIZES:
            a, b = (metric.averaged(of[metric.name, n]) for of in (wide, narrow))
            gap = a.mean() - b.mean()
            needed = (1.96 + 0.84) ** 2 * (a.var() + b.var()) / gap**2
            cells.append(f"{int(np.ceil(needed)):,}" if gap > 0 else "wrong way")
        rows.append([metric.name, *cells])
    return rows


def largest_error(found: dict[tuple[str, int], np.ndarray]) -> float:
    errors = []
    for metric in METRICS:
        for n in SIZES:
            values = metric.averaged(found[metric.name, n])
            errors.append(1.96 * values.std() / np.sqrt(len(values)) / abs(values.mean()))
    return max(errors)


def main() -> None:
    wide, narrow = problems()
    found, of_narrow = simulate(wide, 0), simulate(narrow, 1)
    sizes = [f"n = {n}" for n in SIZES]
    put_tables(
        TARGET,
        table(["metric", "true value", *sizes], bias_rows(wide, found)),
        table(["metric", *sizes], power_rows(found, of_narrow)),
    )
    orders = (hill(problem, 1) for problem in (wide, narrow))
    print(
        f"Monte Carlo error at most {largest_error(found):.1%}; effective solutions, order 1: "
        + " and ".join(f"{order:.1f}" for order in orders)
    )


if __name__ == "__main__":
    main()
