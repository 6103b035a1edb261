"""Which release was current when: WORK/releases/history.jsonl, one line a change, flushed before it counts as made.

The file is also the lock under which `current` moves: a night holds its own lock for as long as it runs, and a rollback must not wait for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import getpass
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core import atomic
from core.errors import BusyError
from core.work import Work

FILE: Final = "history.jsonl"
PUBLISH, PROMOTE, ROLLBACK, PULL = "publish", "promote", "rollback", "pull"
_WAIT_SECONDS: Final = 300.0  # servers check a large release in full
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Change:
    """`current` moved."""

    when: str  # UTC, ISO 8601
    who: str  # user@host
    action: str  # publish, promote, rollback or pull
    before: str  # names of releases; empty: there was none
    to: str
    why: str

    def line(self) -> dict[str, str]:
        """As the file has it."""
        return {
            "when": self.when,
            "who": self.who,
            "action": self.action,
            "from": self.before,
            "to": self.to,
            "why": self.why,
        }


@contextlib.contextmanager
def locked(work: Work) -> Iterator[None]:
    """Be the only one who moves `current`.

    Raises:
        BusyError: Somebody else is, for five minutes now.
    """
    work.releases.mkdir(parents=True, exist_ok=True)
    deadline, pause = time.monotonic() + _WAIT_SECONDS, threading.Event()
    with open(work.releases / FILE, "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(
                        f"{work.releases}: another promote or rollback is under way; wait for it to end"
                    ) from None
                pause.wait(_POLL_SECONDS)
        yield


def point(work: Work, to: str, action: str, why: str) -> Change | None:
    """Make the release `to` current and write it down; None where it is current already. Call it inside `locked`.

    The link moves first: a kill in between leaves a change without a line, which `stack` allows for.
    """
    before = current(work)
    if before == to:
        return None
    atomic.symlink(work.current, to)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    change = Change(now, f"{_user()}@{platform.node()}", action, before, to, why)
    _append(work.releases / FILE, json.dumps(change.line()))
    return change


def current(work: Work) -> str:
    """The name of the release that `current` points to; empty where there is none."""
    return os.path.basename(os.readlink(work.current)) if work.current.is_symlink() else ""


def read(work: Work) -> list[Change]:
    """Every change, oldest first. A line that a crash cut short is none."""
    try:
        lines = (work.releases / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [change for line in lines if (change := _parsed(line)) is not None]


def stack(work: Work) -> list[str]:
    """What was current before what: the last is current now, and a rollback leads to the one before it.

    A rollback takes back the newest change that was not taken back, so that two of them lead two releases back.
    """
    found: list[str] = []

    def push(name: str) -> None:
        if name and (not found or found[-1] != name):
            found.append(name)

    for change in read(work):
        push(change.before)
        if change.action == ROLLBACK and change.to in found:
            while found[-1] != change.to:
                found.pop()
        push(change.to)
    push(current(work))
    return found


def previous(work: Work) -> str | None:
    """Where a rollback leads: of what was current before, the newest that is still there."""
    now = current(work)
    return next((name for name in reversed(stack(work)) if name != now and (work.releases / name).is_dir()), None)


def _append(path: Path, line: str) -> None:
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"  # by a crash while it was written
        file.write(b"\n" * torn + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    atomic.fsync_path(path.parent)


def _parsed(line: bytes) -> Change | None:
    try:
        said: dict[str, Any] = json.loads(line)
        return Change(said["when"], said["who"], said["action"], said["from"], said["to"], said["why"])
    except (ValueError, KeyError, TypeError):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in containers
        return str(os.getuid())
