"""Prices in several currencies become one, or are refused by name."""

# bazel: size=medium

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from core.config import PipelineConfig, load_pipeline
from core.errors import ConfigError
from core.schema import DAY, EVENTS
from data_prep import currency, inputs, validate
from data_prep.currency import Rates, normalised
from data_prep.reading import read

POUNDS = Rates("GBP", {"EUR": 0.8, "USD": 0.5, "GBP": 1.0})
NOW = 1_714_564_800_000_000 + DAY


def judged(spark: SparkSession, data: Path, rates: Rates) -> Any:
    table = read(spark, inputs.groups(data, EVENTS, lambda _: None), EVENTS, lambda _: None)
    return validate.judged(table.rows, NOW, rates)


@pytest.fixture
def events(put: Callable[..., Path]) -> Path:
    rows = [
        (10.0, "EUR"),
        (10.0, " usd "),
        (10.0, "GBP"),
        (10.0, None),
        (10.0, "JPY"),
        (10.0, "x!"),
        (None, "JPY"),
        (None, None),
    ]
    return put(
        events=pd.DataFrame(
            {
                "event_type": "purchase-complete",
                "event_time": pd.Timestamp("2024-05-01T12:00:00Z"),
                "item_id": [str(k) for k in range(len(rows))],
                "user_id": "u",
                "price": [p for p, _ in rows],
                "currency": [c for _, c in rows],
            }
        )
    )


def test_events_in_one_currency(spark: SparkSession, events: Path) -> None:
    found = {r.item_id: (r.price, r.currency, r.reason) for r in judged(spark, events, POUNDS).collect()}
    # 10 x 0.8, 10 x 0.5, as they are; no rate for yen: rejected, but not where there is no price to turn
    assert found == {
        "0": (8.0, "GBP", None),
        "1": (5.0, "GBP", None),
        "2": (10.0, "GBP", None),
        "3": (10.0, "GBP", None),
        "4": (None, "GBP", "currency JPY has no rate in data.exchange_rates"),
        "5": (None, "GBP", "currency is not a code of three letters"),
        "6": (None, "JPY", None),
        "7": (None, None, None),
    }


def test_without_a_target_prices_stay_and_the_currencies_are_named(spark: SparkSession, events: Path) -> None:
    rows = judged(spark, events, Rates())
    assert {r.price for r in rows.collect()} == {10.0, None}
    assert currency.mixed(rows) == (
        "warning: events: prices in 5 currencies (EUR, GBP, JPY, USD, X!) are compared as if they were one; "
        "set data.currency and data.exchange_rates"
    )
    assert currency.mixed(rows.filter("currency = 'EUR' or price is null")) is None


ITEMS = pa.table(
    {
        "item_id": list("abcde"),
        "price": pa.array([10.0, 10.0, None, 10.0, 10.0]),
        "currency": pa.array(["eur", None, "EUR", "JPY", "JPY"]),
    }
)


def test_items_in_one_currency(said: list[str]) -> None:
    found = normalised(ITEMS, POUNDS, said.append)
    assert found.column_names == ITEMS.column_names
    assert found.column("price").to_pylist() == [8.0, 10.0, None, None, None]
    assert found.column("currency").to_pylist() == ["GBP", "GBP", "EUR", "GBP", "GBP"]
    assert said == ["warning: items: 2 prices are unknown: their currency has no rate in data.exchange_rates (JPY: 2)"]


def test_items_without_a_target_or_without_prices(said: list[str]) -> None:
    assert normalised(ITEMS, Rates(), said.append) is ITEMS
    assert said == [
        "warning: items: prices in 2 currencies (EUR, JPY) are compared as if they were one; set data.currency and data.exchange_rates"
    ]
    bare = ITEMS.drop(["currency"])
    assert normalised(bare, POUNDS, said.append) is bare
    empty = ITEMS.slice(0, 0)
    assert normalised(empty, POUNDS, said.append).num_rows == 0


def configured(folder: Path, text: str) -> PipelineConfig:
    path = folder / "mine.yaml"
    path.write_text(f"data: {{{text}}}\n")
    return load_pipeline(path)


def test_the_configuration(tmp_path: Path) -> None:
    config = configured(tmp_path, "currency: GBP, exchange_rates: {EUR: 0.8}")
    assert Rates.of(config.data) == Rates("GBP", {"EUR": 0.8, "GBP": 1.0})
    assert Rates.of(load_pipeline().data) == Rates()
    for text, match in [
        ("exchange_rates: {EUR: 0.8}", "name the currency that the rates lead to"),
        ("currency: GBP, exchange_rates: {GBP: 2}", "the rate of GBP into itself is 1, got 2"),
        ("currency: pounds", "data.currency"),
        ("currency: GBP, exchange_rates: {EUR: 0}", "exchange_rates.EUR"),
    ]:
        with pytest.raises(ConfigError, match=match):
            configured(tmp_path, text)
