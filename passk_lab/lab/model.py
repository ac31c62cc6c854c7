"""Causal language models: a small one from scratch, or any that transformers can load."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.utils import quantization_config

__all__ = [
    "ModelConfig",
    "build_model",
    "check_context",
    "count_parameters",
    "load_model",
    "load_tokenizer",
]


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder-only transformer of the Llama kind.

    With the default sizes and about 170 tokens it has 0.87 million parameters.

    Parameters
    ----------
    vocab_size : int
        Number of tokens.
    context_length : int
        Most tokens of a sequence, prompt and answer together.
    d_model, n_layers, n_heads : int
        Width, depth and attention heads; ``n_heads`` divides ``d_model`` into even widths.
    n_kv_heads : int, optional
        Heads of keys and values, a divisor of ``n_heads`` (grouped queries). None: ``n_heads``.
    ffn_multiple : float
        Hidden width of the feed-forward layers as a multiple of ``d_model``.
    tie_embeddings : bool
        Use one matrix for the embedding and for the output.
    pad_id, eos_id : int, optional
        Written into the transformers config, so that its tools know them.
    rope_theta : float
        Base of the rotary position embedding.
    initializer_range : float
        Standard deviation of the initial weights.

    Raises
    ------
    ValueError
        The sizes don't fit together; the message names the field.

    Examples
    --------
    >>> ModelConfig(vocab_size=170, context_length=64, n_heads=3)
    Traceback (most recent call last):
    ...
    ValueError: n_heads=3 must divide d_model=128 into heads of even width
    """

    vocab_size: int
    context_length: int
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    ffn_multiple: float = 3.0
    tie_embeddings: bool = True
    pad_id: int | None = None
    eos_id: int | None = None
    rope_theta: float = 10_000.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % (2 * self.n_heads):
            sizes = f"n_heads={self.n_heads} must divide d_model={self.d_model}"
            raise ValueError(f"{sizes} into heads of even width")
        if self.n_kv_heads is not None and (self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads):
            raise ValueError(f"n_kv_heads={self.n_kv_heads} must divide n_heads={self.n_heads}")
        if self.ffn_multiple * self.d_model < 1:
            raise ValueError(f"ffn_multiple={self.ffn_multiple} leaves no hidden unit")
        for name in ("pad_id", "eos_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise ValueError(f"{name}={token} is outside the {self.vocab_size} tokens")


def build_model(config: ModelConfig, seed: int) -> LlamaForCausalLM:
    """Make a model with random weights, in float32 on the CPU and in evaluation mode.

    The weights depend on ``config`` and ``seed`` alone; torch's own generator is left as it was.

    Examples
    --------
    >>> model = build_model(ModelConfig(vocab_size=170, context_length=64), seed=0)
    >>> count_parameters(model)
    874880
    """
    llama = LlamaConfig(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.context_length,
        hidden_size=config.d_model,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads or config.n_heads,
        intermediate_size=round(config.ffn_multiple * config.d_model),
        tie_word_embeddings=config.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        initializer_range=config.initializer_range,
        pad_token_id=config.pad_id,
        eos_token_id=config.eos_id,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(llama)
    model.set_attn_implementation("sdpa")
    return model.float().eval()


def load_model(
    path_or_name: str | os.PathLike[str],
    *,
    gguf_file: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Load a causal language model from a folder or from the hub.

    Parameters
    ----------
    path_or_name : path or str
        A folder (one of a checkpoint's ``model`` folders, for example), a GGUF file or a name on
        the hub.
    gguf_file : str, optional
        Name of a GGUF file inside the folder; its weights are unpacked to ``dtype``.
    dtype, device

    Returns
    -------
    PreTrainedModel
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
        The folder exists but holds no model, or not that GGUF file; the message lists what it has.
    ValueError
        Weights that the config asks for are missing; the message names them.
    OSError
        It is neither a folder nor a name that the hub knows.

    Examples
    --------
    >>> import tempfile
    >>> model = build_model(ModelConfig(vocab_size=9, context_length=8), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     again = load_model(folder)
    >>> bool((again.lm_head.weight == model.lm_head.weight).all())
    True
    """
    if gguf_file is None:
        path_or_name, gguf_file = _split_gguf(path_or_name)
    folder = Path(path_or_name)
    if folder.is_dir():
        needed = gguf_file or "config.json"
        if not (folder / needed).is_file():
            found = _listed(path.name for path in folder.iterdir())
            raise FileNotFoundError(
                f"{folder} has no {needed} (it has: {found}); give a folder that save_pretrained "
                "wrote, or name a GGUF file with gguf_file="
            )
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if gguf_file is not None:
        options["gguf_file"] = gguf_file
        if hasattr(quantization_config, "GgufConfig"):  # older versions always unpack
            options["quantization_config"] = quantization_config.GgufConfig(dequantize=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(os.fspath(path_or_name), **options)
    model, report = loaded
    if report["missing_keys"]:
        raise ValueError(
            f"{path_or_name} lacks weights of its own config, and they would be random: "
            f"{_listed(report['missing_keys'])}; save the model again, or fix the config"
        )
    return model.to(device).eval()


def load_tokenizer(path_or_name: str | os.PathLike[str]) -> Any:
    """Load the tokenizer that belongs to a model: a folder, a GGUF file or a name on the hub."""
    folder, file = _split_gguf(path_or_name)
    return AutoTokenizer.from_pretrained(folder, **({"gguf_file": file} if file else {}))


def _split_gguf(model: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Folder and file of a GGUF file; anything else is a folder or a name of the hub."""
    path = Path(model)
    return (str(path.parent), path.name) if path.suffix == ".gguf" else (os.fspath(model), None)


def _listed(names: Iterable[str], limit: int = 8) -> str:
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit]) or "nothing"
    return shown + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "")


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters, a shared matrix counted once.

    Examples
    --------
    >>> count_parameters(torch.nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def check_context(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], n_answer_tokens: int | Sequence[int]
) -> None:
    """Refuse prompts that are empty or don't fit the model's context with their answers.

    ``n_answer_tokens`` follow each prompt: one number for all, or one a prompt. Where the model's
    config states no context length, anything fits.

    Examples
    --------
    >>> model = build_model(ModelConfig(vocab_size=9, context_length=8), seed=0)
    >>> check_context(model, [[1, 2], [3] * 6], 4)
    Traceback (most recent call last):
    ...
    ValueError: prompt 1 has 6 tokens and its answer up to 4, together longer than the model's \
context of 8; shorten the prompt or the answer, or use a model with a longer context
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for index, prompt in enumerate(prompts):
        new = n_answer_tokens if isinstance(n_answer_tokens, int) else n_answer_tokens[index]
        if not len(prompt):
            raise ValueError(f"prompt {index} is empty; give it at least one token to start from")
        if context is not None and len(prompt) + new > context:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and its answer up to {new}, together "
                f"longer than the model's context of {context}; shorten the prompt or the answer, "
                "or use a model with a longer context"
            )
