"""Many items at once have the vectors that the item tower gives each alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import hash64
from retrieval.query import ItemTower
from retrieval.towers.content import bag_of
from retrieval.towers.many_items import ManyItems

ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["red lamp", "lamp", "Zzz"]),
        "category": st.sampled_from(["home", "home > lamps"]),
        "brand": st.sampled_from(["acme", "zeta"]),
        "price": st.sampled_from([1.0, 20, 500.0]),
        "use": st.sampled_from(["hall", ["hall", "desk"], ["desk", "desk"], 3.0]),
        "attribute.use2": st.sampled_from(["hall", None]),
    },
)
EXAMPLES: list[dict[str, Any]] = [
    {"title": "red lamp", "category": "home > lamps", "brand": "acme", "price": 20},
    {"use": ["hall", "desk"], "attribute.use2": "hall", "price": 1.0},
    {"use": 3.0},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five items, of which three have an id embedding; all tokens of the examples but one."""
    rng, tower = np.random.default_rng(3), tmp_path_factory.mktemp("towers") / "item_tower"
    tower.mkdir()
    tokens = np.unique(np.concatenate([bag_of(item).tokens for item in EXAMPLES]))
    tokens = np.sort(tokens[tokens != hash64("use=desk")])
    arrays = {
        "ids": rng.normal(size=(6, 8)).astype(np.float32),
        "has_id": np.array([True, False, True, True, False]),
        "tokens": tokens,
        "token_vectors": rng.normal(size=(len(tokens), 8)).astype(np.float32),
    }
    for name, array in arrays.items():
        np.save(tower / f"{name}.npy", array)
    return tower.parent


@settings(max_examples=100, deadline=None)
@given(asked=st.lists(st.tuples(ITEMS, st.integers(-1, 4)), min_size=1, max_size=6))
def test_as_one_by_one(folder: Path, asked: list[tuple[dict[str, Any], int]]) -> None:
    alone = ItemTower.open(folder)
    got = ManyItems.open(folder).vectors([item for item, _ in asked], [row for _, row in asked])
    assert got.dtype == np.float32
    for vector, (item, row) in zip(got, asked, strict=True):
        # an item without an id embedding of its own is new to the tower
        want = alone.vector(item, row if row in (0, 2, 3) else None)
        assert vector == pytest.approx(want, abs=1e-6)
