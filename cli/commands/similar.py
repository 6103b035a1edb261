"""`similar`: ask a server which items go with others."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import finish


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(similar)


def similar(
    item: Annotated[list[str], typer.Option(help="the item; may be given several times")],
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    k: Annotated[int, typer.Option("--k", min=1, max=500, help="items wanted")] = 10,
    filter: Annotated[str, typer.Option(help="only such items (docs/filters.md)")] = "",
) -> None:
    """Items that go with the given ones, with the reason for each."""
    from aisle.v1.recommender_pb2 import SimilarItemsRequest
    from cli.pages import show
    from serving.client import Client

    with Client(server) as client:
        response = client.similar(SimilarItemsRequest(item_ids=item, page_size=k, filter=filter))
    results = show(response.results, f"like {', '.join(item)}", response.missing_ids)
    finish({"results": results, "release": response.release, "missing_ids": list(response.missing_ids)})
