"""`recommend`: ask a server what a person should see now."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import finish


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(recommend)


def recommend(
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    user: Annotated[str, typer.Option(help="user id; empty: a stranger")] = "",
    visitor: Annotated[str, typer.Option(help="browser or device")] = "",
    session: Annotated[str, typer.Option(help="visit")] = "",
    k: Annotated[int, typer.Option("--k", min=1, max=500, help="items wanted")] = 10,
    context: Annotated[list[str] | None, typer.Option(help="item on the page; may be given several times")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="item never to return; may be given several times")] = None,
    placement: Annotated[str, typer.Option(help="where on the site")] = "",
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="nothing that the person already has")] = False,
    exclude_purchased: Annotated[
        bool, typer.Option("--exclude-purchased", help="nothing that the person bought")
    ] = False,
    filter: Annotated[
        str, typer.Option(help="only such items, e.g. 'price < 20 AND brand = \"Acme\"' (docs/filters.md)")
    ] = "",
    fill_up: Annotated[
        bool, typer.Option("--fill-up", help="complete a page that the filter leaves short with others")
    ] = False,
    picked: Annotated[
        list[str] | None,
        typer.Option(help="item that a newcomer picked, counts as history; may be given several times"),
    ] = None,
    explore: Annotated[
        bool, typer.Option("--explore", help="draw the order of the page at random, better items more often")
    ] = False,
    no_personalize: Annotated[bool, typer.Option("--no-personalize", help="read nothing about the person")] = False,
    candidate: Annotated[list[str] | None, typer.Option(help="only such items; may be given several times")] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(help="at most so many with one value, e.g. brand=2 or category=30%; several times"),
    ] = None,
    diversity: Annotated[
        str, typer.Option(help="no-, low-, medium- or high-diversity; default: as the rules say")
    ] = "",
    min_score: Annotated[float, typer.Option(min=0, max=1, help="only items with at least this probability")] = 0.0,
    list_size: Annotated[
        int, typer.Option(min=0, max=1_000, help="items of all pages together; prints the next page's token")
    ] = 0,
    page_token: Annotated[str, typer.Option(help="of the page before; the other options as there")] = "",
) -> None:
    """Recommendations for one person, with the reason for each."""
    from aisle.v1.recommender_pb2 import RecentEvent, RecommendRequest
    from cli.caps import cap_of
    from cli.pages import show
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
        exclude_purchased=exclude_purchased,
        filter=filter,
        strict_filtering=not fill_up,
        personalize=not no_personalize,
        candidate_item_ids=candidate or [],
        caps=[cap_of(text) for text in cap or []],
        diversity_level=diversity,
        min_score=min_score,
        list_size=list_size,
        page_token=page_token,
        recent_events=[RecentEvent(item_id=item) for item in picked or []],
        explore=explore or None,
    )
    with Client(server) as client:
        response = client.recommend(request)
    by = f"{response.level}, degraded: {response.fallback_reason}" if response.degraded else response.level
    results = show(response.results, f"{user or visitor or session or 'a stranger'} ({by})", response.missing_ids)
    finish(
        {
            "results": results,
            "level": response.level,
            "release": response.release,
            "degraded": response.degraded,
            "fallback_reason": response.fallback_reason,
            "missing_ids": list(response.missing_ids),
            "attribution_token": response.attribution_token,
            "rules": response.rules,
            "outside_filter": response.outside_filter,
            "next_page_token": response.next_page_token,
            "index_version": response.index_version,
            "explored": response.explored,
            "propensities": [round(r.propensity, 9) for r in response.results],
            "stage_latency_ms": {stage: round(ms, 3) for stage, ms in response.stage_latency_ms.items()},
        }
    )
