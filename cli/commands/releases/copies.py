"""`releases push|pull`: copies between hosts, over any file system that fsspec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command()(push)
    group.command()(pull)


def push(
    to: Annotated[str, typer.Option(help="URL or folder, such as s3://bucket/aisle or file:///mnt/releases")],
    release: Annotated[
        Path | None,
        typer.Argument(help="release directory, or the name of one in WORK; default: WORK/releases/current"),
    ] = None,
    work: Annotated[Path | None, typer.Option(help="work directory")] = None,
    again: Annotated[bool, typer.Option("--again", help="send every file, whatever is there")] = False,
) -> None:
    """Send a release with its user state; only files that are not there yet travel. Run it again after an interruption."""
    from pipeline.registry.find import named, work_of
    from pipeline.registry.push import push
    from pipeline.registry.remote import Remote

    known = named(release, work)
    work_of(known, work)
    finish(push(known, Remote(to), step, again=again).result())


def pull(
    name: Annotated[str, typer.Argument(help="of the release, or `latest` for the one with the newest data")],
    source: Annotated[str, typer.Option("--from", help="URL or folder that `push` wrote to")],
    work: Annotated[Path, typer.Option(help="work directory; made if it is not there")],
) -> None:
    """Bring a release with its user state; what is here already is not copied. It becomes current where there is no current one."""
    from core.work import Work
    from pipeline.registry.pull import pull
    from pipeline.registry.remote import Remote

    done = pull(name, Remote(source), Work(work.absolute()), step)
    if not done.current:
        step(f"`./aisle releases promote {done.release} --work {work}` makes it current")
    finish(done.result())
