"""Which events are usable, and why the others are not. Every row ends in exactly one place: events, or rejected with one reason.

Row by row (`judged`): malformed line, missing or unknown event type, missing person, missing item, unreadable time or number,
a time before 1990 or more than a day after now, a quantity or price below 0 or not finite, an id that is too long or holds control
characters (`data_prep.reading`), with `data.currency` a price whose currency has no rate (`data_prep.currency`).
Over rows (`repeated`, and `data_prep.repeats`): the second and later events of an `event_id`; without ids, rows that equal an earlier one in every
contract column (a resend), provided that the log's clock is finer than a minute: where it is not, two equal lines are two events;
people with more events on one day than a person can have.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column as Expr
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from core.schema import DAY, EVENT_TYPES, EVENTS, REASON, SECOND, Column, EventType
from data_prep.currency import Rates, complaint, converted
from data_prep.reading import BAD, BLOCK, FILE, LINE, RAW
from data_prep.times import EARLIEST

PERSON: Final = "person"  # core.ids.person_key
NO_ITEM_SEARCH: Final = (
    "search without an item"  # nothing to learn from, but no fault either: not counted against the limit
)
UNKNOWN_TYPE: Final = "unknown event_type"
DUPLICATE_ID: Final = "duplicate event_id"
FUTURE: Final = "event_time in the future"
RESEND: Final = "equal to an earlier row"
BOT: Final = "bot"
UNCHANGED: Final = Rates()


def judged(rows: DataFrame, now: int, rates: Rates = UNCHANGED) -> DataFrame:
    """The rows with `person` and `reason` (null: usable so far), prices in the target currency of `rates`.

    `_raw` is kept only where there is a reason.
    """
    person = F.coalesce(F.concat(F.lit("u:"), F.col(Column.USER_ID)), F.concat(F.lit("v:"), F.col(Column.VISITOR_ID)))
    reason = F.coalesce(_reason(now), complaint(rates))
    quantity = F.when(F.col(Column.EVENT_TYPE) == EventType.RETURN, F.abs(Column.QUANTITY)).otherwise(
        F.col(Column.QUANTITY)
    )
    kept = [c for c in rows.columns if c not in (BAD, RAW, Column.QUANTITY)]
    raw = F.when(F.col(REASON).isNotNull(), F.col(RAW)).alias(RAW)
    judged = rows.withColumns({PERSON: person, REASON: reason}).select(
        *kept, quantity.alias(Column.QUANTITY), PERSON, REASON, raw
    )
    return judged.withColumns(converted(rates))


def _reason(now: int) -> Expr:
    type_, time = F.col(Column.EVENT_TYPE), F.col(Column.EVENT_TIME)
    checks = [
        (type_.isNull(), "missing event_type"),
        (~type_.isin(*[t.value for t in EVENT_TYPES]), UNKNOWN_TYPE),
        (F.col(Column.USER_ID).isNull() & F.col(Column.VISITOR_ID).isNull(), "missing user_id and visitor_id"),
        (F.col(Column.ITEM_ID).isNull() & (type_ == EventType.SEARCH), NO_ITEM_SEARCH),
        (F.col(Column.ITEM_ID).isNull(), "missing item_id"),
        (time.isNull(), "missing event_time"),
        (time < EARLIEST * SECOND, "event_time before 1990"),
        (time > now + DAY, FUTURE),
        (
            _out_of_range(Column.QUANTITY) & ~((type_ == EventType.RETURN) & F.col(Column.QUANTITY).between(-1e12, 0)),
            "quantity negative or not finite",
        ),
        (_out_of_range(Column.PRICE), "price negative or not finite"),
    ]
    return F.coalesce(F.col(BAD), *[F.when(bad, F.lit(text)) for bad, text in checks])


def _out_of_range(column: str) -> Expr:
    """NaN and infinity compare as larger than every number in Spark."""
    return (F.col(column) < 0) | (F.col(column) > 1e12)


def repeated(rows: DataFrame, *, by_id: bool) -> DataFrame:
    """`_line` and `reason` of usable rows that repeat an earlier one: its event_id, or, among rows without one, every column."""
    if by_id:
        return _later(rows.filter(F.col(Column.EVENT_ID).isNotNull()), [Column.EVENT_ID], DUPLICATE_ID)
    return _later(
        rows.filter(F.col(Column.EVENT_ID).isNull()),
        [c.value for c in EVENTS.kinds if c is not Column.EVENT_ID],
        RESEND,
    )


def _later(rows: DataFrame, key: list[str], reason: str) -> DataFrame:
    """All but the first row of each key, in the order of files and lines.

    Nearly every key is its own: hashes that occur twice are found first, and only their rows are sorted.
    """
    hashed = rows.select(F.xxhash64(*key).alias("_hash"), FILE, BLOCK, LINE, *key)
    twice = hashed.groupBy("_hash").agg(F.count(F.lit(1)).alias("n")).filter("n > 1").select("_hash")
    candidates = hashed.join(twice, "_hash", "left_semi")
    place = F.row_number().over(Window.partitionBy(*key).orderBy(FILE, BLOCK, LINE))
    return candidates.withColumn("_place", place).filter("_place > 1").select(LINE, F.lit(reason).alias(REASON))
