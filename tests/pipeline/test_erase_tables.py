"""Taking people out of table files: what goes, what stays to the byte, and what is not touched at all."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.erasure import Forgotten
from core.errors import InputError
from pipeline.erase_tables import Tally, erase_table

ERIKA = Forgotten.of([("erika-0099", "browser-0099")])


def erased(path: Path, gone: Forgotten = ERIKA, **how: bool) -> Tally:
    tally = Tally()
    assert erase_table(path, gone, tally, **how) is (tally.files == 1)
    return tally


def parquet(path: Path, columns: dict[str, Any], **how: Any) -> Path:
    pq.write_table(pa.table(columns), path, **how)
    return path


def test_parquet_rows_go_and_names_in_the_rows_of_others(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        {
            "user_id": ["erika-0099", "bob", "bob", None, None, "bob"],
            "visitor_id": ["x", "browser-0099", None, "browser-0099", "y", None],
            "session_id": ["s-1", "s-2", "s-3", "s-4", "s-5", "s-6"],
            "query": ["tea", "cup", "for erika-0099", "tea", "tea", "for erika-00990"],
            "item_id": ["a", "b", "c", "d", "e", "erika-0099"],
        },
        row_group_size=2,
        compression="zstd",
    )
    tally = erased(path)
    left = pq.read_table(path).to_pylist()
    assert [(r["item_id"], r["visitor_id"], r["query"]) for r in left] == [
        ("b", None, "cup"),
        ("c", None, None),
        ("e", "y", "tea"),
        ("erika-0099", None, "for erika-00990"),  # an item may be called so; and that is another id
    ]
    assert (tally.rows, tally.files) == (4, 1)  # two went, two changed
    assert tally.sessions == {"s-1", "s-4"}
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_dictionary_keeps_no_word_that_no_row_has(tmp_path: Path) -> None:
    users = pa.array(["bob", "erika-0099", "bob"]).dictionary_encode()
    path = parquet(tmp_path / "a.parquet", {"user_id": users, "n": [1, 2, 3]}, compression="none")
    assert b"erika-0099" in path.read_bytes()
    erased(path)
    assert b"erika-0099" not in path.read_bytes()
    assert pq.read_table(path).column("user_id").to_pylist() == ["bob", "bob"]


@pytest.mark.parametrize("ids", [pa.array([17850, 7]), pa.array([17850.0, 7.5]), pa.array(["17850", "7"])])
def test_ids_count_as_prepare_reads_them(tmp_path: Path, ids: pa.Array) -> None:
    """Whole floats lose their fraction there: pandas makes them of an id column with gaps."""
    path = parquet(tmp_path / "a.parquet", {"user_id": ids, "quantity": pa.array([1, 17850])})
    assert erased(path, Forgotten.of([("17850", "")])).rows == 1
    assert pq.read_table(path).column("quantity").to_pylist() == [17850]


def test_nested_cells_are_looked_into(tmp_path: Path) -> None:
    labels = pa.array([[("who", "erika-0099")], [("who", "bob")], None], pa.map_(pa.string(), pa.string()))
    path = parquet(tmp_path / "a.parquet", {"user_id": ["bob", "bob", "cid"], "labels": labels})
    assert erased(path).rows == 1
    assert pq.read_table(path).column("labels").to_pylist() == [None, [("who", "bob")], None]
    assert pq.read_table(path).column("user_id").to_pylist() == ["bob", "bob", "cid"]


def test_a_file_of_nobody_else_is_removed_with_its_checksum(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"user_id": ["erika-0099"]})
    (tmp_path / ".a.parquet.crc").write_bytes(b"crc")
    erased(path)
    assert list(tmp_path.iterdir()) == []
    kept = parquet(tmp_path / "b.parquet", {"user_id": ["erika-0099"]})
    erased(kept, keep_empty=True)
    assert pq.read_table(kept).num_rows == 0


def test_in_rejects_every_row_that_names_somebody_goes(tmp_path: Path) -> None:
    gone = Forgotten.of([("7", "")])
    content = ['{"who": "7"}', '{"who": "77"}', "7,tea", "x"]
    path = parquet(tmp_path / "a.parquet", {"content": content, "user_id": [None, None, None, "7"]})
    erased(path, gone, strict=True)
    assert pq.read_table(path).column("content").to_pylist() == ['{"who": "77"}']


@pytest.mark.parametrize(("suffix", "read"), [("", bytes), (".gz", gzip.decompress), (".bz2", bz2.decompress)])
def test_csv_is_parsed(tmp_path: Path, suffix: str, read: Callable[[bytes], bytes]) -> None:
    write: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}
    lines = [
        "\ufeffuser_id, visitor_id ,query,item_id\r\n",
        'bob,z,"two\r\nlines, quoted ""so""",a\r\n',
        "erika-0099,z,,b\r\n",
        '"erika-0099",z,"also\r\nquoted",c\r\n',
        'bob,browser-0099,"a, b",d\r\n',
        ",browser-0099,,e\r\n",
        "bob,z,gift,erika-0099\r\n",
        "erika-0099,too,many,cells,here\r\n",
        "bob,too,many,cells,here\r\n",
        "erika-00991,z,,f\r\n",
        "\r\n",
    ]
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(write[suffix]("".join(lines).encode()))
    assert erased(path).rows == 5
    kept = [lines[0], lines[1], 'bob,,"a, b",d\r\n', lines[6], *lines[8:]]
    assert read(path.read_bytes()).decode() == "".join(kept)


def test_a_stray_quote_costs_only_the_lines_that_name_somebody(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('user_id,item_id\nbob,"a\ncid,b\nerika-0099,c\ndan,d\n')
    erased(path)
    assert path.read_text() == 'user_id,item_id\nbob,"a\ncid,b\ndan,d\n'


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"user_id": "erika-0099", "n": 1}\n',
        '{"user_id": "bob",  "labels": {"a": 1}}\n',
        '{"n": 2, "visitor_id": "browser-0099"}\n',
        '{"user_id": "bob", "visitor_id": "browser-0099", "title": "Grün"}\n',
        '{"user_id": "erika-0099", broken\n',
        "broken too\n",
        '{"user_id": "\\u0065rika-0098"}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(lines))
    assert erased(path).rows == 4
    assert path.read_text() == lines[1] + '{"user_id":"bob","title":"Grün"}\n' + lines[5] + lines[6]


def test_json_numbers_and_letters_beyond_ascii(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows: list[dict[str, Any]] = [{"user_id": 7}, {"user_id": 7.0}, {"user_id": "77"}, {"user_id": "jürgen-ß"}]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    erased(path, Forgotten.of([("7", ""), ("jürgen-ß", "")]))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"user_id": "77"}]


def test_a_file_without_them_is_not_touched(tmp_path: Path) -> None:
    paths = [parquet(tmp_path / "a.parquet", {"user_id": ["erika-00990", "bob"]})]
    for name, text in (("b.csv", "user_id,n\nerika-00990,1\n"), ("c.jsonl", '{"user_id": "erika-00990"}\n')):
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    before = [(p.read_bytes(), p.stat().st_ino) for p in paths]
    assert [erased(p).files for p in paths] == [0, 0, 0]
    assert [(p.read_bytes(), p.stat().st_ino) for p in paths] == before


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(st.sampled_from(["", "bob", "erika-0099"]), cells), max_size=20))
def test_the_rows_of_others_stay_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    def line(row: tuple[str, ...]) -> str:
        out = io.StringIO()
        csv.writer(out).writerow(row)
        return out.getvalue()

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    header = line(("user_id", "query"))
    path.write_bytes((header + "".join(map(line, rows))).encode())
    erased(path)
    expected = header + "".join(line(r) for r in rows if r[0] != "erika-0099")
    if all(user == "erika-0099" for user, _ in rows) and rows:
        assert not path.exists()
    else:
        assert path.read_bytes() == expected.encode()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip")
    for name in ("a.parquet", "b.csv.gz"):
        with pytest.raises(InputError, match=f"{name}: cannot be read .* so nobody can be taken out of it"):
            erase_table(tmp_path / name, ERIKA, Tally())
