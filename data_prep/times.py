"""How a file writes its times: timestamps, ISO text or epoch numbers, found out from the first rows of each file."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from pyspark.sql import Column as Expr
from pyspark.sql import functions as F

EARLIEST: Final = 631_152_000  # 1990-01-01, seconds: no shop logs are older
_LATEST: Final = 4_102_444_800  # 2100-01-01, seconds

NANOSECOND_TYPE: Final = "timestamp[ns"  # Arrow's name of such a column begins so

# A date first: Spark would read a bare clock time as today's.
_ISO: Final = r"^\s*\d{4}-\d{1,2}-\d{1,2}([T ].*)?$"


class Clock(Enum):
    """How a column counts time: what it is called in messages, and its units in a second where it is a number."""

    TIMESTAMP = "timestamps", 0
    NANOSECONDS = "timestamps in nanoseconds", 1_000_000_000
    ISO = "ISO text", 0
    EPOCH_S = "epoch seconds", 1
    EPOCH_MS = "epoch milliseconds", 1_000
    EPOCH_US = "epoch microseconds", 1_000_000
    EPOCH_NS = "epoch nanoseconds", 1_000_000_000

    @property
    def text(self) -> str:
        """Its name in messages."""
        return str(self.value[0])

    @property
    def per_second(self) -> int:
        """Units in a second, 0 where the column is no number."""
        return int(self.value[1])


def detect(type_name: str, sample: Sequence[Any]) -> Clock:
    """The clock of a column, from its Arrow type and its first values.

    Epoch units are told apart by size: the years 1990 to 2100 do not overlap between seconds, ms, us and ns.

    >>> detect("text", ["2024-05-01T10:00:00Z"]).text, detect("int64", [1_714_557_600_000]).text
    ('ISO text', 'epoch milliseconds')
    """
    if type_name.startswith(NANOSECOND_TYPE):
        return Clock.NANOSECONDS
    if type_name.startswith(("timestamp", "date")):
        return Clock.TIMESTAMP
    numbers = [n for n in map(_number, sample) if n is not None]
    if type_name in ("text", "json", "string", "large_string", "string_view") and len(numbers) * 2 <= len(sample):
        return Clock.ISO
    middle = statistics.median(numbers) if numbers else 0
    for clock in (Clock.EPOCH_S, Clock.EPOCH_MS, Clock.EPOCH_US, Clock.EPOCH_NS):
        if EARLIEST * clock.per_second <= middle < _LATEST * clock.per_second:
            return clock
    return Clock.EPOCH_S  # nothing plausible: every row will be rejected, with its reason


def microseconds(column: Expr, clock: Clock) -> Expr:
    """int64 microseconds since the epoch, null where the value is no time."""
    if clock in (Clock.TIMESTAMP, Clock.NANOSECONDS):  # the reader has made timestamps of both
        return F.unix_micros(column.cast("timestamp"))
    if clock is Clock.ISO:
        text = column.cast("string")
        return F.unix_micros(F.when(text.rlike(_ISO), text.try_cast("timestamp")))
    if clock is Clock.EPOCH_NS:
        return F.floor(column.try_cast("decimal(20,0)") / 1000).try_cast("bigint")
    # decimals keep the fraction of epoch seconds exact
    scaled = column.try_cast("decimal(30,6)") * (1_000_000 // clock.per_second)
    return F.floor(scaled).try_cast("bigint")


def iso(time: int) -> str:
    """Microseconds as text for people, UTC."""
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=time)).isoformat(sep=" ", timespec="seconds")


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
