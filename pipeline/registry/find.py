"""The releases of a work directory, and what each says of itself: its lineage."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.artifact import Manifest, read_manifest
from core.errors import ArtifactError, InputError, NotFoundError
from core.release import CONFIGURATION, GATES, KIND
from core.work import Work


@dataclass(frozen=True)
class Known:
    """A release by its manifest; nothing of it is open."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Of its directory."""
        return self.path.name

    @property
    def window_end(self) -> int:
        """One past the newest event that it knows of, microseconds."""
        return int(self.manifest.about["window"][1])

    @property
    def made(self) -> str:
        """When it was put together, ISO 8601; empty where it does not say."""
        return self.manifest.build.get("time", "")

    @property
    def gates(self) -> list[dict[str, Any]] | None:
        """What each gate said of it; None: nothing is recorded."""
        try:
            return json.loads(self.manifest.build[GATES])  # type: ignore[no-any-return]
        except KeyError:
            return None
        except ValueError:
            raise ArtifactError(f"{self.path}: what its manifest says of gates is not JSON") from None

    @property
    def age_key(self) -> tuple[int, str, str]:
        """Orders releases from old to new: by the end of their data, then by when they were made."""
        return self.window_end, self.made, self.name

    def facts(self) -> dict[str, Any]:
        """What a list says of it."""
        metrics = self.manifest.about.get("metrics") or {}
        return {
            "release": self.name,
            "path": str(self.path),
            "window": [time_text(us) for us in self.manifest.about["window"]],
            "ndcg@10": metrics.get("ndcg@10"),
            "made": self.made or None,
        }

    def lineage(self) -> dict[str, Any]:
        """What it was made from and by."""
        about, build = self.manifest.about, self.manifest.build
        return {
            "window": [time_text(us) for us in about["window"]],
            "parents": self.manifest.parents,
            "config": about.get("config"),
            "configuration": about.get(CONFIGURATION),
            "commit": build.get("commit"),
            "made": build.get("time"),
            "host": build.get("host"),
            "metrics_of": about.get("metrics_of"),
            "gates": self.gates,
        }


def folder(work: Work) -> Path:
    """Where the releases of `work` are.

    Raises:
        NotFoundError: There is no such folder.
    """
    if not work.releases.is_dir():
        raise NotFoundError(
            f"{work.releases}: no releases; run `./aisle nightly --data DATA --work {work.root}`, or `./aisle releases pull`"
        )
    return work.releases


def every(work: Work) -> list[Known]:
    """The releases of `work`, newest first.

    Raises:
        NotFoundError: There is no folder for them.
    """
    paths = [p for p in folder(work).iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
    found = [Known(p, m) for p in paths if (m := read_manifest(p)).kind == KIND]
    return sorted(found, key=lambda known: known.age_key, reverse=True)


def named(release: Path | None, work: Path | None) -> Known:
    """The release that a command's arguments mean: a directory, or the name of one in `work`; without either the current one of `work`.

    Raises:
        InputError: Neither is given.
        NotFoundError: There is none.
    """
    if release is None and work is None:
        raise InputError("name a release directory, or --work WORK for its current one")
    path = Work(work).current if release is None and work is not None else release
    assert path is not None
    if work is not None and not (path / "manifest.json").exists():
        path = Work(work).releases / path
    if not path.exists():
        raise NotFoundError(
            f"{path}: no such release" + (f"; `./aisle releases list --work {work}` shows them" if work else "")
        )
    path = path.resolve()
    manifest = read_manifest(path)
    if manifest.kind != KIND:
        raise ArtifactError(f"{path}: holds a {manifest.kind!r} artifact, expected {KIND!r}")
    return Known(path, manifest)


def work_of(release: Known, work: Path | None) -> Work:
    """The work directory that the release is in.

    Raises:
        InputError: It is in none, or in another than `work`.
    """
    if release.path.parent.name != "releases":
        raise InputError(f"{release.path} is in no folder `releases` of a work directory")
    found = Work(release.path.parent.parent)
    if work is not None and found.root != work.resolve():
        raise InputError(f"{release.path} is not in --work {work}: `./aisle releases pull` brings releases there")
    return found


def time_text(microseconds: int) -> str:
    """ISO 8601, UTC."""
    return dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC).isoformat()
