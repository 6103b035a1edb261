"""Id maps: dense rows, grow only, look-ups exact."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import NO_ROW, IdMap, hash64, person_key

ids = st.lists(st.text(min_size=1), unique=True, max_size=200)


@given(ids, st.lists(st.text(min_size=1)))
def test_every_id_has_its_row_and_no_other_id_has_one(known: list[str], asked: list[str]) -> None:
    id_map = IdMap.of(known)
    expected = {external: row for row, external in enumerate(known)}
    assert [id_map.row(a) for a in asked + known] == [expected.get(a, NO_ROW) for a in asked + known]
    assert id_map.rows(asked + known).tolist() == [expected.get(a, NO_ROW) for a in asked + known]
    assert [id_map[r] for r in range(len(id_map))] == known


@given(ids, ids)
def test_growing_keeps_every_row_and_does_not_depend_on_the_order_of_new_ids(first: list[str], more: list[str]) -> None:
    old, grown = IdMap.of(first), IdMap.of(first).extended(more)
    assert [grown.row(i) for i in first] == [old.row(i) for i in first]
    new = [i for i in more if i not in first]
    # new ids follow the old rows in sorted order
    assert [grown[r] for r in range(len(first), len(grown))] == sorted(new)
    assert list(grown.extended(reversed(more)).alive) == list(grown.alive)


@given(ids, st.data())
def test_a_tombstone_keeps_its_row_and_nothing_of_its_id(known: list[str], data: st.DataObject) -> None:
    gone = set(data.draw(st.lists(st.sampled_from(known)))) if known else set()
    after = IdMap.of(known).without([*gone, "no such id", ""])
    assert [after.row(i) for i in known] == [NO_ROW if i in gone else row for row, i in enumerate(known)]
    assert [after[row] for row in range(len(after))] == ["" if i in gone else i for i in known]
    assert after.alive.tolist() == [i not in gone for i in known]
    # as if it had been written without them: neither their text nor their hash is anywhere
    assert after.texts.data.tobytes() == "".join(i for i in known if i not in gone).encode()
    hashes = {hash64(i) for i in known if i not in gone} | ({hash64("")} if gone else set())
    assert set(after._hashes.tolist()) == hashes


@given(ids, st.data())
def test_who_comes_back_gets_a_new_row(known: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    back = IdMap.of(known).without(gone).extended([*known, ""])
    assert [back[row] for row in range(len(known), len(back))] == sorted(gone)
    assert back.rows(known).tolist() == [
        len(known) + sorted(gone).index(i) if i in gone else row for row, i in enumerate(known)
    ]


def test_the_empty_text_is_nobody(tmp_path: Path) -> None:
    IdMap.of(["a", "b", "c"]).without(["a", "c"]).write(tmp_path)
    opened = IdMap.open(tmp_path)
    assert opened.row("") == NO_ROW
    assert opened.rows(["", "b"]).tolist() == [NO_ROW, 1]
    assert opened.rows([*[""] * 2_000, "b"]).tolist() == [*[NO_ROW] * 2_000, 1]  # the way of long lists
    assert len(opened.extended([""])) == 3


def test_round_trip_through_files(tmp_path: Path) -> None:
    IdMap.of(["x", "é", "日本"]).write(tmp_path)
    assert IdMap.open(tmp_path).rows(["日本", "x", "é", "no"]).tolist() == [2, 0, 1, NO_ROW]


def test_an_empty_map_knows_nothing(tmp_path: Path) -> None:
    IdMap.of([]).write(tmp_path)
    assert IdMap.open(tmp_path).row("a") == NO_ROW


@pytest.mark.parametrize(
    ("bad", "alive"), [(["a", "a"], None), ([""], None), (["a", "b"], [True, False]), (["a", ""], [True, True])]
)
def test_ids_must_be_distinct_and_not_empty(bad: list[str], alive: list[bool] | None) -> None:
    with pytest.raises(ValueError, match="distinct and not empty"):
        IdMap.of(bad, None if alive is None else np.array(alive))


def test_ids_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ids.hash64", lambda text: len(text))
    id_map = IdMap.of(["aa", "b", "cc", "d"])
    assert id_map.rows(["d", "cc", "aa", "b", "e", "eee"]).tolist() == [3, 2, 0, 1, NO_ROW, NO_ROW]


def test_the_hash_is_part_of_the_format() -> None:
    # first 8 bytes of BLAKE2b-64("a"), little-endian; a change would orphan every id map on disk
    assert hash64("a") == int.from_bytes(bytes.fromhex("40f89e395b66422f"), "little")


def test_a_user_and_a_visitor_with_one_id_are_two_people() -> None:
    assert person_key("7") != person_key(None, "7")
    assert person_key("7", "guest") == person_key("7")
