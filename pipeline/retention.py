"""What the nights leave behind, and how much of it is kept (`retention`).

Never removed: the latest artifacts, the champion, and what the kept releases are made of.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sized
from pathlib import Path

from core import artifact
from core.config import RetentionConfig
from core.work import Work
from pipeline.champion import TWIN_ID
from pipeline.nights import prune_logs

Say = Callable[[str], None]


def prune(work: Work, config: RetentionConfig, say: Say) -> None:
    """Remove what is older than asked for, releases first. The caller holds the work directory's lock."""
    releases = prune_releases(work, config.releases)
    kept = list(_artifacts(work.releases))
    needed = _needed(kept)
    stages = [p for folder in _folders(work.root / "stages") for p in _old(folder, needed, config.artifacts)]
    ends = {str(artifact.read_manifest(r).about["window"][1]) for r in kept}
    states = [p for p in _artifacts(work.root / "user_state") if p.name not in ends]
    for path in (*stages, *states):
        shutil.rmtree(path)
    logs = prune_logs(work, config.logs)
    counts: dict[str, Sized] = {
        "releases": releases,
        "artifacts": stages,
        "user states": states,
        "logs of nights": logs,
    }
    if any(counts.values()):
        say("removed as too old: " + ", ".join(f"{len(gone)} {name}" for name, gone in counts.items() if gone))


def prune_releases(work: Work, keep: int) -> list[str]:
    """Remove all releases but the champion and the newest `keep`; the names removed."""
    current = work.current.resolve() if work.current.exists() else None
    newest = sorted(_artifacts(work.releases), key=_made, reverse=True)
    gone = [p for p in newest[keep:] if p.resolve() != current]
    for path in gone:
        shutil.rmtree(path)
    return [p.name for p in gone]


def _needed(releases: Iterable[Path]) -> set[str]:
    """Ids of the artifacts that releases descend from."""
    found: set[str] = set()
    for release in releases:
        manifest = artifact.read_manifest(release)
        found |= {*manifest.parents.values(), str(manifest.about.get(TWIN_ID))}
    return found


def _old(folder: Path, needed: set[str], keep: int) -> list[Path]:
    """Artifacts of a stage that are neither among the newest, nor the latest, nor needed."""
    link = folder / "latest"
    latest = link.resolve() if link.exists() else None
    newest = sorted(_artifacts(folder), key=_made, reverse=True)
    return [p for p in newest[keep:] if p.name not in needed and p.resolve() != latest]


def _artifacts(folder: Path) -> Iterable[Path]:
    return [p for p in _folders(folder) if (p / artifact.MANIFEST).exists()]


def _folders(folder: Path) -> list[Path]:
    """Of a folder, without links and what is being written."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))


def _made(path: Path) -> float:
    return (path / artifact.MANIFEST).stat().st_mtime
