"""Losses of the on-policy methods: distillation divergences and policy gradients.

Logits are [B, T, V], log-probabilities [B, T]: position t predicts answer token t. The mask [B, T],
boolean or integer, is true where a token counts; elsewhere results are 0, whatever the values are,
NaN included. Losses are values per token in nats; `reduce` brings them to one number. p is the
student, q the teacher, into which no gradient flows. Wrong shapes, options and numbers are a
ValueError that names them. Everything is computed in float32, float64 where the input is float64.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "divergence",
    "policy_gradient_loss",
    "reduce",
    "token_logprob",
]

Kind = Literal["reverse", "forward", "jsd"]
Reduction = Literal["token", "sequence", "sequence_mean", "constant"]

# exp(20) is far beyond any ratio that a sampled token can have, and finite in float32.
_MAX_LOG_RATIO = 20.0
# Captured mass of the top-k is kept below one by this much, in log space, as TRL does.
_MIN_TAIL = 1e-7


def reduce(
    values: Tensor, mask: Tensor, how: Reduction = "token", length: float | None = None
) -> Tensor:
    """Bring per-token values [B, T] to one number.

    Parameters
    ----------
    values, mask : Tensor [B, T]
    how : {"token", "sequence", "sequence_mean", "constant"}
        Mean over all tokens, as in DAPO (arXiv:2503.14476, section 3.3); mean over sequences of
        their sums; mean over sequences of their means, as in GRPO (arXiv:2402.03300, equation 3);
        "sequence" divided by ``length``, as in Dr. GRPO (arXiv:2503.20783, section 3).
    length : float, optional
        Of "constant": usually the longest answer that sampling allows.

    Returns
    -------
    Tensor []
        0, with a gradient of 0, where no token counts. Sequences without a token count as 0.

    Examples
    --------
    >>> values = torch.tensor([[1.0, 2.0, 3.0], [6.0, 0.0, 0.0]])
    >>> mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    >>> [reduce(values, mask, how).item() for how in ("token", "sequence", "sequence_mean")]
    [3.0, 6.0, 4.0]
    """
    _choice("how", how, Reduction)
    mask = _mask(mask, values=values)
    total = _masked(values, mask).sum(1)
    if how == "token":
        return total.sum() / mask.sum().clamp(min=1)
    if how == "sequence_mean":
        total = total / mask.sum(1).clamp(min=1)
    if how == "constant":
        if length is None or not length > 0:
            raise ValueError(
                f"how='constant' divides by a constant: give a positive length, not {length}"
            )
        total = total / length
    return total.sum() / max(len(total), 1)


def token_logprob(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probability [B, T] of each given token, in nats.

    Examples
    --------
    >>> logits = torch.tensor([[[0.0, 0.0], [float("nan"), 0.0]]])
    >>> token_logprob(logits, torch.tensor([[1, -100]]), torch.tensor([[1, 0]]))
    tensor([[-0.6931,  0.0000]])
    """
    mask = _mask(mask, logits=logits, tokens=tokens)
    rows = _rows(mask)
    chosen = tokens.reshape(-1).index_select(0, rows)
    loss = functional.cross_entropy(_pick(logits, rows), chosen, reduction="none")
    return _place(-loss, rows, mask)


def divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor,
    kind: Kind = "reverse",
    alpha: float = 0.5,
    top_k: int | None = None,
) -> Tensor:
    """Divergence [B, T] between student p and teacher q over the vocabulary, per token.

    - "reverse": KL(p || q) = sum p log(p / q)
    - "forward": KL(q || p) = sum q log(q / p)
    - "jsd": (1 - alpha) KL(p || m) + alpha KL(q || m) with m = (1 - alpha) p + alpha q [1], in the
      convention of TRL and SDPO [2]: alpha = 0 is the forward KL, alpha = 1 the reverse. Divided by
      alpha (1 - alpha) it tends to these two; undivided to 0, so learning rates don't carry over.

    The gradient is that of the objective per prefix, not of the divergence of whole sequences.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor [B, T, V]
        -inf forbids a token. A token that only the teacher forbids makes the reverse KL infinite.
    mask : Tensor [B, T]
    kind : {"reverse", "forward", "jsd"}
    alpha : float
        Between 0 and 1; of "jsd" only.
    top_k : int, optional
        Keep the student's k largest logits and put the rest of p and of q in one bucket each, as
        SDPO does [2]: a lower bound of the full divergence, up to 1e-7, and not negative.

    References
    ----------
    1. Agarwal et al. (2024), arXiv:2306.13649, equation 1.
    2. Hübotter et al. (2026), arXiv:2601.20802; TRL 1.16, ``trl.experimental.sdpo.loss_utils``.

    Examples
    --------
    >>> student = torch.log(torch.tensor([[[0.5, 0.25, 0.25]]]))
    >>> teacher = torch.log(torch.tensor([[[0.25, 0.5, 0.25]]]))
    >>> divergence(student, teacher, torch.ones(1, 1, dtype=torch.bool))
    tensor([[0.1733]])
    """
    _choice("kind", kind, Kind)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha} must be between 0 (forward KL) and 1 (reverse KL)")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1; None keeps the full vocabulary")
    mask = _mask(mask, student_logits=student_logits, teacher_logits=teacher_logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits {tuple(student_logits.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)} must have one shape [B, T, V]"
        )
    rows = _rows(mask)
    student, teacher = _pick(student_logits, rows), _pick(teacher_logits.detach(), rows)
    if top_k is None or top_k >= student.shape[-1]:
        log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
    else:
        kept = student.topk(top_k, dim=-1).indices
        log_p, log_q = _with_tail(student, kept), _with_tail(teacher, kept)
    if kind == "reverse" or (kind == "jsd" and alpha == 1):
        values = _kl(log_p, log_q)
    elif kind == "forward" or alpha == 0:
        values = _kl(log_q, log_p)
    else:
        parts = torch.stack([log_p + math.log1p(-alpha), log_q + math.log(alpha)])
        mixture = _finite(parts).logsumexp(0)
        values = (1 - alpha) * _kl(log_p, mixture) + alpha * _kl(log_q, mixture)
    return _place(values, rows, mask)


def policy_gradient_loss(
    logprob: Tensor,
    old_logprob: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    clip: tuple[float, float] | None = (0.2, 0.2),
) -> Tensor:
    """PPO's clipped loss per token [B, T], -min(ratio A, clip(ratio, 1 - low, 1 + high) A).

    ratio = p(y_t) / p_old(y_t). The method lies in the advantages and the reduction:

    | method                  | `group_advantages` kind | `reduce`        | clip       |
    | ----------------------- | ----------------------- | --------------- | ---------- |
    | GRPO                    | "grpo"                  | "sequence_mean" | symmetric  |
    | GRPO, DAPO's token mean | "grpo"                  | "token"         | high > low |
    | Dr. GRPO                | "dr_grpo"               | "constant"      | symmetric  |
    | leave-one-out REINFORCE | "rloo"                  | "sequence"      | None       |

    Parameters
    ----------
    logprob : Tensor [B, T]
        Of the sampled tokens under the policy, with their gradient.
    old_logprob : Tensor [B, T] or None
        The same under the policy that sampled them; None where it was this very policy.
    advantages : Tensor [B] or [B, T]
    mask : Tensor [B, T]
    clip : (low, high) or None
        None doesn't clip; a log ratio is still cut off at 20.

    References
    ----------
    Schulman et al. (2017), arXiv:1707.06347, equation 7; leave-one-out: Ahmadian et al. (2024),
    arXiv:2402.14740, section 2.

    Examples
    --------
    >>> logprob = torch.tensor([[-1.0, -1.0]], requires_grad=True)
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> reduce(policy_gradient_loss(logprob, None, torch.tensor([2.0]), mask), mask).backward()
    >>> logprob.grad.tolist()
    [[-1.0, -1.0]]
    """
    if advantages.ndim == 1:
        advantages = advantages[:, None].expand(-1, mask.shape[-1])
    mask = _mask(mask, logprob=logprob, old_logprob=old_logprob, advantages=advantages)
    advantages = _masked(advantages.detach(), mask)
    logprob = _masked(logprob, mask)
    old = logprob if old_logprob is None else _masked(old_logprob, mask)
    ratio = (logprob - old.detach()).clamp(max=_MAX_LOG_RATIO).exp()
    objective = ratio * advantages
    if clip is not None:
        low, high = clip
        if not (0 <= low <= 1 and high >= 0):
            raise ValueError(f"clip={clip} must be (low, high) with 0 <= low <= 1 and high >= 0")
        objective = torch.minimum(objective, ratio.clamp(1 - low, 1 + high) * advantages)
    return -objective


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last axis; tokens of probability 0 in p add nothing."""
    p = log_p.exp()
    return (p * torch.where(p > 0, log_p - log_q, 0.0)).sum(-1)


def _with_tail(logits: Tensor, kept: Tensor) -> Tensor:
    """Log-probabilities of the kept tokens and, last, of all others together."""
    log_p = logits.gather(-1, kept) - logits.logsumexp(-1, keepdim=True)
    captured = _finite(log_p).logsumexp(-1, keepdim=True).clamp(max=-_MIN_TAIL)
    return torch.cat([log_p, torch.log(-torch.expm1(captured))], dim=-1)


def _finite(log_p: Tensor) -> Tensor:
    """Where all terms are -inf, logsumexp has the gradient NaN; a huge negative number has none."""
    return log_p.clamp(min=torch.finfo(log_p.dtype).min / 2)


def _upcast(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    return _upcast(values).masked_fill(~mask, 0.0)


def _rows(mask: Tensor) -> Tensor:
    return mask.reshape(-1).nonzero().squeeze(-1)


def _pick(logits: Tensor, rows: Tensor) -> Tensor:
    """Logits [N, V] of the tokens that count: padding costs no memory and can't leak."""
    return _upcast(logits.reshape(-1, logits.shape[-1]).index_select(0, rows))


def _place(values: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
    return values.new_zeros(mask.numel()).index_copy(0, rows, values).view(mask.shape)


def _choice(name: str, value: str, allowed: Any) -> None:
    known = get_args(allowed)
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; known: {', '.join(known)}")


def _mask(mask: Tensor, **others: Tensor | None) -> Tensor:
    """The mask as bool, after the shapes were compared: [B, T], or [B, T, V] for logits."""
    if mask.ndim != 2 or mask.is_floating_point():
        raise ValueError(
            f"mask must be bool or integer of shape [B, T], not {mask.dtype} {tuple(mask.shape)}"
        )
    for name, tensor in others.items():
        ndim = 3 if name.endswith("logits") else 2
        if tensor is not None and (tensor.ndim != ndim or tensor.shape[:2] != mask.shape):
            wanted = f"[{mask.shape[0]}, {mask.shape[1]}{', V' if ndim == 3 else ''}]"
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; with this mask it must be {wanted}"
            )
    return mask.bool()
