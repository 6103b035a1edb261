"""How the workers of one server change the release together: a small folder in which one offers, the others say whether they can, and then all swap.

    offer      a release that a worker was told to load and has prepared
    release    the one that was last agreed on: every worker swaps to it as soon as it reads this, and starts with it when it is started again
    <number>   what worker `number` says of the newest of these: that it has prepared it, that it answers with it, or why it cannot

Nobody swaps before all have the release open, checked and warm; writing `release` is the one step that decides. A worker that refuses, or that says
nothing for too long, makes all of them keep what they have.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from core import atomic
from core.errors import AisleError, ArtifactError, BusyError

_LOG = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.1
_POLL_PREPARED_SECONDS: Final = 0.005  # once a swap is near: so far apart do the workers swap
_WAIT_SECONDS: Final = 60.0
_READY, _RUNS = "ready", "runs"

T = TypeVar("T")


class Swaps(Protocol):
    """What the board asks of the process it is in."""

    def prepare(self, path: Path) -> None:
        """Open, check and warm the release at `path`, in the place of what was prepared before. AisleError: it does not fit."""

    def swap(self) -> None:
        """Answer with what was prepared."""

    def drop(self) -> None:
        """Forget what was prepared."""


@dataclass(frozen=True)
class Notice:
    """A release on the board."""

    id: str
    path: str
    until: float = (
        0.0  # of an offer: CLOCK_MONOTONIC seconds, one clock for all processes; then whoever made it is gone
    )


@dataclass(frozen=True)
class Word:
    """What a worker says of the notice `id`."""

    id: str
    state: str
    problem: str = ""


class Board:
    """`folder` belongs to the server; this is worker `number` of `workers`."""

    def __init__(self, folder: Path, number: int, workers: int) -> None:
        self.folder, self.number, self.workers = folder, number, workers
        self._runs = self._prepared = self._leading = ""  # ids of notices
        self._failed = False

    def within(self, name: str) -> Board:
        """A board of the same workers for one of several things that they load."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Board(folder, self.number, self.workers)

    def announced(self) -> Path | None:
        """The release to start with: the one that was last agreed on; None before any was."""
        agreed = self._read("release")
        if agreed is None:
            return None
        self._runs = agreed.id
        return Path(agreed.path)

    def load(self, release: Path, swap: Callable[[], T]) -> tuple[T, int]:
        """Have every worker answer with `release`, which this one has prepared, or none; `swap` makes this one do so.

        Returns:
            What `swap` returned, and the number of workers that answer with the release now.

        Raises:
            ArtifactError: A worker cannot; all keep what they have.
            BusyError: A worker says nothing, or another release is being loaded.
        """
        with self._alone():
            offer = Notice(uuid.uuid4().hex, str(release), time.monotonic() + _WAIT_SECONDS)
            self._leading = offer.id
            try:
                self._put("offer", offer)
                self._agree(offer)
                self._put("release", offer)
            except BaseException as e:
                (self.folder / "offer").unlink(missing_ok=True)
                self._leading = ""
                if isinstance(e, OSError):
                    raise BusyError(f"the workers cannot agree, {self.folder}: {e.strerror or e}") from None
                raise
            done = swap()
            self._runs = offer.id
            self._say(offer.id, _RUNS)
            return done, self._count_running(offer)

    def follow(self, swaps: Swaps) -> None:
        """Do what the other workers agree on from now on, in a thread of its own."""
        threading.Thread(target=self._follow, args=(swaps,), name="release-board", daemon=True).start()

    def look(self, swaps: Swaps) -> None:
        """Do what the board asks for now. Called by one thread."""
        agreed, offer = self._read("release"), self._read("offer")
        if agreed is not None and agreed.id not in (self._runs, self._leading):
            self._take(agreed, swaps)
        elif offer is not None and offer.id not in (self._prepared, self._leading, self._runs) and _stands(offer):
            self._prepared = offer.id
            self._answer(offer, _READY, lambda: swaps.prepare(Path(offer.path)))
        elif self._prepared and (offer is None or offer.id != self._prepared or not _stands(offer)):
            swaps.drop()
            self._prepared = ""

    def _take(self, agreed: Notice, swaps: Swaps) -> None:
        """Swap to what was agreed on; a worker that was started in between has yet to prepare it."""

        def swap() -> None:
            if agreed.id != self._prepared:
                swaps.prepare(Path(agreed.path))
            swaps.swap()

        self._answer(agreed, _RUNS, swap)
        self._runs, self._prepared = agreed.id, ""

    def _answer(self, notice: Notice, state: str, do: Callable[[], None]) -> None:
        problem = ""
        try:
            do()
        except (AisleError, OSError) as e:
            problem = str(e) or type(e).__name__
            _LOG.error("worker %d keeps its release: %s", self.number, problem)
        self._say(notice.id, state, problem)

    def _follow(self, swaps: Swaps) -> None:
        pause = threading.Event()
        while True:
            try:
                self.look(swaps)
                self._failed = False
            except OSError as e:  # a full disk, say; it is looked at again
                if not self._failed:
                    _LOG.error("worker %d cannot use %s: %s", self.number, self.folder, e)
                self._failed = True
            pause.wait(_POLL_PREPARED_SECONDS if self._prepared else _POLL_SECONDS)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One release at a time: the kernel takes the lock from a worker that dies."""
        deadline = time.monotonic() + _WAIT_SECONDS
        with open(self.folder / "lock", "a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BusyError("another release is being loaded: try again") from None
                    threading.Event().wait(_POLL_SECONDS)
            yield

    def _agree(self, offer: Notice) -> None:
        """Return once every other worker has prepared `offer`."""
        others = [n for n in range(self.workers) if n != self.number]
        while True:
            said = {n: self._heard(n, offer) for n in others}
            for number, word in said.items():
                if word is not None and word.problem:
                    raise ArtifactError(f"worker {number} cannot load it, so all keep what they have: {word.problem}")
            if None not in said.values():
                return
            if not _stands(offer):
                silent = next(n for n, word in said.items() if word is None)
                raise BusyError(
                    f"worker {silent} has not said within {_WAIT_SECONDS:.0f} s whether it can load {offer.path}, "
                    "so all keep what they have: try again"
                )
            threading.Event().wait(_POLL_PREPARED_SECONDS)

    def _count_running(self, agreed: Notice) -> int:
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            words = [self._heard(n, agreed) for n in range(self.workers)]
            said = [w for w in words if w is not None and (w.state == _RUNS or w.problem)]
            if len(said) == self.workers or time.monotonic() > deadline:
                return sum(not w.problem for w in said)
            threading.Event().wait(_POLL_PREPARED_SECONDS)

    def _say(self, notice: str, state: str, problem: str = "") -> None:
        self._put(str(self.number), Word(notice, state, problem))

    def _put(self, name: str, what: Notice | Word) -> None:
        atomic.write_bytes(self.folder / name, json.dumps(asdict(what)).encode())

    def _read(self, name: str) -> Notice | None:
        try:
            return Notice(**json.loads((self.folder / name).read_bytes()))
        except FileNotFoundError:
            return None

    def _heard(self, number: int, notice: Notice) -> Word | None:
        try:
            word = Word(**json.loads((self.folder / str(number)).read_bytes()))
        except FileNotFoundError:
            return None
        return word if word.id == notice.id else None


def _stands(offer: Notice) -> bool:
    return time.monotonic() < offer.until
