"""The live catalog under load: deleted and unavailable items in answers, how soon an upserted item is found, what it costs a request.

    .venv/bin/python -m benchmarks.catalog --work WORK --seconds 60        # WORK of any nightly run, whose release has towers

Works on a copy of the release, so WORK is left as it is. Four parts, one JSON line:

- `gone`: a server of `--workers` processes; one writer deletes, takes off the shelf, puts back and upserts as fast as it is answered; readers in
  processes of their own ask `Recommend` and `SimilarItems` on a connection to every worker. An item whose call had returned before a request was
  sent, and that nothing brings back before its answer is there, is a violation if it is in the answer.
- `searchable`: from the moment that `UpsertItems` is sent, with the attributes of some item under a new id, until a worker that did not take the call
  answers `SimilarItems` of the new item.
- `look`: what a request pays for looking whether the log has grown, CPU time in this process, without changes.
- `path`: the request path without a log, with an empty one, and with `--live` new items, medians of alternating rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np

from aisle.v1.catalog_pb2 import Item
from aisle.v1.recommender_pb2 import RecommendRequest, SimilarItemsRequest
from benchmarks.connections import Connections
from core.catalog_entry import Entry, Kind
from core.columns import Array
from core.errors import AisleError
from core.history import Query
from core.schema import Column
from core.work import Work
from pipeline.served import Served
from serving.answers import Request
from serving.catalog import Catalog
from serving.catalog_service import row_of
from serving.client import Client
from serving.config import load_serving
from serving.recommender_service import wall_clock
from serving.release import Release
from serving.request_path import answer
from serving.resident import made_up_history

_SEED = 7


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="The live catalog under load.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--page", type=int, default=500, help="items of an answer")
    parser.add_argument("--upserts", type=int, default=100)
    parser.add_argument("--live", type=int, default=1000)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-catalog-") as folder:
        work = _copy(Work(a.work), Path(folder))
        found = {"release": work.current.resolve().name, "cores": os.cpu_count()}
        found |= under_load(work, a.seconds, a.workers, a.readers, a.upserts, a.page)
        found |= costs(work, a.live)
    print(json.dumps(found))
    if found["violations"]:
        sys.exit(1)


def _copy(work: Work, folder: Path) -> Work:
    copy, name = Work(folder / "work"), work.current.resolve().name
    shutil.copytree(work.current.resolve(), copy.releases / name)
    copy.current.symlink_to(name)
    state = work.user_state(Release.open(copy.current).window_end)
    if state.exists():
        shutil.copytree(state, copy.root / "user_state" / state.name)
    return copy


def under_load(work: Work, seconds: float, workers: int, readers: int, upserts: int, page: int) -> dict[str, Any]:
    """The parts `gone` and `searchable`."""
    release = Release.open(work.current)
    ids = [i for i in release.item_ids.texts if i]
    with ExitStack() as stack:
        address = stack.enter_context(Served(work.current, "--workers", workers)).address
        clients = stack.enter_context(closing(Connections(address, workers)))
        found = _searchable(clients, upserts, release)
        # a number for each item, odd while it is gone: it was gone all the time if it is odd and the same before and after
        marks = shared_memory.SharedMemory(create=True, size=4 * len(ids))
        stack.callback(marks.unlink)
        stack.callback(marks.close)
        context = multiprocessing.get_context("spawn")
        stop, results = context.Event(), context.Queue()
        reading = [
            context.Process(target=_read, args=(address, workers, ids, marks.name, stop, results, page, n))
            for n in range(readers)
        ]
        for process in reading:
            process.start()
        for _ in reading:
            results.get(timeout=120)  # each says when it begins
        changes = _write(clients.any, ids, _numbers(marks, len(ids)), seconds)
        stop.set()
        counted = [results.get(timeout=120) for _ in reading]
        for process in reading:
            process.join()
        log = clients.any.status().catalog
    asked, items, gone, violations = (sum(c[at] for c in counted) for at in range(4))
    return found | {
        "seconds": seconds,
        "workers": workers,
        "readers": readers,
        "page": page,
        "requests": asked,
        "results": items,
        "gone_items_watched": gone,  # summed over the requests: items that no answer may hold
        "violations": violations,
        "calls_of_the_writer": changes,
        "log_entries": log.sequence,
    }


def _searchable(clients: Connections, n: int, release: Release) -> dict[str, Any]:
    """Upserts through the first worker, asked of the last until it knows them."""
    waited, calls = np.empty(n), np.empty(n)
    last, rows = clients.all[-1], np.random.default_rng(_SEED).integers(0, release.items.rows, n).tolist()
    for at, row in enumerate(rows):
        item = _like(release, row, f"soon-{at}")
        start = time.perf_counter()
        clients.any.upsert_items([item])
        calls[at] = time.perf_counter() - start
        while not last.similar(SimilarItemsRequest(item_ids=[item.item_id], page_size=1)).results:
            pass
        waited[at] = time.perf_counter() - start
    return {
        "upserts": n,
        "call_ms": _percentiles(calls),
        "searchable_elsewhere_ms": _percentiles(waited),
        "items_of_the_release": release.items.rows,
    }


def _like(release: Release, row: int, item_id: str) -> Item:
    """A new item with the attributes of one that is there."""
    columns: dict[str, Any] = dict(release.items)
    title, category, brand = (columns[c][row] or "" for c in (Column.TITLE, Column.CATEGORY, Column.BRAND))
    price = float(columns[Column.PRICE][row])
    known = price if price >= 0 else None
    return Item(item_id=item_id, title=title, category=category, brand=brand, price=known)


def _write(client: Client, ids: list[str], marks: Array, seconds: float) -> dict[str, int]:
    """Take items away and bring them back, one call at a time; a tenth of the shop is gone at any time."""
    rng, deadline, gone = np.random.default_rng(_SEED), time.monotonic() + seconds, list[tuple[int, bool]]()
    counts = {"delete": 0, "unavailable": 0, "back": 0, "upsert": 0}
    taken: set[int] = set()
    while time.monotonic() < deadline:
        if len(gone) > len(ids) // 10:
            back, deleted = gone.pop(int(rng.integers(len(gone))))
            taken.discard(back)
            marks[back] += 1  # before the call: from here on it may be in an answer
            if deleted:
                client.upsert_items([Item(item_id=ids[back], title=f"back {back}", price=2.0)])
                counts["upsert"] += 1
            else:
                client.set_availability([ids[back]], True)
                counts["back"] += 1
        away = int(rng.integers(len(ids)))
        if away in taken:
            continue
        taken.add(away)
        deleted = bool(rng.random() < 0.5)
        if deleted:
            client.delete_items([ids[away]])
        else:
            client.set_availability([ids[away]], False)
        counts["delete" if deleted else "unavailable"] += 1
        marks[away] += 1  # after the call: from here on it may not
        gone.append((away, deleted))
    return counts


def _read(
    address: str, workers: int, ids: list[str], name: str, stop: Any, results: Any, page: int, number: int
) -> None:
    """Ask every worker in turn until told to stop; (requests, results, items that were watched, violations)."""
    marks = shared_memory.SharedMemory(name=name)
    seen = _numbers(marks, len(ids))
    rng, row_of = np.random.default_rng(number), {item: row for row, item in enumerate(ids)}
    clients = Connections(address, workers)
    asked = items = watched = violations = 0
    results.put("ready")
    while not stop.is_set():
        client = clients.all[asked % workers]
        some = [ids[row] for row in rng.integers(0, len(ids), 3)]
        before = seen.copy()
        if asked % 4:
            found = client.recommend(RecommendRequest(context_item_ids=some, page_size=page)).results
        else:
            found = client.similar(SimilarItemsRequest(item_ids=some, page_size=page)).results
        gone = (before % 2 == 1) & (seen == before)
        rows = [row_of[r.item_id] for r in found if r.item_id in row_of]
        violations += int(gone[rows].sum()) if rows else 0
        asked, items, watched = asked + 1, items + len(found), watched + int(gone.sum())
    clients.close()
    del seen  # the memory cannot be closed while an array is over it
    marks.close()
    results.put((asked, items, watched, violations))


def costs(work: Work, live: int) -> dict[str, Any]:
    """The parts `look` and `path`."""
    release, config = Release.open(work.current), load_serving().catalog
    rng = np.random.default_rng(_SEED)
    empty_log, full_log = (Catalog(work.root / name, config, wall_clock) for name in ("empty", "full"))
    empty, full = empty_log.over(release), full_log.over(release)
    chosen = rng.choice(release.items.rows, min(live, release.items.rows), replace=False).tolist()
    rows = tuple(row_of(_like(release, row, f"live-{n}")) for n, row in enumerate(chosen))
    start = time.process_time()
    full_log.write(Entry(Kind.UPSERT, 1, items=rows), full)
    taken = time.process_time() - start
    start = time.process_time()
    full_log.over(release)
    opened = time.process_time() - start
    query = Query(release.window_end, history=made_up_history(release.fill[:50], release.window_end))
    ways: dict[str, Callable[[], Release]] = {
        "without_log": lambda: release,
        "empty_log": lambda: empty.current,
        "new_items": lambda: full.current,
    }
    milliseconds = np.empty((60, len(ways)))
    for line in milliseconds:
        for at, way in enumerate(ways.values()):
            start = time.process_time()
            answer(way(), Request(query, 20))
            line[at] = 1e3 * (time.process_time() - start)
    return {
        "look_us": round(1e6 * _cpu(lambda: empty.current), 2),
        "look_us_new_items": round(1e6 * _cpu(lambda: full.current), 2),
        "path_ms": dict(zip(ways, np.median(milliseconds[5:], axis=0).round(3).tolist(), strict=True)),
        "live_items": len(rows),
        "upsert_us_per_item": round(1e6 * taken / len(rows), 1),
        "replay_us_per_item": round(1e6 * opened / len(rows), 1),
    }


def _cpu(call: Callable[[], object], times: int = 20_000) -> float:
    """Seconds of CPU a call, the least of five rounds."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(times):
            call()
        best = min(best, (time.process_time() - start) / times)
    return best


def _numbers(memory: shared_memory.SharedMemory, n: int) -> Array:
    assert memory.buf is not None
    return np.frombuffer(memory.buf, np.uint32, n)


def _percentiles(seconds: Array) -> dict[str, float]:
    return {f"p{q}": round(1e3 * float(np.percentile(seconds, q)), 1) for q in (50, 99)}


if __name__ == "__main__":
    try:
        main()
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
