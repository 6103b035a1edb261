"""The work directory: where each stage leaves its artifact, which one is newest, and who may write.

WORK/
  lock                        owner of the run (one writer)
  stages/<stage>/<id>/        immutable artifacts; `stages/<stage>/latest` points to the newest
                              The permanent id maps are in the latest of `prepare`; the next only adds to them
  user_state/<window_end>/    histories for `batch` and `materialize`
  releases/<name>/            published; `releases/current` points to the champion
  checkpoints/<stage>/        what a killed training goes on from; gone when the stage is done
  redis/                      the embedded server's files
  catalog/                    the log of the live catalog (docs/catalog.md); servers write it, without the lock
  logs/<night>/<stage>.log    what each stage said
  nights.jsonl                the story of the nights, a line for each thing that happened (pipeline/nights.py)
  metrics/nightly.prom        what the last run came to, for Prometheus
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import pwd
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core import atomic
from core.errors import BusyError, NotFoundError


@dataclass(frozen=True)
class Work:
    """Paths under one work directory."""

    root: Path

    @property
    def releases(self) -> Path:
        """Published releases."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """The link to the champion."""
        return self.releases / "current"

    @property
    def catalog(self) -> Path:
        """The log of the live catalog."""
        return self.root / "catalog"

    def stage(self, stage: str, id: str) -> Path:
        """Where the artifact `id` of `stage` is, or will be."""
        return self.root / "stages" / stage / id

    def latest(self, stage: str) -> Path:
        """The newest artifact of `stage`."""
        link = self.root / "stages" / stage / "latest"
        if not link.exists():
            raise NotFoundError(f"{self.root}: no {stage} yet; run `./aisle nightly --data DATA --work {self.root}`")
        return link.resolve()

    def has(self, stage: str) -> bool:
        """Whether `stage` ever completed."""
        return (self.root / "stages" / stage / "latest").exists()

    def set_latest(self, stage: str, id: str) -> None:
        """Make `id` the newest artifact of `stage`."""
        atomic.symlink(self.root / "stages" / stage / "latest", id)

    def user_state(self, window_end: int) -> Path:
        """User state as of `window_end`, microseconds."""
        return self.root / "user_state" / str(window_end)

    @contextlib.contextmanager
    def locked(self, *, make: bool = False) -> Iterator[None]:
        """Be the only writer, or fail at once naming the one that is. The lock goes with the process, however it ends.

        Args:
            make: A night may begin a work directory; to everything else one that is not there is a slip of the pen.

        Raises:
            BusyError: Another process holds it.
            NotFoundError: It is not there.
        """
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        elif not self.root.is_dir():
            raise NotFoundError(
                f"{self.root}: no such work directory; `./aisle nightly --data DATA --work {self.root}` makes one"
            )
        with open(self.root / "lock", "a+") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                f.seek(0)
                raise BusyError(
                    f"{self.root}: {_said(f.read())} is writing here; wait for it to end, or stop it"
                ) from None
            f.seek(0)
            f.truncate()
            f.write(json.dumps(_owner()))
            f.flush()
            yield


def _owner() -> dict[str, object]:
    """Who holds a lock from now on."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user without a name
        user = str(uid)
    command = " ".join(sys.argv[1:2])
    return {"pid": os.getpid(), "host": platform.node(), "user": user, "command": command, "since": time.time()}


def _said(text: str) -> str:
    """The owner of a lock for people: what, where, and for how long."""
    try:
        o = json.loads(text)
        began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(o["since"]))
        what = f"`{o['command']}`, process" if o["command"] else "process"
        return f"{what} {o['pid']} of {o['user']} on {o['host']} (since {began}, {time.time() - o['since']:.0f} s)"
    except (ValueError, KeyError, TypeError):
        return "another process"
