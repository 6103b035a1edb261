"""The offline half of forgetting people: their rows leave the data, the work directory and Redis, then every file is searched for what is left.

The order is what makes a kill harmless: a wish (serving.forget) is fulfilled only when the search found nothing, so that the next run does again
what this one did not finish; every step finds its work by the ids themselves and has nothing to do where it is done. Redis comes last because
the wish is in it: once its place holds a mark, the append-only file is written anew without any id, and then the mark goes.

Who comes back between the wish and this run is forgotten up to this run; who comes back after it is a new person with a new row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from core import atomic
from core.erasure import Forgotten
from core.errors import ArtifactError, BusyError, EnvironmentGapError
from core.event_log import RECOMMENDATIONS, SINK
from core.schema import REJECTED, Table
from core.work import Work
from pipeline import sink
from pipeline.erase_artifacts import erase_artifacts, repair
from pipeline.erase_search import still_held
from pipeline.erase_spool import erase_spool
from pipeline.erase_sqlite import erase_sqlite, is_sqlite
from pipeline.erase_tables import Tally, erase_table, is_table
from serving.config import ServingConfig
from serving.embedded_redis import EmbeddedRedis
from serving.forget import Wishes, forget, rewrite, sweep
from serving.keys import Keys, session_key
from serving.redis_link import address, client

Say = Callable[[str], None]
FEATURES: Final = "features"
_TABLES_OF_PEOPLE: Final = (str(Table.EVENTS), str(Table.USERS), RECOMMENDATIONS, REJECTED)  # folders of DATA
_TIMEOUT_SECONDS: Final = 60.0
_REWRITE_SECONDS: Final = 600.0
_OWN_SEARCH: Final = frozenset(
    {"releases", "redis"}
)  # of WORK: not for the search of the files; the one holds no people, the other comes last


@dataclass
class Erased:
    """What was done. `left`: files that still name somebody; `short`: how many ids were too short to be searched for in texts."""

    requests: int = 0
    rows_removed: int = 0
    files_rewritten: int = 0
    keys_removed: int = 0
    left: list[str] = field(default_factory=list)
    short: int = 0
    seconds: float = 0.0

    def check(self) -> None:
        """Raise if anything is left.

        Raises:
            ArtifactError: With the files.
        """
        if self.left:
            raise ArtifactError(
                f"{len(self.left)} files still name who is to be forgotten: {', '.join(self.left[:5])}"
                f"{' ...' if len(self.left) > 5 else ''}; remove or repair them and run `./aisle users erase` again: the wishes wait"
            )


@contextmanager
def reached(work: Work, url: str | None) -> Iterator[redis.Redis | None]:
    """A client of the Redis at `url`, or of our own under WORK/redis, which is started if it does not run. None: there never was one.

    Raises:
        EnvironmentGapError: It does not answer, or stops to.
    """
    if url is None and not (work.root / "redis").is_dir():
        yield None
        return
    embedded = EmbeddedRedis(work.root / "redis") if url is None else None
    try:
        if embedded is not None:
            embedded.launch()
            embedded.wait()
        store = client(url or (embedded.url if embedded else ""), _TIMEOUT_SECONDS, retries=0)
        try:
            store.ping()
            yield store
        except redis.RedisError as e:
            raise EnvironmentGapError(
                f"Redis at {address(url or str(work.root / 'redis'))}: {e}; run it again"
            ) from None
    finally:
        if embedded is not None:
            embedded.stop()


def run(
    data: Path,
    work: Work,
    store: redis.Redis | None,
    config: ServingConfig,
    say: Say,
    people: Iterable[tuple[str, str]] = (),
) -> Erased:
    """Forget whoever asked for it, and `people`. The caller holds the work directory's lock, and calls `check` on the result.

    Args:
        data: The data directory.
        work: The work directory.
        store: The Redis (`reached`); None: there is none, and `people` are all.
        config: For the tenant, and where the spool is.
        say: Progress, without ids.
        people: (user id, visitor id) of each, empty where there is none.

    Raises:
        InputError: A file cannot be read; everything else is as far as it was, and the wishes wait.
    """
    start, done, tally = time.perf_counter(), Erased(), Tally()
    repair(work)
    wishes = Wishes(store, Keys(config.tenant)) if store is not None else None
    pending: dict[str, tuple[str, str]] = wishes.pending() if wishes else {}
    named = list(people)
    gone = Forgotten.of([*pending.values(), *named])
    done.requests, done.short = len(pending) + len(named), len(gone.short)
    if gone:
        say(f"forgetting {len(gone.users)} users and {len(gone.visitors)} visitors")
        spool = config.events.spool_folder(work.root)
        if spool is not None and spool.is_dir() and erase_spool(spool, gone, tally):
            say("spool: rewritten")
        if store is not None:
            done.keys_removed += _forget_online(store, config, gone, tally, say)
        with ExitStack() as stack:
            _hold_the_sink(stack, data, say)
            _erase_data(data, gone, tally, say)
        erase_artifacts(work, gone, tally, say)
        _erase_features(work.root / FEATURES, gone, tally, say)
        say("searching every file for what is left")
        done.left = _named(still_held(_roots(data, work, spool), gone), data, work)
        if store is not None:
            # again: live lists by the sessions of the log, and what came meanwhile
            done.keys_removed += _forget_online(store, config, gone, tally, say)
    done.rows_removed, done.files_rewritten = tally.rows, tally.files
    if wishes is not None and store is not None and not done.left:
        _finish(wishes, store, list(pending), gone, say)
        done.left = _named(still_held(_redis_files(store, work), gone), data, work) if gone else []
    done.seconds = round(time.perf_counter() - start, 2)
    return done


def _forget_online(store: redis.Redis, config: ServingConfig, gone: Forgotten, tally: Tally, say: Say) -> int:
    keys = Keys(config.tenant)
    removed = forget(store, keys, gone)
    lists = [keys.live(session_key(s)) for s in sorted(tally.sessions)]
    total = sum(int(store.delete(*lists[at : at + 1_000])) for at in range(0, len(lists), 1_000)) + sweep(store, gone)
    total += removed.histories + removed.live_lists + removed.events + removed.pages
    say(f"Redis: {total} keys and entries removed")
    return total


def _hold_the_sink(stack: ExitStack, data: Path, say: Say) -> None:
    """Keep `events sink` from writing files meanwhile, if it ever does here."""
    if (data / SINK).is_dir():
        try:
            stack.enter_context(sink.locked(data))
        except BusyError:
            say("events are being moved to the log: what comes meanwhile is looked for at the end")
            return
    _sweep(data)


def _sweep(root: Path) -> None:
    """Remove what a killed run left half-written, wherever it is below `root`."""
    for folder in {f.parent for f in root.rglob(".tmp-*")}:
        atomic.sweep(folder)


def _erase_data(data: Path, gone: Forgotten, tally: Tally, say: Say) -> None:
    for folder in _TABLES_OF_PEOPLE:
        for path in sorted(p for p in (data / folder).rglob("*") if p.is_file() and is_table(p)):
            # names that begin with . or _ are not data, and left to the search
            if any(p[0] in "._" for p in path.relative_to(data).parts) or not path.stat().st_size:
                continue
            if erase_table(path, gone, tally, strict=folder == REJECTED):
                say(f"{path.relative_to(data)}: rewritten")


def _erase_features(folder: Path, gone: Forgotten, tally: Tally, say: Say) -> None:
    _sweep(folder)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size):
        if is_table(path) and path.suffix != ".json":
            changed = erase_table(path, gone, tally, strict=True)
        else:
            changed = is_sqlite(path) and erase_sqlite(path, gone, tally)
        if changed:
            say(f"{FEATURES}/{path.relative_to(folder)}: rewritten")


def _roots(data: Path, work: Work, spool: Path | None) -> list[Path]:
    inside = [p for p in sorted(work.root.iterdir()) if p.name not in _OWN_SEARCH]
    return [data, *inside, *([spool] if spool is not None else [])]


def _redis_files(store: redis.Redis, work: Work) -> list[Path]:
    """Our own Redis's folder, and where this one keeps its files, if that is on this machine."""
    settings: Any = store.config_get("dir")
    folder = Path(settings.get("dir", ""))
    return [work.root / "redis", *([folder / n for n in _file_names(store) if n] if folder.is_absolute() else [])]


def _file_names(store: redis.Redis) -> list[str]:
    names: Any = [
        store.config_get(setting).get(setting, "") for setting in ("appendfilename", "appenddirname", "dbfilename")
    ]
    return list(names)


def _finish(wishes: Wishes, store: redis.Redis, names: list[str], gone: Forgotten, say: Say) -> None:
    """Nothing of the wishes, nor of commands that named somebody, stays in the append-only file."""
    wishes.fulfilled(names)
    marks = wishes.marks()
    if marks or gone:
        say("writing the append-only file of Redis anew")
        if not rewrite(store, _REWRITE_SECONDS):
            say("this Redis keeps no append-only file; its snapshots, if any, are its operator's")
        wishes.clear(marks)


def _named(files: list[Path], data: Path, work: Work) -> list[str]:
    """For people: below DATA or WORK."""
    homes = {"WORK": work.root.resolve(), "DATA": data.resolve()}
    found = []
    for file in (f.resolve() for f in files):
        home = next((n for n, root in homes.items() if file.is_relative_to(root)), None)
        found.append(f"{home}/{file.relative_to(homes[home])}" if home else str(file))
    return found
