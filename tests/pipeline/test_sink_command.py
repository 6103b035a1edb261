"""`events sink` as a person or a service manager runs it."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.sink import locked
from serving.embedded_redis import EmbeddedRedis
from serving.redis_link import client
from tests.waiting import until

EVENT = {"event_type": "click", "event_time": 1_700_000_000_000_000, "item_id": "a", "user_id": "u"}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """That of a work directory."""
    server = EmbeddedRedis(tmp_path / "work" / "redis")
    server.launch()
    server.wait()
    yield server
    server.stop()


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli", "events", "sink", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(*arguments: object, expect: int = 0) -> tuple[dict[str, Any], str]:
    """The JSON of a run, and the last line of its stderr."""
    process = started(*arguments)
    out, said = process.communicate(timeout=60)
    assert process.returncode == expect, said
    assert "Traceback" not in said
    return json.loads(out.splitlines()[-1]) if out else {}, said.strip().splitlines()[-1]


def add(server: EmbeddedRedis, n: int) -> None:
    store = client(server.url, 5, retries=0)
    store.xadd("aisle:default:events", {"event": json.dumps(EVENT | {"event_id": f"e-{n}"})})


def logged(data: Path) -> list[str]:
    files = sorted((data / "events").rglob("part-*.parquet"))
    return [i for f in files for i in pq.ParquetFile(f).read()["event_id"].to_pylist()]


def test_once(redis: EmbeddedRedis, tmp_path: Path) -> None:
    add(redis, 1)
    done, _ = ended("--data", tmp_path / "data", "--work", tmp_path / "work")
    newest = done.pop("position")
    assert newest["events"].endswith("-0")
    assert newest["recommendations"] == "0-0"
    assert done.pop("seconds") >= 0
    assert done == {"events": 1, "recommendations": 0, "shadows": 0, "trending": 0, "files": 1}
    assert logged(tmp_path / "data") == ["e-1"]


def test_followed_killed_followed_and_stopped(redis: EmbeddedRedis, tmp_path: Path) -> None:
    follow = ("--data", tmp_path / "data", "--work", tmp_path / "work", "--follow", "--flush-seconds", 0)
    first = started(*follow)
    add(redis, 1)
    until(lambda: logged(tmp_path / "data") == ["e-1"])
    first.kill()
    first.communicate()
    add(redis, 2)
    second = started(*follow)
    until(lambda: len(logged(tmp_path / "data")) == 2)
    pid = redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # it waits until its owner has started it again
    until(lambda: redis.pid not in (None, pid))
    redis.wait()
    add(redis, 3)
    until(lambda: len(logged(tmp_path / "data")) == 3)
    second.terminate()
    out, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert json.loads(out.splitlines()[-1])["events"] == 2
    assert sorted(logged(tmp_path / "data")) == ["e-1", "e-2", "e-3"]


def test_what_cannot_be_is_one_line(redis: EmbeddedRedis, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "name one of --work WORK and --redis URL" in ended("--data", data, expect=2)[1]
    assert "no such directory" in ended("--data", data, "--work", tmp_path / "none", expect=2)[1]
    said = ended("--data", data, "--redis", "unix:///nowhere/redis.sock", expect=2)[1]
    assert "unix:///nowhere/redis.sock: Redis went away" in said
    assert "nothing is lost: run it again" in said
    with locked(data):
        assert (
            "moves events here; wait for it to end, or stop it"
            in ended("--data", data, "--redis", redis.url, expect=2)[1]
        )
