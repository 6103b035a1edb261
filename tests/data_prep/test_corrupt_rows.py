"""A log with corrupt rows of twelve kinds: few are counted by reason and cost nothing else, many stop the run."""

# bazel: size=medium

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from core.config import PipelineConfig
from core.errors import InputError
from core.prepared import Prepared
from core.work import Work
from data_prep.prepare import run

COLUMNS = ("event_id", "event_type", "event_time", "item_id", "user_id", "quantity", "price")
# reason -> what is wrong with such a row; None: the line itself. The k-th kind occurs 3 + k times, so that no two counts are alike.
FAULTS: dict[str, dict[str, str] | None] = {
    "unknown event_type": {"event_type": "buy"},
    "missing user_id and visitor_id": {"user_id": ""},
    "missing item_id": {"item_id": "  "},
    "unreadable event_time": {"event_time": "someday"},
    "event_time before 1990": {"event_time": "1970-01-01T00:00:07Z"},
    "event_time in the future": {"event_time": "2999-01-01T00:00:00Z"},
    "price negative or not finite": {"price": "-1"},
    "quantity negative or not finite": {"quantity": "inf"},
    "unreadable price": {"price": "free"},
    "item_id longer than 256 bytes": {"item_id": "é" * 128 + "x"},  # 257 bytes, 129 characters
    "control characters in user_id": {"user_id": "7\a"},
    "malformed line": None,
}
COUNTS = {reason: 3 + k for k, reason in enumerate(FAULTS)}
BAD = sum(COUNTS.values())  # 3 + 4 + ... + 14 = 102


def log(good: int) -> list[dict[str, str] | None]:
    """`good` rows that are right, and the corrupt ones spread among them."""

    def row(k: int) -> dict[str, str]:
        time = f"2024-05-{1 + k % 28:02d}T{k // 28 % 24:02d}:{k % 60:02d}:01Z"
        values = (f"e{k}", "purchase-complete", time, f"i{k % 40}", f"u{k % 90}", "2", "9.5")
        return dict(zip(COLUMNS, values, strict=True))

    rows: list[dict[str, str] | None] = [row(k) for k in range(good)]
    for reason, fault in FAULTS.items():
        for n in range(COUNTS[reason]):
            rows.insert(
                (n * 997 + 13 * len(reason)) % len(rows),
                None if fault is None else row(good) | fault | {"event_id": f"{reason}/{n}"},
            )
    return rows


def write(data: Path, kind: str, rows: list[dict[str, str] | None]) -> Path:
    (data / "events").mkdir(parents=True)
    if kind == "csv":
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerow(COLUMNS)
        lines.writerows(["garbage"] if row is None else row.values() for row in rows)
        (data / "events" / "log.csv").write_text(text.getvalue())
    else:
        lines_ = ('{"event_type": "purcha' if row is None else json.dumps(row) for row in rows)
        (data / "events" / "log.jsonl").write_text("\n".join(lines_) + "\n")
    return data


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_five_percent_are_counted_by_reason_and_the_others_are_all_there(
    spark: SparkSession, tmp_path: Path, settings: PipelineConfig, said: list[str], kind: str
) -> None:
    good = 19 * BAD  # 102 of 2040 rows: 5 %
    data = write(tmp_path / "data", kind, log(good))
    found = Prepared(run(data, Work(tmp_path / "work"), settings, said.append))
    about = found.manifest.about
    assert about["rejected"]["events"] == COUNTS
    assert {c: about["counts"][c] for c in ("rows_read", "events", "rejected")} == {
        "rows_read": good + BAD,
        "events": good,
        "rejected": BAD,
    }
    assert len(found.item_ids) == 40  # no corrupt id made it into the maps
    assert sorted(found.user_ids.texts) == sorted(f"u:u{k}" for k in range(90))
    rejected = pq.read_table(found.path / "rejected" / "events.parquet").to_pandas()
    assert rejected.reason.value_counts().to_dict() == COUNTS
    assert set(rejected.file) == {f"events/log.{'csv' if kind == 'csv' else 'jsonl'}"}
    (line,) = (s for s in said if "longer than 256 bytes" in s)
    assert line.startswith("events: 12 rejected: item_id longer than 256 bytes (e.g. 'é")
    assert len(line) < 200


def test_thirty_percent_stop_the_run_and_say_why(spark: SparkSession, tmp_path: Path, settings: PipelineConfig) -> None:
    data = write(tmp_path / "data", "csv", log(238))  # 102 of 340 rows: 30 %
    work = Work(tmp_path / "work")
    with pytest.raises(InputError) as error:
        run(data, work, settings, lambda _: None)
    message = str(error.value)
    assert message.startswith(
        "events: 30.0% of 340 rows cannot be used, more than the 20% of data.max_rejected_share: "
    )
    # the three most frequent reasons, each with an example
    assert "malformed line: 14 (e.g. in events/log.csv); control characters in user_id: 13 (e.g. '7\\x07' in" in message
    assert "item_id longer than 256 bytes: 12" in message
    assert message.endswith("repair the export, or raise the limit")
    assert "\n" not in message
    assert not work.has("prepare")
