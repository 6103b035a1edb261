"""Libraries start one thread where requests are answered, and as many as they like elsewhere."""

# bazel: imports=[cli.__main__]

import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from core.threads import VARIABLES, answering, be_patient, one_thread

_made_ready: list[str] = []


def _ready(name: str) -> None:
    _made_ready.append(name)


def _look(_: int) -> tuple[list[str], set[int], set[str | None]]:
    assert np.ones((50, 50)).dot(np.ones(50)).sum() == 2500
    return _made_ready, {i["num_threads"] for i in threadpool_info()}, {os.environ.get(v) for v in VARIABLES}


def test_processes_that_answer_are_ready_and_on_one_thread_and_ours_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLES[0], "3")
    monkeypatch.delenv(VARIABLES[1], raising=False)
    before = dict(os.environ)
    with answering(_ready, ("shop",)) as pool:
        for found in pool.map(_look, range(4)):
            assert found == (["shop"], {1}, {"1"})
    assert dict(os.environ) == before


def test_one_thread_within_the_block_only() -> None:
    with threadpool_limits(2):
        with one_thread():
            assert {i["num_threads"] for i in threadpool_info()} == {1}
        assert {i["num_threads"] for i in threadpool_info()} == {2}


def test_waiting_threads_sleep_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    be_patient()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    be_patient()
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_the_command_line_says_so_before_any_library_is_loaded() -> None:
    look = (
        "import runpy, sys, core.threads\n"
        "core.threads.be_patient = lambda: sys.exit(str([m for m in ('numpy', 'faiss', 'lightgbm') if m in sys.modules]))\n"
        "runpy.run_module('cli', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip() == "[]"
