"""`users`: forget people (docs/privacy.md)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Users: forget them.")
    group.command()(delete)
    group.command()(erase)
    app.add_typer(group, name="users")


def delete(
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    user: Annotated[str, typer.Option(help="user id")] = "",
    visitor: Annotated[str, typer.Option(help="browser or device")] = "",
) -> None:
    """Forget a person online, at once; the files follow with `users erase`, which the nightly run begins with."""
    from serving.client import Client

    with Client(server) as client:
        done = client.delete_user(user, visitor)
    finish(
        {
            "erasure": done.erasure_id,
            "histories": done.histories,
            "live_lists": done.live_lists,
            "events": done.events,
            "pages": done.pages,
            "streams_done": done.streams_done,
            "pending": done.pending,
        }
    )


def erase(
    work: Annotated[Path, typer.Option(help="work directory")],
    data: Annotated[Path, typer.Option(help="data directory")],
    redis: Annotated[
        str | None, typer.Option(help="URL of a Redis; default: our own under WORK/redis", envvar="AISLE_REDIS")
    ] = None,
    user: Annotated[str, typer.Option(help="forget this user too, without a request by `users delete`")] = "",
    visitor: Annotated[str, typer.Option(help="forget this visitor too")] = "",
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/serving.yaml")
    ] = None,
) -> None:
    """Take everyone who asked to be forgotten out of the data, the work directory and Redis, and search for what is left (exit 2 if anything is)."""
    from core.errors import NotFoundError
    from core.work import Work
    from pipeline.erase import reached, run
    from serving.config import load_serving

    for option, folder in (("--work", work), ("--data", data)):
        if not folder.is_dir():
            raise NotFoundError(f"{option} {folder}: no such directory")
    place, people = Work(work), [(user, visitor)] if user or visitor else []
    with place.locked(), reached(place, redis) as store:
        done = run(data, place, store, load_serving(config), step, people)
    if done.short:
        step(f"{done.short} ids are too short to be searched for in texts: only columns of ids were")
    finish(asdict(done))
    done.check()
