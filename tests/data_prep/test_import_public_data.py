"""The public files themselves: every row accounted for. Skipped where they are not on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from cli.commands import import_
from core.errors import InputError
from data_prep.importers.registry import import_data

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AISLE_DATA") or ROOT.parent / "shared" / "data")


def public(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"public data: no {DATA / folder}; set AISLE_DATA to the folder that holds {folder}")
    return DATA / folder


@pytest.mark.parametrize(
    ("layout", "folder", "rows", "events", "items", "users"),
    [
        # 541,909 lines less 2,515 with a price of 0 and 3 accounting adjustments
        ("online-retail", "online-retail", 541_909, 539_391, 3_937, 4_371),
        ("xwines", "xwines", 150_000, 150_000, 1_007, 10_561),
        ("movielens", "movielens-small", 100_004, 100_004, 9_125, 671),
        ("amazon-sequences", "amazon-beauty", 198_502, 198_502, 12_101, 22_363),
        ("alibaba-2014", "alibaba-2014", 182_880, 182_880, 9_531, 884),
    ],
)
def test_every_row_is_accounted_for(
    layout: str, folder: str, rows: int, events: int, items: int, users: int, tmp_path: Path
) -> None:
    done = import_data(layout, public(folder), tmp_path / "out")
    assert (done.rows_read, done.events, done.items, done.users) == (rows, events, items, users)
    assert done.rows_read == done.events + done.rejected
    assert pq.read_table(tmp_path / "out/events").num_rows == events


def test_online_retail_purchases_are_those_of_the_published_comparison(tmp_path: Path) -> None:
    """The filter of the comparison (customer known, quantity and price positive, no cancellation) picks exactly our purchases of users."""
    folder = public("online-retail")
    lines = pd.read_parquet(folder / "online_retail.parquet")
    lines = lines[
        lines.CustomerID.notna() & (lines.Quantity > 0) & (lines.UnitPrice > 0) & ~lines.InvoiceNo.str.startswith("C")
    ]
    import_data("online-retail", folder, tmp_path / "out")
    events = pd.read_parquet(tmp_path / "out/events")
    ours = events[(events.event_type == "purchase-complete") & events.user_id.notna()]
    assert len(ours) == len(lines)
    np.testing.assert_array_equal(ours.user_id, lines.CustomerID.astype(int).astype(str))
    np.testing.assert_array_equal(ours.item_id, lines.StockCode)
    np.testing.assert_array_equal(ours.quantity, lines.Quantity)


def command() -> typer.Typer:
    app = typer.Typer()
    import_.register(app)
    app.command("other")(lambda: None)  # with one command alone typer takes no name
    return app


def test_the_command_ends_in_one_line_of_json(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,3.0,1000\n1,2,bad,1000\n")
    done = CliRunner().invoke(command(), ["import", "movielens", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    counts = {k: result[k] for k in ("rows_read", "events", "items", "users", "rejected")}
    assert counts == {"rows_read": 2, "events": 1, "items": 1, "users": 1, "rejected": 1}
    assert result["reasons"] == {"rating is not a number": 1}


def test_the_command_hands_on_an_error_that_means_exit_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(command(), ["import", "movielense", str(tmp_path), "--out", str(tmp_path / "no")])
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "did you mean 'movielens'?" in str(done.exception)
