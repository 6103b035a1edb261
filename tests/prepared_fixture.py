"""A prepared artifact from literal rows, for tests of what reads one: no Spark, folds as core/prepared.py states them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.artifact import publish
from core.columns import AnyColumn, Coded, Columns, Texts
from core.config import load_pipeline
from core.ids import IdMap
from core.prepared import FORMAT_VERSION, KIND, Prepared
from core.schema import DAY, Column, EventType

GAINS = {EventType.PURCHASE_COMPLETE: 1.0, EventType.RATING: 1.0}  # of a row that states none; other types: 0

Row = tuple[str, str, str, int] | tuple[str, str, str, int, float]


def make_prepared(
    tmp_path: Path,
    rows: Iterable[Row],
    *,
    cuts: Sequence[int],
    titles: Mapping[str, str] | None = None,
    unavailable: Container[str] = (),
    columns: Mapping[str, AnyColumn] | None = None,
    pairs: bool = False,
    days: bool = False,
    price: Callable[[str, int], float] | None = None,
    columns_of_people: Mapping[str, AnyColumn] | None = None,
    **about: Any,
) -> Prepared:
    """Write and open `tmp_path/prepared`.

    Args:
        tmp_path: Where to write.
        rows: (person key, item id, event type, time in microseconds[, gain]); ids get their rows in sorted order.
        cuts: start, T1, Tv, T2, end in microseconds.
        titles: Of some items; those that no row names become items without events.
        unavailable: Items out of stock.
        columns: Item columns instead of the plain ones, row-aligned with the sorted item ids.
        pairs: Whether to count transitions and co-visits too, by the default configuration, without ageing.
        days: Whether to write `item_days/` and `user_days/` too.
        price: Of an event, by its item id and time; no event states one without it.
        columns_of_people: Further user columns, row-aligned with the sorted person keys.
        about: Further facts for the manifest, such as `synthetic_time=True`.
    """
    full = [(u, i, EventType(t), at, g[0] if g else GAINS.get(EventType(t), 0.0)) for u, i, t, at, *g in rows]
    titles = titles or {}
    people, items = IdMap.of(sorted({row[0] for row in full})), IdMap.of(sorted({row[1] for row in full} | set(titles)))
    table = sorted((people.row(u), items.row(i), at, t.code, g) for u, i, t, at, g in full)
    table.sort(key=lambda r: (r[0], r[2], r[1], r[3]))
    user, item, time, kind, gain = map(np.array, zip(*table, strict=True))
    path = tmp_path / "prepared"
    with publish(path, kind=KIND, format_version=FORMAT_VERSION, id="fixture") as draft:
        people.write(draft.path / "ids" / "users")
        items.write(draft.path / "ids" / "items")
        events = _events(user, item, time, kind, gain, cuts)
        if price is not None:
            said = [price(items[i], t) for i, t in zip(item.tolist(), time.tolist(), strict=True)]
            events = Columns({**events, Column.PRICE: np.array(said, np.float32)})
        events.write(draft.path / "events")
        Columns({**_items(items.texts, titles, unavailable), **(columns or {})}).write(draft.path / "items")
        if pairs:
            _write_pairs(draft.path / "pairs", events, len(items), tmp_path)
        if days:
            _write_days(draft.path, events, len(people), len(items), tmp_path)
        known = np.array([key.startswith("u:") for key in (people[r] for r in range(len(people)))])
        Columns({"known": known, Column.CREATED_AT: np.full(len(people), -1), **(columns_of_people or {})}).write(
            draft.path / "users"
        )
        names = ("start", "ranker", "validation", "test", "end")
        draft.about.update({"cuts": dict(zip(names, cuts, strict=True)), "synthetic_time": False, **about})
    return Prepared(path)


def _events(user: Any, item: Any, time: Any, kind: Any, gain: Any, cuts: Sequence[int]) -> Columns:
    n = len(user)
    return Columns(
        {
            Column.USER: user.astype(np.int32),
            Column.ITEM: item.astype(np.int32),
            Column.TIME: time.astype(np.int64),
            Column.TYPE: kind.astype(np.int8),
            Column.GAIN: gain.astype(np.float32),
            Column.PRICE: np.full(n, np.nan, np.float32),
            Column.QUANTITY: np.ones(n, np.float32),
            Column.VALUE: np.full(n, np.nan, np.float32),
            "session": user.astype(np.int64),
            Column.POSITION: np.full(n, -1, np.int16),
            "fold_global": np.searchsorted(cuts[1:4], time, side="right").astype(np.int8),
            "fold_last": _fold_last(user, gain > 0),
        }
    )


def _fold_last(user: Any, label: Any) -> Any:
    """0 for all but the last two labels of a user, 1 the second-last, 2 the last; an event that is none follows the next label, else the last."""
    fold = np.zeros(len(user), np.int8)
    for u in np.unique(user):
        rows = np.flatnonzero(user == u)
        labels = rows[label[rows]]
        if len(labels) >= 3:
            following = np.minimum(np.searchsorted(labels, rows), len(labels) - 1)
            fold[rows] = np.maximum(0, following - (len(labels) - 3))
    return fold


def _items(ids: Sequence[str], titles: Mapping[str, str], unavailable: Container[str]) -> Columns:
    n = len(ids)
    return Columns(
        {
            Column.TITLE: Texts.of(titles.get(i, "") for i in ids),
            Column.CATEGORY: Coded.of([""] * n),
            Column.BRAND: Coded.of([""] * n),
            Column.PRICE: np.full(n, np.nan, np.float32),
            Column.AVAILABLE: np.array([i not in unavailable for i in ids]),
            Column.CREATED_AT: np.full(n, -1, np.int64),
            "known": np.zeros(n, bool),
        }
    )


def _write_pairs(folder: Path, events: Columns, n_items: int, spill: Path) -> None:
    # here, so that tests of other things do not load it
    from data_prep.pairs import PairSums, Sequences

    e = {c: events.numbers(c)[events.numbers(Column.GAIN) > 0] for c in events}
    state = e["fold_global"].astype(np.int64) * 4 + e["fold_last"]
    sums = PairSums(n_items, load_pipeline().pairs, None, spill)
    sums.add(Sequences(e[Column.USER], e[Column.ITEM], e[Column.TIME], state))
    sums.write(folder)


def _write_days(folder: Path, events: Columns, n_users: int, n_items: int, spill: Path) -> None:
    from data_prep.days import DaySums, net_money

    user, item, time, kind, price, quantity = (
        np.asarray(events.numbers(c))
        for c in (Column.USER, Column.ITEM, Column.TIME, Column.TYPE, Column.PRICE, Column.QUANTITY)
    )
    sums = DaySums(n_users, n_items, (int(time.min() // DAY), int(time.max() // DAY)), spill)
    sums.add(user, item, time, kind.astype(np.int64), net_money(kind, price, quantity))
    sums.write(folder)
