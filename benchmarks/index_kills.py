"""kill -9 at random moments of building, appending, deleting, compacting and replacing a small index: what a reader then finds.

The writer is a process of its own and says what it finished; the reader holds the index against the catalogue that those words imply: the state
before the step under way, or after it, complete either way.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import artifact
from core.columns import Array
from core.config import IndexConfig, load_pipeline
from core.errors import NotFoundError
from index_builder.build import build_index
from index_builder.search import open_index
from index_builder.segments import LOCK, SEGMENTS, read_state
from index_builder.writer import index_writer

Say = Callable[[str], None]

_ITEMS: Final = 600
_MOST: Final = 4 * _ITEMS  # rows that there ever are
_D: Final = 16
_EMBEDDING: Final = "kills"
_LIFE: Final = 40  # steps until a new index is begun
_KINDS: Final = ("ivf-sq8", "exact", "ivf-flat", "hnsw", "ivf-pq")
_VERBS: Final = ("append", "delete", "append", "compact", "delete", "publish", "append", "rebuild")
_MOMENTS: Final = (0.01, 0.1, 1.0)  # seconds from the end of a step to the kill, at most: a file, a change, a build


def vectors_of(seed: int) -> Array:
    """The vector of every row that ever may be there, float32 `[_MOST, _D]`."""
    return np.random.default_rng(seed).normal(size=(_MOST, _D)).astype(np.float32)


def steps(seed: int) -> Iterator[tuple[str, Array]]:
    """What a writer does with the index, in order: (verb, rows). The reader knows too."""
    rng = np.random.default_rng(seed)
    yield "build", np.arange(_ITEMS)
    for at in range(_LIFE):
        verb = _VERBS[at % len(_VERBS)]
        yield verb, rng.choice(_MOST if verb == "append" else _ITEMS, 30, replace=False)


def catalogue_after(seed: int, done: int) -> Array:
    """Bool `[_MOST]`: the rows that are there after so many steps."""
    alive = np.zeros(_MOST, bool)
    for verb, rows in list(steps(seed))[:done]:
        if verb in ("build", "rebuild"):
            alive[:] = np.arange(_MOST) < _ITEMS
        elif verb in ("append", "delete"):
            alive[rows] = verb == "append"
    return alive


def config_of(seed: int) -> IndexConfig:
    """Another kind of index for each seed."""
    kind = _KINDS[seed % len(_KINDS)]
    change = {"exact_below": 10**9} if kind == "exact" else {"exact_below": 0, "kinds": {kind: (0, None)}}
    return load_pipeline().index.model_copy(update={"k": 10, **change})


def work(folder: Path, seed: int, done: int) -> None:
    """Go on after `done` steps; one line on stdout for each that is finished."""
    vectors, config = vectors_of(seed), config_of(seed)
    first, queries = vectors[:_ITEMS], vectors[-20:]
    for at, (verb, rows) in enumerate(steps(seed)):
        if at < done:
            continue
        if verb == "build":
            build_index(first, queries, _EMBEDDING, config, folder, _silent)
        elif verb == "publish":
            path = folder.parent / "releases" / f"{at}"
            with artifact.publish(path, kind="index", format_version=1, id=f"{at}") as draft:
                build_index(first, queries, _EMBEDDING, config, draft.path, _silent)
        else:
            with index_writer(folder, first, _EMBEDDING) as writer:
                if verb == "append":
                    writer.append(rows, vectors[rows])
                elif verb == "delete":
                    writer.delete(rows[rows < writer.state.rows])
                elif verb == "compact":
                    writer.compact()
                else:
                    writer.rebuild(first, queries, _EMBEDDING, config, _silent)
        os.write(1, b"step\n")


def kill_writers(kills: int, seed: int, say: Say) -> dict[str, Any]:
    """Kill `kills` writers; every time the index must be whole, and the next writer goes on with it.

    Returns:
        kills; `wrong`: times that it was neither the old nor the new one; `left`: times that a killed writer left files behind; `uncleaned`: files that
        were still there after another writer; `lives`: indexes it took.
    """
    draw, found = random.Random(seed), {"kills": 0, "wrong": 0, "left": 0, "uncleaned": 0, "lives": 0}
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.index_kills"], stdin=-1, stdout=-1, text=True, bufsize=1
    ) as nursery:
        assert nursery.stdin is not None
        while found["kills"] < kills:
            with tempfile.TemporaryDirectory(prefix="aisle-kills-") as name:
                _life(Path(name) / "index", found["lives"], kills, nursery, draw, found)
            found["lives"] += 1
            say(f"{found}")
        nursery.stdin.close()
    return found


def _life(
    folder: Path, seed: int, kills: int, nursery: subprocess.Popen[str], draw: random.Random, found: dict[str, int]
) -> None:
    """One index from its first build on, its writers killed until all steps are done."""
    done = 0
    while done <= _LIFE and found["kills"] < kills:
        more = _killed(nursery, folder, seed, done, draw)
        found["kills"] += 1
        whole = _releases_are_whole(folder.parent / "releases", seed)
        state = _steps_done(folder, seed, done + more)
        found["wrong"] += not whole or state is None
        found["left"] += bool(_leftovers(folder))
        done = done + more if state is None else state
    if done and (folder / SEGMENTS).exists():
        with index_writer(folder, vectors_of(seed)[:_ITEMS], _EMBEDDING):
            found["uncleaned"] += len(_leftovers(folder))


def _killed(nursery: subprocess.Popen[str], folder: Path, seed: int, done: int, draw: random.Random) -> int:
    """Start a writer, kill it at a random moment after a random step: how many steps it finished."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{folder} {seed} {done}\n")
    wanted, finished, process = draw.randrange(4), 0, 0
    while not process or finished < wanted:
        line = nursery.stdout.readline().split()
        if line[0] == "end":
            return finished
        process = int(line[1]) if line[0] == "pid" else process
        finished += line[0] == "step"
    select.select([], [], [], draw.uniform(0, draw.choice(_MOMENTS)))
    os.kill(process, signal.SIGKILL)  # it may have ended, but its number is still its own
    while (line := nursery.stdout.readline().split())[0] != "end":
        finished += line[0] == "step"
    return finished


def _steps_done(folder: Path, seed: int, finished: int) -> int | None:
    """After how many steps the index is what is found; None if it is neither the last one said to be done nor the next."""
    vectors = vectors_of(seed)
    try:
        index = open_index(folder, vectors[:_ITEMS], _EMBEDDING, verify=True)
    except NotFoundError:
        return 0 if finished == 0 else None
    rows, scores = index.search(vectors[:1], _MOST)
    there = np.zeros(_MOST, bool)
    there[rows[0][rows[0] >= 0]] = True
    right = np.allclose(scores[0][rows[0] >= 0], vectors[rows[0][rows[0] >= 0]] @ vectors[0], atol=0.05)
    for done in (finished, finished + 1):
        if right and np.array_equal(there, catalogue_after(seed, done)):
            return done
    return None


def _releases_are_whole(folder: Path, seed: int) -> bool:
    """Whether every index that was published verifies and opens."""
    for path in folder.glob("[0-9]*"):
        artifact.verify(path)
        open_index(path, vectors_of(seed)[:_ITEMS], _EMBEDDING)
    return True


def _leftovers(folder: Path) -> list[Path]:
    """Files that are not of the live set."""
    alive = {LOCK, SEGMENTS, *(read_state(folder).files if (folder / SEGMENTS).exists() else ())}
    return [p for p in folder.glob("*") if p.name not in alive] if folder.exists() else []


def _silent(_: str) -> None:
    """No progress."""


def _nursery() -> None:
    """Read "folder seed done" from stdin, and fork a writer for each: importing FAISS anew would take longer than its life."""
    process = 0
    for line in sys.stdin:
        if process:
            os.waitpid(process, 0)
        folder, seed, done = line.split()
        process = os.fork()
        if not process:
            work(Path(folder), int(seed), int(done))
            os._exit(0)
        os.write(1, f"pid {process}\n".encode())
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        os.write(1, b"end\n")


if __name__ == "__main__":
    _nursery()
