"""The whole of `prepare` on a shop that fits on a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from core.artifact import facts, read_manifest, verify
from core.columns import Coded, Columns, Tags, Texts
from core.config import PipelineConfig
from core.prepared import Prepared
from core.schema import Column, EventType
from core.work import Work
from data_prep import prepare
from data_prep.prepare import run

BUY, VIEW, RETURN = "purchase-complete", "detail-page-view", "return"
DAY0 = pd.Timestamp("2024-05-01", tz="UTC")
# one event: who ("u" a user, "v" a visitor), item, type, hours since DAY0 (a day has 24), more columns
Row = tuple[str, str, str, float, dict[str, Any]]
SHOP: list[Row] = [
    ("u2", "b", BUY, 0, {"price": 4.0, "quantity": 2}),
    ("u2", "a", BUY, 24, {"price": 3.0}),
    ("u2", "b", RETURN, 48, {"price": 4.0, "quantity": -1}),
    ("u2", "a", BUY, 72, {"price": 3.0}),
    ("u1", "c", VIEW, 95.75, {}),
    ("u1", "c", BUY, 96, {"price": 7.0}),
    ("u1", "a", BUY, 120, {"price": 5.0}),
    ("v9", "a", BUY, 121, {"price": 5.0}),
]


def table(shop: list[Row]) -> pd.DataFrame:
    rows = [
        {
            "event_type": t,
            "event_time": DAY0 + pd.Timedelta(hours=h) + pd.Timedelta(seconds=1),
            "item_id": i,
            "user_id": w[1:] if w[0] == "u" else None,
            "visitor_id": w[1:] if w[0] == "v" else None,
        }
        | more
        for w, i, t, h, more in shop
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=1)  # the order of rows must not matter


ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "z", "a"],
        "title": ["old", "B", "Z", "new"],
        "stock": [1, 0, 5, 1],
        "tags": [["x"], ["y", "x"], [], ["x"]],
    }
)


@pytest.fixture
def prepared(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig, said: list[str]
) -> Prepared:
    users = pd.DataFrame({"user_id": ["1", "3"], "country": ["DE", "FR"]})
    return Prepared(
        run(put(events=table(SHOP), items=ITEMS, users=users), Work(tmp_path / "work"), settings, said.append)
    )


def test_a_small_shop(prepared: Prepared, said: list[str]) -> None:
    about = prepared.manifest.about
    # ids are sorted: items a b c z, people u:1 u:2 u:3 v:9
    assert list(prepared.item_ids.texts) == ["a", "b", "c", "z"]
    assert list(prepared.user_ids.texts) == ["u:1", "u:2", "u:3", "v:9"]
    events = {c: np.asarray(prepared.events.numbers(c)).tolist() for c in prepared.events}
    assert events[Column.USER] == [0, 0, 0, 1, 1, 1, 1, 3]
    assert events[Column.ITEM] == [2, 2, 0, 1, 0, 1, 0, 0]
    assert [EventType(list(EventType)[t]).value for t in events[Column.TYPE]] == [
        VIEW,
        BUY,
        BUY,
        BUY,
        BUY,
        RETURN,
        BUY,
        BUY,
    ]
    assert events[Column.GAIN] == pytest.approx([0.1, 1, 1, 1, 1, 0, 1, 1])
    assert events[Column.QUANTITY] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert events[Column.SESSION] == [0, 0, 1, 2, 3, 4, 5, 6]  # the view is 15 minutes before its purchase
    # successes of users by hour: 0 24 72 95.75 96 120. Places .75*5=3.75, 4.25, 4.5 (to even: 4) are 96, 96, 96:
    # test 96, validation 95.75, ranker 72. Visitor 9 at 121 comes after.
    hours = [
        (c - about["cuts"]["start"]) / 3600e6
        for c in (about["cuts"]["ranker"], about["cuts"]["validation"], about["cuts"]["test"])
    ]
    assert hours == [72, 95.75, 96]
    assert events["fold_global"] == [2, 3, 3, 0, 0, 0, 1, 3]
    # user 1: view, purchase, purchase are three successes. user 2: b a a; the return goes with the next one. The visitor is not cut.
    assert events["fold_last"] == [0, 1, 2, 0, 1, 2, 2, 0]
    assert (
        about["counts"] | {"rows_read": 8, "events": 8, "rejected": 0, "users": 3, "visitors": 1, "items": 4}
        == about["counts"]
    )
    assert about["repeat_share"] == pytest.approx(2 / 6)  # of users: c after its view, a again
    assert about["events_by_type"] == {VIEW: 1, BUY: 6, RETURN: 1}
    assert about["synthetic_time"] is False


def test_items_and_users(prepared: Prepared, said: list[str]) -> None:
    items, users = prepared.items, prepared.users
    titles = items["title"]
    assert isinstance(titles, Texts)
    assert list(titles) == ["new", "B", "", "Z"]  # the later row of a wins
    assert items.numbers("known").tolist() == [True, True, False, True]
    assert items.numbers("available").tolist() == [True, False, True, True]
    # no price in the table: the median of the events'. a: 3 3 5 5, b: 4 4, c: 7; nobody bought z
    np.testing.assert_array_equal(items.numbers("price"), np.array([4, 4, 7, np.nan], np.float32))
    tags, country = items["attribute.tags"], users["attribute.country"]
    assert isinstance(tags, Tags)
    assert isinstance(country, Coded)
    assert [tags[r] for r in range(4)] == [["x"], ["x", "y"], [], []]
    assert [country[r] for r in range(4)] == ["DE", None, "FR", None]
    assert users.numbers("known").tolist() == [True, True, True, False]
    rejected = pq.read_table(prepared.path / "rejected" / "items.parquet").to_pylist()
    assert [(r["reason"], r["title"], r["file"]) for r in rejected] == [
        ("duplicate item_id: a later row wins", "old", "items/part-0.parquet")
    ]
    assert "items: 1 rejected: duplicate item_id: a later row wins" in said


def test_days_and_pairs(prepared: Prepared) -> None:
    c = Columns.open(prepared.path / "item_days")
    first = int((DAY0 - pd.Timestamp(0, tz="UTC")).days)
    money = dict(
        zip(
            zip(c.numbers("item").tolist(), (c.numbers("day") - first).tolist(), strict=True),
            c.numbers("revenue").tolist(),
            strict=True,
        )
    )
    assert money == {(0, 1): 3, (0, 3): 3, (0, 5): 10, (1, 0): 8, (1, 2): -4, (2, 3): 0, (2, 4): 7}
    t = prepared.pairs("global", "transitions")
    rows = set(zip(*(t.numbers(n).tolist() for n in ("source", "target", "fold", "count")), strict=True))
    # user 1: c(view) c a, user 2: b a a. c>a from both c's, b>a to the first a (fold 0) and the second (fold 1)
    assert rows == {(2, 0, 3, 2), (1, 0, 0, 1), (1, 0, 1, 1)}
    assert set(prepared.pairs("last", "covisits").numbers("fold").tolist()) == {1, 2}


def test_twice_is_the_same_and_the_second_time_is_skipped(
    spark: SparkSession, prepared: Prepared, tmp_path: Path, settings: PipelineConfig
) -> None:
    again = run(tmp_path / "data", Work(tmp_path / "work"), settings, lambda _: None)
    assert again == prepared.path
    other = run(tmp_path / "data", Work(tmp_path / "other"), settings, lambda _: None)
    assert facts(read_manifest(other)) == facts(prepared.manifest)  # every file's sha256 is in it
    verify(other)


def test_rows_outlive_their_ids(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig
) -> None:
    work = Work(tmp_path / "work")
    first = Prepared(run(put(events=table(SHOP), items=ITEMS), work, settings, lambda _: None))
    assert list(first.item_ids.texts) == ["a", "b", "c", "z"]
    # the next night: z is gone, aa is new; it sorts before b but comes after every old row
    shop = [("u0", "aa", BUY, 130, {}), *SHOP]
    second = Prepared(run(put(events=table(shop), items=ITEMS[ITEMS.item_id != "z"]), work, settings, lambda _: None))
    assert list(second.item_ids.texts) == ["a", "b", "c", "z", "aa"]
    assert list(second.user_ids.texts) == ["u:1", "u:2", "v:9", "u:0"]
    assert second.items.numbers("available").tolist() == [True, False, True, False, True]
    assert second.manifest.parents["ids"] != first.manifest.parents["ids"] == "none"


def test_bad_rows_are_kept_with_their_reason(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig, said: list[str]
) -> None:
    loose = settings.model_copy(
        update={"data": settings.data.model_copy(update={"max_rejected_share": 0.9, "bot_events_per_day": 5})}
    )
    good = table(SHOP).assign(event_id=[str(i) for i in range(len(SHOP))])
    one = good.iloc[[0]].assign(event_id="x")
    faults = {
        "missing event_type": one.assign(event_type=None),
        "unknown event_type": one.assign(event_type="buy"),
        "missing user_id and visitor_id": one.assign(user_id=None, visitor_id=None),
        "search without an item": one.assign(item_id=None, event_type="search"),
        "missing item_id": one.assign(item_id=None),
        "event_time before 1990": one.assign(event_time=pd.Timestamp("1970-01-01", tz="UTC")),
        "event_time in the future": one.assign(event_time=pd.Timestamp("2099-01-01", tz="UTC")),
        "quantity negative or not finite": one.assign(event_type=BUY, quantity=-1.0),
        "price negative or not finite": one.assign(price=float("inf")),
        "duplicate event_id": good.iloc[[3]].assign(item_id="other"),
        "equal to an earlier row": pd.concat([one.assign(event_id=None)] * 2),
        "bot: more than 5 events on a day": pd.concat(
            [one.assign(user_id="bot", event_id=f"bot{k}") for k in range(6)]
        ),
    }
    data = put(events=pd.concat([good, *faults.values()]))
    found = Prepared(run(data, Work(tmp_path / "work"), loose, said.append))
    wanted = {reason: len(rows) for reason, rows in faults.items()} | {"equal to an earlier row": 1}
    assert found.manifest.about["rejected"]["events"] == wanted
    counts = found.manifest.about["counts"]
    assert counts["rows_read"] == counts["events"] + counts["rejected"]
    assert counts["events"] == len(SHOP) + 1  # the first of the equal rows is kept
    rejected = pq.read_table(found.path / "rejected" / "events.parquet").to_pandas()
    assert rejected.reason.value_counts().to_dict() == wanted
    assert rejected.set_index("reason").event_type["unknown event_type"] == "buy"
    assert rejected.set_index("reason").item_id["duplicate event_id"] == "other"
    assert any("1 rejected: unknown event_type (e.g. 'buy'" in s for s in said)


def test_whole_minutes_cannot_tell_a_resend(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig
) -> None:
    rows = table(SHOP)
    rows["event_time"] = rows.event_time.dt.floor("min")
    found = Prepared(run(put(events=pd.concat([rows, rows])), Work(tmp_path / "work"), settings, lambda _: None))
    assert found.manifest.about["counts"]["events"] == 2 * len(SHOP)


def test_live_events_with_ids_do_not_make_resends_of_an_old_log_of_whole_minutes(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig
) -> None:
    rows = table(SHOP)
    old = rows.assign(event_time=rows.event_time.dt.floor("min"), event_id=None)
    live = rows.assign(event_time=rows.event_time + pd.Timedelta("17ms"), event_id=[f"e-{n}" for n in range(len(rows))])
    found = Prepared(run(put(events=pd.concat([old, old, live])), Work(tmp_path / "work"), settings, lambda _: None))
    assert found.manifest.about["counts"]["events"] == 3 * len(SHOP)


def test_a_synthetic_clock_is_noticed_or_said(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig
) -> None:
    shop: list[Row] = [(f"u{u}", i, BUY, 24.0 * d, {}) for u in range(5) for d, i in enumerate("abcde")]
    data = put(events=table(shop))
    found = Prepared(run(data, Work(tmp_path / "work"), settings, lambda _: None))
    assert found.synthetic_time
    (data / "dataset.yaml").write_text("synthetic_time: false\n")
    assert not Prepared(run(data, Work(tmp_path / "work"), settings, lambda _: None)).synthetic_time


def test_a_run_that_dies_leaves_nothing_visible(
    spark: SparkSession,
    put: Callable[..., Path],
    tmp_path: Path,
    settings: PipelineConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work(tmp_path / "work")

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    data = put(events=table(SHOP))
    with monkeypatch.context() as m:
        m.setattr(prepare, "derive", die)
        with pytest.raises(Killed):
            run(data, work, settings, lambda _: None)
    stages = work.root / "stages" / "prepare"
    assert not work.has("prepare")
    (stages / ".tmp-scratch-of-a-killed-run").mkdir()
    path = run(data, work, settings, lambda _: None)
    assert sorted(p.name for p in stages.iterdir()) == sorted(["latest", path.name])
