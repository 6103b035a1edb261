"""Events that come with a request: what a newcomer picked at a welcome, or what the caller knows of the visit and did not send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aisle.v1 import recommender_pb2 as pb
from core.errors import nearest
from core.ids import NO_ROW
from core.schema import EVENT_TYPES, EventType
from serving.online_state import PersonState, joined
from serving.packing import LiveEvent
from serving.release import Release
from serving.validation import Problems

MAX_RECENT: Final = 100
_PICK: Final = EventType.ADD_TO_WISHLIST
_TYPES: Final = {str(t): t.code for t in EVENT_TYPES}


def check_recent(problems: Problems, events: Sequence[pb.RecentEvent]) -> None:
    """Note what is wrong with the `recent_events` of a request."""
    if len(events) > MAX_RECENT:
        problems.add("recent_events", f"has {len(events)} entries, at most {MAX_RECENT} are allowed")
        return
    for at, event in enumerate(events):
        problems.text(f"recent_events[{at}].item_id", event.item_id, required=True)
        if event.event_type and event.event_type not in _TYPES:
            hint = nearest(event.event_type, list(_TYPES))
            problems.add(f"recent_events[{at}].event_type", f"is {event.event_type[:64]!r}; {hint}")
        if event.event_time < 0:
            problems.add(
                f"recent_events[{at}].event_time", f"is {event.event_time}, expected microseconds since the epoch, or 0"
            )


def with_recent(
    release: Release, state: PersonState, events: Sequence[pb.RecentEvent], now: int
) -> tuple[PersonState, list[str]]:
    """The person with these as their newest events, and the ids among them that the release does not know.

    An event that the history has already, by item, time and type, counts once. Without a time they follow one another until `now` (microseconds).
    """
    if not events:
        return state, []
    rows = release.item_ids.rows(e.item_id for e in events).tolist()
    history = state.history
    written = set(zip(history.items.tolist(), history.times.tolist(), history.types.tolist(), strict=True))
    told = [
        LiveEvent(at, _TYPES[e.event_type or str(_PICK)], e.event_time or now - len(events) + at, e.item_id)
        for at, e in enumerate(events)
    ]
    fresh = [e for e, row in zip(told, rows, strict=True) if (row, e.time, e.type) not in written]
    missing = [e.item_id for e, row in zip(events, rows, strict=True) if row == NO_ROW]
    return replace(state, history=joined(release, history, fresh, now)), missing
