"""`releases push`: a release and the user state it was made with, to a remote.

Files that are there already are not sent again, and a push that was killed goes on after the last whole file; the release is visible there once
everything is.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from core.artifact import MANIFEST, read_manifest, verify
from core.errors import ArtifactError, NotFoundError
from core.held import Held
from core.work import Work
from pipeline.registry.find import Known
from pipeline.registry.remote import Copy, Remote, bytes_sha
from serving.release import Release
from serving.user_state import state_id

Say = Callable[[str], None]
_ROUNDS: Final = 3  # of looking whether everything is still there


@dataclass(frozen=True)
class Pushed:
    """What was sent."""

    release: str
    to: str
    files: int
    bytes: int
    sent_files: int
    sent_bytes: int
    seconds: float

    def result(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _File:
    """Something to be sent: a file, or bytes."""

    sha: str
    size: int
    content: Path | bytes


def push(release: Known, remote: Remote, say: Say, *, again: bool = False) -> Pushed:
    """Send what the remote lacks.

    Args:
        release: In its work directory, its user state beside it.
        remote: Where to.
        say: Progress.
        again: Send every file, whatever is there.

    Raises:
        ArtifactError: The release or its user state is not whole.
    """
    start, held = time.perf_counter(), Held(release.path)
    state = Work(release.path.parent.parent).user_state(release.window_end)
    say(f"checking {release.name}")
    verify(release.path)
    _check_state(Release.open(release.path), state)
    files = {f.sha: f for path in (release.path, state) for f in _files(path)}
    sent = _send(files, remote, say, again)
    copy = Copy(
        release.name,
        release.window_end,
        release.made,
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        *(bytes_sha((path / MANIFEST).read_bytes()) for path in (release.path, state)),
    )
    remote.show(copy)
    for _ in range(_ROUNDS):  # a `prune` there may have removed what nothing visible named yet
        if not (more := _send(files, remote, say, again=False)):
            break
        sent += more
    del held
    seconds = round(time.perf_counter() - start, 3)
    whole = sum(f.size for f in files.values())
    return Pushed(release.name, remote.url, len(files), whole, len(sent), sum(f.size for f in sent), seconds)


def _check_state(release: Release, state: Path) -> None:
    if not state.exists():
        raise NotFoundError(f"{state}: the user state of {release.name} is not there, and serving needs it")
    verify(state)
    if (found := state_id(state)) != release.state_id:
        raise ArtifactError(
            f"{state}: user state {found[:12]}, but {release.name} was made with {release.state_id[:12] or 'none'}"
        )


def _files(path: Path) -> Iterator[_File]:
    """Every file of an artifact, and its manifest."""
    known = (path / MANIFEST).read_bytes()
    yield _File(bytes_sha(known), len(known), known)
    for name, entry in read_manifest(path).files.items():
        yield _File(entry.sha256, entry.size, path / name)


def _send(files: dict[str, _File], remote: Remote, say: Say, again: bool) -> list[_File]:
    missing = [f for f in files.values() if again or not remote.has(f.sha, f.size)]
    if missing:
        say(f"{len(missing)} of {len(files)} files to {remote.url}: {sum(f.size for f in missing) / 1e6:,.1f} MB")
    for file in missing:
        if isinstance(file.content, bytes):
            remote.put_bytes(file.content, file.sha)
        else:
            remote.put(file.content, file.sha)
    return missing
