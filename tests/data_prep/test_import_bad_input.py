"""What is not the layout is one clear line, exit 2, and nothing at --out."""

from __future__ import annotations

import csv
import gzip
import io
import random
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from data_prep.importers.registry import LAYOUTS, import_data

# layout -> (main file, its first line and one good row)
GOOD = {
    "online-retail": (
        "online_retail.csv",
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n1,A,B,1,2011-01-01,1.0,7,UK\n",
    ),
    "amazon-sequences": ("sequences.txt", "u1 a b\n"),
    "movielens": ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.0,1000\n"),
    "xwines": ("XWines_T_ratings.csv", "RatingID,UserID,WineID,Rating,Date\n1,2,3,4,2020-01-01\n"),
    "alibaba-2014": ("t_alibaba_data.csv", "user_id,brand_id,type,visit_datetime\n1,2,0,4-15\n"),
    "retailrocket": ("events.csv", "timestamp,visitorid,event,itemid,transactionid\n1433221332117,7,view,2,\n"),
}
JUNK = bytes(random.Random(5).randbytes(5000))


def refused(layout: str, path: Path, out: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as raised:
        import_data(layout, path, out)
    assert "\n" not in str(raised.value)
    assert not out.exists()
    assert not list(out.parent.glob(".tmp-*"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "data"


def test_every_layout_has_a_case_here() -> None:
    assert set(GOOD) == set(LAYOUTS)


@pytest.mark.parametrize("layout", GOOD)
class TestEveryLayout:
    def test_good_rows_are_accepted(self, layout: str, tmp_path: Path, out: Path) -> None:
        """Without this the refusals below would prove nothing."""
        name, text = GOOD[layout]
        (tmp_path / name).write_text(text)
        done = import_data(layout, tmp_path, out)
        assert done.rejected == 0
        assert done.events == done.rows_read > 0

    def test_no_such_path(self, layout: str, tmp_path: Path, out: Path) -> None:
        refused(layout, tmp_path / "nowhere", out, r"nowhere: no such file or folder; expected .*")

    def test_empty_folder(self, layout: str, tmp_path: Path, out: Path) -> None:
        (tmp_path / "in").mkdir()
        refused(layout, tmp_path / "in", out, rf"in: no .* here \(it is empty\); {layout} expects ")

    def test_folder_of_something_else_names_what_is_there(self, layout: str, tmp_path: Path, out: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "photo.jpg").write_bytes(JUNK)
        refused(layout, tmp_path / "in", out, r"it holds photo.jpg")

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "empty, or cut off .*; expected"),
            (b" \n\n", "empty, or cut off .*; expected"),
            (JUNK, "binary data; expected"),
            (b"PK\x03\x04" + JUNK, "a zip archive or Excel workbook; expected"),
            (b"PAR1" + JUNK, "cannot be read"),
        ],
        ids=["empty", "blank", "junk", "zip", "broken-parquet"],
    )
    def test_file_of_another_kind(self, layout: str, content: bytes, match: str, tmp_path: Path, out: Path) -> None:
        path = tmp_path / GOOD[layout][0]
        path.write_bytes(content)
        refused(layout, path, out, rf"{path.name}: {match}")

    def test_truncated_gzip(self, layout: str, tmp_path: Path, out: Path) -> None:
        name, text = GOOD[layout]
        path = tmp_path / (name + ".gz")
        numbered = "".join(f"{i},{i * i}\n" for i in range(20_000))  # does not compress to nothing
        whole = gzip.compress((text + numbered).encode())
        path.write_bytes(whole[: len(whole) // 2])
        refused(layout, tmp_path, out, rf"{name}.gz: cannot be read .*truncated, damaged or another format; expected ")

    def test_gzip_in_name_only(self, layout: str, tmp_path: Path, out: Path) -> None:
        path = tmp_path / (GOOD[layout][0] + ".gz")
        path.write_text(GOOD[layout][1])
        refused(layout, path, out, rf"{path.name}: cannot be read ")

    def test_used_out_is_left_alone(self, layout: str, tmp_path: Path) -> None:
        name, text = GOOD[layout]
        (tmp_path / name).write_text(text)
        used = tmp_path / "used"
        used.mkdir()
        (used / "mine.txt").write_text("precious")
        with pytest.raises(InputError, match="already holds files; expected an absent or empty folder"):
            import_data(layout, tmp_path, used)
        assert [p.name for p in used.iterdir()] == ["mine.txt"]

    def test_empty_out_is_filled(self, layout: str, tmp_path: Path) -> None:
        name, text = GOOD[layout]
        (tmp_path / name).write_text(text)
        (tmp_path / "empty").mkdir()
        import_data(layout, tmp_path, tmp_path / "empty")
        assert (tmp_path / "empty" / "events" / "part-00000.parquet").exists()


@pytest.mark.parametrize("layout", [name for name in GOOD if name != "amazon-sequences"])
class TestEveryTable:
    def test_missing_column_names_it_and_what_was_found(self, layout: str, tmp_path: Path, out: Path) -> None:
        name, text = GOOD[layout]
        column = text.split("\n")[0].split(",")[1]
        (tmp_path / name).write_text(text.replace(column, column + "X", 1))
        refused(layout, tmp_path, out, rf"{name}: no column '{column}', found .*; did you mean '{column}X'\?")

    def test_header_without_rows(self, layout: str, tmp_path: Path, out: Path) -> None:
        name, text = GOOD[layout]
        (tmp_path / name).write_text(text.split("\n")[0] + "\n")
        refused(layout, tmp_path, out, "holds a header and no rows; expected rows of")

    def test_no_usable_row_says_why(self, layout: str, tmp_path: Path, out: Path) -> None:
        name, text = GOOD[layout]
        header = text.split("\n")[0]
        (tmp_path / name).write_text(header + "\n" + "?," * header.count(",") + "?\n")
        refused(layout, tmp_path, out, r"none of 1 rows can be an event \(1: .*\); expected ")


def test_text_that_is_not_utf8_in_mid_file(tmp_path: Path, out: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(b"userId,movieId,rating,timestamp\n1,2,3,4\n\xff\xfe,2,3,4\n")
    refused("movielens", tmp_path, out, r"ratings.csv: cannot be read .*UTF8")


def test_two_files_that_both_fit(tmp_path: Path, out: Path) -> None:
    for size in ("Full", "Slim"):
        (tmp_path / f"XWines_{size}_ratings.csv").write_text(GOOD["xwines"][1])
    refused(
        "xwines", tmp_path, out, "XWines_Full_ratings.csv and XWines_Slim_ratings.csv both fit .*name the file itself"
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [("[1, 2]", "a JSON list; expected"), ("{", "not JSON"), ('{"a": "Hair"}', "item 'a' has 'Hair', expected a list")],
)
def test_attributes_that_are_none(text: str, match: str, tmp_path: Path, out: Path) -> None:
    (tmp_path / "sequences.txt").write_text("u1 a\n")
    (tmp_path / "item2attributes.json").write_text(text)
    refused("amazon-sequences", tmp_path, out, match)


@pytest.mark.parametrize(
    ("name", "match"),
    [("online-retial", "did you mean 'online-retail'"), ("qqq", "known: alibaba-2014, amazon-sequences, ")],
)
def test_unknown_layout_names_the_nearest(name: str, match: str, tmp_path: Path, out: Path) -> None:
    refused(name, tmp_path, out, match)


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(GOOD["movielens"][1])
    with pytest.raises(InputError, match="a file, expected an absent or empty folder"):
        import_data("movielens", tmp_path, tmp_path / "ratings.csv")
    with pytest.raises(InputError, match="cannot be written here"):
        import_data("movielens", tmp_path, tmp_path / "ratings.csv" / "out")


SURROGATES: tuple[Literal["Cs"]] = ("Cs",)  # no UTF-8 file can hold one
CELL = st.text(st.characters(exclude_categories=SURROGATES, exclude_characters="\0"), max_size=6)


def cells(*good: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(good), CELL)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(cells("1", "2"), cells("7"), cells("3.5", "nan", "inf", "1e400"), cells("1000", "-5", "9e18")),
        max_size=8,
    )
)
def test_no_row_is_lost_whatever_the_cells_hold(bad: list[tuple[str, str, str, str]]) -> None:
    """Property: rows_read = data rows of the file = events + rejected, for any text in any cell."""
    with tempfile.TemporaryDirectory() as name:
        folder, text = Path(name), io.StringIO()
        good = [("userId", "movieId", "rating", "timestamp"), ("1", "2", "3.0", "1000")]
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([*good, *bad])
        (folder / "ratings.csv").write_text(text.getvalue(), newline="")
        done = import_data("movielens", folder, folder / "out")
        assert done.rows_read == 1 + len(bad) == done.events + done.rejected
        assert done.events >= 1
