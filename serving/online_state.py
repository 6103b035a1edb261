"""What Redis knows of a person: the long-term window and the live events since as one history, the facts as of its end, attributes; in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.columns import Array
from core.history import History
from core.ids import NO_ROW, person_key
from core.schema import EVENT_TYPES
from serving.failures import Failure, StoreError
from serving.keys import Keys, session_key
from serving.packing import NO_ATTRIBUTES, LiveEvent, unpack_live, unpack_person
from serving.redis_link import Command, RedisLink
from serving.release import Release


@dataclass(frozen=True)
class Person:
    """Who asks; empty strings where nothing is given."""

    user_id: str = ""
    visitor_id: str = ""
    session_id: str = ""

    @property
    def keys(self) -> list[str]:
        """Person keys that may have a long-term history, the user's first."""
        keys = [person_key(self.user_id)] if self.user_id else []
        return [*map(str, keys), *([str(person_key(None, self.visitor_id))] if self.visitor_id else [])]

    @property
    def live_keys(self) -> list[str]:
        """Those and the session: whose lists of live events count."""
        return self.keys + ([session_key(self.session_id)] if self.session_id else [])


@dataclass(frozen=True)
class PersonState:
    """What is known of a person now."""

    user: int = NO_ROW
    history: History = field(default_factory=History)
    facts: Array | None = None  # float32 [ranking.user_facts.NAMES]; None: absent or expired
    attributes: Array = field(
        default_factory=lambda: NO_ATTRIBUTES
    )  # uint64: tokens of what the person says of themselves (core.tokens)
    live: tuple[int, ...] = ()  # hashes of the live events that were there, each once
    failure: Failure | None = None  # why more could not be known
    given: Mapping[str, bytes] = field(default_factory=dict)  # by tag: what bandits gave the session (serving.feedback)


class OnlineState:
    """Reads person states for a release."""

    def __init__(
        self, link: RedisLink, keys: Keys, live_events: int, tags: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """`tags`: of the bandits that run."""
        self._tags = tags
        self._link, self._keys, self._live_events = link, keys, live_events

    def read(self, release: Release, person: Person, now: int, within: float | None = None) -> PersonState:
        """The state of `person` at `now` (microseconds). Failures are in the result: this never raises for what Redis does.

        `within`: seconds that may pass, where the read deadline is too long.
        """
        if not person.live_keys:
            return PersonState()
        try:
            complete, packed, live, given = self._fetch(release, person, within)
            people = [unpack_person(p) for p in packed if p]
            events = [unpack_live(e) for e in live]
        except StoreError as e:
            return PersonState(failure=e.failure)
        failure = None if complete else Failure.STATE_MISSING
        written = tuple(dict.fromkeys(e.hash for e in events))
        told = next((p.attributes for p in people if len(p.attributes)), NO_ATTRIBUTES)
        known = next(
            (p for p in people if len(p.history)), None
        )  # somebody may be there who only said something of themselves
        if known is None:
            history = joined(release, History(), events, now)
            return PersonState(history=history, attributes=told, live=written, failure=failure, given=given)
        history = joined(release, known.history, events, now)
        return PersonState(known.user, history, known.snapshot.at(now), told, written, failure, given)

    def holds(self, release: Release) -> bool:
        """Whether the user state of `release` is there, complete."""
        try:
            return self._link.read([("GET", self._keys.complete(self._window(release)))]) != [None]
        except StoreError:
            return False

    def _window(self, release: Release) -> str:
        return self._keys.window(release.window_end, release.state_id)

    def _fetch(
        self, release: Release, person: Person, within: float | None
    ) -> tuple[bool, list[bytes | None], list[bytes], dict[str, bytes]]:
        window, keys, live_keys = self._window(release), person.keys, person.live_keys
        commands: list[Command] = [
            ("MGET", self._keys.complete(window), *(self._keys.history(window, k) for k in keys))
        ]
        commands += [("LRANGE", self._keys.live(k), 0, self._live_events - 1) for k in live_keys]
        tags = self._tags() if person.session_id else ()
        if tags:
            commands.append(("HMGET", self._keys.unit(person.session_id), *tags))
        replies: list[Any] = self._link.read(commands, within)
        told = replies.pop() if tags else ()
        given = {tag: said for tag, said in zip(tags, told, strict=True) if said is not None}
        complete, *histories = replies[0]
        # before the marker is there, histories are those that happen to be written already
        live = [e for reply in replies[1:] for e in reply]
        return complete is not None, histories if complete else [], live, given


def joined(release: Release, history: History, events: Sequence[LiveEvent], now: int) -> History:
    """`history` and those live events that it lacks, the newest that the release wants; in the order of prepared data: by time, item row and type.

    An event that lies in the window may be in the history already: same item, time and type. Events of items that the release
    does not know do not count; a clock ahead of ours does not hide an event from its own sender.
    """
    fresh = {e.hash: e for e in events}.values()
    if not fresh:
        return history.newest(release.settings.history_events)
    rows = release.item_ids.rows(e.item_id for e in fresh)
    written = set()
    if min(e.time for e in fresh) < release.window_end:
        written = set(zip(history.items.tolist(), history.times.tolist(), history.types.tolist(), strict=True))
    kept = [
        (row, min(e.time, now - 1), e.type)
        for e, row in zip(fresh, rows.tolist(), strict=True)
        if row != NO_ROW and (row, e.time, e.type) not in written
    ]
    if not kept:
        return history.newest(release.settings.history_events)
    items, times, types = (
        np.array(column, dtype)
        for column, dtype in zip(zip(*kept, strict=True), ("int32", "int64", "int8"), strict=True)
    )
    live = History(items, times, types, live_gains(release)[types])
    return _in_order(history, live).newest(release.settings.history_events)


def live_gains(release: Release) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 `[event types]`: what an event of each type counts as a success."""
    return np.array([release.settings.gains.get(t, 0.0) for t in EVENT_TYPES], np.float32)


def _in_order(a: History, b: History) -> History:
    items, times, types, gains = (
        np.concatenate(pair)
        for pair in ((a.items, b.items), (a.times, b.times), (a.types, b.types), (a.gains, b.gains))
    )
    order = np.lexsort((types, items, times))
    return History(items[order], times[order], types[order], gains[order])
