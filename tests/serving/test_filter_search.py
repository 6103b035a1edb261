"""Filters and the vector index: what a filter leaves is searched inside the index, among new items too, and is never anything else."""

# bazel: size=large, timeout=long

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.catalog_entry import Entry, Kind
from core.catalog_log import CatalogLog
from core.columns import Array
from core.history import Query
from core.narrowed import narrowed
from retrieval.query import TowerSource
from serving.answers import Request
from serving.filters.masks import Masks
from serving.live_release import LiveRelease
from serving.release import Release
from serving.request_path import answer
from serving.resident import made_up_history
from serving.rules.bound import bound
from serving.rules.load import Rule
from serving.rules.schema import KINDS
from tests.serving.live_shop import END, ITEMS, SOLD_OUT, make_live_shop

NONE = np.empty(0, np.int32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release.open(make_live_shop(tmp_path_factory.mktemp("shop")).current)


def query(release: Release, *items: str) -> Query:
    return Query(END, history=made_up_history(release.item_ids.rows(items), END))


def towers(release: Release) -> TowerSource:
    return next(s for s in release.sources if isinstance(s, TowerSource))


def nearest(release: Release, asked: Query, allowed: Array, k: int) -> list[int]:
    """By every inner product."""
    tower = towers(release).tower
    vector = tower.vector(asked)
    assert vector is not None
    scores = np.where(allowed & tower.has_vector, tower.item_vectors @ vector, -np.inf)
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    return [int(r) for r in order if np.isfinite(scores[r])]


@pytest.mark.parametrize(
    "text", ["brand = 'gamma'", "item_id IN ('alpha-1', 'gamma-3')", "NOT item_id = 'beta-1'", "item_id = 'gone'"]
)
def test_the_index_searches_among_what_the_filter_leaves(base: Release, text: str) -> None:
    asked = query(base, "beta-1", "beta-2")
    mask = Masks().of(text, base, END)
    [source] = narrowed((towers(base),), mask)
    rows, _ = source.scoring(asked).top(5, NONE)
    # the release's index over so few items is exact
    assert rows.tolist() == nearest(base, asked, mask, 5)
    for k in (1, 5, len(ITEMS)):
        page = answer(base, Request(asked, k, filter=mask))
        assert len(page.rows) == min(k, int((mask & base.available).sum()))
        assert mask[page.rows].all()


def test_new_items_are_found_by_their_attributes_and_others_are_not(base: Release, tmp_path: Path) -> None:
    log = CatalogLog(tmp_path / "catalog")
    live = LiveRelease(base, log, lambda: END)
    rows = tuple(
        {"item_id": f"new-{n}", "title": "beta thing", "brand": brand, "price": 5.0 + n, "available": True}
        for n, brand in enumerate(("Beta", "Brandnew", "Brandnew"))
    )
    log.append(Entry(Kind.UPSERT, END, rows).payload)
    live.take()
    live.absorb()
    release, asked = live.current, query(base, "beta-1", "beta-2")
    masks = Masks()
    mask = masks.of("brand = 'Brandnew'", release, END)
    assert sorted(release.item_ids[r] for r in np.flatnonzero(mask).tolist()) == ["new-1", "new-2"]
    page = answer(release, Request(asked, 5, filter=mask))
    assert sorted(release.item_ids[r] for r in page.rows.tolist()) == ["new-1", "new-2"]
    [source] = narrowed((towers(release),), mask)
    assert source.scoring(asked).top(5, NONE)[0].tolist() == nearest(release, asked, mask, 5)
    # a changed price counts from the next view on
    log.append(Entry(Kind.UPSERT, END, ({**rows[1], "price": 99.0},)).payload)
    live.take()
    live.absorb()
    mask = masks.of("brand = 'Brandnew' AND price > 50", live.current, END)
    assert [live.current.item_ids[r] for r in np.flatnonzero(mask).tolist()] == ["new-1"]


def test_diversity_by_vectors_mixes_what_is_alike(base: Release) -> None:
    spec = KINDS["diversify"].model_validate({"name": "mix", "kind": "diversify", "by": "vectors", "level": 0.7})
    rules = bound([Rule(spec, "a.yaml", 1, *spec.in_force)], base, END)
    assert not rules.problems
    asked = Request(query(base, "beta-1", "beta-2"), 6)

    def alike(rows: Array) -> float:
        mine = towers(base).tower.item_vectors[rows]
        mine = mine / np.linalg.norm(mine, axis=1, keepdims=True)
        return float((mine @ mine.T)[np.triu_indices(len(rows), 1)].mean())

    plain, mixed = answer(base, asked), answer(base, replace(asked, rules=rules))
    assert mixed.rows[0] == plain.rows[0]
    assert alike(mixed.rows) < alike(plain.rows)
    assert SOLD_OUT not in [base.item_ids[r] for r in mixed.rows.tolist()]
