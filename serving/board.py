"""How the workers of one server agree on the release: a small folder in which one announces and the others follow."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import atomic
from core.errors import AisleError, ArtifactError

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Board:
    """`folder` belongs to the server; worker `number` of `workers` writes `<number>` there: the release it runs, or why it does not."""

    folder: Path
    number: int
    workers: int

    def announced(self) -> Path | None:
        """The release that was last announced; None before any was."""
        try:
            return Path((self.folder / "release").read_text())
        except FileNotFoundError:
            return None

    def announce(self, release: Path) -> int:
        """Have every worker load `release`, which this one runs already. The number of workers that run it.

        Raises:
            ArtifactError: A worker could not.
        """
        self._say(release, "")
        atomic.write_bytes(self.folder / "release", str(release).encode())
        deadline = time.monotonic() + _WAIT_SECONDS
        said: list[str | None] = []
        while time.monotonic() < deadline:
            said = [self._heard(n, release) for n in range(self.workers)]
            if problems := [s for s in said if s]:
                raise ArtifactError(f"this worker answers with {release.name}, another does not: {problems[0]}")
            if None not in said:
                break
            threading.Event().wait(_POLL_SECONDS / 4)
        return said.count("")

    def follow(self, load: Callable[[Path], None]) -> None:
        """Call `load` with each release announced from now on, in a thread of its own."""
        threading.Thread(target=self._follow, args=(load, self.announced()), name="release-board", daemon=True).start()

    def _follow(self, load: Callable[[Path], None], seen: Path | None) -> None:
        pause = threading.Event()
        while True:
            release = self.announced()
            if release is not None and release != seen:
                problem = ""
                try:
                    load(release)
                except AisleError as e:
                    problem = str(e)
                    _LOG.error("worker %d keeps its release: %s", self.number, problem)
                seen = release
                self._say(release, problem)
            pause.wait(_POLL_SECONDS)

    def _say(self, release: Path, problem: str) -> None:
        atomic.write_bytes(self.folder / str(self.number), json.dumps([str(release), problem]).encode())

    def _heard(self, number: int, release: Path) -> str | None:
        """What worker `number` says of `release`: "" it runs it, a problem, or None: nothing yet."""
        try:
            about, problem = json.loads((self.folder / str(number)).read_bytes())
        except FileNotFoundError:
            return None
        return str(problem) if about == str(release) else None
