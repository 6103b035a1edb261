"""What a night's data are held against, and what is unlike it: the data behind the champion, or without a champion those that were prepared before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core import artifact
from core.config import DriftConfig
from core.work import Work
from data_prep import drift, profiles
from data_prep.drift import Drift

Say = Callable[[str], None]


def baseline(work: Work) -> Path | None:
    """The prepared data set that the next one is held against; to be asked before that is made. None: there is none yet.

    The champion's, and not the newest: data that a gate refused stay unlike the champion's however often they are prepared again.
    """
    if work.current.exists():
        prepared = work.stage("prepare", artifact.read_manifest(work.current).parents["prepared"])
        if prepared.exists():
            return prepared
    return work.latest("prepare") if work.has("prepare") else None


def drifts(before: Path | None, prepared: Path, config: DriftConfig, say: Say) -> list[Drift]:
    """Every change of `prepared` against `before` that is beyond its threshold, said in a line each."""
    now = profiles.load(prepared)
    found = drift.compare(profiles.load(before) if before is not None else None, now, config) if now else []
    for one in found:
        say(f"{'STOP' if one.level == 'stop' else 'warning'}: {one.line}")
    return found
