"""Sampling answers from a causal language model, and scoring given ones.

Sampling is fast because each distinct prompt (for Llama, each distinct beginning of an answer) runs
through the model once, and because rows that have ended leave the batch. None of it changes the
distribution: one uniform number a row and token is drawn before the start and picks the token by
inverting the cumulative distribution. So a row's numbers depend neither on how rows are batched nor
on when others end, but for the last bits of the model's logits, as matrix products of other sizes
round differently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import LlamaForCausalLM, PreTrainedModel

from passk_lab.lab._decoding import (
    CacheDecoder,
    LlamaDecoder,
    TokenTree,
    check_context,
    evaluating,
    logits_after,
    logits_alone,
    padded,
    run_prompts,
    start_decoding,
)
from passk_lab.lab.tasks.base import Task

__all__ = ["Decoding", "Samples", "sample", "score"]

# More share more, but attend to more keys that are masked.
_TREE_NODES = 768


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn, and how they end.

    ``eos_id``, one or several, ends an answer; one that is cut off after ``max_new_tokens`` has no
    end. ``temperature`` divides the logits, ``pad_id`` fills rows up, ``batch_rows`` rows at once
    bound the memory. ``as_tree`` runs what prompts share in their beginnings once (Llama only; the
    same numbers but for the last bits), as few-shot prompts do. A number out of range is a
    ValueError.
    """

    max_new_tokens: int
    eos_id: int | Collection[int]
    pad_id: int
    temperature: float = 1.0
    batch_rows: int = 1024
    as_tree: bool = False

    def __post_init__(self) -> None:
        _check_numbers(
            self.temperature, max_new_tokens=self.max_new_tokens, batch_rows=self.batch_rows
        )

    @classmethod
    def of(cls, task: Task[Any], temperature: float = 1.0, as_tree: bool = False) -> Decoding:
        """That of a task's answers."""
        ends = getattr(task, "ends", task.eos_id)
        return cls(task.max_answer_tokens, ends, task.pad_id, temperature, as_tree=as_tree)

    @property
    def ends(self) -> list[int]:
        """The end tokens."""
        return [self.eos_id] if isinstance(self.eos_id, int) else sorted(self.eos_id)


@dataclass(frozen=True)
class Samples:
    """Sampled answers, right padded; row ``i * n_per_prompt + j`` is sample j of prompt i.

    ``tokens`` [B, T] have the end token and then ``pad_id``; ``mask`` [B, T] is true where a token
    was sampled. ``logprob`` and ``entropy`` [B, T] are those of the distribution that a token was
    drawn from, in nats; 0 where masked.
    """

    tokens: Tensor
    mask: Tensor
    logprob: Tensor
    entropy: Tensor

    def answers(self) -> list[list[int]]:
        """Token lists without the padding."""
        lengths = self.mask.sum(dim=1).tolist()
        return [row[:n] for row, n in zip(self.tokens.tolist(), lengths, strict=True)]

    def graded(
        self, task: Task[Any], prompts: Sequence[Any]
    ) -> tuple[list[str | None], npt.NDArray[np.bool_]]:
        """Canonical answers [B], None where tokens make none, and verdicts [G, n_per_prompt]."""
        answers = [task.decode(tokens) for tokens in self.answers()]
        owners = [prompt for prompt in prompts for _ in range(len(answers) // len(prompts))]
        if hasattr(task, "canonical"):
            answers = [task.canonical(p, a) for p, a in zip(owners, answers, strict=True)]
        correct = [task.verify(p, a) for p, a in zip(owners, answers, strict=True)]
        return answers, np.array(correct, dtype=bool).reshape(len(prompts), -1)


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    n_per_prompt: int,
    decoding: Decoding,
    generator: torch.Generator | None = None,
) -> Samples:
    """Sample answers to each prompt, with the log-probabilities of their tokens.

    Parameters
    ----------
    model : PreTrainedModel
        Any causal language model that works with a ``DynamicCache``, on any device.
    prompts : sequence of token sequences
    n_per_prompt : int
    decoding : Decoding
    generator : torch.Generator, optional
        On any device; default torch's global one. It advances by ``B * max_new_tokens`` numbers.

    Raises
    ------
    ValueError
        A prompt is empty or doesn't fit the context; ``n_per_prompt`` < 1; the model gives NaN.

    Examples
    --------
    >>> from passk_lab.lab.model import ModelConfig, build_model
    >>> model = build_model(ModelConfig(vocab_size=9, context_length=16), seed=0)
    >>> len(sample(model, [[3, 4], [5]], 4, Decoding(6, eos_id=1, pad_id=0)).answers())
    8
    """
    _check_numbers(decoding.temperature, n_per_prompt=n_per_prompt)
    check_context(model, prompts, [decoding.max_new_tokens] * len(prompts))
    n_rows = len(prompts) * n_per_prompt
    shape = (n_rows, decoding.max_new_tokens)
    where = "cpu" if generator is None else generator.device
    uniforms = torch.rand(shape, dtype=torch.float64, generator=generator, device=where)
    uniforms = uniforms.to(model.device)
    # Made outside of inference mode: autograd refuses inference tensors, and losses use these.
    drawn = Samples(
        tokens=torch.full(shape, decoding.pad_id, device=model.device),
        mask=torch.zeros(shape, dtype=torch.bool, device=model.device),
        logprob=torch.zeros(shape, device=model.device),
        entropy=torch.zeros(shape, device=model.device),
    )
    owners = [prompt for prompt in prompts for _ in range(n_per_prompt)]
    with torch.inference_mode(), evaluating(model):
        for group in _groups(owners, decoding.batch_rows):
            room = decoding.max_new_tokens
            decoder_of = start_decoding(
                model, group.prompts, decoding.pad_id, room, decoding.as_tree
            )
            for rows, source in group.parts(decoding.batch_rows, model.device):
                _continue(decoder_of(source), rows, uniforms, decoding, drawn)
    if not torch.isfinite(drawn.logprob).all():
        raise ValueError("the model's logits are NaN or infinite; check its weights")
    longest = int(drawn.mask.sum(dim=1).max()) if n_rows else 0
    return Samples(**{name: values[:, :longest] for name, values in vars(drawn).items()})


def score(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    pad_id: int,
    temperature: float = 1.0,
    return_logits: bool = False,
    batch_rows: int = 1024,
    as_tree: bool = False,
) -> Tensor:
    """Score given answers: the model predicts each token from the prompt and those before it.

    Gradients flow where they are enabled. Equal prompts run through the model once (and share their
    dropout in training mode).

    Parameters
    ----------
    model : PreTrainedModel
    prompts, answers : sequences of token sequences
        Row i scores ``answers[i]`` after ``prompts[i]``; the end token counts where it is given.
    pad_id, temperature, batch_rows, as_tree
        As for `Decoding`. With gradients, the graphs of all rows are kept.
    return_logits : bool
        Return logits (divided by the temperature) instead of log-probabilities.

    Returns
    -------
    Tensor [B, T] or [B, T, V], float32
        Log-probability of each answer token (nats), or logits; 0 after the answer's end.

    Raises
    ------
    ValueError
        Numbers of prompts and answers differ; one is empty; together they don't fit the context.
    """
    _check_numbers(temperature, batch_rows=batch_rows)
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts but {len(answers)} answers; give one a prompt")
    lengths = [len(answer) for answer in answers]
    if not lengths or min(lengths) == 0:
        which = f"answer {lengths.index(0)} is empty" if lengths else "there are no answers"
        raise ValueError(f"{which}; an answer has at least its end token")
    check_context(model, prompts, lengths)
    if as_tree and type(model) is LlamaForCausalLM:
        return _score_tree(model, prompts, answers, temperature, return_logits)
    longest = max(lengths)
    # Gradient checkpointing runs layers twice and so can't keep keys and values.
    checkpointing = any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    can_share = not (model.training and checkpointing)
    scored, order = [], []
    for group in _groups(prompts, batch_rows):
        shared = can_share and len(group.prompts) < len(group.rows)
        prefix = run_prompts(model, group.prompts, pad_id) if shared else None
        for rows, source in group.parts(batch_rows, model.device):
            chosen = rows.tolist()
            tokens, mask = padded([answers[row] for row in chosen], pad_id, model.device)
            if prefix is None:
                before = [prompts[row] for row in chosen]
                logits = logits_alone(model, before, tokens, mask, pad_id)
            else:
                logits = logits_after(model, prefix, source, tokens, mask)
            values = logits.float() / temperature
            if not return_logits:
                values = log_softmax(values, dim=-1).gather(-1, tokens[..., None])[..., 0]
            outside = ~mask.reshape(mask.shape + (1,) * (values.ndim - 2))
            missing = values.new_zeros(len(values), longest - values.shape[1], *values.shape[2:])
            scored.append(torch.cat([values.masked_fill(outside, 0.0), missing], dim=1))
            order += chosen
    back = torch.tensor(order, device=model.device).argsort()
    return torch.cat(scored)[back]


def _score_tree(
    model: LlamaForCausalLM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float,
    return_logits: bool,
) -> Tensor:
    """`score` with equal beginnings run once: many rows at a time as one tree."""
    longest, scored = max(map(len, answers)), []
    tree, paths = TokenTree(), []
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        path = tree.add([*prompt, *answer[:-1]])
        paths.append(path[len(prompt) - 1 :])
        if len(tree) < _TREE_NODES and row + 1 < len(prompts):
            continue
        nodes = sorted({node for path in paths for node in path})
        place = {node: at for at, node in enumerate(nodes)}
        values = tree.run(model, nodes)[0].float() / temperature
        at, mask = padded([[place[node] for node in path] for path in paths], 0, model.device)
        if return_logits:
            found = values.index_select(0, at.flatten()).view(*at.shape, -1)
        else:
            tokens, _ = padded(answers[row + 1 - len(paths) : row + 1], 0, model.device)
            found = log_softmax(values, dim=-1)[at, tokens]
        outside = ~mask.reshape(mask.shape + (1,) * (found.ndim - 2))
        missing = found.new_zeros(len(at), longest - at.shape[1], *found.shape[2:])
        scored.append(torch.cat([found.masked_fill(outside, 0.0), missing], dim=1))
        tree, paths = TokenTree(), []
    return torch.cat(scored)


def _continue(
    decoder: CacheDecoder | LlamaDecoder,
    rows: Tensor,
    uniforms: Tensor,
    decoding: Decoding,
    drawn: Samples,
) -> None:
    """Draw the answers of ``rows`` token by token and write them into ``drawn``."""
    ends = torch.tensor(decoding.ends, device=rows.device)
    logits = decoder.first_logits
    live = torch.ones_like(rows, dtype=torch.bool)
    for t in range(decoding.max_new_tokens):
        token, logprob, entropy = _draw(logits, decoding.temperature, uniforms[rows, t])
        drawn.tokens[rows, t] = torch.where(live, token, drawn.tokens[rows, t])
        drawn.mask[rows, t] = live
        drawn.logprob[rows, t] = torch.where(live, logprob, 0.0)
        drawn.entropy[rows, t] = torch.where(live, entropy, 0.0)
        live = live & ~torch.isin(token, ends)
        n_live = int(live.sum())
        if n_live == 0 or t + 1 == decoding.max_new_tokens:
            return
        if len(rows) - n_live > decoder.drop_share * len(rows):
            keep = live.nonzero()[:, 0]
            rows, token, live = rows[keep], token[keep], live[keep]
            decoder.keep(keep)
        logits = decoder.step(token)


def _draw(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Token, its log-probability and the entropy, by inverting the cumulative distribution."""
    logprobs = log_softmax(logits.float() / temperature, dim=-1)
    probabilities = logprobs.exp()
    cumulative = probabilities.double().cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    # Right: a token of probability 0 is never picked. The clamp only concerns NaN, reported later.
    token = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    entropy = -(probabilities * logprobs.clamp(min=torch.finfo(torch.float32).min)).sum(dim=-1)
    return token[:, 0], logprobs.gather(-1, token)[:, 0], entropy


@dataclass(frozen=True)
class _Group:
    """Distinct prompts that run through the model together, and the rows that continue them."""

    prompts: list[Sequence[int]]
    rows: list[int]
    source: list[int]  # for each row, its place in prompts

    def parts(self, batch_rows: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        rows, source = (torch.tensor(x, device=device) for x in (self.rows, self.source))
        return zip(rows.split(batch_rows), source.split(batch_rows), strict=True)


def _groups(prompts: Sequence[Sequence[int]], batch_rows: int) -> Iterator[_Group]:
    """Gather equal prompts; a group has at most ``batch_rows`` rows, or one prompt.

    Prompts are sorted by length, so that groups need little padding.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(tuple(prompt), []).append(row)
    group = _Group([], [], [])
    for prompt, rows in sorted(rows_of.items(), key=lambda item: len(item[0])):
        if group.rows and len(group.rows) + len(rows) > batch_rows:
            yield group
            group = _Group([], [], [])
        group.source.extend([len(group.prompts)] * len(rows))
        group.prompts.append(prompt)
        group.rows.extend(rows)
    if group.rows:
        yield group


def _check_numbers(temperature: float, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
