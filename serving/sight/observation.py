"""One call as it is seen: who asks learns its id here, the stages leave what they did, and metrics, logs and traces are made from it when it ends."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Final

from serving.answers import Answer
from serving.failures import Failure
from serving.stage_watch import StageWatch
from serving.tally import Note, Tally

_LONGEST_ID: Final = 128
_of_thread = threading.local()


@dataclass(frozen=True)
class SeenPage:
    """A page of the call."""

    request_id: str
    release: str
    level: str
    failures: tuple[str, ...]
    items: int
    candidates: int
    watch: StageWatch
    arm: str = ""


class Observation:
    """Of one call, for the thread that answers it."""

    __slots__ = ("_ids", "given", "pages", "rpc", "traceparent")

    def __init__(self, rpc: str, given: str = "", traceparent: str = "") -> None:
        """`given`: the caller's name for the call; `traceparent`: as in W3C Trace Context."""
        self.rpc, self.given, self.traceparent = rpc, given, traceparent
        self.pages: list[SeenPage] = []
        self._ids = 0

    @property
    def request_id(self) -> str:
        """The call's name: that of its first page, else the caller's."""
        return self.pages[0].request_id if self.pages else self.given

    def name(self) -> str:
        """An id for a page without one: the caller's for the first, with a number for others; made up where the caller said nothing."""
        if not self.given:
            return uuid.uuid4().hex
        self._ids += 1
        return self.given if self._ids == 1 else f"{self.given}.{self._ids}"


def begin(one: Observation) -> None:
    """What this thread does next is for `one`."""
    _of_thread.one = one


def end() -> None:
    """It is done."""
    _of_thread.one = None


def current() -> Observation | None:
    """The call that this thread answers; None outside of one."""
    return getattr(_of_thread, "one", None)


def new_request_id() -> str:
    """The name of an answer whose request has none."""
    one = current()
    return uuid.uuid4().hex if one is None else one.name()


def usable_id(text: str) -> str:
    """An id that a caller sent as metadata, which may be anything; empty where it cannot be one.

    >>> usable_id("a-1"), usable_id("two words"), usable_id("x" * 129)
    ('a-1', '', '')
    """
    fine = len(text) <= _LONGEST_ID and text.isascii() and text.isprintable() and " " not in text
    return text if fine else ""


def page_seen(
    tally: Tally,
    rpc: str,
    request_id: str,
    release: str,
    page: Answer,
    failures: list[Failure],
    watch: StageWatch,
    arm: str = "",
) -> None:
    """Count a page, and leave it with the call that it is of."""
    counts: list[Note] = [("answers", (rpc, page.level, release, arm), 1)]
    counts += [("degraded", (failure,), 1) for failure in failures]
    if page.drawn is not None and page.drawn.explored:
        counts.append(("exploration", ("explored",), 1))
    if page.drawn is not None and page.drawn.new_at is not None:
        counts.append(("exploration", ("new-item",), 1))
    if not tally.detailed:
        tally.note(counts)
    else:
        counts += details(page)
        values: list[Note] = [("stages", (rpc, stage), ms / 1e3) for stage, ms in watch.every]
        values.append(("candidates", (), float(len(page.candidates))))
        tally.note(counts, values)
    one = current()
    if one is not None:
        names, n = tuple(map(str, failures)), len(page.candidates)
        one.pages.append(SeenPage(request_id, release, page.level, names, len(page.rows), n, watch, arm))


def details(page: Answer) -> list[Note]:
    """What each source proposed and has on the page, and what was removed."""
    ranks = page.candidates.ranks
    # places in a source's list count from 0 without a gap, so the last says how many there are; NO_ROW is -1
    last = ranks.max(axis=0).tolist() if len(ranks) else [-1] * len(page.candidates.sources)
    found: list[Note] = [("proposed", (s,), n + 1) for s, n in zip(page.candidates.sources, last, strict=True)]
    found += [("kept", (source,), n) for source, n in Counter(page.sources).items()]
    found += [("removed", (why,), len(rows)) for why, rows in page.removed.items() if len(rows)]
    return found
