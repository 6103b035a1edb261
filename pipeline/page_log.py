"""Reads the log of recommendations (docs/event-log.md) back: the pages of one release with the features that ranked them, and the live events behind them."""

from __future__ import annotations

import datetime as dt
import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.columns import Array
from core.errors import InputError, NotFoundError
from core.event_log import EVENT_KINDS, RECOMMENDATIONS, Page
from core.ids import hash64
from core.schema import Column, Table
from serving.event_writer import WrittenEvent
from serving.online_state import Person
from serving.packing import LiveEvent

_PART: Final = re.compile(r"part-\d+-\d+-\d+-\d+\.parquet")  # of the sink: first and last stream id
_FILES: Final = "day=*/part-*.parquet"
_LIGHT: Final = (Page.REQUEST_ID, Page.RELEASE, Page.FEATURE_SCHEMA, Page.DEGRADED)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_WHO: Final = (Column.USER_ID, Column.VISITOR_ID, Column.SESSION_ID)


@dataclass(frozen=True)
class LoggedPage:
    """One answer of `Recommend`, with what ranked it."""

    request_id: str
    time: int  # microseconds: the clock of the request
    person: Person  # nobody where the answer was not personal
    page_size: int
    exclude_seen: bool
    exclude_item_ids: tuple[str, ...]
    context_item_ids: tuple[str, ...]
    live_events: tuple[int, ...]  # hashes
    candidates: Array  # int32 [n], item rows of the release, ascending
    features: Array  # float32 [n, F]


@dataclass(frozen=True)
class Chosen:
    """Pages that were read."""

    pages: list[LoggedPage]
    others: dict[str, int]  # why other pages were not: degraded, not sampled, of another release


def read_pages(log: Path, release: str, schema: str, most: int) -> Chosen:
    """Pages of a release that have features, at most `most`: those with the smallest hashes of their request ids, in order of time.

    Args:
        log: `DATA/recommendations`.
        release: Its name.
        schema: Hash of the feature list that the release's ranker reads.
        most: How many.

    Raises:
        NotFoundError: There is no log.
        InputError: None of its pages is of use, or one has features of another schema.
    """
    files = sorted(log.glob(_FILES))
    if not files:
        raise NotFoundError(
            f"{log}: no pages ({_FILES}); expected DATA/{RECOMMENDATIONS}, which `./aisle events sink` writes"
        )
    others: Counter[str] = Counter()
    releases: Counter[str] = Counter()
    usable = _usable(files, release, schema, others, releases)
    chosen = {id for _, id in heapq.nsmallest(most, ((hash64(id), id) for id in usable))}
    if not chosen:
        had = ", ".join(f"{n} of {name}" for name, n in sorted(releases.items()))
        raise InputError(
            f"{log}: no page of release {release} with features among {had}; which share of pages gets features is "
            "log.features_share of configs/serving.yaml"
        )
    pages = [page for file in files for page in pages_of(file, chosen)]
    return Chosen(sorted(pages, key=lambda p: (p.time, p.request_id)), dict(others))


def _usable(
    files: Iterable[Path], release: str, schema: str, others: Counter[str], releases: Counter[str]
) -> Iterator[str]:
    """Request ids of pages to compare; the others are counted."""
    for file in files:
        for row in pq.read_table(file, columns=[str(c) for c in _LIGHT]).to_pylist():
            releases[str(row[Page.RELEASE])] += 1
            if row[Page.RELEASE] != release:
                others["of another release"] += 1
            elif row[Page.FEATURE_SCHEMA] is None:
                others["without features"] += 1
            elif row[Page.FEATURE_SCHEMA] != schema:
                raise InputError(
                    f"{file}: page {row[Page.REQUEST_ID]} has features of schema {row[Page.FEATURE_SCHEMA][:12]}, the ranker of "
                    f"{release} reads {schema[:12]}; compare it with the release and the Aisle that logged it"
                )
            elif row[Page.DEGRADED]:
                others["degraded"] += 1  # not all was known to the server, and the answer said so
            else:
                yield str(row[Page.REQUEST_ID])


def pages_of(file: Path, chosen: set[str]) -> Iterator[LoggedPage]:
    """The pages of these request ids in one file; few of its row groups are in memory at a time."""
    wanted = pa.array(sorted(chosen), pa.string())
    reader = pq.ParquetFile(file)
    for group in range(reader.num_row_groups):
        ids = reader.read_row_group(group, columns=[str(Page.REQUEST_ID)])[Page.REQUEST_ID]
        if not pc.any(pc.is_in(ids, value_set=wanted)).as_py():
            continue
        for batch in reader.iter_batches(64, row_groups=[group]):
            kept = batch.filter(pc.is_in(batch[Page.REQUEST_ID], value_set=wanted))
            for row in kept.to_pylist():
                yield _page(row)


def _page(row: dict[str, Any]) -> LoggedPage:
    rows = np.array(row[Page.CANDIDATES], np.int32)
    return LoggedPage(
        request_id=row[Page.REQUEST_ID],
        time=microseconds(row[Page.TIME]),
        person=Person(*(row[c] or "" for c in (Page.USER_ID, Page.VISITOR_ID, Page.SESSION_ID))),
        page_size=row[Page.PAGE_SIZE],
        exclude_seen=row[Page.EXCLUDE_SEEN],
        exclude_item_ids=tuple(row[Page.EXCLUDE_ITEM_IDS]),
        context_item_ids=tuple(row[Page.CONTEXT_ITEM_IDS]),
        live_events=tuple(row[Page.LIVE_EVENTS] or ()),
        candidates=rows,
        features=np.frombuffer(row[Page.FEATURES], "<f4").reshape(len(rows), row[Page.N_FEATURES]),
    )


def microseconds(moment: Any) -> int:
    """Of an aware datetime, exactly."""
    since = moment - _EPOCH
    return int(since.days) * 86_400_000_000 + int(since.seconds) * 1_000_000 + int(since.microseconds)


@dataclass(frozen=True)
class LiveLog:
    """Events that came through `WriteEvents`, of some people."""

    events: dict[int, LiveEvent]  # by hash
    lists: dict[str, list[int]]  # the hashes that went into each live list (Person.live_keys), as the log has them

    @classmethod
    def read(cls, data: Path, people: Sequence[Person]) -> LiveLog:
        """From the files that `events sink` left in `data`; what came in another way never was a live event."""
        ids = {c: pa.array(sorted({getattr(p, c) for p in people} - {""}), pa.string()) for c in _WHO}
        found = cls({}, {})
        for file in sorted((data / Table.EVENTS).glob(_FILES)):
            if not _PART.fullmatch(file.name):
                continue
            table = pq.read_table(file, columns=list(EVENT_KINDS))
            theirs = [pc.is_in(table[c], value_set=values) for c, values in ids.items()]
            for row in table.filter(pc.or_(pc.or_(theirs[0], theirs[1]), theirs[2])).to_pylist():
                found._add(row)
        return found

    def _add(self, row: Mapping[str, Any]) -> None:
        columns = {c: v for c, v in row.items() if v is not None}
        columns[Column.EVENT_TIME] = microseconds(columns[Column.EVENT_TIME])
        event = WrittenEvent.of(columns)
        if event.hash not in self.events:
            self.events[event.hash] = LiveEvent(event.hash, event.type.code, event.time, event.item_id)
            for key in event.person.live_keys:
                self.lists.setdefault(key, []).append(event.hash)

    def unseen(self, page: LoggedPage, since: int) -> set[int]:
        """Events of the page's person with times from `since` (microseconds) to its own that were not there for it."""
        theirs = {h for key in page.person.live_keys for h in self.lists.get(key, ())}
        return {h for h in theirs - set(page.live_events) if since <= self.events[h].time < page.time}
