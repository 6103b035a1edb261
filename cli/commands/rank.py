"""`rank`: ask a server for the order of a list of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import finish


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rank)


def rank(
    item: Annotated[list[str], typer.Option(help="item of the list; may be given several times")],
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    user: Annotated[str, typer.Option(help="user id; empty: a stranger")] = "",
    visitor: Annotated[str, typer.Option(help="browser or device")] = "",
    session: Annotated[str, typer.Option(help="visit")] = "",
    context: Annotated[list[str] | None, typer.Option(help="item on the page; may be given several times")] = None,
    placement: Annotated[str, typer.Option(help="where on the site")] = "",
    no_personalize: Annotated[bool, typer.Option("--no-personalize", help="read nothing about the person")] = False,
) -> None:
    """The given items in the order that suits one person best."""
    from aisle.v1.recommender_pb2 import RankRequest
    from cli.pages import show
    from serving.client import Client

    request = RankRequest(
        item_ids=item,
        user_id=user,
        visitor_id=visitor,
        session_id=session,
        context_item_ids=context or [],
        placement=placement,
        personalize=not no_personalize,
    )
    with Client(server) as client:
        response = client.rank(request)
    by = f"{response.level}, degraded: {response.fallback_reason}" if response.degraded else response.level
    results = show(
        response.results,
        f"{len(item)} items for {user or visitor or session or 'a stranger'} ({by})",
        response.missing_ids,
    )
    finish(
        {
            "results": results,
            "level": response.level,
            "release": response.release,
            "degraded": response.degraded,
            "fallback_reason": response.fallback_reason,
            "missing_ids": list(response.missing_ids),
            "attribution_token": response.attribution_token,
            "stage_latency_ms": {stage: round(ms, 3) for stage, ms in response.stage_latency_ms.items()},
        }
    )
