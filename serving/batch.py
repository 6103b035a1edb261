"""`batch`: the request path without gRPC, for many users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.columns import Array
from core.history import Query
from core.ids import NO_ROW
from core.threads import answering
from serving.answers import Answer, Request
from serving.release import Release
from serving.request_path import answer
from serving.rules.bound import check_fit
from serving.rules.live import Rules
from serving.rules.load import load_rules
from serving.user_state import UserState

_CHUNK = 256


@dataclass(frozen=True)
class BatchQuery:
    """One row of the query file, ids outside."""

    query_id: str
    user_id: str
    time: int | None  # microseconds; None: the end of the release's window
    placement: str = ""
    context_items: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchAnswer:
    """One query's page, ids outside."""

    query_id: str
    item_ids: list[str]
    scores: Array
    sources: tuple[str, ...]


class Batch:
    """Answers queries from one release and its user state."""

    def __init__(self, release: Path, user_state: Path, rules: Path | None = None) -> None:
        self.release = Release.open(release)
        self.rules = None if rules is None else _rules(self.release, rules)
        self.state = UserState.open(user_state, self.release.settings.history_events)

    def answer(self, query: BatchQuery, k: int, exclude_seen: bool) -> Answer:
        """Clock, history and facts as of the query's time; everything else is the release's."""
        return answer(self.release, self.request(query, k, exclude_seen))

    def request(self, query: BatchQuery, k: int, exclude_seen: bool) -> Request:
        """A query in rows, with the rules that were in force at its time."""
        time = self.release.window_end if query.time is None else query.time
        user = int(self.state.rows([query.user_id])[0])
        context = self.release.item_ids.rows(query.context_items)
        history, facts = self.state.histories.before(user, time), self.state.facts.at(user, time)
        told = self.state.told.of(user)
        asked = Query(time, user, history, context[context != NO_ROW], query.placement, facts, told)
        rules = None if self.rules is None else self.rules.of(self.release, query.placement, time)
        return Request(asked, k, exclude_seen=exclude_seen, rules=rules)

    def rendered(self, query: BatchQuery, k: int, exclude_seen: bool) -> BatchAnswer:
        """The page in the shop's own ids."""
        page = self.answer(query, k, exclude_seen)
        return BatchAnswer(
            query.query_id, [self.release.item_ids[r] for r in page.rows.tolist()], page.scores, page.sources
        )


def _rules(release: Release, folder: Path) -> Rules:
    rules = load_rules(folder)
    check_fit(rules.rules, release, release.window_end, folder)
    return Rules(rules)


def run(
    release: Path,
    user_state: Path,
    queries: Sequence[BatchQuery],
    k: int,
    exclude_seen: bool,
    rules: Path | None = None,
) -> Iterator[BatchAnswer]:
    """Answers in the order of the queries, by the rules of a folder if there is one; on every core when there are many."""
    # whatever does not fit is said here: a pool whose processes fail only says that they did
    batch = Batch(release, user_state, rules)
    if len(queries) <= 2 * _CHUNK:
        for query in queries:
            yield batch.rendered(query, k, exclude_seen)
        return
    chunks = [queries[at : at + _CHUNK] for at in range(0, len(queries), _CHUNK)]
    with answering(_open, (release, user_state, k, exclude_seen, rules)) as pool:
        for answers in pool.map(_answer_chunk, chunks):
            yield from answers


_worker: tuple[Batch, int, bool]


def _open(release: Path, user_state: Path, k: int, exclude_seen: bool, rules: Path | None) -> None:
    global _worker
    _worker = Batch(release, user_state, rules), k, exclude_seen


def _answer_chunk(queries: Sequence[BatchQuery]) -> list[BatchAnswer]:
    batch, k, exclude_seen = _worker
    return [batch.rendered(query, k, exclude_seen) for query in queries]
