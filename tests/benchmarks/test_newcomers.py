"""Removal of new items and truncation of people, on a shop that a reader can follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.newcomers import (
    ContentKnn,
    Without,
    attributes_of,
    content_vectors,
    found,
    held_items,
    places,
    requests,
    truncated,
)
from core.columns import Coded, Columns, Tags, Texts
from core.config import load_pipeline
from core.history import History, Query
from core.prepared import TWIN, Prepared
from core.schema import DAY, Column, EventType
from core.tokens import item_bags
from evaluation.judgements import judge
from retrieval.fit import fit_sources
from retrieval.item_tower import ItemTower
from retrieval.sources import open_sources
from tests.prepared_fixture import Row, make_prepared

BUY, LOOK = EventType.PURCHASE_COMPLETE, EventType.DETAIL_PAGE_VIEW
CUTS = [0, 10 * DAY, 20 * DAY, 30 * DAY, 40 * DAY]
CONFIG = load_pipeline()


def rows() -> list[Row]:
    """Everybody buys a, b, c in the first ten days; after day 30 p buys c again and d, q buys b, r (who had only b) buys b."""
    bought = [(u, i, BUY, at * DAY) for u in ("u:p", "u:q") for at, i in enumerate("abc", start=1)]
    return [
        *bought,
        ("u:r", "b", BUY, 2 * DAY),
        ("u:p", "c", BUY, 31 * DAY),
        ("u:p", "d", BUY, 31 * DAY),
        ("u:q", "b", BUY, 32 * DAY),
        ("u:r", "b", BUY, 33 * DAY),
    ]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path, rows(), cuts=CUTS, pairs=True, repeat_share=0.3)


def row(prepared: Prepared, item: str) -> int:
    return prepared.item_ids.row(item)


def test_the_held_items_are_a_seeded_share_of_what_was_chosen_before_the_cut(prepared: Prepared) -> None:
    held = held_items(prepared, TWIN, seed=3, share=0.34)  # of a, b, c: one; d was chosen later
    assert len(held) == 1
    assert prepared.item_ids[int(held[0])] in "abc"
    assert held.tolist() == held_items(prepared, TWIN, seed=3, share=0.34).tolist()
    assert [prepared.item_ids[int(i)] for i in held_items(prepared, TWIN, seed=3, share=1.0)] == ["a", "b", "c"]


def test_removal_leaves_no_event_of_a_held_item_anywhere(prepared: Prepared) -> None:
    b = row(prepared, "b")
    reduced = Without(prepared, np.array([b], np.int32))
    assert b in prepared.events.numbers(Column.ITEM)
    assert b not in reduced.events.numbers(Column.ITEM)
    assert b not in reduced.interactions(TWIN).item
    histories = reduced.histories()
    assert all(b not in histories.before(user).items for user in range(len(reduced.user_ids)))
    for protocol in ("global", "last"):
        for name in ("transitions", "covisits"):
            ends = [prepared.pairs(protocol, name).numbers(c) for c in ("source", "target")]
            assert any(b in end for end in ends)
            left = [reduced.pairs(protocol, name).numbers(c) for c in ("source", "target")]
            assert len(left[0]) > 0
            assert not any(b in end for end in left)
    # the others keep every event: of 11 rows, 5 are of b
    assert len(reduced.events.numbers(Column.ITEM)) == 11 - 5
    assert len(reduced.item_ids) == len(prepared.item_ids)


def test_no_source_fitted_without_an_item_ever_proposes_it(prepared: Prepared, tmp_path: Path) -> None:
    b = row(prepared, "b")
    fit_sources(Without(prepared, np.array([b], np.int32)), TWIN, CONFIG, tmp_path / "fitted", lambda text: None)
    query = Query(30 * DAY, 0, prepared.histories().before(0, 30 * DAY))
    others = [
        s for s in open_sources(tmp_path / "fitted") if s.name != "own_frequency"
    ]  # which reads the history alone
    assert len(others) >= 5
    for source in others:
        assert b not in source.scoring(query).top(10, np.empty(0, np.int32))[0]


def test_requests_are_those_whose_targets_are_held_and_whose_history_never_was(prepared: Prepared) -> None:
    b, c = row(prepared, "b"), row(prepared, "c")
    judgements = judge(prepared, TWIN, "keep")
    cases = requests(prepared, judgements, np.array([b], np.int32), CONFIG, most=10)
    # q wants b and keeps a and c; r wants b, too, but has nothing else; p wants no b
    assert [prepared.user_ids[case.query.user] for case in cases] == ["u:q"]
    assert cases[0].wanted.tolist() == [b]
    assert cases[0].query.history.items.tolist() == [row(prepared, "a"), c]
    # with c held too, p wants c (and d, which is not held); q and r want b
    both = requests(prepared, judgements, np.array([b, c], np.int32), CONFIG, most=10)
    assert [case.wanted.tolist() for case in both] == [[c], [b]]
    assert len(requests(prepared, judgements, np.array([b, c], np.int32), CONFIG, most=1)) == 1


def history() -> History:
    """Bought 4, looked at 5, bought 6, looked at 7."""
    return History(
        np.array([4, 5, 6, 7], np.int32),
        np.arange(4, dtype=np.int64),
        np.array([BUY.code, LOOK.code, BUY.code, LOOK.code], np.int8),
        np.array([1, 0, 1, 0], np.float32),
    )


@pytest.mark.parametrize(
    ("n", "items", "had"),
    [
        (0, [], []),
        (1, [6, 7], [6]),  # the newest choice, and what came after it
        (2, [4, 5, 6, 7], [4, 6]),
        (5, [4, 5, 6, 7], [4, 6]),
        (None, [4, 5, 6, 7], [4, 6]),
    ],
)
def test_a_person_is_known_from_the_newest_choices_on(n: int | None, items: list[int], had: list[int]) -> None:
    query, excluded = truncated(Query(9, 2, history()), n, remove_seen=True)
    assert (query.user, query.history.items.tolist(), excluded.tolist()) == (2, items, had)
    assert truncated(Query(9, 2, history()), n, remove_seen=False)[1].tolist() == []


def test_places_count_what_stands_before() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.7, 0.5])
    allowed = np.array([True, True, True, True, False])
    # without row 1 the order is 3, 0, 2 (a tie goes to the lower row); row 4 is not in the catalogue
    assert places(scores, allowed, np.array([1]), np.array([2, 3])).tolist() == [2, 0]


def test_found_is_the_share_among_the_first(prepared: Prepared) -> None:
    case = requests(prepared, judge(prepared, TWIN, "keep"), np.array([row(prepared, "b")], np.int32), CONFIG, 10)[0]
    catalogue, scores = np.ones(4, bool), np.zeros(4)
    scores[[row(prepared, "a"), row(prepared, "b")]] = 2, 1
    assert (found(case, scores, catalogue, 1), found(case, scores, catalogue, 2)) == (0.0, 1.0)


def items() -> Columns:
    return Columns(
        {
            Column.TITLE: Texts.of(["red lamp", "blue lamp", ""]),
            Column.CATEGORY: Coded.of(["Home > Light", "Home > Light", None]),
            "attribute.tags": Tags.of([["x", "y"], [], ["x"]]),
            "attribute.size": np.array([1.5, np.nan, 2.0], np.float32),
            Column.AVAILABLE: np.ones(3, bool),
        }
    )


def test_attributes_of_an_item_are_those_that_a_shop_would_send() -> None:
    assert attributes_of(items(), 0) == {
        "title": "red lamp",
        "category": "Home > Light",
        "attribute.tags": ["x", "y"],
        "attribute.size": 1.5,
    }
    assert attributes_of(items(), 1) == {"title": "blue lamp", "category": "Home > Light"}


def test_content_vectors_read_the_same_tokens_as_the_catalogue(tmp_path: Path) -> None:
    table = items()
    bags = item_bags(table)
    tokens = np.unique(bags.tokens)
    # each token has a direction of its own, and no item an id
    files = {
        "ids": np.zeros((1, len(tokens)), np.float32),
        "has_id": np.zeros(0, bool),
        "tokens": tokens,
        "token_vectors": np.eye(len(tokens), dtype=np.float32),
    }
    (tmp_path / "item_tower").mkdir()
    for name, array in files.items():
        np.save(tmp_path / "item_tower" / f"{name}.npy", array)
    for at, vector in enumerate(content_vectors(ItemTower.open(tmp_path), table, np.arange(3))):
        own = np.unique(bags.tokens[bags.starts[at] : bags.starts[at + 1]])
        assert tokens[vector > 0].tolist() == own.tolist()


def test_content_knn_sums_cosines_of_rare_attributes() -> None:
    # four items: tags x on 0 and 1, y on 1 and 2, nothing on 3; both tags are on 2 of 4 items, so they weigh the same
    table = Columns({"attribute.tags": Tags.of([["x"], ["x", "y"], ["y"], []])})
    knn = ContentKnn(table, np.ones(4, bool), context_items=10, recency=0.0)
    bought = History(np.array([0], np.int32), np.zeros(1, np.int64), np.zeros(1, np.int8), np.ones(1, np.float32))
    # the cosine of {x} and {x, y} is 1 / sqrt(2)
    np.testing.assert_allclose(knn.scores(Query(1, 0, bought)), [1, 0.5**0.5, 0, 0], atol=1e-6)
    assert knn.scores(Query(1, 0)).tolist() == [0, 0, 0, 0]
