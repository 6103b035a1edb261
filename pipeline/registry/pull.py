"""`releases pull`: a release and its user state from a remote into a work directory.

What is here already, in any release, is linked and not copied; a pull that was killed goes on in the middle of a file; the release appears once every
file of it has the content that its manifest says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from core import atomic
from core.artifact import MANIFEST, FileEntry, Manifest, read_manifest, sha256, verify
from core.errors import AisleError, ArtifactError, BusyError
from core.release import KIND, STATE_KIND
from core.work import Work
from pipeline.registry import history
from pipeline.registry.remote import Copy, Remote
from serving.release import Release
from serving.user_state import UserState, state_id

Say = Callable[[str], None]
LATEST: Final = "latest"
STAGING: Final = ".pull-"
_WAS: Final = ".was-"


@dataclass
class Pulled:
    """What was copied."""

    release: str
    path: str
    files: int = 0
    bytes: int = 0
    copied_files: int = 0
    copied_bytes: int = 0
    current: bool = False  # it is what `current` points to
    seconds: float = 0.0
    _here: dict[str, Path] = field(default_factory=dict, repr=False)  # content -> a file that had it

    def result(self) -> dict[str, Any]:
        """As JSON."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}


def pull(name: str, remote: Remote, work: Work, say: Say) -> Pulled:
    """Bring the release `name`, or the newest for "latest"; it becomes current where `work` has no current one.

    Raises:
        ArtifactError: Something there is missing, truncated or altered; nothing appears here.
        BusyError: Another pull of it is under way here.
    """
    start = time.perf_counter()
    copy = remote.newest() if name == LATEST else remote.copy(name)
    path = work.releases / copy.name
    done = Pulled(copy.name, str(path))
    with _staged(work, copy.name) as staging:
        done._here = _contents(work)
        say(f"pulling {copy.name} from {remote.url}")
        manifest, said = remote.manifest(copy.release)
        there, state_said = remote.manifest(copy.user_state)
        _check_kinds(copy, manifest, there)
        fresh = not _same(path, said)
        if fresh and path.exists():
            raise ArtifactError(f"{path}: is another release of the same name: remove it first")
        state = work.user_state(copy.window_end)
        new_state = not _same(state, state_said)
        if new_state:
            _fetch(remote, there, state_said, staging / "user_state", done)
        if fresh:
            _fetch(remote, manifest, said, staging / "release", done)
        _check(staging / "release" if fresh else path, staging / "user_state" if new_state else state)
        if new_state:
            _put(staging / "user_state", state)
        if fresh:
            _put(staging / "release", path)
        done.files = len(manifest.files) + len(there.files)
        done.bytes = sum(f.size for m in (manifest, there) for f in m.files.values())
    with history.locked(work):
        if not history.current(work):
            history.point(work, copy.name, history.PULL, f"the first release here, from {remote.url}")
        done.current = history.current(work) == copy.name
    done.seconds = round(time.perf_counter() - start, 3)
    return done


def _check_kinds(copy: Copy, release: Manifest, state: Manifest) -> None:
    found = (release.kind, state.kind, release.id)
    if found != (KIND, STATE_KIND, copy.name):
        raise ArtifactError(
            f"{copy.name}: the copy holds {found[2]!r} of kinds {found[0]!r} and {found[1]!r}: push it again"
        )


def _check(release: Path, state: Path) -> None:
    """Both are whole and belong together, and this Aisle can open them."""
    verify(state)
    verify(release)
    opened = Release.open(release, stamped=True)
    UserState.open(state, opened.settings.history_events)
    if (found := state_id(state)) != opened.state_id:
        raise ArtifactError(
            f"{state}: user state {found[:12]}, but {release.name} was made with {opened.state_id[:12]}"
        )


def _same(path: Path, manifest: bytes) -> bool:
    try:
        return (path / MANIFEST).read_bytes() == manifest
    except (FileNotFoundError, NotADirectoryError):
        return False


def _fetch(remote: Remote, manifest: Manifest, said: bytes, folder: Path, done: Pulled) -> None:
    """Fill `folder` with the files of a manifest, and then the manifest."""
    if folder.exists():  # of a killed pull, perhaps of another release of this name
        wanted = set(manifest.files)
        for file in [f for f in folder.rglob("*") if f.is_file()]:
            if str(file.relative_to(folder)).removesuffix(".part") not in wanted:
                file.unlink()
    for name, entry in manifest.files.items():
        to = folder / name
        if to.exists() and sha256(to) == entry.sha256:
            continue
        to.unlink(missing_ok=True)
        to.parent.mkdir(parents=True, exist_ok=True)
        if not _linked(done._here.get(entry.sha256), entry, to):
            done.copied_bytes += remote.get(entry.sha256, entry.size, to)
            done.copied_files += 1
        done._here[entry.sha256] = to
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(folder / MANIFEST, said)


def _linked(source: Path | None, entry: FileEntry, to: Path) -> bool:
    """Whether a file that is here could stand in, whole."""
    if source is None:
        return False
    try:
        if sha256(source) != entry.sha256:
            return False
        try:
            os.link(source, to)
        except OSError:
            shutil.copyfile(source, to)
    except OSError:  # pruned meanwhile
        return False
    return True


def _contents(work: Work) -> dict[str, Path]:
    """Content -> file, of every release and user state here."""
    found: dict[str, Path] = {}
    for folder in (work.releases, work.root / "user_state"):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
                continue
            with contextlib.suppress(AisleError):
                found |= {entry.sha256: path / name for name, entry in read_manifest(path).files.items()}
    return found


def _put(staging: Path, path: Path) -> None:
    """Make it appear. A user state that was there goes: it was another night's, or somebody has been forgotten since."""
    atomic.fsync_tree(staging)
    path.parent.mkdir(parents=True, exist_ok=True)
    was = path.with_name(_WAS + path.name)
    if path.exists():
        os.rename(path, was)
    os.rename(staging, path)
    atomic.fsync_path(path.parent)
    if was.exists():
        shutil.rmtree(was)


@contextlib.contextmanager
def _staged(work: Work, name: str) -> Iterator[Path]:
    """Where the release is put together; it stays when the block fails, for the next try."""
    staging = work.releases / f"{STAGING}{name}"
    staging.mkdir(parents=True, exist_ok=True)
    with open(staging / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{staging}: another pull of {name} is under way; wait for it to end") from None
        yield staging
        shutil.rmtree(staging)
