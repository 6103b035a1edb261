"""`releases list|show|verify|diff|card`: what there is, what it is made from, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import console, finish

_Work = Annotated[Path | None, typer.Option(help="work directory")]
_Release = Annotated[
    Path | None, typer.Argument(help="release directory, or the name of one in WORK; default: WORK/releases/current")
]
_SHOWN = ("ndcg@10", "hit@10", "mrr@10", "recall@100", "recall@500", "coverage@10", "gini@10")
_MOST_ROWS = 12


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("list")(list_releases)
    group.command()(show)
    group.command()(verify)
    group.command()(diff)
    group.command()(card)


def list_releases(
    work: _Work = None,
    source: Annotated[str | None, typer.Option("--from", help="URL or folder of copies, instead of --work")] = None,
) -> None:
    """The published releases, newest window first; `*` marks the one that `current` points to, `<` the one that a rollback leads to."""
    from core.errors import InputError

    if source is not None:
        _list_copies(source)
        return
    if work is None:
        raise InputError("name --work WORK, or --from URL for copies")
    from core.work import Work
    from pipeline.registry import history
    from pipeline.registry.find import every

    place = Work(work)
    found, now, before = every(place), history.current(place), history.previous(place)
    rows = []
    for known in found:
        facts = known.facts()
        mark = "*" if known.name == now else "<" if known.name == before else ""
        rows.append((mark, known.name, facts["window"][1][:19], facts["ndcg@10"], known.made[:19]))
    _table(("", "release", "window ends", "ndcg@10", "made"), rows)
    finish(
        {
            "releases": [k.facts() | {"current": k.name == now, "previous": k.name == before} for k in found],
            "history": [c.line() for c in history.read(place)[-_MOST_ROWS:]],
        }
    )


def _list_copies(source: str) -> None:
    from pipeline.registry.find import time_text
    from pipeline.registry.remote import Remote

    found = Remote(source).copies()
    rows = [(c.name, time_text(c.window_end)[:19], c.made[:19], c.pushed[:19]) for c in found]
    _table(("release", "window ends", "made", "pushed"), rows)
    finish(
        {
            "releases": [
                {"release": c.name, "window_end": time_text(c.window_end), "made": c.made, "pushed": c.pushed}
                for c in found
            ]
        }
    )


def show(release: _Release = None, work: _Work = None) -> None:
    """One release: its lineage, metrics and files, and when it was current."""
    from core.work import Work
    from pipeline.registry import history
    from pipeline.registry.find import named

    known = named(release, work)
    manifest = known.manifest
    size = sum(f.size for f in manifest.files.values())
    console.print_json(data=manifest.model_dump(exclude={"files"}))
    changes = history.read(Work(known.path.parent.parent)) if known.path.parent.name == "releases" else []
    finish(
        known.facts()
        | {
            "parents": manifest.parents,
            "lineage": known.lineage(),
            "about": manifest.about,
            "files": len(manifest.files),
            "bytes": size,
            "history": [c.line() for c in changes if known.name in (c.before, c.to)],
        }
    )


def verify(release: _Release = None, work: _Work = None) -> None:
    """Hash every file again and open the release as the server does; what is wrong is said by name."""
    from core.artifact import verify
    from pipeline.registry.find import named
    from serving.release import Release

    path = named(release, work).path
    manifest = verify(path)
    Release.open(path, stamped=True)
    finish(
        {
            "release": path.name,
            "files": len(manifest.files),
            "bytes": sum(f.size for f in manifest.files.values()),
            "verified": True,
        }
    )


def diff(
    old: Annotated[Path, typer.Argument(help="release directory, or the name of one in WORK")],
    new: Annotated[Path | None, typer.Argument(help="the other; default: WORK/releases/current")] = None,
    work: _Work = None,
    people: Annotated[int, typer.Option(min=1, help="of the fixed sample whose pages are compared")] = 200,
    k: Annotated[int, typer.Option("--k", min=1, max=500, help="items of a page")] = 10,
) -> None:
    """What changed from one release to another: metrics, configuration, the ranker's features, items, and the pages of the same people."""
    from pipeline.registry.diff import diff as between
    from pipeline.registry.find import named

    found = between(named(old, work), named(new, work), people, k)
    _show_diff(found)
    finish(found)


def card(
    release: _Release = None,
    work: _Work = None,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write; default: it is printed on stderr")] = None,
) -> None:
    """The model card of a release: data, intended use, metrics by segment, features, gates, limits."""
    from core import atomic
    from pipeline.registry.card import card as card_of
    from pipeline.registry.find import named

    known = named(release, work)
    text = card_of(known)
    if out is None:
        console.print(text, markup=False, soft_wrap=True)
    else:
        with atomic.new_file(out) as beside:
            beside.write_text(text)
    finish({"release": known.name, "out": None if out is None else str(out), "card": text})


def _show_diff(found: dict[str, Any]) -> None:
    ends = f"{found['from']['release']} -> {found['to']['release']}"
    metrics = [(m, v["from"], v["to"], v["delta"]) for m in _SHOWN if (v := found["metrics"].get(m))]
    _table(("metric", "from", "to", "delta"), metrics, title=f"{ends}: metrics, each on its own test window")
    keys = (found["configuration"]["keys"] or {}) | {f"settings: {k}": v for k, v in found["settings"].items()}
    _table(("key", "from", "to"), [(k, v["from"], v["to"]) for k, v in keys.items()], title="configuration")
    gains = sorted(found["features"]["gains"].items(), key=lambda pair: -abs(pair[1]["delta"]))[:_MOST_ROWS]
    _table(
        ("feature", "share of gain", "now", "delta"),
        [(n, v["from"], v["to"], v["delta"]) for n, v in gains],
        title="ranker",
    )
    items, pages = found["items"], found["pages"]
    console.print(f"items: {items['from']} -> {items['to']}, {items['gained']} gained, {items['lost']} lost")
    if "because" in pages:
        console.print(f"pages were not compared: {pages['because']}", markup=False)
    else:
        console.print(
            f"pages of {pages['people']} people: {pages['overlap']:.1%} of the first {pages['k']} in common, "
            f"first item the same for {pages['same_first']:.1%}, whole page for {pages['same_page']:.1%}"
        )


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=title and escape(title), title_justify="left")
    for column in columns:
        shown.add_column(column, no_wrap=True)
    for row in rows:
        shown.add_row(*("-" if cell is None else escape(str(cell)) for cell in row))
    console.print(shown)
