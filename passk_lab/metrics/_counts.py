"""Counts as arguments: checked by place, broadcast, and each distinct pair computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from passk_lab.metrics._hypergeometric import Floats


def over_distinct(
    kernel: Callable[[Floats, Floats, Floats], Floats],
    n_samples: npt.ArrayLike,
    n_correct: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    name: str = "k",
    beyond_n: bool = False,
) -> Any:
    """Broadcast, check, and evaluate the kernel once for each distinct (n, c) and each k."""
    n = whole_numbers(n_samples, "n_samples")
    c = whole_numbers(n_correct, "n_correct")
    draws = whole_numbers(k, name)
    check_counts(n, c, draws, name, beyond_n)
    problems = np.broadcast_shapes(n.shape, c.shape)
    shape = np.broadcast_shapes(problems, draws.shape)
    if 0 in shape:
        return np.empty(shape)
    ndim = len(shape)
    problems = (1,) * (ndim - len(problems)) + problems
    across = (1,) * (ndim - draws.ndim) + draws.shape
    down = [axis for axis in range(ndim) if problems[axis] > 1]
    along = [axis for axis in range(ndim) if across[axis] > 1]
    if set(down) & set(along):
        # k varies along with the problems: (n, c, k) as they come.
        result = kernel(*(np.broadcast_to(v, shape).astype(np.float64) for v in (n, c, draws)))
    else:
        n_once, c_once, place = _distinct_pairs(n, c)
        # The kernel broadcasts, so that its parts of (n, c) or k alone are computed once; numpy
        # is fastest with the long axis last.
        ks = draws.reshape(-1, 1).astype(np.float64)
        table = kernel(n_once.astype(np.float64), c_once.astype(np.float64), ks)
        rows = np.ascontiguousarray(table.T).take(place, axis=0)
        result = rows.reshape([shape[axis] for axis in down + along])
        result = result.transpose(np.argsort(down + along)).reshape(shape)
    return float(result) if ndim == 0 else result


def _distinct_pairs(
    n: npt.NDArray[np.int64], c: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct (n, c), and for each pair (flat) its place among them."""
    lowest, width = n.min(), c.max() + 1
    if n.size == 1:
        key = c.ravel()
    else:
        n, c = np.broadcast_arrays(n, c)
        key = ((n - lowest) * width + c).ravel()
    space = int((n.max() - lowest + 1) * width)
    if space > 4 * len(key) + 1024:
        distinct, place = np.unique(key, return_inverse=True)
    else:
        seen = np.zeros(space, dtype=bool)
        seen[key] = True
        distinct = np.flatnonzero(seen)
        places = np.empty(space, dtype=np.int64)
        places[distinct] = np.arange(len(distinct))
        place = places[key]
    return distinct // width + lowest, distinct % width, place


def whole_numbers(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    """Turn array_like into int64; refuse missing, fractional and non-numeric values by place."""
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "O" or array.dtype.kind in "US":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must hold whole numbers: {error}") from error
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array != np.floor(array))
        refuse(bad, name, array, "is not a whole number")
        return array.astype(np.int64)
    if array.dtype.kind == "b" and array.size:
        raise ValueError(f"{name} must hold whole numbers, not booleans; count them first")
    if array.size == 0:
        return array.astype(np.int64)
    raise ValueError(f"{name} must hold whole numbers, not {array.dtype}")


def refuse(bad: npt.NDArray[np.bool_], name: str, values: npt.NDArray[Any], rule: str) -> None:
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f"[{', '.join(map(str, place))}]" if place else ""
        value = np.broadcast_to(values, bad.shape)[place].item()
        raise ValueError(f"{name}{where}={value} {rule}")


def check_counts(
    n: npt.NDArray[np.int64],
    c: npt.NDArray[np.int64],
    k: npt.NDArray[np.int64],
    name: str = "k",
    beyond_n: bool = False,
) -> None:
    """Refuse counts out of their range, naming the first one."""
    if not (n.size and c.size and k.size):
        return
    refuse(n < 0, "n_samples", n, "must not be negative")
    refuse(c < 0, "n_correct", c, "must not be negative")
    refuse(k < 1, name, k, "must be at least 1")
    refuse(c > n, "n_correct", c, "exceeds n_samples; count correct samples among all samples")
    if not beyond_n and k.max() > n.min():
        rule = (
            f"exceeds n_samples (least: {n.min()}); draw at most n samples, or extrapolate with "
            "passk_lab.stats.extrapolate.extrapolate_pass_at_k"
        )
        refuse(k > n, name, k, rule)


def check_share(tau: npt.ArrayLike, name: str = "tau") -> Floats:
    """Turn array_like into floats above 0 and up to 1; refuse others by place."""
    share = np.asarray(tau, dtype=np.float64)
    refuse(~((share > 0) & (share <= 1)), name, share, "must be above 0 and at most 1")
    return share


def least_correct(n: Floats, share: Floats) -> Floats:
    """Give ceil(share * n), at least 1."""
    # 0.1 * 30 is a little more than 3 in floating point; the ceiling must still be 3.
    return np.maximum(np.ceil(share * n - 1e-9 * n), 1)
