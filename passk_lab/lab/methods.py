"""The methods: what each makes of one batch of rollouts.

A method is a loss function over a `Batch`. Distilling methods compare the student with a teacher,
the same model that also sees a demonstration; they differ in which demonstration is shown to a
row and in the divergence. Reinforcing methods weigh the student's own tokens by an advantage.

docs/training.md has the formulas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from passk_lab._text import look_up
from passk_lab.lab import losses, rewards
from passk_lab.lab.evaluate import correct_answer_policy
from passk_lab.lab.sampling import Decoding, Samples, sample, score
from passk_lab.lab.tasks.base import Task

__all__ = ["METHODS", "Batch", "LossOptions", "get_method", "method"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LossOptions:
    """Numbers that a method's loss may use.

    Attributes
    ----------
    kl_coef, trust : float
        Weight of KL(student || base) in the reinforcing and in the distilling methods; ``trust`` is
        beta', for a tilt of 1 / (1 + beta').
    reduction : {"sequence", "sequence_mean", "token"}
        How losses per token become one number, see `passk_lab.lab.losses.reduce`.
    clip : (float, float)
        Bounds of the probability ratio below and above 1.
    at_k : int
        k of the pass@k and distinct@k that ``pkpo`` and ``dkpo`` climb.
    baseline, standardise, mix : bool, bool, float
        Of ``dkpo``: subtract the leave-one-out baseline; standardise in the group; the share of
        distinct@k in the reward, whose rest is plain accuracy.
    balanced : bool
        Of ``sdsd-composed`` and ``rft``: distinct correct answers of a group count alike.
    reward : float
        Weight of the policy gradient of distinct@k that ``sdsd-anchored`` adds.
    diversity, tau, floor, anchor : float
        Weight of the disjoint concepts of ``grpo-diversity``; the tilt of ``ucpo``; the weights of
        the support floor and of what ``sdsd-anchored`` keeps.
    """

    kl_coef: float = 0.0
    trust: float = 0.0
    reduction: losses.Reduction = "sequence"
    clip: tuple[float, float] = (0.2, 0.2)
    at_k: int = 4
    baseline: bool = False
    standardise: bool = True
    mix: float = 1.0
    balanced: bool = False
    reward: float = 0.0
    diversity: float = 1.0
    tau: float = 0.2
    floor: float = 1.0
    anchor: float = 1.0


@dataclass
class Batch:
    """One step's rollouts: G prompts with n rollouts each, row g * n + j is rollout j of prompt g.

    ``answers`` [B] are canonical, None where the tokens make none; ``correct`` is [G, n]. Gradients
    flow into ``student`` alone; ``rng`` chooses demonstrations. What a method notes in ``measured``
    is logged. ``demonstrator`` is another model, whose correct answers some methods show;
    ``as_tree`` is for `passk_lab.lab.sampling.score`.
    """

    task: Task[Any]
    prompts: Sequence[Any]
    samples: Samples
    answers: list[str | None]
    correct: Bools
    student: PreTrainedModel
    teacher: PreTrainedModel
    base: PreTrainedModel
    rng: np.random.Generator
    options: LossOptions
    demonstrator: PreTrainedModel | None = None
    as_tree: bool = False
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rollouts of a prompt."""
        return self.correct.shape[1]

    @property
    def owners(self) -> list[Any]:
        """Prompt of each row [B]."""
        return [prompt for prompt in self.prompts for _ in range(self.n)]

    @property
    def mask(self) -> Tensor:
        """Tokens that were sampled [B, T]."""
        return self.samples.mask

    @cached_property
    def student_logits(self) -> Tensor:
        """Logits of the student [B, T, V], with gradients."""
        return self.logits_of(self.student, [None] * len(self.answers))

    @cached_property
    def student_logprob(self) -> Tensor:
        """Log-probability of the sampled tokens under the student [B, T], with gradients."""
        return losses.token_logprob(self.student_logits, self.samples.tokens, self.mask)

    @cached_property
    def base_logits(self) -> Tensor:
        """Logits of the base [B, T, V], without gradients."""
        with torch.no_grad():
            return self.logits_of(self.base, [None] * len(self.answers))

    def teacher_logits(self, demos: Sequence[str | None]) -> Tensor:
        """Logits of the teacher, each row after its own demonstration, without gradients."""
        with torch.no_grad():
            return self.logits_of(self.teacher, demos)

    def logits_of(self, model: PreTrainedModel, demos: Sequence[str | None]) -> Tensor:
        """Logits of a model [B, T, V], each row after its own demonstration."""
        contexts = [self.task.encode(p, d) for p, d in zip(self.owners, demos, strict=True)]
        answers, pad_id = self.samples.answers(), self.task.pad_id
        return score(model, contexts, answers, pad_id, return_logits=True, as_tree=self.as_tree)

    def rows(self, keep: Bools) -> Tensor:
        """Mask of the tokens of some rows [B, T]."""
        return self.mask & torch.from_numpy(keep.ravel()).to(self.mask.device)[:, None]


Picker = Callable[[Batch], "list[str | None]"]
LossFunction = Callable[[Batch], Tensor]

METHODS: dict[str, LossFunction] = {}


def method(name: str) -> Callable[[LossFunction], LossFunction]:
    """Register a loss as the training method ``name``; its docstring's first line describes it."""

    def register(loss: LossFunction) -> LossFunction:
        METHODS[name] = loss
        return loss

    return register


def get_method(name: str) -> LossFunction:
    """Look a method up by name; a variant's suffix ("sdsd/frozen") is passed over.

    Examples
    --------
    >>> get_method("sdsd/frozen").__doc__
    'Reverse KL to the teacher that saw a random correct peer.'
    """
    return look_up("method", name.split("/")[0], METHODS)


# --- demonstrations: for each row an answer to show to the teacher, None where there is none -----


def _peers(batch: Batch) -> list[str | None]:
    """A random correct rollout of the group, another row than its own where possible."""
    return _from_group(batch, batch.correct, distinct=False)


def _distinct_peers(batch: Batch) -> list[str | None]:
    """Uniform over the distinct correct answers of the group's other rows, where possible."""
    return _from_group(batch, batch.correct, distinct=True)


def _wrong_peers(batch: Batch) -> list[str | None]:
    """A random incorrect rollout of the group that can be written down as an answer."""
    readable = np.array([a is not None for a in batch.answers]).reshape(batch.correct.shape)
    return _from_group(batch, readable & ~batch.correct, distinct=False)


def _strangers(batch: Batch) -> list[str | None]:
    """A random correct rollout of another prompt."""
    right = np.flatnonzero(batch.correct)
    picked: list[str | None] = []
    for row in range(len(batch.answers)):
        others = right[right // batch.n != row // batch.n]
        picked.append(batch.answers[batch.rng.choice(others)] if len(others) else None)
    return picked


def _external(batch: Batch) -> list[str | None]:
    """Correct answers of the demonstrator, as often as it gives them."""
    if batch.demonstrator is None:
        raise ValueError("this method shows answers of another model; give train() a demonstrator")
    policy = correct_answer_policy(batch.demonstrator, batch.task, batch.prompts)
    policy["p"] = np.exp(policy["logprob"])
    by_prompt = dict(iter(policy.groupby("problem_id", sort=False)))
    picked: list[str | None] = []
    for prompt in batch.prompts:
        rows = by_prompt[prompt.problem_id]
        p = rows["p"].to_numpy() / rows["p"].sum()
        picked += batch.rng.choice(rows["answer"].to_numpy(object), batch.n, p=p).tolist()
    return picked


def _several_peers(batch: Batch, n_demos: int) -> list[list[str | None]]:
    """Distinct correct answers of the group's other rows for each row; short of them, again."""
    found: list[list[str | None]] = [[] for _ in range(n_demos)]
    for pool in _pools(batch, batch.correct, distinct=True):
        shown = batch.rng.permutation(list(map(str, pool))).tolist() if pool else [None]
        for at, demos in enumerate(found):
            demos.append(shown[at % len(shown)])
    return found


def _from_group(batch: Batch, allowed: Bools, distinct: bool) -> list[str | None]:
    pools = _pools(batch, allowed, distinct)
    return [pool[batch.rng.integers(len(pool))] if pool else None for pool in pools]


def _pools(batch: Batch, allowed: Bools, distinct: bool) -> Iterator[list[str | None]]:
    """For each row the answers of the group's allowed rows, without its own where possible."""
    for g, members in enumerate(allowed):
        found = np.flatnonzero(members)
        for j in range(batch.n):
            others = found[found != j]
            pool = [batch.answers[g * batch.n + i] for i in (others if len(others) else found)]
            yield sorted(set(pool)) if distinct else pool  # type: ignore[type-var]


def _shown(demos: Sequence[str | None]) -> Bools:
    return np.array([demo is not None for demo in demos])


# --- losses --------------------------------------------------------------------------------------


def _distil(batch: Batch, picker: Picker, kind: losses.Kind, keep: Bools | None = None) -> Tensor:
    demos = picker(batch)
    shown = _shown(demos)
    if keep is not None:
        shown &= keep.ravel()
    return _against_teacher(batch, batch.teacher_logits(demos), shown, kind)


def _against_teacher(
    batch: Batch, teacher_logits: Tensor, shown: Bools, kind: losses.Kind
) -> Tensor:
    mask = batch.rows(shown)
    batch.measured["taught"] = float(shown.mean())
    apart = losses.divergence(batch.student_logits, teacher_logits, mask, kind)
    return _near_base(
        batch, losses.reduce(apart, mask, batch.options.reduction), mask, batch.options.trust
    )


def _near_base(batch: Batch, loss: Tensor, mask: Tensor, weight: float) -> Tensor:
    """Add KL(student || base), where it has a weight."""
    if not weight:
        return loss
    stay = losses.divergence(batch.student_logits, batch.base_logits, mask, "reverse")
    return loss + weight * losses.reduce(stay, mask, batch.options.reduction)


@method("sdsd")
def _sdsd(batch: Batch) -> Tensor:
    """Reverse KL to the teacher that saw a random correct peer."""
    return _distil(batch, _peers, "reverse")


@method("sdsd-forward")
def _sdsd_forward(batch: Batch) -> Tensor:
    """Forward KL to that teacher."""
    return _distil(batch, _peers, "forward")


@method("sdsd-jsd")
def _sdsd_jsd(batch: Batch) -> Tensor:
    """Jensen-Shannon divergence to that teacher."""
    return _distil(batch, _peers, "jsd")


@method("sdsd-uniform")
def _sdsd_uniform(batch: Batch) -> Tensor:
    """Reverse KL, demonstrations uniform over distinct correct answers."""
    return _distil(batch, _distinct_peers, "reverse")


@method("sdsd-3")
def _sdsd_3(batch: Batch) -> Tensor:
    """Mean reverse KL to three teachers, each of which saw another correct answer of the group."""
    parts = [_distil(batch, lambda _, demos=demos: demos, "reverse")  # type: ignore[misc]
             for demos in _several_peers(batch, 3)]  # fmt: skip
    return torch.stack(parts).mean()


@method("sdsd-external")
def _sdsd_external(batch: Batch) -> Tensor:
    """Reverse KL to the teacher that saw a correct answer of another model."""
    return _distil(batch, _external, "reverse")


@method("sdsd-composed")
def _sdsd_composed(batch: Batch) -> Tensor:
    """Reverse KL to the moving teacher without a demonstration, times the base's use of one.

    T proportional to teacher(.|x) base(.|x,c) / base(.|x): the policy moves, the effect of a
    demonstration doesn't.
    """
    demos = (_distinct_peers if batch.options.balanced else _peers)(batch)
    shown = _shown(demos)
    with torch.no_grad():
        given = batch.logits_of(batch.base, demos).log_softmax(-1)
        alone = batch.teacher_logits([None] * len(demos)).log_softmax(-1)
        composed = alone + given - batch.base_logits.log_softmax(-1)
    return _against_teacher(batch, composed, shown, "reverse")


@method("sdsd-anchored")
def _sdsd_anchored(batch: Batch) -> Tensor:
    """Reverse KL to the teacher that saw a peer, and to the base's behaviour after it."""
    demos = _peers(batch)
    shown = _shown(demos)
    loss = _against_teacher(batch, batch.teacher_logits(demos), shown, "reverse")
    with torch.no_grad():
        kept = batch.logits_of(batch.base, demos)
    now = batch.logits_of(batch.student, demos)
    mask = batch.rows(shown)
    moved = losses.divergence(now, kept, mask, "reverse")
    loss = loss + batch.options.anchor * losses.reduce(moved, mask, batch.options.reduction)
    return loss + batch.options.reward * _dkpo(batch) if batch.options.reward else loss


@method("sdsd-centred")
def _sdsd_centred(batch: Batch) -> Tensor:
    """Reverse KL without the part of its gradient that tilts correct rollouts against each other.

    The gradient of KL(p || T) over whole answers is -E (log T - log p) grad log p: s_i is the
    credit of row i. Among the correct rows of a group it is brought to their mean.
    """
    demos = _peers(batch)
    shown = _shown(demos)
    teacher_logits = batch.teacher_logits(demos)
    loss = _against_teacher(batch, teacher_logits, shown, "reverse")
    teacher = losses.token_logprob(teacher_logits, batch.samples.tokens, batch.mask)
    gain = (teacher - batch.student_logprob.detach()).sum(1).cpu().numpy()
    credit = gain.reshape(batch.correct.shape)
    excess = np.zeros_like(credit)
    for g, members in enumerate(batch.correct & shown.reshape(batch.correct.shape)):
        if members.any():
            excess[g, members] = credit[g, members] - credit[g, members].mean()
    weight = torch.from_numpy(excess.ravel()).to(batch.student_logprob)
    undo = (batch.student_logprob * batch.mask).sum(1) * weight
    return loss + undo.sum() / max(int(shown.sum()), 1)


def _reinforce(
    batch: Batch, advantages: Any, weights: Tensor | None = None, keep: Bools | None = None
) -> Tensor:
    mask = batch.mask if keep is None else batch.rows(keep)
    advantage = torch.as_tensor(np.asarray(advantages).ravel()).to(batch.student_logprob)
    per_token = losses.policy_gradient_loss(
        batch.student_logprob, batch.samples.logprob, advantage, mask, batch.options.clip
    )
    if weights is not None:
        per_token = per_token * weights
    loss = losses.reduce(per_token, mask, batch.options.reduction)
    return _near_base(batch, loss, mask, batch.options.kl_coef)


@method("grpo")
def _grpo(batch: Batch) -> Tensor:
    """Policy gradient with rewards standardised in the group."""
    return _reinforce(batch, rewards.group_advantages(batch.correct, "grpo"))


@method("rloo")
def _rloo(batch: Batch) -> Tensor:
    """Policy gradient against the mean of the other rollouts."""
    return _reinforce(batch, rewards.group_advantages(batch.correct, "rloo"))


@method("rft")
def _rft(batch: Batch) -> Tensor:
    """Cross-entropy on the correct rollouts."""
    mask = batch.rows(batch.correct)
    logprob = losses.token_logprob(batch.student_logits, batch.samples.tokens, mask)
    if batch.options.balanced:
        logprob = logprob * _share_of_answer(batch)[:, None]
    return losses.reduce(-logprob, mask, batch.options.reduction)


def _share_of_answer(batch: Batch) -> Tensor:
    """Weights of correct rows [B], the same for each distinct answer of a group; mean 1 in it."""
    weights = np.zeros(batch.correct.shape)
    for g, hits in enumerate(batch.correct):
        mine = [batch.answers[g * batch.n + j] for j in np.flatnonzero(hits)]
        counts = Counter(mine)
        weights[g, hits] = [len(mine) / len(counts) / counts[answer] for answer in mine]
    return torch.as_tensor(weights.ravel(), dtype=torch.float32, device=batch.mask.device)


@method("rl-modulated")
def _rl_modulated(batch: Batch) -> Tensor:
    """The verifier gives the direction; the teacher only how much a token counts."""
    teacher_logits = batch.teacher_logits(_peers(batch))
    teacher = losses.token_logprob(teacher_logits, batch.samples.tokens, batch.mask)
    size = (teacher - batch.student_logprob.detach()).abs() * batch.mask
    mean = size.sum(1, keepdim=True) / batch.mask.sum(1, keepdim=True).clamp(min=1)
    # A row whose tokens the teacher doesn't judge at all counts as in plain GRPO.
    weights = torch.where(mean > 0, size / mean.clamp(min=1e-12), torch.ones_like(size))
    advantages = rewards.group_advantages(batch.correct, "grpo")
    return _reinforce(batch, advantages, weights)


@method("srpo")
def _srpo(batch: Batch) -> Tensor:
    """Sample routing: correct rows are reinforced, failed rows are taught."""
    advantages = rewards.group_advantages(batch.correct, "grpo")
    share = float(batch.correct.mean())
    reinforced = _reinforce(batch, advantages, keep=batch.correct) if share > 0 else 0.0
    taught = _distil(batch, _peers, "reverse", keep=~batch.correct) if share < 1 else 0.0
    return torch.as_tensor(share * reinforced + (1 - share) * taught)


@method("mara")
def _mara(batch: Batch) -> Tensor:
    """Policy gradient with rewards anchored at the base's most likely correct mode."""
    base = losses.token_logprob(batch.base_logits, batch.samples.tokens, batch.mask)
    logprob = (base * batch.mask).sum(1).cpu().numpy().reshape(batch.correct.shape)
    anchored = rewards.mara_rewards(batch.correct, logprob, batch.options.kl_coef)
    return _reinforce(batch, rewards.group_advantages(anchored, "grpo"))


@method("pkpo")
def _pkpo(batch: Batch) -> Tensor:
    """Policy gradient of pass@k."""
    k = min(batch.options.at_k, batch.n)
    # The rewards are meant for a sum over the group; the loss takes a mean.
    return _reinforce(batch, batch.n * rewards.pkpo_rewards(batch.correct, k, baseline=True))


@method("dkpo")
def _dkpo(batch: Batch) -> Tensor:
    """Policy gradient of distinct@k."""
    options = batch.options
    groups = [
        [batch.answers[g * batch.n + j] if hit else None for j, hit in enumerate(hits)]
        for g, hits in enumerate(batch.correct)
    ]
    k = min(options.at_k, batch.n - options.baseline)
    found = batch.n * rewards.dkpo_rewards(groups, k, options.baseline)
    found = (
        options.mix * found / k + (1 - options.mix) * batch.correct if options.mix < 1 else found
    )
    return _reinforce(
        batch, rewards.group_advantages(found, "grpo") if options.standardise else found
    )


@method("grpo-diversity")
def _grpo_diversity(batch: Batch) -> Tensor:
    """Policy gradient with a reward for concepts that the group's other rollouts don't visit."""
    task: Any = batch.task
    if not hasattr(task, "concepts_of"):
        raise ValueError(f"grpo-diversity needs the concepts of answers; {task.name} has none")
    visited = [
        task.concepts_of(prompt, answer)
        for prompt, answer in zip(batch.owners, batch.answers, strict=True)
    ]
    starts = range(0, len(visited), batch.n)
    apart = rewards.disjoint_share([visited[at : at + batch.n] for at in starts])
    batch.measured["disjoint"] = float(apart.mean())
    total = batch.correct + batch.options.diversity * apart
    return _reinforce(batch, rewards.group_advantages(total, "grpo"))


@method("ucpo")
def _ucpo(batch: Batch) -> Tensor:
    """Policy gradient that favours the correct rollouts which are rare by their probability."""
    mean = batch.samples.logprob.sum(1) / batch.mask.sum(1).clamp(min=1)
    logprob = mean.cpu().numpy().reshape(batch.correct.shape)
    plain = rewards.group_advantages(batch.correct, "grpo")
    tilted = rewards.ucpo_advantages(plain, batch.correct, logprob, batch.options.tau)
    return _reinforce(batch, tilted)


@method("grpo-floor")
def _grpo_floor(batch: Batch) -> Tensor:
    """Policy gradient, and a penalty on what falls below half of the base's probability.

    On correct answers that the base gave, as often as it gives them.
    """
    loss = _reinforce(batch, rewards.group_advantages(batch.correct, "grpo"))
    generator = torch.Generator().manual_seed(int(batch.rng.integers(2**62)))
    contexts = [batch.task.encode(prompt) for prompt in batch.prompts]
    drawn = sample(batch.base, contexts, batch.n, Decoding.of(batch.task), generator)
    right = drawn.graded(batch.task, batch.prompts)[1].ravel()
    if not right.any():
        return loss
    rows = np.flatnonzero(right)
    before = drawn.logprob.sum(1)[torch.from_numpy(rows).to(drawn.logprob.device)]
    kept = drawn.answers()
    owners = [contexts[row // batch.n] for row in rows]
    now = score(batch.student, owners, [kept[row] for row in rows], batch.task.pad_id).sum(1)
    short = torch.relu(before + float(np.log(0.5)) - now)
    batch.measured["below_floor"] = float((short > 0).float().mean())
    return loss + batch.options.floor * short.sum() / len(right)


@method("control-other")
def _control_other(batch: Batch) -> Tensor:
    """Reverse KL, the demonstration solves another prompt."""
    return _distil(batch, _strangers, "reverse")


@method("control-wrong")
def _control_wrong(batch: Batch) -> Tensor:
    """Reverse KL, the demonstration is wrong."""
    return _distil(batch, _wrong_peers, "reverse")


@method("control-none")
def _control_none(batch: Batch) -> Tensor:
    """Reverse KL to the teacher without a demonstration."""
    everyone = np.ones(len(batch.answers), dtype=bool)
    nothing: list[str | None] = [None] * len(batch.answers)
    return _against_teacher(batch, batch.teacher_logits(nothing), everyone, "reverse")
