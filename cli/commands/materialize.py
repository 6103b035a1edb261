"""`materialize`: user state into Redis."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(materialize)


def materialize(
    work: Annotated[Path, typer.Option(help="work directory with a published release")],
    redis: Annotated[
        str | None, typer.Option(help="URL of a Redis; default: our own under WORK/redis", envvar="AISLE_REDIS")
    ] = None,
    release: Annotated[Path | None, typer.Option(help="whose user state; default: WORK/releases/current")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/serving.yaml")
    ] = None,
) -> None:
    """Load the user state of a release into Redis. Answers use it once it is there completely; windows no longer needed go."""
    from core.errors import NotFoundError
    from core.work import Work
    from serving.config import load_serving
    from serving.embedded_redis import EmbeddedRedis
    from serving.materialize import materialize
    from serving.redis_link import address
    from serving.release import Release

    path = release or Work(work).current
    if not path.exists():
        raise NotFoundError(f"{path}: no release; run `./aisle nightly --data DATA --work {work}` first")
    opened, tenant = Release.open(path), load_serving(config).tenant
    embedded = EmbeddedRedis(work / "redis") if redis is None else None
    try:
        if embedded is not None:
            embedded.launch()
            embedded.wait()
        url = redis or (embedded.url if embedded else "")
        step(f"user state of {opened.name} into {address(url)}")
        state = Work(work).user_state(opened.window_end)
        done = materialize(url, tenant, state, opened.window_end, opened.state_id, opened.settings.history_events)
    finally:
        if embedded is not None:
            embedded.stop()
    finish({**asdict(done), "release": opened.name, "bytes_per_user": round(done.bytes / max(1, done.users))})
