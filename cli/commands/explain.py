"""`explain`: ask a server why an item is on a person's page, or why it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import console, finish, step

if TYPE_CHECKING:
    from aisle.v1.recommender_pb2 import ExplainResponse

_MOST_FEATURES = 3  # of a part, in the table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    item: Annotated[str, typer.Option(help="the item that is asked about")],
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    user: Annotated[str, typer.Option(help="user id; empty: a stranger")] = "",
    visitor: Annotated[str, typer.Option(help="browser or device")] = "",
    session: Annotated[str, typer.Option(help="visit")] = "",
    k: Annotated[int, typer.Option("--k", min=1, max=500, help="items on the page")] = 10,
    context: Annotated[list[str] | None, typer.Option(help="item on the page; may be given several times")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="item never to return; may be given several times")] = None,
    placement: Annotated[str, typer.Option(help="where on the site")] = "",
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="nothing that the person already has")] = False,
    filter: Annotated[str, typer.Option(help="only such items (docs/filters.md)")] = "",
) -> None:
    """Why an item is in the answer to a request, or which one stage lost it."""
    from google.protobuf.json_format import MessageToDict

    from aisle.v1.recommender_pb2 import ExplainRequest, RecommendRequest
    from serving.client import Client

    request = RecommendRequest(
        user_id=user,
        visitor_id=visitor,
        session_id=session,
        page_size=k,
        context_item_ids=context or [],
        exclude_item_ids=exclude or [],
        placement=placement,
        exclude_seen=exclude_seen,
        filter=filter,
    )
    with Client(server) as client:
        response = client.explain(ExplainRequest(request=request, item_id=item))
    _print(response, user or visitor or session or "a stranger")
    finish(MessageToDict(response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))


def _print(response: ExplainResponse, who: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    name = f"{response.item_id} {response.title}".strip()
    step(escape(f"{name} for {who} ({response.level}): {response.summary}"))
    if response.HasField("probability"):
        step(f"  probability {response.probability:.3g}")
    for reason in response.reasons:
        step(escape(f"  {reason}"))
    sources = Table(title="sources", title_justify="left")
    for column in ("source", "place", "of", "score", "their last"):
        sources.add_column(column, justify="left" if column == "source" else "right")
    for s in response.sources:
        sources.add_row(s.source, str(s.rank or "-"), str(s.proposed), f"{s.score:.4g}", f"{s.last_score:.4g}")
    console.print(sources)
    if not response.score_parts:
        return
    parts = Table(title=f"score {response.score:.4g} by the {response.ranked_by}", title_justify="left")
    for column in ("part", "adds", "most of it"):
        parts.add_column(column, justify="right" if column == "adds" else "left")
    for part in response.score_parts:
        most = sorted(part.features.items(), key=lambda f: -abs(f[1]))[:_MOST_FEATURES]
        parts.add_row(part.name, f"{part.value:+.4f}", ", ".join(f"{n} {v:+.3f}" for n, v in most))
    console.print(parts)
