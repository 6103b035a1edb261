"""Which releases and shadows arms bring, as far as they are open in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.assign import Assignment, shadowed
from experiments.config import Settings
from experiments.files import Written
from serving.arms.open_releases import OpenRelease, OpenReleases


@dataclass(frozen=True)
class Copy:
    """What a shadow answers to a request that somebody else is answered."""

    assignment: Assignment
    settings: Settings
    release: OpenRelease | None  # None: that which answered


def all_open(written: Written, open_releases: OpenReleases | None) -> bool:
    """Whether every release that somebody would be answered by is open: else nobody is in the experiment, in whichever arm."""
    return all(opened(path, open_releases) is not None for path in served_releases(written).values())


def served_releases(written: Written) -> Mapping[str, Path]:
    """The releases of arms, but for shadows."""
    shadows = written.experiment.shadows
    return written.releases if not shadows else {a: p for a, p in written.releases.items() if a not in shadows}


def opened(path: Path | None, open_releases: OpenReleases | None) -> OpenRelease | None:
    """The release of a directory, if it is open."""
    return None if path is None or open_releases is None else open_releases.of(path)


def copies_of(written: Written, unit: str, open_releases: OpenReleases | None) -> tuple[Copy, ...]:
    """The shadows of an experiment that takes a unit; those whose release is not open make no copies yet."""
    experiment, found = written.experiment, []
    for arm in shadowed(experiment, unit):
        path = written.releases.get(arm)
        release = opened(path, open_releases)
        if path is None or release is not None:
            assignment = Assignment(experiment.name, arm, experiment.shadows[arm])
            found.append(Copy(assignment, experiment.arms[arm].settings, release))
    return tuple(found)
