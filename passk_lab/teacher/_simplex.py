"""Probabilities of modes, and their logarithms, for many worlds at once: [world, mode]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passk_lab.teacher._arguments import Bools, Floats, refuse_entry


def log_sum(log_values: Floats, axis: int = -1, keepdims: bool = False) -> Floats:
    """As scipy's logsumexp, whose checks would take most of the time here."""
    top = np.maximum(log_values.max(axis=axis, keepdims=True), -1e300)
    total = np.exp(log_values - top).sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        result = np.log(total) + top
    return np.asarray(result if keepdims else result.squeeze(axis))


def normalised(log_values: Floats, axis: int = -1) -> Floats:
    """Logarithms of probabilities that sum to 1; NaN where there is nothing."""
    total = log_sum(log_values, axis=axis, keepdims=True)
    return np.asarray(
        np.subtract(log_values, total, where=total > -np.inf, out=np.full(log_values.shape, np.nan))
    )


def times(weight: Floats, values: Floats) -> Floats:
    """Product in which a weight of 0 takes no notice of infinite values."""
    weight, values = np.broadcast_arrays(weight, values)
    return np.multiply(weight, values, out=np.zeros(values.shape), where=weight != 0)


def above_zero(log_values: Floats) -> Floats:
    """Zero probabilities as the smallest ones, for quotients that are not used."""
    return np.maximum(log_values, -1e300)


def probabilities(values: npt.ArrayLike, name: str) -> Floats:
    """Probabilities with two axes and the exact sum 1; ValueError names what is none."""
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"{name} must have shape (n_modes,) or (n_worlds, n_modes), not {array.shape}"
        )
    bad = ~(np.isfinite(array) & (array >= 0))
    refuse_entry(bad, array, name, "; probabilities are finite and not negative")
    total = array.sum(axis=1)
    if (np.abs(total - 1) > 1e-6).any():
        at = int(np.argmax(np.abs(total - 1)))
        raise ValueError(f"{name}[{at}] sums to {total[at]:.6g}; normalise it to 1")
    return np.asarray(array / total[:, None])


def fitting(values: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> Floats:
    """Finite numbers, broadcast to the shape of the worlds or of their policies."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(f"{name} has shape {array.shape}, which doesn't fit {shape}") from error


class World:
    """What all worlds have: ``log_base`` and ``correct``, shape (n_worlds, n_modes)."""

    log_base: Floats
    correct: Bools

    def __init__(self, base: npt.ArrayLike, correct: npt.ArrayLike) -> None:
        p = probabilities(base, "base")
        mask = np.asarray(correct)
        if mask.dtype != bool:
            raise ValueError(f"correct holds {mask.dtype}; give booleans")
        try:
            self.correct = np.broadcast_to(mask, p.shape)
        except ValueError as error:
            raise ValueError(f"correct has shape {mask.shape}, but base {p.shape}") from error
        some = (self.correct & (p > 0)).any(axis=1)
        if not some.all():
            raise ValueError(
                f"world {int(np.argmin(some))} gives no correct answer, so nothing can be "
                "demonstrated"
            )
        with np.errstate(divide="ignore"):
            self.log_base = np.log(p)

    def pcmi(self, log_policy: Floats) -> Floats:
        """M(y, c), nats, of a teacher made from a policy, shape (n_worlds, n_modes, n_demos)."""
        raise NotImplementedError

    def tilt(self, log_policy: Floats, demos: Floats) -> Floats:
        """Σ_c q(c) M(y, c) up to a constant of each world, shape (n_worlds, n_modes)."""
        weights = np.broadcast_to(demos[:, None, :], (*demos.shape, demos.shape[1]))
        return np.asarray(times(weights, self.pcmi(log_policy)).sum(axis=2))
