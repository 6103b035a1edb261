"""C kernels are compiled once an installation, and who cannot compile them hears why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import EnvironmentGapError
from core.native import Scratch, _key, address, aligned, load
from ranking.kernel import SOURCE


def test_compiled_once_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load.__wrapped__(SOURCE, folder=tmp_path / "here")
    (made,) = (tmp_path / "here").iterdir()
    before = made.stat().st_mtime_ns
    monkeypatch.setenv("PATH", "")
    load.__wrapped__(SOURCE, folder=tmp_path / "here")
    assert made.stat().st_mtime_ns == before


def test_a_library_that_does_not_load_is_not_used(tmp_path: Path) -> None:
    (tmp_path / f"{_key(SOURCE, 1)}.so").write_bytes(b"\x7fELF")
    assert load.__wrapped__(SOURCE, folder=tmp_path).tile_rows() > 0


def test_no_place_to_keep_it(tmp_path: Path) -> None:
    """A file where the folder should be: the process builds one for itself."""
    (tmp_path / "file").touch()
    assert load.__wrapped__(SOURCE, folder=tmp_path / "file").tile_rows() > 0


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentGapError, match=r"no C compiler.*apt-get install gcc"):
        load.__wrapped__(SOURCE, folder=tmp_path / "kernel")


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'ld: out of paper' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentGapError, match=r"cc does not compile kernel\.c: ld: out of paper"):
        load.__wrapped__(SOURCE, folder=tmp_path / "kernel")
    assert not list((tmp_path / "kernel").iterdir())


def test_scratch_is_aligned_and_grows() -> None:
    scratch = Scratch()
    first = scratch.of(100)
    assert first % 64 == 0
    assert scratch.of(50) == first  # there is room enough
    assert scratch.of(1 << 20) % 64 == 0


def test_address() -> None:
    room = aligned(16)
    for array in (
        room,
        np.empty(0, np.int32),
        np.arange(9.0)[::2],
        np.zeros((3, 4), np.float32).T,
        np.frombuffer(b"abcd", "<i4"),
    ):
        assert address(array) == array.ctypes.data
    assert address(room[3:]) == address(room) + 3
    assert len(room) == 16
    assert room.dtype == np.uint8
