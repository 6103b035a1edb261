"""Who has the catalog's log open, and how it is kept short: whoever opens it alone leaves out what later entries supersede."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from core.catalog_entry import Entry, lasting
from core.catalog_log import CatalogLog

_LOG = logging.getLogger(__name__)
LEAST_BYTES: Final = 1 << 20  # a smaller log is read in no time


class CatalogUser:
    """One of those who have the log in `folder` open, until it is closed or its process ends. `least` None: one who never shortens it."""

    def __init__(self, folder: Path, least: int | None = LEAST_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / "users", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            if least is not None:
                _shorten(folder, least)
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def close(self) -> None:
        """Be one of them no longer."""
        os.close(self._fd)


def everything(folder: Path) -> tuple[str, list[Entry]]:
    """The id of the log in `folder` and its acknowledged entries; "" and none where there is no log.

    What a killed writer left behind is adopted or cut off first, as by any other who opens the log; nothing else changes.

    Raises:
        ArtifactError: What was acknowledged is damaged, or the log is of another format.
    """
    if not (folder / "log").exists():
        return "", []
    user = CatalogUser(folder, least=None)
    try:
        log = CatalogLog(folder)
        entries = [Entry.of(*frame) for frame in log.read(log.start)[0]]
        log.close()
    finally:
        user.close()
    return log.id, entries


def _shorten(folder: Path, least: int) -> None:
    """Where less than half of a log of `least` bytes or more remains, put that in its place."""
    log = CatalogLog(folder)
    if log.committed >= least:
        entries = [Entry.of(*frame) for frame in log.read(log.start)[0]]
        remaining = [(entry.sequence, entry.payload()) for entry in lasting(entries)]
        if 2 * sum(len(payload) for _, payload in remaining) < log.committed:
            _LOG.warning(
                "%s: %d of %d entries are superseded, and left out", folder, len(entries) - len(remaining), len(entries)
            )
            log.replace(remaining)
    log.close()
