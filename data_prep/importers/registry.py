"""The layouts that `import` knows, by name, and the one way to run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import InputError, nearest
from core.schema import REJECTED, Table
from data_prep.data_directory import new_data_directory, write_dataset_file
from data_prep.importers import alibaba_2014, amazon_sequences, movielens, online_retail, retailrocket, xwines
from data_prep.importers.source import Source
from data_prep.importers.target import Target


@dataclass(frozen=True)
class Layout:
    """One way that public or exported data comes."""

    name: str
    expects: str  # completes "expected ..."
    read: Callable[[Source, Target], None]
    synthetic_time: bool = False  # the order of events is known, their clock is invented
    assumes: str = ""  # what the importer had to invent, for dataset.yaml


LAYOUTS: Final[dict[str, Layout]] = {
    layout.name: layout
    for layout in (
        Layout("online-retail", online_retail.EXPECTS, online_retail.read, assumes=online_retail.ASSUMES),
        Layout("amazon-sequences", amazon_sequences.EXPECTS, amazon_sequences.read, True, amazon_sequences.ASSUMES),
        Layout("movielens", movielens.EXPECTS, movielens.read),
        Layout("xwines", xwines.EXPECTS, xwines.read, assumes=xwines.ASSUMES),
        Layout("alibaba-2014", alibaba_2014.EXPECTS, alibaba_2014.read, assumes=alibaba_2014.ASSUMES),
        Layout("retailrocket", retailrocket.EXPECTS, retailrocket.read, assumes=retailrocket.ASSUMES),
    )
}


@dataclass(frozen=True)
class Imported:
    """What an import did. `rows_read` = `events` + `rejected`; items and users are rows of those tables."""

    rows_read: int
    events: int
    items: int
    users: int
    rejected: int
    reasons: dict[str, int]  # rejected rows by reason, most frequent first
    notes: tuple[str, ...]


def import_data(layout: str, path: Path, out: Path) -> Imported:
    """Read `path` in `layout` into a data directory at `out`.

    Raises:
        InputError: The layout is unknown, the files are not what it expects, no row is usable, or `out` is not free.
    """
    if layout not in LAYOUTS:
        raise InputError(f"no layout {layout!r}; {nearest(layout, LAYOUTS)}")
    chosen = LAYOUTS[layout]
    with new_data_directory(out) as root:
        target = Target(root)
        chosen.read(Source(chosen.name, path, chosen.expects), target)
        target.close()
        if target.rows(Table.EVENTS) == 0:
            reason, rows = target.reasons.most_common(1)[0]
            raise InputError(
                f"{path}: none of {target.rows_read} rows can be an event ({rows}: {reason}); expected {chosen.expects}"
            )
        about = {"assumes": chosen.assumes} if chosen.assumes else {}
        write_dataset_file(root, chosen.name, target.sources, chosen.synthetic_time, **about)
    return Imported(
        rows_read=target.rows_read,
        events=target.rows(Table.EVENTS),
        items=target.rows(Table.ITEMS),
        users=target.rows(Table.USERS),
        rejected=target.rows(REJECTED),
        reasons=dict(sorted(target.reasons.items(), key=lambda r: (-r[1], r[0]))),
        notes=tuple(target.notes),
    )
