"""The catalog's log: what was acknowledged is there, whoever dies when; what was not is there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog_entry import Entry, Kind, Listing, Listings, lasting
from core.catalog_log import HEADER, MAGIC, CatalogLog
from core.catalog_users import CatalogUser
from core.errors import ArtifactError


def write(log: CatalogLog, *texts: str) -> list[int]:
    return [log.append(text.encode) for text in texts]


def read(log: CatalogLog, after: int | None = None) -> list[str]:
    return [f"{n} {p.decode()}" for n, p in log.read(log.start if after is None else after)[0]]


def test_numbers_count_from_one_and_every_reader_sees_them_at_once(tmp_path: Path) -> None:
    one, other = CatalogLog(tmp_path), CatalogLog(tmp_path)
    assert other.committed == other.start == len(MAGIC)
    assert write(one, "a", "b") == [1, 2]
    assert write(other, "c") == [3]
    assert write(one, "d") == [4]
    assert read(one) == read(other) == ["1 a", "2 b", "3 c", "4 d"]
    _, end = one.read(one.start)
    assert read(other, end) == []
    write(one, "e")
    assert read(other, end) == ["5 e"]


def test_opened_again_it_goes_on(tmp_path: Path) -> None:
    log = CatalogLog(tmp_path)
    write(log, "a")
    log.close()
    again = CatalogLog(tmp_path)
    assert write(again, "b") == [2]
    assert read(again) == ["1 a", "2 b"]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 27), known=st.booleans())
def test_a_torn_tail_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int, known: bool) -> None:
    """`cut` bytes of a third frame of 28 (16 header, 12 payload) were written; `committed` was flushed with the second, or is lost."""
    folder = tmp_path_factory.mktemp("log")
    log = CatalogLog(folder)
    write(log, "a", "b")
    end = log.committed
    write(log, "c" * 12)
    log.close()
    assert (folder / "log").stat().st_size == end + 28
    os.truncate(folder / "log", end + cut)
    (folder / "committed").write_bytes(end.to_bytes(8, "little") if known else bytes(8))
    again = CatalogLog(folder)
    assert read(again) == ["1 a", "2 b"]
    assert (folder / "log").stat().st_size == end
    assert write(again, "d") == [3]
    assert read(again) == ["1 a", "2 b", "3 d"]


def test_a_torn_tail_under_a_living_reader_is_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    log, other = CatalogLog(tmp_path), CatalogLog(tmp_path)
    write(log, "a")
    with (tmp_path / "log").open("ab") as f:
        f.write(HEADER.pack(100, 0, 2) + b"half of it")
    assert read(other) == ["1 a"]
    assert write(other, "b") == [2]
    assert read(log) == ["1 a", "2 b"]


def test_a_whole_frame_that_nobody_was_told_of_is_adopted(tmp_path: Path) -> None:
    log = CatalogLog(tmp_path)
    write(log, "a")
    end = log.committed
    write(log, "b")
    log.close()
    (tmp_path / "committed").write_bytes(end.to_bytes(8, "little"))  # as if killed before it moved
    again = CatalogLog(tmp_path)
    assert read(again) == ["1 a", "2 b"]
    assert write(again, "c") == [3]


def test_a_hole_of_zeros_is_no_entry(tmp_path: Path) -> None:
    log = CatalogLog(tmp_path)
    write(log, "a")
    log.close()
    with (tmp_path / "log").open("ab") as f:
        f.write(bytes(4096))  # what a file system may leave after a loss of power
    again = CatalogLog(tmp_path)
    assert write(again, "b") == [2]
    assert read(again) == ["1 a", "2 b"]


def test_damage_of_what_was_acknowledged_is_refused_not_cut_off(tmp_path: Path) -> None:
    log = CatalogLog(tmp_path)
    write(log, "a", "b")
    log.close()
    data = bytearray((tmp_path / "log").read_bytes())
    data[len(MAGIC) + HEADER.size] ^= 1
    (tmp_path / "log").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"damaged at byte 16, and 34 bytes behind it were acknowledged"):
        CatalogLog(tmp_path)  # two frames of 16 + 1 bytes


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"aisle-catalog 9\n")
    with pytest.raises(ArtifactError, match="expected b'aisle-catalog 1"):
        CatalogLog(tmp_path)


def test_a_disk_that_is_full_takes_nothing_and_the_next_call_goes_on(tmp_path: Path) -> None:
    """The limit of the file's size stands in for a full disk: the kernel writes a part, then refuses."""
    code = """
import resource, signal, sys
from pathlib import Path
from core.catalog_log import CatalogLog
from core.catalog_users import CatalogUser
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = CatalogLog(Path(sys.argv[1]))
log.append(lambda: b"a")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    log.append(lambda: b"x" * 5000)
except OSError as e:
    print(e.strerror, log.append(lambda: b"b"), log.read(log.start)[0])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "File too large 2 [(1, b'a'), (2, b'b')]"


def test_many_threads_of_several_openers_write_every_entry_once(tmp_path: Path) -> None:
    logs = [CatalogLog(tmp_path) for _ in range(3)]
    given: list[int] = []

    def many(log: CatalogLog, name: int) -> None:
        for at in range(20):
            given.extend(write(log, f"{name}-{at}"))

    threads = [threading.Thread(target=many, args=(logs[n % 3], n)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(given) == list(range(1, 121))
    entries = read(logs[0])
    assert [int(e.split()[0]) for e in entries] == list(range(1, 121))
    assert len({e.split()[1] for e in entries}) == 120


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    """Writers are killed with signal 9 at moments that come as they come; each reports a number once its entry is acknowledged."""
    code = """
import sys
from pathlib import Path
from core.catalog_log import CatalogLog
log = CatalogLog(Path(sys.argv[1]))
while True:
    print(log.append(lambda: b"x" * (1 + log.committed % 3000)), flush=True)
"""
    reported = 0
    for stop_after in (1, 7, 23, 40):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(stop_after):
            reported = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split("\n")
        reported = max([reported, *(int(n) for n in rest[:-1])])
        entries = read(CatalogLog(tmp_path))
        assert len(entries) >= reported
        assert [int(e.split()[0]) for e in entries] == list(range(1, len(entries) + 1))


NAMES = ("a", "b", "c")
ENTRIES = st.lists(
    st.builds(
        lambda kind, ids, flag: Entry(
            kind,
            time=0,
            items=tuple({"item_id": i, "available": flag} for i in ids) if kind is Kind.UPSERT else (),
            item_ids=() if kind is Kind.UPSERT else ids,
            available=flag if kind is Kind.AVAILABILITY else False,
        ),
        st.sampled_from(Kind),
        st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple),
        st.booleans(),
    ),
    max_size=12,
)


def state(entries: list[Entry], seen: int) -> dict[str, tuple[bool, ...]]:
    """Of each item, in the table or not: whether it exists, and whether it may be shown where the table has it available or not."""
    listings = Listings()
    for entry in entries:
        if entry.sequence > seen:
            listings.apply(entry)
    found: dict[str, tuple[bool, ...]] = {}
    for name in NAMES:
        one = listings.of.get(name, Listing())
        shown = (one.holds(table, flag, 0) for table, flag in ((False, False), (True, False), (True, True)))
        found[name] = (one.there(False), one.there(True), *shown)
    return found


@settings(max_examples=300, deadline=None)
@given(entries=ENTRIES, seen=st.integers(0, 12))
def test_what_lasts_says_the_same_to_every_release(entries: list[Entry], seen: int) -> None:
    numbered = [replace(e, sequence=n) for n, e in enumerate(entries, 1)]
    left = lasting(numbered)
    assert state(left, seen) == state(numbered, seen)
    assert [e.sequence for e in left[-1:]] == [len(entries)][: len(entries)]  # the newest number is remembered
    assert lasting(left) == left
    # of each item at most the last upsert, deletion and availability remain
    assert sum(len(e.items) + len(e.item_ids) for e in left) <= 3 * len(NAMES)


def test_who_opens_the_log_alone_shortens_it(tmp_path: Path) -> None:
    user, log = CatalogUser(tmp_path, least=100), CatalogLog(tmp_path)
    for n in range(20):
        log.append(Entry(Kind.AVAILABILITY, n, item_ids=("a",), available=bool(n % 2)).payload)
    size = log.committed
    CatalogUser(tmp_path, least=100).close()
    assert log.committed == size  # not while somebody reads it
    log.close()
    user.close()
    CatalogUser(tmp_path, least=size + 1).close()
    assert (tmp_path / "log").stat().st_size == size  # too small to bother
    again = CatalogUser(tmp_path, least=size)
    log = CatalogLog(tmp_path)
    assert [(n, Entry.of(n, p).available) for n, p in log.read(log.start)[0]] == [(20, True)]
    assert log.append(Entry(Kind.DELETE, 1, item_ids=("a",)).payload) == 21
    other = CatalogLog(tmp_path)
    assert other.sequence == 21
    again.close()


def test_killed_while_shortening_either_log_is_whole(tmp_path: Path) -> None:
    """The three states that a kill can leave: nothing done, `committed` set back, the new log there."""
    log = CatalogLog(tmp_path)
    write(log, *"abcdef")
    log._committed[0] = 0  # the first step of `replace`, then a kill
    log.close()
    again = CatalogLog(tmp_path)
    assert len(read(again)) == 6
    again.replace([(6, b"all")])  # and a kill before anybody opened it
    again.close()
    last = CatalogLog(tmp_path)
    assert read(last) == ["6 all"]
    assert write(last, "g") == [7]
