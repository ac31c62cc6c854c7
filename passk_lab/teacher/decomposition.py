"""What a teacher's mutual-information matrix is made of, and where the tilt comes from.

M[i, j] = log π(y_i | c_j) - log π(y_i), nats, for rollouts y_i and demonstrations c_j of a problem.
With weights w of the rollouts and reference weights ν of the demonstrations, both adding up to 1,

    M[i, j] = μ + a_i + b_j + g_ij,  Σ w a = Σ ν b = 0,  Σ_j ν_j g_ij = Σ_i w_i g_ij = 0

- μ moves all answers alike;
- a_i, the rollout's effect, is the teacher's own preference: it tilts ratios whatever is shown;
- b_j, the demonstration's effect, says how informative it is, and cancels under reverse KL;
- g_ij, the interaction, is affinity; where y_i and c_j are the same answer it is copying.

The tilt under demonstrations drawn from q is s_i = μ + a_i + Σ q b + Σ_j (q_j - ν_j) g_ij. The
reference must not be q itself: copying of frequent answers would hide in a_i. `tilt_sources` takes
one row and one column an answer (mode) and a uniform ν.

Tables: scores have ``problem_id``, ``sample_id`` (the rollout), ``demo_id`` (the ``sample_id`` of
the rollout shown), ``logprob`` and ``logprob_given_demo`` (nats, NaN where a pair was not scored);
rollouts say which answer each is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from passk_lab.rollouts.table import validate_rollouts
from passk_lab.stats.intervals import bootstrap_replicates, percentiles
from passk_lab.teacher._arguments import check_choice, require_columns

__all__ = [
    "SOURCES",
    "Decomposition",
    "asymmetry",
    "checked_scores",
    "decompose",
    "decomposition_table",
    "problem_decompositions",
    "source_table",
    "tilt_sources",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
RandomState = int | np.random.Generator | None
Law = Literal["policy", "uniform"]

SOURCES = (
    "constant",
    "any_context",
    "preference_copying",
    "preference_cross",
    "sampling_copying",
    "sampling_cross",
)

_SCORE_COLUMNS = ("problem_id", "sample_id", "demo_id", "logprob", "logprob_given_demo")
_ZERO = 1e-6  # log-probabilities summed in low precision may exceed 0 by so much


# --- Arrays ---


@dataclass(frozen=True)
class Decomposition:
    """A matrix taken apart into mean, rows, columns and the rest.

    Attributes
    ----------
    pcmi : array, shape (n_rollouts, n_demos)
        As given; NaN where missing.
    mean : float
        μ, nats.
    rollout_effect : array, shape (n_rollouts,)
        a; -inf for vetoed rollouts.
    demo_effect : array, shape (n_demos,)
        b.
    interaction : array, shape (n_rollouts, n_demos)
        g; NaN where the pair is missing or the rollout vetoed.
    rollout_weights, demo_weights : array
        w and ν, adding up to 1. Vetoed rollouts have weight 0.
    """

    pcmi: Floats
    mean: float
    rollout_effect: Floats
    demo_effect: Floats
    interaction: Floats
    rollout_weights: Floats
    demo_weights: Floats

    @property
    def vetoed(self) -> Bools:
        """Rollouts that some demonstration rules out, shape (n_rollouts,)."""
        return self.rollout_effect == -np.inf

    @property
    def n_missing(self) -> int:
        """Pairs that were not scored."""
        return int(np.isnan(self.pcmi).sum())

    @property
    def filled(self) -> Floats:
        """The matrix with missing pairs replaced by μ + a_i + b_j."""
        additive = self.mean + self.rollout_effect[:, None] + self.demo_effect
        return np.where(np.isnan(self.pcmi), additive, self.pcmi)

    def tilt(self, demo_law: npt.ArrayLike) -> Floats:
        """Tilt s under demonstrations drawn from a law, missing pairs filled.

        Parameters
        ----------
        demo_law : array_like, shape (n_demos,)
            q up to a factor.

        Returns
        -------
        array, shape (n_rollouts,)
            -inf where a demonstration with weight rules the rollout out.
        """
        q = _weights(demo_law, len(self.demo_effect), "demo_law")
        return self.filled[:, q > 0] @ q[q > 0]

    def shares(self) -> dict[str, float]:
        """Shares of the weighted sum of squares: rollout, demo, interaction.

        They add up to 1 if no pair is missing; if some are, only ``1 - interaction``, the share of
        all additive terms, is to be relied on. NaN for a matrix that is constant.
        """
        keep = ~np.isnan(self.interaction)
        weights = np.outer(self.rollout_weights, self.demo_weights) * keep
        values = np.where(keep, self.pcmi, 0.0)
        centre = (weights * values).sum() / weights.sum()
        total = (weights * np.where(keep, values - centre, 0.0) ** 2).sum()
        effect = np.where(self.vetoed, 0.0, self.rollout_effect)
        squares = {
            "rollout": (weights * effect[:, None] ** 2).sum(),
            "demo": (weights * self.demo_effect**2).sum(),
            "interaction": (weights * np.where(keep, self.interaction, 0.0) ** 2).sum(),
        }
        scale = float(np.abs(values).max()) ** 2
        if total <= 1e-24 * scale or total == 0:
            return dict.fromkeys(squares, float("nan"))
        return {name: float(value / total) for name, value in squares.items()}

    def within_minus_between(
        self, rollout_modes: Sequence[Any], demo_modes: Sequence[Any]
    ) -> float:
        """Mean interaction of pairs of the same mode less that of others, nats.

        Parameters
        ----------
        rollout_modes, demo_modes : sequence
            Label of each row and column.

        Returns
        -------
        float
            Weighted by w and ν; NaN without pairs of either kind.

        Raises
        ------
        ValueError
            A label is missing or in excess.
        """
        shape = len(rollout_modes), len(demo_modes)
        if shape != self.pcmi.shape:
            raise ValueError(f"{shape} labels for a matrix of {self.pcmi.shape}; give one for each")
        same = np.array([[row == column for column in demo_modes] for row in rollout_modes])
        keep = ~np.isnan(self.interaction)
        weights = np.outer(self.rollout_weights, self.demo_weights) * keep
        g = np.where(keep, self.interaction, 0.0)
        totals = (weights * same).sum(), (weights * ~same).sum()
        if not all(totals):
            return float("nan")
        return float(
            (weights * same * g).sum() / totals[0] - (weights * ~same * g).sum() / totals[1]
        )


def decompose(
    pcmi: npt.ArrayLike,
    rollout_weights: npt.ArrayLike | None = None,
    demo_weights: npt.ArrayLike | None = None,
) -> Decomposition:
    """Take a matrix apart into μ + a_i + b_j + g_ij.

    Parameters
    ----------
    pcmi : array_like, shape (n_rollouts, n_demos)
        Nats. NaN is a missing pair: the additive terms are then fitted to the others by weighted
        least squares. A row with -inf is a vetoed rollout, which is kept out of the fit.
    rollout_weights : array_like, shape (n_rollouts,), optional
        w up to a factor; uniform by default.
    demo_weights : array_like, shape (n_demos,), optional
        Reference ν up to a factor; uniform by default. Not the law that training draws
        demonstrations from, which would hide copying in the rollouts' effects.

    Returns
    -------
    Decomposition
        The four terms add up to the matrix exactly.

    Raises
    ------
    ValueError
        A value is +inf; a weight is negative; every row is vetoed; a row or column has no scored
        pair; the scored pairs fall apart into groups that share neither row nor column.

    Examples
    --------
    >>> parts = decompose([[3.0, 1.0], [0.0, 0.0]])
    >>> parts.mean, parts.rollout_effect.tolist(), parts.demo_effect.tolist()
    (1.0, [1.0, -1.0], [0.5, -0.5])
    >>> parts.interaction.tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    matrix = np.asarray(pcmi, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"pcmi must have shape (n_rollouts, n_demos), not {matrix.shape}")
    if (matrix == np.inf).any():
        row, column = np.argwhere(matrix == np.inf)[0]
        raise ValueError(
            f"pcmi[{row}, {column}] is inf: the rollout has no probability without the "
            "demonstration; leave it out"
        )
    w = _weights(rollout_weights, len(matrix), "rollout_weights")
    nu = _weights(demo_weights, matrix.shape[1], "demo_weights")
    vetoed = (matrix == -np.inf).any(axis=1)
    if not w[~vetoed].sum() > 0:
        raise ValueError("every rollout with weight is ruled out by some demonstration")
    w = np.where(vetoed, 0.0, w)
    w = w / w.sum()
    scored = ~np.isnan(matrix) & ~vetoed[:, None]
    values = np.where(scored, matrix, 0.0)
    if np.isnan(matrix[~vetoed]).any():
        mean, a, b = _fitted(values, scored, w, nu, vetoed)
    else:
        row_means, column_means = values @ nu, w @ values
        mean = float(w @ row_means)
        a, b = row_means - mean, column_means - mean
    g = np.where(scored, values - mean - a[:, None] - b, np.nan)
    return Decomposition(matrix, mean, np.where(vetoed, -np.inf, a), b, g, w, nu)


def _fitted(
    values: Floats, scored: Bools, w: Floats, nu: Floats, vetoed: Bools
) -> tuple[float, Floats, Floats]:
    for axis, weights, other, what in ((0, w, nu, "rollout"), (1, nu, w, "demonstration")):
        seen = (scored if axis == 0 else scored.T) @ other
        empty = (seen == 0) & ~(vetoed if axis == 0 else np.zeros(len(weights), bool))
        if empty.any():
            raise ValueError(
                f"{what} {int(np.argmax(empty))} has no scored pair with weight; score one, or "
                f"leave the {what} out"
            )
    weights = np.outer(w, nu) * scored
    n_rows, n_columns = values.shape
    rows, columns = np.nonzero(weights)
    graph = coo_array((np.ones(len(rows)), (rows, n_rows + columns)), (n_rows + n_columns,) * 2)
    used = np.unique(np.concatenate([rows, n_rows + columns]))
    groups = connected_components(graph, directed=False)[1][used]
    if len(np.unique(groups)) > 1:
        raise ValueError(
            f"the scored pairs fall apart into {len(np.unique(groups))} groups that share neither "
            "rollout nor demonstration, so that their effects can't be compared; score pairs across"
        )
    normal = np.block(
        [[np.diag(weights.sum(1)), weights], [weights.T, np.diag(weights.sum(0))]]
    )  # fmt: skip
    target = np.concatenate([(weights * values).sum(1), (weights * values).sum(0)])
    scale = np.sqrt(np.where(np.diag(normal) > 0, np.diag(normal), 1.0))
    solution = np.linalg.lstsq(normal / np.outer(scale, scale), target / scale, rcond=1e-12)[0]
    b = (solution / scale)[n_rows:]
    # Also for rows and columns without weight, which the fit doesn't see.
    share = np.divide(
        scored * nu, (scored @ nu)[:, None], out=np.zeros_like(values), where=~vetoed[:, None]
    )
    a = (share * (values - b)).sum(axis=1)
    b = (w[:, None] * scored * (values - a[:, None])).sum(axis=0) / (w @ scored)
    shift_a, shift_b = float(w @ a), float(nu @ b)
    return shift_a + shift_b, a - shift_a, b - shift_b


def asymmetry(pcmi: npt.ArrayLike) -> float:
    """Root mean square of M - Mᵀ off the diagonal, nats.

    Mutual information is symmetric, so it is 0 if rollout and demonstration are exchangeable draws
    of one joint law, and the model's conditioning is coherent with it.

    Parameters
    ----------
    pcmi : array_like, shape (n, n)
        The same answers, in the same order, as rows and columns. Pairs of which one is missing or
        -inf are left out.

    Returns
    -------
    float
        NaN without any pair.

    Raises
    ------
    ValueError
        The matrix isn't square.

    Examples
    --------
    >>> asymmetry([[5.0, 1.0], [-2.0, 7.0]])
    3.0
    """
    matrix = np.asarray(pcmi, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"pcmi has shape {matrix.shape}; rows and columns must be the same answers"
        )
    upper = np.triu_indices(len(matrix), 1)
    there, back = matrix[upper], matrix.T[upper]
    keep = np.isfinite(there) & np.isfinite(back)
    if not keep.any():
        return float("nan")
    return float(np.sqrt(np.mean((there[keep] - back[keep]) ** 2)))


# --- Tables ---


def checked_scores(
    scores: pd.DataFrame, rollouts: pd.DataFrame, allow_incorrect_demos: bool = False
) -> pd.DataFrame:
    """Check teacher scores against the rollouts they belong to.

    Parameters
    ----------
    scores : DataFrame
        ``problem_id, sample_id, demo_id, logprob, logprob_given_demo``.
    rollouts : DataFrame
        One run: ``problem_id, sample_id, correct, answer``.
    allow_incorrect_demos : bool
        Whether a demonstration may be an incorrect rollout.

    Returns
    -------
    DataFrame
        The scores with ``answer, correct, demo_answer, demo_correct`` and ``pcmi`` (nats; NaN where
        ``logprob_given_demo`` is, -inf where that is).

    Raises
    ------
    ValueError
        A column is missing; a log-probability is positive; ``logprob`` isn't finite; a pair occurs
        twice; a rollout or demonstration isn't among the rollouts, or two rollouts have its number;
        a demonstration is incorrect; a correct rollout has no answer.

    Examples
    --------
    >>> rollouts = pd.DataFrame({"problem_id": "p", "sample_id": [0, 1], "correct": True,
    ...                          "answer": ["x", "y"]})
    >>> scores = pd.DataFrame({"problem_id": "p", "sample_id": [0], "demo_id": [1],
    ...                        "logprob": [-3.0], "logprob_given_demo": [-2.5]})
    >>> checked_scores(scores, rollouts)[["answer", "demo_answer", "pcmi"]].values.tolist()
    [['x', 'y', 0.5]]
    """
    table = _log_columns(scores, _SCORE_COLUMNS, "scores")
    _refuse(
        table.duplicated(["problem_id", "sample_id", "demo_id"]).to_numpy(),
        "scores: row {row}: the pair of problem {0!r}, rollout {1} and demonstration {2} occurs "
        "twice; keep one",
        table[["problem_id", "sample_id", "demo_id"]],
    )
    known = _checked_rollouts(rollouts)
    size = len(table)
    answers = known.rename(columns={"answer": "demo_answer", "correct": "demo_correct"})
    table = table.merge(known, on=["problem_id", "sample_id"], how="left")
    table = table.merge(
        answers.rename(columns={"sample_id": "demo_id"}), on=["problem_id", "demo_id"], how="left"
    )
    assert len(table) == size
    for name, found in (("sample_id", "correct"), ("demo_id", "demo_correct")):
        _refuse(
            table[found].isna().to_numpy(),
            f"scores: column {name!r}, row {{row}}: problem {{0!r}} has no rollout {{1}}; give the "
            "rollouts that were scored, demonstrations among them",
            table[["problem_id", name]],
        )
        table[found] = table[found].astype(bool)
    if not allow_incorrect_demos:
        _refuse(
            ~table["demo_correct"].to_numpy(),
            "scores: column 'demo_id', row {row}: demonstration {1} of problem {0!r} is incorrect; "
            "drop it, or pass allow_incorrect_demos=True",
            table[["problem_id", "demo_id"]],
        )
    for name, wanted in (("sample_id", "answer"), ("demo_id", "demo_answer")):
        right = table["correct" if name == "sample_id" else "demo_correct"]
        _refuse(
            (right & table[wanted].isna()).to_numpy(),
            f"rollouts: column 'answer': rollout {{1}} of problem {{0!r}} (scores: {name!r}, row "
            "{row}) is correct and has no answer; give its canonical form",
            table[["problem_id", name]],
        )
    return table.assign(pcmi=table["logprob_given_demo"] - table["logprob"])


def tilt_sources(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    control: pd.DataFrame | None = None,
    demo_law: Law = "policy",
    drop_self: bool = True,
    per_token: bool = False,
    allow_incorrect_demos: bool = False,
    rollout_law: Law = "uniform",
) -> pd.DataFrame:
    """Split the tilt of every correct answer into what causes it.

    With u uniform over the answers that were shown, q the law they are drawn from in training, and
    M averaged over the rollouts and demonstrations that are the same answer, minus the effect of
    any context k_i where a control is given:

    ======================  ==========================================================
    ``constant``            μ + Σ q b, the same for all answers of a problem: cancels
    ``any_context``         k_i less its mean: a demonstration of another problem does it, too
    ``preference_copying``  u_i (M[i,i] - μ - b_i)
    ``preference_cross``    Σ_{m≠i} u_m (M[i,m] - μ - b_m); with the row above, a_i
    ``sampling_copying``    (q_i - u_i) g_ii
    ``sampling_cross``      Σ_{m≠i} (q_m - u_m) g_im
    ======================  ==========================================================

    These add up to the tilt exactly.

    Parameters
    ----------
    scores, rollouts, allow_incorrect_demos
        As for `checked_scores`. All rollouts count for q, scored or not.
    control : DataFrame, optional
        ``problem_id, sample_id, logprob, logprob_given_demo`` with demonstrations of other
        problems; several rows a rollout are averaged.
    demo_law : {"policy", "uniform"}
        Demonstrations in proportion to the (correct) rollouts with that answer, or balanced.
    drop_self : bool
        Leave out pairs in which a rollout was shown itself. Copying then is what another rollout
        with the same answer does, and is missing for answers that occurred once.
    per_token : bool
        Divide M by the rollout's ``n_tokens``.
    rollout_law : {"policy", "uniform"}
        Weights w of the answers, which μ and the demonstrations' effects b are means over: each
        alike, or in proportion to its correct rollouts. They decide what counts as copying, not
        the tilt, nor the sum of the two rows of preference or of sampling but for a constant.

    Returns
    -------
    DataFrame
        One row a problem and correct answer that was scored: ``problem_id, answer, log_base``
        (mean ``logprob`` of its rollouts: exact where an answer has one text), ``n_rollouts``,
        ``base_share`` (of the correct rollouts), ``n_missing`` (answers that were shown, but not
        for it: taken as μ + a_i + b_m), ``unscored_demo_share`` (of q on answers never shown, left
        out), ``vetoed``, ``tilt`` and the columns `SOURCES`. A vetoed answer has the tilt -inf and
        NaN as sources. Nats.

    Raises
    ------
    ValueError
        As for `checked_scores` and `decompose`; a scored answer has no control.

    Examples
    --------
    >>> rollouts = pd.DataFrame({"problem_id": "p", "sample_id": range(4), "correct": True,
    ...                          "answer": ["x", "x", "x", "y"]})
    >>> pairs = [(i, j) for i in range(4) for j in (0, 3)]
    >>> scores = pd.DataFrame(pairs, columns=["sample_id", "demo_id"]).assign(
    ...     problem_id="p", logprob=-3.0)
    >>> same = (scores["sample_id"] == 3) == (scores["demo_id"] == 3)
    >>> scores["logprob_given_demo"] = -3 + 1.0 * same
    >>> sources = tilt_sources(scores, rollouts, drop_self=False)
    >>> sources[["answer", "tilt", "constant", "sampling_copying", "sampling_cross"]]
      answer  tilt  constant  sampling_copying  sampling_cross
    0      x  0.75       0.5             0.125           0.125
    1      y  0.25       0.5            -0.125          -0.125
    """
    check_choice(demo_law, "demo_law", get_args(Law))
    check_choice(rollout_law, "rollout_law", get_args(Law))
    extra = None if control is None else _control(control, rollouts, per_token)
    frames = [
        _sources(problem, demo_law, rollout_law, extra)
        for problem in _problems(scores, rollouts, drop_self, per_token, allow_incorrect_demos)
    ]
    if not frames:
        raise ValueError("scores: no pair has a correct rollout; there is no tilt among answers")
    return pd.concat(frames, ignore_index=True)


def source_table(
    sources: pd.DataFrame,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Mean over problems of what each source does, with an interval over problems.

    Parameters
    ----------
    sources : DataFrame
        As `tilt_sources` returns it.
    confidence : float
    n_resamples : int
    random_state : int, Generator or None

    Returns
    -------
    DataFrame
        Columns ``measure, source, estimate, low, high, n_problems, n_left_out, n_modes, n_vetoed,
        n_missing``. Measures:

        - "popular" (nats): the source's mean over answers weighted by ``base_share``, less that
          with equal weights. How much it favours frequent answers.
        - "spread" (nats): its standard deviation over answers; alone in not adding up.
        - "slope": its covariance with log_base by the variance of that, pooled over problems. The
          predicted slope of `passk_lab.teacher.slopes` is 1 + that of the tilt.

        Sources are `SOURCES`, "teacher_preference" and "demonstration_sampling", the sums of two
        each, and "tilt". Problems with fewer than two answers that aren't vetoed are left out.

    Raises
    ------
    ValueError
        A column is missing; no problem has two answers.

    Examples
    --------
    >>> sources = pd.DataFrame({"problem_id": list("aabb"), "log_base": [-1.0, -2.0] * 2,
    ...     "base_share": [0.7, 0.3] * 2, "n_missing": 0, "vetoed": False, "constant": 0.1,
    ...     "any_context": 0.0, "preference_copying": 0.0, "preference_cross": [0.2, -0.2] * 2,
    ...     "sampling_copying": [0.3, -0.3] * 2, "sampling_cross": 0.0,
    ...     "tilt": [0.6, -0.4] * 2})
    >>> table = source_table(sources, n_resamples=100, random_state=0)
    >>> table.query("source == 'tilt'")[["measure", "estimate"]].round(3).values.tolist()
    [['popular', 0.2], ['spread', 0.5], ['slope', 1.0]]
    """
    for name in ("problem_id", "log_base", "base_share", "n_missing", "vetoed", "tilt", *SOURCES):
        if name not in sources.columns:
            raise ValueError(f"sources: column {name!r} is missing; pass what tilt_sources returns")
    table = sources.assign(
        teacher_preference=sources["preference_copying"] + sources["preference_cross"],
        demonstration_sampling=sources["sampling_copying"] + sources["sampling_cross"],
    )
    names = [*SOURCES, "teacher_preference", "demonstration_sampling", "tilt"]
    kept = table[~table["vetoed"].astype(bool)]
    popular, spread, products, variances = [], [], [], []
    for _, part in kept.groupby("problem_id", sort=False):
        if len(part) < 2:
            continue
        values = part[names].to_numpy(float)
        share = part["base_share"].to_numpy(float)
        centred = values - values.mean(axis=0)
        log_base = part["log_base"].to_numpy(float)
        log_base = log_base - log_base.mean()
        popular.append(share / share.sum() @ centred)
        spread.append(np.sqrt((centred**2).mean(axis=0)))
        products.append(log_base @ centred)
        variances.append(log_base @ log_base)
    if not popular:
        raise ValueError("sources: no problem has two answers, so nothing is tilted")
    size = len(popular)
    rng = np.random.default_rng(random_state)
    stacked = np.column_stack([popular, spread, products, variances])
    drawn = bootstrap_replicates(stacked, n_resamples, rng)
    means = stacked.mean(axis=0)
    width = len(names)
    rows = []
    for at, measure in enumerate(("popular", "spread", "slope")):
        columns = slice(at * width, (at + 1) * width)
        estimates, replicates = means[columns], drawn[:, columns]
        if measure == "slope":
            with np.errstate(divide="ignore", invalid="ignore"):
                estimates, replicates = estimates / means[-1], replicates / drawn[:, -1:]
        low = high = np.full(width, np.nan)
        if size > 1 and np.isfinite(replicates).all():
            low, high = percentiles(replicates, confidence, size)
        rows.append(
            pd.DataFrame(
                {"measure": measure, "source": names, "estimate": estimates, "low": low,
                 "high": high}
            )
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True).assign(
        n_problems=size,
        n_left_out=table["problem_id"].nunique() - size,
        n_modes=len(kept),
        n_vetoed=len(table) - len(kept),
        n_missing=int(table["n_missing"].sum()),
    )


def problem_decompositions(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    drop_self: bool = True,
    per_token: bool = False,
    allow_incorrect_demos: bool = False,
    rollout_law: Law = "uniform",
) -> pd.DataFrame:
    """Take the matrix over answers of each problem apart, with a uniform reference ν.

    Parameters
    ----------
    scores, rollouts, drop_self, per_token, allow_incorrect_demos, rollout_law
        As for `tilt_sources`.

    Returns
    -------
    DataFrame
        One row a problem: ``problem_id, n_modes, n_demo_modes, n_missing, n_vetoed, mean, rollout,
        demo, interaction`` (`Decomposition.shares`), ``within_minus_between``, ``asymmetry`` and
        ``accuracy_contrast`` (tilt of correct answers, weighted with w, less that of the incorrect
        rollouts, demonstrations as the policy draws them). Nats but for the shares; NaN where
        there is nothing to compare.

    Raises
    ------
    ValueError
        As for `tilt_sources`.

    Examples
    --------
    >>> rollouts = pd.DataFrame({"problem_id": "p", "sample_id": range(2), "correct": True,
    ...                          "answer": ["x", "y"]})
    >>> scores = pd.DataFrame({"problem_id": "p", "sample_id": [0, 0, 1, 1], "demo_id": [0, 1] * 2,
    ...                        "logprob": -3.0, "logprob_given_demo": [-1.0, -3.0, -3.0, -1.0]})
    >>> names = ["mean", "rollout", "demo", "interaction", "within_minus_between"]
    >>> problem_decompositions(scores, rollouts, drop_self=False)[names].values.tolist()
    [[1.0, 0.0, 0.0, 1.0, 2.0]]
    """
    check_choice(rollout_law, "rollout_law", get_args(Law))
    rows = []
    for problem in _problems(scores, rollouts, drop_self, per_token, allow_incorrect_demos):
        parts = _parts(problem, problem.matrix, rollout_law)
        both = [mode for mode in problem.modes if mode in problem.demo_modes]
        square = problem.matrix[np.ix_(
            [problem.modes.index(mode) for mode in both],
            [problem.demo_modes.index(mode) for mode in both],
        )]  # fmt: skip
        q = problem.demo_law("policy")[0]
        contrast = float("nan")
        if problem.incorrect is not None and not np.isnan(problem.incorrect[q > 0]).any():
            contrast = float(
                parts.rollout_weights @ np.where(parts.vetoed, 0.0, parts.tilt(q))
                - problem.incorrect[q > 0] @ q[q > 0]
            )
        rows.append(
            {
                "problem_id": problem.name,
                "n_modes": len(problem.modes),
                "n_demo_modes": len(problem.demo_modes),
                "n_missing": parts.n_missing,
                "n_vetoed": int(parts.vetoed.sum()),
                "mean": parts.mean,
                **parts.shares(),
                "within_minus_between": parts.within_minus_between(
                    problem.modes, problem.demo_modes
                ),
                "asymmetry": asymmetry(square),
                "accuracy_contrast": contrast,
            }
        )
    if not rows:
        raise ValueError("scores: no pair has a correct rollout; there is nothing to take apart")
    return pd.DataFrame(rows)


def decomposition_table(
    problems: pd.DataFrame,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Mean over problems of each quantity of `problem_decompositions`, with an interval.

    Parameters
    ----------
    problems : DataFrame
        As `problem_decompositions` returns it.
    confidence : float
    n_resamples : int
    random_state : int, Generator or None

    Returns
    -------
    DataFrame
        Columns ``quantity, estimate, low, high, n_problems, n_left_out``; problems where the
        quantity isn't finite are left out.

    Raises
    ------
    ValueError
        A column is missing.

    Examples
    --------
    >>> names = ["mean", "rollout", "demo", "interaction", "within_minus_between", "asymmetry",
    ...          "accuracy_contrast"]
    >>> problems = pd.DataFrame(dict.fromkeys(names, [0.2, 0.4, np.nan]))
    >>> table = decomposition_table(problems, n_resamples=50, random_state=0)
    >>> table[["quantity", "n_problems", "n_left_out"]].values.tolist()[0]
    ['mean', 2, 1]
    """
    rng = np.random.default_rng(random_state)
    rows = []
    for name in (
        "mean",
        "rollout",
        "demo",
        "interaction",
        "within_minus_between",
        "asymmetry",
        "accuracy_contrast",
    ):
        if name not in problems.columns:
            raise ValueError(
                f"problems: column {name!r} is missing; pass what problem_decompositions returns"
            )
        values = problems[name].to_numpy(float)
        known = values[np.isfinite(values)]
        low = high = np.nan
        if len(known) > 1:
            drawn = bootstrap_replicates(known, n_resamples, rng)
            ends = percentiles(drawn, confidence, len(known))
            low, high = float(ends[0][0]), float(ends[1][0])
        rows.append(
            {
                "quantity": name,
                "estimate": float(known.mean()) if len(known) else np.nan,
                "low": low,
                "high": high,
                "n_problems": len(known),
                "n_left_out": len(values) - len(known),
            }
        )
    return pd.DataFrame(rows)


# --- From pairs to answers ---


@dataclass(frozen=True)
class _Problem:
    name: str
    modes: list[str]  # correct answers that were scored, rows
    demo_modes: list[str]  # answers that were shown, columns
    matrix: Floats  # (n_modes, n_demo_modes), NaN where missing
    log_base: Floats  # (n_modes,)
    incorrect: Floats | None  # (n_demo_modes,), mean over incorrect rollouts
    counts: dict[str, int]  # correct rollouts with each answer
    eligible: dict[str, int]  # rollouts with each answer that may be shown

    def demo_law(self, kind: str) -> tuple[Floats, float]:
        """Give q over the columns, and the share of answers never shown."""
        shown = np.array([self.eligible[mode] for mode in self.demo_modes], dtype=float)
        left_out = 1 - shown.sum() / sum(self.eligible.values())
        if kind == "uniform":
            shown = np.ones(len(shown))
            left_out = 1 - len(shown) / len(self.eligible)
        return shown / shown.sum(), float(left_out)


def _problems(
    scores: pd.DataFrame,
    rollouts: pd.DataFrame,
    drop_self: bool,
    per_token: bool,
    allow_incorrect_demos: bool,
) -> Iterator[_Problem]:
    pairs = checked_scores(scores, rollouts, allow_incorrect_demos)
    known = _checked_rollouts(rollouts, per_token)
    if per_token:
        pairs["pcmi"] = pairs["pcmi"] / _lengths(pairs, known)
    if drop_self:
        pairs.loc[pairs["sample_id"] == pairs["demo_id"], "pcmi"] = np.nan
    pairs = pairs.loc[pairs["pcmi"].notna() & pairs["demo_answer"].notna()]
    # First over demonstrations, then over rollouts: each rollout counts alike.
    each = _means(pairs, ["problem_id", "correct", "sample_id", "answer", "demo_answer"])
    cells = _means(each[each["correct"]], ["problem_id", "answer", "demo_answer"])
    cells = cells.astype(object)  # many small lookups follow, which Arrow's strings are slow at
    wrong = _nested(_means(each[~each["correct"]], ["problem_id", "demo_answer"]), "pcmi")
    scored = pairs[pairs["correct"]].drop_duplicates(["problem_id", "sample_id"])
    bases = _nested(_means(scored.assign(pcmi=scored["logprob"]), ["problem_id", "answer"]), "pcmi")
    solved = known[known["correct"]]
    counts = _tallies(solved)
    eligible = _tallies(known[known["answer"].notna()]) if allow_incorrect_demos else counts
    for label, part in cells.groupby("problem_id", sort=False):
        name = str(label)
        modes = sorted(part["answer"].unique())
        demo_modes = sorted(part["demo_answer"].unique())
        matrix = np.full((len(modes), len(demo_modes)), np.nan)
        at = (
            pd.Index(modes, dtype=object).get_indexer(part["answer"]),
            pd.Index(demo_modes, dtype=object).get_indexer(part["demo_answer"]),
        )
        matrix[at] = part["pcmi"].to_numpy(float)
        incorrect = None
        if name in wrong:
            incorrect = np.array([wrong[name].get(mode, np.nan) for mode in demo_modes])
        log_base = np.array([bases[name][mode] for mode in modes])
        yield _Problem(
            name,
            modes,
            demo_modes,
            matrix,
            log_base,
            incorrect,
            counts[name],
            eligible[name],
        )


def _means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean of ``pcmi`` in each group; unlike pandas' own it is -inf, not NaN, if one of them is."""
    code = table.groupby(keys, dropna=False).ngroup().to_numpy()
    _, first, size = np.unique(code, return_index=True, return_counts=True)
    total = np.bincount(code, table["pcmi"].to_numpy(float))
    return table[keys].iloc[first].assign(pcmi=total / size).reset_index(drop=True)


def _nested(table: pd.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    """Values of a column by problem and answer, the first two columns."""
    result: dict[str, dict[str, Any]] = {}
    keys = (table.iloc[:, at].tolist() for at in (0, 1))
    for problem, answer, value in zip(*keys, table[column].tolist(), strict=True):
        result.setdefault(problem, {})[answer] = value
    return result


def _tallies(rollouts: pd.DataFrame) -> dict[str, dict[str, Any]]:
    counted = rollouts.groupby(["problem_id", "answer"]).size().rename("n").reset_index()
    return _nested(counted, "n")


def _parts(problem: _Problem, matrix: Floats, rollout_law: str) -> Decomposition:
    weights = None
    if rollout_law == "policy":
        weights = np.array([problem.counts[mode] for mode in problem.modes], dtype=float)
    try:
        return decompose(matrix, weights)
    except ValueError as error:
        raise ValueError(
            f"problem {problem.name!r}, answers {problem.modes} given {problem.demo_modes}: {error}"
        ) from error


def _sources(
    problem: _Problem,
    demo_law: str,
    rollout_law: str,
    control: dict[tuple[str, str], float] | None,
) -> pd.DataFrame:
    k = np.zeros(len(problem.modes))
    if control is not None:
        for at, mode in enumerate(problem.modes):
            if (problem.name, mode) not in control:
                raise ValueError(
                    f"control: answer {mode!r} of problem {problem.name!r} is scored, but has no "
                    "control; score one of its rollouts with another problem's demonstration"
                )
            k[at] = control[problem.name, mode]
    parts = _parts(problem, problem.matrix - k[:, None], rollout_law)
    q, left_out = problem.demo_law(demo_law)
    u = parts.demo_weights
    ok = ~parts.vetoed
    g = np.where(np.isnan(parts.interaction), 0.0, parts.interaction)
    a = np.where(ok, parts.rollout_effect, 0.0)
    same = np.array([[mode == demo for demo in problem.demo_modes] for mode in problem.modes])
    preference = u * (a[:, None] + g)
    sampling = (q - u) * g
    common = float(parts.rollout_weights @ k)
    columns = {
        "constant": np.full(len(a), parts.mean + q @ parts.demo_effect + common),
        "any_context": k - common,
        "preference_copying": (preference * same).sum(axis=1),
        "preference_cross": (preference * ~same).sum(axis=1),
        "sampling_copying": (sampling * same).sum(axis=1),
        "sampling_cross": (sampling * ~same).sum(axis=1),
    }
    n = np.array([problem.counts[mode] for mode in problem.modes])
    return pd.DataFrame(
        {
            "problem_id": problem.name,
            "answer": problem.modes,
            "log_base": problem.log_base,
            "n_rollouts": n,
            "base_share": n / sum(problem.counts.values()),
            "n_missing": np.isnan(problem.matrix).sum(axis=1),
            "unscored_demo_share": left_out,
            "vetoed": parts.vetoed,
            "tilt": parts.tilt(q) + k,
            **{name: np.where(ok, column, np.nan) for name, column in columns.items()},
        }
    )


def _control(
    control: pd.DataFrame, rollouts: pd.DataFrame, per_token: bool
) -> dict[tuple[str, str], float]:
    names = ("problem_id", "sample_id", "logprob", "logprob_given_demo")
    table = _log_columns(control, names, "control")
    _refuse(
        ~np.isfinite(table["logprob_given_demo"].to_numpy()),
        "control: column 'logprob_given_demo', row {row}: {0} isn't finite; leave the row out",
        table[["logprob_given_demo"]],
    )
    known = _checked_rollouts(rollouts, per_token)
    table = table.merge(known, on=["problem_id", "sample_id"], how="left")
    _refuse(
        table["correct"].isna().to_numpy(),
        "control: column 'sample_id', row {row}: problem {0!r} has no rollout {1}",
        table[["problem_id", "sample_id"]],
    )
    table["pcmi"] = table["logprob_given_demo"] - table["logprob"]
    if per_token:
        table["pcmi"] = table["pcmi"] / table["n_tokens"]
    keys = ["problem_id", "answer"]
    means = _means(_means(table[table["correct"].astype(bool)], [*keys, "sample_id"]), keys)
    labels = zip(means["problem_id"].tolist(), means["answer"].tolist(), strict=True)
    return dict(zip(labels, means["pcmi"].tolist(), strict=True))


# --- Arguments ---


def _weights(values: npt.ArrayLike | None, size: int, name: str) -> Floats:
    if values is None:
        return np.full(size, 1 / size)
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}; it needs {size} entries")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.sum() > 0):
        raise ValueError(f"{name} must be finite, not negative, and some of them positive")
    return np.asarray(array / array.sum())


def _refuse(bad: Bools, message: str, values: pd.DataFrame) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(message.format(*values.iloc[row], row=row))


def _log_columns(table: pd.DataFrame, names: Sequence[str], source: str) -> pd.DataFrame:
    require_columns(table, names, source)
    table = table[list(names)].reset_index(drop=True)
    table["problem_id"] = table["problem_id"].astype(str)
    for name in names:
        if name in ("sample_id", "demo_id"):
            try:
                table[name] = table[name].astype("int64")
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{source}: column {name!r} must hold whole numbers, the sample_id of a "
                    f"rollout: {error}"
                ) from error
        elif name != "problem_id":
            values = table[name] = table[name].astype(float)
            _refuse(
                (values > _ZERO).to_numpy(),
                f"{source}: column {name!r}, row {{row}}: {{0}} is positive and so no "
                "log-probability; sum the tokens' log-probabilities in nats",
                table[[name]],
            )
    _refuse(
        ~np.isfinite(table["logprob"].to_numpy()),
        f"{source}: column 'logprob', row {{row}}: {{0}} isn't finite, yet the base sampled the "
        "rollout; score it again without a demonstration",
        table[["logprob"]],
    )
    return table


def _checked_rollouts(rollouts: pd.DataFrame, per_token: bool = False) -> pd.DataFrame:
    names = ["problem_id", "sample_id", "correct", "answer"] + ["n_tokens"] * per_token
    for name in names[1:]:
        if name not in rollouts.columns:
            raise ValueError(f"rollouts: column {name!r} is missing; scores are matched through it")
    table = validate_rollouts(rollouts)
    _refuse(
        table.duplicated(["problem_id", "sample_id"]).to_numpy(),
        "rollouts: row {row}: problem {0!r} has two rollouts {1}; keep the run that was scored",
        table[["problem_id", "sample_id"]],
    )
    table = table[names].copy()
    table["problem_id"] = table["problem_id"].astype(str)
    return table


def _lengths(pairs: pd.DataFrame, known: pd.DataFrame) -> Floats:
    lengths = pairs.merge(
        known[["problem_id", "sample_id", "n_tokens"]], on=["problem_id", "sample_id"], how="left"
    )["n_tokens"].to_numpy(float, na_value=np.nan)
    _refuse(
        ~(lengths > 0),
        "rollouts: column 'n_tokens': rollout {1} of problem {0!r} (scores: row {row}) has no "
        "length; give one, or leave per_token off",
        pairs[["problem_id", "sample_id"]],
    )
    return lengths
