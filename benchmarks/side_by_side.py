"""What it costs to answer requests in several processes, with one thread each and with as many as the libraries like.

    python -m benchmarks.side_by_side --work W [--requests 1500] [--rounds 3]

W: a work directory with an evaluated night. A sample of the twin's test queries is answered as `evaluate` answers them, by a process for every core:
in those of `core.threads.answering`, and in ordinary ones, in turn. Seconds are of the clock, the least of the rounds, without what it takes
to start; `ratio` is the ordinary ones' over ours. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from core import artifact
from core.config import load_pipeline
from core.prepared import TWIN, Prepared
from core.threads import answering
from core.work import Work
from evaluation.judgements import judge
from pipeline import evaluate


def main() -> None:
    """Measure; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    work, config = Work(asked.work), load_pipeline()
    prepared = Prepared(work.latest("prepare"))
    twin = work.stage("twin", artifact.read_manifest(work.latest("evaluate")).parents["twin"])
    judgements = judge(prepared, TWIN, prepared.seen(config.evaluation.seen))
    queries = np.random.default_rng(config.evaluation.seed).permutation(len(judgements))[: asked.requests]
    opened = (twin, prepared.path, judgements)
    ways = {"one thread": answering, "as many as they like": _ordinary}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, pool in ways.items():
            seconds[name].append(_answered(pool(evaluate._open, opened), queries))
    least = {name: round(min(found), 2) for name, found in seconds.items()}
    ratio = round(least["as many as they like"] / least["one thread"], 2)
    print(json.dumps({"requests": len(queries), "cores": os.cpu_count(), "seconds": least, "ratio": ratio}))


def _ordinary(initializer: Any, arguments: tuple[Any, ...]) -> ProcessPoolExecutor:
    # started anew: a fork server passes on the environment that it was started in
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer, arguments)


def _answered(pool: ProcessPoolExecutor, queries: np.ndarray[Any, Any]) -> float:
    with pool:
        parts = np.array_split(queries, max(1, len(queries) // 32))
        list(pool.map(evaluate._judge, [(None, part[:1]) for part in parts]))  # every process is ready
        start = time.perf_counter()
        list(pool.map(evaluate._judge, [(None, part) for part in parts]))
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
