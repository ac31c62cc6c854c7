"""Running a causal language model: prompts once, then answers after their keys and values.

Decoders continue prompts token by token. `CacheDecoder` works with any transformers model;
`LlamaDecoder` computes the same function for the Llama architecture in fewer and larger steps.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import rotate_half

# On a CPU, so that a layer's intermediate values stay in the processor's cache.
_TOKENS_AT_ONCE = 512
_MOST_ROWS = 64  # of a block: more share more, but attend to more keys that are masked


def padded(
    sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Tokens [B, T] and mask [B, T] of sequences of unequal length."""
    longest = max(len(sequence) for sequence in sequences)
    tokens = torch.full((len(sequences), longest), pad_id)
    mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        columns = slice(longest - len(sequence), None) if left else slice(len(sequence))
        tokens[row, columns] = torch.tensor(sequence)
        mask[row, columns] = True
    return tokens.to(device), mask.to(device)


@dataclass(frozen=True)
class Prefix:
    """What the model keeps of G prompts, left padded to P."""

    cache: Any  # a DynamicCache
    mask: Tensor  # [G, P]
    lengths: Tensor  # [G]
    logits: Tensor  # [G, V], of the token that follows


def run_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int) -> Prefix:
    """Run prompts through the model, all at once."""
    tokens, mask = padded(prompts, pad_id, model.device, left=True)
    cache = DynamicCache(config=model.config)
    logits = _forward(model, tokens, mask, _positions(mask), cache, n_logits=1)
    return Prefix(cache, mask, mask.sum(dim=1), logits[:, 0])


def logits_after(
    model: PreTrainedModel, prefix: Prefix, source: Tensor, tokens: Tensor, mask: Tensor
) -> Tensor:
    """Logits [B, T, V] of answers, each after the prompt ``source`` of ``prefix``."""
    first = prefix.logits[source][:, None]
    n_more = tokens.shape[1] - 1
    if n_more == 0:
        return first
    seen = torch.cat([prefix.mask[source], mask[:, :-1]], dim=1)
    positions = prefix.lengths[source][:, None] + torch.arange(n_more, device=tokens.device)
    cache = _selected(prefix.cache, source)
    more = _forward(model, tokens[:, :-1], seen, positions, cache, n_logits=n_more)
    return torch.cat([first, more], dim=1)


def logits_alone(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Tensor,
    mask: Tensor,
    pad_id: int,
) -> Tensor:
    """Logits [B, T, V] of answers, each run together with its own prompt."""
    before, before_mask = padded(prompts, pad_id, model.device, left=True)
    sequence = torch.cat([before, tokens[:, :-1]], dim=1)
    seen = torch.cat([before_mask, mask[:, :-1]], dim=1)
    return _forward(model, sequence, seen, _positions(seen), None, n_logits=tokens.shape[1])


def check_context(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], n_answer_tokens: Sequence[int]
) -> None:
    """Refuse prompts that are empty or don't fit the model's context with their answers."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for index, (prompt, new) in enumerate(zip(prompts, n_answer_tokens, strict=True)):
        if not len(prompt):
            raise ValueError(f"prompt {index} is empty; give it at least one token to start from")
        if context is not None and len(prompt) + new > context:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and its answer up to {new}, together "
                f"longer than the model's context of {context}; shorten the prompt or the answer, "
                "or use a model with a longer context"
            )


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _forward(
    model: PreTrainedModel,
    tokens: Tensor,
    mask: Tensor,
    positions: Tensor,
    cache: DynamicCache | None,
    n_logits: int,
) -> Tensor:
    """Logits [B, n_logits, V] of the last positions."""
    accepted = inspect.signature(getattr(model, "_orig_mod", model).forward).parameters
    options: dict[str, Any] = {"use_cache": cache is not None}
    # transformers renamed the argument in 5.2x; the old name still works but warns.
    options["cache" if "cache" in accepted else "past_key_values"] = cache
    if "position_ids" in accepted:
        options["position_ids"] = positions
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = n_logits
    logits: Tensor = model(input_ids=tokens, attention_mask=mask.long(), **options).logits
    return logits[:, -n_logits:]


def start_decoding(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    pad_id: int,
    room: int,
    as_tree: bool = False,
) -> Callable[[Tensor], CacheDecoder | LlamaDecoder]:
    """Run prompts once; a decoder of ``source`` [R] continues these, each by ``room`` tokens."""
    if type(model) is LlamaForCausalLM:
        run = _run_prompts_tree if as_tree else _run_prompts_llama
        prefix = run(model, prompts, pad_id)
        return lambda source: LlamaDecoder(model, prefix, source, room)
    prefix = run_prompts(model, prompts, pad_id)
    return lambda source: CacheDecoder(model, prefix, source)


class CacheDecoder:
    """R rows that continue prompts: transformers' forward and cache, for any model."""

    drop_share = 0.2  # keep() is worth its cost once this share of the rows is to go

    def __init__(self, model: PreTrainedModel, prefix: Prefix, source: Tensor) -> None:
        self.model = model
        self.cache = _selected(prefix.cache, source)
        self.mask = prefix.mask[source]
        self.position = prefix.lengths[source]
        self.first_logits = prefix.logits[source]  # [R, V], of each row's first token

    def step(self, token: Tensor) -> Tensor:
        """Append a token [R] to each row; logits [R, V] of the one after it."""
        self.mask = pad(self.mask, (0, 1), value=True)
        position = self.position[:, None]
        logits = _forward(self.model, token[:, None], self.mask, position, self.cache, n_logits=1)
        self.position = self.position + 1
        return logits[:, 0]

    def keep(self, index: Tensor) -> None:
        """Keep these of the rows and drop the others."""
        self.mask, self.position = self.mask[index], self.position[index]
        self.cache.batch_select_indices(index)


def _selected(cache: Any, source: Tensor) -> Any:
    """A cache for the rows ``source`` of another one, which stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(source)
    return chosen


class LlamaDecoder:
    """As `CacheDecoder`, for the Llama architecture: runs every distinct beginning once.

    Rows of one prompt that have drawn the same tokens so far are one node: they share what the
    model computes, until they part. Attention runs over blocks. A block has the keys of a prompt
    and then, step by step, those of the nodes that its rows went through; a mask lets each node see
    the prompt and its own ancestors. So the rows of a block need one copy of the prompt and one
    matrix product, where row by row the products would be too small to be fast.
    """

    drop_share = 0.0

    def __init__(self, model: LlamaForCausalLM, prefix: Prefix, source: Tensor, room: int) -> None:
        self.model = model
        self.first_logits = prefix.logits[source]
        prompt_of, self.node_of, n_rows = _blocks(source)  # at first, a block is its only node
        self.block_of = torch.arange(len(prompt_of), device=source.device)
        self.position = prefix.lengths[prompt_of]
        self.slabs = [
            [_with_room(x, prompt_of, room * n_rows) for x in (layer.keys, layer.values)]
            for layer in prefix.cache.layers
        ]
        self.n_keys = prefix.mask.shape[1]
        self.visible = pad(prefix.mask[prompt_of], (0, room * n_rows))  # [nodes, all keys]

    def step(self, token: Tensor) -> Tensor:
        n_tokens, n_blocks = self.model.config.vocab_size, len(self.slabs[0][0])
        # The new nodes are the distinct pairs of an old one and a token, in the order of blocks.
        pair, self.node_of = (self.node_of * n_tokens + token).unique(return_inverse=True)
        parent, token = pair // n_tokens, pair % n_tokens
        self.block_of, self.position = self.block_of[parent], self.position[parent]
        n_nodes_of = self.block_of.bincount(minlength=n_blocks)
        n_slots = int(n_nodes_of.max())
        nodes = torch.arange(len(pair), device=token.device)
        slot = nodes - (n_nodes_of.cumsum(0) - n_nodes_of)[self.block_of]
        start, self.n_keys = self.n_keys, self.n_keys + n_slots
        self.visible = self.visible[parent]
        self.visible[nodes, start + slot] = True
        visible = self.visible.new_zeros(n_blocks, n_slots, self.n_keys)
        visible[self.block_of, slot] = self.visible[:, : self.n_keys]
        logits = _llama(
            self.model,
            token,
            self.position,
            place=(self.block_of, slot),
            slabs=[[x[:, :, : self.n_keys] for x in both] for both in self.slabs],
            start=start,
            visible=visible,
        )
        self.position = self.position + 1
        return logits[self.node_of]

    def keep(self, index: Tensor) -> None:
        self.node_of = self.node_of[index]


def _run_prompts_llama(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], pad_id: int
) -> Prefix:
    """`run_prompts` for the Llama architecture, without work on padding; not for gradients."""
    tokens, mask = padded(prompts, pad_id, model.device, left=True)
    n_prompts, width = mask.shape
    heads, head_dim = model.config.num_key_value_heads, model.model.layers[0].self_attn.head_dim
    slabs = [
        [model.model.norm.weight.new_zeros(n_prompts, heads, width, head_dim) for _ in range(2)]
        for _ in model.model.layers
    ]
    causal = torch.ones(width, width, dtype=torch.bool, device=model.device).tril()
    positions, logits = _positions(mask), []
    at_once = n_prompts if tokens.is_cuda else max(1, _TOKENS_AT_ONCE // width)
    for start in range(0, n_prompts, at_once):
        part = slice(start, start + at_once)
        row, column = mask[part].nonzero(as_tuple=True)
        logits.append(
            _llama(
                model,
                tokens[part][row, column],
                positions[part][row, column],
                place=(row, column),
                slabs=[[x[part] for x in pair] for pair in slabs],
                start=0,
                visible=causal & mask[part, None],
                wanted=mask[part].sum(dim=1).cumsum(dim=0) - 1,  # each prompt's last
            )
        )
    cache = DynamicCache()
    for index, (keys, values) in enumerate(slabs):
        cache.update(keys, values, index)
    return Prefix(cache, mask, mask.sum(dim=1), torch.cat(logits))


class TokenTree:
    """Sequences as a tree: a node is a token after a certain beginning, which many may share."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._nodes: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, sequence: Sequence[int]) -> list[int]:
        """The nodes of a sequence, as far as they are missing made."""
        node, path = -1, []
        for depth, token in enumerate(sequence):
            parent, new = node, len(self.tokens)
            node = self._nodes.setdefault((parent, token), new)
            if node == new:
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(depth)
            path.append(node)
        return path

    def run(self, model: LlamaForCausalLM, wanted: Sequence[int]) -> tuple[Tensor, _Slabs]:
        """Logits [M, V] after the nodes ``wanted``; keys and values [1, heads, N, width]."""
        n, device = len(self), model.device
        visible = torch.eye(n, dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                visible[node] |= visible[parent]
        heads, head_dim = model.config.num_key_value_heads, model.model.layers[0].self_attn.head_dim
        slabs = [
            [model.model.norm.weight.new_zeros(1, heads, n, head_dim) for _ in range(2)]
            for _ in model.model.layers
        ]
        nodes = torch.arange(n, device=device)
        logits = _llama(
            model,
            torch.tensor(self.tokens, device=device),
            torch.tensor(self.depths, device=device),
            place=(torch.zeros_like(nodes), nodes),
            slabs=slabs,
            start=0,
            visible=visible.to(device)[None],
            wanted=torch.tensor(wanted, device=device),
        )
        return logits, slabs


_Slabs = list[list[Tensor]]


def _run_prompts_tree(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], pad_id: int
) -> Prefix:
    """`run_prompts` for the Llama architecture: equal beginnings once; not for gradients."""
    _, mask = padded(prompts, pad_id, model.device, left=True)
    tree = TokenTree()
    paths = [tree.add(prompt) for prompt in prompts]
    logits, slabs = tree.run(model, [path[-1] for path in paths])
    columns, _ = padded(paths, 0, model.device, left=True)  # node of each prompt and position
    cache = DynamicCache()
    for index, pair in enumerate(slabs):
        keys, values = (x[0][:, columns].transpose(0, 1) for x in pair)
        cache.update(keys, values, index)
    return Prefix(cache, mask, mask.sum(dim=1), logits)


def _llama(
    model: LlamaForCausalLM,
    tokens: Tensor,
    positions: Tensor,
    place: tuple[Tensor, Tensor],
    slabs: Sequence[Sequence[Tensor]],
    start: int,
    visible: Tensor,
    wanted: Tensor | None = None,
) -> Tensor:
    """Run N tokens through a Llama: a list of tokens, where transformers takes a padded rectangle.

    Only attention needs a rectangle, of B blocks of S slots: ``place`` has each token's block and
    slot, ``visible`` [B, S, K] the columns that a slot attends to, ``slabs`` each layer's keys and
    values [B, heads, K, width], whose columns from ``start`` on are written. Logits [M, V] are
    those of the tokens ``wanted`` (default: all); the last layer asks no queries of the others.
    """
    llama = model.model
    x = llama.embed_tokens(tokens)
    cos, sin = llama.rotary_emb(x, positions[:, None])
    bias = torch.zeros_like(visible, dtype=x.dtype).masked_fill(~visible, float("-inf"))[:, None]
    for layer, (keys, values) in zip(llama.layers, slabs, strict=True):
        attention, heads = layer.self_attn, keys.shape[1]
        normed = layer.input_layernorm(x)
        # Queries, keys and values side by side: [N, heads of all three, width].
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        new = torch.cat([project(normed) for project in projections], dim=-1)
        new = new.view(len(x), -1, attention.head_dim)
        turned = new[:, :-heads]
        new[:, :-heads] = turned * cos + rotate_half(turned) * sin
        grid = new.new_zeros(len(visible), new.shape[1], visible.shape[1], attention.head_dim)
        grid.transpose(1, 2)[place] = new
        query, key, value = grid.tensor_split((-2 * heads, -heads), dim=1)
        keys[:, :, start : start + visible.shape[1]] = key
        values[:, :, start : start + visible.shape[1]] = value
        read = scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=bias,
            scale=attention.scaling,
            enable_gqa=query.shape[1] != heads,
        )
        if wanted is not None and layer is llama.layers[-1]:
            x, place = x[wanted], (place[0][wanted], place[1][wanted])
        x = x + attention.o_proj(read.transpose(1, 2)[place].flatten(1))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return model.lm_head(llama.norm(x))


def _blocks(source: Tensor) -> tuple[Tensor, Tensor, int]:
    """Prompt of each block [B], block of each row [R], and the most rows of a block."""
    prompt_of: list[int] = []
    n_rows_of: list[int] = []
    open_block: dict[int, int] = {}
    block_of = []
    for prompt in source.tolist():
        block = open_block.get(prompt)
        if block is None or n_rows_of[block] == _MOST_ROWS:
            block = open_block[prompt] = len(prompt_of)
            prompt_of.append(prompt)
            n_rows_of.append(0)
        n_rows_of[block] += 1
        block_of.append(block)
    prompts, blocks = (torch.tensor(x, device=source.device) for x in (prompt_of, block_of))
    return prompts, blocks, max(n_rows_of)


def _with_room(x: Tensor, source: Tensor, room: int) -> Tensor:
    """Rows ``source`` of keys or values [B, H, P, D], in memory for ``room`` more tokens."""
    slab = x.new_empty(len(source), x.shape[1], x.shape[2] + room, x.shape[3])
    slab[:, :, : x.shape[2]] = x.index_select(0, source)
    return slab
