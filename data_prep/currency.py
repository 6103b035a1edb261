"""Prices in one currency, by the table of the configuration (`data.currency`, `data.exchange_rates`).

A price without a currency is taken to be in the target currency. A price whose currency has no rate is unusable: its event is rejected,
the price of its item is unknown. A row that has a currency and no price is none of this module's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as Expr
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from core.config import DataConfig
from core.schema import REASON, Column

_CODE: Final = r"^[A-Z]{3}$"
_NAMED: Final = 5  # currencies in a message


@dataclass(frozen=True)
class Rates:
    """What prices are turned into; `target` None: they stay as they come."""

    target: str | None = None
    to_target: dict[str, float] = field(
        default_factory=dict
    )  # units of the target for one of the other; the target's own is there

    @classmethod
    def of(cls, config: DataConfig) -> Rates:
        """The configured ones."""
        return cls(config.currency, {**config.exchange_rates, config.currency: 1.0}) if config.currency else cls()


def _code(currency: Expr) -> Expr:
    return F.upper(F.trim(currency))


def complaint(rates: Rates) -> Expr:
    """Why the price of an event cannot be turned into the target currency (null: it can).

    Only codes of three letters are named, so that junk in the column does not make a reason of every row.
    """
    if rates.target is None:
        return F.lit(None).cast("string")
    code = _code(F.col(Column.CURRENCY))
    named = F.concat(F.lit("currency "), code, F.lit(" has no rate in data.exchange_rates"))
    text = F.when(code.rlike(_CODE), named).otherwise(F.lit("currency is not a code of three letters"))
    return F.when(F.col(Column.PRICE).isNotNull() & ~code.isin(list(rates.to_target)), text)


def converted(rates: Rates) -> dict[str, Expr]:
    """The columns `price` and `currency` of events in the target currency; empty where prices stay as they come."""
    if rates.target is None:
        return {}
    price, code = F.col(Column.PRICE), _code(F.col(Column.CURRENCY))
    rate = F.create_map(*[F.lit(v) for pair in rates.to_target.items() for v in pair])[code]
    return {
        Column.PRICE.value: F.when(code.isNull(), price).otherwise(price * rate),
        Column.CURRENCY.value: F.when(price.isNotNull(), F.lit(rates.target)).otherwise(F.col(Column.CURRENCY)),
    }


def mixed(judged: DataFrame) -> str | None:
    """The warning that usable events (`reason` is null) hold prices in several currencies which nothing brings together, or None."""
    priced = judged.filter(F.col(REASON).isNull() & F.col(Column.PRICE).isNotNull())
    codes = priced.select(_code(F.col(Column.CURRENCY)).alias("code")).filter("code is not null").distinct()
    return _mixed("events", sorted(row[0] for row in codes.limit(1000).collect()))


def _mixed(table: str, codes: list[str]) -> str | None:
    if len(codes) < 2:
        return None
    named = ", ".join(codes[:_NAMED]) + (f" and {len(codes) - _NAMED} more" if len(codes) > _NAMED else "")
    return (
        f"warning: {table}: prices in {len(codes)} currencies ({named}) are compared as if they were one; "
        "set data.currency and data.exchange_rates"
    )


def normalised(rows: pa.Table, rates: Rates, say: Callable[[str], None], *, table: str = "items") -> pa.Table:
    """Items with `price` (double) and `currency` (string) in the target currency; other columns as they are.

    A price whose currency has no rate becomes null; a line counts them by currency. Without a target currency the rows are as they were, and a
    line warns where they hold more than one.
    """
    if not {Column.PRICE, Column.CURRENCY} <= set(rows.column_names):
        return rows
    price = rows.column(Column.PRICE)
    codes = pc.utf8_upper(pc.utf8_trim_whitespace(rows.column(Column.CURRENCY).cast(pa.string())))
    priced = pc.is_valid(price)
    if rates.target is None:
        found = pc.unique(codes.filter(priced).drop_null()).to_pylist()
        if (warning := _mixed(table, sorted(found))) is not None:
            say(warning)
        return rows
    known = pa.array(list(rates.to_target))
    rate = pa.array([*rates.to_target.values(), None], pa.float64())
    place = pc.fill_null(pc.index_in(codes, known), len(known))  # of a code without a rate: the null at the end
    factor = pc.if_else(
        pc.is_null(codes), 1.0, rate.take(place.combine_chunks() if isinstance(place, pa.ChunkedArray) else place)
    )
    _say_unknown(codes.filter(pc.and_(priced, pc.is_null(factor))), say, table)
    currency = pc.if_else(priced, pa.scalar(rates.target), rows.column(Column.CURRENCY))
    changed = {Column.PRICE: pc.multiply(price, factor), Column.CURRENCY: currency}
    for name, values in changed.items():
        rows = rows.set_column(rows.column_names.index(name), name.value, values)
    return rows


def _say_unknown(codes: pa.ChunkedArray, say: Callable[[str], None], table: str) -> None:
    counts = sorted(
        ((c["counts"], c["values"]) for c in pc.value_counts(codes).to_pylist()), key=lambda c: (-c[0], c[1])
    )
    if counts:
        named = ", ".join(f"{code[:20]}: {n:,}" for n, code in counts[:_NAMED]) + (
            ", ..." if len(counts) > _NAMED else ""
        )
        say(
            f"warning: {table}: {sum(n for n, _ in counts):,} prices are unknown: their currency has no rate in "
            f"data.exchange_rates ({named})"
        )
