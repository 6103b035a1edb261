"""`batch`: recommendations for many users, from a file to a file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import finish, step
from core.errors import InputError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from serving.batch import BatchAnswer, BatchQuery

_REQUIRED = ("query_id", "user_id")
_OPTIONAL = ("time", "placement", "context_item_id")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(batch)


def batch(
    release: Annotated[Path, typer.Option(help="a release directory, or WORK/releases/current")],
    queries: Annotated[
        Path, typer.Option(help="Parquet or CSV: query_id, user_id, optional time, placement, context_item_id")
    ],
    out: Annotated[Path, typer.Option(help="Parquet to write: query_id, rank (from 1), item_id, score, source")],
    k: Annotated[int, typer.Option(min=1, max=10_000, help="items for each query")] = 10,
    work: Annotated[
        Path | None, typer.Option(help="where the user state is; default: the folder above `releases`")
    ] = None,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="nothing that the user already has")] = False,
    rules: Annotated[Path | None, typer.Option(help="folder of rules to apply; default: none")] = None,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="apply none, whatever --rules says")] = False,
) -> None:
    """Recommend for many users. `time` sets the clock of a query and cuts its user's history strictly before it."""
    from core.artifact import read_manifest
    from core.work import Work
    from serving.batch import run

    start = time.perf_counter()
    asked = read_queries(queries)
    window_end = int(read_manifest(release).about["window"][1])
    state = Work(work or release.absolute().parent.parent).user_state(window_end)
    step(f"{len(asked)} queries on {release.resolve().name}")
    applied = None if no_rules else rules
    write_answers(out, run(release, state, asked, k, exclude_seen, applied))
    finish({"queries": len(asked), "seconds": round(time.perf_counter() - start, 2), "out": str(out)})


def read_queries(path: Path) -> list[BatchQuery]:
    """The query file; each problem is one line that names the file and the column."""
    from serving.batch import BatchQuery

    table = _read_table(path)
    if missing := [c for c in _REQUIRED if c not in table.column_names]:
        raise InputError(f"{path}: no column {missing[0]!r}; it has: {', '.join(table.column_names)}")
    for name in table.column_names:
        if name not in _REQUIRED + _OPTIONAL and nearest(name, _OPTIONAL).startswith("did you mean"):
            raise InputError(f"{path}: unknown column {name!r}; {nearest(name, _OPTIONAL)}")
    n = table.num_rows
    query_ids, user_ids = (_texts(table, c) for c in _REQUIRED)
    if None in query_ids:
        raise InputError(f"{path}: row {query_ids.index(None) + 1} has no query_id")
    if len(set(query_ids)) != n:
        raise InputError(
            f"{path}: query_id is not unique ({n - len(set(query_ids))} repeated); each query needs its own"
        )
    times = _times(path, table) if "time" in table.column_names else [None] * n
    placements = _texts(table, "placement") if "placement" in table.column_names else [None] * n
    contexts = _texts(table, "context_item_id") if "context_item_id" in table.column_names else [None] * n
    return [
        BatchQuery(str(q), u or "", t, p or "", (c,) if c else ())
        for q, u, t, p, c in zip(query_ids, user_ids, times, placements, contexts, strict=True)
    ]


def write_answers(out: Path, answers: Iterable[BatchAnswer]) -> None:
    """The answers as Parquet, beside and then renamed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from core import atomic

    schema = pa.schema(
        [
            ("query_id", pa.string()),
            ("rank", pa.int32()),
            ("item_id", pa.string()),
            ("score", pa.float32()),
            ("source", pa.string()),
        ]
    )
    with atomic.new_file(out) as beside, pq.ParquetWriter(beside, schema) as writer:
        for some in _chunks(answers, 512):
            columns: tuple[list[Any], ...] = ([], [], [], [], [])
            for a in some:
                n = len(a.item_ids)
                for column, values in zip(
                    columns, ([a.query_id] * n, range(1, n + 1), a.item_ids, a.scores.tolist(), a.sources), strict=True
                ):
                    column.extend(values)
            writer.write_table(
                pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
            )


def _chunks(answers: Iterable[BatchAnswer], n: int) -> Iterable[list[BatchAnswer]]:
    some: list[BatchAnswer] = []
    for a in answers:
        some.append(a)
        if len(some) == n:
            yield some
            some = []
    if some:
        yield some


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected Parquet or CSV with query_id, user_id")
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            texts = pa.csv.ConvertOptions(
                column_types={c: pa.string() for c in (*_REQUIRED, "placement", "context_item_id")}
            )
            return pa.csv.read_csv(path, convert_options=texts)
        return pa.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as e:
        raise InputError(
            f"{path}: not readable as {'CSV' if '.csv' in path.name else 'Parquet'}: {str(e).splitlines()[0]}"
        ) from None


def _texts(table: pa.Table, name: str) -> list[str | None]:
    import pyarrow as pa

    texts: list[str | None] = table[name].cast(pa.string()).to_pylist()
    return texts


def _times(path: Path, table: pa.Table) -> list[int | None]:
    """Microseconds; timestamps of any unit, ISO text or epoch numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table["time"]
    try:
        if pa.types.is_integer(column.type):
            top = pc.max(pc.abs(column)).as_py() or 0
            scale = next((s for bound, s in ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1)) if top < bound), None)
            if scale is None:
                raise InputError(
                    f"{path}: column 'time' holds {top}, expected epoch seconds, milliseconds or microseconds"
                )
            return [None if t is None else t * scale for t in column.to_pylist()]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.cast(column, pa.timestamp("us", tz="UTC"))
        return pc.cast(pc.cast(column, pa.timestamp("us", tz="UTC"), safe=False), pa.int64()).to_pylist()  # type: ignore[no-any-return]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise InputError(
            f"{path}: column 'time' of type {column.type} is not a time: {str(e).splitlines()[0]}"
        ) from None
