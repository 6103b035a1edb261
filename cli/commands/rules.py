"""`rules`: check rule files, and see what they would do to a page before anybody else does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import console, finish, step

_SHOWN_BECAUSE = 3  # sentences of an item, in the table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rules = typer.Typer(no_args_is_help=True, help="Rules of pages: docs/rules.md.")
    rules.command()(check)
    rules.command()(preview)
    app.add_typer(rules, name="rules")


def check(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="folder of rule files")] = Path("configs/rules"),
    release: Annotated[
        Path | None, typer.Option(help="also check that its items have the fields that the rules read")
    ] = None,
) -> None:
    """Read rule files; the first problem is named with its file and line."""
    from rich.markup import escape
    from rich.table import Table

    from serving.release import Release
    from serving.ruled_answer import says
    from serving.rules.bound import check_fit
    from serving.rules.load import load_rules

    now = time.time_ns() // 1_000
    found = load_rules(folder)
    table = Table(title=f"{len(found.rules)} rules of {found.files} files, in order", title_justify="left")
    for column in ("rule", "file", "kind", "says", "placements", "in force"):
        table.add_column(column, no_wrap=column in ("rule", "file"))
    for rule in found.rules:
        active = rule.spec.enabled and rule.since <= now < rule.until
        cells = (rule.name, rule.place, rule.spec.kind, says(rule), ", ".join(rule.spec.placements) or "all")
        table.add_row(*map(escape, (*cells, "yes" if active else "no")))
    console.print(table)
    warnings: list[str] = []
    if release is not None:
        warnings = [str(p) for p in check_fit(found.rules, Release.open(release), now, folder)]
        for warning in warnings:
            step(escape(warning))
    in_force = [r.name for r in found.rules if r.spec.enabled and r.since <= now < r.until]
    finish(
        {
            "files": found.files,
            "rules": len(found.rules),
            "id": found.id,
            "in_force": in_force,
            "warnings": warnings,
        }
    )


def preview(
    user: Annotated[str, typer.Option(help="user id; empty: a stranger")] = "",
    release: Annotated[Path | None, typer.Option(help="a release directory: its pages by the rules of --rules")] = None,
    server: Annotated[str, typer.Option(help="or HOST:PORT of `./aisle serve`: by the rules it has")] = "",
    rules: Annotated[Path, typer.Option(help="folder of rule files, with --release")] = Path("configs/rules"),
    placement: Annotated[str, typer.Option(help="where on the site")] = "",
    k: Annotated[int, typer.Option("--k", min=1, max=500, help="items on the page")] = 10,
    context: Annotated[list[str] | None, typer.Option(help="item on the page; may be given several times")] = None,
    work: Annotated[
        Path | None, typer.Option(help="where the user state is; default: the folder above `releases`")
    ] = None,
    at: Annotated[str, typer.Option(help="with --release: as of this time (ISO, UTC); default: now")] = "",
) -> None:
    """The page of a person before and after the rules, what moved, and by which rule. Records nothing."""
    from core.errors import InputError

    if (release is None) == (not server):
        raise InputError("rules preview needs either --release R or --server HOST:PORT")
    result = (
        _of_server(server, user, placement, k, context or [])
        if release is None
        else _of_release(release, rules, work, user, placement, k, context or [], at)
    )
    _print(result, user or "a stranger")
    finish(result)


def _of_server(server: str, user: str, placement: str, k: int, context: list[str]) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    from aisle.v1.recommender_pb2 import RecommendRequest
    from serving.client import Client

    request = RecommendRequest(user_id=user, placement=placement, page_size=k, context_item_ids=context)
    with Client(server) as client:
        response = client.preview_rules(request)
    return MessageToDict(response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _of_release(
    release: Path, rules: Path, work: Path | None, user: str, placement: str, k: int, context: list[str], at: str
) -> dict[str, object]:
    from core.artifact import read_manifest
    from core.work import Work
    from serving.batch import Batch, BatchQuery
    from serving.reasons import title
    from serving.ruled_answer import preview

    window_end = int(read_manifest(release).about["window"][1])
    batch = Batch(release, Work(work or release.absolute().parent.parent).user_state(window_end), rules)
    moment = _moment(at) if at else max(time.time_ns() // 1_000, window_end)
    asked = batch.request(BatchQuery("", user, moment, placement, tuple(context)), k, exclude_seen=False)
    seen = preview(batch.release, asked)
    items = [
        {
            "item_id": batch.release.item_ids[row],
            "title": title(batch.release, row),
            "before": before,
            "after": after,
            "because": because,
        }
        for row, before, after, because in seen.items
    ]
    return {
        "items": items,
        "rules": batch.rules.set.id if batch.rules else "",
        "level": seen.level,
        "release": batch.release.name,
        "in_force": seen.in_force,
        "off": seen.off,
    }


def _moment(text: str) -> int:
    from datetime import UTC, datetime

    from core.errors import InputError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--at {text}: not a time; expected such as 2026-11-27 or 2026-11-27T08:00+01:00") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6)


def _print(result: dict[str, object], who: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    items, in_force, off = result["items"], result["in_force"], result["off"]
    assert isinstance(items, list) and isinstance(in_force, list) and isinstance(off, list)  # noqa: PT018
    table = Table(title=f"{who} ({result['level']}), {len(in_force)} rules in force", title_justify="left")
    for column in ("before", "after", "item", "title", "because"):
        table.add_column(column, justify="right" if column in ("before", "after") else "left")
    for item in items:
        because = "; ".join(item["because"][:_SHOWN_BECAUSE])
        places = (str(item["before"] or "-"), str(item["after"] or "-"))
        table.add_row(*map(escape, (*places, item["item_id"], item["title"], because)))
    console.print(table)
    for problem in off:
        step(escape(problem))
