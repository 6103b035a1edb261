"""The server as a process: what it prints, what it loads, how it ends."""

# bazel: size=medium, imports=[cli.*]

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest, SimilarItemsRequest
from benchmarks.connections import Connections
from core.threads import VARIABLES
from core.work import Work
from serving.admin_service import HEAVY_MODULES
from serving.client import Client, ServerError
from tests.serving.served import Served, children
from tests.serving.shop import make_shop
from tests.waiting import until

# Files that those modules map into a process.
HEAVY_FILES = ("tensorflow", "pyspark", "pandas", "feast", "pyarrow", "libarrow", "duckdb", "keras")


@pytest.fixture
def shop(tmp_path: Path) -> Work:
    return make_shop(tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers; stops those that are left."""
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_says_where_it_listens_and_loads_nothing_heavy(shop: Work, serve: Callable[..., Served]) -> None:
    server = serve("--release", str(shop.current))
    assert server.ready["release"] == shop.current.resolve().name
    assert 0 < server.ready["ready_seconds"] < 30
    with Client(server.address, timeout=20) as ask:
        assert ask.recommend(RecommendRequest(user_id="ann")).level == "warm"
        ask.write_events([Event(event_type="click", item_id="tea-1", user_id="ann")])
        status = ask.status()
    assert status.pid == server.process.pid
    assert list(status.heavy_modules) == []
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "grpc" in maps  # or the next line would prove nothing
    assert [name for name in HEAVY_FILES if name in maps] == []
    assert set(HEAVY_MODULES) >= {"tensorflow", "pyspark", "pandas", "feast"}


def test_sigterm_stops_the_server_and_its_redis_and_the_events_stay(shop: Work, serve: Callable[..., Served]) -> None:
    server = serve("--release", str(shop.current))
    (redis,) = children(server.process.pid)
    with Client(server.address, timeout=20) as ask:
        ask.write_events([Event(event_type="click", item_id="tea-1", user_id="new-here")])
    server.stop()
    assert server.process.returncode == 0
    assert not alive(redis)
    again = serve("--release", str(shop.current))
    with Client(again.address, timeout=20) as ask:
        found = ask.recommend(RecommendRequest(user_id="new-here"))
    assert (found.level, found.degraded) == ("short-history", False)
    assert "loaded the histories" not in again.stop()  # they were there


def test_a_killed_server_leaves_no_redis(shop: Work, serve: Callable[..., Served]) -> None:
    server = serve("--release", str(shop.current))
    (redis,) = children(server.process.pid)
    server.process.kill()
    server.process.wait()
    until(lambda: not alive(redis))


def test_two_servers_share_the_redis_and_the_second_inherits_it(shop: Work, serve: Callable[..., Served]) -> None:
    first, second = serve("--release", str(shop.current)), serve("--release", str(shop.current))
    assert len(children(first.process.pid)) == 1
    assert children(second.process.pid) == []
    first.stop()
    until(lambda: len(children(second.process.pid)) == 1)
    with Client(second.address, timeout=20) as ask:
        until(lambda: not ask.recommend(RecommendRequest(user_id="ann")).degraded)


def test_workers_share_a_port_and_follow_a_swap(shop: Work, tmp_path: Path, serve: Callable[..., Served]) -> None:
    server = serve("--release", str(shop.current), "--workers", "2")

    def ask_once(call: Callable[[Client], object]) -> object:
        with Client(server.address, timeout=20) as ask:  # a connection of its own goes to either worker
            return call(ask)

    pids: set[object] = set()
    until(lambda: pids.add(ask_once(lambda a: a.status().pid)) or len(pids) == 2)  # type: ignore[func-returns-value]

    other = shop.releases / "another-name"
    shutil.copytree(shop.current.resolve(), other)
    assert ask_once(lambda a: a.load_release(str(other)).workers) == 2
    assert {ask_once(lambda a: a.status().release) for _ in range(8)} == {"another-name"}

    os.kill(next(p for p in pids if isinstance(p, int)), signal.SIGKILL)

    def replaced() -> bool:
        try:
            return ask_once(lambda a: a.status().pid) not in pids
        except ServerError:  # this connection was given to the one that died
            return False

    until(replaced)
    assert {ask_once(lambda a: a.status().release) for _ in range(8)} == {"another-name"}  # the new one too


def test_the_answer_does_not_depend_on_the_worker(shop: Work, serve: Callable[..., Served]) -> None:
    server = serve("--release", str(shop.current), "--workers", "2")
    with closing(Connections(server.address, 2)) as workers:
        first, second = workers.all
        first.write_events([Event(event_type="click", item_id="cup-3", visitor_id="guest", session_id="s")])
        second.set_availability(["tea-3"], False)
        for request in (
            RecommendRequest(user_id="ann", page_size=18),
            RecommendRequest(user_id="bob", context_item_ids=["pot-2"], exclude_seen=True),
            RecommendRequest(visitor_id="guest", session_id="s", page_size=5),
            RecommendRequest(session_id="s", filter='item_id IN ("cup-1", "cup-2", "tea-3")'),
            RecommendRequest(page_size=18),
        ):
            request.request_id = "the same"
            answers = [worker.recommend(request) for worker in workers.all]
            for answer in answers:
                assert not answer.degraded
                answer.ClearField("stage_latency_ms")
            assert answers[0] == answers[1]
            assert "tea-3" not in {r.item_id for r in answers[0].results}
        similar = [w.similar(SimilarItemsRequest(item_ids=["tea-1"], request_id="1")) for w in workers.all]
        assert similar[0] == similar[1]


def test_a_worker_that_is_killed_or_told_to_stop_costs_no_answer(shop: Work, serve: Callable[..., Served]) -> None:
    server = serve("--release", str(shop.current), "--workers", "2")
    enough, failed, answered = threading.Event(), list[str](), list[int]()

    def load() -> None:
        while not enough.is_set():
            for _ in range(20):  # the call that the dead worker had begun is sent again, as gRPC channels do
                try:
                    with Client(server.address, timeout=20) as ask:
                        answered.append(len(ask.recommend(RecommendRequest(user_id="ann")).results))
                    break
                except ServerError as e:
                    if not any(lost in str(e) for lost in ("UNAVAILABLE", "CANCELLED", "no server answers")):
                        failed.append(str(e))
            else:
                failed.append("not answered, sent 20 times")

    def workers() -> list[int]:
        found = [p for p in children(server.process.pid) if b"serving.worker" in cmdline(p)]
        return found if all(map(alive, found)) else []

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in (signal.SIGKILL, signal.SIGTERM):
            until(lambda: len(workers()) == 2)
            gone = workers()[0]
            os.kill(gone, number)
            until(lambda gone=gone: gone not in workers() and len(workers()) == 2)  # type: ignore[misc]
            with closing(Connections(server.address, 2)):  # the new one answers
                pass
    finally:  # a failure must not leave the threads asking for ever
        enough.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert set(answered) == {10}


def test_libraries_start_no_threads_of_their_own_whatever_the_environment_says(
    shop: Work, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    server = serve("--release", str(shop.current), "--workers", "2")
    for pid in (p for p in children(server.process.pid) if b"serving.worker" in cmdline(p)):
        given = dict(e.split(b"=", 1) for e in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if e)
        assert {given[name.encode()] for name in VARIABLES} == {b"1"}
        assert given[b"MALLOC_ARENA_MAX"] == b"2"
    look = (
        "from core.threads import pin; pin()\n"
        "import faiss, lightgbm, numpy\nfrom threadpoolctl import threadpool_info\n"
        "print(sorted({(i['user_api'], i['num_threads']) for i in threadpool_info()}), faiss.omp_get_max_threads())"
    )
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=120).stdout
    assert said.strip() == "[('blas', 1), ('openmp', 1)] 1"


def test_a_taken_port_is_one_line(shop: Work) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "cli", "serve", "--release", str(shop.current), "--listen", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: --listen {address}: cannot listen there")
    assert done.stdout == ""
