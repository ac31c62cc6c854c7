"""Tokenizers that need no download."""

from collections.abc import Sequence

import pytest


def letter_tokenizer(letters: Sequence[str] = (), extra=(), chat_template=None, **special):
    """One token a letter, all bytes unless letters are given; the special tokens come first."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = letters or sorted(pre_tokenizers.ByteLevel.alphabet())
    first = dict.fromkeys([*special.values(), *extra])  # one may serve twice
    vocabulary = {token: number for number, token in enumerate([*first, *letters])}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token=special.get("unk_token")))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, extra_special_tokens=list(extra), **special
    )
    tokenizer.chat_template = chat_template
    return tokenizer
