"""A release in memory whose items have every kind of attribute, for tests of filters and rules; and the same items as plain rows, for oracles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.artifact import Manifest
from core.candidates import Source
from core.columns import AnyColumn, Coded, Columns, Tags
from core.ids import IdMap
from core.release import FORMAT_VERSION, KIND, ReleaseSettings
from core.schema import DAY, Column, EventType
from retrieval.sources.opinion import order_of
from retrieval.sources.popularity import Popularity
from serving.release import Release
from serving.rules.load import RuleSet, load_rules

NOW: Final = 1_760_000_000_000_000
BRANDS: Final = ("Acme", "Bolt", "Caro", None)
CATEGORIES: Final = ("Home", "Home > Cups", "Home > Cups > Tea", "Home > Pots", "Homeware", "Garden > Tools", None)
COLOURS: Final = ("red", "green", "blue")
SIZES: Final = (1.0, 2.5, None)
_COLUMNS: Final = {"brand": Column.BRAND, "category": Column.CATEGORY, "item_group_id": Column.ITEM_GROUP_ID}

Item = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    """`items[row]` says what the release has in that row; the row is also the place in the ranking, 0 the best."""

    release: Release
    items: list[Item]

    def row(self, item_id: str) -> int:
        return int(self.release.item_ids.row(item_id))


def made_up(n: int, seed: int) -> list[Item]:
    """n items drawn by chance."""
    rng = random.Random(seed)
    return [
        {
            "item_id": f"item-{at}",
            "brand": rng.choice(BRANDS),
            "category": rng.choice(CATEGORIES),
            "price": rng.choice((None, 5.0, 9.99, 10.0, 19.5, 250.0)),
            "stock": rng.choice((None, 0.0, 2.0, 40.0)),
            "created_at": rng.choice((None, NOW - DAY // 2, NOW - 3 * DAY, NOW - 400 * DAY)),
            "available": rng.random() < 0.8,
            "item_group_id": f"group-{rng.randrange(max(1, n // 3))}",
            "colour": rng.sample(COLOURS, rng.randrange(3)),
            "size": rng.choice(SIZES),
        }
        for at in range(n)
    ]


def shop_of(items: Sequence[Item]) -> Shop:
    """Items in the order of their ranking for everybody; keys that are left out are missing, `available` is true."""
    items = [{"colour": [], "available": True, **item} for item in items]
    n = len(items)

    def numbers(key: str) -> np.ndarray:
        return np.array([np.nan if i.get(key) is None else i[key] for i in items], np.float32)

    columns: dict[str, AnyColumn] = {
        **{column: Coded.of(i.get(key) for i in items) for key, column in _COLUMNS.items()},
        Column.PRICE: numbers("price"),
        Column.STOCK: numbers("stock"),
        Column.CREATED_AT: np.array([-1 if i.get("created_at") is None else i["created_at"] for i in items], np.int64),
        Column.AVAILABLE: np.array([i["available"] for i in items], bool),
        "known": np.ones(n, bool),
        "attribute.colour": Tags.of(i["colour"] for i in items),
        "attribute.size": numbers("size"),
    }
    scores = np.arange(n, 0, -1, dtype=np.float32)
    popularity = Popularity(order_of(scores), scores)
    return Shop(release_of([i["item_id"] for i in items], columns, (popularity,)), items)


def release_of(ids: Sequence[str], columns: dict[str, AnyColumn], sources: tuple[Source, ...]) -> Release:
    n, names = len(ids), [s.name for s in sources]
    settings = ReleaseSettings(
        quotas=dict.fromkeys(names, 500),
        weights=dict.fromkeys(names, 1.0),
        history_events=100,
        warm_events=3,
        candidates=500,
        gains={EventType.PURCHASE_COMPLETE: 1.0},
    )
    about: dict[str, Any] = {"window": [NOW - 100 * DAY, NOW], "user_state": ""}
    manifest = Manifest(kind=KIND, format_version=FORMAT_VERSION, id="made", about=about)
    available = np.array(columns[Column.AVAILABLE])
    fill = np.arange(n, dtype=np.int32)
    return Release(
        Path("made"), manifest, settings, IdMap.of(ids), Columns(columns, n), sources, None, None, {}, available, fill
    )


def rules_of(folder: Path, text: str) -> RuleSet:
    """The rules of a folder with one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(text)
    return load_rules(folder)
