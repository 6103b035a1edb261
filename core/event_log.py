"""The event log: how what happened leaves Redis, and where it lies in the data directory (docs/event-log.md).

DATA/
  events/day=YYYY-MM-DD/part-<first>-<last>.parquet             the events table of the data contract, by the UTC day of the event
  recommendations/day=YYYY-MM-DD/part-<first>-<last>.parquet    pages served
  shadows/day=YYYY-MM-DD/part-<first>-<last>.parquet            what shadows would have shown (docs/experiments.md): no id of a person is in it
  trending/day=YYYY-MM-DD/part-<first>-<last>.parquet           what trended, once a minute
  _sink/                                                        what `events sink` has done so far

`<first>` and `<last>` are the ids of the stream entries of one batch; names that begin with _ are no data to `prepare`.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import Final

from core.ids import hash64
from core.schema import EVENTS, SECOND

SINK: Final = "_sink"
RECOMMENDATIONS: Final = "recommendations"
SHADOWS: Final = "shadows"
TRENDING: Final = "trending"

# Fields of a stream entry.
EVENT: Final = "event"  # of `aisle:T:events`: JSON of the event's columns
TREND: Final = "trend"  # of `aisle:T:trending`: JSON of the snapshot's columns
PAGE: Final = "page"  # of `aisle:T:shown`: JSON of the page's columns but these two, which are bytes:
CANDIDATES: Final = "candidates"  # int32 little-endian [n]: item rows of the release
FEATURES: Final = "features"  # float32 little-endian [n, n_features], row-major


class Page(StrEnum):
    """Columns of the log of recommendations."""

    TIME = "time"
    REQUEST_ID = "request_id"
    ATTRIBUTION_TOKEN = "attribution_token"
    TENANT = "tenant"
    RELEASE = "release"
    WINDOW_END = "window_end"
    PLACEMENT = "placement"
    USER_ID = "user_id"
    VISITOR_ID = "visitor_id"
    SESSION_ID = "session_id"
    LEVEL = "level"
    DEGRADED = "degraded"
    FALLBACK_REASON = "fallback_reason"
    PAGE_SIZE = "page_size"
    EXCLUDE_SEEN = "exclude_seen"
    EXCLUDE_ITEM_IDS = "exclude_item_ids"
    CONTEXT_ITEM_IDS = "context_item_ids"
    LABELS = "labels"
    ITEMS = "items"
    POSITIONS = "positions"
    SCORES = "scores"
    SOURCES = "sources"
    PROPENSITIES = "propensities"
    EXPLORED = "explored"
    POOL = "pool"
    EXPERIMENTS = "experiments"
    USER_ROW = "user_row"
    LIVE_EVENTS = "live_events"
    CANDIDATES = "candidates"
    FEATURES = "features"
    FEATURE_SCHEMA = "feature_schema"
    N_FEATURES = "n_features"


# What each column holds: text | time (microseconds) | integer | boolean | texts | integers | numbers | map | rows | hashes | bytes.
PAGES: Final[dict[Page, str]] = {
    Page.TIME: "time",
    Page.REQUEST_ID: "text",
    Page.ATTRIBUTION_TOKEN: "text",
    Page.TENANT: "text",
    Page.RELEASE: "text",
    Page.WINDOW_END: "time",
    Page.PLACEMENT: "text",
    Page.USER_ID: "text",
    Page.VISITOR_ID: "text",
    Page.SESSION_ID: "text",
    Page.LEVEL: "text",
    Page.DEGRADED: "boolean",
    Page.FALLBACK_REASON: "text",
    Page.PAGE_SIZE: "integer",
    Page.EXCLUDE_SEEN: "boolean",
    Page.EXCLUDE_ITEM_IDS: "texts",
    Page.CONTEXT_ITEM_IDS: "texts",
    Page.LABELS: "map",
    Page.ITEMS: "texts",
    Page.POSITIONS: "integers",
    Page.SCORES: "numbers",
    Page.SOURCES: "texts",
    Page.PROPENSITIES: "numbers",
    Page.EXPLORED: "boolean",
    Page.POOL: "texts",
    Page.EXPERIMENTS: "texts",
    Page.USER_ROW: "integer",
    Page.LIVE_EVENTS: "hashes",
    Page.CANDIDATES: "rows",
    Page.FEATURES: "bytes",
    Page.FEATURE_SCHEMA: "text",
    Page.N_FEATURES: "integer",
}


class Snapshot(StrEnum):
    """Columns of the log of what trended."""

    TIME = "time"
    TENANT = "tenant"
    RELEASE = "release"
    WINDOW_SECONDS = "window_seconds"
    TRENDING = "trending"
    ITEMS = "items"
    VALUES = "values"


SNAPSHOTS: Final[dict[Snapshot, str]] = {
    Snapshot.TIME: "time",
    Snapshot.TENANT: "text",
    Snapshot.RELEASE: "text",
    Snapshot.WINDOW_SECONDS: "integer",
    Snapshot.TRENDING: "integer",
    Snapshot.ITEMS: "texts",
    Snapshot.VALUES: "numbers",
}
EVENT_KINDS: Final[dict[str, str]] = {str(c): kind for c, kind in EVENTS.kinds.items()}


def day(time: int) -> str:
    """The UTC day of microseconds since the epoch.

    >>> day(0), day(86_400_000_000 - 1), day(86_400_000_000)
    ('1970-01-01', '1970-01-01', '1970-01-02')
    """
    return (dt.datetime(1970, 1, 1) + dt.timedelta(seconds=time // SECOND)).date().isoformat()


def part(table: str, day: str, first: str, last: str) -> Path:
    """Where the rows of one day of one batch lie, relative to the data directory; `first` and `last` are stream ids.

    >>> str(part("events", "2024-05-01", "17-0", "18-3"))
    'events/day=2024-05-01/part-17-0-18-3.parquet'
    """
    return Path(table) / f"day={day}" / f"part-{first}-{last}.parquet"


def sampled(salt: str, id: str, share: float) -> bool:
    """Whether `id` belongs to a share of all ids: the same answer in every process.

    >>> sampled("x", "a", 1.0), sampled("x", "a", 0.0)
    (True, False)
    """
    return hash64(f"{salt}:{id}") < share * 2**64
