"""What features know of the items: columns row-aligned with the item id map, memory-mapped from a release.

statistics/
  statistics.json   until (microseconds), fold, synthetic_time, features (names of `facts`)
  facts             number float32 [items, len(ITEM)]: the item features, as of the cut
  attributes        tags: `category=...`, `brand=...` and every coded or tag attribute of the item, `name=value`
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array, Coded, Columns, Tags
from core.errors import ArtifactError
from core.schema import Column
from ranking.feature_list import ITEM

FACTS: Final = "facts"
ATTRIBUTES: Final = "attributes"
HEADER: Final = "statistics.json"
FACT_NAMES: Final = tuple(f.name for f in ITEM)


@dataclass(frozen=True)
class ItemTable:
    """Item columns of one cut, all row-aligned `[items]`."""

    facts: Array  # float32 [items, len(ITEM)]
    brand: Array  # int32 codes, -1: unknown
    category: Array  # int32 codes, -1: unknown
    attributes: Tags
    rarity: Array  # float32 [vocabulary of attributes]: log(items / items that have it)
    until: int  # microseconds: what was known strictly before this
    synthetic_time: bool

    def __len__(self) -> int:
        return len(self.facts)

    @cached_property
    def has_brand(self) -> bool:
        """Whether any item has a brand."""
        return bool((self.brand >= 0).any())

    @cached_property
    def has_category(self) -> bool:
        """Whether any item has a category."""
        return bool((self.category >= 0).any())

    @cached_property
    def is_plain(self) -> bool:
        """Whether every array is as the compiled kernel reads it: of the type that is said here, row after row."""
        arrays = (
            *((self.facts, np.float32), (self.brand, np.int32), (self.category, np.int32), (self.rarity, np.float32)),
            *((self.attributes.starts, np.int64), (self.attributes.codes, np.int32)),
        )
        return all(a.dtype == dtype and a.flags.c_contiguous for a, dtype in arrays)

    @classmethod
    def open(cls, statistics: Path, items: Columns) -> ItemTable:
        """Open the `statistics` folder of a cut beside the item columns it is aligned with.

        Raises:
            ArtifactError: if the folder is damaged, has other features than this code, or another number of items.
        """
        header, columns = read_header(statistics), Columns.open(statistics)
        if tuple(header["features"]) != FACT_NAMES:
            raise ArtifactError(
                f"{statistics}: holds the item features {', '.join(header['features'])}; this Aisle reads "
                f"{', '.join(FACT_NAMES)}: rebuild with `./aisle nightly`"
            )
        if columns.rows != items.rows:
            raise ArtifactError(
                f"{statistics}: {columns.rows} item rows, but the items have {items.rows}: parts of different releases never meet"
            )
        return cls.of(columns, items, int(header["until"]), bool(header["synthetic_time"]))

    @classmethod
    def of(cls, statistics: Columns, items: Columns, until: int, synthetic_time: bool) -> ItemTable:
        """From opened columns."""
        attributes = statistics[ATTRIBUTES]
        assert isinstance(attributes, Tags)
        having = np.bincount(attributes.codes, minlength=len(attributes.values))
        rarity = np.log(max(items.rows, 1) / np.maximum(having, 1)).astype(np.float32)
        return cls(
            statistics.numbers(FACTS),
            codes(items, Column.BRAND),
            codes(items, Column.CATEGORY),
            attributes,
            rarity,
            until,
            synthetic_time,
        )


def read_header(statistics: Path) -> dict[str, Any]:
    """`statistics.json` of a statistics folder."""
    try:
        return dict(json.loads((statistics / HEADER).read_bytes()))
    except (FileNotFoundError, ValueError) as e:
        raise ArtifactError(f"{statistics / HEADER}: missing or not JSON ({e})") from None


def codes(items: Columns, name: str) -> Array:
    """The codes of a coded column, int32 `[items]`; all -1 where the shop does not have the column."""
    column = items.get(name)
    return column.codes if isinstance(column, Coded) else np.full(items.rows, -1, np.int32)
