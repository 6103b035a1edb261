"""How long it takes to find the nearest items of every item, by the compiled kernel and by scipy.

    python -m benchmarks.neighbours --work W

W: a work directory with prepared data. Both ways for item kNN and content, as of the end of the data; `same`: whether they give the same bits.
CPU seconds of the process, and of the clock. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.config import load_pipeline
from core.prepared import FULL, Prepared
from core.work import Work
from retrieval import compiled_nearest, cosine
from retrieval.attributes import attribute_matrix
from retrieval.known import Known
from retrieval.sources.neighbours import Neighbours


def main() -> None:
    """Measure; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    prepared, config = Prepared(Work(parser.parse_args().work).latest("prepare")), load_pipeline().sources
    known = Known(prepared, FULL, config)
    matrices = {
        "item_knn": cosine.person_item_matrix(known.interactions),
        "content": attribute_matrix(prepared.items, known.items),
    }
    kernel, most = compiled_nearest.library(), config.neighbours
    result: dict[str, Any] = {"items": known.n_items}
    for name, matrix in matrices.items():
        rows, columns = cosine.units(matrix)
        ours, by_kernel = _timed(partial(compiled_nearest.nearest, kernel, rows, columns, most))
        theirs, by_scipy = _timed(partial(cosine.counted, rows, columns, most))
        result[name] = {"pairs": ours.pairs, "kernel": by_kernel, "scipy": by_scipy, "same": _same(ours, theirs)}
    print(json.dumps(result))


def _timed(call: Callable[[], Neighbours]) -> tuple[Neighbours, dict[str, float]]:
    cpu, wall = time.process_time(), time.perf_counter()
    found = call()
    return found, {"cpu": round(time.process_time() - cpu, 2), "wall": round(time.perf_counter() - wall, 2)}


def _same(a: Neighbours, b: Neighbours) -> bool:
    parts = ("_starts", "_items", "_scores")
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in parts)


if __name__ == "__main__":
    main()
