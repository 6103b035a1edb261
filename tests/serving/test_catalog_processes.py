"""The live catalog across processes: workers, restarts, swaps and kills."""

# bazel: size=medium, timeout=long, imports=[cli.*]

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aisle.v1.catalog_pb2 import Item
from aisle.v1.recommender_pb2 import RecommendRequest
from core.errors import AisleError
from core.work import Work
from serving.client import Client
from tests.serving.live_shop import ITEMS, make_live_shop
from tests.serving.served import Served
from tests.waiting import until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_live_shop(tmp_path_factory.mktemp("live-shop"))


@pytest.fixture
def work(made: Work, tmp_path: Path) -> Work:
    shutil.copytree(made.root, tmp_path / "work", symlinks=True)
    return Work(tmp_path / "work")


@pytest.fixture
def serve(work: Work) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served("--release", str(work.current), *arguments))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def shown(client: Client) -> set[str]:
    found = client.recommend(RecommendRequest(user_id="p00", page_size=500))
    return {r.item_id for r in found.results}


def thing(item_id: str) -> Item:
    return Item(item_id=item_id, title="alpha thing", category="all > alpha", brand="alpha", price=12.0)


def each_worker(address: str, n: int) -> dict[int, Client]:
    """A connection to every worker, by process id: the kernel gives new connections to one or another."""
    found: dict[int, Client] = {}

    def one_more() -> bool:
        client = Client(address, timeout=30)
        if found.setdefault(client.status().pid, client) is not client:
            client.close()
        return len(found) == n

    until(one_more, 60)
    return found


def test_what_one_worker_takes_holds_in_the_other(serve: Callable[..., Served], work: Work) -> None:
    server = serve("--workers", "2")
    workers = each_worker(server.address, 2)
    one, two = workers.values()
    for at in range(20):  # from the moment the call returns: no waiting in between
        writer, reader = (one, two) if at % 2 else (two, one)
        item = ITEMS[at]
        writer.delete_items([item])
        assert item not in shown(reader)
        assert item not in shown(writer)
    for writer, reader, item in ((one, two, "new-1"), (two, one, "new-2")):
        writer.upsert_items([thing(item)])
        assert item in shown(writer)
        until(lambda r=reader, i=item: i in shown(r))  # type: ignore[misc]
        writer.set_availability([item], False)
        assert item not in shown(reader)
        reader.set_availability([item], True)
        assert item in shown(writer)
    want = {*ITEMS[20:], "new-1", "new-2"} - {"gamma-7"}
    assert shown(one) == shown(two) == want

    other = work.releases / "another"
    shutil.copytree(work.current.resolve(), other)
    assert one.load_release(str(other)).workers == 2
    assert shown(one) == shown(two) == want
    assert one.status().catalog.sequence == two.status().catalog.sequence == 26  # 20 deletions, then 3 calls each

    killed = next(iter(workers))
    os.kill(killed, signal.SIGKILL)

    def replaced() -> bool:
        with Client(server.address, timeout=5) as client:
            try:
                return client.status().pid not in workers and shown(client) == want
            except AisleError:  # the connection was given to the one that died
                return False

    until(replaced, 60)
    for client in workers.values():
        client.close()


def test_killed_under_a_stream_of_changes_nothing_acknowledged_is_lost(
    serve: Callable[..., Served], work: Work
) -> None:
    upserted: list[str] = []
    deleted: list[str] = []
    for kill in range(3):
        server, most = serve(), len(upserted) + 15 + 10 * kill

        def change(address: str = server.address, kill: int = kill) -> None:
            with Client(address, timeout=5) as client:
                for at in range(10_000):
                    item = f"new-{kill}-{at}"
                    client.upsert_items([thing(item)])
                    upserted.append(item)
                    if at % 3 == 0:
                        client.delete_items([item])
                        deleted.append(item)

        def until_killed(change: Callable[[], None] = change) -> None:
            with pytest.raises(AisleError):
                change()

        writer = threading.Thread(target=until_killed)
        writer.start()
        until(lambda most=most: len(upserted) >= most)  # type: ignore[misc]
        server.process.kill()  # at whatever moment this is
        writer.join()
        server.process.wait()
    server = serve()
    with Client(server.address, timeout=30) as client:
        there, status = shown(client), client.status().catalog
    # the last of each server may be deleted, or there, without anybody having been told
    assert set(upserted) - set(deleted) - there <= {i for i in upserted if int(i.split("-")[2]) % 3 == 0}
    assert not set(deleted) & there
    assert status.sequence >= len(upserted) + len(deleted)
    assert {i for i in there if i.startswith("new-")} >= {i for i in upserted if int(i.split("-")[2]) % 3}


def test_commands(serve: Callable[..., Served], tmp_path: Path) -> None:
    server = serve()

    def aisle(*arguments: str, expect: int = 0) -> dict[str, object]:
        command = [sys.executable, "-m", "cli", "catalog", *arguments, "--server", server.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == expect, done.stderr
        last = (done.stdout if expect == 0 else done.stderr).strip().splitlines()[-1]
        return dict(json.loads(last)) if expect == 0 else {"says": last}

    file = tmp_path / "items.jsonl"
    file.write_text(
        '{"item_id": "n-1", "title": "alpha thing", "price": 3, "use": ["alpha"], "weight": 1.5, "brand": null}\n\n'
        '{"item_id": "n-2", "title": "beta thing", "available_until": "2001-01-01T00:00:00"}\n'
    )
    assert aisle("upsert", "--file", str(file)) == {"upserted": 2, "created": 2, "sequence": 1}
    assert aisle("upsert", "--item", "alpha-1", "--title", "alpha thing") == {
        "upserted": 1,
        "created": 0,
        "sequence": 2,
    }
    assert aisle("delete", "--item", "alpha-2", "--item", "gone") == {
        "deleted": 1,
        "missing_ids": ["gone"],
        "sequence": 3,
    }
    assert aisle("availability", "--item", "alpha-3", "--unavailable") == {
        "changed": 1,
        "missing_ids": [],
        "sequence": 4,
    }
    with Client(server.address, timeout=30) as client:
        there = shown(client)
    assert {"n-1", "alpha-1"} <= there
    assert not {"n-2", "alpha-2", "alpha-3"} & there  # the window of n-2 closed long ago
    file.write_text('{"item_id": "n-1"}\n{"item_id": "n-3", "price": "much"}\n')
    assert str(aisle("upsert", "--file", str(file), expect=2)["says"]).startswith(
        f"error: {file}, line 2: price is 'much': "
    )
    assert aisle("upsert", expect=2)["says"] == "error: expected either --file FILE or --item ID"
