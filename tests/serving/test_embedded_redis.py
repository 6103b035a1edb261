import os
from pathlib import Path

import pytest

from core.errors import EnvironmentGapError
from serving.embedded_redis import EmbeddedRedis
from serving.redis_link import address, client


def test_a_folder_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    server = EmbeddedRedis(folder)
    assert len(os.fsencode(server.socket)) <= 100
    assert server.socket != EmbeddedRedis(folder / "other").socket
    server.launch()
    server.wait()
    assert client(server.url, 5, retries=0).ping()
    server.stop()
    assert (folder / "redis.log").exists()


def test_a_write_is_on_disk_when_it_is_confirmed(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    server.launch()
    server.wait()
    found = client(server.url, 5, retries=0).config_get("append*")
    server.stop()
    assert (found["appendonly"], found["appendfsync"]) == ("yes", "always")


def test_a_folder_that_cannot_be_made_is_said_by_launch_and_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    server = EmbeddedRedis(tmp_path / "work" / "redis")
    with pytest.raises(NotADirectoryError):
        server.launch()
    server.stop()


def test_without_a_program_the_message_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISLE_REDIS_SERVER", "/no/redis-server")
    server = EmbeddedRedis(tmp_path)
    server.launch()
    with pytest.raises(EnvironmentGapError, match="AISLE_REDIS_SERVER=/no/redis-server is no program"):
        server.wait()
    server.stop()


def test_an_address_has_no_password() -> None:
    assert address("rediss://me:secret@cache.shop:6380/2?password=again") == "rediss://cache.shop:6380/2"
    assert address("unix://:secret@/run/redis.sock") == "unix:///run/redis.sock"
