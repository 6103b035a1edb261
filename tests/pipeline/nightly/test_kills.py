"""kill -9 at one moment of a night after the other: the run that is left alone publishes what an undisturbed one did."""

# bazel: size=large, imports=[cli.__main__, cli.commands.*], data=[//configs:all_files]

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from core import artifact
from tests.pipeline.nightly.commands import ENVIRONMENT, aisle, nightly, result

_LINES = 3  # of progress more that each run may print before it is killed: a start costs seconds, a line says next to nothing new


def same_release(a: Path, b: Path) -> bool:
    """Whether two releases hold the same, byte by byte: their manifests list the hash of every file."""
    return artifact.facts(artifact.read_manifest(a)) == artifact.facts(artifact.read_manifest(b))


def test_kill_9_at_any_step_resumes_to_the_same_release(shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    """Killed at a later line of progress each time, in every stage, the run that is left alone at last publishes what an undisturbed one did.

    Twenty random moments: `python -m benchmarks.night_kills`.
    """
    _, undisturbed = night
    work, kills = shop.parent / "killed", 0
    while kills < 20:
        run = subprocess.Popen(
            [sys.executable, "-m", "cli", *map(str, nightly(shop, work))],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        assert run.stderr is not None
        for line, _ in enumerate(run.stderr):
            if line == _LINES * kills:
                os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        if run.returncode == 0:
            break
        kills += 1
        current = work / "releases" / "current"
        if current.exists():
            artifact.verify(current)
    assert kills >= 7  # what is left of the night gets shorter: later ones would come after its end
    done = result(aisle(*nightly(shop, work)))
    assert Path(done["release"]).name == Path(undisturbed["release"]).name
    assert same_release(Path(done["release"]), Path(undisturbed["release"]))
    assert not list(work.rglob(".tmp-*"))
