"""Workers change the release together, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import ArtifactError, BusyError
from serving import board
from serving.board import Board

NEW = Path("/releases/new")


class Worker:
    """One of several: notes in a list that all share what it is told."""

    def __init__(self, folder: Path, number: int, workers: int, notes: list[str], refuses: str = "") -> None:
        self.board = Board(folder, number, workers)
        self.board.announced()
        self._number, self._notes, self._refuses = number, notes, refuses

    def prepare(self, path: Path) -> None:
        if self._refuses:
            raise ArtifactError(self._refuses)
        self._notes.append(f"{self._number} prepared {path.name}")

    def swap(self) -> None:
        self._notes.append(f"{self._number} swapped")

    def drop(self) -> None:
        self._notes.append(f"{self._number} dropped")

    def load(self, path: Path = NEW) -> tuple[str, int]:
        """As the worker that was told to load a release: it has prepared it before it asks the others."""
        self.prepare(path)

        def swap() -> str:
            self.swap()
            return "the one before"

        return self.board.load(path, swap)


@pytest.fixture
def following() -> Iterator[Callable[[Worker], None]]:
    """Lets workers look at the board until the test ends."""
    enough, threads = threading.Event(), []

    def follow(worker: Worker) -> None:
        def run() -> None:
            while not enough.wait(0.001):
                worker.board.look(worker)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield follow
    enough.set()
    for thread in threads:
        thread.join()


def test_all_have_prepared_before_one_swaps(tmp_path: Path, following: Callable[[Worker], None]) -> None:
    notes: list[str] = []
    first, *others = (Worker(tmp_path, n, 3, notes) for n in range(3))
    for other in others:
        following(other)
    assert first.load() == ("the one before", 3)
    assert notes[0] == "0 prepared new"
    assert set(notes[1:3]) == {"1 prepared new", "2 prepared new"}
    assert set(notes[3:]) == {"0 swapped", "1 swapped", "2 swapped"}
    assert len(notes) == 6  # nobody does anything twice
    assert Worker(tmp_path, 1, 3, notes).board.announced() == NEW  # one that is started again begins with it


def test_where_one_refuses_nobody_swaps(tmp_path: Path, following: Callable[[Worker], None]) -> None:
    notes: list[str] = []
    first, willing, unwilling = (Worker(tmp_path, n, 3, notes, "too old" if n == 2 else "") for n in range(3))
    following(willing)
    following(unwilling)
    with pytest.raises(ArtifactError, match="worker 2 cannot load it, so all keep what they have: too old"):
        first.load()
    assert not any("swapped" in n for n in notes)
    assert Worker(tmp_path, 1, 3, notes).board.announced() is None
    # the next one is taken, by all: a refusal leaves nothing behind
    unwilling._refuses = ""
    assert first.load(Path("/releases/newer")) == ("the one before", 3)
    assert {n for n in notes if "swapped" in n} == {"0 swapped", "1 swapped", "2 swapped"}


def test_what_was_prepared_in_vain_is_dropped(tmp_path: Path) -> None:
    notes: list[str] = []
    first, second = (Worker(tmp_path, n, 3, notes) for n in range(2))

    def refused() -> None:
        with pytest.raises(ArtifactError):
            first.load()

    refusing = threading.Thread(target=refused)
    refusing.start()
    while "1 prepared new" not in notes:
        second.board.look(second)
    third = Worker(tmp_path, 2, 3, notes, "no")
    third.board.look(third)
    refusing.join()
    second.board.look(second)
    assert notes == ["0 prepared new", "1 prepared new", "1 dropped"]


def test_where_one_says_nothing_nobody_swaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_WAIT_SECONDS", 0.1)
    notes: list[str] = []
    first = Worker(tmp_path, 0, 2, notes)
    with pytest.raises(BusyError, match="worker 1 has not said"):
        first.load()
    assert notes == ["0 prepared new"]


def test_a_worker_that_was_started_in_between_takes_what_was_agreed(
    tmp_path: Path, following: Callable[[Worker], None]
) -> None:
    notes: list[str] = []
    first, second = (Worker(tmp_path, n, 2, notes) for n in range(2))
    late = Worker(tmp_path, 1, 2, notes)  # opened its release before the others agreed on another
    following(second)
    first.load()
    notes.clear()
    late.board.look(late)
    assert notes == ["1 prepared new", "1 swapped"]
    late.board.look(late)
    assert len(notes) == 2


def test_one_release_at_a_time(tmp_path: Path, following: Callable[[Worker], None]) -> None:
    notes: list[str] = []
    first, second = (Worker(tmp_path, n, 2, notes) for n in range(2))
    following(first)
    following(second)
    loading = [threading.Thread(target=w.load, args=(Path(f"/releases/{n}"),)) for n, w in enumerate((first, second))]
    for thread in loading:
        thread.start()
    for thread in loading:
        thread.join()
    assert first.board.announced() == second.board.announced()
    assert sum("swapped" in n for n in notes) == 4
