"""The spool: what it confirmed is read again, whole frames only, by one owner at a time."""

import multiprocessing
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.failures import StoreError
from serving.spool import Spool

LIMIT = 1_000_000


def held(spool: Spool) -> list[bytes]:
    return [payload for segment in spool.segments for _, payload in segment.frames()]


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    for n in range(5):
        spool.append(b"event %d" % n)
    assert held(spool) == [b"event %d" % n for n in range(5)]
    assert spool.size == 5 * (8 + 7)  # a header of 8 bytes and 7 of payload
    spool.close()


def test_a_file_has_one_owner_and_the_next_adopts_it(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, LIMIT), Spool(tmp_path, LIMIT)
    first.append(b"a")
    assert second.adopt() == 0
    assert first.adopt() == 0  # its own are not adopted either
    first.close()
    assert second.adopt() == 1
    second.append(b"b")
    assert held(second) == [b"a", b"b"]  # what is adopted comes first, and nothing is appended to it
    assert len(second.segments) == 2
    second.close()


def test_a_segment_goes_when_all_of_it_was_replayed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.append(b"a")
    (segment,) = spool.segments
    assert not spool.release(segment)
    ((segment.replayed, _),) = segment.frames()
    spool.append(b"b")
    assert not spool.release(segment)  # more came
    assert [payload for _, payload in segment.frames()] == [b"b"]
    segment.replayed = segment.synced
    assert spool.release(segment)
    assert list(tmp_path.iterdir()) == []
    spool.append(b"c")
    assert held(spool) == [b"c"]
    spool.close()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(min_size=0, max_size=40), min_size=1, max_size=6), st.data())
def test_a_file_cut_anywhere_gives_the_frames_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, LIMIT)
    for payload in payloads:
        spool.append(payload)
    spool.close()
    (path,) = folder.iterdir()
    ends = [sum(8 + len(p) for p in payloads[: n + 1]) for n in range(len(payloads))]
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(path, cut)
    again = Spool(folder, LIMIT)
    again.adopt()
    assert held(again) == payloads[: sum(end <= cut for end in ends)]
    again.close()


def test_a_frame_whose_bytes_changed_ends_the_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    for payload in (b"first", b"second", b"third"):
        spool.append(payload)
    spool.close()
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[8 + 5 + 8] ^= 1  # the first byte of "second"
    path.write_bytes(content)
    again = Spool(tmp_path, LIMIT)
    again.adopt()
    assert held(again) == [b"first"]
    again.close()


def test_beyond_the_limit_it_refuses(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 30)
    spool.append(b"x" * 12)  # 20 bytes with the header
    with pytest.raises(StoreError, match="event-spool-full: 20 bytes wait"):
        spool.append(b"y" * 12)
    assert held(spool) == [b"x" * 12]
    spool.close()


def test_a_full_disk_refuses_and_harms_nothing(tmp_path: Path) -> None:
    """The kernel writes as much as fits: the half frame must hide nothing that comes after it."""
    spool = Spool(tmp_path, LIMIT)
    spool.append(b"kept")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(StoreError, match=r"event-spool-full: .*File too large"):
            spool.append(b"does not fit")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.append(b"after")
    spool.close()
    again = Spool(tmp_path, LIMIT)
    again.adopt()
    assert held(again) == [b"kept", b"after"]
    again.close()


def test_a_folder_that_cannot_be_made_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="event-spool-full"):
        Spool(tmp_path / "file" / "spool", LIMIT).append(b"a")


def test_many_threads_share_the_flushes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    payloads = [b"%d" % n for n in range(200)]

    def write(some: list[bytes]) -> None:
        for payload in some:
            spool.append(payload)

    threads = [threading.Thread(target=write, args=(payloads[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held(spool)) == sorted(payloads)
    spool.close()


def _append_and_die(folder: str) -> None:
    spool = Spool(Path(folder), LIMIT)
    spool.append(b"acknowledged")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_what_it_confirmed(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_append_and_die, args=(str(tmp_path),))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    spool = Spool(tmp_path, LIMIT)
    assert spool.adopt() == 1
    assert held(spool) == [b"acknowledged"]
    spool.close()
