"""Columns whose rows can be replaced and added while others read them: what a release knows of its items, and of those that came after it.

Numbers and codes lie in arrays with room (core.room), so that whole-column arithmetic works on them as on any other; texts and tags of changed rows
are kept beside the mapped ones. One thread writes. Readers work on views of so many rows as there were when they began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Self

import numpy as np

from core.columns import AnyColumn, Array, Coded, Columns, Tags, Texts
from core.room import with_room

_UNKNOWN_TIME: Final = -1


class LiveTexts(Texts):
    """Texts of which some rows are others, `n` rows in all."""

    changed: dict[int, str]
    n: int

    @classmethod
    def over(cls, base: Texts, changed: dict[int, str], n: int) -> Self:
        """`changed` may grow later; every row from the end of `base` up to `n` is in it."""
        self = cls(base.offsets, base.data)
        object.__setattr__(self, "changed", changed)
        object.__setattr__(self, "n", n)
        return self

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self.n))]
        row = int(row)
        if not -self.n <= row < self.n:
            raise IndexError(row)
        row %= self.n
        found = self.changed.get(row)
        return super().__getitem__(row) if found is None else found

    def of_rows(self, rows: Array) -> list[str]:
        """See Texts."""
        return [self[row] for row in rows.tolist()] if self.changed else super().of_rows(rows)

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(self.n))


class LiveTags(Tags):
    """Tags of which some rows are others, `n` rows in all."""

    changed: dict[int, Array]
    is_changed: Array
    n: int

    @classmethod
    def over(cls, base: Tags, values: Texts, changed: dict[int, Array], is_changed: Array) -> Self:
        """`changed` holds the codes, int32, of every row that `is_changed` (bool `[n]`) marks, and of every row after those of `base`."""
        self = cls(base.starts, base.codes, values)
        object.__setattr__(self, "changed", changed)
        object.__setattr__(self, "is_changed", is_changed)
        object.__setattr__(self, "n", len(is_changed))
        return self

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> list[str]:
        return [self.values[c] for c in self.codes_of(np.array([row]))[0].tolist()]

    def codes_of(self, rows: Array) -> tuple[Array, Array]:
        """See Tags."""
        changed = self.is_changed[rows]
        if not changed.any():
            return super().codes_of(rows)
        plain = np.flatnonzero(~changed)
        codes, owner = super().codes_of(rows[plain])
        parts, owners = [codes], [plain[owner]]
        for at in np.flatnonzero(changed).tolist():
            mine = self.changed[int(rows[at])]
            parts.append(mine)
            owners.append(np.full(len(mine), at))
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        return np.concatenate(parts)[order], owner[order]


class Vocabulary:
    """The values of a coded or tag column; new ones get the codes behind the known ones.

    The known ones are looked up where they lie, by bisection: columns are made with sorted vocabularies, and the pooled attributes of
    ranking.item_statistics with a sorted block for each name (`name=value`). A table in memory would hold every item group of the shop.
    """

    def __init__(self, values: Texts) -> None:
        self._base, self._new = values, dict[int, str]()
        self._codes: dict[str, int] = {}  # of the new ones, and of those asked for before
        self._blocks: dict[str, tuple[int, int]] | None = None

    @property
    def values(self) -> Texts:
        """All of them, by code."""
        return LiveTexts.over(self._base, self._new, len(self._base) + len(self._new)) if self._new else self._base

    def known(self, value: str) -> int | None:
        """The code of `value`, if it has one."""
        if value in self._codes:
            return self._codes[value]
        start, stop = 0, len(self._base)
        if self._blocks is None:
            self._blocks = _blocks(self._base)
        if self._blocks:
            start, stop = self._blocks.get(value.partition("=")[0], (0, 0))
        at = bisect_left(self._base, value, start, stop)
        if at == stop or self._base[at] != value:
            return None
        self._codes[value] = at
        return at

    def code(self, value: str) -> int:
        """The code of `value`, a new one if need be; -1 for the empty text."""
        if not value:
            return -1
        found = self.known(value)
        if found is None:
            found = len(self._base) + len(self._new)
            self._new[found] = value
            self._codes[value] = found
        return found


def _blocks(values: Texts) -> dict[str, tuple[int, int]]:
    """Name -> where its values begin and end, for values `name=value` in a block a name; empty where the values are not such."""
    blocks: dict[str, tuple[int, int]] = {}
    start = 0
    while start < len(values):
        name, equals, _ = str(values[start]).partition("=")
        stop = bisect_left(values, True, start, key=lambda value: not value.startswith(f"{name}="))
        if not equals or name in blocks:
            return {}
        blocks[name] = start, stop
        start = stop
    return blocks


class LiveTagColumn:
    """A tag column that is written to."""

    def __init__(self, base: Tags, room: int, *, open: bool = True) -> None:
        self._base, self._vocabulary, self._open = base, Vocabulary(base.values), open
        self._changed: dict[int, Array] = {}
        self._is_changed = np.zeros(len(base) + room, bool)

    def write(self, row: int, values: Iterable[str]) -> None:
        """Replace a row; a column that is not `open` leaves out what is not in its vocabulary."""
        code = self._vocabulary.code if self._open else self._vocabulary.known
        codes = sorted({c for v in values if v and (c := code(v)) is not None})
        self._changed[row] = np.array(codes, np.int32)
        self._is_changed[row] = True

    def view(self, n: int) -> Tags:
        """Its first n rows."""
        return LiveTags.over(self._base, self._vocabulary.values, self._changed, self._is_changed[:n])


class LiveColumns:
    """The item columns of a release, with room for `room` more rows."""

    def __init__(self, base: Columns, room: int) -> None:
        self._base = base
        self._arrays: dict[str, Array] = {}
        self._texts: dict[str, dict[int, str]] = {}
        self._coded: dict[str, Vocabulary] = {}
        self._tags: dict[str, LiveTagColumn] = {}
        for name, column in base.items():
            match column:
                case Texts():
                    self._texts[name] = {}
                case Coded():
                    self._arrays[name] = with_room(column.codes, room)
                    self._coded[name] = Vocabulary(column.values)
                case Tags():
                    self._tags[name] = LiveTagColumn(column, room)
                case _:
                    self._arrays[name] = with_room(column, room)

    def write(self, row: int, values: Mapping[str, Any]) -> None:
        """Replace a row by values under the names of the columns; a column that is not named gets its missing value, a name without column is left out."""
        for name in self._texts:
            self._texts[name][row] = str(values.get(name) or "")
        for name, tags in self._tags.items():
            given = values.get(name)
            tags.write(row, given if isinstance(given, list) else [str(given)] if given is not None else [])
        for name, array in self._arrays.items():
            given = values.get(name)
            if name in self._coded:
                one = given[0] if isinstance(given, list) and given else given
                array[row] = self._coded[name].code("" if one is None or isinstance(one, list) else str(one))
            else:
                array[row] = _number(array, given)

    def view(self, n: int) -> Columns:
        """The first n rows of every column."""
        return Columns({name: self._view(name, n) for name in self._base}, n)

    def _view(self, name: str, n: int) -> AnyColumn:
        base = self._base[name]
        if isinstance(base, Texts):
            return LiveTexts.over(base, self._texts[name], n)
        if name in self._tags:
            return self._tags[name].view(n)
        if name in self._coded:
            return Coded(self._arrays[name][:n], self._coded[name].values)
        return self._arrays[name][:n]


def _number(array: Array, given: Any) -> Any:
    """`given` as an element of `array`; what cannot be one is missing."""
    number = given if isinstance(given, int | float) else None
    match array.dtype.kind:
        case "b":
            return True if number is None else bool(number)
        case "f":
            return np.nan if number is None else number
        case _:
            return _UNKNOWN_TIME if number is None else int(number)
