"""Who is to be forgotten, and where they are named: the one definition that the server, the files and the last search share.

An event belongs to its user, else to its visitor (core.ids.person_key). What belongs to a forgotten person goes. What belongs to another user and
only names the browser of a forgotten visitor stays, without that name.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final

from core.ids import person_key
from core.schema import Column

SHORTEST_TOKEN: Final = (
    6  # bytes: a shorter id ("7", "bob") occurs by chance in texts, so only columns made for ids are searched for it
)
ID_COLUMNS: Final = frozenset(
    {Column.USER_ID.value, Column.VISITOR_ID.value, "user", "visitor", "person", "user_key", "person_key"}
)
# What names items and never people, whatever it looks like.
CATALOGUE_COLUMNS: Final = frozenset(
    {Column.EVENT_TYPE.value, Column.ITEM_ID.value, "items", "exclude_item_ids", "context_item_ids"}
)

_WORD: Final = rb"[0-9A-Za-z_@\-\x80-\xff]"
_BEFORE: Final = re.compile(rb"(?:" + _WORD + rb"|[0-9A-Za-z_]\.)\Z")
_AFTER: Final = re.compile(_WORD + rb"|\.[0-9A-Za-z_]")


class Verdict(Enum):
    """What becomes of a row."""

    KEEP = "keep"
    BLANK = "blank"  # the row stays, its visitor id goes
    DROP = "drop"


@dataclass(frozen=True)
class Forgotten:
    """People to forget, by the shop's ids."""

    users: frozenset[str] = frozenset()
    visitors: frozenset[str] = frozenset()

    @classmethod
    def of(cls, people: Iterable[tuple[str, str]]) -> Forgotten:
        """From (user id, visitor id) of each, empty where there is none."""
        people = list(people)
        return cls(frozenset(u for u, _ in people if u), frozenset(v for _, v in people if v))

    def __bool__(self) -> bool:
        return bool(self.users or self.visitors)

    @cached_property
    def keys(self) -> list[str]:
        """Their person keys, sorted."""
        return sorted([*(person_key(u) for u in self.users), *(person_key(None, v) for v in self.visitors)])

    @cached_property
    def names(self) -> frozenset[str]:
        """Every text that is one of them: ids and person keys."""
        return self.users | self.visitors | frozenset(self.keys)

    @cached_property
    def forms(self) -> list[bytes]:
        """Every way in which an id is written in a file: as UTF-8, as JSON does it with and without ASCII alone, as CSV does."""
        return _forms(self.users | self.visitors)

    @cached_property
    def tokens(self) -> list[bytes]:
        """The same of the ids that are long enough to be searched for in any text."""
        return _forms(i for i in self.users | self.visitors if len(i.encode()) >= SHORTEST_TOKEN)

    @property
    def short(self) -> list[str]:
        """The ids that are not."""
        return sorted(i for i in self.users | self.visitors if len(i.encode()) < SHORTEST_TOKEN)

    def verdict(self, user_id: str, visitor_id: str) -> Verdict:
        """What becomes of a row with these ids; empty where it has none.

        >>> both = Forgotten.of([("ann", "web-1")])
        >>> both.verdict("ann", ""), both.verdict("bob", "web-1"), both.verdict("", "web-1"), both.verdict("bob", "web-2")
        (<Verdict.DROP: 'drop'>, <Verdict.BLANK: 'blank'>, <Verdict.DROP: 'drop'>, <Verdict.KEEP: 'keep'>)
        """
        if user_id in self.users or (not user_id and visitor_id in self.visitors):
            return Verdict.DROP
        return Verdict.BLANK if visitor_id in self.visitors else Verdict.KEEP

    def verdict_of(self, row: Mapping[str, Any]) -> Verdict:
        """The same of a row by column names; None counts as empty. A row of another person is blanked where any of its cells names one of these."""
        found = self.verdict(str(row.get(Column.USER_ID) or ""), str(row.get(Column.VISITOR_ID) or ""))
        return Verdict.BLANK if found is Verdict.KEEP and any(self._names_cell(v, k) for k, v in row.items()) else found

    def blanked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row without the cells that name one of them."""
        others = {k: v for k, v in row.items() if not self._names_cell(v, k)}
        if str(others.get(Column.VISITOR_ID) or "") in self.visitors:
            del others[Column.VISITOR_ID]
        return others

    def _names_cell(self, value: Any, column: str) -> bool:
        if column in CATALOGUE_COLUMNS or column in (Column.USER_ID, Column.VISITOR_ID):
            return False  # of these two `verdict` decides
        if isinstance(value, str):
            return self.names_any(value, column)
        if not isinstance(value, Mapping | list | tuple):
            return False
        return json.dumps(self.scrubbed(value), default=str) != json.dumps(value, default=str)

    def names_any(self, text: str, column: str = "") -> bool:
        """Whether a cell names one of them: it is the id or the person key where `column` holds such, elsewhere it has it as a word of its own.

        >>> gone = Forgotten.of([("ann-77", ""), ("7", "")])
        >>> gone.names_any("order of ann-77."), gone.names_any("ann-778"), gone.names_any("7"), gone.names_any("7", "user_id")
        (True, False, False, True)
        """
        return text in self.names if column in ID_COLUMNS else self.occurs_in(text.encode(errors="surrogateescape"))

    def occurs_in(self, data: bytes | mmap.mmap, *, short: bool = False) -> bool:
        """Whether `data` has one of the `tokens` (or with `short`, of the `forms`) as a word of its own: "user-1" is not in "user-10" or "a.user-1"."""
        return any(_as_word(data, token) for token in (self.forms if short else self.tokens))

    def in_key(self, key: bytes) -> bool:
        """Whether a binary key is of one of them: as a word, or as Feast writes one, behind its length (uint32, little-endian)."""
        return self.occurs_in(key) or any(n in key for n in self._with_length)

    @cached_property
    def _with_length(self) -> list[bytes]:
        names = (n.encode() for n in sorted(self.names))
        return [struct.pack("<I", len(n)) + n for n in names]

    def scrubbed(self, value: Any) -> Any:
        """A JSON value without them: texts that are or name one become None, keys that name one go with what they hold."""
        if isinstance(value, Mapping):
            return {k: self.scrubbed(v) for k, v in value.items() if not self.names_any(k)}
        if isinstance(value, list | tuple):
            return [self.scrubbed(v) for v in value]
        named = isinstance(value, str) and (value in self.names or self.names_any(value))
        return None if named else value


def _forms(ids: Iterable[str]) -> list[bytes]:
    written = (
        (i, json.dumps(i)[1:-1], json.dumps(i, ensure_ascii=False)[1:-1], i.replace('"', '""')) for i in sorted(ids)
    )
    return list(dict.fromkeys(form.encode() for forms in written for form in forms))


def _as_word(data: bytes | mmap.mmap, token: bytes) -> bool:
    at = data.find(token)
    while at >= 0:
        end = at + len(token)
        if not _BEFORE.search(data[max(0, at - 2) : at]) and not _AFTER.match(data[end : end + 2]):
            return True
        at = data.find(token, at + 1)
    return False
