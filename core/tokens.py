"""Attributes as weighted bags of tokens: the one reading of them, for a whole table in training and for one new item at serving.

Every value becomes a token that names its field ("brand=acme", "title=lamp"); a category path gives one token a level; a number becomes the token
of its half-octave, so that prices 5 % apart share it. Tokens are 64-bit hashes (core.ids.hash64): no vocabulary is needed to read an item, only to
look its tokens up. The tokens of one field share the weight 1 (each weighs 1 / sqrt(number of tokens)), so that a long title does not drown a brand.
"""

from __future__ import annotations

import functools
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.columns import AnyColumn, Array, Coded, Columns, Tags, Texts
from core.ids import hash64
from core.schema import CATEGORY_SEPARATOR, Column

ATTRIBUTE: Final = "attribute."  # prefix of the attribute columns of prepared items and users
_PLAIN: Final = (Column.TITLE, Column.CATEGORY, Column.BRAND, Column.PRICE)
TOKEN_PEOPLE: Final = 20  # what fewer people say of themselves could name them, and is not learned
_WORD: Final = re.compile(r"\w\w+")
_WORDS: Final = 1 << 20  # whose hashes are kept while titles are read


@dataclass(frozen=True)
class Bags:
    """n bags. Row r holds `tokens[starts[r]:starts[r+1]]` (uint64 hashes) with `weights` (float32)."""

    starts: Array  # int64 [n + 1]
    tokens: Array  # uint64 [t]
    weights: Array  # float32 [t]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, row: int) -> Array:
        """The tokens of one row, uint64 `[a]`; of a negative one, or one behind the last, there are none."""
        return self.tokens[self.starts[row] : self.starts[row + 1]] if 0 <= row < len(self) else self.tokens[:0]


def item_bags(items: Columns) -> Bags:
    """The bags of a prepared items table, row-aligned with it; tokens of one item in ascending order, wherever they come from."""
    fields = [_field(name, items) for name in sorted(items) if _is_content(name)]
    rows = np.concatenate(
        [np.repeat(np.arange(items.rows), np.diff(starts)) for starts, _ in fields] or [np.empty(0, np.int64)]
    )
    tokens = np.concatenate([tokens for _, tokens in fields] or [np.empty(0, np.uint64)])
    weights = np.concatenate([_shared_weight(starts) for starts, _ in fields] or [np.empty(0, np.float32)])
    return _in_order(rows, tokens, weights, items.rows)


def person_bags(users: Columns) -> Bags:
    """The bags of what a prepared users table says of people, row-aligned with it."""
    return item_bags(users)


def bags_of(items: Sequence[Mapping[str, Any]]) -> Bags:
    """The bags of n items from their columns as the shop sends them: `title`, `category`, `brand`, `price`, and any attribute by its own name.

    Values are texts, numbers, lists of texts, or None; a name may hold a number for one item and a text for another.
    """
    numbers: dict[str, Array] = defaultdict(lambda: np.full(len(items), np.nan))
    texts: dict[str, list[list[str]]] = defaultdict(lambda: [[] for _ in items])
    for at, item in enumerate(items):
        for name, value in item.items():
            key = name if name in _PLAIN or name.startswith(ATTRIBUTE) else ATTRIBUTE + name
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers[key][at] = value
            elif value is not None:
                texts[key][at] = [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
    others = {name: _text_column(name, values) for name, values in texts.items()}
    parts = [item_bags(Columns(columns, len(items))) for columns in (numbers, others)]
    rows = np.concatenate([np.repeat(np.arange(len(items)), np.diff(p.starts)) for p in parts])
    return _in_order(
        rows, np.concatenate([p.tokens for p in parts]), np.concatenate([p.weights for p in parts]), len(items)
    )


def _text_column(name: str, values: list[list[str]]) -> AnyColumn:
    if name == Column.TITLE:
        return Texts.of(v[0] if v else "" for v in values)
    return Coded.of(v[0] if v else "" for v in values) if name == Column.CATEGORY else Tags.of(values)


def _in_order(rows: Array, tokens: Array, weights: Array, n: int) -> Bags:
    order = np.lexsort((tokens, rows))
    return Bags(_starts(np.bincount(rows, minlength=n)), tokens[order], weights[order])


def _is_content(name: str) -> bool:
    return name in _PLAIN or name.startswith(ATTRIBUTE)


def _field(name: str, items: Columns) -> tuple[Array, Array]:
    """Starts int64 `[n+1]` and tokens uint64 of one column."""
    column, label = items[name], name.removeprefix(ATTRIBUTE)
    match column:
        case Texts():
            return _words(label, column)
        case Coded():
            levels = _levels if name == Column.CATEGORY else _whole
            by_code = [_hashes(label, levels(value)) for value in column.values]
            return _ragged_by_code(by_code, column.codes, np.arange(len(column) + 1, dtype=np.int64))
        case Tags():
            by_code = [_hashes(label, [value]) for value in column.values]
            return _ragged_by_code(by_code, column.codes, column.starts)
        case _:
            return _number_tokens(label, np.asarray(column, np.float64))


def _words(label: str, texts: Iterable[str]) -> tuple[Array, Array]:
    """The distinct words of each text."""
    hash_of = functools.lru_cache(_WORDS)(
        lambda word: hash64(f"{label}={word}")
    )  # titles say the same few words over and over
    lengths, hashes = array("q"), array("Q")
    for text in texts:
        words = sorted(set(_WORD.findall(text.lower())))
        lengths.append(len(words))
        hashes.extend(map(hash_of, words))
    return _starts(np.array(lengths, np.int64)), np.array(hashes, np.uint64)


def _levels(path: str) -> list[str]:
    """`"a > b"` -> `["a", "a > b"]`."""
    parts = path.split(CATEGORY_SEPARATOR)
    return [CATEGORY_SEPARATOR.join(parts[: i + 1]) for i in range(len(parts))]


def _whole(value: str) -> list[str]:
    return [value]


def _number_tokens(label: str, values: Array) -> tuple[Array, Array]:
    present = np.isfinite(values)
    octaves = np.zeros(len(values), np.int64)
    octaves[present] = np.round(np.sign(values[present]) * 2 * np.log2(1 + np.abs(values[present])))
    distinct, code = np.unique(octaves, return_inverse=True)
    hashes = np.array([hash64(f"{label}~{octave}") for octave in distinct], np.uint64)
    return _starts(present.astype(np.int64)), hashes[code[present]]


def _hashes(label: str, values: Sequence[str]) -> Array:
    return np.array([hash64(f"{label}={value}") for value in values], np.uint64)


def _ragged_by_code(by_code: Sequence[Array], codes: Array, starts: Array) -> tuple[Array, Array]:
    """Replace each code of each row by its tokens; -1 has none."""
    sizes = np.array([*(len(b) for b in by_code), 0], np.int64)  # the last one answers code -1
    flat, begin = np.concatenate([*by_code, np.empty(0, np.uint64)]).astype(np.uint64), np.cumsum(sizes) - sizes
    per_code = sizes[codes]
    ends = np.concatenate([[0], np.cumsum(per_code)])
    at = np.arange(ends[-1]) + np.repeat(begin[codes] - ends[:-1], per_code)
    return ends[np.asarray(starts)], flat[at]


def _shared_weight(starts: Array) -> Array:
    counts = np.diff(starts)
    return np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)


def _starts(counts: Array) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def vocabulary(bags: Bags, rows: Array, at_least: int, at_most: int) -> Array:
    """The tokens worth learning: those of at least `at_least` of the items `rows`, the `at_most` most frequent; sorted uint64."""
    keep = np.zeros(len(bags), bool)
    keep[rows] = True
    tokens, counts = np.unique(bags.tokens[np.repeat(keep, np.diff(bags.starts))], return_counts=True)
    tokens, counts = tokens[counts >= at_least], counts[counts >= at_least]
    return np.sort(tokens[np.argsort(-counts, kind="stable")[:at_most]])


def look_up(bags: Bags, known: Array) -> tuple[Array, Array, Array]:
    """Item row int64, vocabulary row int64, weight float32 of every token of `bags` that is in the sorted vocabulary `known`; in item order."""
    rows = np.repeat(np.arange(len(bags)), np.diff(bags.starts))
    if not len(known):
        return rows[:0], rows[:0], bags.weights[:0]
    at = np.minimum(np.searchsorted(known, bags.tokens), len(known) - 1)
    hit = known[at] == bags.tokens
    return rows[hit], at[hit], bags.weights[hit]
