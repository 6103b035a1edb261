"""`redis backup|restore`: what people did lately, and all else that a tenant has in Redis, into a file and back (docs/releases.md)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import finish, step

if TYPE_CHECKING:
    from redis import Redis

    from core.work import Work

_Redis = Annotated[
    str | None, typer.Option(help="URL of the Redis; default: our own under WORK/redis", envvar="AISLE_REDIS")
]
_Work = Annotated[Path | None, typer.Option(help="work directory whose own Redis it is, without --redis")]
_Config = Annotated[
    Path | None, typer.Option(help="what the servers got by `serve --config`: it names the tenant, without --tenant")
]
_Tenant = Annotated[str | None, typer.Option(help="one of `serve --tenants`")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The state in Redis: backup and restore.")
    group.command()(backup)
    group.command()(restore)
    app.add_typer(group, name="redis")


def backup(
    out: Annotated[Path, typer.Option(help="file to write")],
    redis: _Redis = None,
    work: _Work = None,
    config: _Config = None,
    tenant: _Tenant = None,
) -> None:
    """Write every key of the tenant to a file, beside running servers."""
    from pipeline.erase import reached
    from serving.backup import backup

    place = _place(redis, work)
    with reached(place, redis) as store:
        done = backup(_there(store, place), _named(tenant, config), out, step)
    finish({**asdict(done), "out": str(out)})


def restore(
    file: Annotated[Path, typer.Option("--in", help="file that `redis backup` wrote")],
    redis: _Redis = None,
    work: _Work = None,
    config: _Config = None,
    tenant: _Tenant = None,
    replace: Annotated[bool, typer.Option("--replace", help="remove the tenant's keys that are there first")] = False,
) -> None:
    """Put a backup back; the file is checked whole first. Answers are as they were, those of servers that run on too."""
    from pipeline.erase import reached
    from serving.backup import restore

    place = _place(redis, work)
    if redis is None:  # on a new host there is none yet
        (place.root / "redis").mkdir(parents=True, exist_ok=True)
    with reached(place, redis) as store:
        done = restore(_there(store, place), _named(tenant, config), file, step, replace=replace)
    finish(asdict(done))


def _named(tenant: str | None, config: Path | None) -> str:
    from core.config import checked
    from serving.config import ServingConfig, load_serving

    given = load_serving(config)
    if tenant is None:
        return given.tenant
    return checked(ServingConfig, given.model_dump() | {"tenant": tenant}, f"--tenant {tenant}").tenant


def _place(redis: str | None, work: Path | None) -> Work:
    from core.errors import InputError
    from core.work import Work

    if redis is None and work is None:
        raise InputError("name --redis URL, or --work WORK for its own Redis")
    return Work(work or Path())


def _there(store: Redis | None, place: Work) -> Redis:
    from core.errors import NotFoundError

    if store is None:
        raise NotFoundError(f"{place.root / 'redis'}: no Redis of our own there; name --redis URL")
    return store
