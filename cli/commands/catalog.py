"""`catalog`: change items on a running server, between two nights (docs/catalog.md)."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import finish, step

if TYPE_CHECKING:
    from aisle.v1.catalog_pb2 import Item

_CALL = 500  # items of one call

Server = Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Catalog: change items without a new release.")
    for command in (upsert, delete, availability):
        group.command()(command)
    app.add_typer(group, name="catalog")


def upsert(
    file: Annotated[
        Path | None, typer.Option(help="JSON lines, each a row of the items table; `-` reads standard input")
    ] = None,
    server: Server = "127.0.0.1:50051",
    item: Annotated[str, typer.Option(help="one item instead of a file: its id")] = "",
    title: Annotated[str, typer.Option()] = "",
    category: Annotated[str, typer.Option(help='path, such as "Home > Lamps"')] = "",
    brand: Annotated[str, typer.Option()] = "",
    price: Annotated[float | None, typer.Option(help="of one unit")] = None,
) -> None:
    """Put whole items in the place of what was known of them; they can be found within a second."""
    from core.errors import InputError
    from serving.client import Client

    if (file is None) == (not item):
        raise InputError("expected either --file FILE or --item ID")
    if file is None:
        given = {"title": title, "category": category, "brand": brand, "price": price}
        items = [item_of({"item_id": item} | {k: v for k, v in given.items() if v not in ("", None)}, "--item")]
    else:
        items = list(read_items(file))
    upserted = created = sequence = 0
    with Client(server) as client:
        for at in range(0, len(items), _CALL):
            done = client.upsert_items(items[at : at + _CALL])
            upserted, created, sequence = upserted + done.upserted, created + done.created, done.sequence
            step(f"{upserted:,} of {len(items):,} items")
    finish({"upserted": upserted, "created": created, "sequence": sequence})


def delete(
    item: Annotated[list[str], typer.Option(help="item id; several may be given")],
    server: Server = "127.0.0.1:50051",
) -> None:
    """Take items out until they are upserted again; no answer that begins after this command's end holds them."""
    from serving.client import Client

    with Client(server) as client:
        done = client.delete_items(item)
    finish({"deleted": done.deleted, "missing_ids": list(done.missing_ids), "sequence": done.sequence})


def availability(
    item: Annotated[list[str], typer.Option(help="item id; several may be given")],
    available: Annotated[bool, typer.Option("--available/--unavailable", help="put them back, or take them off")],
    server: Server = "127.0.0.1:50051",
) -> None:
    """Take items off the shelf, or put them back."""
    from serving.client import Client

    with Client(server) as client:
        done = client.set_availability(item, available)
    finish({"changed": done.changed, "missing_ids": list(done.missing_ids), "sequence": done.sequence})


def read_items(file: Path) -> Iterator[Item]:
    """The items of a file of JSON lines.

    Raises:
        InputError: A line is not an item; names the line.
    """
    import orjson

    from core.errors import InputError, NotFoundError

    if str(file) != "-" and not file.is_file():
        raise NotFoundError(f"--file {file}: no such file")
    text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{file}, line {number}"
        if line.strip():
            try:
                row = orjson.loads(line)
            except ValueError as e:
                raise InputError(f"{where}: not JSON ({e})") from None
            if not isinstance(row, dict):
                raise InputError(f'{where}: expected an object such as {{"item_id": "7", "title": "Lamp"}}')
            yield item_of(row, where)


def item_of(row: dict[str, Any], where: str) -> Item:
    """A row of the items table as the call takes it; columns that the table does not have are attributes, None is nothing.

    Raises:
        InputError: A value is not what its column holds; `where` is named.
    """
    from aisle.v1.catalog_pb2 import CustomAttribute, Item
    from core.errors import InputError
    from core.schema import ITEMS

    item = Item()
    kinds = {str(column): kind for column, kind in ITEMS.kinds.items()}
    for name, value in row.items():
        try:
            if value is None:
                continue
            if name in kinds:
                setattr(item, name, _microseconds(value) if kinds[name] == "time" else value)
                continue
            values = value if isinstance(value, list) else [value]
            numbers = values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            item.attributes[name].CopyFrom(
                CustomAttribute(numbers=values) if numbers else CustomAttribute(text=map(_text, values))
            )
        except (TypeError, ValueError) as e:
            raise InputError(f"{where}: {name} is {value!r}: {e}") from None
    return item


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        raise TypeError("expected a text, a number, or a list of one of them")
    return value


def _microseconds(value: Any) -> int:
    """A time as ISO text (without an offset: UTC) or microseconds."""
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        raise TypeError("expected ISO text, or microseconds since the epoch")
    moment = dt.datetime.fromisoformat(value)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
