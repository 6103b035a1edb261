"""The feature tables on disk: what they hold, and that a second night writes only what changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.columns import Coded, Columns
from core.errors import ConfigError
from core.ids import IdMap
from core.prepared import Prepared
from core.schema import DAY
from pipeline.feature_files import Exported, day_name, export
from pipeline.feature_tables import FeaturesConfig, end_day, load_features, whole_days
from ranking.item_day_statistics import ItemStatistics
from ranking.statistics import ENTITIES
from tests.feature_repo.shop import FIRST, LAST, make_shop, some_rows

CONFIG = FeaturesConfig(cohort_attributes=("country", "device"), pairs=True)


def quiet(text: str) -> None:
    """No progress."""


def exported(prepared: Prepared, folder: Path) -> dict[str, Exported]:
    return export(prepared, folder, CONFIG, quiet)


def test_a_row_is_the_snapshot_of_its_day(tmp_path: Path) -> None:
    prepared = make_shop(tmp_path, some_rows(1))
    done = exported(prepared, tmp_path / "features")
    assert set(done) == set(ENTITIES)
    table = pq.read_table(tmp_path / "features" / "item").to_pandas()
    assert len(table) == done["item"].rows
    assert not table.duplicated(["item_id", "as_of_day"]).any()
    days = table["as_of_day"].to_numpy()
    assert (days.min(), days.max()) == (FIRST + 1, end_day(prepared))
    assert (table["event_timestamp"].to_numpy("datetime64[us]").astype(np.int64) == days.astype(np.int64) * DAY).all()
    items = ItemStatistics.of(prepared)
    expected = items.as_of(prepared.item_ids.rows(table["item_id"]), days)
    np.testing.assert_array_equal(table[[n.split(".")[1] for n in items.names]].to_numpy(), expected)
    about = json.loads((tmp_path / "features" / "views.json").read_text())
    assert [t["name"] for t in about["tables"]] == list(done)


def test_a_second_night_writes_new_and_reopened_days_only(tmp_path: Path) -> None:
    features = tmp_path / "features"
    middle = FIRST + 60
    rows = some_rows(1)
    early = [r for r in rows if r[3] < middle * DAY]
    first = exported(make_shop(tmp_path / "one", early, middle), features)
    assert first["item"].written == first["item"].days > 50
    again = exported(make_shop(tmp_path / "two", early, middle), features)
    assert {(t.written, t.removed) for t in again.values()} == {(0, 0)}
    # the days after the first night are new; those up to it stay as they are
    grown = exported(make_shop(tmp_path / "three", rows), features)
    assert grown["item"].written == grown["item"].days - first["item"].days
    assert grown["user_brand"].written == grown["user_brand"].days - first["user_brand"].days
    # a late event of day LAST - 3 re-opens what comes after it and no earlier day
    before = written(features, "user")
    exported(make_shop(tmp_path / "four", [*rows, ("u:00", "i00", "purchase-complete", (LAST - 3) * DAY)]), features)
    reopened = {d for d, at in written(features, "user").items() if before[d] != at}
    assert reopened
    assert min(reopened) == day_name(LAST - 2)


def written(features: Path, table: str) -> dict[str, float]:
    return {d: v["written"] for d, v in json.loads((features / f"{table}.json").read_text()).items()}


def test_days_that_hold_nothing_any_more_go(tmp_path: Path) -> None:
    rows, features = some_rows(1), tmp_path / "features"
    exported(make_shop(tmp_path / "one", rows), features)
    # without the last 30 days there are no rows as of them, windows included
    kept = exported(make_shop(tmp_path / "two", [r for r in rows if r[3] < (LAST - 30) * DAY], LAST - 30), features)
    assert kept["item"].removed == 30
    assert not (features / "item" / f"day={day_name(LAST)}").exists()


def test_a_deleted_person_is_in_no_table(tmp_path: Path) -> None:
    prepared = make_shop(tmp_path, some_rows(1))
    alive = np.ones(30, bool)
    alive[7] = False
    prepared.user_ids = IdMap.of([i if a else "" for i, a in zip(prepared.user_ids.texts, alive, strict=True)], alive)
    exported(prepared, tmp_path / "features")
    for table in ("user", "user_category", "user_brand"):
        people = set(pq.read_table(tmp_path / "features" / table).column("user_key").to_pylist())
        assert len(people) > 20
        assert not people & {"u:07", ""}


def test_a_shop_without_brands_has_no_table_of_them(tmp_path: Path) -> None:
    prepared = make_shop(tmp_path, some_rows(1))
    exported(prepared, tmp_path / "features")
    nothing = Coded.of([None] * 20)
    prepared.items = Columns({**prepared.items, "brand": nothing})
    assert "user_brand" not in exported(prepared, tmp_path / "features")
    assert not (tmp_path / "features" / "user_brand").exists()


def test_blocks_end_where_days_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.feature_tables._BLOCK_ROWS", 3)
    days = np.array([1, 1, 2, 2, 3, 3, 3, 3, 3, 4])
    blocks = [d.tolist() for _, _, d in whole_days(days, days, days)]
    assert blocks == [[1, 1], [2, 2], [3, 3, 3, 3, 3], [4]]


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("cohort_attribute: [country]\n")
    with pytest.raises(ConfigError, match="did you mean 'cohort_attributes'"):
        load_features(tmp_path / "mine.yaml")
