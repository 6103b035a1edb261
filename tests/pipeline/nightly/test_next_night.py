"""The night after: a day of events more, an item more, and what the live catalog was told."""

# bazel: size=large, imports=[cli.__main__, cli.commands.*], data=[//configs:all_files]

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aisle.v1.catalog_pb2 import Item
from aisle.v1.recommender_pb2 import RecommendRequest
from core import artifact
from core.ids import NO_ROW
from core.work import Work
from retrieval.query import TowerSource
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.process import ServingProcess
from serving.release import Release
from tests.pipeline.nightly.commands import CONFIG, aisle, nightly, result
from tests.serving.conftest import bare, changed, options_for


def test_the_night_after_keeps_the_towers_and_publishes_what_is_new(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """A day of events later, one of them on an item that was not there: a release of the same embedding, with one more item."""
    work = tmp_path / "work"
    shutil.copytree(night[0], work, symlinks=True)
    data = tmp_path / "shop"
    shutil.copytree(shop, data)
    events = pq.read_table(data / "events").sort_by("event_time")
    day = events.slice(len(events) - 200)
    later = pc.add(day.column("event_time"), pa.scalar(dt.timedelta(days=1)))
    items = pa.array(["new-item", *day.column("item_id").to_pylist()[1:]])
    for name, values in (("event_time", later), ("item_id", items)):
        day = day.set_column(day.column_names.index(name), name, values.cast(day.schema.field(name).type))
    if "event_id" in day.column_names:
        day = day.drop_columns(["event_id"])
    pq.write_table(day, data / "events" / "later.parquet")
    done = aisle("nightly", "--data", data, "--work", work, "--config", shop.parent / "small.yaml")
    second = Path(result(done)["release"])
    assert "towers stay: they learned 1.0 days of data ago" in " ".join(done.stderr.split()), done.stderr
    first = work / "releases" / Path(night[1]["release"]).name
    headers = [json.loads((r / "sources" / "towers" / "towers.json").read_bytes()) for r in (first, second)]
    assert headers[0]["embedding_id"] == headers[1]["embedding_id"]
    assert headers[1]["items"] == headers[0]["items"] + 1
    artifact.verify(second)


def test_the_night_after_takes_in_what_the_live_catalog_was_told(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """Two new items, one changed, one gone, one off the shelf, on a running server; a night later the release has them itself, and the server shows
    the same items from it. What it is told afterwards is replayed from the number on that the release has seen."""
    work = tmp_path / "work"
    shutil.copytree(night[0], work, symlinks=True)
    redis = EmbeddedRedis(tmp_path / "redis")
    redis.launch()
    redis.wait()
    process = ServingProcess(options_for(Work(work), redis.url, changed(bare(), "redis", read_deadline_ms=5000.0)))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=60) as client:

        def shown() -> set[str]:
            """Every item there is: the page is as long as the catalogue, and filled."""
            found = client.recommend(RecommendRequest(user_id="u0000001", page_size=300, exclude_seen=False))
            return {r.item_id for r in found.results}

        gone, off, changed_one, like, *_ = sorted(shown())
        release = Release.open(work / "releases" / "current")
        told: dict[str, Any] = {c: release.items[c][release.item_ids.row(like)] for c in ("category", "brand")}
        client.upsert_items([Item(item_id=i, title="new", price=5, **told) for i in ("new-1", "new-2")])
        client.upsert_items([Item(item_id=changed_one, title="changed", price=7, **told)])
        client.delete_items([gone, "new-2"])
        client.set_availability([off], False)
        before = shown()
        assert "new-1" in before
        assert not before & {gone, off, "new-2"}

        done = aisle(*nightly(shop, work))
        second = Release.open(Path(result(done)["release"]))
        assert "towers stay" in " ".join(done.stderr.split()), done.stderr
        client.load_release(str(second.path))
        assert shown() == before
        status = client.status().catalog
        assert (status.release_sequence, status.sequence) == (4, 4)
        assert (status.new_items, status.changed_items, status.deleted_items) == (0, 0, 0)

        # the new item is one like any other, with a vector of the kept towers that the index finds
        rows = second.item_ids.rows(["new-1", changed_one])
        titles = second.items["title"]
        assert [titles[int(r)] for r in rows] == ["new", "changed"]
        assert second.items.numbers("known")[rows].all()
        assert second.item_ids.row("new-2") == NO_ROW  # came and went between two nights
        (towers,) = (s for s in second.sources if isinstance(s, TowerSource))
        assert towers.tower.has_vector[rows].all()
        for row in rows.tolist():
            assert row in towers.search(towers.tower.item_vectors[row], 20)[0]

        # what comes now is replayed over it: availability does not bring back what is gone, an upsert does
        assert client.set_availability([gone, off], True).missing_ids == [gone]
        assert shown() == before | {off}
        client.upsert_items([Item(item_id=gone, title="back")])
        assert shown() == before | {off, gone}
        assert client.status().catalog.release_sequence == 4
    process.stop()
    redis.stop()


def test_mode_index_takes_in_a_new_item_and_learns_nothing(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """An hour later there is an item more. It has a vector and is found; embedding, ranker, settings and figures are the champion's."""
    work, data = tmp_path / "work", tmp_path / "shop"
    shutil.copytree(night[0], work, symlinks=True)
    shutil.copytree(shop, data)
    (tmp_path / "small.yaml").write_text(CONFIG)
    events = pq.read_table(data / "events").sort_by("event_time")
    new = events.slice(len(events) - 2)
    new = new.set_column(new.column_names.index("item_id"), "item_id", pa.array(["new-item"] * 2))
    pq.write_table(new, data / "events" / "later.parquet")
    done = result(aisle(*nightly(data, work), "--mode", "index"))
    assert list(done["stages"]) == ["prepare", "refresh-retrieval", "refresh-index", "refresh-ranker", "publish"]
    first, second = (Release.open(r) for r in (night[0] / "releases" / "current", Path(done["release"])))
    assert len(second.item_ids) == len(first.item_ids) + 1
    files = [{n: e.sha256 for n, e in r.manifest.files.items() if n.startswith("ranker/")} for r in (first, second)]
    assert files[0] == files[1]
    assert second.settings == first.settings
    assert second.manifest.about["metrics"] == first.manifest.about["metrics"]
    again = result(aisle(*nightly(data, work), "--mode", "index"))
    assert again["release"] == done["release"]
