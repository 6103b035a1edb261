"""Promote and rollback: another release becomes current, and the servers that are named answer with it before the command returns.

Servers first, the link last: one that cannot take the release makes those that could go back, and nothing has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.artifact import open_artifact, verify
from core.errors import AisleError, ArtifactError, GateRefused, NotFoundError
from core.history import Query
from core.release import FORMAT_VERSION, KIND
from core.work import Work
from pipeline.registry import history
from pipeline.registry.find import Known, folder, named
from serving.answers import Request
from serving.client import Client
from serving.release import Release
from serving.request_path import answer
from serving.resident import warm_up
from serving.user_state import state_id

Say = Callable[[str], None]
_PAGE = 10


@dataclass(frozen=True)
class Told:
    """What a server said to LoadRelease."""

    server: str
    release: str
    workers: int
    seconds: float
    user_state: bool  # the Redis has the histories of this release; without them its answers are degraded


@dataclass(frozen=True)
class Switched:
    """What became of it."""

    release: str
    previous: str
    servers: list[Told]
    seconds: float

    def result(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def promote(work: Work, to: Known, servers: Sequence[str], why: str, say: Say, *, force: bool = False) -> Switched:
    """Make `to` current once it is checked: every file, a page for a stranger, its user state, the gates of its night.

    Args:
        work: The work directory that it is in.
        to: The release.
        servers: HOST:PORT of each that shall answer with it at once; they see the same path.
        why: For the history.
        say: Progress.
        force: Whatever the gates say, or if nothing is recorded of them.

    Raises:
        GateRefused: Its night was refused, or nothing says that it was not.
        AisleError: It is not whole, or a server cannot take it; all is as before.
    """
    start = time.perf_counter()
    if not force:
        _gated(to)
    say(f"checking {to.name}")
    verify(to.path)
    check(work, to)
    with history.locked(work):
        told = _load(to.path, _path(work, history.current(work)), servers, say)
        change = history.point(work, to.name, history.PROMOTE, why)
    return Switched(to.name, change.before if change else to.name, told, time.perf_counter() - start)


def rollback(work: Work, servers: Sequence[str], why: str, say: Say) -> Switched:
    """Make current what was so before. It was checked when it was made current: its stamp and its servers' own check must do.

    Raises:
        NotFoundError: History knows of none.
        AisleError: It is not whole any more, or a server cannot take it; all is as before.
    """
    start = time.perf_counter()
    folder(work)
    with history.locked(work):
        now, before = history.current(work), history.previous(work)
        if before is None:
            raise NotFoundError(
                f"{work.releases / history.FILE}: names no release before {now or 'the first'} that is still there; "
                f"`./aisle releases promote NAME --work {work.root}` makes any current"
            )
        to = named(Path(before), work.root)
        try:
            open_artifact(to.path, kind=KIND, format_version=FORMAT_VERSION, stamped=True)
        except ArtifactError:
            verify(to.path)
        told = _load(to.path, _path(work, now), servers, say)
        history.point(work, to.name, history.ROLLBACK, why)
    return Switched(to.name, now, told, time.perf_counter() - start)


def check(work: Work, release: Known) -> Release:
    """Open the release as a server does, ask it for a page, and see that the user state it was made with is there.

    Raises:
        AisleError: Something does not fit.
    """
    opened = Release.open(release.path, stamped=True)
    warm_up(opened)
    if not len(answer(opened, Request(Query(opened.window_end), _PAGE)).rows):
        raise ArtifactError(f"{release.path}: has not one item for a stranger's page")
    state = work.user_state(opened.window_end)
    if not state.exists():
        raise NotFoundError(
            f"{state}: the user state of {release.name} is not there; pull or publish the release again"
        )
    if (found := state_id(state)) != opened.state_id:
        raise ArtifactError(
            f"{state}: user state {found[:12]}, but {release.name} was made with {opened.state_id[:12] or 'none'}: "
            "pull or publish the release again"
        )
    return opened


def _gated(release: Known) -> None:
    hint = "--force promotes it all the same"
    if release.gates is None:
        raise GateRefused([f"{release.name} has no record of gates: {hint}"], "not promoted")
    if refused := [f"{g['gate']}: {g['reason']}" for g in release.gates if not g["passed"]]:
        raise GateRefused([*refused, hint], "not promoted")


def _path(work: Work, name: str) -> Path | None:
    path = work.releases / name
    return path if name and path.is_dir() else None


def _go_back(server: str, to: Path, say: Say) -> None:
    try:
        with Client(server) as client:
            say(f"{server} went back to {client.load_release(str(to)).release}")
    except AisleError as e:
        say(f"warning: {server} did not go back: {e}")


def _load(to: Path, before: Path | None, servers: Sequence[str], say: Say) -> list[Told]:
    """Every server answers with `to`, or each with `before`."""
    told: list[Told] = []
    for server in servers:
        try:
            with Client(server) as client:
                loaded = client.load_release(str(to))
                state = client.status().redis.user_state
        except AisleError:
            if before is not None:
                for done in told:
                    _go_back(done.server, before, say)
            raise
        told.append(Told(server, loaded.release, loaded.workers, round(loaded.seconds, 3), state))
        say(f"{server} answers with {loaded.release}, was {loaded.previous}, {loaded.seconds:.2f} s")
        if not state:
            say(f"warning: the Redis of {server} lacks the user state of {loaded.release}: run `./aisle materialize`")
    return told
