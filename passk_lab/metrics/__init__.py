"""Estimators: arrays in, arrays out. All of them are importable from here."""

from passk_lab._lazy import lazy
from passk_lab.metrics.coverage import (
    cover_at_tau,
    pass_at_k_auc,
    sharpening_tax,
    solved_share,
    support_change,
)
from passk_lab.metrics.embedders import (
    CachedEmbedder,
    Embedder,
    SentenceEmbedder,
    embed,
    find_embedder,
)
from passk_lab.metrics.embedding import (
    effective_rank,
    pairwise_cosine_distance,
    semantic_modes,
    vendi_score,
)
from passk_lab.metrics.entropy import (
    entropy_per_token,
    entropy_rate,
    mean_token_entropy,
    sequence_entropy,
    sequence_entropy_from_tokens,
)
from passk_lab.metrics.functional import (
    ModeCounts,
    chao1,
    distinct_at_k,
    good_turing_coverage,
    hill_number,
    semantic_entropy,
    two_modes_at_k,
)
from passk_lab.metrics.ngram import (
    Texts,
    compression_ratio,
    distinct_n,
    ead,
    ngram_diversity_score,
    rouge_l_homogenisation,
    self_bleu,
    self_repetition,
)
from passk_lab.metrics.novelty import distinct_k, utility_k
from passk_lab.metrics.passk import (
    bayes_pass_at_k,
    best_of_k,
    g_pass_at_k,
    maj_at_k,
    max_at_k,
    mg_pass_at_k,
    pass_at_k,
    pass_hat_k,
)
from passk_lab.metrics.registry import METRICS, Metric, find_metric, metric
from passk_lab.metrics.tokenizers import TOKENIZERS, tokenize

__all__ = [
    "METRICS",
    "TOKENIZERS",
    "CachedEmbedder",
    "Embedder",
    "Metric",
    "ModeCounts",
    "SentenceEmbedder",
    "Texts",
    "bayes_pass_at_k",
    "best_of_k",
    "chao1",
    "compression_ratio",
    "cover_at_tau",
    "distinct_at_k",
    "distinct_k",
    "distinct_n",
    "ead",
    "effective_rank",
    "embed",
    "entropy_per_token",
    "entropy_rate",
    "find_embedder",
    "find_metric",
    "g_pass_at_k",
    "good_turing_coverage",
    "hill_number",
    "maj_at_k",
    "max_at_k",
    "mean_token_entropy",
    "metric",
    "mg_pass_at_k",
    "ngram_diversity_score",
    "pairwise_cosine_distance",
    "pass_at_k",
    "pass_at_k_auc",
    "pass_hat_k",
    "rouge_l_homogenisation",
    "self_bleu",
    "self_repetition",
    "semantic_entropy",
    "semantic_modes",
    "sequence_entropy",
    "sequence_entropy_from_tokens",
    "sharpening_tax",
    "solved_share",
    "support_change",
    "tokenize",
    "two_modes_at_k",
    "utility_k",
    "vendi_score",
]

__getattr__, __dir__ = lazy(__name__, __all__)
