"""The public sets as the published figures cut them, in a data directory that `prepare` reads.

    python -m benchmarks.public_sets online-retail --out D [--from FOLDER] [--part whole|development]

The importers of `./aisle import` read the files; what is kept of them is what ../shared/data/README.md measures. Of online-retail that is the
purchases of customers: no guests, no cancellations. The other sets are kept whole. The development part is what choices are made on: without the events
that the acceptance check judges by, so that no test is ever looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.columns import Array
from core.errors import InputError, nearest
from core.schema import Column, EventType, Table
from data_prep.data_directory import new_data_directory, open_part
from data_prep.importers.registry import import_data

# folder of ../shared/data -> layout
SETS: Final = {
    "online-retail": "online-retail",
    "amazon-beauty": "amazon-sequences",
    "xwines": "xwines",
    "movielens-small": "movielens",
    "alibaba-2014": "alibaba-2014",
}
# What the acceptance check judges by: what follows a moment of the one timeline, or the last event of each person.
LAST: Final = ("amazon-beauty", "movielens-small")
_TEST: Final = 0.9  # quantile of the events' times from which on they are the test
_ROOT: Final = Path(__file__).parents[1]


def main() -> None:
    """Write one set; the last line of output is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="folder", type=Path, help="the set's files; default AISLE_DATA/NAME")
    parser.add_argument("--part", choices=["whole", "development"], default="whole")
    arguments = parser.parse_args()
    data = Path(os.environ.get("AISLE_DATA") or _ROOT.parent / "shared" / "data")
    events = write(arguments.name, arguments.folder or data / arguments.name, arguments.out, arguments.part)
    print(json.dumps({"set": arguments.name, "part": arguments.part, "events": events}))


def write(name: str, folder: Path, out: Path, part: str = "whole") -> int:
    """Leave the set `name`, whose files lie in `folder`, as a data directory at `out`. The number of events kept.

    Raises:
        InputError: The set is unknown, its files are not there, or `out` is not free.
    """
    if name not in SETS:
        raise InputError(f"no public set {name!r}; {nearest(name, SETS)}")
    if name != "online-retail" and part == "whole":
        return import_data(SETS[name], folder, out).events
    with new_data_directory(out) as root, tempfile.TemporaryDirectory(prefix="aisle-") as scratch:
        whole = Path(scratch) / "data"
        import_data(SETS[name], folder, whole)
        kept = pq.read_table(whole / Table.EVENTS)
        if name == "online-retail":
            kept = customers_purchases(kept)
        if part == "development":
            kept = kept.filter(pa.array(development(kept, last=name in LAST)))
        with open_part(root / Table.EVENTS / "part-00000.parquet", kept.schema) as written:
            written.write_table(kept)
        for rest in sorted(whole.iterdir()):
            if rest.name != Table.EVENTS:
                shutil.move(rest, root / rest.name)
    return int(kept.num_rows)


def development(events: pa.Table, *, last: bool) -> Array:
    """Which events come before the 0.9 quantile of time; or, with `last`, which are not the last of somebody with at least 3: bool `[e]`."""
    time = np.asarray(events[str(Column.EVENT_TIME)].cast(pa.int64()))
    if not last:
        return np.asarray(time < np.quantile(time, _TEST, method="nearest"))
    user, item = (
        np.asarray(events[str(c)].combine_chunks().dictionary_encode().indices)
        for c in (Column.USER_ID, Column.ITEM_ID)
    )
    order = np.lexsort((item, time, user))
    ends = np.append(np.flatnonzero(np.diff(user[order])), len(order) - 1)
    ends = ends[np.diff(ends, prepend=-1) >= 3]
    kept = np.ones(len(order), bool)
    kept[order[ends]] = False
    return kept


def customers_purchases(events: pa.Table) -> pa.Table:
    """The purchases of people with a user_id; the column that tells guests apart goes with the guests."""
    bought = pc.equal(events[str(Column.EVENT_TYPE)], str(EventType.PURCHASE_COMPLETE))
    kept = events.filter(pc.and_(bought, pc.is_valid(events[str(Column.USER_ID)])))
    return kept.drop_columns([str(Column.VISITOR_ID)]) if Column.VISITOR_ID in kept.column_names else kept


if __name__ == "__main__":
    main()
