"""Vectors of many items at once, as the item tower in numpy gives them one by one: a start with a long catalog log makes tens of thousands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from core.columns import AnyColumn, Array, Coded, Columns, Tags, Texts, load_array
from core.ids import NO_ROW
from core.schema import Column
from retrieval.towers.content import ATTRIBUTE, Bags, item_bags, look_up

_PLAIN = (Column.TITLE, Column.CATEGORY, Column.BRAND, Column.PRICE)
Attributes = Mapping[
    str, Any
]  # title, category, brand, price, and any attribute by its own name: texts, numbers, lists of texts


class ManyItems:
    """The item tower's files."""

    def __init__(self, ids: Array, has_id: Array, tokens: Array, token_vectors: Array) -> None:
        self._ids, self._has_id, self._tokens, self._token_vectors = ids, has_id, tokens, token_vectors

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the item tower of the towers in `folder`."""
        names = ("ids", "has_id", "tokens", "token_vectors")
        return cls(*(load_array(folder / "item_tower" / f"{name}.npy") for name in names))

    def vectors(self, items: Sequence[Attributes], rows: Sequence[int]) -> Array:
        """Unit vectors float32 `[n, d]`; zero for an item of which nothing is known.

        Args:
            items: n items.
            rows: Of those that the towers have seen, whose id embedding they keep if they have one; NO_ROW for others.
        """
        at = np.array([row if row != NO_ROW and self._has_id[row] else -1 for row in rows], np.int64)
        total = np.array(self._ids[at], np.float32)
        known = at >= 0
        for bags in _bags(items):
            item, token, weight = look_up(bags, self._tokens)
            known[item] = True
            np.add.at(total, item, weight[:, None] * self._token_vectors[token])
        length = np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6)
        return np.where(known[:, None], total / length, 0).astype(np.float32)


def _bags(items: Sequence[Attributes]) -> tuple[Bags, Bags]:
    """Of the numbers, and of everything else: a name may hold either, by item."""
    numbers: dict[str, Array] = defaultdict(lambda: np.full(len(items), np.nan))
    lists: dict[str, list[list[str]]] = defaultdict(lambda: [[] for _ in items])
    for at, item in enumerate(items):
        for name, value in item.items():
            key = name if name in _PLAIN or name.startswith(ATTRIBUTE) else ATTRIBUTE + name
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers[key][at] = value
            elif value is not None:
                texts = [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
                lists[key][at] = texts
    others: dict[str, AnyColumn] = {name: _column(name, values) for name, values in lists.items()}
    return item_bags(Columns(numbers, len(items))), item_bags(Columns(others, len(items)))


def _column(name: str, values: list[list[str]]) -> AnyColumn:
    if name == Column.TITLE:
        return Texts.of(v[0] if v else "" for v in values)
    return Coded.of(v[0] if v else "" for v in values) if name == Column.CATEGORY else Tags.of(values)
