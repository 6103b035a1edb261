"""aisle.v1.Events: checks events one by one and stores them together."""

from __future__ import annotations

import grpc

from aisle.v1 import events_pb2 as pb
from aisle.v1 import events_pb2_grpc
from core.attribution import MAX_TOKEN_BYTES
from core.errors import nearest
from core.schema import MINUTE, Column, EventType
from serving.arms.watch import ArmWatch
from serving.config import EventsConfig
from serving.event_store import EventStore
from serving.event_writer import WrittenEvent
from serving.recommender_service import Clock, wall_clock
from serving.refusals import guarded
from serving.tally import Tally
from serving.validation import MAX_EVENTS, Problems

_TEXTS = (
    Column.USER_ID,
    Column.VISITOR_ID,
    Column.EVENT_ID,
    Column.SESSION_ID,
    Column.CURRENCY,
    Column.PLACEMENT,
    Column.QUERY,
)
_WRITTEN = (*_TEXTS, Column.ATTRIBUTION_TOKEN)
_NUMBERS = {str(c) for c in (Column.QUANTITY, Column.PRICE, Column.POSITION, Column.VALUE)}
_TYPES = [str(t) for t in EventType]


class EventsService(events_pb2_grpc.EventsServicer):
    """Takes events for the online state and the log."""

    def __init__(
        self,
        store: EventStore,
        config: EventsConfig,
        tally: Tally,
        clock: Clock = wall_clock,
        watch: ArmWatch | None = None,
    ) -> None:
        self._watch = watch
        self._store, self._tally, self._clock = store, tally, clock
        self._ahead = round(config.future_minutes * MINUTE)

    @guarded
    def WriteEvents(self, request: pb.WriteEventsRequest, context: grpc.ServicerContext) -> pb.WriteEventsResponse:  # noqa: N802
        """See the proto."""
        problems, now = Problems(), self._clock()
        if not 1 <= len(request.events) <= MAX_EVENTS:
            problems.add("events", f"has {len(request.events)} entries, expected 1 to {MAX_EVENTS}")
            problems.refuse()
        for at, event in enumerate(request.events):
            self._check(problems, f"events[{at}]", event, now)
        problems.refuse()
        taken = self._store.write([_written(e, now) for e in request.events])
        if self._watch is not None:
            for event in request.events:
                self._watch.followed(event, now)
        self._tally.add("events", "accepted", taken.accepted)
        self._tally.add("events", "duplicate", taken.duplicates)
        self._tally.add("events", "spooled", taken.spooled)
        return pb.WriteEventsResponse(accepted=taken.accepted, duplicates=taken.duplicates, spooled=taken.spooled)

    def _check(self, problems: Problems, at: str, event: pb.Event, now: int) -> None:
        if event.event_type not in _TYPES:
            hint = nearest(event.event_type, _TYPES)
            problems.add(
                f"{at}.event_type",
                f"is {event.event_type[:64]!r}; {hint}" if event.event_type else f"is required; {hint}",
            )
        if not 0 <= event.event_time <= now + self._ahead:
            expected = f"microseconds since the epoch, at most {self._ahead // MINUTE} minutes ahead of {now}"
            problems.add(f"{at}.event_time", f"is {event.event_time}, expected {expected}")
        problems.text(f"{at}.item_id", event.item_id, required=True)
        if not event.user_id and not event.visitor_id:
            problems.add(f"{at}.user_id", "is required, or visitor_id")
        for name in _TEXTS:
            problems.text(f"{at}.{name}", getattr(event, name))
        problems.text(f"{at}.{Column.ATTRIBUTION_TOKEN}", event.attribution_token, most=MAX_TOKEN_BYTES)
        # an absent number is 0, which is fine
        for name in (Column.QUANTITY, Column.PRICE, Column.POSITION):
            problems.number(f"{at}.{name}", getattr(event, name), least=0)
        problems.number(f"{at}.{Column.VALUE}", event.value)


def _written(event: pb.Event, now: int) -> WrittenEvent:
    """As a row of the events table: the columns that are given."""
    columns: dict[str, object] = {
        Column.EVENT_TYPE: event.event_type,
        Column.EVENT_TIME: event.event_time or now,
        Column.ITEM_ID: event.item_id,
    }
    columns |= {name: text for name in _WRITTEN if (text := getattr(event, name))}
    columns |= {field.name: value for field, value in event.ListFields() if field.name in _NUMBERS}
    return WrittenEvent.of(columns)
