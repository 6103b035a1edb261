"""`bench index`: the vector index against FAISS's plain ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(index)


def index(
    items: Annotated[int, typer.Option(min=1000, help="items of a made-up catalogue, 64 dimensions")] = 1_000_000,
    nights: Annotated[int, typer.Option(min=0, help="nights of 1 % new and 1 % deleted items to go through")] = 0,
    kills: Annotated[int, typer.Option(min=0, help="times to kill -9 a writer of a small index")] = 0,
    baseline_seconds: Annotated[float, typer.Option(min=0, help="that each plain index may take to build")] = 300.0,
    seed: Annotated[int, typer.Option(min=0, help="of the made-up catalogue")] = 11,
    vectors: Annotated[Path | None, typer.Option(help=".npy, float32 [items, d], instead of a made-up one")] = None,
    queries: Annotated[Path | None, typer.Option(help=".npy, float32 [n, d]")] = None,
    k: Annotated[int, typer.Option(min=1, help="neighbours, with files")] = 100,
    work: Annotated[Path | None, typer.Option(help="work directory: the item vectors of its newest towers")] = None,
    out: Annotated[Path | None, typer.Option(help="where the rows found go: .npy, int64 [n, k]")] = None,
) -> None:
    """Build, search, filter and change an index: recall, latency on one thread, bytes, seconds, beside IndexFlatIP, IndexIVFFlat, IndexHNSWFlat."""
    from benchmarks.index import bench_files, bench_items, bench_work
    from benchmarks.index_kills import kill_writers
    from core.errors import InputError
    from core.work import Work

    if vectors is not None and queries is not None:
        finish(bench_files(vectors, queries, k, out, baseline_seconds, step))
    elif vectors is not None or queries is not None or out is not None:
        raise InputError("bench index takes --vectors and --queries together (and --out with them), or none of them")
    elif work is not None:
        finish(bench_work(Work(work), baseline_seconds, step))
    else:
        figures = bench_items(items, nights, baseline_seconds, seed, step)
        finish(figures | ({"kills": kill_writers(kills, seed, step)} if kills else {}))
