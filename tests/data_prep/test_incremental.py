"""Nights that read what is new: each must leave what a full run leaves."""

# bazel: size=large

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from core.catalog_entry import Entry, Kind
from core.catalog_log import CatalogLog
from core.columns import AnyColumn, Array, Columns, Texts
from core.config import PipelineConfig
from core.prepared import Prepared
from core.release import CATALOG_LOG, CATALOG_SEQUENCE
from core.work import Work
from data_prep import inventory
from data_prep.pairs import PROTOCOLS
from data_prep.prepare import run

DAY0 = pd.Timestamp("2024-05-01", tz="UTC")
ABOUT = ("cuts", "window", "synthetic_time", "repeat_share", "counts", "rejected", "events_by_type", "profile")
PER_DAY = 40  # more events than this on a day are a script's


@pytest.fixture
def loose(settings: PipelineConfig) -> PipelineConfig:
    """Pairs pruned hard, ages that matter, few events needed to be a script."""
    data = settings.data.model_copy(update={"max_rejected_share": 0.9, "bot_events_per_day": PER_DAY})
    pairs = settings.pairs.model_copy(update={"per_item": 4, "half_life_days": 3, "gap_days": 3})
    return settings.model_copy(update={"data": data, "pairs": pairs})


def day(number: int, n: int = 120, people: int = 12) -> pd.DataFrame:
    """Events of one day; half have an event_id, some a session, a price or a position."""
    rng = np.random.default_rng(number)

    def some(values: list[Any], share: float) -> list[Any]:
        return [v if rng.random() < share else None for v in values]

    who = rng.integers(0, people, n)
    return pd.DataFrame(
        {
            "event_type": rng.choice(
                ["purchase-complete", "detail-page-view", "impression", "return", "add-to-cart"], n
            ),
            "event_time": DAY0 + pd.to_timedelta(number * 86400 + rng.integers(0, 86400, n), unit="s"),
            "item_id": [f"i{i}" for i in rng.integers(0, 15, n)],
            "user_id": [f"{w}" if w > 2 else None for w in who],
            "visitor_id": [f"{w}" if w <= 2 else None for w in who],
            "event_id": some([f"e{number}-{i}" for i in range(n)], 0.5),
            "session_id": some([f"s{w}-{number}" for w in who], 0.3),
            "price": some(rng.integers(1, 50, n).tolist(), 0.7),
            "quantity": some(rng.integers(1, 4, n).tolist(), 0.7),
            "position": pd.array(some(rng.integers(0, 9, n).tolist(), 0.3), "Int64"),
            "query": some(["a b"] * n, 0.2),
        }
    )


class Shop:
    """A data directory that grows, and the work directory of its nights."""

    def __init__(self, root: Path, settings: PipelineConfig) -> None:
        self.root, self.data, self.work, self.settings = root, root / "data", Work(root / "work"), settings
        self.said: list[str] = []

    def put(self, name: str, rows: pd.DataFrame, table: str = "events") -> None:
        path = self.data / table / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(path, index=False)

    def night(self) -> Prepared:
        """One more night, held against a full run that continues the same id maps."""
        other = Work(self.root / "full")
        if self.work.root.exists():
            shutil.copytree(self.work.root, other.root, symlinks=True)
        self.said.clear()
        mine = Prepared(run(self.data, self.work, self.settings, self.said.append, catalog=self.work.catalog))
        again = run(self.data, other, self.settings, lambda _: None, full=True, catalog=self.work.catalog)
        same(mine, Prepared(again))
        shutil.rmtree(other.root)
        return mine

    def read(self) -> str:
        """What the last night said it reads."""
        return next((s for s in self.said if s.startswith("reading")), "")


def same(mine: Prepared, full: Prepared) -> None:
    """Counts and columns equal, sums within 1e-6."""
    assert list(mine.item_ids.texts) == list(full.item_ids.texts)
    assert list(mine.user_ids.texts) == list(full.user_ids.texts)
    for folder in ("events", "carried/events", "items", "users"):
        equal(Columns.open(mine.path / folder), Columns.open(full.path / folder), ("_code",))
    for folder, sums in (("item_days", "revenue"), ("user_days", "spend")):
        equal(Columns.open(mine.path / folder), Columns.open(full.path / folder), (), close=sums)
    for name in ("transitions", "covisits"):
        equal(
            Columns.open(mine.path / "carried/pairs" / name),
            Columns.open(full.path / "carried/pairs" / name),
            (),
            "decayed",
        )
        for protocol in PROTOCOLS:
            assert mine.pairs(protocol, name).rows > 0
            equal(mine.pairs(protocol, name), full.pairs(protocol, name), (), "decayed")
    for key in ABOUT:
        assert mine.manifest.about[key] == full.manifest.about[key], key
    assert rejected(mine) == rejected(full)


def equal(a: Columns, b: Columns, without: tuple[str, ...], close: str | None = None) -> None:
    assert a.keys() == b.keys()
    for name in a.keys() - set(without):
        for x, y in zip(arrays(a[name]), arrays(b[name]), strict=True):
            if name == close:
                np.testing.assert_allclose(x, y, rtol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(x, y, err_msg=name)


def arrays(column: AnyColumn) -> list[Array]:
    return [column] if isinstance(column, np.ndarray) else [np.asarray(column[row]) for row in range(len(column))]


def rejected(prepared: Prepared) -> list[tuple[str, ...]]:
    rows = pq.read_table(prepared.path / "rejected" / "events.parquet").to_pylist()
    return sorted(tuple(map(str, r.values())) for r in rows)


def test_nights_leave_what_a_full_run_leaves(spark: SparkSession, tmp_path: Path, loose: PipelineConfig) -> None:
    shop = Shop(tmp_path, loose)
    items = pd.DataFrame(
        {"item_id": [f"i{i}" for i in range(10)], "price": [1.0] * 5 + [None] * 5, "brand": list("abababaxyz")}
    )
    shop.put("all", items, "items")
    for d in range(6):
        shop.put(f"day-{d}", day(d))
    shop.night()

    # a day more, in which the shop sends part of the day before again, with and without event_id
    shop.put("day-6", pd.concat([day(6), day(5)[:30]]))
    prepared = shop.night()
    assert shop.read() == "reading 1 of 7 event files that are new or changed"
    assert sum(prepared.manifest.about["rejected"]["events"].values()) == 30

    # late events of an old day with a new person and a new item; the items table changes
    shop.put("day-2-late", day(2).assign(event_id=None, query="late", user_id="a late one", item_id="late")[:3])
    shop.put("all", items.assign(price=2.0, brand=None)[1:], "items")
    prepared = shop.night()
    assert shop.read() == "reading 1 of 8 event files that are new or changed"
    assert list(prepared.user_ids.texts)[-1] == "u:a late one"

    # the day whose events were sent again is corrected: half of those are not in it any more, so those sent again count
    shop.put("day-5", day(5)[15:].assign(price=9))
    prepared = shop.night()
    assert shop.read() == "reading 1 of 8 event files that are new or changed"
    # of the 30 resends, the 15 that the correction took out are events now; of the other 15 only those with an event_id repeat one
    again = int(day(5)[15:30].event_id.notna().sum())
    assert sum(prepared.manifest.about["rejected"]["events"].values()) == again

    # a file is gone, and nothing else happens
    (shop.data / "events" / "day-1.parquet").unlink()
    shop.night()
    assert shop.read() == "reading 0 of 7 event files that are new or changed; 1 are gone"


def test_a_longer_catalog_log_changes_items_and_nothing_else(
    spark: SparkSession, tmp_path: Path, loose: PipelineConfig
) -> None:
    """i1 is deleted, i2 off the shelf, i3 upserted, and n is new; then a newer file speaks of all of them, and a later upsert of i1."""
    shop, log = Shop(tmp_path, loose), CatalogLog(tmp_path / "work" / "catalog")
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(10)], "title": "of a file", "weight": 1.5})
    shop.put("all", items, "items")
    for d in range(4):
        shop.put(f"day {d}", day(d))
    first = shop.night()
    written = (shop.data / "items" / "all.parquet").stat().st_mtime_ns // 1000
    upserted = {"title": "upserted", "attributes": {"weight": 2.0}}

    def say(kind: Kind, after: int, **what: Any) -> None:
        log.append(Entry(kind, written + after, **what).payload)

    say(Kind.DELETE, 1, item_ids=("i1",))
    say(Kind.AVAILABILITY, 2, item_ids=("i2",), available=False)
    say(Kind.UPSERT, 3, items=({"item_id": "i3", **upserted}, {"item_id": "n", **upserted}))
    second = shop.night()
    assert shop.read() == "reading 0 of 4 event files that are new or changed"
    assert list(second.item_ids.texts) == [*first.item_ids.texts, "n"]
    assert (second.manifest.about[CATALOG_SEQUENCE], second.manifest.about[CATALOG_LOG]) == (3, log.id)
    assert first.manifest.about[CATALOG_SEQUENCE] == 0
    for folder in ("events", "users"):
        equal(Columns.open(first.path / folder), Columns.open(second.path / folder), ())
    rows = second.item_ids.rows(["i1", "i2", "i3", "n", "i4"])
    assert second.items.numbers("available")[rows].tolist() == [False, False, True, True, True]
    assert second.items.numbers("deleted")[rows].tolist() == [True, False, False, False, False]
    np.testing.assert_array_equal(
        second.items.numbers("attribute.weight")[rows], np.array([np.nan, 1.5, 2, 2, 1.5], np.float32)
    )
    assert shop.night().path == second.path  # nothing is new
    assert shop.said == []

    shop.put("all", items.assign(available=True, title="newer"), "items")
    os.utime(shop.data / "items" / "all.parquet", ns=(0, (written + 10) * 1000))
    say(Kind.UPSERT, 5, items=({"item_id": "i1", "title": "back"},))
    third = shop.night()
    titles = third.items["title"]
    assert isinstance(titles, Texts)
    assert [titles[int(r)] for r in rows] == ["newer", "newer", "newer", "upserted", "newer"]
    assert third.items.numbers("available")[rows].all()


def test_scripts_come_and_go(spark: SparkSession, tmp_path: Path, loose: PipelineConfig) -> None:
    shop = Shop(tmp_path, loose)
    for d in range(4):
        shop.put(f"day-{d}", day(d))
    shop.put(
        "day-0-other",
        day(100).assign(event_time=DAY0 + pd.Timedelta("1h"), user_id="someone else", visitor_id=None)[:3],
    )
    before = shop.night().manifest.about["counts"]["events"]
    mine = int(sum((day(d).user_id == "5").sum() for d in range(4)))

    # user 5 does more on one day than a person can, spread over two files: all files with events of theirs are read again
    script = day(104, 200).assign(user_id="5", visitor_id=None)
    script["event_time"] -= pd.Timedelta(days=100)
    shop.put("day-4-a", pd.concat([day(4), script[: PER_DAY // 2]]))
    shop.put("day-4-b", script[PER_DAY // 2 : PER_DAY + 5])
    prepared = shop.night()
    new = int((day(4).user_id != "5").sum())
    assert prepared.manifest.about["counts"]["events"] == before - mine + new
    assert any(s.startswith("reading 4 more files") for s in shop.said)

    # one of the two is taken back: what is left is little enough for a person
    (shop.data / "events" / "day-4-b.parquet").unlink()
    assert shop.night().manifest.about["counts"]["events"] == before + len(day(4)) + PER_DAY // 2


def test_bad_rows_stay_rejected_until_their_file_is_corrected(
    spark: SparkSession, tmp_path: Path, loose: PipelineConfig
) -> None:
    shop = Shop(tmp_path, loose)
    for d in range(3):
        shop.put(f"day-{d}", day(d))
    shop.put("day-1", pd.concat([day(1), day(200)[:4].assign(event_type="buy", event_time=DAY0)]))
    shop.night()
    shop.put("day-3", pd.concat([day(3), day(201)[:2].assign(item_id=None)]))
    assert shop.night().manifest.about["rejected"]["events"] == {"unknown event_type": 4, "missing item_id": 2}
    shop.put("day-1", day(1))
    assert shop.night().manifest.about["rejected"]["events"] == {"missing item_id": 2}


def test_old_files_are_not_opened(
    spark: SparkSession, tmp_path: Path, loose: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_HASHED_BYTES", 0)  # as if there were more: told apart by size and time
    shop = Shop(tmp_path / "à = 1, b", loose)
    for d in range(3):
        shop.put(f"day=0{d}/part+1 é %", day(d))
    run(shop.data, shop.work, loose, lambda _: None)
    for path in shop.data.rglob("*.parquet"):
        stat = path.stat()
        path.write_bytes(b"x" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    shop.put("day=03/part", day(3))
    prepared = Prepared(run(shop.data, shop.work, loose, shop.said.append))
    assert prepared.manifest.about["counts"]["events"] == 4 * 120


@pytest.mark.parametrize("what", ["settings", "clock", "version"])
def test_what_cannot_be_carried_over_is_read_again(
    spark: SparkSession, tmp_path: Path, loose: PipelineConfig, what: str
) -> None:
    shop = Shop(tmp_path, loose)
    for d in range(3):
        rows = day(d).assign(event_id=None)
        shop.put(f"day-{d}", rows.assign(event_time=rows.event_time.dt.floor("min")) if what == "clock" else rows)
    shop.night()
    shop.put("day-3", day(3).assign(event_id=None))
    if what == "settings":
        pairs = loose.pairs.model_copy(update={"window": 2})
        shop.settings = loose.model_copy(update={"pairs": pairs})
    if what == "version":
        state = shop.work.latest("prepare") / inventory.STATE
        state.write_text(state.read_text().replace('"natural"', '"natural_once"'))
    shop.night()
    assert any("reading every file" in s for s in shop.said)
