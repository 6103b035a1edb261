"""The item tower in numpy: by hand, one item at a time and a whole catalogue at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Coded, Columns
from core.ids import hash64
from core.schema import Column
from core.tokens import item_bags
from retrieval.item_tower import ItemTower

BRANDS = ("acme", "best")
TOKENS = np.sort(np.array([hash64(f"brand={b}") for b in BRANDS], np.uint64))


def tower(learned: list[bool]) -> ItemTower:
    """Items with embeddings of their own and one that the others share; the brand acme speaks for [0, 4], best for [0, -2]."""
    ids = np.array([[3.0, 0.0]] * len(learned) + [[0.0, 1.0]], np.float32)
    speaks = {hash64("brand=acme"): [0.0, 4.0], hash64("brand=best"): [0.0, -2.0]}
    return ItemTower(ids, np.array(learned, bool), TOKENS, np.array([speaks[int(t)] for t in TOKENS], np.float32))


def test_vectors_by_hand() -> None:
    one = tower([True])
    # [3, 0] + [0, 4] has length 5; without the row [0, 1] + [0, 4] points upwards; of an unknown brand without a row nothing is known
    assert one.vector({"brand": "acme"}, 0) == pytest.approx([0.6, 0.8])
    assert one.vector({"brand": "acme"}) == pytest.approx([0.0, 1.0])
    assert one.vector({"brand": "other"}).tolist() == [0.0, 0.0]
    assert one.vector({"brand": "other"}, 0) == pytest.approx([1.0, 0.0])


def test_a_row_that_was_not_learned_is_an_item_without_one() -> None:
    two = tower([True, False])
    for row in (1, 2, 99, -1):  # of the table without an embedding, and beyond it: items that came after training
        assert two.vector({"brand": "acme"}, row).tolist() == two.vector({"brand": "acme"}).tolist()


@given(st.lists(st.sampled_from(["acme", "best", "unknown", ""]), max_size=9), st.lists(st.booleans(), max_size=6))
def test_a_catalogue_at_once_gives_the_bits_of_each_item_alone(brands: list[str], learned: list[bool]) -> None:
    items = tower(learned)
    vectors, known = items.vectors(item_bags(Columns({Column.BRAND: Coded.of(brands)}, rows=len(brands))))
    assert vectors.shape == (len(brands), 2)
    for row, brand in enumerate(brands):
        assert vectors[row].tobytes() == items.vector({"brand": brand}, row).tobytes()
        assert known[row] == (brand in BRANDS or (row < len(learned) and learned[row]))
        assert np.linalg.norm(vectors[row]) == pytest.approx(float(known[row]), abs=1e-6)


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["red lamp", "lamp", "Zzz"]),
        "category": st.sampled_from(["home", "home > lamps"]),
        "brand": st.sampled_from(["acme", "best"]),
        "price": st.sampled_from([1.0, 20, 500.0]),
        "use": st.sampled_from(
            ["hall", ["hall", "desk"], ["desk", "desk"], 3.0]
        ),  # a text, a list or a number, by item
        "attribute.use2": st.sampled_from(["hall", None]),
    },
)


@settings(deadline=None)
@given(asked=st.lists(st.tuples(ITEMS, st.integers(-1, 4)), min_size=1, max_size=6))
def test_several_items_at_once_have_the_vectors_of_each_alone(asked: list[tuple[dict[str, Any], int]]) -> None:
    one = tower([True, False, True])
    found = one.of_items([item for item, _ in asked], [row for _, row in asked])
    assert [v.tobytes() for v in found] == [one.vector(item, row).tobytes() for item, row in asked]
