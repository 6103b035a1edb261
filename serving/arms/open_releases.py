"""The releases of arms that are open in this process, beside the one that answers. A thread opens, warms and closes them; requests only look."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import AisleError
from serving.arms.at_work import AtWork
from serving.live_release import LiveRelease
from serving.private_logs import stack_of
from serving.release import Release
from serving.resident import Opened, Resident

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenRelease:
    """One of them, with the live catalog over it where there is one."""

    held: Release | LiveRelease

    @property
    def base(self) -> Release:
        """As it was published."""
        return self.held.base if isinstance(self.held, LiveRelease) else self.held

    @property
    def current(self) -> Release:
        """What a request that begins now is answered from."""
        return self.held.current if isinstance(self.held, LiveRelease) else self.held


class OpenReleases:
    """Safe for many threads.

    Args:
        resident: What answers. An arm that names the same directory shares what is open of it, and keeps it when another is swapped in.
        open_: Checks, opens and warms a release. AisleError: it does not fit.
        ready: What a release still waits for, such as its user state in Redis; empty for nothing.
        most: That may be open beside the one that answers.
        seconds: Between two looks.
        at_work: Notes what is being opened.
    """

    def __init__(
        self,
        resident: Resident,
        open_: Callable[[Path], Opened],
        ready: Callable[[Release], str],
        most: int,
        seconds: float,
        at_work: AtWork | None = None,
    ) -> None:
        self._at_work = at_work or AtWork(None)
        self._resident, self._open_, self._ready, self._most, self._seconds = resident, open_, ready, most, seconds
        self._open: dict[Path, OpenRelease] = {}  # never changed: another takes its place
        self._waiting: dict[Path, OpenRelease] = {}  # opened, and not ready yet
        self._problems: dict[Path, str] = {}
        self._failed: set[Path] = set()  # damaged: not tried again while somebody wants them
        self._wanted: Callable[[], Sequence[Path]] = tuple
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, wanted: Callable[[], Sequence[Path]]) -> None:
        """Open what is wanted from now on, and close what is not any more."""
        self._wanted = wanted
        self._thread = threading.Thread(target=self._run, name="arm-releases", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let go of what is open; requests are over."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._open, self._waiting = {}, {}

    def of(self, path: Path) -> OpenRelease | None:
        """The release in a directory; None while it is not open."""
        return self._open.get(path)

    def named(self, name: str) -> OpenRelease | None:
        """The open one of that name, the directory's."""
        return next((one for path, one in self._open.items() if path.name == name), None)

    def every(self) -> list[Release]:
        """All that are open."""
        return [one.current for one in self._open.values()]

    def problem(self, path: Path) -> str:
        """Why one that is wanted is not open; empty where it is."""
        return "" if path in self._open else self._problems.get(path, "is being opened")

    def look(self) -> None:
        """Open and close. Called by one thread."""
        wanted = list(dict.fromkeys(self._wanted()))
        self._failed &= set(wanted)
        self._open = {path: one for path, one in self._open.items() if path in wanted}
        self._waiting = {path: one for path, one in self._waiting.items() if path in wanted}
        self._problems = {path: why for path, why in self._problems.items() if path in wanted}
        for path in wanted[self._most :]:
            self._problems[path] = f"{self._most} others are open: more than experiments.releases allows"
        for path in wanted[: self._most]:
            shared = self._resident.held
            if OpenRelease(shared).base.path == path:  # also one that was loaded after an arm had it
                self._take(path, OpenRelease(shared))
            elif path not in self._open and path not in self._failed and not self._stopping.is_set():
                self._bring(path)

    def _bring(self, path: Path) -> None:
        try:
            with self._at_work.on(path):
                one = self._waiting.get(path) or OpenRelease(self._open_(path).held)
        except AisleError as e:
            self._problems[path] = str(e)
            self._failed.add(path)
            _LOG.error("an experiment waits, %s cannot be opened: %s", path, e)
            return
        why = self._ready(one.base)
        if why and self._problems.get(path) != why:
            _LOG.warning("an experiment waits for %s: %s", path.name, why)
        if why:
            self._waiting[path], self._problems[path] = one, why
            return
        self._take(path, one)
        _LOG.warning("the release %s of an arm is open", path.name)

    def _take(self, path: Path, one: OpenRelease) -> None:
        self._waiting.pop(path, None)
        self._problems.pop(path, None)
        self._open = {**self._open, path: one}

    def _follow(self) -> None:
        """What the shop upserted gets its vectors. In a frame of its own, which keeps nothing that is closed."""
        for one in self._open.values():
            if isinstance(one.held, LiveRelease):
                _ = one.held.current
                one.held.absorb()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._seconds
            try:
                self.look()
                self._follow()
            except Exception as e:  # noqa: BLE001 - the next look may be fine, and requests go on
                _LOG.error("the releases of arms were not looked after\n%s", stack_of(e))
