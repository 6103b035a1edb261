"""`events send`: tell a server what happened."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import finish


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Events: what happened in the shop.")
    group.command()(send)
    app.add_typer(group, name="events")


def send(
    type: Annotated[str, typer.Option(help="event type, such as detail-page-view, add-to-cart, purchase-complete")],
    item: Annotated[list[str], typer.Option(help="item; several make one event each")],
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve`")] = "127.0.0.1:50051",
    user: Annotated[str, typer.Option(help="user id")] = "",
    visitor: Annotated[str, typer.Option(help="browser or device")] = "",
    session: Annotated[str, typer.Option(help="visit")] = "",
    event_id: Annotated[str, typer.Option(help="the shop's name for the event: sending it again changes nothing")] = "",
    quantity: Annotated[float | None, typer.Option(help="units")] = None,
) -> None:
    """Send events of one person; they count in that person's next answer."""
    from aisle.v1.events_pb2 import Event
    from core.errors import InputError
    from serving.client import Client

    if event_id and len(item) > 1:
        raise InputError(f"--event-id names one event, but {len(item)} items make {len(item)} events")
    events = [
        Event(
            event_type=type,
            item_id=i,
            user_id=user,
            visitor_id=visitor,
            session_id=session,
            event_id=event_id,
            quantity=quantity,
        )
        for i in item
    ]
    with Client(server) as client:
        response = client.write_events(events)
    finish({"accepted": response.accepted, "duplicates": response.duplicates})
