"""Item content as bags of tokens: one reading for the catalogue and for a single new item."""

import numpy as np
import pytest

from core.columns import Coded, Columns, Tags, Texts
from core.ids import hash64
from core.tokens import bags_of, item_bags, look_up, person_bags, vocabulary

ITEMS = Columns(
    {
        "title": Texts.of(["Red LAMP red", "", "lamp"]),
        "category": Coded.of(["home > light", None, "home"]),
        "brand": Coded.of(["acme", "acme", None]),
        "price": np.array([8.0, np.nan, 8.1], np.float32),
        "attribute.tags": Tags.of([["b", "a"], [], ["a"]]),
        "available": np.ones(3, bool),
    }
)


def names(row: int) -> dict[int, float]:
    bags = item_bags(ITEMS)
    span = slice(bags.starts[row], bags.starts[row + 1])
    return dict(zip(bags.tokens[span].tolist(), bags.weights[span].tolist(), strict=True))


def test_every_field_speaks_with_the_same_weight() -> None:
    half = pytest.approx(2**-0.5)
    # 2 * log2(1 + 8) = 6.34, half-octave 6
    assert names(0) == {
        hash64("title=lamp"): half,
        hash64("title=red"): half,
        hash64("category=home"): half,
        hash64("category=home > light"): half,
        hash64("brand=acme"): 1.0,
        hash64("price~6"): 1.0,
        hash64("tags=a"): half,
        hash64("tags=b"): half,
    }
    assert names(1) == {hash64("brand=acme"): 1.0}


def test_one_item_reads_as_it_does_in_the_table() -> None:
    one = bags_of(
        [
            {
                "title": "Red LAMP red",
                "category": "home > light",
                "brand": "acme",
                "price": 8.0,
                "tags": ["b", "a"],
                "color": None,
            }
        ]
    )
    assert dict(zip(one.tokens.tolist(), one.weights.tolist(), strict=True)) == names(0)


def test_an_item_without_attributes_has_an_empty_bag() -> None:
    assert len(bags_of([{}]).tokens) == 0
    assert len(item_bags(Columns({"available": np.ones(2, bool)}))) == 2


def test_only_tokens_of_several_known_items_are_learned() -> None:
    bags = item_bags(ITEMS)
    known = vocabulary(bags, np.array([0, 2]), at_least=2, at_most=10)
    # brand=acme is on items 0 and 1, but 1 is not among the known ones
    assert set(known.tolist()) == {hash64(t) for t in ("title=lamp", "category=home", "price~6", "tags=a")}
    assert len(vocabulary(bags, np.arange(3), 2, at_most=1)) == 1


def test_look_up_keeps_item_order_and_drops_the_unknown() -> None:
    bags = item_bags(ITEMS)
    known = np.sort(np.array([hash64("brand=acme"), hash64("tags=a")], np.uint64))
    rows, tokens, weights = look_up(bags, known)
    assert sorted(rows.tolist()) == rows.tolist() == [0, 0, 1, 2]
    assert set(known[tokens].tolist()) == set(known.tolist())
    assert weights.sum() == pytest.approx(1 + 2**-0.5 + 1 + 1)
    assert all(len(a) == 0 for a in look_up(bags, known[:0]))


def test_what_people_say_of_themselves_row_by_row() -> None:
    users = Columns(
        {
            "attribute.country": Coded.of(["France", None, "Spain"]),
            "attribute.age": np.array(
                [34, np.nan, 35], np.float32
            ),  # 2 * log2(1 + 34) = 10.26 and 2 * log2(1 + 35) = 10.34
            "created_at": np.array([1, 2, 3], np.int64),  # says nothing
            "known": np.ones(3, bool),
        }
    )
    bags = person_bags(users)
    age = hash64("age~10")
    assert set(bags.of(0).tolist()) == {hash64("country=France"), age}
    assert set(bags.of(2).tolist()) == {hash64("country=Spain"), age}
    assert [len(bags.of(row)) for row in (1, -1, 3)] == [0, 0, 0]  # says nothing; nobody; a row of later
