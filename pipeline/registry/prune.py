"""Removes releases that nobody needs any more, and with them the user states and stage artifacts that no kept release descends from.

Never removed: what is current, what a rollback leads to, what a running server or `batch` has open (core.held), the newest artifact of each stage.
Each directory is renamed aside in one step and then deleted; `atomic.sweep` removes what a kill leaves of that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from core import atomic
from core.artifact import read_manifest
from core.errors import AisleError
from core.held import alone
from core.work import Work
from pipeline.registry import history
from pipeline.registry.find import Known, every
from pipeline.registry.pull import STAGING

Say = Callable[[str], None]
_DAY_SECONDS: Final = 86_400
STAGE_OF: Final = {
    "prepared": "prepare",
    "sources": "train-retrieval",
    "index": "build-index",
    "ranker": "train-ranker",
}
"""The stage that makes what a manifest calls so among its parents; the others are called by their stage."""


@dataclass
class Pruned:
    """What went, and why the rest did not. With a dry run, what would go."""

    releases: list[str] = field(default_factory=list)
    user_states: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)  # <stage>/<id>
    bytes: int = 0  # freed: files that have another name elsewhere do not count
    kept: dict[str, str] = field(default_factory=dict)  # release -> reason

    def result(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "releases": self.releases,
            "user_states": self.user_states,
            "stages": self.stages,
            "bytes": self.bytes,
            "kept": self.kept,
        }


def prune(
    work: Work,
    keep: int,
    keep_days: float = 0.0,
    *,
    in_use: Collection[str] = (),
    stages: bool = True,
    dry_run: bool = False,
    say: Say,
) -> Pruned:
    """Remove old releases. The caller holds the work directory's lock.

    Args:
        work: The work directory.
        keep: How many of the newest stay, whatever their age.
        keep_days: Those made within so many days stay too.
        in_use: Names that other hosts say they serve, whose locks cannot be seen here.
        stages: Stage artifacts go too.
        dry_run: Nothing goes.
        say: Progress.
    """
    done = Pruned()
    with history.locked(work):
        if not dry_run:
            _drop_old_pulls(work)
        for path in () if dry_run else (work.releases, work.root / "user_state", *(work.root / "stages").glob("*")):
            if path.is_dir():
                atomic.sweep(path)
        known = every(work)
        done.kept = _reasons(work, known, keep, keep_days, in_use)
        gone = [k for k in known if k.name not in done.kept and _remove_unheld(k.path, done, dry_run)]
        done.releases = [k.name for k in gone]
        kept = [k for k in known if k not in gone]
        for state in _states(work, kept):
            done.user_states.append(state.name)
            _remove(state, done, dry_run)
        for artifact in _unneeded(work, kept) if stages else ():
            done.stages.append(f"{artifact.parent.name}/{artifact.name}")
            _remove(artifact, done, dry_run)
    say(
        f"{'would remove' if dry_run else 'removed'} {len(done.releases)} releases, {len(done.user_states)} user states, "
        f"{len(done.stages)} stage artifacts: {done.bytes / 1e6:,.1f} MB"
    )
    return done


def _drop_old_pulls(work: Work) -> None:
    """What a killed pull left is worth going on with for a day."""
    for staging in work.releases.glob(f"{STAGING}*"):
        if staging.stat().st_mtime < time.time() - _DAY_SECONDS:
            with open(staging / "lock", "a") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(staging)


def _reasons(work: Work, known: list[Known], keep: int, keep_days: float, in_use: Collection[str]) -> dict[str, str]:
    """Why each that stays does: the first reason that holds. Those that are open somewhere are found later."""
    now, before = history.current(work), history.previous(work)
    oldest = time.time() - keep_days * _DAY_SECONDS
    kept: dict[str, str] = {}
    for place, release in enumerate(known):
        reasons = {
            "current": release.name == now,
            "previous: a rollback leads to it": release.name == before,
            "served": release.name in in_use,
            f"among the newest {keep}": place < keep,
            f"made within {keep_days:g} days": keep_days > 0 and _made(release) >= oldest,
        }
        if reason := next((text for text, holds in reasons.items() if holds), None):
            kept[release.name] = reason
    return kept


def _made(release: Known) -> float:
    """Epoch seconds; of the manifest's file where it does not say."""
    try:
        return datetime.fromisoformat(release.made).timestamp()
    except ValueError:
        return (release.path / "manifest.json").stat().st_mtime


def _states(work: Work, kept: list[Known]) -> list[Path]:
    """User states of windows that no kept release has; one newer than all of them may be of a night that is not over."""
    needed = {k.window_end for k in kept}
    folder = work.root / "user_state"
    found = [p for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    return sorted(p for p in found if int(p.name) not in needed and int(p.name) < max(needed, default=0))


def _unneeded(work: Work, kept: list[Known]) -> list[Path]:
    """Stage artifacts that neither a kept release nor the newest artifact of a stage descends from."""
    root = work.root / "stages"
    latest = [link.resolve() for link in root.glob("*/latest") if link.exists()]
    needed = _ancestors(work, [(k.path.name, k.manifest.parents) for k in kept], latest)
    found = [p for p in root.glob("*/*") if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
    return sorted(p for p in found if p.resolve() not in needed)


def _ancestors(work: Work, releases: Iterable[tuple[str, dict[str, str]]], latest: Iterable[Path]) -> set[Path]:
    """Every stage artifact that the releases and the newest artifacts come from, these among them."""
    found = set(latest)
    waiting = [parents for _, parents in releases] + [_parents(path) for path in found]
    while waiting:
        for name, id in waiting.pop().items():
            path = work.stage(STAGE_OF.get(name, name), id)
            if path.is_dir() and path.resolve() not in found:
                found.add(path.resolve())
                waiting.append(_parents(path))
    return found


def _parents(path: Path) -> dict[str, str]:
    try:
        return read_manifest(path).parents
    except AisleError:
        return {}


def _remove_unheld(release: Path, done: Pruned, dry_run: bool) -> bool:
    """Remove it unless somebody has it open; whether it went."""
    with alone(release) as unheld:
        if not unheld:
            done.kept[release.name] = "open in a running process"
            return False
        _remove(release, done, dry_run)
    return True


def _remove(path: Path, done: Pruned, dry_run: bool) -> None:
    done.bytes += _freed(path)
    if dry_run:
        return
    aside = path.with_name(f".tmp-pruned-{path.name}-{uuid.uuid4().hex[:8]}")  # a name that `atomic.sweep` knows
    os.rename(path, aside)
    atomic.fsync_path(path.parent)
    shutil.rmtree(aside)


def _freed(path: Path) -> int:
    """Bytes of files that have no other name."""
    stats = [f.lstat() for f in path.rglob("*")]
    return sum(s.st_size for s in stats if s.st_nlink == 1)
