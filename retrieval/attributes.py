"""Items as bags of attributes, weighted by inverse document frequency. Fit time only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from core.columns import Array, Coded, Columns, Tags, Texts
from core.schema import CATEGORY_SEPARATOR, Column

# An attribute of more items than this says next to nothing, and comparing all of them with one another would take for ever.
_MOST_ITEMS: Final = 5000
_WORD: Final = re.compile(r"\w\w+")


def attribute_matrix(items: Columns, exist: Array) -> Any:
    """Sparse `[n_attributes, n_items]` float32; only the columns of items that `exist` (bool `[n_items]`) are filled.

    An attribute of d of n existing items weighs ln(n / d) (Sparck Jones, A statistical interpretation of term specificity, 1972): what every
    item has weighs nothing, and so does what only one item has, since it makes no two alike.
    """
    n = int(exist.sum())
    parts = []
    for rows, codes in _bags(items):
        keep = exist[rows]
        matrix = sp.csr_matrix(
            (np.ones(int(keep.sum()), np.float32), (codes[keep], rows[keep])),
            shape=(int(codes.max(initial=-1)) + 1, len(exist)),
        )
        matrix.data[:] = 1  # a word said twice is said once
        having = np.diff(matrix.indptr)
        telling = np.flatnonzero((having > 1) & (having < n) & (having <= _MOST_ITEMS))
        parts.append(sp.diags(np.log(n / having[telling])) @ matrix[telling])
    return (
        sp.vstack(parts, format="csr", dtype=np.float32) if parts else sp.csr_matrix((0, len(exist)), dtype=np.float32)
    )


def _bags(items: Columns) -> Iterator[tuple[Array, Array]]:
    """For each descriptive column: rows int `[e]` and attribute codes int `[e]`."""
    for name in sorted(items):
        column = items[name]
        if name == Column.TITLE and isinstance(column, Texts):
            yield _flat([_WORD.findall(title.lower()) for title in column])
        elif name == Column.CATEGORY and isinstance(column, Coded):
            levels, codes = _flat([_path(value) for value in column.values])
            yield _through(column.codes, levels, codes)
        elif isinstance(column, Coded) and (name == Column.BRAND or name.startswith("attribute.")):
            rows = np.flatnonzero(column.codes >= 0)
            yield rows, column.codes[rows]
        elif isinstance(column, Tags):
            yield np.repeat(np.arange(len(column)), np.diff(column.starts)), np.asarray(column.codes)


def _path(category: str) -> list[str]:
    """Every level of a category path, each with what is above it: "a > b" -> ["a", "a > b"]."""
    levels = category.split(CATEGORY_SEPARATOR)
    return [CATEGORY_SEPARATOR.join(levels[: i + 1]) for i in range(len(levels))]


def _flat(lists: list[list[str]]) -> tuple[Array, Array]:
    """Lists of words as rows and codes; the codes follow the order of the words, whatever the order of the lists."""
    words = sorted({w for some in lists for w in some})
    code = {w: i for i, w in enumerate(words)}
    rows = np.repeat(np.arange(len(lists)), [len(some) for some in lists])
    return rows, np.array([code[w] for some in lists for w in some], np.int64)


def _through(values: Array, lists: Array, codes: Array) -> tuple[Array, Array]:
    """Attributes of a vocabulary's values (rows `lists`, ascending, and `codes`) as attributes of the rows that hold `values`."""
    bounds = np.searchsorted(lists, np.arange(int(values.max(initial=-1)) + 2))
    rows = np.flatnonzero(values >= 0)
    begin, lengths = bounds[values[rows]], np.diff(bounds)[values[rows]]
    ends = np.cumsum(lengths)
    at = np.arange(int(lengths.sum())) + np.repeat(begin - (ends - lengths), lengths)
    return np.repeat(rows, lengths), codes[at]
