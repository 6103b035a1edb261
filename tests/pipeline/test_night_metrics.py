"""WORK/metrics/nightly.prom: what a night came to, whole or failed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.errors import GateRefused
from pipeline.night_metrics import path_of, recorded
from serving.sight.metric_list import NIGHT_METRICS

RESULT: dict[str, Any] = {
    "stages": {"prepare": {"seconds": 12.5, "skipped": False, "id": "x"}},
    "gates": [{"gate": "floor", "passed": False, "reason": "r"}],
}


def read(work: Path) -> dict[tuple[str, str], float]:
    samples = [s for f in text_string_to_metric_families(path_of(work).read_text()) for s in f.samples]
    return {(s.name, "".join(s.labels.values())): s.value for s in samples}


def refused(said: dict[str, Any]) -> None:
    said |= RESULT
    raise GateRefused(["no"])


def test_a_night_that_went_well_then_one_refused_then_one_that_failed(tmp_path: Path) -> None:
    before = time.time()
    with recorded(tmp_path) as said:
        said |= RESULT
    first = read(tmp_path)
    assert {name for name, _ in first} == {m.name for m in NIGHT_METRICS}
    assert before - 0.001 <= first["aisle_nightly_last_success_seconds", ""] <= time.time() + 0.001
    assert first["aisle_nightly_stage_seconds", "prepare"] == 12.5
    assert first["aisle_nightly_gate_passed", "floor"] == 0
    assert first["aisle_nightly_outcome", "published"] == 1
    with pytest.raises(GateRefused), recorded(tmp_path) as said:
        refused(said)
    second = read(tmp_path)
    assert second["aisle_nightly_outcome", "refused"] == 1
    assert second["aisle_nightly_last_success_seconds", ""] == first["aisle_nightly_last_success_seconds", ""]
    assert second["aisle_nightly_last_run_seconds", ""] >= first["aisle_nightly_last_run_seconds", ""]
    with pytest.raises(RuntimeError), recorded(tmp_path):
        raise RuntimeError
    third = read(tmp_path)
    assert (third["aisle_nightly_outcome", "failed"], third["aisle_nightly_outcome", "published"]) == (1, 0)
    assert third["aisle_nightly_last_success_seconds", ""] == first["aisle_nightly_last_success_seconds", ""]
    assert [p.name for p in path_of(tmp_path).parent.iterdir()] == ["nightly.prom"]


def test_no_work_directory_is_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), recorded(tmp_path / "typo"):
        raise RuntimeError
    assert not (tmp_path / "typo").exists()
