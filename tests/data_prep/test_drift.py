"""Two normal nights say nothing; prices that triple, a category that vanishes and an event type that stops are named."""

# bazel: size=medium, timeout=long

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from core.columns import Columns
from core.config import DriftConfig, load_pipeline
from core.prepared import Prepared
from core.schema import DAY
from core.work import Work
from data_prep import profiles
from data_prep.drift import Drift, compare
from data_prep.prepare import run
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate

DAYS = 27  # from Monday, 1 January 2024: the last night adds Saturday the 27th to a log that ends on Friday
LAST = "2024-01-27"
Change = Callable[[pa.Table], pa.Table]
CONFIG = load_pipeline().drift


def export(shop: Path, out: Path, until: str, **changes: Change) -> Path:
    """The shop as it was at the end of day `until`: its log, and the items and users that it had. `changes` alter a table, `newest` the last day."""
    midnight = dt.datetime.fromisoformat(until).replace(tzinfo=dt.UTC) + dt.timedelta(days=1)
    for table in ("items", "users"):
        rows = pq.read_table(shop / table)
        rows = rows.filter(pc.less(rows.column("created_at"), pa.scalar(midnight)))
        (out / table).mkdir(parents=True)
        pq.write_table(changes.get(table, lambda t: t)(rows), out / table / "part-0.parquet")
    (out / "events").mkdir()
    for file in sorted((shop / "events").iterdir()):
        day = file.stem.removeprefix("part-")
        if day <= until:
            rows = pq.ParquetFile(file).read()
            pq.write_table(
                changes["newest"](rows) if day == until and "newest" in changes else rows, out / "events" / file.name
            )
    return out


class Shop:
    """A simulated shop and its first night."""

    def __init__(self, seed: int, root: Path) -> None:
        self.root = root
        simulate(ShopOptions(users=300, items=250, events=12_000, days=DAYS, seed=seed), root / "shop")
        self.friday = self.night("friday", "2024-01-26")

    def night(self, name: str, until: str, **changes: Change) -> Prepared:
        """A night of the same work directory."""
        data = export(self.root / "shop", self.root / name, until, **changes)
        return Prepared(run(data, Work(self.root / "work"), load_pipeline(), lambda _: None))

    def found(self, night: Prepared, config: DriftConfig = CONFIG) -> list[Drift]:
        return compare(profiles.night(self.friday.path), profiles.night(night.path), config)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(1, tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_normal_nights_say_nothing(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    shop = Shop(seed, tmp_path)
    saturday = shop.night("saturday", LAST)
    assert [d.line for d in shop.found(saturday)] == []
    # and each night of the last two weeks, over both weekends, as the shop was then
    nights = [as_of(saturday, day) for day in range(DAYS - 15, DAYS + 1)]
    assert [d.line for before, now in itertools.pairwise(nights) for d in compare(before, now, CONFIG)] == []
    assert [d.line for d in compare(None, nights[-1], CONFIG)] == []
    # three nights are missed, a weekend among them
    assert [d.line for d in compare(nights[-4], nights[-1], CONFIG)] == []
    assert len(json.dumps(nights[-1])) < 40_000


def as_of(prepared: Prepared, days: int) -> dict[str, Any]:
    """The profile of the first `days` days of a log."""
    end = prepared.cuts.start // DAY * DAY + days * DAY
    events = prepared.events
    there = np.flatnonzero(events.numbers("time") < end)

    def then(table: Columns) -> Columns:
        return Columns({**table, "known": table.numbers("known") & (table.numbers("created_at") < end)})

    log = Columns({c: np.asarray(events.numbers(c))[there] for c in events})
    return profiles.of_tables(log, then(prepared.items), then(prepared.users))


def triple(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.column_names.index("price"), "price", pc.multiply(rows.column("price"), 3.0))


def test_prices_that_triple(shop: Shop) -> None:
    found = shop.found(shop.night("dear", LAST, items=triple, newest=triple))
    assert [(d.table, d.column, d.measure, d.level) for d in found] == [
        ("events", "price", "ks", "warn"),
        ("items", "price", "ks", "warn"),
    ]
    assert found[1].line.startswith("items.price: 3.0x the median of last night (KS 0.")
    assert found[1].line.endswith(" > 0.2)")
    assert "x the median of the 7 days before (KS 0." in found[0].line


def test_a_category_that_vanishes(shop: Shop) -> None:
    def without_pets(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.invert(pc.starts_with(rows.column("category"), top)))

    categories = pq.read_table(shop.root / "friday" / "items").column("category").to_pylist()
    top = categories[0].split(" > ")[0]
    share = sum(c.startswith(top) for c in categories) / len(categories)
    found = shop.found(shop.night("gone", LAST, items=without_pets))
    (line,) = (d.line for d in found if d.column == "category")
    assert line == f"items.category: '{top}' vanished (had {share:.1%} of items)"
    assert {d.measure for d in found} == {"vanished"}  # what only that category had goes with it


def test_an_event_type_that_stops(shop: Shop) -> None:
    def without_carts(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.not_equal(rows.column("event_type"), "add-to-cart"))

    night = shop.night("stopped", LAST, newest=without_carts)
    (drift,) = shop.found(night)
    carts = [
        sum(r == "add-to-cart" for r in pq.read_table(f).column("event_type").to_pylist())
        for f in sorted((shop.root / "shop" / "events").iterdir())[DAYS - 8 : DAYS - 1]
    ]
    assert drift.line == f"events: no add-to-cart on {LAST}, {sum(carts) / 7:,.0f} a day before"
    assert (drift.column, drift.measure, drift.level) == ("add-to-cart", "stopped", "warn")
    # the same beyond the threshold to stop
    strict = CONFIG.model_copy(update={"stopped": CONFIG.stopped.model_copy(update={"stop": 30.0})})
    assert [(d.level, d.threshold) for d in shop.found(night, strict)] == [("stop", 30.0)]
