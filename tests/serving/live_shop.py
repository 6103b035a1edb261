"""A shop with towers, small enough to fit in a test: three tastes that titles, brands and people agree on; its release has an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.columns import AnyColumn, Coded, Tags, Texts
from core.config import PipelineConfig, load_pipeline
from core.prepared import FULL
from core.release import ReleaseSettings
from core.schema import DAY, Column, EventType
from core.work import Work
from index_builder.build import build_index
from pipeline.index import query_vectors
from pipeline.publish import Parts, publish
from retrieval.fit import fit_sources
from retrieval.query import QueryTower
from retrieval.sources import TOWERS
from tests.prepared_fixture import make_prepared

TASTES = ("alpha", "beta", "gamma")
PER_TASTE, PEOPLE, DAYS = 8, 45, 10
START = 1_700_000_000_000_000
END = START + DAYS * DAY
SOLD_OUT = "gamma-7"
ITEMS = sorted(f"{taste}-{n}" for taste in TASTES for n in range(PER_TASTE))
SMALL = {
    "dimensions": 16,
    "events": 8,
    "heads": 2,
    "epochs": 6,
    "final_epochs": 6,
    "batch_events": 64,
    "uniform_negatives": 8,
    "learning_rate": 0.01,
    "id_dropout": 0.5,
    "seconds": 60,
}


def config() -> PipelineConfig:
    base = load_pipeline()
    return base.model_copy(update={"towers": base.towers.model_copy(update=SMALL)})


def price(item_id: str) -> float:
    return 10.0 + int(item_id[-1])


def make_live_shop(folder: Path) -> Work:
    """`folder/work` with a release. Person p chooses items of taste p % 3 alone, one a day."""
    from retrieval.towers.train import fit_towers  # here: TensorFlow takes seconds

    rng, settings = np.random.default_rng(5), config()
    rows = [
        (f"u:p{p:02}", f"{TASTES[p % 3]}-{rng.integers(PER_TASTE)}", EventType.PURCHASE_COMPLETE, START + day * DAY + p)
        for p in range(PEOPLE)
        for day in range(DAYS)
    ]
    taste = [i.split("-")[0] for i in ITEMS]
    columns: dict[str, AnyColumn] = {
        Column.TITLE: Texts.of(f"{t} thing" for t in taste),
        Column.CATEGORY: Coded.of(f"all > {t}" for t in taste),
        Column.BRAND: Coded.of(taste),
        Column.PRICE: np.array([price(i) for i in ITEMS], np.float32),
        "attribute.use": Tags.of([t, f"use {i[-1]}"] for i, t in zip(ITEMS, taste, strict=True)),
    }
    cuts = [START, START + 7 * DAY, START + 8 * DAY, START + 9 * DAY, END]
    prepared = make_prepared(
        folder,
        rows,
        cuts=cuts,
        titles=dict.fromkeys(ITEMS, ""),
        unavailable={SOLD_OUT},
        columns=columns,
        pairs=True,
        days=True,
        repeat_share=0.3,
    )
    sources, index = folder / "sources" / FULL.name, folder / "index" / FULL.name
    fit_sources(prepared, FULL, settings, sources, lambda _: None)
    fit_towers(prepared, FULL, settings, sources / TOWERS, lambda _: None)
    tower = QueryTower.open(sources / TOWERS)
    queries = query_vectors(prepared, FULL, tower, settings)
    index.parent.mkdir()
    build_index(np.asarray(tower.item_vectors), queries, tower.embedding_id, settings.index, index, lambda _: None)
    names = [TOWERS, *(p.name for p in sources.iterdir() if p.is_dir() and p.name != TOWERS)]
    asked = ReleaseSettings(
        quotas=dict.fromkeys(names, 50),
        weights=dict.fromkeys(names, 0.5) | {TOWERS: 2.0},
        history_events=100,
        warm_events=3,
        candidates=100,
        gains=settings.data.gains,
    )
    work = Work(folder / "work")
    publish(work, prepared, Parts(sources.parent, index.parent), asked, settings, {"ndcg@10": 0.5})
    return work
