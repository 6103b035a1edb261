"""`keys`: the API keys of a server (docs/security.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step

_FILE = typer.Option("--file", help="file of keys, as for `serve --keys`")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="API keys: make, list and revoke them.")
    group.command()(new)
    group.command("list")(list_)
    group.command()(revoke)
    app.add_typer(group, name="keys")


def new(
    tenant: Annotated[str, typer.Option(help="whose data the key is for")] = "default",
    role: Annotated[
        str, typer.Option(help="read: pages; write: events, items, people too; admin: everything")
    ] = "read",
    file: Annotated[Path | None, _FILE] = None,
    days: Annotated[float | None, typer.Option(help="holds for so long; default: until it is revoked")] = None,
    requests_per_second: Annotated[float | None, typer.Option(help="a limit of this key's own")] = None,
) -> None:
    """Make a key. It is printed this once; the file keeps a hash of it. Servers take it up within seconds."""
    from datetime import UTC, datetime, timedelta

    from core.errors import InputError
    from serving.api_keys import new_key
    from serving.keys_file import add, shown

    if days is not None and not 0 < days < 36_500:
        raise InputError(f"--days {days:g}: expected more than 0, less than 36500")
    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    text, entry = new_key(tenant, role, expires, requests_per_second)
    if file is not None:
        add(file, entry)
        step(f"key {entry.id} is in {file}; it is shown only now")
    finish({"key": text, "entry": shown(entry), "file": None if file is None else str(file)})


def list_(file: Annotated[Path, _FILE]) -> None:
    """The keys of a file, without their hashes."""
    from serving.api_keys import entries_of
    from serving.keys_file import shown

    entries = entries_of(file)
    finish({"keys": [{k: v for k, v in shown(e).items() if k != "sha256"} for e in entries]})


def revoke(
    file: Annotated[Path, _FILE],
    id: Annotated[str, typer.Option(help="of the key: what is between `aisle_` and the second `_`")],
) -> None:
    """Take a key out of a file. Servers refuse it within seconds."""
    from serving.keys_file import remove

    remove(file, id)
    step(f"key {id} is revoked")
    finish({"revoked": id})
