"""The items table of the simulated shop: readable titles, category paths, brands, prices, stock on the last day, attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.schema import Column, Table
from data_prep.data_directory import Parts, table_schema
from data_prep.simulate.catalogue import Catalogue
from data_prep.simulate.options import CATALOGUE, ShopOptions
from data_prep.simulate.preferences import Array
from data_prep.simulate.shelf import sold_out
from data_prep.simulate.taxonomy import COLOURS, CURRENCY, LEAVES, MATERIALS, TAGS, brand_names

_WRITE_ROWS: Final = 200_000
_SCHEMA: Final = table_schema(
    Table.ITEMS,
    (
        Column.ITEM_ID,
        Column.TITLE,
        Column.CATEGORY,
        Column.BRAND,
        Column.PRICE,
        Column.CURRENCY,
        Column.ITEM_GROUP_ID,
        Column.AVAILABLE,
        Column.STOCK,
        Column.CREATED_AT,
    ),
    {"colour": pa.string(), "material": pa.string(), "tags": pa.list_(pa.string())},
)


def item_ids(rows: Array) -> pa.Array:
    """External ids of item rows `[n]`."""
    return pa.array(np.char.add("i", np.char.zfill(rows.astype("U10"), 7)))


def write_items(options: ShopOptions, catalogue: Catalogue, folder: Path) -> int:
    """Write the items table in blocks. Returns the number of rows."""
    rng = options.stream(CATALOGUE, 1)
    out = sold_out(catalogue, options.days - 1)
    brands = pa.array(brand_names(int(catalogue.brand.max()) + 1))
    parts = Parts(folder, _SCHEMA)
    for begin in range(0, len(catalogue), _WRITE_ROWS):
        rows = np.arange(begin, min(begin + _WRITE_ROWS, len(catalogue)))
        stock = np.where(out[rows], 0, rng.geometric(1 / 40, size=len(rows)))
        parts.append(_block(catalogue, rows, brands, stock))
    parts.close()
    return parts.rows


def _block(catalogue: Catalogue, rows: Array, brands: pa.Array, stock: Array) -> pa.Table:
    category = pa.array(catalogue.appeal.category[rows])
    brand = brands.take(pa.array(catalogue.brand[rows]))
    colour = pa.array(COLOURS).take(pa.array(catalogue.colour[rows]))
    material = pa.array(MATERIALS).take(pa.array(catalogue.material[rows]))
    noun = pa.array([leaf.noun for leaf in LEAVES]).take(category)
    what = pc.binary_join_element_wise(brand, material, noun, " ")
    group = pc.binary_join_element_wise("g", pa.array(catalogue.product[rows] + 1).cast(pa.string()), "")
    columns = {
        Column.ITEM_ID: item_ids(rows + 1),
        Column.TITLE: pc.binary_join_element_wise(what, colour, ", "),
        Column.CATEGORY: pa.array([leaf.path for leaf in LEAVES]).take(category),
        Column.BRAND: brand,
        Column.PRICE: pa.array(catalogue.price[rows]),
        Column.CURRENCY: pa.array([CURRENCY]).take(pa.array(np.zeros(len(rows), np.int8))),
        Column.ITEM_GROUP_ID: pc.if_else(pa.array(catalogue.variants[rows] > 1), group, pa.scalar(None, pa.string())),
        Column.AVAILABLE: pa.array(stock > 0),
        Column.STOCK: pa.array(stock),
        Column.CREATED_AT: pa.array(catalogue.created_at[rows]).cast(_SCHEMA.field(Column.CREATED_AT).type),
        "colour": colour,
        "material": material,
        "tags": _tags(catalogue.tags[rows]),
    }
    return pa.table({name: columns[name] for name in _SCHEMA.names}, schema=_SCHEMA)


def _tags(codes: Array) -> pa.Array:
    """Codes int8 `[n, 3]`, -1 for none -> lists of tags."""
    there = codes >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(TAGS).take(pa.array(codes[there])))
