"""The ranker reads the same numbers in training, online and in the log; and where they differ, `features skew` finds the name.

benchmarks.parity at a few hundred requests; its own figures come from thousands.
"""

# bazel: size=large, imports=[cli.*]

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import parity
from core.config import load_pipeline
from core.errors import InputError, NotFoundError
from core.work import Work
from data_prep.importers.registry import import_data
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate
from pipeline.skew import skew
from ranking.feature_list import NAMES
from tests.pipeline.small_shop import small_release

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = Path(os.environ.get("AISLE_DATA") or ROOT.parent / "shared" / "data")
REQUESTS = 200


def simulated(folder: Path) -> Path:
    options = ShopOptions(users=200, items=150, events=8_000, days=60, seed=5, start=dt.date(2024, 1, 1))
    simulate(options, folder / "data")
    return folder / "data"


def online_retail(folder: Path) -> Path:
    """All that 150 customers did, and as many guests."""
    if not (PUBLIC / "online-retail").is_dir():
        pytest.skip(f"public data: no {PUBLIC / 'online-retail'}; set AISLE_DATA to the folder that holds it")
    lines = pq.read_table(PUBLIC / "online-retail" / "online_retail.parquet")
    customers = pc.unique(lines["CustomerID"].drop_null()).slice(0, 150)
    guests = pc.unique(lines.filter(pc.is_null(lines["CustomerID"]))["InvoiceNo"]).slice(0, 150)
    chosen = pc.or_(pc.is_in(lines["CustomerID"], customers), pc.is_in(lines["InvoiceNo"], guests))
    (folder / "lines").mkdir()
    pq.write_table(lines.filter(chosen), folder / "lines" / "online_retail.parquet")
    import_data("online-retail", folder / "lines", folder / "data")
    return folder / "data"


@dataclass(frozen=True)
class Asked:
    """A shop that was asked, and what parity says of it."""

    folder: Path
    said: dict[str, Any]

    @classmethod
    def of(cls, folder: Path, make: Callable[[Path], Path]) -> Self:
        """Make the shop, publish a release, and ask it."""
        config, work = load_pipeline(), Work(folder / "work")
        data = make(folder)
        small_release(data, work, config)
        (folder / "asked").mkdir()
        return cls(folder, parity.run(data, work, config, folder / "asked", REQUESTS, print))

    @property
    def data(self) -> Path:
        """With the events and pages of the requests."""
        return self.folder / "asked" / "data"

    @property
    def log(self) -> Path:
        """Pages served."""
        return self.data / "recommendations"

    def skew(self, log: Path | None = None, data: Path | None = None, most: int = 40) -> dict[str, Any]:
        """What `features skew` finds."""
        work = Work(self.folder / "work")
        return skew(log or self.log, work.current, work, data or self.data, most)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked.of(tmp_path_factory.mktemp("simulated"), simulated)


def test_training_online_and_log_have_the_same_numbers(shop: Asked) -> None:
    they_agree(shop.said)


def test_the_same_of_a_shop_with_guests_and_returns(tmp_path: Path) -> None:
    they_agree(Asked.of(tmp_path, online_retail).said)


def they_agree(said: dict[str, Any]) -> None:
    assert (said["requests"], said["compared"]) == (REQUESTS, {"joined": REQUESTS, "online": REQUESTS})
    assert said["by_feature"] == {"joined": {}, "online": {}}
    assert said["mismatches"] == 0
    # and there was something to get wrong
    assert said["values"] > 100 * REQUESTS
    assert min(said["with_facts"], said["with_live_events"], said["with_history"], said["events"]) > REQUESTS / 3


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "cli", "features", "skew", *map(str, arguments)]
    return subprocess.run(called, capture_output=True, text=True, check=False, timeout=120)


def test_what_was_logged_is_computed_again(shop: Asked) -> None:
    done = command("--log", shop.log, "--release", shop.folder / "work" / "releases" / "current", "--most", 120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["requests"], said["mismatches"], said["features"]) == (120, 0, {})
    assert (said["unseen_events"], said["not_compared"]) == (0, {})
    assert said["values"] > 100 * 120


def changed_log(shop: Asked, target: Path, change: Callable[[pa.Table], tuple[str, list[Any]]]) -> Path:
    """A copy of the log of recommendations with the column that `change` returns in place of its own."""
    for file in sorted(shop.log.glob("day=*/part-*.parquet")):
        table = pq.ParquetFile(file).read()
        name, values = change(table)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
        copy = target / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, copy)
    return target


def test_a_feature_that_was_served_otherwise_is_named(shop: Asked, tmp_path: Path) -> None:
    """Half a unit too much in one column of the log."""
    column = NAMES.index("user.spend_30d")

    def plant(table: pa.Table) -> tuple[str, list[bytes]]:
        planted = []
        for value in table["features"].to_pylist():
            matrix = np.frombuffer(value, "<f4").reshape(-1, len(NAMES)).copy()
            matrix[:, column] += 0.5
            planted.append(matrix.tobytes())
        return "features", planted

    said = shop.skew(changed_log(shop, tmp_path / "log", plant))
    assert list(said["features"]) == ["user.spend_30d"]
    drift = said["features"]["user.spend_30d"]
    assert drift["share"] == 1
    assert drift["mean_absolute"] == pytest.approx(0.5, abs=1e-3)
    assert drift["largest"] == pytest.approx(0.5, abs=1e-3)
    assert drift["example"]["logged"] - drift["example"]["recomputed"] == pytest.approx(0.5, abs=1e-3)
    assert said["different_requests"] == said["requests"] == 40


def test_events_that_the_log_lost_are_said(shop: Asked, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    said = shop.skew(data=tmp_path)
    assert said["not_compared"]["saw events that are not in the log"] > 0
    assert said["mismatches"] == 0


def test_an_event_that_the_online_store_lost_is_counted_and_not_blamed_on_a_feature(
    shop: Asked, tmp_path: Path
) -> None:
    """Answers that did not see the live events of their person."""
    log = changed_log(shop, tmp_path / "log", lambda t: ("live_events", [[]] * t.num_rows))
    said = shop.skew(log)
    assert said["unseen_events"] > 0
    assert said["mismatches"] > 0  # the logged features had seen them


def test_features_of_another_schema_are_one_line(shop: Asked, tmp_path: Path) -> None:
    log = changed_log(shop, tmp_path / "log", lambda t: ("feature_schema", ["f" * 64] * t.num_rows))
    done = command("--log", log, "--release", shop.folder / "work" / "releases" / "current")
    assert done.returncode == 2
    assert "has features of schema ffffffffffff, the ranker of" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_no_pages_of_the_release_are_one_line(shop: Asked, tmp_path: Path) -> None:
    log = changed_log(shop, tmp_path / "log", lambda t: ("release", ["another"] * t.num_rows))
    with pytest.raises(InputError, match="with features among 200 of another"):
        shop.skew(log)
    with pytest.raises(NotFoundError, match=r"which `./aisle events sink` writes"):
        shop.skew(tmp_path / "nothing")
