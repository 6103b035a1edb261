"""The benchmark of what trends at a size that takes a moment: it reads all that it wrote, and its figures are there."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

from benchmarks.trending import keep, pages
from serving.release import Release
from tests.serving.shop import make_shop


def test_an_hour_is_read_and_pages_are_answered(tmp_path: Path) -> None:
    found = keep(tmp_path / "redis", events=1_000, items=50)
    # an event may be an hour old by the time it is read: its minute, one of sixty with some 17 events each, has left
    assert 960 <= found["counted"] <= 1_000
    assert 0 < found["trending"] <= found["items_with_events"] <= 50
    answered = pages(Release.open(make_shop(tmp_path).current), rounds=2)
    assert set(answered) == {f"{who}_{k}" for who in ("stranger", "item", "person") for k in (10, 50)}
    assert all(page["without_ms"] > 0 and page["with_ms"] > 0 for page in answered.values())
