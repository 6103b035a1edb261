"""User state for offline use: histories, facts and attributes of people up to a window's end, apart from the release (which holds no user data).

user_state/<window_end>/
  manifest.json         kind "user-state"; about: window_end
  ids/users/            person key map
  events/               user item time type gain, sorted by (user, time)
  attributes/           user int32, token uint64, sorted: what people say of themselves, in the tokens that the release's towers know (core.tokens);
                        not there where they read none
  user_activity/        what each person did on each of their active days, and
  user_activity.json    whether the clock is real (ranking.user_statistics): the ranker's facts of a person as of any day
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.artifact import hash_json, open_artifact, read_manifest
from core.columns import Array, Columns
from core.history import Histories, user_starts
from core.ids import IdMap, person_key
from core.release import STATE_FORMAT_VERSION, STATE_KIND
from core.schema import Column
from core.tokens import Bags
from ranking.user_facts import UserFacts

ATTRIBUTES: Final = "attributes"
TOKEN: Final = "token"
EVENT_COLUMNS = (Column.USER, Column.ITEM, Column.TIME, Column.TYPE, Column.GAIN)


@dataclass(frozen=True)
class UserState:
    """An opened user state."""

    ids: IdMap
    histories: Histories
    facts: UserFacts  # for requests by a release of this window
    told: Bags  # tokens of people's attributes, row-aligned with `ids`

    @classmethod
    def open(cls, path: Path, limit: int | None = None) -> UserState:
        """Open the user state at `path`; `limit` keeps the newest events of each person."""
        manifest = open_artifact(path, kind=STATE_KIND, format_version=STATE_FORMAT_VERSION)
        ids, events = IdMap.open(path / "ids" / "users"), Columns.open(path / "events")
        histories = Histories(events, user_starts(events.numbers(Column.USER), len(ids)), limit)
        facts = UserFacts.open(path, int(manifest.about["window_end"]))
        return cls(ids, histories, facts, read_attributes(path / ATTRIBUTES, len(ids)))

    def rows(self, user_ids: Iterable[str]) -> Array:
        """int32 rows of known users, NO_ROW for strangers."""
        return self.ids.rows(person_key(u) for u in user_ids)


def write_attributes(told: Bags, known: Array, folder: Path) -> None:
    """Leave the tokens of `told` that are `known` (bool `[tokens]`) in `folder`."""
    people = np.repeat(np.arange(len(told), dtype=np.int32), np.diff(told.starts))
    Columns({Column.USER: people[known], TOKEN: told.tokens[known]}).write(folder)


def read_attributes(folder: Path, people: int) -> Bags:
    """What `write_attributes` left, of so many people; nobody's where there is no such folder."""
    if not folder.exists():
        return Bags(np.zeros(people + 1, np.int64), np.empty(0, np.uint64), np.empty(0, np.float32))
    columns = Columns.open(folder)
    tokens = columns.numbers(TOKEN)
    return Bags(user_starts(columns.numbers(Column.USER), people), tokens, np.ones(len(tokens), np.float32))


def state_id(path: Path) -> str:
    """The fingerprint of the user state at `path`, which a release of the same night names in its manifest.

    It says which night made the state and not what is in its files: to forget a person (pipeline.erase) changes the files, and the release
    must go on with them.
    """
    manifest = read_manifest(path)
    return hash_json([manifest.kind, manifest.format_version, manifest.id, manifest.parents])
