"""What an index takes in memory: of a process that only opens it and answers, and of the one that asks.

A process of its own reads the kernel's account of itself (`/proc/self/status`): `VmHWM` is the most that was ever resident, `RssAnon` what of the
present is not mapped from a file and so cannot be dropped.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from core.columns import load_array
from core.threads import one_thread
from index_builder.search import open_index
from index_builder.segments import read_state


def peak_gb() -> float:
    """Most that this process ever held, gigabytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def searching(folder: Path, vectors: Path, items: int, queries: Path, k: int) -> dict[str, float]:
    """What another process takes that answers every query of a file from the index in `folder` of the first `items` vectors."""
    command = [sys.executable, "-m", "benchmarks.index_memory", *map(str, (folder, vectors, items, queries, k))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _search(folder: Path, vectors: Path, items: int, queries: Path, k: int) -> None:
    index = open_index(folder, load_array(vectors)[:items], read_state(folder).embedding_id)
    with one_thread():
        for query in np.load(queries):
            index.search(query[None], k)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = {"searching_gb": "VmHWM", "searching_anonymous_gb": "RssAnon"}
    print(json.dumps({name: round(int(status[row].split()[0]) * 1024 / 1e9, 2) for name, row in held.items()}))


if __name__ == "__main__":
    _search(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
