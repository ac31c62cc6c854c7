"""Causal language models: a small one from scratch, or any that transformers can load."""

from __future__ import annotations

import os
from collections.abc import Iterable
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

__all__ = ["ModelConfig", "build_model", "load_model", "load_tokenizer"]


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder-only transformer of the Llama kind.

    With the default sizes and about 170 tokens it has 0.87 million parameters. Sizes that don't fit
    together are a ValueError.

    Attributes
    ----------
    vocab_size, context_length : int
        Number of tokens, and most tokens of a sequence, prompt and answer together.
    d_model, n_layers, n_heads : int
        Width, depth and attention heads; ``n_heads`` divides ``d_model`` into even widths.
    n_kv_heads : int, optional
        Heads of keys and values (grouped queries); default ``n_heads``.
    ffn_multiple : float
        Hidden width of the feed-forward layers as a multiple of ``d_model``.
    tie_embeddings, pad_id, eos_id, rope_theta, initializer_range
        As in transformers' ``LlamaConfig``.
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
    >>> build_model(ModelConfig(vocab_size=170, context_length=64), seed=0).num_parameters()
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
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Load a causal language model, in evaluation mode.

    ``path_or_name``: a folder (such as a checkpoint's ``model``), a GGUF file, a name on the hub.

    Raises
    ------
    OSError
        There is no model of this name; a FileNotFoundError lists what a folder has instead.
    ValueError
        Weights that the config asks for are missing; the message names them.
    """
    folder, file = _split_gguf(path_or_name)
    needed = Path(folder, file or "config.json")
    if Path(folder).is_dir() and not needed.is_file():
        found = _listed(path.name for path in Path(folder).iterdir())
        raise FileNotFoundError(
            f"{folder} has no {needed.name} (it has: {found}); give a folder that save_pretrained "
            "wrote, or a GGUF file"
        )
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if file is not None:
        options["gguf_file"] = file
        if hasattr(quantization_config, "GgufConfig"):  # older versions always unpack
            options["quantization_config"] = quantization_config.GgufConfig(dequantize=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
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
