"""The commands around the server, as a person or a script calls them."""

# bazel: size=medium, imports=[cli.*]

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from core.work import Work
from serving.embedded_redis import EmbeddedRedis
from serving.process import ServingProcess
from serving.redis_link import client
from tests.serving.shop import END, PURCHASES


def aisle(*arguments: object, expect: int = 0) -> dict[str, Any]:
    """The JSON of a command, with its stderr under "stderr"."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == expect, done.stderr
    result = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
    return {**result, "stderr": done.stderr.strip()}


def refused(*arguments: object) -> str:
    """The last line of stderr of a command that ends with 2."""
    return str(aisle(*arguments, expect=2)["stderr"].splitlines()[-1])


@pytest.fixture
def address(server: ServingProcess) -> str:
    return f"127.0.0.1:{server.port}"


def test_lists_caps_and_candidates(address: str) -> None:
    asked = (
        "recommend",
        "--server",
        address,
        "--user",
        "bob",
        "--k",
        4,
        "--cap",
        "category=50%/4",
        "--list-size",
        12,
    )
    first = aisle(*asked)
    more = aisle(*asked, "--page-token", first["next_page_token"])
    shown = [r["item_id"] for page in (first, more) for r in page["results"]]
    assert len(set(shown)) == 8
    assert [r["rank"] for r in more["results"]] == [5, 6, 7, 8]
    few = aisle(
        "recommend", "--server", address, "--candidate", "tea-1", "--candidate", "gone", "--diversity", "low-diversity"
    )
    assert [r["item_id"] for r in few["results"]] == ["tea-1"]
    assert few["missing_ids"] == ["gone"]
    assert aisle("recommend", "--server", address, "--min-score", 0.5)["fallback_reason"] == "uncalibrated"


def test_what_is_wrong_says_how_to_mend_it(address: str) -> None:
    assert "brand=1/4" in refused("recommend", "--server", address, "--cap", "brand")
    assert "caps[0].attribute" in refused("recommend", "--server", address, "--cap", "brnd=2")
    assert "page_token: is none that this server gave out" in refused(
        "recommend", "--server", address, "--page-token", "x"
    )
    assert "such as 127.0.0.1:50051, with --server" in refused("recommend", "--server", "nonsense")
    assert refused("catalog", "delete").endswith("(see `./aisle catalog delete --help`)")


def test_recommend_events_similar(address: str) -> None:
    before = aisle(
        "recommend", "--server", address, "--user", "bob", "--k", 5, "--context", "tea-2", "--context", "gone"
    )
    assert len(before["results"]) == 5
    assert (before["level"], before["degraded"], before["missing_ids"]) == ("warm", False, ["gone"])
    assert all(r["item_id"] and r["source"] and r["reasons"] and r["score"] for r in before["results"])
    assert "Cup number 2" in before["stderr"]  # the table for people
    sent = aisle(
        "events",
        "send",
        "--server",
        address,
        "--user",
        "bob",
        "--type",
        "add-to-cart",
        "--item",
        "tea-5",
        "--item",
        "tea-6",
    )
    assert (sent["accepted"], sent["duplicates"]) == (2, 0)
    once = (
        "events",
        "send",
        "--server",
        address,
        "--user",
        "bob",
        "--type",
        "click",
        "--item",
        "tea-5",
        "--event-id",
        "e-7",
    )
    assert (aisle(*once)["accepted"], aisle(*once)["duplicates"]) == (1, 1)
    after = aisle(
        "recommend", "--server", address, "--user", "bob", "--k", 5, "--context", "tea-2", "--context", "gone"
    )
    assert [r["item_id"] for r in after["results"]] != [r["item_id"] for r in before["results"]]
    alike = aisle("similar", "--server", address, "--item", "tea-2", "--k", 2)
    assert [r["item_id"] for r in alike["results"]] == ["cup-2", "tea-1"]


def test_refusals_are_one_line_that_names_the_field(address: str) -> None:
    many = [word for n in range(51) for word in ("--context", f"tea-{n}")]
    assert refused("recommend", "--server", address, *many).startswith("error: context_item_ids: has 51")
    sent = refused("events", "send", "--server", address, "--user", "u", "--type", "buy", "--item", "tea-1")
    assert sent.startswith("error: events[0].event_type: is 'buy'; ")
    assert refused("similar", "--server", "127.0.0.1:1", "--item", "x").startswith(
        "error: no server answers at 127.0.0.1:1: start one"
    )


def test_materialize(shop: Work, redis_url: str, store: redis_py.Redis) -> None:
    done = aisle("materialize", "--work", shop.root, "--redis", redis_url)
    assert done["users"] == len(PURCHASES)
    events = sum(map(len, PURCHASES.values()))
    # 16 bytes of header and 7 facts of 4 bytes a person, 17 bytes an event
    assert done["bytes"] == (16 + 4 * 7) * len(PURCHASES) + 17 * events
    assert done["seconds"] >= 0
    assert store.dbsize() == len(PURCHASES) + 2  # the marker, the index of windows


def test_materialize_into_the_embedded_redis_and_no_server_left(shop: Work) -> None:
    assert aisle("materialize", "--work", shop.root)["users"] == len(PURCHASES)
    assert (shop.root / "redis" / "redis.log").exists()
    socket = EmbeddedRedis(shop.root / "redis").url
    with pytest.raises(redis_py.ConnectionError):
        client(socket, 5, retries=0).ping()


def test_releases(shop: Work) -> None:
    name = shop.current.resolve().name
    (listed,) = aisle("releases", "list", "--work", shop.root)["releases"]
    assert (listed["release"], listed["current"], listed["ndcg@10"]) == (name, True, 0.5)
    shown = aisle("releases", "show", "--work", shop.root)
    assert shown["about"]["window"][1] == END
    assert aisle("releases", "verify", shop.current)["verified"] is True
    assert aisle("releases", "verify", name, "--work", shop.root)["release"] == name
    assert "no such release" in refused("releases", "show", "gone", "--work", shop.root)
    assert "name a release directory, or --work" in refused("releases", "verify")


def test_verify_says_what_is_wrong(shop: Work, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shop.current.resolve(), copy)
    (copy / "settings.json").write_text("{}")
    assert f"{copy}/settings.json: sha256" in refused("releases", "verify", copy)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--release", "/no/such/release"], "no such directory"),
        (["--release", "{release}", "--listen", "nowhere"], "expected HOST:PORT"),
        (["--release", "{release}", "--redis", "http://x"], "--redis http://x"),
        (["--release", "{copy}"], "is in no folder `releases`"),
        (
            ["--release", "{release}", "--config", "{config}"],
            "unknown key 'redis.read_deadline'; did you mean 'read_deadline_ms'?",
        ),
    ],
    ids=["release", "listen", "redis", "work", "config"],
)
def test_serve_refuses_what_cannot_work(shop: Work, tmp_path: Path, arguments: list[str], says: str) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("redis:\n  read_deadline: 5\n")
    names = {"release": shop.current, "copy": tmp_path, "config": config}
    assert says in refused("serve", *(a.format(**names) for a in arguments))
