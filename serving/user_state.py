"""User state for offline use: histories and facts of people up to a window's end, apart from the release (which holds no user data).

user_state/<window_end>/
  manifest.json         kind "user-state"; about: window_end
  ids/users/            person key map
  events/               user item time type gain, sorted by (user, time)
  user_activity/        what each person did on each of their active days, and
  user_activity.json    whether the clock is real (ranking.user_statistics): the ranker's facts of a person as of any day
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.artifact import hash_json, open_artifact, read_manifest
from core.columns import Array, Columns
from core.history import Histories, user_starts
from core.ids import IdMap, person_key
from core.release import STATE_FORMAT_VERSION, STATE_KIND
from core.schema import Column
from ranking.user_facts import UserFacts

EVENT_COLUMNS = (Column.USER, Column.ITEM, Column.TIME, Column.TYPE, Column.GAIN)


@dataclass(frozen=True)
class UserState:
    """An opened user state."""

    ids: IdMap
    histories: Histories
    facts: UserFacts  # for requests by a release of this window

    @classmethod
    def open(cls, path: Path, limit: int | None = None) -> UserState:
        """Open the user state at `path`; `limit` keeps the newest events of each person."""
        manifest = open_artifact(path, kind=STATE_KIND, format_version=STATE_FORMAT_VERSION)
        ids, events = IdMap.open(path / "ids" / "users"), Columns.open(path / "events")
        histories = Histories(events, user_starts(events.numbers(Column.USER), len(ids)), limit)
        return cls(ids, histories, UserFacts.open(path, int(manifest.about["window_end"])))

    def rows(self, user_ids: Iterable[str]) -> Array:
        """int32 rows of known users, NO_ROW for strangers."""
        return self.ids.rows(person_key(u) for u in user_ids)


def state_id(path: Path) -> str:
    """The fingerprint of the user state at `path`, which a release of the same night names in its manifest.

    It says which night made the state and not what is in its files: to forget a person (pipeline.erase) changes the files, and the release
    must go on with them.
    """
    manifest = read_manifest(path)
    return hash_json([manifest.kind, manifest.format_version, manifest.id, manifest.parents])
