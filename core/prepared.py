"""The prepared data set: what `prepare` writes once and every later stage reads, with numpy alone.

    prepared/<id>/
      manifest.json           about: cuts, window, synthetic_time, repeat_share, counts, profile, catalog_sequence and catalog_log (core.release)
      ids/items/ ids/users/   id maps (core.ids); user keys are person keys: "u:<user_id>" or "v:<visitor_id>"
      events/                 column folder, sorted by (user, time, item, type): user item time type gain price quantity value session
                              position fold_global fold_last. Not sent: price and value NaN, quantity 1, position -1 (int32).
                              A return keeps its type, with gain 0: who counts purchases nets it out by time
      items/                  column folder, row-aligned with the item id map: title text, category, brand, currency and item_group_id
                              coded, price float32 (the table's, else the median of the item's events, else NaN), available bool,
                              stock float32 (NaN: unknown), created_at, available_from and available_until int64 (-1: unknown), known bool (in the
                              items table), deleted bool (the catalog's log says it is gone: never available),
                              and attribute columns `attribute.<name>` (coded, tags, or float32 with NaN where there is none)
      users/                  column folder, row-aligned with the user id map: known bool (has a user_id), created_at, `attribute.<name>`
      item_days/              column folder, sorted by (item, day): item int32, day int32 (days since the epoch, UTC), one float32 count for
                              each event type, revenue float32, users float32 (distinct people that day)
      user_days/              the same for people: user, day, counts, spend, items
      pairs/<protocol>/       co-visitation and transitions, column folders `transitions/` and `covisits/`, sorted by (source, target, fold):
                              source int32, target int32, fold int8, count float32, decayed float32
      rejected/               events.parquet, and items.parquet, users.parquet where there are such tables: the bad rows as they came,
                              every contract column as text, with `reason` and `file`
      carried/                what the next night needs to read new files only; no later stage looks here. state.json (the input files and
                              what each held), events/ (row-aligned with events/: hash of what tells a resend, code of the file, given
                              session), pairs/ (the sums of all pairs, not only the kept ones), set_aside.parquet (rows that are no events,
                              resends and scripts' among them), tables/ (items and users as read)

A **fold** says when an event becomes known. Protocol `global` cuts the timeline: fold 0 `[start, T1)`, 1 `[T1, Tv)`, 2 `[Tv, T2)`, 3 `[T2, end]`.
Protocol `last` cuts each user's own sequence of positive-gain events: 0 all but the last two, 1 the second-last, 2 the last (users with fewer
than 3 such events: all 0). An event that is no label belongs to the fold of the next positive-gain event of its user (or the last one before it).
A pair belongs to the fold of its later event. To fit something as of a cut is to use the folds below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np

from core.artifact import Manifest, open_artifact
from core.columns import Array, Columns
from core.history import Histories, user_starts
from core.ids import IdMap
from core.schema import Column
from core.tokens import Bags, person_bags

KIND: Final = "prepared"
FORMAT_VERSION: Final = 1

Protocol = Literal["global", "last"]
Seen = Literal["keep", "remove"]
REPEATS: Final = 0.02  # a shop where this share of successes is a repeat keeps items that the person already has


@dataclass(frozen=True)
class Cuts:
    """The four boundaries of the timeline and its end, in microseconds; half-open, so `end` is one past the last event."""

    start: int
    ranker: int
    validation: int
    test: int
    end: int


@dataclass(frozen=True)
class Fold:
    """What is known at a cut: the events whose fold of `protocol` is below `below`, and the moment that cut stands for."""

    protocol: Protocol
    below: int
    name: str

    @property
    def column(self) -> str:
        """The events column that holds this protocol's folds."""
        return f"fold_{self.protocol}"


TRAIN: Final = Fold("global", 1, "train")  # before T1: sources and towers the ranker learns from
CHOOSE: Final = Fold("global", 2, "choose")  # before Tv
TWIN: Final = Fold("global", 3, "twin")  # before T2: what the test judges
FULL: Final = Fold("global", 4, "full")  # everything: what is published
LAST_TRAIN: Final = Fold("last", 1, "last-train")  # all but each user's last two
LAST_TWIN: Final = Fold("last", 2, "last-twin")  # all but each user's last one


@dataclass(frozen=True)
class Interactions:
    """Events known at a cut, sorted by (user, time), all arrays `[e]`."""

    user: Array
    item: Array
    time: Array
    type: Array
    gain: Array
    n_users: int
    n_items: int
    until: int  # microseconds: one past the newest event that a fit may know of


class Prepared:
    """An opened prepared data set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest = open_artifact(path, kind=KIND, format_version=FORMAT_VERSION)
        self.cuts = Cuts(**self.manifest.about["cuts"])

    @property
    def synthetic_time(self) -> bool:
        """Whether only the order of events is real, not their clock."""
        return bool(self.manifest.about["synthetic_time"])

    def seen(self, setting: Literal["auto", "keep", "remove"]) -> Seen:
        """Whether pages keep items the person already has: as configured (`evaluation.seen`), or as the shop's own repeat purchases say."""
        if setting != "auto":
            return setting
        return "keep" if float(self.manifest.about["repeat_share"]) >= REPEATS else "remove"

    @cached_property
    def item_ids(self) -> IdMap:
        """Item id map."""
        return IdMap.open(self.path / "ids" / "items")

    @cached_property
    def user_ids(self) -> IdMap:
        """Person key map."""
        return IdMap.open(self.path / "ids" / "users")

    @cached_property
    def events(self) -> Columns:
        """All events, every fold."""
        return Columns.open(self.path / "events")

    @cached_property
    def items(self) -> Columns:
        """Item columns, row-aligned with `item_ids`."""
        return Columns.open(self.path / "items")

    @cached_property
    def users(self) -> Columns:
        """User columns, row-aligned with `user_ids`."""
        return Columns.open(self.path / "users")

    @cached_property
    def told(self) -> Bags:
        """What people say of themselves as tokens, row-aligned with `user_ids`; of no date: the users table says what is true of them today."""
        return person_bags(self.users)

    def pairs(self, protocol: Protocol, name: str) -> Columns:
        """`transitions` or `covisits`, every fold."""
        return Columns.open(self.path / "pairs" / protocol / name)

    def histories(self, limit: int | None = None) -> Histories:
        """Every event as histories; `before(user, time)` keeps time's law."""
        starts = user_starts(self.events.numbers(Column.USER), len(self.user_ids))
        return Histories(self.events, starts, limit)

    def until(self, fold: Fold) -> int:
        """The moment `fold` stands for, microseconds: what was known strictly before it."""
        if fold.protocol == "last":
            return self.cuts.end
        return (self.cuts.ranker, self.cuts.validation, self.cuts.test, self.cuts.end)[fold.below - 1]

    def split_at(self, moment: int) -> Prepared:
        """The same data with the one timeline cut at `moment` alone: fold TRAIN is what came before it, the next fold the rest."""
        other = Prepared(self.path)
        after = (self.events.numbers(Column.TIME) >= moment).astype(np.int8)
        other.events = Columns({**self.events, "fold_global": after})
        other.cuts = Cuts(self.cuts.start, moment, self.cuts.end, self.cuts.end, self.cuts.end)
        return other

    def interactions(self, fold: Fold) -> Interactions:
        """Events with positive gain known at `fold`, every person."""
        e = self.events
        keep = (e.numbers(fold.column) < fold.below) & (e.numbers(Column.GAIN) > 0)
        user, item, time, kind, gain = (
            np.asarray(e.numbers(c)[keep]) for c in (Column.USER, Column.ITEM, Column.TIME, Column.TYPE, Column.GAIN)
        )
        return Interactions(user, item, time, kind, gain, len(self.user_ids), len(self.item_ids), self.until(fold))
