"""From what happened to what the shop's log says: rows of the events table, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.schema import EVENT_TYPES, Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.simulate.catalogue import Catalogue
from data_prep.simulate.items_table import item_ids
from data_prep.simulate.population import user_ids
from data_prep.simulate.preferences import Array
from data_prep.simulate.sessions import PLACEMENTS, SEARCH, Pages, Touches, Visitors
from data_prep.simulate.taxonomy import COLOURS, CURRENCY, LEAVES

_MS: Final = 1000
SCHEMA: Final = table_schema(
    Table.EVENTS,
    (
        Column.EVENT_TYPE,
        Column.EVENT_TIME,
        Column.ITEM_ID,
        Column.USER_ID,
        Column.VISITOR_ID,
        Column.SESSION_ID,
        Column.QUANTITY,
        Column.PRICE,
        Column.CURRENCY,
        Column.POSITION,
        Column.PLACEMENT,
        Column.QUERY,
    ),
)
# The order of events of one session at one moment.
_RANK: Final = np.empty(len(EVENT_TYPES), np.int64)
for _rank, _type in enumerate(
    (
        EventType.SEARCH,
        EventType.IMPRESSION,
        EventType.CLICK,
        EventType.DETAIL_PAGE_VIEW,
        EventType.ADD_TO_WISHLIST,
        EventType.ADD_TO_CART,
        EventType.REMOVE_FROM_CART,
        EventType.PURCHASE_COMPLETE,
        EventType.RETURN,
        EventType.RATING,
    )
):
    _RANK[_type.code] = _rank


@dataclass(frozen=True)
class Rows:
    """Event rows: `[e]` each.

    Attributes:
        session: Running number in the whole simulation, -1 for none, int64.
        user: User row, -1 for a guest, int64.
        time: Milliseconds since midnight, int64.
        type: Code of the event type, int8.
        item: int64.
        position: -1 for none, int64.
        placement: Row of PLACEMENTS, -1 for none, int8.
        quantity: 0 for none, int64.
    """

    session: Array
    user: Array
    time: Array
    type: Array
    item: Array
    position: Array
    placement: Array
    quantity: Array

    def __len__(self) -> int:
        return len(self.session)

    def take(self, rows: Array | slice) -> Rows:
        """The rows at `rows`."""
        return Rows(*(getattr(self, f.name)[rows] for f in fields(self)))

    def by_time(self) -> Rows:
        """In the order of a log."""
        return self.take(np.argsort(self.time * 16 + _RANK[self.type], kind="stable"))


def joined(parts: list[Rows]) -> Rows:
    """One after the other."""
    return Rows(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rows)))


def session_rows(
    rng: np.random.Generator, visitors: Visitors, pages: Pages, touches: Touches, again: Array, first_session: int
) -> Rows:
    """All events of a block, session by session, each session in the order of time.

    Args:
        rng: For quantities.
        visitors: Who came.
        pages: What they saw.
        touches: What they did.
        again: Whether items of a category are bought by the handful, bool `[items]`.
        first_session: Number of the block's first session.
    """
    t = touches
    quantity = 1 + again[t.item] * rng.poisson(0.6, len(t.item))
    on_page = t.position >= 0
    parts = [*_page_rows(visitors, pages)]
    begun = t.time + 1 + 0.5 * t.dwell
    for kind, of, time in (
        (EventType.CLICK, on_page & pages.logged[t.session], t.time),
        (EventType.DETAIL_PAGE_VIEW, np.ones(len(t.item), bool), t.time + 0.4),
        (EventType.ADD_TO_WISHLIST, t.wished, begun),
        (EventType.ADD_TO_CART, t.carted, begun),
        (EventType.REMOVE_FROM_CART, t.removed, t.checkout - 4),
        (EventType.PURCHASE_COMPLETE, t.bought, t.checkout),
    ):
        valued = kind in (EventType.ADD_TO_CART, EventType.REMOVE_FROM_CART, EventType.PURCHASE_COMPLETE)
        parts.append(
            _rows(
                visitors,
                t.session[of],
                time[of],
                kind,
                t.item[of],
                position=t.position[of] if kind is EventType.CLICK else None,
                placement=t.placement[of] if kind in (EventType.CLICK, EventType.DETAIL_PAGE_VIEW) else None,
                quantity=quantity[of] if valued else None,
            )
        )
    rows = joined(parts)
    # Milliseconds of a day need 27 bits, the rank 4; the sort is stable, so positions keep their order.
    rows = rows.take(np.argsort((rows.session << 31) | (rows.time << 4) | _RANK[rows.type], kind="stable"))
    return Rows(rows.session + first_session, *(getattr(rows, f.name) for f in fields(Rows)[1:]))


def _page_rows(visitors: Visitors, pages: Pages) -> list[Rows]:
    """Impressions of the logged pages, and a search event, which names the top item, for the pages that answer a query."""
    session, position = np.nonzero(pages.shown & pages.logged[:, None])
    searched = np.nonzero((pages.placement == SEARCH) & pages.shown[:, 0])[0]
    return [
        _rows(
            visitors,
            searched,
            visitors.start[searched],
            EventType.SEARCH,
            pages.items[searched, 0],
            placement=pages.placement[searched],
        ),
        _rows(
            visitors,
            session,
            visitors.start[session] + 1,
            EventType.IMPRESSION,
            pages.items[session, position],
            position=position,
            placement=pages.placement[session],
        ),
    ]


def _rows(
    visitors: Visitors,
    session: Array,
    seconds: Array,
    kind: EventType,
    item: Array,
    position: Array | None = None,
    placement: Array | None = None,
    quantity: Array | None = None,
) -> Rows:
    n = len(session)
    return Rows(
        session=session.astype(np.int64),
        user=visitors.user[session],
        time=(seconds * _MS).astype(np.int64),
        type=np.full(n, kind.code, np.int8),
        item=item,
        position=np.full(n, -1) if position is None else position,
        placement=np.full(n, -1, np.int8) if placement is None else placement,
        quantity=np.zeros(n, np.int64) if quantity is None else quantity,
    )


def arrow_table(rows: Rows, midnight_us: int, catalogue: Catalogue) -> pa.Table:
    """Rows as the events table spells them. A guest is known by the session; a query is what one would type for the item that came first."""
    guest = rows.user < 0
    valued = rows.quantity > 0
    numbers = pa.array(rows.session).cast(pa.string())
    session = pc.binary_join_element_wise("s", numbers, "")
    columns = {
        Column.EVENT_TYPE: pa.array([t.value for t in EVENT_TYPES]).take(pa.array(rows.type)),
        Column.EVENT_TIME: pa.array(midnight_us + rows.time * _MS).cast(SCHEMA.field(Column.EVENT_TIME).type),
        Column.ITEM_ID: _distinct(rows.item, item_ids),
        Column.USER_ID: _unless(guest, _distinct(rows.user, user_ids)),
        Column.VISITOR_ID: _unless(~guest, pc.binary_join_element_wise("v", numbers, "")),
        Column.SESSION_ID: _unless(rows.session < 0, session),
        Column.QUANTITY: pa.array(rows.quantity.astype(np.float64), mask=~valued),
        Column.PRICE: pa.array(catalogue.price[rows.item], mask=~valued),
        Column.CURRENCY: pa.array([CURRENCY]).take(pa.array(np.zeros(len(rows), np.int8), mask=~valued)),
        Column.POSITION: pa.array(rows.position, mask=rows.position < 0),
        Column.PLACEMENT: pa.array(PLACEMENTS).take(pa.array(rows.placement, mask=rows.placement < 0)),
        Column.QUERY: _queries(rows, catalogue),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _distinct(rows: Array, ids: object) -> pa.Array:
    """Spell each distinct row once."""
    distinct, code = np.unique(rows, return_inverse=True)
    return ids(distinct + 1).take(pa.array(code))  # type: ignore[operator]


def _unless(absent: Array, values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(absent), pa.scalar(None, values.type), values)


def _queries(rows: Rows, catalogue: Catalogue) -> pa.Array:
    searched = np.nonzero(rows.type == EventType.SEARCH.code)[0]
    item = rows.item[searched]
    noun = pa.array([leaf.noun for leaf in LEAVES]).take(pa.array(catalogue.appeal.category[item]))
    colour = pa.array(COLOURS).take(pa.array(catalogue.colour[item]))
    text = pc.if_else(pa.array(rows.session[searched] % 3 == 0), pc.binary_join_element_wise(colour, noun, " "), noun)
    where = np.zeros(len(rows), np.int64)
    where[searched] = np.arange(len(searched))
    return text.take(pa.array(where, mask=rows.type != EventType.SEARCH.code))
