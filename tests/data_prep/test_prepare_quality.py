"""What `prepare` says and does about currencies, unreadable values and ids, and the profile that it leaves."""

# bazel: size=medium

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from core.config import PipelineConfig, load_pipeline
from core.prepared import Prepared
from core.work import Work
from data_prep import profiles
from data_prep.prepare import run

EVENTS = pd.DataFrame(
    {
        "event_type": "purchase-complete",
        "event_time": pd.date_range("2024-05-01", periods=10, freq="7h", tz="UTC").as_unit("us")
        + pd.Timedelta(seconds=1),
        "item_id": list("abcdeabcde"),
        "user_id": list("1122112211"),
        "price": 10.0,
        "currency": ["EUR", "GBP"] * 5,
    }
)
ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d\n"],
        "price": ["10", "10", "ten", "10"],
        "stock": ["3", "many", "", "1"],
        "currency": ["EUR", "JPY", "GBP", "GBP"],
    }
)


def test_currencies_values_ids_and_the_profile(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, said: list[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("data: {currency: GBP, exchange_rates: {EUR: 0.8}}\n")
    found = Prepared(run(put(events=EVENTS, items=ITEMS), Work(tmp_path / "work"), load_pipeline(mine), said.append))
    assert set(np.asarray(found.events.numbers("price")).tolist()) == {8.0, 10.0}
    # a: 10 EUR; the prices of b (yen) and c (ten) are unknown: the median of their events. b and d: 8, 8 and 10, 10 by their places
    assert list(found.item_ids.texts) == ["a", "b", "c", "d", "e"]
    bought = EVENTS.assign(price=np.where(EVENTS.currency == "EUR", 8.0, 10.0)).groupby("item_id").price.median()
    assert found.items.numbers("price").tolist() == [8.0, *bought[list("bcde")]]
    rejected = pq.read_table(found.path / "rejected" / "items.parquet").to_pylist()
    assert [(r["reason"], r["item_id"]) for r in rejected] == [("control characters in item_id", "d\n")]
    for line in (
        "warning: items: 1 values of price cannot be read and count as missing",
        "warning: items: 1 values of stock cannot be read and count as missing",
        "warning: items: 1 prices are unknown: their currency has no rate in data.exchange_rates (JPY: 1)",
        "items: 1 rejected: control characters in item_id",
    ):
        assert line in said
    assert profiles.load(found.path) == profiles.night(found.path)


def test_several_currencies_are_named(
    spark: SparkSession, put: Callable[..., Path], tmp_path: Path, settings: PipelineConfig, said: list[str]
) -> None:
    run(put(events=EVENTS), Work(tmp_path / "work"), settings, said.append)
    warnings = [s for s in said if s.startswith("warning")]
    assert warnings == [
        "warning: events: prices in 2 currencies (EUR, GBP) are compared as if they were one; "
        "set data.currency and data.exchange_rates"
    ]
