"""Rows of earlier nights that became no events: carried over, because any of them may become one, and all of them are told every night.

A row at fault keeps its reason. A resend or a script's row does not: it is a candidate again, since what kept it out may be gone
(data_prep.repeats).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from core.schema import DAY, REASON, Column
from data_prep import rejects, validate
from data_prep.inventory import Night
from data_prep.reading import BLOCK, FILE, LINE, RAW
from data_prep.repeats import KEY, ReopenError

SET_ASIDE: Final = "carried/set_aside.parquet"  # judged rows, `_file` relative to the data directory, in their order
_BEFORE_ALL: Final = -(1 << 62)  # lines of rows set aside earlier; those that Spark counts begin at 0


def load(night: Night, data: Path, now: int, scratch: Path) -> Path | None:
    """What earlier nights set aside of the files that are not read, as judged rows in Parquet; None if nothing.

    Args:
        night: Where from.
        data: The data directory.
        now: Microseconds.
        scratch: Where to.

    Raises:
        ReopenError: Events were rejected because they were in the future, and are not any more.
    """
    if night.before is None or not (night.before / SET_ASIDE).exists():
        return None
    rows = pq.read_table(night.before / SET_ASIDE)
    names = pc.dictionary_encode(rows.column(FILE)).combine_chunks()
    stays = [(name := unquote(n)) in night.codes and name not in night.read for n in names.dictionary.to_pylist()]
    rows = rows.filter(pa.array(np.array(stays, bool)[names.indices.to_numpy()]))
    if len(rows) == 0:
        return None
    due = pc.and_kleene(
        pc.equal(rows.column(REASON), validate.FUTURE), pc.less_equal(rows.column(Column.EVENT_TIME), now + DAY)
    )
    if opened := set(rows.filter(due).column(FILE).to_pylist()):
        raise ReopenError(frozenset(night.codes[unquote(n)] for n in opened))
    place = {
        FILE: pc.binary_join_element_wise(rejects.prefix(data), rows.column(FILE), ""),
        BLOCK: pa.array(np.zeros(len(rows), np.int64)),
        LINE: pa.array(_BEFORE_ALL + np.arange(len(rows))),
    }
    for name, column in place.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    pq.write_table(rows, scratch / "aside.parquet")
    return scratch / "aside.parquet"


def write(bad: DataFrame, data: Path, draft: Path, scratch: Path) -> None:
    """Keep what is no event: rows at fault with their reason, the others as the candidates that they are every night."""
    late = F.col(KEY).isNotNull()
    place = {FILE: rejects.file_name(data), BLOCK: F.lit(0).cast("bigint"), LINE: F.lit(0).cast("bigint")}
    verdict = {c: F.when(~late, F.col(c)).alias(c) for c in (REASON, RAW)}
    ordered = bad.repartition(1).sortWithinPartitions(FILE, BLOCK, LINE).withColumns(place | verdict)
    folder = scratch / "aside"
    ordered.write.parquet(str(folder))
    (draft / SET_ASIDE).parent.mkdir(exist_ok=True)
    next(folder.glob("part-*.parquet")).rename(draft / SET_ASIDE)
