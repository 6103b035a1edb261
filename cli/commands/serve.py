"""`serve`: the service."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    release: Annotated[Path, typer.Option(help="a release directory, or WORK/releases/current")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 picks one")] = "127.0.0.1:50051",
    redis: Annotated[
        str | None, typer.Option(help="URL of a Redis; default: one of our own under WORK/redis", envvar="AISLE_REDIS")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes that share the port")] = 1,
    work: Annotated[Path | None, typer.Option(help="work directory; default: the folder above `releases`")] = None,
    rules: Annotated[Path | None, typer.Option(help="folder of rules for pages; changes are taken up")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="HOST:PORT of /metrics for Prometheus; default: as configured, off")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/serving.yaml")
    ] = None,
) -> None:
    """Serve a release until SIGTERM. The first line of stdout is JSON, printed when requests are answered."""
    from serving.threads import pin

    pin()  # before anything below loads numpy

    from core.errors import InputError, NotFoundError
    from serving.config import load_serving
    from serving.sight import logs
    from serving.workers import ServeOptions, parse_listen, serve

    logs.configure()
    if not release.exists():
        raise NotFoundError(
            f"--release {release}: no such directory; `./aisle nightly` publishes one at WORK/releases/current"
        )
    if work is None and redis is None and release.absolute().parent.name != "releases":
        raise InputError(
            f"--release {release} is in no folder `releases` of a work directory: name --work WORK, or --redis URL"
        )
    host, _ = parse_listen(listen)
    name = release.resolve().name
    # `releases/current` is a link: WORK is above the folder that holds it
    settings = load_serving(config)
    logs.configure(settings.logging)
    if metrics is not None:
        settings = settings.with_metrics(metrics)
    if rules is not None:
        settings = settings.with_rules(rules)
    options = ServeOptions(release, listen, work or release.absolute().parent.parent, redis, workers, settings)

    def ready(port: int) -> None:
        finish({"listening": f"{host}:{port}", "release": name, "ready_seconds": round(_age_seconds(), 3)})
        step(f"{name} answers on {host}:{port}; stop it with Ctrl-C or SIGTERM")

    serve(options, ready)
    step("stopped")


def _age_seconds() -> float:
    """Since this process was started, the launcher included, to a hundredth of a second: field 22 of its stat is its start in clock ticks after boot."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
