"""aisle.v1.Catalog: checks items and puts them into the live catalog."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import grpc

from aisle.v1 import catalog_pb2 as pb
from aisle.v1 import catalog_pb2_grpc
from core.catalog_entry import ATTRIBUTES, Entry, Kind
from core.errors import EnvironmentGapError
from core.schema import ITEMS, Column
from serving.catalog import Catalog, Written
from serving.recommender_service import Clock, wall_clock
from serving.refusals import guarded
from serving.resident import Resident
from serving.validation import Problems

MAX_ITEMS: Final = 1_000
MAX_TEXT_BYTES: Final = 1_024
MAX_ATTRIBUTES: Final = 64
MAX_VALUES: Final = 256
MAX_PRICE: Final = 1e30  # the items table has prices as float32
_TEXTS: Final = (Column.CATEGORY, Column.BRAND, Column.CURRENCY, Column.ITEM_GROUP_ID)
_NUMBERS: Final = (Column.PRICE, Column.AVAILABLE, Column.STOCK)
_TIMES: Final = (Column.CREATED_AT, Column.AVAILABLE_FROM, Column.AVAILABLE_UNTIL)
_COLUMNS: Final = {str(c) for c in ITEMS.kinds}


class CatalogService(catalog_pb2_grpc.CatalogServicer):
    """Takes changes of items."""

    def __init__(self, catalog: Catalog | None, resident: Resident, clock: Clock = wall_clock) -> None:
        self._catalog, self._resident, self._clock = catalog, resident, clock

    @guarded
    def UpsertItems(self, request: pb.UpsertItemsRequest, context: grpc.ServicerContext) -> pb.UpsertItemsResponse:  # noqa: N802
        """See the proto."""
        problems = Problems()
        if _count(problems, "items", len(request.items)):
            _no_twice(problems, "items", (item.item_id for item in request.items), ".item_id")
            for at, item in enumerate(request.items):
                _check(problems, f"items[{at}]", item)
        problems.refuse()
        done = self._write(Entry(Kind.UPSERT, self._clock(), items=tuple(row_of(item) for item in request.items)))
        return pb.UpsertItemsResponse(upserted=len(request.items), created=len(done.missing), sequence=done.sequence)

    @guarded
    def DeleteItems(self, request: pb.DeleteItemsRequest, context: grpc.ServicerContext) -> pb.DeleteItemsResponse:  # noqa: N802
        """See the proto."""
        problems = Problems()
        _check_ids(problems, request.item_ids)
        problems.refuse()
        done = self._write(Entry(Kind.DELETE, self._clock(), item_ids=tuple(request.item_ids)))
        return pb.DeleteItemsResponse(deleted=done.there, missing_ids=done.missing, sequence=done.sequence)

    @guarded
    def SetAvailability(  # noqa: N802
        self, request: pb.SetAvailabilityRequest, context: grpc.ServicerContext
    ) -> pb.SetAvailabilityResponse:
        """See the proto."""
        problems = Problems()
        _check_ids(problems, request.item_ids)
        if not request.HasField("available"):
            problems.add("available", "is required")
        problems.refuse()
        entry = Entry(Kind.AVAILABILITY, self._clock(), item_ids=tuple(request.item_ids), available=request.available)
        done = self._write(entry)
        return pb.SetAvailabilityResponse(changed=done.there, missing_ids=done.missing, sequence=done.sequence)

    def _write(self, entry: Entry) -> Written:
        live = self._resident.live
        if self._catalog is None or live is None:
            raise EnvironmentGapError(
                "this server has no place for a log of changes: start it with --work WORK, or set `catalog.folder`"
            )
        return self._catalog.write(entry, live)


def _count(problems: Problems, where: str, n: int) -> bool:
    if not 1 <= n <= MAX_ITEMS:
        problems.add(where, f"has {n} entries, expected 1 to {MAX_ITEMS}")
        return False
    return True


def _no_twice(problems: Problems, where: str, ids: Iterable[str], field: str) -> None:
    first: dict[str, int] = {}
    for at, item_id in enumerate(ids):
        if item_id and first.setdefault(item_id, at) != at:
            problems.add(f"{where}[{at}]{field}", f"is that of {where}[{first[item_id]}] too: {item_id[:64]!r}")


def _check_ids(problems: Problems, ids: Iterable[str]) -> None:
    ids = list(ids)
    if _count(problems, "item_ids", len(ids)):
        problems.texts("item_ids", ids, most=MAX_ITEMS)
        _no_twice(problems, "item_ids", ids, "")


def _check(problems: Problems, at: str, item: pb.Item) -> None:
    problems.text(f"{at}.item_id", item.item_id, required=True)
    problems.text(f"{at}.title", item.title, most=MAX_TEXT_BYTES)
    problems.text(f"{at}.category", item.category, most=MAX_TEXT_BYTES)
    for column in (Column.BRAND, Column.CURRENCY, Column.ITEM_GROUP_ID):
        problems.text(f"{at}.{column}", getattr(item, column))
    if item.HasField("price"):
        problems.number(f"{at}.price", item.price, least=0)
        if MAX_PRICE < item.price < math.inf:
            problems.add(f"{at}.price", f"is {item.price}, at most {MAX_PRICE:g} is allowed")
    for column in _TIMES:
        problems.number(f"{at}.{column}", getattr(item, column), least=0)
    if item.available_from and item.available_until and item.available_until <= item.available_from:
        problems.add(f"{at}.available_until", f"is {item.available_until}, not after available_from")
    if len(item.attributes) > MAX_ATTRIBUTES:
        problems.add(f"{at}.attributes", f"has {len(item.attributes)} entries, at most {MAX_ATTRIBUTES} are allowed")
        return
    for name, value in item.attributes.items():
        _check_attribute(problems, f"{at}.attributes[{name[:32]!r}]", name, value)


def _check_attribute(problems: Problems, at: str, name: str, value: pb.CustomAttribute) -> None:
    problems.text(at, name, required=True)
    if name in _COLUMNS:
        problems.add(at, "is a field of the item, not an attribute")
    if bool(value.text) == bool(value.numbers):
        problems.add(at, "needs texts or numbers, one of the two")
    if len(value.text) + len(value.numbers) > MAX_VALUES:
        problems.add(at, f"has {len(value.text) + len(value.numbers)} values, at most {MAX_VALUES} are allowed")
        return
    for text in value.text:
        problems.text(at, text, required=True, most=MAX_TEXT_BYTES)
    if not all(math.isfinite(n) for n in value.numbers):
        problems.add(at, "expected finite numbers")


def row_of(item: pb.Item) -> dict[str, Any]:
    """Under the names of the items table; what is not given is left out."""
    row: dict[str, Any] = {Column.ITEM_ID.value: item.item_id}
    row |= {c.value: text for c in (Column.TITLE, *_TEXTS) if (text := getattr(item, c))}
    given = {field.name: value for field, value in item.ListFields()}  # of optional ones: also a 0 that was said
    row |= {c.value: given[c] for c in (*_NUMBERS, *_TIMES) if c in given}
    if item.attributes:
        row[ATTRIBUTES] = {name: _value(value) for name, value in item.attributes.items()}
    return row


def _value(value: pb.CustomAttribute) -> str | float | list[str]:
    """One text or number alone, several texts as a list; several numbers as the texts that the items table has for them."""
    if len(value.numbers) == 1:
        return float(value.numbers[0])
    texts = list(value.text) or [f"{n:g}" for n in value.numbers]
    return texts[0] if len(texts) == 1 else texts
