"""A shop small enough to reason about, published as a release: teas, cups and pots, six of each, with literal neighbour lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.candidates import Source
from core.config import load_pipeline
from core.ids import IdMap
from core.prepared import FULL
from core.release import RANKER, STATISTICS, ReleaseSettings
from core.schema import DAY, EventType
from core.work import Work
from pipeline.publish import Parts, publish
from ranking import item_statistics
from retrieval.sources import HEADER
from retrieval.sources.content import Content
from retrieval.sources.covisitation import Covisitation
from retrieval.sources.item_knn import ItemKnn
from retrieval.sources.neighbours import Neighbours, NeighboursBuilder
from retrieval.sources.opinion import order_of
from retrieval.sources.own_frequency import OwnFrequency
from retrieval.sources.popularity import Popularity
from retrieval.sources.recent_popularity import RecentPopularity
from retrieval.sources.transitions import Transitions
from tests.prepared_fixture import make_prepared

KINDS = ("cup", "pot", "tea")
SIZE = 6
SOLD_OUT = "pot-6"
START = 1_700_000_000_000_000
END = START + 100 * DAY
TITLES = {f"{kind}-{n}": f"{kind.title()} number {n}" for kind in KINDS for n in range(1, SIZE + 1)}

# person key -> purchases, one a day, the last on the day before END
PURCHASES = {
    "u:ann": ["tea-1", "tea-2", "tea-1", "cup-1", "tea-1"],
    "u:bob": ["pot-1", "pot-2", "cup-2"],
    "u:cid": ["tea-4"],
    "v:guest": ["cup-5", "cup-6", "tea-6"],
    **{
        f"u:{n}": [f"{KINDS[n % 3]}-{1 + n % 5}", f"{KINDS[n // 3 % 3]}-{1 + n % 4}", f"tea-{1 + n % 6}"]
        for n in range(20)
    },
}


def make_shop(
    folder: Path,
    end: int = END,
    sales: float = 1,
    ranker: Callable[[Path, list[str]], None] | None = None,
    prefix: str = "",
) -> Work:
    """`folder/work` with one release whose window ends at `end`, published as `nightly` does. `sales` multiplies popularity.

    `prefix` is put before the ids of items and users, for a shop that shares none with another.
    `ranker` writes the files of one for the named sources into a folder; without it the blend ranks.
    """
    rows = [
        (
            f"{who[:2]}{prefix}{who[2:]}",
            prefix + item,
            EventType.PURCHASE_COMPLETE,
            end - (len(items) - at) * DAY + 7 * at,
        )
        for who, items in PURCHASES.items()
        for at, item in enumerate(items)
    ]
    cuts = [START, START + 50 * DAY, START + 60 * DAY, START + 70 * DAY, end]
    prepared = make_prepared(
        folder,
        rows,
        cuts=cuts,
        titles={prefix + item: prefix + title for item, title in TITLES.items()},
        unavailable={prefix + SOLD_OUT},
        days=True,
        repeat_share=0.1,
    )
    sources = folder / "train-retrieval" / "literal" / FULL.name
    write_sources(prepared.item_ids, sources, sales)
    config, work = load_pipeline(), Work(folder / "work")
    names = [s["name"] for s in json.loads((sources / HEADER).read_bytes())["sources"]]
    settings = ReleaseSettings(
        quotas=dict.fromkeys(names, 50),
        weights=dict.fromkeys(names, 1.0) | {"popularity": 0.01, "recent_popularity": 0.02},
        history_events=100,
        warm_events=3,
        candidates=100,
        gains=config.data.gains,
    )
    learned = None if ranker is None else folder / "train-ranker" / "literal"
    if ranker is not None and learned is not None:
        item_statistics.write(prepared, FULL, 7, learned / STATISTICS / FULL.name)
        ranker(learned / RANKER / FULL.name, names)
    parts = Parts(sources.parent, ranker=learned)
    publish(work, prepared, parts, settings, config, {"ndcg@10": 0.5})
    return work


def write_sources(ids: IdMap, folder: Path, sales: float = 1) -> None:
    """Within a kind, items are as near as their numbers; cups follow teas and pots follow cups of the same number."""
    n = len(ids)

    def kind(a: str) -> str:
        return a[-5:-2]

    def number(a: str) -> int:
        return int(a[-1])

    def near(a: str, b: str) -> float:
        return 1 / (1 + abs(number(a) - number(b))) if kind(a) == kind(b) else 0.0

    def follows(a: str, b: str) -> float:
        return float((kind(a), kind(b)) in (("tea", "cup"), ("cup", "pot")) and number(a) == number(b))

    sold = np.array([number(ids[row]) * sales for row in range(n)], np.float32)
    lately = np.where([kind(ids[row]) == "pot" for row in range(n)], sold, 0).astype(np.float32)
    alike, then = lists(ids, near), lists(ids, follows)
    sources: dict[str, Source] = {
        "own_frequency": OwnFrequency(sold),
        "item_knn": ItemKnn(alike),
        "transitions": Transitions(then, 10, 1.0),
        "covisitation": Covisitation(then, 10, 1.0),
        "content": Content(alike, 10, 1.0),
        "recent_popularity": RecentPopularity(order_of(lately), lately),
        "popularity": Popularity(order_of(sold), sold),
    }
    folder.mkdir(parents=True)
    for name, source in sources.items():
        source.write(folder / name)  # type: ignore[attr-defined]  # fitting is not part of the protocol
    (folder / HEADER).write_text(json.dumps({"sources": [{"name": name} for name in sources]}))


def lists(ids: IdMap, score: object) -> Neighbours:
    """Neighbour lists by a function of two item ids."""
    assert callable(score)
    builder, rows = NeighboursBuilder(len(ids), 50), np.arange(len(ids), dtype=np.int32)
    for row in rows.tolist():
        scores = np.array([score(ids[row], ids[other]) if other != row else 0 for other in rows.tolist()], np.float32)
        builder.add(row, rows, scores)
    return builder.build()
