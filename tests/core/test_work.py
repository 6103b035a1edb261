"""The work directory's lock: one owner, and everybody else is told who that is."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from core.errors import BusyError
from core.work import Work


def test_who_holds_the_lock_is_named_with_host_and_age(tmp_path: Path) -> None:
    work = Work(tmp_path)
    with work.locked():
        with pytest.raises(BusyError) as refused, work.locked():
            pass
        said = str(refused.value)
        assert f"process {os.getpid()} of " in said
        assert f"on {platform.node()} (since 20" in said
        assert " UTC, 0 s) is writing here" in said
    with work.locked():
        pass  # it goes with its owner


def test_a_lock_that_says_nothing_is_still_one(tmp_path: Path) -> None:
    work = Work(tmp_path)
    with work.locked():
        (tmp_path / "lock").write_text("")
        with pytest.raises(BusyError, match="another process is writing here"), work.locked():
            pass
