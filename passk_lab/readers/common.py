"""How readers name problems."""

from __future__ import annotations

import hashlib

__all__ = ["stable_id"]


def stable_id(text: str) -> str:
    """Name a problem by its prompt: the first 16 hex digits of the SHA-256 of its UTF-8 form.

    Examples
    --------
    >>> stable_id("What is 2 + 3?")
    '1ea26256ebae2e04'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
