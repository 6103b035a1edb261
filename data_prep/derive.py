"""One pass over the sorted events, whole users at a time: gains, sessions, folds, days and pairs.

Everything here is numpy over memory-mapped columns; a chunk holds about a million events, so memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.columns import Array, Columns
from core.config import PipelineConfig
from core.errors import InputError
from core.prepared import Cuts
from core.schema import DAY, EVENT_TYPES, MINUTE, Column
from data_prep.appender import ColumnAppender, add_to_header
from data_prep.cuts import find_cuts, global_folds, has_synthetic_time, last_folds
from data_prep.days import DaySums, net_money
from data_prep.pairs import PairSums, Sequences
from data_prep.sessions import session_numbers

_CHUNK_EVENTS = 1 << 20
DERIVED = {Column.GAIN: "float32", Column.SESSION: "int64", "fold_global": "int8", "fold_last": "int8"}
GIVEN_SESSION = "given_session"  # scratch column: hash of the shop's session id


@dataclass(frozen=True)
class Derived:
    """What the pass found out."""

    cuts: Cuts
    synthetic_time: bool
    repeat_share: (
        float | None
    )  # of positive-gain events of known users: the user had a positive-gain event with the item before
    counts: dict[str, int]


def gain_table(config: PipelineConfig) -> Array:
    """Gain of each event type code, float32 `[types]`."""
    return np.array([config.data.gains.get(t, 0.0) for t in EVENT_TYPES], np.float32)


def derive(
    draft: Path, scratch: Path, known: Array, n_items: int, config: PipelineConfig, said: bool | None
) -> Derived:
    """Add the derived event columns to `draft/events` and write `item_days`, `user_days` and `pairs`.

    Args:
        draft: The artifact being written; its `events/` holds the columns that came from Spark.
        scratch: A folder for temporary files; its `events/` holds `given_session`.
        known: Whether each user row has a user_id (else a visitor), bool `[users]`.
        n_items: Rows of the item id map.
        config: Gains, sessions, time, pairs.
        said: Whether the clock is synthetic, as far as configuration or the importer said.
    """
    events, given = Columns.open(draft / "events"), Columns.open(scratch / "events").numbers(GIVEN_SESSION)
    users, times = events.numbers(Column.USER), events.numbers(Column.TIME)
    gains = gain_table(config)
    synthetic = has_synthetic_time(users, times) if said is None else said
    start, end = int(times.min()), int(times.max()) + 1
    judged = known if known.any() else np.ones(len(known), bool)  # a shop without accounts: its visitors are the users
    cuts = _cuts(events, judged, gains, start, end, config)
    days = DaySums(len(known), n_items, (start // DAY, (end - 1) // DAY), scratch)
    pairs = PairSums(n_items, config.pairs, None if synthetic else end - 1, scratch)
    labels, repeats, first_session = 0, 0, 0
    with ColumnAppender(draft / "events" / "derived", DERIVED) as out:
        for chunk in _chunks(users):
            user, item, time, type_ = (
                np.asarray(events.numbers(c)[chunk]) for c in (Column.USER, Column.ITEM, Column.TIME, Column.TYPE)
            )
            _check_order(user, time)
            gain = gains[type_]
            session = session_numbers(
                user, time, np.asarray(given[chunk]), int(config.data.session_gap_minutes * MINUTE), first_session
            )
            first_session = int(session.max()) + 1
            folds = global_folds(time, cuts), last_folds(user, gain, judged[user])
            out.append({Column.GAIN: gain, Column.SESSION: session, "fold_global": folds[0], "fold_last": folds[1]})
            money = net_money(
                type_, np.asarray(events.numbers("price")[chunk]), np.asarray(events.numbers("quantity")[chunk])
            )
            days.add(user, item, time, type_, money)
            positive = gain > 0
            state = folds[0].astype(np.int64) * 4 + folds[1]
            pairs.add(Sequences(user[positive], item[positive], time[positive], state[positive]))
            counted = positive & judged[user]
            labels += int(counted.sum())
            repeats += _repeats(user[counted], item[counted])
    _adopt(draft / "events", events.rows)
    counts = days.write(draft) | {f"pairs/{k}": n for k, n in pairs.write(draft / "pairs").items()}
    return Derived(
        cuts, synthetic, repeats / labels if labels else None, counts | {"sessions": first_session, "labels": labels}
    )


def _cuts(events: Columns, judged: Array, gains: Array, start: int, end: int, config: PipelineConfig) -> Cuts:
    labels = (gains > 0)[events.numbers(Column.TYPE)] & judged[events.numbers(Column.USER)]
    if not labels.any():
        present = np.unique(events.numbers(Column.TYPE))
        raise InputError(
            f"events: none is a success: the types {', '.join(EVENT_TYPES[t] for t in present)} all have gain 0 or come from visitors only; "
            "give one of them a gain (data.gains)"
        )
    return find_cuts(events.numbers(Column.TIME)[labels], start, end, config.time)


def _chunks(users: Array) -> Iterator[slice]:
    """Slices of about a million events that end where a user's events end."""
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


def _repeats(users: Array, items: Array) -> int:
    order = np.lexsort((items, users))
    u, i = users[order], items[order]
    return int(((u[1:] == u[:-1]) & (i[1:] == i[:-1])).sum())


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
