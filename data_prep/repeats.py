"""Usable rows that are bad only beside others: resends, and people who act more often than a person can.

The rows of a night that may become events are *candidates*: what was read now, and what earlier nights set aside as a resend or as a
script's. Beside them stand the events that are carried over. **The first received wins**: an event that is carried over stays, whatever
comes now; among candidates it is the first in the order of file names and lines. So a late file whose name sorts before an old one does not
take the old one's events, and a file that is corrected loses its events, which makes candidates of the resends that they had kept out.

Rows are told apart by a 63-bit hash of the event_id, or of every column where there is none. Among candidates the columns themselves are
compared; against carried events the hash alone decides, which takes two rows for one in about 1 of 10^5 logs of 10 million events.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as Expr
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from core.columns import Array, Columns
from core.ids import NO_ROW, IdMap
from core.schema import DAY, EVENT_TYPES, EVENTS, REASON, Column
from data_prep import validate
from data_prep.reading import LINE
from data_prep.sessions import NO_SESSION
from data_prep.validate import PERSON

KEY: Final = "_key"  # hash of event_id or of all columns, shifted; the lowest bit says which. Null: not usable
FILE_CODE: Final = "_code"  # of the file (data_prep.inventory)
NO_FAULT, DUPLICATE, RESENT, SCRIPT = range(4)
PERSON_DAY: Final = "_person_day"  # hash
GIVEN_SESSION: Final = "given_session"  # hash of the shop's session id


class ReopenError(Exception):
    """Events that are carried over turn out to be a script's: the files that hold them must be read again."""

    def __init__(self, codes: frozenset[int]) -> None:
        super().__init__(f"files {sorted(codes)} hold events of people who are scripts now")
        self.codes = codes


@dataclass(frozen=True)
class CarriedEvents:
    """The events of the night before; `gone` bool `[n]` are those that are not carried over."""

    path: Path
    gone: Array
    people: IdMap


def hashes() -> dict[str, Expr]:
    """The hash columns of judged rows: `KEY`, `PERSON_DAY` and `GIVEN_SESSION`."""
    named = F.col(Column.EVENT_ID).isNotNull()
    rest = [c.value for c in EVENTS.kinds if c is not Column.EVENT_ID]
    # Spark's hash passes over nulls: which columns are null belongs to the key
    nulls = F.concat(*[F.when(F.col(c).isNull(), "0").otherwise("1") for c in rest])
    key = F.when(named, F.shiftleft(F.xxhash64(Column.EVENT_ID), 1).bitwiseOR(F.lit(1))).otherwise(
        F.shiftleft(F.xxhash64(nulls, *rest), 1)
    )
    usable = F.col(REASON).isNull()
    day = F.floor(F.col(Column.EVENT_TIME) / DAY)
    session = F.when(F.col(Column.SESSION_ID).isNotNull(), F.xxhash64(Column.SESSION_ID)).otherwise(NO_SESSION)
    return {KEY: F.when(usable, key), PERSON_DAY: F.when(usable, F.xxhash64(PERSON, day)), GIVEN_SESSION: session}


class Candidates:
    """Usable judged rows: `rows` as Spark has them, `parts` the Parquet files (or folders of them) that hold them, others among them."""

    def __init__(self, spark: SparkSession, rows: DataFrame, parts: list[Path], scratch: Path) -> None:
        self.spark, self.rows, self.scratch = spark, rows, scratch
        self._files = [f for p in parts for f in (sorted(p.glob("part-*.parquet")) if p.is_dir() else [p])]
        read = [pq.read_table(f, columns=[KEY, LINE, PERSON_DAY]) for f in self._files]
        usable = [t.filter(t.column(KEY).is_valid()) for t in read]
        self.key, self.line, self.person_day = (
            np.concatenate([t.column(c).to_numpy() for t in usable]) for c in (KEY, LINE, PERSON_DAY)
        )

    def distinct(self, column: str, which: Array) -> set[str]:
        """The values of a text column of the rows of which `which` bool `[n]` is true."""
        found: set[str] = set()
        for table in self.tables([column], which):
            found.update(table.column(column).unique().to_pylist())
        return found

    def tables(self, columns: list[str], which: Array) -> Iterator[pa.Table]:
        """Some columns of the rows of which `which` bool `[n]` is true, a file at a time."""
        at = 0
        for file in self._files:
            table = pq.read_table(file, columns=[*columns, KEY])
            table = table.filter(table.column(KEY).is_valid())
            yield table.filter(pa.array(which[at : at + len(table)]))
            at += len(table)

    def only(self, which: Array) -> DataFrame:
        """The rows of which `which` bool `[n]` is true."""
        path = self.scratch / f"lines-{uuid.uuid4().hex}.parquet"
        pq.write_table(pa.table({LINE: self.line[which]}), path)
        return self.rows.join(F.broadcast(self.spark.read.parquet(str(path))), LINE, "left_semi")

    def places(self, lines: Array) -> Array:
        """Where the rows of some `lines` are, int64 `[k]`."""
        order = np.argsort(self.line)
        return order[np.searchsorted(self.line, lines, sorter=order)]

    def faulty(self, faults: Array, texts: Sequence[str]) -> DataFrame:
        """`_line` and `reason` of the rows with a fault, for Spark: `faults` int8 `[n]` are places in `texts`, 0 stands for none."""
        some = np.flatnonzero(faults)
        reasons = pa.DictionaryArray.from_arrays(pa.array(faults[some]), pa.array(texts)).cast(pa.string())
        path = self.scratch / "late.parquet"
        pq.write_table(pa.table({LINE: self.line[some], REASON: reasons}), path)
        return self.spark.read.parquet(str(path))


def faults(candidates: Candidates, carried: CarriedEvents | None, natural: bool, per_day: int) -> Array:
    """Which candidates are rejected after all: int8 `[n]`, NO_FAULT, DUPLICATE, RESENT or SCRIPT.

    Args:
        candidates: All usable rows.
        carried: What they stand beside.
        natural: Whether rows without event_id that are equal in every column are resends.
        per_day: More events of a person on a UTC day are a script's; all events of that person are rejected.

    Raises:
        ReopenError: A person whose events are carried over is a script now.
    """
    found = np.zeros(len(candidates.key), np.int8)
    _repeats(candidates, found, carried, natural)
    if people := _bots(candidates, found == NO_FAULT, carried, per_day):
        lines = candidates.rows.filter(F.col(PERSON).isin(people)).select(LINE).toArrow().column(0).to_numpy()
        theirs = candidates.places(lines)
        found[theirs[found[theirs] == NO_FAULT]] = SCRIPT
    return found


def reasons(per_day: int) -> tuple[str, ...]:
    """The text of each fault."""
    return "", validate.DUPLICATE_ID, validate.RESEND, f"{validate.BOT}: more than {per_day} events on a day"


def _repeats(candidates: Candidates, found: Array, carried: CarriedEvents | None, natural: bool) -> None:
    """Fill in the repeats."""
    key = candidates.key
    comparable = (key & 1 == 1) | natural
    if carried is not None:
        before = Columns.open(carried.path / "carried" / "events").numbers(KEY)[~carried.gone]
        again = comparable & np.isin(key, _present(np.sort(key[comparable]), before))
        found[again] = np.where(key[again] & 1, DUPLICATE, RESENT)
        comparable &= ~again
    # nearly every key is its own: only rows whose hash occurs twice are compared column by column
    some = np.sort(key[comparable])
    twice = some[1:][some[1:] == some[:-1]]
    if len(twice) == 0:
        return
    rows = candidates.only(comparable & np.isin(key, twice))
    for by_id, fault in ((True, DUPLICATE), (False, RESENT)):
        later = validate.repeated(rows, by_id=by_id).select(LINE).toArrow()
        found[candidates.places(later.column(LINE).to_numpy())] = fault


def _present(keys: Array, among: Array) -> Array:
    """Those of `keys`, sorted, that occur in `among`: made for few keys among many."""
    if len(keys) == 0:
        return keys
    at = np.minimum(np.searchsorted(keys, among), len(keys) - 1)
    found = np.zeros(len(keys), bool)
    found[at[keys[at] == among]] = True
    return keys[found]


def _bots(candidates: Candidates, left: Array, carried: CarriedEvents | None, per_day: int) -> list[str]:
    """Person keys with more than `per_day` events on one UTC day, candidates that are `left` and carried events together."""
    groups = np.sort(candidates.person_day[left])
    begins = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1], [True]])) if len(groups) else [0]
    busiest = _busiest(carried)
    if np.diff(begins).max(initial=0) + busiest <= per_day:
        return []
    day = F.floor(F.col(Column.EVENT_TIME) / DAY)
    busy = candidates.only(left).groupBy(PERSON, day.alias("day")).agg(F.count(F.lit(1)).alias("n"))
    people, reopened = set(), set()
    for row in busy.filter(F.col("n") + busiest > per_day).collect():
        codes = _days_files(carried, row[PERSON], row["day"])
        if row["n"] + len(codes[0]) > per_day:
            people.add(row[PERSON])
            reopened.update(codes[1].tolist())
    if reopened:
        raise ReopenError(frozenset(reopened))
    return sorted(people)


def _busiest(carried: CarriedEvents | None) -> int:
    """No person has more carried events on a day."""
    if carried is None:
        return 0
    days = Columns.open(carried.path / "user_days")
    return int(np.sum([days.numbers(t) for t in EVENT_TYPES], axis=0).max(initial=0))


def _days_files(carried: CarriedEvents | None, person: str, day: int) -> tuple[Array, Array]:
    """File codes of a person's carried events: those of `day`, and those of every day."""
    nothing = np.empty(0, np.int32)
    row = carried.people.row(person) if carried is not None else NO_ROW
    if carried is None or row == NO_ROW:
        return nothing, nothing
    events = Columns.open(carried.path / "events")
    a, b = np.searchsorted(events.numbers(Column.USER), [row, row + 1])
    here = ~carried.gone[a:b]
    codes = Columns.open(carried.path / "carried" / "events").numbers(FILE_CODE)[a:b]
    today = events.numbers(Column.TIME)[a:b] // DAY == day
    return codes[here & today], codes[here]
