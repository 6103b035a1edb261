"""Columns that rows are replaced in and added to, against plain Python lists."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Coded, Columns, Tags, Texts
from core.live_columns import LiveColumns, Vocabulary

TITLES = ["Lamp", "", "Größe"]
BRANDS = ["acme", "", "zeta"]
USES: list[list[str]] = [["desk", "hall"], [], ["hall"]]
PRICES = [1.5, np.nan, 3.0]
SEEN = [5, -1, 7]


def base() -> Columns:
    return Columns(
        {
            "title": Texts.of(TITLES),
            "brand": Coded.of(BRANDS),
            "attribute.use": Tags.of(USES),
            "price": np.array(PRICES, np.float32),
            "created_at": np.array(SEEN, np.int64),
            "available": np.array([True, True, False]),
        }
    )


def rows_of(columns: Columns) -> list[tuple[Any, ...]]:
    """What a reader sees, row by row."""
    title, brand, use = columns["title"], columns["brand"], columns["attribute.use"]
    price, seen, available = (columns.numbers(c).tolist() for c in ("price", "created_at", "available"))
    assert isinstance(title, Texts)
    assert isinstance(brand, Coded)
    assert isinstance(use, Tags)
    return [
        (title[r], brand[r] or "", use[r], -1.0 if price[r] != price[r] else price[r], seen[r], available[r])
        for r in range(columns.rows)
    ]


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["Lamp", "Sofa", "ß"]),
        "brand": st.sampled_from(["acme", "new brand", "other brand"]),
        "attribute.use": st.lists(st.sampled_from(["desk", "hall", "roof"]), max_size=3),
        "price": st.sampled_from([0.5, 2.0]),
        "created_at": st.sampled_from([1, 9]),
        "available": st.booleans(),
    },
)


@settings(max_examples=100, deadline=None)
@given(writes=st.lists(st.tuples(st.integers(0, 5), VALUES), max_size=12))
def test_rows_are_those_last_written(writes: list[tuple[int, dict[str, Any]]]) -> None:
    live = LiveColumns(base(), 10)
    want = rows_of(base())
    for at, values in writes:
        at = min(at, len(want))  # a new row follows the last one
        live.write(at, values)
        row = (
            values.get("title", ""),
            values.get("brand", ""),
            sorted(set(values.get("attribute.use", []))),
            values.get("price", -1.0),
            values.get("created_at", -1),
            values.get("available", True),
        )
        want[at : at + 1] = [row]
        got = rows_of(live.view(len(want)))
        assert [(*r[:2], sorted(r[2]), *r[3:]) for r in got] == want


@settings(max_examples=100, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.integers(0, 6), st.lists(st.sampled_from(["desk", "hall", "x", "y"]), max_size=3)), max_size=8
    ),
    asked=st.lists(st.integers(0, 2), max_size=12),
)
def test_codes_of_many_rows_are_those_of_each(writes: list[tuple[int, list[str]]], asked: list[int]) -> None:
    live, n = LiveColumns(base(), 10), 3
    for at, values in writes:
        at = min(at, n)
        live.write(at, {"attribute.use": values})
        n = max(n, at + 1)
    tags = live.view(n)["attribute.use"]
    assert isinstance(tags, Tags)
    codes, owner = tags.codes_of(np.array(asked, np.int32))
    assert np.all(np.diff(owner) >= 0)
    for at, row in enumerate(asked):
        assert [tags.values[c] for c in codes[owner == at]] == tags[row]


def test_a_view_keeps_its_rows_and_new_values_get_codes_behind_the_known() -> None:
    live = LiveColumns(base(), 10)
    before = live.view(3)
    live.write(3, {"title": "Sofa", "brand": "new"})
    after = live.view(4)
    assert (before.rows, after.rows) == (3, 4)
    titles, more, brand = before["title"], after["title"], after["brand"]
    assert isinstance(titles, Texts)
    assert isinstance(more, Texts)
    assert isinstance(brand, Coded)
    assert list(titles) == TITLES
    assert list(more) == [*TITLES, "Sofa"]
    assert (more[-1], more[2:]) == ("Sofa", ["Größe", "Sofa"])
    assert brand.codes.tolist() == [0, -1, 1, 2]  # acme 0, zeta 1; the new one behind them
    assert brand[3] == "new"


def test_over_mapped_files(tmp_path: Path) -> None:
    base().write(tmp_path)
    live = LiveColumns(Columns.open(tmp_path), 10)
    live.write(0, {"title": "Other", "price": 9.0})
    live.write(3, {"price": 4.0})
    assert live.view(4).numbers("price").tolist()[::3] == [9.0, 4.0]
    assert rows_of(Columns.open(tmp_path)) == rows_of(base())


WORDS = st.text(st.sampled_from("ab=é"), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(values=st.sets(WORDS, max_size=12), asked=st.lists(WORDS, max_size=6))
def test_a_vocabulary_finds_what_a_dictionary_finds(values: set[str], asked: list[str]) -> None:
    code = {v: at for at, v in enumerate(sorted(values))}
    vocabulary = Vocabulary(Texts.of(sorted(values)))
    assert [vocabulary.known(v) for v in (*values, *asked)] == [code.get(v) for v in (*values, *asked)]
    for value in asked:
        assert vocabulary.code(value) == code.setdefault(value, len(code))
    assert list(vocabulary.values) == list(code)


@settings(max_examples=100, deadline=None)
@given(
    blocks=st.dictionaries(st.sampled_from(["use", "brand", "a", "z"]), st.sets(WORDS, min_size=1, max_size=6)),
    asked=WORDS,
)
def test_a_vocabulary_in_blocks_of_names(blocks: dict[str, set[str]], asked: str) -> None:
    """As ranking.item_statistics pools attributes: the blocks in the order of columns, sorted within."""
    values = [f"{name}={v}" for name, block in blocks.items() for v in sorted(block)]
    vocabulary = Vocabulary(Texts.of(values))
    for at, value in enumerate(values):
        assert vocabulary.known(value) == at
    for name in ("use", "brand", "other"):
        want = values.index(f"{name}={asked}") if f"{name}={asked}" in values else None
        assert vocabulary.known(f"{name}={asked}") == want
