"""Column folders: what goes in comes out, and damage is named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Coded, Columns, Tags, Texts, load_array
from core.errors import ArtifactError
from core.live_columns import LiveTexts

text = st.text(max_size=8)


@given(st.lists(text))
def test_texts_hold_any_unicode(texts: list[str]) -> None:
    column = Texts.of(texts)
    assert list(column) == texts
    assert [column[i] for i in range(len(texts))] == texts


@given(st.lists(st.none() | text))
def test_coded_holds_values_and_none(values: list[str | None]) -> None:
    column = Coded.of(values)
    assert [column[i] for i in range(len(values))] == [v or None for v in values]
    assert list(column.values) == sorted(column.values)


@given(st.lists(st.none() | st.lists(text)))
def test_tags_hold_sets(lists: list[list[str] | None]) -> None:
    column = Tags.of(lists)
    assert [column[i] for i in range(len(lists))] == [sorted(set(values or ()) - {""}) for values in lists]


def example() -> Columns:
    return Columns(
        {
            "number": np.array([1.5, np.nan], np.float32),
            "matrix": np.arange(6, dtype=np.int32).reshape(2, 3),
            "text": Texts.of(["ä", ""]),
            "coded": Coded.of(["x", None]),
            "tags": Tags.of([["b", "a"], None]),
        }
    )


def test_round_trip_of_every_kind(tmp_path: Path) -> None:
    example().write(tmp_path)
    c = Columns.open(tmp_path)
    assert set(c) == set(example())
    np.testing.assert_array_equal(c.numbers("number"), [1.5, np.nan])
    assert c.numbers("matrix").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert list(c["text"]) == ["ä", ""]  # type: ignore[arg-type]
    assert c["coded"][0] == "x"
    assert c["coded"][1] is None
    assert c["tags"][0] == ["a", "b"]
    assert c["tags"][1] == []


def test_no_rows_at_all(tmp_path: Path) -> None:
    Columns({"n": np.empty(0, np.int32), "t": Texts.of([])}).write(tmp_path)
    c = Columns.open(tmp_path)
    assert c.rows == 0
    assert len(c["t"]) == 0


def test_mapped_arrays_cannot_be_written(tmp_path: Path) -> None:
    example().write(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        Columns.open(tmp_path).numbers("number")[0] = 3


def test_same_content_same_bytes(tmp_path: Path) -> None:
    example().write(tmp_path / "a")
    example().write(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_columns_of_one_table_have_one_length() -> None:
    with pytest.raises(ArtifactError, match=r"2 rows, but \{'b': 3\}"):
        Columns({"a": np.zeros(2), "b": np.zeros(3)})


def test_texts_of_several_rows() -> None:
    texts = Texts.of(["a", "", "né", "zz"])
    assert texts.of_rows(np.array([2, 0, 2, 1], np.int32)) == ["né", "a", "né", ""]
    live = LiveTexts.over(texts, {3: "new", 4: "newer"}, 5)
    assert live.of_rows(np.array([4, 3, 0])) == ["newer", "new", "a"]
    assert LiveTexts.over(texts, {}, 4).of_rows(np.array([3])) == ["zz"]


def test_a_missing_column_names_the_nearest() -> None:
    with pytest.raises(ArtifactError, match="did you mean 'number'"):
        example()["numbr"]


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000))
    whole = (tmp_path / "a.npy").read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        (tmp_path / "a.npy").write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=r"a\.npy: truncated or not a numpy array"):
            load_array(tmp_path / "a.npy")
    (tmp_path / "a.npy").unlink()
    with pytest.raises(ArtifactError, match=r"a\.npy: missing"):
        load_array(tmp_path / "a.npy")


def test_a_folder_without_header_is_no_column_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no columns\.json"):
        Columns.open(tmp_path)
