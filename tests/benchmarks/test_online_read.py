"""The benchmark of the online read at a size that takes a moment: it reads what it wrote, and its figures are there."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

from benchmarks.online_read import run


def test_every_read_finds_its_person(tmp_path: Path) -> None:
    """A person's history has 20 events on average; every fifth person has some live ones, of a mean of 5, and every second session."""
    found = run(tmp_path, users=400, reads=400, mean=20, items=100)
    assert found["with_facts"] == found["reads"] == 400
    assert 15 < found["events_per_read"] < 35
    # 16 + 4 bytes for each of 7 facts + 17 for each of about 20 events
    assert 250 < found["packed_bytes"] < 550
    assert found["packed_bytes"] < found["bytes_per_user"]
    assert found["redis_gb"] > 0
