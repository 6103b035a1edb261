"""The compiled kernel fills the matrix with the bits of numpy, whatever the person, the candidates and the items are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import native
from core.candidates import Candidates
from core.columns import Array, Coded, Columns, Tags
from core.history import History, Query
from core.ids import NO_ROW
from core.live_columns import LiveTags
from core.schema import DAY, Column
from ranking import compiled_features
from ranking.feature_list import FEATURES, ITEM, SOURCES, USER
from ranking.features import matrix
from ranking.item_table import ATTRIBUTES, FACTS, ItemTable

NOW, N = 1_700_000_000_000_000, 60
NAMES = (*SOURCES, *(f"other {n}" for n in range(12)))


def some_table(rng: np.random.Generator) -> ItemTable:
    """60 items; a fifth each without brand, category and price; a shop may have no attributes at all."""
    facts = rng.normal(size=(N, len(ITEM))).astype(np.float32)
    facts *= rng.random(facts.shape) < 0.8
    brands, kinds = (
        [None if rng.random() < 0.2 else f"{x}" for x in rng.integers(0, some, N)]
        for some in (4, int(rng.integers(1, 9)))
    )
    tags = [[f"t{t}" for t in rng.integers(0, 12, int(rng.integers(0, 6)))] for _ in range(N)]
    bare = rng.random() < 0.1
    statistics = Columns({FACTS: facts, ATTRIBUTES: Tags.of([[]] * N if bare else tags)})
    items = Columns({Column.CATEGORY: Coded.of(kinds), Column.BRAND: Coded.of([None] * N if bare else brands)})
    table = ItemTable.of(statistics, items, NOW, bool(rng.random() < 0.1))
    if bare or rng.random() < 0.5:
        return table
    changed = rng.random(N) < 0.1
    codes = {row: rng.integers(0, len(table.rarity), 3).astype(np.int32) for row in np.flatnonzero(changed).tolist()}
    live = LiveTags.over(table.attributes, table.attributes.values, codes, changed)
    return dataclasses.replace(table, attributes=live)


def some_query(rng: np.random.Generator) -> Query:
    """Up to 90 events in few moments, a third of them without gain."""
    h = int(rng.integers(0, 90))
    gains = (rng.choice([0.0, 1.0, 3.0], h)).astype(np.float32)
    times = NOW - np.sort(rng.integers(0, 30, h))[::-1] * DAY * 3 // 2
    history = History(rng.integers(0, N, h).astype(np.int32), times.astype(np.int64), np.zeros(h, np.int8), gains)
    facts = None if rng.random() < 0.5 else rng.normal(size=len(USER) - 1).astype(np.float32)
    return Query(NOW, 0, history, rng.integers(0, N, int(rng.integers(0, 3))).astype(np.int32), facts=facts)


def some_candidates(rng: np.random.Generator, n: int, sources: int) -> Candidates:
    """Scores of which some are no numbers, ranks of which some are none."""
    scores = rng.normal(1, 1, (n, sources)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = 0
    if rng.random() < 0.2:
        scores[rng.random(scores.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    ranks = np.where(rng.random(scores.shape) < 0.4, rng.integers(0, 300, scores.shape), NO_ROW).astype(np.int32)
    rows = np.sort(rng.permutation(N)[:n]).astype(np.int32)
    return Candidates(rows, tuple(rng.permutation(NAMES)[:sources].tolist()), scores, ranks)


def both(query: Query, candidates: Candidates, table: ItemTable) -> tuple[Array, Array]:
    """The matrix by the kernel, and by numpy."""
    with np.errstate(invalid="ignore"), pytest.MonkeyPatch.context() as patch:
        found = matrix(query, candidates, table)
        patch.setattr(compiled_features, "library", lambda: None)
        return found, matrix(query, candidates, table)


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, N), sources=st.integers(1, 21))
def test_the_bits_of_numpy(seed: int, n: int, sources: int) -> None:
    rng = np.random.default_rng(seed)
    query, candidates, table = some_query(rng), some_candidates(rng, n, sources), some_table(rng)
    found, wanted = both(query, candidates, table)
    wrong = [FEATURES[f].name for f in np.flatnonzero((found != wanted).any(axis=0))]
    assert not wrong
    assert found.flags.f_contiguous == wanted.flags.f_contiguous


def test_more_candidates_than_a_block() -> None:
    rng = np.random.default_rng(3)
    for n in (63, 64, 65, 500):
        table = some_table(rng)
        scores = rng.normal(1, 1, (n, 9)).astype(np.float32)
        ranks = rng.integers(-1, 200, (n, 9)).astype(np.int32)
        # the same items over and over: nothing in the matrix needs them distinct but the person's own
        rows = np.sort(rng.integers(0, N, n)).astype(np.int32)
        found, wanted = both(Query(NOW), Candidates(rows, SOURCES, scores, ranks), table)
        assert np.array_equal(found, wanted)


def test_rows_that_the_table_lacks_are_refused_as_numpy_does() -> None:
    rng = np.random.default_rng(4)
    table, beyond = some_table(rng), Candidates(np.array([N], np.int32), ("a",), *np.zeros((2, 1, 1), np.float32))
    beyond = dataclasses.replace(beyond, ranks=np.zeros((1, 1), np.int32))
    with pytest.raises(IndexError):
        matrix(Query(NOW), beyond, table)


def test_more_sources_than_the_kernel_has_room_for() -> None:
    rng = np.random.default_rng(5)
    candidates = some_candidates(rng, 20, 21)
    wide = np.concatenate([candidates.scores] * 2, axis=1), np.concatenate([candidates.ranks] * 2, axis=1)
    found, wanted = both(some_query(rng), Candidates(candidates.rows, candidates.sources * 2, *wide), some_table(rng))
    assert np.array_equal(found, wanted)


def test_without_a_compiler(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    load = native.load.__wrapped__
    monkeypatch.setattr(native, "load", lambda source: load(source, folder=tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiled_features.library.__wrapped__() is None
    assert "features are made by numpy, several times slower: no C compiler" in caplog.text
