"""`events send`: tell a server what happened; `events sink`: move it to the log that `prepare` reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Events: what happened in the shop.")
    group.command()(send)
    group.command()(sink)
    app.add_typer(group, name="events")


def send(
    type: Annotated[str, typer.Option(help="event type, such as detail-page-view, add-to-cart, purchase-complete")],
    item: Annotated[list[str], typer.Option(help="item; several make one event each")],
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    user: Annotated[str, typer.Option(help="user id")] = "",
    visitor: Annotated[str, typer.Option(help="browser or device")] = "",
    session: Annotated[str, typer.Option(help="visit")] = "",
    event_id: Annotated[str, typer.Option(help="the shop's name for the event: sending it again changes nothing")] = "",
    quantity: Annotated[float | None, typer.Option(help="units")] = None,
) -> None:
    """Send events of one person; they count in that person's next answer."""
    from aisle.v1.events_pb2 import Event
    from core.errors import InputError
    from serving.client import Client

    if event_id and len(item) > 1:
        raise InputError(f"--event-id names one event, but {len(item)} items make {len(item)} events")
    events = [
        Event(
            event_type=type,
            item_id=i,
            user_id=user,
            visitor_id=visitor,
            session_id=session,
            event_id=event_id,
            quantity=quantity,
        )
        for i in item
    ]
    with Client(server) as client:
        response = client.write_events(events)
    finish({"accepted": response.accepted, "duplicates": response.duplicates, "spooled": response.spooled})


def sink(
    data: Annotated[Path, typer.Option(help="data directory: the log grows in its `events` and `recommendations`")],
    work: Annotated[
        Path | None, typer.Option(help="work directory of a server with a Redis of its own (WORK/redis)")
    ] = None,
    redis: Annotated[str | None, typer.Option(help="URL of a Redis", envvar="AISLE_REDIS")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on until SIGTERM, and wait while Redis is away")] = False,
    batch: Annotated[int, typer.Option(min=1, max=1_000_000, help="entries of one batch at most")] = 50_000,
    flush_seconds: Annotated[
        float, typer.Option(min=0, help="with --follow: an entry is in a file after so long, however small the batch")
    ] = 300.0,
    tenant: Annotated[str | None, typer.Option(help="default: that of the configuration")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/serving.yaml")
    ] = None,
) -> None:
    """Move events and pages served from Redis to Parquet, each once. Killed at any moment, the next run goes on where it was."""
    import redis as redis_py

    from core.errors import AisleError, InputError
    from pipeline.sink import Sink, locked
    from serving.config import load_serving
    from serving.keys import Keys
    from serving.redis_link import address, client
    from serving.stopping import StopSignals

    if (work is None) == (redis is None):
        raise InputError("name one of --work WORK and --redis URL: where the events wait")
    start, keys = time.perf_counter(), Keys(tenant or load_serving(config).tenant)
    signals = StopSignals() if follow else None
    with locked(data), _redis_url(work, redis) as url:
        step(f"from {address(url)} into {data}")
        try:
            moving = Sink(client(url, 10.0, retries=1), keys, data, batch, step)
            if signals is not None:
                moving.follow(flush_seconds, signals.wait, step)
            else:
                moving.drain()
        except redis_py.RedisError as e:
            raise AisleError(f"{address(url)}: Redis went away ({e}); nothing is lost: run it again") from None
        except OSError as e:
            raise AisleError(f"{data}: {e.strerror or e}; nothing is lost: make room, and run it again") from None
        moved = moving.moved
    seconds = round(time.perf_counter() - start, 2)
    finish({**moved.rows, "files": moved.files, "seconds": seconds, "position": moving.positions})


@contextmanager
def _redis_url(work: Path | None, url: str | None) -> Iterator[str]:
    """The Redis that was named, or that of a work directory: started, if no server runs there."""
    from core.errors import NotFoundError
    from serving.embedded_redis import EmbeddedRedis

    if work is None:
        yield url or ""
        return
    if not work.is_dir():
        raise NotFoundError(f"--work {work}: no such directory")
    embedded = EmbeddedRedis(work / "redis")
    try:
        embedded.launch()
        embedded.wait()
        yield embedded.url
    finally:
        embedded.stop()
