"""`releases promote|rollback|prune`: which release answers, and which ones go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step

_Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server", help="HOST:PORT of a server that shall answer with it at once; may be given several times"
    ),
]
_Why = Annotated[str, typer.Option(help="for the history")]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command()(promote)
    group.command()(rollback)
    group.command()(prune)


def promote(
    release: Annotated[Path, typer.Argument(help="release directory, or the name of one in WORK")],
    work: Annotated[Path | None, typer.Option(help="work directory; default: the one that the release is in")] = None,
    server: _Servers = None,
    why: _Why = "",
    force: Annotated[
        bool, typer.Option("--force", help="whatever the gates of its night said, or if they said nothing")
    ] = False,
) -> None:
    """Check a release in full and make it current; the servers named answer with it when this returns. Exit 3: its night was refused."""
    from pipeline.registry.find import named, work_of
    from pipeline.registry.switch import promote

    known = named(release, work)
    finish(promote(work_of(known, work), known, server or [], why, step, force=force).result())


def rollback(
    work: Annotated[Path, typer.Option(help="work directory")],
    server: _Servers = None,
    why: _Why = "",
) -> None:
    """Make current what was so before the last change that was not taken back; the servers named answer with it when this returns."""
    from core.work import Work
    from pipeline.registry.switch import rollback

    finish(rollback(Work(work.absolute()), server or [], why, step).result())


def prune(
    work: Annotated[Path | None, typer.Option(help="work directory")] = None,
    keep: Annotated[int, typer.Option(min=1, help="newest releases that stay")] = 3,
    keep_days: Annotated[float, typer.Option(min=0, help="those made within so many days stay too")] = 0.0,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", help="HOST:PORT of a server on another host, whose release stays; several times"),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="URL or folder of copies to prune, instead of --work")
    ] = None,
    spare_hours: Annotated[
        float, typer.Option(min=0, help="with --from: younger files stay, since a push may be under way")
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go")] = False,
) -> None:
    """Remove old releases, and the user states and stage artifacts that no kept one needs. Current, previous and open ones never go."""
    from core.errors import InputError
    from core.work import Work
    from pipeline.registry.prune import prune
    from pipeline.registry.prune_copies import prune_copies
    from pipeline.registry.remote import Remote
    from serving.client import Client

    if source is not None:
        finish(prune_copies(Remote(source), keep, spare_hours, step, dry_run=dry_run) | {"dry_run": dry_run})
        return
    if work is None:
        raise InputError("name --work WORK, or --from URL for copies")
    in_use = []
    for address in server or []:
        with Client(address) as client:
            in_use.append(client.status().release)
    place = Work(work)
    with place.locked():
        finish(prune(place, keep, keep_days, in_use=in_use, dry_run=dry_run, say=step).result() | {"dry_run": dry_run})
