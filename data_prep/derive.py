"""One pass over the sorted events, whole people at a time: gains, sessions, folds, days and pairs.

Everything here is numpy over memory-mapped columns; a chunk holds about a hundred thousand events, so memory does not grow with the log.
Where a night before is carried over, gains, sessions and folds are found anew, since a new event can move them all; of the days
and pairs, those that changed (data_prep.days, data_prep.pair_changes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from core.columns import Array, Columns
from core.config import PipelineConfig
from core.errors import InputError
from core.prepared import Cuts
from core.schema import DAY, EVENT_TYPES, HOUR, MINUTE, Column
from data_prep.appender import ColumnAppender, add_to_header
from data_prep.cuts import find_cuts, global_folds, has_synthetic_time, last_folds
from data_prep.days import DaySums, EarlierDays, net_money
from data_prep.inventory import Carried
from data_prep.merge import Change
from data_prep.pair_changes import PairChanges, Part
from data_prep.pairs import Earlier, Found, PairSums, Sequences
from data_prep.repeats import GIVEN_SESSION
from data_prep.sessions import session_numbers, window_for
from data_prep.sums import distinct, in_order

_CHUNK_EVENTS = 1 << 17  # with 100 pairs an event, the few chunks in hand stay below 2 GB
DERIVED = {Column.GAIN: "float32", Column.SESSION: "int64", "fold_global": "int8", "fold_last": "int8"}
CARRIED_PAIRS = "carried/pairs"  # the sums of all pairs, pruned or not


class ClockChangedError(Exception):
    """Whether the clock is synthetic is seen otherwise than the night before: its pairs have aged, or not."""

    def __init__(self) -> None:
        super().__init__("the clock is seen otherwise than before")


@dataclass(frozen=True)
class Derived:
    """What the pass found out."""

    cuts: Cuts
    synthetic_time: bool
    repeat_share: (
        float | None
    )  # of positive-gain events of known users: the user had a positive-gain event with the item before
    counts: dict[str, int]


@dataclass(frozen=True)
class Since:
    """The night before, and how the events differ from it."""

    change: Change
    carried: Carried


def gain_table(config: PipelineConfig) -> Array:
    """Gain of each event type code, float32 `[types]`."""
    return np.array([config.data.gains.get(t, 0.0) for t in EVENT_TYPES], np.float32)


def derive(
    draft: Path,
    scratch: Path,
    known: Array,
    n_items: int,
    config: PipelineConfig,
    said: bool | None,
    since: Since | None = None,
) -> Derived:
    """Add the derived event columns to `draft/events` and write `item_days`, `user_days`, `pairs` and `carried/pairs`.

    Args:
        draft: The artifact being written; its `events/` holds the columns that came from Spark, its `carried/events` the given session.
        scratch: A folder for temporary files.
        known: Whether each user row has a user_id (else a visitor), bool `[users]`.
        n_items: Rows of the item id map.
        config: Gains, sessions, time, pairs.
        said: Whether the clock is synthetic, as far as configuration or the importer said.
        since: What is carried over; None: nothing.

    Raises:
        ClockChangedError: The night before cannot be carried over.
    """
    events = Columns.open(draft / "events")
    users, times = events.numbers(Column.USER), events.numbers(Column.TIME)
    gains = gain_table(config)
    synthetic = has_synthetic_time(users, times) if said is None else said
    if since is not None and since.carried.synthetic_time != synthetic:
        raise ClockChangedError
    start, end = int(times.min()), int(times.max()) + 1
    judged = known if known.any() else np.ones(len(known), bool)  # a shop without accounts: its visitors are the users
    cuts = _cuts(events, judged, gains, start, end, config)
    earlier = Earlier(since.change.before / CARRIED_PAIRS, since.carried.newest) if since is not None else None
    pairs = PairSums(n_items, config.pairs, None if synthetic else end - 1, scratch, earlier)
    changes = PairChanges(since.change, gains) if since is not None else None
    chunks = _Chunks(draft, config, cuts, judged)

    def found(parts: list[Part]) -> list[Found]:
        return [sums for part in parts for sums in pairs.found(*part)]

    for sums in in_order(found, chunks.write(changes)):
        pairs.collect(sums)
    written = _days(draft, scratch, events, (len(known), n_items), since)
    written |= {f"pairs/{k}": n for k, n in pairs.write(draft / "pairs", draft / CARRIED_PAIRS).items()}
    counts = written | {"sessions": chunks.sessions, "labels": chunks.labels}
    return Derived(cuts, synthetic, chunks.repeats / chunks.labels if chunks.labels else None, counts)


class _Chunks:
    """The events of a draft, whole people at a time."""

    def __init__(self, draft: Path, config: PipelineConfig, cuts: Cuts, judged: Array) -> None:
        self._draft, self._config, self._cuts, self._judged = draft, config, cuts, judged
        self._events = Columns.open(draft / "events")
        self._gains = gain_table(config)
        self.sessions, self.labels, self.repeats = 0, 0, 0  # so far

    def write(self, changes: PairChanges | None) -> Iterator[list[Part]]:
        """Write the derived columns; after each chunk, what counts of its pairs (None of `changes`: everything)."""
        users = self._events.numbers(Column.USER)
        given = Columns.open(self._draft / "carried" / "events").numbers(GIVEN_SESSION)
        data, times = self._config.data, self._events.numbers(Column.TIME)
        gap, window = int(data.session_gap_minutes * MINUTE), int(data.session_window_hours * HOUR)
        numbers = partial(session_numbers, gap=gap, window=window_for(times, window))
        with ColumnAppender(self._draft / "events" / "derived", DERIVED) as out:
            for chunk in _chunks(users):
                user, time = np.asarray(users[chunk]), np.asarray(times[chunk])
                _check_order(user, time)
                gain = self._gains[self._events.numbers(Column.TYPE)[chunk]]
                session = numbers(user, time, np.asarray(given[chunk]), first=self.sessions)
                folds = global_folds(time, self._cuts), last_folds(user, gain, self._judged[user])
                out.append({Column.GAIN: gain, Column.SESSION: session, "fold_global": folds[0], "fold_last": folds[1]})
                positive = gain > 0
                item, state = self._events.numbers(Column.ITEM)[chunk], folds[0].astype(np.int64) * 4 + folds[1]
                sequences = Sequences(*(column[positive] for column in (user, item, time, state)))
                self.sessions = int(session.max()) + 1
                self._count(sequences)
                yield (
                    [(sequences, None, 1)] if changes is None else changes.of(sequences, chunk, positive, int(user[-1]))
                )
        _adopt(self._draft / "events", self._events.rows)

    def _count(self, events: Sequences) -> None:
        """Labels are what judged people succeeded in, repeats those that they did before."""
        counted = self._judged[events.user]
        both = np.sort(events.user[counted].astype(np.int64) << 32 | events.item[counted])
        self.labels += len(both)
        self.repeats += int((both[1:] == both[:-1]).sum())


def _days(draft: Path, scratch: Path, events: Columns, rows: tuple[int, int], since: Since | None) -> dict[str, int]:
    """Write `item_days` and `user_days`: of the days on which an event came or went, the others as they were."""
    times = events.numbers(Column.TIME)
    days = (int(times.min()) // DAY, (int(times.max())) // DAY)
    sums = DaySums(*rows, days, scratch)
    earlier = None
    if since is not None:
        change = since.change
        old = Columns.open(change.before / "events").numbers(Column.TIME)
        moved = distinct(np.concatenate([times[change.fresh], old[change.gone]]) // DAY)
        earlier = EarlierDays(change.before, moved)
    for chunk in _chunks(events.numbers(Column.USER)):
        names = (Column.USER, Column.ITEM, Column.TIME, Column.TYPE, Column.PRICE, Column.QUANTITY)
        columns = [np.asarray(events.numbers(c)[chunk]) for c in names]
        if earlier is not None:
            here = np.isin(columns[2] // DAY, earlier.moved)
            columns = [c[here] for c in columns]
        user, item, time, type_, price, quantity = columns
        if len(user):
            sums.add(user, item, time, type_, net_money(type_, price, quantity))
    return sums.write(draft, earlier)


def _cuts(events: Columns, judged: Array, gains: Array, start: int, end: int, config: PipelineConfig) -> Cuts:
    labels = (gains > 0)[events.numbers(Column.TYPE)] & judged[events.numbers(Column.USER)]
    if not labels.any():
        present = distinct(events.numbers(Column.TYPE))
        raise InputError(
            f"events: none is a success: the types {', '.join(EVENT_TYPES[t] for t in present)} all have gain 0 or come from visitors only; "
            "give one of them a gain (data.gains)"
        )
    return find_cuts(events.numbers(Column.TIME)[labels], start, end, config.time)


def _chunks(users: Array) -> Iterator[slice]:
    """Slices of about a hundred thousand events that end where a user's events end."""
    at = 0
    while at < len(users):
        end = min(at + _CHUNK_EVENTS, len(users))
        end = int(np.searchsorted(users, users[end - 1], side="right"))
        yield slice(at, end)
        at = end


def _check_order(users: Array, times: Array) -> None:
    """Histories, folds and pairs are wrong without a word on events in another order."""
    if not np.all((users[1:] > users[:-1]) | ((users[1:] == users[:-1]) & (times[1:] >= times[:-1]))):
        raise AssertionError("events are not sorted by (user, time)")


def _adopt(folder: Path, rows: int) -> None:
    """Move the derived columns beside the others."""
    derived = folder / "derived"
    for name in DERIVED:
        (derived / f"{name}.npy").rename(folder / f"{name}.npy")
    (derived / "columns.json").unlink()
    derived.rmdir()
    add_to_header(folder, rows, list(DERIVED))


def events_by_type(folder: Path) -> dict[str, int]:
    """How many events of each type an events folder holds, for the types that occur."""
    found = np.bincount(Columns.open(folder).numbers(Column.TYPE), minlength=len(EVENT_TYPES))
    return {t.value: int(n) for t, n in zip(EVENT_TYPES, found, strict=True) if n}
