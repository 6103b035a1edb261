"""What the benchmark of faults counts by: a writer of events that knows what was acknowledged, a disk that is full, a link that is slow."""

# bazel: size=medium

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from benchmarks.fault_place import EventWriter, OwnRedis, copied, full, load_state, small_disk
from benchmarks.slow_link import SlowLink
from core.work import Work
from serving.config import load_serving
from serving.keys import Keys
from serving.process import ProcessOptions, ServingProcess
from tests.serving.shop import make_shop
from tests.waiting import until


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_shop(tmp_path_factory.mktemp("shop"))


def test_acknowledged_events_are_looked_for_one_by_one(shop: Work, tmp_path: Path) -> None:
    redis, work = OwnRedis(tmp_path / "redis", tmp_path), copied(shop.current, tmp_path / "work")
    redis.start()
    try:
        assert {"ann", "bob", "cid"} <= set(load_state(work, redis.url))
        options = ProcessOptions(work.current, work.root, "127.0.0.1", 0, redis.url, False, load_serving())
        process = ServingProcess(options)
        process.start()
        with EventWriter(f"127.0.0.1:{process.port}", ["tea-1"], pause=0.01) as writer:
            until(lambda: len(writer.said) > 2)
            redis.send(signal.SIGKILL)
            until(lambda: "spooled" in writer.since(0.0))
            redis.start()
            until(lambda: writer.said[-1][1] == "accepted")
        until(lambda: writer.lost(redis.client()) == (0, 0))  # the spool is handed over
        process.stop()
        assert set(writer.since(0.0)) <= {"accepted", "spooled"}
        store, stream = redis.client(), Keys(load_serving().tenant).events
        (first, fields), *_ = store.xrange(stream, count=1)
        store.xdel(stream, first)
        store.xadd(stream, store.xrange(stream, count=1)[0][1])
        assert writer.lost(store) == (1, 1), fields
    finally:
        redis.stop()


def test_a_full_disk_takes_nothing_until_the_block_ends(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as mounted:
        if not mounted:
            pytest.skip("needs root, to mount a disk")
        (tmp_path / "disk" / "before").write_bytes(b"x" * 100_000)
        with full(tmp_path / "disk"), pytest.raises(OSError, match="No space left"):
            (tmp_path / "disk" / "new").write_bytes(b"x" * 5_000)
        (tmp_path / "disk" / "new").write_bytes(b"x" * 5_000)


def test_the_link_holds_answers_back_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, SlowLink(tmp_path / "link", tmp_path / "target") as link:
        listening.bind(str(tmp_path / "target"))
        listening.listen()

        def echo() -> None:
            connection, _ = listening.accept()
            with connection:
                while piece := connection.recv(100):
                    connection.sendall(piece)

        threading.Thread(target=echo, daemon=True).start()
        with socket.socket(socket.AF_UNIX) as ask:
            ask.connect(str(tmp_path / "link"))
            for seconds in (0.0, 0.05, 0.0):
                link.hold_back(seconds)
                start = time.perf_counter()
                ask.sendall(b"ping")
                assert ask.recv(100) == b"ping"
                assert time.perf_counter() - start >= seconds
