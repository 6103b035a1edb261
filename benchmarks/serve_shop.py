"""A release of any number of items for `bench serve`: what a night makes, by the night's own parts, without what costs hours and no request sees.

The shop is simulated and prepared; sources, towers, index and statistics are those of the published fold. Left out are the folds that only judge: no
twin, no validation. So the ranker, which has nothing to learn from, grows trees of the agreed number and size on the features of real requests
against made-up grades: it costs what a good one costs. The towers learn for one short pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from core.candidates import gather
from core.columns import Array, Columns
from core.config import PipelineConfig, load_pipeline
from core.history import Query
from core.prepared import FULL, Prepared
from core.release import RANKER, STATISTICS
from core.work import Work
from index_builder.build import build_index
from pipeline.index import query_vectors
from pipeline.publish import Parts, publish
from pipeline.twin import release_settings
from ranking import item_statistics
from ranking.features import ItemTable, matrix
from ranking.train import GRADES, TrainingSet, grow
from ranking.user_facts import UserFacts
from retrieval import quotas
from retrieval.fit import WEIGHTS, fit_sources
from retrieval.query import QueryTower
from retrieval.sources import SOURCES, TOWERS, open_sources

Say = Callable[[str], None]

TREES, LEAVES = 300, 63
QUOTAS: Final = {
    "towers": 200,
    "own_frequency": 200,
    "item_knn": 250,
    "linear": 100,
    "transitions": 150,
    "covisitation": 250,
    "content": 100,
    "recent_popularity": 100,
    "popularity": 50,
}
"""About 500 candidates a request, of every source: no validation window has chosen them."""
_REQUESTS: Final = 400  # that the trees grow on
_SEED: Final = 7


def make(work: Work, items: int, say: Say) -> Path:
    """The release under `work`, made if it is not there: `items` items, a tenth as many people, twice as many events (at least 50,000)."""
    if not work.current.exists():
        config = _config()
        prepared = _prepared(work, items, config, say)
        parts = Parts(*(work.root / "parts" / name for name in ("sources", "index", "ranker")))
        _retrieval(parts, prepared, config, say)
        _ranker(parts, prepared, config, say)
        settings = release_settings(parts.sources, config)
        publish(work, prepared, parts, settings, config, {})
    return work.current


def _config() -> PipelineConfig:
    config = load_pipeline()
    towers = config.towers.model_copy(update={"epochs": 1, "final_epochs": 1, "events": 50})
    ranker = config.ranker.model_copy(update={"leaves": LEAVES, "rows_per_leaf": 5})
    return config.model_copy(update={"towers": towers, "ranker": ranker})


def _prepared(work: Work, items: int, config: PipelineConfig, say: Say) -> Prepared:
    from data_prep.prepare import run as prepare
    from data_prep.simulate.options import ShopOptions
    from data_prep.simulate.run import simulate

    data = work.root / "data"
    if not data.exists():
        shop = ShopOptions(users=max(items // 10, 1000), items=items, events=max(2 * items, 50_000), days=90, seed=1)
        say(f"simulating a shop: {shop.users:,} users, {shop.items:,} items, {shop.events:,} events")
        simulate(shop, data)
    with work.locked():
        return Prepared(prepare(data, work, config, say))


def _retrieval(parts: Parts, prepared: Prepared, config: PipelineConfig, say: Say) -> None:
    """Sources, towers and index of everything."""
    from retrieval.towers.train import fit_towers

    folder = parts.sources / FULL.name
    fit_sources(prepared, FULL, config, folder, say)
    fit_towers(prepared, FULL, config, folder / TOWERS, say)
    (parts.sources / quotas.FILE).write_text(json.dumps(QUOTAS))
    (parts.sources / WEIGHTS).write_text(json.dumps(dict.fromkeys([TOWERS, *SOURCES], 1.0)))
    tower = QueryTower.open(folder / TOWERS)
    assert parts.index is not None
    facts = build_index(
        np.asarray(tower.item_vectors),
        query_vectors(prepared, FULL, tower, config),
        tower.embedding_id,
        config.index,
        parts.index / FULL.name,
        say,
    )
    say(f"index: {facts['kind']}")


def _ranker(parts: Parts, prepared: Prepared, config: PipelineConfig, say: Say) -> None:
    assert parts.ranker is not None
    statistics = parts.ranker / STATISTICS / FULL.name
    item_statistics.write(prepared, FULL, config.sources.recent_days, statistics)
    table, sources = ItemTable.open(statistics, prepared.items), open_sources(parts.sources / FULL.name)
    rng, rows = np.random.default_rng(_SEED), []
    for query in queries(prepared, UserFacts.of(prepared), config.sources.history_events, _REQUESTS):
        candidates = gather(sources, QUOTAS, query, np.empty(0, np.int32))
        rows.append(matrix(query, candidates, table, sources))
    trees = grow([_graded(rows, rng)], TREES, config.ranker)
    trees.write(parts.ranker / RANKER / FULL.name, [s.name for s in sources], {})
    say(f"ranker: {TREES} trees of {LEAVES} leaves over {rows[0].shape[1]} features")


def _graded(rows: list[Array], rng: np.random.Generator) -> TrainingSet:
    """Grades that depend on some features, with noise: trees have something to split on."""
    every = np.concatenate(rows)
    spread = every.std(axis=0)
    weights = rng.normal(size=every.shape[1]) / np.where(spread > 0, spread, 1)
    worth = every @ weights + rng.normal(size=len(every)) * np.abs(weights * spread).sum() / 4
    grades = np.where(worth > np.quantile(worth, 0.95), rng.integers(1, GRADES + 1, len(worth)), 0).astype(np.int8)
    sizes = np.array([len(r) for r in rows], np.int32)
    return TrainingSet(every, grades, sizes, np.ones(len(rows)), 0)


def queries(prepared: Prepared, facts: UserFacts, limit: int, most: int) -> list[Query]:
    """What `most` people who chose something would ask at the end of the data, a seeded sample."""
    histories, end, asked = prepared.histories(limit), prepared.cuts.end, []
    known = np.asarray(Columns.numbers(prepared.users, "known"))
    for user in np.random.default_rng(_SEED).permutation(len(prepared.user_ids)).tolist():
        history = histories.before(user, end)
        if known[user] and (history.gains > 0).any():
            asked.append(Query(end, user, history, facts=facts.at(user, end)))
        if len(asked) == most:
            break
    return asked
