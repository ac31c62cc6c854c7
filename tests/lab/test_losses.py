import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passk_lab.lab.losses import (
    divergence,
    policy_gradient_loss,
    reduce,
    token_logprob,
)
from passk_lab.teacher.optimum import distillation_optimum
from tests.helpers import refusals

torch.set_num_threads(1)

NAN, INF = float("nan"), float("inf")
REDUCTIONS = ("token", "sequence", "sequence_mean", "constant")
# (kind, alpha) and TRL's alpha for the same divergence.
KINDS = [("reverse", 0.5, 1.0), ("forward", 0.5, 0.0)]
KINDS += [("jsd", alpha, alpha) for alpha in (0.0, 0.3, 0.5, 1.0)]


def batch(seed, b=3, t=4, v=7, scale=2.0, dtype=torch.float64):
    """Student and teacher logits, tokens, and a ragged mask with at least one token a row."""
    draw = torch.Generator().manual_seed(seed)
    student, teacher = (
        scale * torch.randn(b, t, v, generator=draw, dtype=torch.float64) for _ in range(2)
    )
    tokens = torch.randint(v, (b, t), generator=draw)
    lengths = torch.randint(1, t + 1, (b, 1), generator=draw)
    return student.to(dtype), teacher.to(dtype), tokens, torch.arange(t) < lengths


def logprobs(seed, **kwargs):
    student, teacher, tokens, mask = batch(seed, **kwargs)
    return token_logprob(student, tokens, mask), token_logprob(teacher, tokens, mask), mask


def gradient(loss, *inputs):
    return torch.autograd.grad(loss, inputs, allow_unused=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "alpha", "trl_alpha"), KINDS)
@pytest.mark.parametrize("top_k", [None, 1, 3, 6])
def test_divergence_agrees_with_trl(kind, alpha, trl_alpha, top_k, dtype):
    trl = pytest.importorskip("trl.experimental.sdpo.loss_utils")
    student, teacher, _, mask = batch(0, b=5, v=11, dtype=dtype)
    ours, theirs = (student.clone().requires_grad_() for _ in range(2))
    values = divergence(ours, teacher, mask, kind, alpha, top_k=top_k)
    options = {"distillation_alpha": trl_alpha}
    if top_k is None:
        loss = trl.compute_full_logit_self_distillation_loss
    else:
        loss = trl.compute_topk_self_distillation_loss
        options |= {"distillation_topk": top_k, "distillation_add_tail": True}
    expected = loss(theirs, teacher, **options)
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    assert values.dtype == dtype
    torch.testing.assert_close(values, expected * mask, **close)
    # Distinct weights, so that a gradient that lands on the wrong token is seen.
    weights = torch.arange(1, mask.numel() + 1, dtype=dtype).view(mask.shape)
    torch.testing.assert_close(
        gradient((values * weights).sum(), ours)[0],
        gradient((expected * mask * weights).sum(), theirs)[0],
        **close,
    )


def trl_grpo_loss(logprob, old, advantages, mask, **settings):
    """``GRPOTrainer._compute_loss`` on given log-probabilities, without model and data."""
    trl = pytest.importorskip("trl")
    trainer = object.__new__(trl.GRPOTrainer)
    off = ("aux_loss_enabled", "use_vllm", "vllm_importance_sampling_correction")
    vars(trainer).update(
        dict.fromkeys([*off, "_entropy_bonus_enabled"], False),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprob, 0 * logprob.detach(), None),
        **settings,
    )
    inputs = dict.fromkeys(("prompt_ids", "prompt_mask", "completion_ids"), torch.zeros_like(mask))
    inputs |= {"completion_mask": mask.long(), "num_items_in_batch": mask.sum()}
    inputs |= {"advantages": advantages, "old_per_token_logps": old}
    return trainer._compute_loss(None, inputs)


@pytest.mark.parametrize(
    ("loss_type", "how"),
    [
        ("grpo", "sequence_mean"), ("bnpo", "token"), ("dapo", "token"), ("dr_grpo", "constant"),
        ("luspo", "sequence"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("old_given", [True, False])
def test_policy_gradient_agrees_with_trl(loss_type, how, old_given):
    start, _, mask = logprobs(3, b=6)
    old = start + 0.3 * torch.randn(start.shape, generator=torch.Generator().manual_seed(4))
    advantages = torch.tensor([1.2, -0.7, 0.0, -1.5, 0.4, 2.0], dtype=torch.float64)
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    clipped = (ours - old).exp().sub(1).abs().gt(0.2)[mask]
    assert clipped.any()
    assert not clipped.all()
    old = old if old_given else None
    apart = policy_gradient_loss(ours, old, advantages, mask, (0.2, 0.28))
    loss = reduce(apart, mask, how, length=16)
    options = {"loss_type": loss_type, "beta": 0.0, "max_completion_length": 16}
    options |= {"epsilon_low": 0.2, "epsilon_high": 0.28}
    expected = trl_grpo_loss(theirs, old, advantages, mask, **options)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(loss, expected, **close)
    torch.testing.assert_close(gradient(loss, ours), gradient(expected, theirs), **close)


def test_divergences_by_hand():
    p, q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])
    student, teacher = (torch.tensor(np.log(x))[None, None] for x in (p, q))
    mask = torch.ones(1, 1, dtype=torch.bool)

    def kl(a, b):
        return float(np.sum(a * np.log(a / b)))

    def value(*args, **kwargs):
        return divergence(student, teacher, mask, *args, **kwargs).item()

    m = 0.8 * p + 0.2 * q
    assert value() == pytest.approx(kl(p, q), rel=1e-12)
    assert value("forward") == pytest.approx(kl(q, p), rel=1e-12)
    assert value("jsd", 0.2) == pytest.approx(0.8 * kl(p, m) + 0.2 * kl(q, m), rel=1e-12)
    # Top two of the student are tokens 0 and 1.
    merged = [np.array([x[0], x[1], x[2] + x[3]]) for x in (p, q)]
    assert value(top_k=2) == pytest.approx(kl(*merged), rel=1e-12)
    assert value(top_k=9) == value(top_k=4) == value()
    # The documented limits of the generalised JSD.
    for alpha, limit in ((1e-6, kl(q, p)), (1 - 1e-6, kl(p, q))):
        scaled = value("jsd", alpha) / (alpha * (1 - alpha))
        assert scaled == pytest.approx(limit, rel=1e-4)


def test_reductions_by_hand():
    values = torch.tensor([[1.0, 2.0, 4.0], [10.0, NAN, NAN], [INF, NAN, 5.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert reduce(values, mask, "token").item() == 17 / 4
    assert reduce(values, mask, "sequence").item() == pytest.approx(17 / 3)
    assert reduce(values, mask, "sequence_mean").item() == pytest.approx((7 / 3 + 10) / 3)
    assert reduce(values, mask, "constant", 8).item() == pytest.approx(17 / 24)


@pytest.mark.parametrize("how", REDUCTIONS)
def test_a_batch_without_tokens_has_no_loss_and_no_gradient(how):
    student, teacher, tokens, _ = batch(5)
    nothing = torch.zeros(tokens.shape, dtype=torch.bool)
    student.requires_grad_()
    logprob = token_logprob(student, tokens, nothing)
    losses = [
        divergence(student, teacher, nothing, "jsd", top_k=2),
        -token_logprob(student, tokens, nothing),
        policy_gradient_loss(logprob, None, torch.ones(3), nothing),
    ]
    for apart in losses:
        loss = reduce(apart, nothing, how, 4)
        assert loss.item() == 0
        assert (gradient(loss, student)[0] == 0).all()
    empty = torch.zeros(0, 4)
    assert reduce(empty, empty.bool(), how, 4).item() == 0


def test_mean_negative_log_probability_is_cross_entropy():
    student, _, tokens, mask = batch(7)
    labels = tokens.masked_fill(~mask, -100)
    student.requires_grad_()
    expected = torch.nn.functional.cross_entropy(student.flatten(0, 1), labels.flatten())
    loss = reduce(-token_logprob(student, labels, mask), mask)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, student), gradient(expected, student))


def test_half_precision_is_computed_in_float32():
    student, teacher, tokens, mask = batch(8, dtype=torch.bfloat16)
    exact = divergence(student.double(), teacher.double(), mask)
    values = divergence(student, teacher, mask)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-6)
    assert token_logprob(student, tokens, mask).dtype == torch.float32


def test_no_gradient_reaches_the_teacher():
    student, teacher, _, mask = batch(11)
    student.requires_grad_()
    teacher.requires_grad_()
    reduce(divergence(student, teacher, mask, "jsd"), mask).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("kind", ["reverse", "jsd", "forward"])
@pytest.mark.parametrize("seed", range(4))
def test_losses_are_level_at_the_optima_of_the_theory(kind, seed):
    """Each is convex in the policy, so that this is its minimum."""
    rng = np.random.default_rng(seed)
    teachers, weights = np.log(rng.dirichlet(np.ones(4), 3)), rng.dirichlet(np.ones(3))
    optimum = distillation_optimum(teachers, weights, kind)
    student = torch.from_numpy(optimum.log_prob).requires_grad_()
    apart = divergence(
        student.expand(3, 1, 4),
        torch.from_numpy(teachers)[:, None],
        torch.ones(3, 1, dtype=torch.bool),
        kind,
    )
    loss = torch.from_numpy(weights) @ apart[:, 0]
    assert loss.item() == pytest.approx(optimum.value, rel=1e-9)
    assert gradient(loss, student)[0].abs().max() < 1e-9


seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from([("reverse", 0.5), ("forward", 0.5), ("jsd", 0.05), ("jsd", 0.5)])
top_ks = st.sampled_from([None, 1, 3, 7])


@settings(max_examples=60)
@given(seed=seeds, kind=kinds, top_k=top_ks, scale=st.floats(0.01, 50))
def test_divergences_are_not_negative_and_zero_at_equality(seed, kind, top_k, scale):
    student, teacher, _, mask = batch(seed, scale=scale)
    values = divergence(student, teacher, mask, *kind, top_k=top_k)
    exact = {"rtol": 0, "atol": 1e-12 if top_k is None else 2e-7}  # the least tail of the top-k
    assert (values >= -exact["atol"]).all()
    if top_k is None and scale < 5:  # sharper ones can agree to the last digit
        assert (values[mask] > 0).all()
    # A shift of the logits is no change; at equality the gradient is zero as well.
    same = (student + 3).requires_grad_()
    at_equality = divergence(same, student, mask, *kind, top_k=top_k)
    torch.testing.assert_close(at_equality, torch.zeros_like(at_equality), **exact)
    slope = gradient(at_equality.sum(), same)[0]
    torch.testing.assert_close(slope, torch.zeros_like(slope), **exact)


def spoil(x, mask, value):
    place = ~mask if x.ndim == 2 else ~mask[..., None].expand(x.shape)
    return x.detach().masked_fill(place, value)


@settings(max_examples=30)
@given(seed=seeds, junk=st.sampled_from([NAN, INF, -INF, 1e30]), how=st.sampled_from(REDUCTIONS))
def test_masked_positions_never_matter(seed, junk, how):
    student, teacher, tokens, mask = batch(seed)
    logprob, old, _ = logprobs(seed)
    advantages = torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed % 97))
    spoilt_tokens = tokens.masked_fill(~mask, -100)
    pairs = [
        (student, lambda x, bad: divergence(x, bad(teacher), mask, "jsd")),
        (student, lambda x, bad: divergence(x, bad(teacher), mask, top_k=2)),
        (student, lambda x, bad: -token_logprob(x, spoilt_tokens, mask)),
        (logprob, lambda x, bad: policy_gradient_loss(x, bad(old), bad(advantages), mask)),
        (logprob, lambda x, bad: x),
    ]
    for clean, function in pairs:
        results = []
        for bad in (lambda x: x.detach(), lambda x: spoil(x, mask, junk)):
            x = bad(clean).requires_grad_()
            loss = reduce(function(x, bad), mask, how, 3)
            results.append((loss, gradient(loss, x)[0]))
        (loss, slope), (spoilt_loss, spoilt_slope) = results
        assert torch.isfinite(loss)
        assert torch.equal(loss, spoilt_loss)
        assert torch.equal(slope, spoilt_slope)
        assert (slope[~mask] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("top_k", [None, 1, 4])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_extreme_logits_stay_finite(dtype, top_k, scale):
    student, teacher, tokens, mask = batch(13, dtype=dtype)
    student, teacher = scale * student, scale * teacher
    student.requires_grad_()
    for kind, alpha, _ in KINDS:
        apart = divergence(student, teacher, mask, kind, alpha, top_k=top_k)
        loss = reduce(apart, mask, "sequence")
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient(loss, student)[0]).all()
    logprob, other = (token_logprob(x.detach(), tokens, mask) for x in (student, teacher))
    logprob.requires_grad_()
    advantages = torch.tensor([1.0, 0.0, -1.0])
    for apart, x in (
        (token_logprob(student, tokens, mask), student),
        (policy_gradient_loss(logprob, other, advantages, mask), logprob),
        (policy_gradient_loss(logprob, other, advantages, mask, clip=None), logprob),
    ):
        loss = reduce(apart, mask)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient(loss, x)[0]).all()


def test_forbidden_tokens():
    student, teacher, _, mask = batch(14)
    allowed = torch.arange(7) < 5
    both = [x.masked_fill(~allowed, -INF) for x in (student, teacher)]
    for kind, alpha, _ in KINDS:
        x = both[0].clone().requires_grad_()
        values = divergence(x, both[1], mask, kind, alpha)
        torch.testing.assert_close(
            values, divergence(student[..., :5], teacher[..., :5], mask, kind, alpha)
        )
        assert torch.isfinite(gradient(values.sum(), x)[0]).all()
        few = divergence(x, both[1], mask, kind, alpha, top_k=6)
        torch.testing.assert_close(few, values, rtol=0, atol=2e-7)
        assert torch.isfinite(gradient(few.sum(), x)[0]).all()
    # A token that only one side forbids is a veto in one direction; JSD knows none.
    assert (divergence(student, both[1], mask, "reverse")[mask] == INF).all()
    assert torch.isfinite(divergence(both[0], teacher, mask, "reverse")).all()
    assert (divergence(both[0], teacher, mask, "forward")[mask] == INF).all()
    for pair in ((student, both[1]), (both[0], teacher)):
        x = pair[0].clone().requires_grad_()
        values = divergence(x, pair[1], mask, "jsd")
        assert (values <= math.log(2)).all()
        assert torch.isfinite(gradient(values.sum(), x)[0]).all()


def test_policy_gradient_clips_as_ppo():
    ratio = torch.tensor([[0.5, 0.9, 1.1, 2.0]])
    logprob = ratio.log().requires_grad_()
    mask = torch.ones(1, 4, dtype=torch.bool)
    zeros = torch.zeros(1, 4)
    for advantage, values, moves in (
        (1.0, [-0.5, -0.9, -1.1, -1.5], [1, 1, 1, 0]),
        (-1.0, [0.8, 0.9, 1.1, 2.0], [0, 1, 1, 1]),
    ):
        loss = policy_gradient_loss(
            logprob, zeros, torch.tensor([advantage]), mask, clip=(0.2, 0.5)
        )
        torch.testing.assert_close(loss, torch.tensor([values]))
        slope = gradient(loss.sum(), logprob)[0]
        torch.testing.assert_close(slope, -advantage * ratio * torch.tensor([moves]))
        free = policy_gradient_loss(logprob, zeros, torch.tensor([advantage]), mask, clip=None)
        torch.testing.assert_close(free, -advantage * ratio)
        torch.testing.assert_close(gradient(free.sum(), logprob)[0], -advantage * ratio)


B, T, V = 2, 3, 4
LOGITS, FLAT = torch.zeros(B, T, V), torch.zeros(B, T)
MASK = torch.ones(B, T, dtype=torch.bool)
TOKENS = torch.zeros(B, T, dtype=torch.long)


test_bad_input_is_named = refusals(
    (lambda: divergence(LOGITS, LOGITS, MASK, "kl"), "known: reverse, forward, jsd"),
    (lambda: divergence(LOGITS, LOGITS, MASK, "jsd", 1.1), r"alpha=1\.1 must be between 0"),
    (lambda: divergence(LOGITS, LOGITS, MASK, "jsd", NAN), "alpha=nan must be between"),
    (lambda: divergence(LOGITS, LOGITS, MASK, top_k=0), "top_k=0 must be at least 1"),
    (lambda: divergence(LOGITS, LOGITS[..., 1:], MASK), r"must have one shape \[B, T, V\]"),
    (lambda: divergence(LOGITS, LOGITS[:, 1:], MASK), r"teacher_logits .* must be \[2, 3, V\]"),
    (lambda: reduce(FLAT, MASK, "mean"), "known: token, sequence"),
    (lambda: divergence(LOGITS, LOGITS, FLAT), "mask must be bool or integer"),
    (lambda: divergence(LOGITS, LOGITS, MASK[0]), "mask must be bool or integer of shape"),
    (lambda: reduce(FLAT, MASK, "constant"), "give a positive length"),
    (lambda: reduce(FLAT, MASK, "constant", 0), "give a positive length"),
    (lambda: reduce(FLAT[:1], MASK), r"values has shape \(1, 3\)"),
    (lambda: token_logprob(LOGITS, TOKENS[:, :1], MASK), r"tokens has shape \(2, 1\)"),
    (lambda: token_logprob(FLAT, TOKENS, MASK), r"logits has shape \(2, 3\)"),
    (
        lambda: policy_gradient_loss(FLAT, FLAT, torch.zeros(3), MASK),
        r"advantages has shape \(3, 3\)",
    ),
    (lambda: policy_gradient_loss(FLAT, FLAT, LOGITS, MASK), "advantages has shape"),
    (lambda: policy_gradient_loss(FLAT, FLAT[1:], FLAT, MASK), "old_logprob has shape"),
    (lambda: policy_gradient_loss(FLAT, FLAT, FLAT, MASK, (1.5, 0.2)), r"clip=\(1\.5, 0\.2\)"),
)
