"""Entropy of the policy, from saved log-probabilities. Everything in nats.

What is estimated is the entropy H = -Σ_y p(y) log p(y) of whole answers y of one problem: -log p(y)
of a sampled answer has the expectation H, and so has the sum over its tokens of the entropy of each
next token, which mostly varies less. Both need log-probabilities under the law that sampled (after
temperature, top-k and top-p, over the whole vocabulary, with the end token counted, no answer cut
short). Scored by another policy, the first estimates a cross-entropy.

All take arrays of shape (n_samples,): ``logprob``, log p(y) summed over tokens; ``token_entropy``,
a mean over tokens; ``n_tokens``, with the end token. They return a value and its standard error
(inf with one sample), and raise a ValueError that names the place where a value is missing,
infinite or of the wrong sign, an answer has no tokens to divide by, or shapes differ.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passk_lab.metrics._counts import refuse
from passk_lab.metrics._hypergeometric import Floats
from passk_lab.metrics.registry import metric

__all__ = [
    "entropy_per_token",
    "entropy_rate",
    "mean_token_entropy",
    "sequence_entropy",
    "sequence_entropy_from_tokens",
]


@metric("logprobs", columns=("logprob",), better="neither")
def sequence_entropy(logprob: npt.ArrayLike) -> tuple[float, float]:
    """Entropy of whole answers, -mean log p(y), and its standard error.

    Examples
    --------
    >>> entropy, error = sequence_entropy(np.log([0.5, 0.25, 0.25, 0.5]))
    >>> round(entropy, 4), round(error, 4)
    (1.0397, 0.2001)
    """
    return _mean_and_error(_surprisals(logprob))


@metric("logprobs", columns=("token_entropy", "n_tokens"), better="neither")
def sequence_entropy_from_tokens(
    token_entropy: npt.ArrayLike, n_tokens: npt.ArrayLike
) -> tuple[float, float]:
    """Entropy of whole answers from the entropies of their next tokens, and its standard error.

    The mean over samples of Σ_t H(next token | prefix t).

    Examples
    --------
    >>> entropy, error = sequence_entropy_from_tokens([0.5, 0.4], [4, 6])
    >>> round(entropy, 4), round(error, 4)
    (2.2, 0.2)
    """
    entropy = _entropies(token_entropy)
    return _mean_and_error(entropy * _lengths(n_tokens, len(entropy), least=0))


@metric("logprobs", columns=("logprob", "n_tokens"), better="neither")
def entropy_per_token(logprob: npt.ArrayLike, n_tokens: npt.ArrayLike) -> tuple[float, float]:
    """Mean over answers of -log p(y) / n_tokens, and its standard error.

    Every answer has the same weight, in `entropy_rate` every token.

    Examples
    --------
    >>> entropy_per_token([-2.0, -3.0], [4, 2])
    (1.0, 0.5)
    """
    values = _surprisals(logprob)
    return _mean_and_error(values / _lengths(n_tokens, len(values)))


@metric("logprobs", columns=("logprob", "n_tokens"), better="neither")
def entropy_rate(logprob: npt.ArrayLike, n_tokens: npt.ArrayLike) -> tuple[float, float]:
    """Σ -log p(y) / Σ n_tokens over answers, and its standard error (delta method).

    Estimates H / E n_tokens with a bias that falls as 1 / n_samples.

    Examples
    --------
    >>> rate, error = entropy_rate([-2.0, -3.0], [4, 2])
    >>> round(rate, 4), round(error, 4)
    (0.8333, 0.4444)
    """
    values = _surprisals(logprob)
    lengths = _lengths(n_tokens, len(values))
    rate = float(values.sum() / lengths.sum())
    _, error = _mean_and_error(values - rate * lengths)
    return rate, error / float(lengths.mean())


@metric("logprobs", "token_entropy", columns=("token_entropy",), better="neither")
def mean_token_entropy(token_entropy: npt.ArrayLike) -> tuple[float, float]:
    """Mean entropy of the next token, and its standard error.

    Examples
    --------
    >>> mean_token_entropy([0.5, 0.2])[0]
    0.35
    """
    return _mean_and_error(_entropies(token_entropy))


def _mean_and_error(values: Floats) -> tuple[float, float]:
    n = len(values)
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.inf
    return float(values.mean()), error


def _surprisals(logprob: npt.ArrayLike) -> Floats:
    array = _vector(logprob, "logprob")
    refuse(array > 1e-4, "logprob", array, "is positive; a log-probability must not be")
    return np.maximum(-array, 0.0)


def _entropies(token_entropy: npt.ArrayLike) -> Floats:
    array = _vector(token_entropy, "token_entropy")
    refuse(array < -1e-4, "token_entropy", array, "must not be negative")
    return np.maximum(array, 0.0)


def _lengths(n_tokens: npt.ArrayLike, size: int, least: int = 1) -> Floats:
    array = _vector(n_tokens, "n_tokens")
    if len(array) != size:
        raise ValueError(f"n_tokens has {len(array)} entries; give one for each of {size} samples")
    by_none = "leaves nothing to divide by; count the end token, or drop the sample"
    rule = by_none if least else "must not be negative"
    refuse(array < least, "n_tokens", array.astype(np.int64), rule)
    return array


def _vector(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must have shape (n_samples,), not {array.shape}")
    rule = "is not finite; save it with the rollout, or drop the sample"
    refuse(~np.isfinite(array), name, array, rule)
    return array
