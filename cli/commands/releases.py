"""`releases list|show|verify`: what was published."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import console, finish

if TYPE_CHECKING:
    from core.artifact import Manifest

_Work = Annotated[Path | None, typer.Option(help="work directory")]
_Release = Annotated[
    Path | None, typer.Argument(help="release directory, or the name of one in WORK; default: WORK/releases/current")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The registry of releases.")
    group.command("list")(list_releases)
    group.command()(show)
    group.command()(verify)
    app.add_typer(group, name="releases")


def list_releases(work: Annotated[Path, typer.Option(help="work directory")]) -> None:
    """The published releases, newest window first; `*` marks the one that `current` points to."""
    from rich.table import Table

    from core.artifact import read_manifest
    from core.errors import NotFoundError
    from core.release import KIND
    from core.work import Work

    folder = Work(work).releases
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no releases; run `./aisle nightly --data DATA --work {work}`")
    current = Work(work).current.resolve()
    paths = [p.resolve() for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
    found = [(p, m) for p in paths if (m := read_manifest(p)).kind == KIND]
    found.sort(key=lambda release: (release[1].about["window"][1], release[1].build.get("time", "")), reverse=True)
    table = Table()
    for column in ("", "release", "window ends", "ndcg@10", "made"):
        table.add_column(column, no_wrap=True)
    for path, manifest in found:
        facts = _facts(path, manifest)
        table.add_row(
            "*" if path == current else "",
            path.name,
            facts["window"][1],
            f"{facts['ndcg@10']}",
            manifest.build.get("time", ""),
        )
    console.print(table)
    finish({"releases": [_facts(p, m) | {"current": p == current} for p, m in found]})


def show(release: _Release = None, work: _Work = None) -> None:
    """One release: its window, parents, metrics and files."""
    from core.artifact import read_manifest

    path = _named(release, work)
    manifest = read_manifest(path)
    size = sum(f.size for f in manifest.files.values())
    console.print_json(data=manifest.model_dump(exclude={"files"}))
    finish(
        _facts(path, manifest)
        | {"parents": manifest.parents, "about": manifest.about, "files": len(manifest.files), "bytes": size}
    )


def verify(release: _Release = None, work: _Work = None) -> None:
    """Hash every file again and open the release as the server does; what is wrong is said by name."""
    from core.artifact import verify
    from serving.release import Release

    path = _named(release, work)
    manifest = verify(path)
    Release.open(path, stamped=True)
    finish(
        {
            "release": path.name,
            "files": len(manifest.files),
            "bytes": sum(f.size for f in manifest.files.values()),
            "verified": True,
        }
    )


def _named(release: Path | None, work: Path | None) -> Path:
    """The directory that the arguments mean."""
    from core.errors import InputError, NotFoundError
    from core.work import Work

    if release is None and work is None:
        raise InputError("name a release directory, or --work WORK for its current one")
    path = Work(work).current if release is None and work is not None else release
    assert path is not None
    if not path.exists() and work is not None:
        path = Work(work).releases / path
    if not path.exists():
        raise NotFoundError(
            f"{path}: no such release" + (f"; `./aisle releases list --work {work}` shows them" if work else "")
        )
    return path.resolve()


def _facts(path: Path, manifest: Manifest) -> dict[str, Any]:
    window = [dt.datetime.fromtimestamp(us / 1e6, dt.UTC).isoformat() for us in manifest.about["window"]]
    metrics = manifest.about.get("metrics") or {}
    return {
        "release": path.name,
        "path": str(path),
        "window": window,
        "ndcg@10": metrics.get("ndcg@10"),
        "made": manifest.build.get("time"),
    }
