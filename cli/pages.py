"""How a page of results looks in a terminal and in the JSON of a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from cli.output import console, step

if TYPE_CHECKING:
    from aisle.v1.recommender_pb2 import Result


def show(results: Iterable[Result], heading: str, missing: Sequence[str]) -> list[dict[str, Any]]:
    """Print a table on stderr; the same as plain values."""
    results = list(results)
    console.print(page_table(results, heading))
    plain = [
        {
            "item_id": r.item_id,
            "score": r.score,
            "source": r.source,
            "reasons": list(r.reasons),
            "title": r.title,
            "rank": r.rank,
            "probability": r.probability if r.HasField("probability") else None,
            "promotion_name": r.promotion_name,
            "sponsored": r.sponsored,
            "moved_by": list(r.moved_by),
        }
        for r in results
    ]
    if missing:
        step(escape(f"not known to the release: {', '.join(missing)}"))
    return plain


def page_table(results: Iterable[Result], heading: str) -> Table:
    """A page as a table for people."""
    table = Table(title=heading, title_justify="left")
    for column in ("#", "item", "title", "source", "why", "score"):
        table.add_column(column, justify="right" if column in "#score" else "left")
    for r in results:
        table.add_row(*map(escape, (str(r.rank), r.item_id, r.title, r.source, "; ".join(r.reasons), f"{r.score:.4g}")))
    return table
