"""What a person says of themselves as a vector, in numpy: the part of the query tower that needs no history."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

import numpy as np

from core.columns import Array, load_array

FOLDER: Final = "person_tower"


class PersonTower:
    """Sum of the embeddings of a person's known tokens over the root of their number (retrieval/towers/people.py learns them).

    Args:
        tokens: uint64 `[v]`, sorted hashes.
        token_vectors: float32 `[v, d]`.
    """

    def __init__(self, tokens: Array, token_vectors: Array) -> None:
        self.tokens, self.token_vectors = tokens, token_vectors

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the person tower of the towers in `folder`."""
        return cls(*(load_array(folder / FOLDER / f"{n}.npy") for n in ("tokens", "token_vectors")))

    def knows(self, tokens: Array) -> Array:
        """Which tokens uint64 `[a]` it has learned: bool `[a]`."""
        at = np.minimum(np.searchsorted(self.tokens, tokens), len(self.tokens) - 1)
        return np.asarray(self.tokens[at] == tokens)

    def vector(self, tokens: Array) -> Array | None:
        """Of a person's tokens uint64 `[a]`: float32 `[d]`, or None where it knows none of them."""
        known = tokens[self.knows(tokens)] if len(tokens) else tokens
        if not len(known):
            return None
        rows = np.searchsorted(self.tokens, known)
        total: Array = self.token_vectors[rows].sum(axis=0, dtype=np.float32) / np.float32(len(rows) ** 0.5)
        return total
