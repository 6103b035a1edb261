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
    release: Annotated[Path | None, typer.Option(help="a release directory, or WORK/releases/current")] = None,
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
    experiments: Annotated[
        Path | None, typer.Option(help="folder of experiments (docs/experiments.md); changes are taken up")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/serving.yaml")
    ] = None,
    tenants: Annotated[
        Path | None,
        typer.Option(help="YAML: several shops, each with its release; instead of --release (docs/security.md)"),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="file of API keys (`./aisle keys new`); changes are taken up")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file; changes are taken up")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file: callers must show a certificate that it vouches for")
    ] = None,
) -> None:
    """Serve a release until SIGTERM, or one each for several tenants. The first line of stdout is JSON, printed when requests are answered."""
    from core.threads import pin

    pin()  # before anything below loads numpy

    from core.errors import InputError
    from serving.config import load_serving
    from serving.sight import logs
    from serving.tenants_file import load_tenants
    from serving.workers import ServeOptions, parse_listen, serve

    logs.configure()
    shops = () if tenants is None else load_tenants(tenants)
    if (release is None) == (tenants is None):
        raise InputError("serve: name --release R, or --tenants FILE for several shops; one of the two")
    if shops and work is None and redis is None:
        raise InputError(
            "serve --tenants: name --work DIR for the embedded Redis that the tenants share, or --redis URL"
        )
    first = _checked(release, work, redis) if release is not None else shops[0].release
    host, _ = parse_listen(listen)
    name = ",".join(spec.release.resolve().name for spec in shops) or first.resolve().name
    settings = load_serving(config).with_protection(
        keys=keys, tls_cert=tls_cert, tls_key=tls_key, tls_client_ca=tls_client_ca
    )
    logs.configure(settings.logging)
    if metrics is not None:
        settings = settings.with_metrics(metrics)
    if rules is not None:
        settings = settings.with_rules(rules)
    if experiments is not None:
        settings = settings.with_experiments(experiments)
    # `releases/current` is a link: WORK is above the folder that holds it
    options = ServeOptions(first, listen, work or first.absolute().parent.parent, redis, workers, settings, shops)

    def ready(port: int) -> None:
        finish({"listening": f"{host}:{port}", "release": name, "ready_seconds": round(_age_seconds(), 3)})
        step(f"{name} answers on {host}:{port}; stop it with Ctrl-C or SIGTERM")

    serve(options, ready)
    step("stopped")


def _checked(release: Path, work: Path | None, redis: str | None) -> Path:
    """The release, if it is there, and if there is a place for what belongs to it."""
    from core.errors import InputError, NotFoundError

    if not release.exists():
        raise NotFoundError(
            f"--release {release}: no such directory; `./aisle nightly` publishes one at WORK/releases/current"
        )
    if work is None and redis is None and release.absolute().parent.name != "releases":
        raise InputError(
            f"--release {release} is in no folder `releases` of a work directory: name --work WORK, or --redis URL"
        )
    return release


def _age_seconds() -> float:
    """Since this process was started, the launcher included, to a hundredth of a second: field 22 of its stat is its start in clock ticks after boot."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
