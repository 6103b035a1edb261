"""`redis backup|restore`: what people did lately, and all else that a tenant has in Redis, into a file and back (docs/releases.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import finish, step

if TYPE_CHECKING:
    from redis import Redis

_TIMEOUT_SECONDS = 60.0
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
    from core.errors import NotFoundError
    from serving.backup import backup

    if redis is None and work is not None and not (work / "redis").is_dir():
        raise NotFoundError(f"{work / 'redis'}: no Redis of our own there; name --redis URL")
    with _reached(redis, work) as store:
        done = backup(store, _named(tenant, config), out, step)
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
    from serving.backup import restore

    with _reached(redis, work) as store:
        done = restore(store, _named(tenant, config), file, step, replace=replace)
    finish(asdict(done))


def _named(tenant: str | None, config: Path | None) -> str:
    from core.config import checked
    from serving.config import ServingConfig, load_serving

    given = load_serving(config)
    if tenant is None:
        return given.tenant
    return checked(ServingConfig, given.model_dump() | {"tenant": tenant}, f"--tenant {tenant}").tenant


@contextlib.contextmanager
def _reached(url: str | None, work: Path | None) -> Iterator[Redis]:
    """A client of the Redis at `url`, or of our own under `work`, which is started if it does not run."""
    import redis

    from core.errors import EnvironmentGapError, InputError
    from serving.embedded_redis import EmbeddedRedis
    from serving.redis_link import address, client

    if url is None and work is None:
        raise InputError("name --redis URL, or --work WORK for its own Redis")
    with contextlib.ExitStack() as stack:
        if url is None and work is not None:
            embedded = EmbeddedRedis(work / "redis")
            stack.callback(embedded.stop)
            embedded.launch()
            embedded.wait()
            url = embedded.url
        try:
            yield client(str(url), _TIMEOUT_SECONDS, retries=0)
        except redis.RedisError as e:
            raise EnvironmentGapError(f"Redis at {address(str(url))}: {e}; run it again") from None
