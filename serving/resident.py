"""The release that answers: opened, warmed, then swapped in by one assignment, so that every request sees one release from start to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.artifact import verify
from core.columns import Array
from core.errors import AisleError, ArtifactError
from core.history import History, Query
from core.schema import MINUTE, EventType
from serving.answers import Request
from serving.live_release import LiveRelease
from serving.release import Release
from serving.request_path import answer

_LOG = logging.getLogger(__name__)
_WARM_UP_ROUNDS = 3
_WARM_UP_EVENTS = 50

Prepare = Callable[[Release], None]
Overlay = Callable[[Release], LiveRelease]


@dataclass(frozen=True)
class Opened:
    """A release that could answer at once."""

    release: Release
    held: Release | LiveRelease  # with the live catalog over it where there is one


class Resident:
    """Holds the release that answers. Read `release` once a request; it never changes under it, but for the availability of items."""

    def __init__(self, release: Release, integrity: str, overlay: Overlay | None = None) -> None:
        self._overlay = overlay
        self._held = release if overlay is None else overlay(release)
        self.integrity = integrity  # "stamp", "verified", or what a later check found
        self._loading, self._swapping = (
            threading.Lock(),
            threading.Lock(),
        )  # opening takes seconds, and must not hold up a swap

    @property
    def release(self) -> Release:
        """What a request that begins now is answered from: the release, with the live catalog over it where there is one."""
        held = self._held
        return held.current if isinstance(held, LiveRelease) else held

    @property
    def held(self) -> Release | LiveRelease:
        """The release, or the live catalog over it."""
        return self._held

    @property
    def base(self) -> Release:
        """The release as it was published."""
        held = self._held
        return held.base if isinstance(held, LiveRelease) else held

    @property
    def live(self) -> LiveRelease | None:
        """The live catalog over it; None where there is none."""
        return self._held if isinstance(self._held, LiveRelease) else None

    @classmethod
    def open(cls, path: Path, prepare: Prepare, overlay: Overlay | None = None) -> Resident:
        """Open the release to start with: by its stamp; one without a fitting stamp (a copy, say) is checked in full.

        Args:
            path: A release directory or a link to one.
            prepare: Called with the opened release before it answers.
            overlay: Puts the live catalog over a release.
        """
        path, integrity = path.resolve(), "stamp"
        try:
            release = Release.open(path, stamped=True)
        except ArtifactError:
            verify(path)
            release, integrity = Release.open(path), "verified"
        opened = cls(release, integrity, overlay)
        warm_up(opened.release)
        prepare(release)
        return opened

    def open_next(self, path: Path, prepare: Prepare) -> Opened:
        """Check the release at `path` in full, open and warm it, for `swap`.

        Raises:
            AisleError: It does not fit.
        """
        with self._loading:
            try:
                path = path.resolve()
                verify(path)
                release = Release.open(path)
            except OSError as e:  # a file where a folder belongs, no permission, a disk that fails
                raise ArtifactError(f"{path}: cannot be read: {e.strerror or e}") from None
            held = release if self._overlay is None else self._overlay(release)
            warm_up(held.current if isinstance(held, LiveRelease) else held)
            prepare(release)
        return Opened(release, held)

    def swap(self, to: Opened) -> Release:
        """Answer with it; the release before."""
        if isinstance(to.held, LiveRelease):  # what came into the catalog's log since it was opened
            to.held.take()
            to.held.absorb()
        with self._swapping:
            before, self._held, self.integrity = self.base, to.held, "verified"
        return before

    def check_in_background(self) -> threading.Thread:
        """Hash every file again, beside the answers; what is wrong is logged and said by GetStatus."""
        checking = threading.Thread(target=self._check, name="release-check", daemon=True)
        checking.start()
        return checking

    def _check(self) -> None:
        release, found = self.base, "verified"
        try:
            verify(release.path)
        except (AisleError, OSError) as e:
            found = str(e)
            _LOG.error("the release that answers is damaged: %s", found)
        if self.base is release:
            self.integrity = found


def warm_up(release: Release) -> None:
    """Answer a few made-up requests of every kind, so that the first real one finds mapped pages and warm code."""
    popular = release.fill[:_WARM_UP_EVENTS]
    for _ in range(_WARM_UP_ROUNDS):
        for history in (History(), made_up_history(popular, release.window_end)):
            for context in (popular[:0], popular[:1]):
                answer(release, Request(Query(release.window_end, history=history, context=context), 10))


def made_up_history(items: Array, until: int) -> History:
    """One success a minute with each of `items` int32 `[h]`, the last a minute before `until` (microseconds)."""
    n = len(items)
    times = until - MINUTE * np.arange(n, 0, -1, dtype=np.int64)
    types = np.full(n, EventType.PURCHASE_COMPLETE.code, np.int8)
    return History(items.astype(np.int32), times, types, np.ones(n, np.float32))
