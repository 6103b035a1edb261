"""Tree scoring: what a request pays for ordering its candidates, beside LightGBM's predict on the same rows in the same run.

    ./aisle bench rank [--model M.txt --rows X.npy --out S.npy]

One thread, blocks of 500 rows, the two taking turns block by block. `compile_seconds`: everything that is done once, ahead of serving: compiling the
kernel for this machine, reading the model's text, writing its trees. `load_ms`: opening the ranker as a release holds it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from core import atomic, native
from core.columns import Array, load_array
from core.errors import EnvironmentGapError, InputError, NotFoundError
from ranking import model_text
from ranking.kernel import SOURCE
from ranking.scorer import MODEL, TREES, Kernel, LightGbmKernel, open_kernel
from ranking.trees import UnsupportedModelError

_BLOCK: Final = 500  # rows, the candidates of a request
_COMPARED: Final = 200  # blocks that LightGBM scores too
_FEATURES, _TREES, _LEAVES = 40, 300, 63
_GROUP: Final = 100  # rows of a request when training


def score_files(model: Path, rows: Path, out: Path) -> dict[str, Any]:
    """Score the rows of one file with the model of another, and write the scores.

    Raises:
        AisleError: if a file is missing, damaged, or the rows are not float32 `[n, features of the model]`.
    """
    if not model.exists():
        raise NotFoundError(f"{model}: no such model")
    matrix = load_array(rows)
    if matrix.dtype != np.float32 or matrix.ndim != 2 or not len(matrix):
        raise InputError(f"{rows}: {matrix.dtype} {list(matrix.shape)}, expected float32 [n, features]")
    scores, figures = measure(model, matrix)
    with atomic.new_file(out) as beside, open(beside, "wb") as f:
        np.save(f, scores)
    return figures


def score_synthetic(say: Callable[[str], None]) -> dict[str, Any]:
    """Grow the ranker of the design's claim on random rows, and score the rows."""
    say(f"growing {_TREES} trees of {_LEAVES} leaves")
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(100_000, _FEATURES)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.02] = np.nan
    signal = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1] * matrix[:, 2])
    data = lightgbm.Dataset(
        matrix, (signal + rng.normal(size=len(matrix)) > 1).astype(np.int32), group=[_GROUP] * (len(matrix) // _GROUP)
    )
    parameters = {"objective": "lambdarank", "num_leaves": _LEAVES, "verbose": -1, "seed": 7}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / MODEL
        lightgbm.train(parameters, data, _TREES).save_model(model)
        say(f"scoring {len(matrix)} rows")
        return measure(model, matrix)[1]


def measure(model: Path, matrix: Array) -> tuple[Array, dict[str, Any]]:
    """Scores float64 `[n]` of float32 `[n, F]`, and the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_seconds = _compile(model, folder)
        start = time.perf_counter()
        ours = open_kernel(folder)
        load_ms = 1e3 * (time.perf_counter() - start)
        oracle = LightGbmKernel(folder / MODEL)
    if ours.n_features != matrix.shape[1]:
        raise InputError(f"rows of {matrix.shape[1]} features, the model takes {ours.n_features}")
    blocks = [np.array(matrix[at : at + _BLOCK]) for at in range(0, len(matrix), _BLOCK)]
    scores, times, theirs, error = [], [], [], 0.0
    for i, block in enumerate(blocks):
        answer, seconds = _timed(ours, block)
        scores.append(answer)
        times.append(seconds)
        if i < _COMPARED:
            wanted, seconds = _timed(oracle, block)
            theirs.append(seconds)
            error = max(error, float(np.abs(answer - wanted).max()))
    p50, p50_theirs = np.median(times), np.median(theirs)
    return np.concatenate(scores), {
        "p50_ms": round(1e3 * p50, 4),
        "p99_ms": round(1e3 * np.quantile(times, 0.99), 4),
        "lightgbm_p50_ms": round(1e3 * p50_theirs, 4),
        "speedup": round(p50_theirs / p50, 2),
        "max_error": error,
        "compile_seconds": round(compile_seconds, 3),
        "load_ms": round(load_ms, 2),
        "kernel": type(ours).__name__,
        "rows": len(matrix),
        "features": matrix.shape[1],
    }


def _compile(model: Path, folder: Path) -> float:
    """Make `folder` a ranker's folder with `model` in it; seconds of that and of compiling the kernel (again, where the installation has it)."""
    start = time.perf_counter()
    (folder / MODEL).write_bytes(model.read_bytes())
    try:
        model_text.read(folder / MODEL).write(folder / TREES, folder / MODEL)
        native.build(folder / "kernel.so", SOURCE)
    except (UnsupportedModelError, EnvironmentGapError):
        return time.perf_counter() - start  # open_kernel says why, and takes LightGBM's own
    seconds = time.perf_counter() - start
    native.load(SOURCE)  # a new installation compiles its own now, not while the loading is timed
    return seconds


def _timed(evaluate: Kernel, block: Array) -> tuple[Array, float]:
    start = time.perf_counter()
    scores = evaluate.predict(block)
    return scores, time.perf_counter() - start
