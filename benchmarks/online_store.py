"""One person's long-term features from Redis: Feast's own layout, decoded by hand, against one packed blob. Decides which of them serving reads.

    python -m benchmarks.online_store [--users 100000] [--reads 20000] [--seed 1]

Feast keeps a hash for each entity: the key is the serialised entity key and the project, each field a murmur hash of `view:feature`, each value a protobuf
message. Both layouts are filled with the same numbers in a Redis of our own and read over its Unix socket by one client, in turn, one person at a time;
`with_history` reads the person's history blob in the same round trip, as serving does. `server_us` is what Redis itself spends on a command. The SDK writes
and reads the very bytes that are encoded here (tests/feature_repo/test_feast.py). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import mmh3
import numpy as np

from core.columns import Array
from ranking.statistics import USER_STATISTICS
from serving.embedded_redis import EmbeddedRedis
from serving.redis_link import client

PROJECT: Final = "aisle"
VIEW: Final = "user"
FIELDS: Final = tuple(s.field for s in USER_STATISTICS)
_STRING: Final = 2  # Feast's ValueType.STRING
_FLOAT_TAG: Final = 0x35  # feast.types.Value.float_val: field 6, 4 bytes
_HISTORY_BYTES: Final = 2_000
_CHUNK: Final = 2_000
_SAMPLED: Final = 500


def entity_key(key: str, value: str, project: str = PROJECT) -> bytes:
    """Feast's Redis key of an entity with one text key (entity key serialisation version 3)."""
    name, text = key.encode(), value.encode()
    head = struct.pack("<III", 1, _STRING, len(name)) + name
    return head + struct.pack("<II", _STRING, len(text)) + text + project.encode()


def field_name(view: str, feature: str) -> bytes:
    """Feast's hash field of a feature."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def encoded(values: Array) -> list[bytes]:
    """float32 `[f]` as Feast's value messages, five bytes each."""
    return [struct.pack("<Bf", _FLOAT_TAG, v) for v in values.tolist()]


def decoded(messages: Sequence[bytes]) -> Array:
    """float32 `[f]` of value messages, none of them null."""
    return np.frombuffer(b"".join(messages), np.uint8).reshape(-1, 5)[:, 1:].copy().view("<f4")[:, 0]


def main() -> None:
    """Fill, read, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=20_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedRedis(Path(folder))
        server.launch()
        server.wait()
        try:
            print(json.dumps(compare(server.url, arguments.users, arguments.reads, arguments.seed)))
        finally:
            server.stop()


def compare(url: str, users: int, reads: int, seed: int) -> dict[str, Any]:
    """Bytes for each person and latency of both layouts."""
    store, rng = client(url, 60, retries=0), np.random.default_rng(seed)
    people = [f"u:{n:07}" for n in range(users)]
    values = rng.gamma(1, 10, (users, len(FIELDS))).astype(np.float32)
    fill(store, people, [rng.bytes(_HISTORY_BYTES)] * users, lambda n, blob: ("SET", f"h:{people[n]}", blob))
    say(f"{users} people, {len(FIELDS)} features; writing both layouts")
    names = [field_name(VIEW, f) for f in FIELDS]
    stamp = b"\x08" + b"\xff" * 4 + b"\x06"  # a timestamp message of six bytes, as Feast keeps one for each view

    def hash_of(n: int, row: Array) -> tuple[Any, ...]:
        pairs = [part for pair in zip(names, encoded(row), strict=True) for part in pair]
        return ("HSET", entity_key("user_key", people[n]), f"_ts:{VIEW}", stamp, *pairs)

    feast_bytes, feast_seconds = fill(store, people, values, hash_of)
    packed_bytes, packed_seconds = fill(store, people, values, lambda n, row: ("SET", f"p:{people[n]}", row.tobytes()))
    readers = _readers(store, people, names)
    for n in range(min(users, 50)):  # the same numbers both ways
        for read in readers.values():
            np.testing.assert_array_equal(read(n), values[n])
    store.config_resetstat()
    latency = timed(readers, rng.integers(0, users, reads))
    spent = {k.removeprefix("cmdstat_"): v["usec_per_call"] for k, v in store.info("commandstats").items()}
    return {
        "users": users,
        "features": len(FIELDS),
        "reads": reads,
        "feast": {"bytes_per_user": feast_bytes, "write_seconds": feast_seconds, "server_us": spent["hmget"]}
        | latency["feast"],
        "packed": {"bytes_per_user": packed_bytes, "write_seconds": packed_seconds, "server_us": spent["get"]}
        | latency["packed"],
        "with_history": {k: latency[k] for k in ("feast_with_history", "packed_with_history")},
    }


def fill(
    store: Any, people: list[str], values: Any, command: Callable[[int, Any], tuple[Any, ...]]
) -> tuple[float, float]:
    """Write one key for each person: memory of one with its key and entry, by Redis' own count over a sample, bytes; and seconds."""
    start = time.perf_counter()
    for first in range(0, len(people), _CHUNK):
        with store.pipeline(transaction=False) as pipe:
            for n in range(first, min(first + _CHUNK, len(people))):
                pipe.execute_command(*command(n, values[n]))
            pipe.execute()
    seconds = round(time.perf_counter() - start, 2)
    sample = range(0, len(people), max(1, len(people) // _SAMPLED))
    used = [store.memory_usage(command(n, values[n])[1]) for n in sample]
    return round(sum(used) / len(used), 1), seconds


def _readers(store: Any, people: list[str], names: list[bytes]) -> dict[str, Callable[[int], Array]]:
    def feast(n: int) -> Array:
        return decoded(store.hmget(entity_key("user_key", people[n]), names))

    def packed(n: int) -> Array:
        return np.frombuffer(store.get(f"p:{people[n]}"), "<f4")

    def feast_with_history(n: int) -> Array:
        with store.pipeline(transaction=False) as pipe:
            pipe.execute_command("MGET", f"h:{people[n]}")
            pipe.hmget(entity_key("user_key", people[n]), names)
            return decoded(pipe.execute()[1])

    def packed_with_history(n: int) -> Array:
        return np.frombuffer(store.mget(f"h:{people[n]}", f"p:{people[n]}")[1], "<f4")

    every = (feast, packed, feast_with_history, packed_with_history)
    return {read.__name__: read for read in every}


def timed(readers: dict[str, Callable[[int], Array]], rows: Array) -> dict[str, dict[str, float]]:
    """p50 and p99 in microseconds of each reader, asked in turn so that the machine's noise is shared."""
    spent: dict[str, list[int]] = {name: [] for name in readers}
    for n in rows.tolist():
        for name, read in readers.items():
            start = time.perf_counter_ns()
            read(n)
            spent[name].append(time.perf_counter_ns() - start)
    return {
        name: {f"p{q}_us": round(float(np.percentile(of, q)) / 1e3, 1) for q in (50, 99)} for name, of in spent.items()
    }


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
