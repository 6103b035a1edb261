"""A real Prometheus over a real server: every panel has data, every alert evaluates."""

# bazel: size=medium, imports=[cli.*], data=[//deploy:all_files]

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.sight import watched
from tests.serving.shop import make_shop


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus here (Debian: prometheus)")
def test_every_panel_has_data_and_every_alert_evaluates(tmp_path: Path) -> None:
    found = watched(make_shop(tmp_path).current, seconds=12)
    assert found["empty"] == {}
    assert found["alerts_in_error"] == {}
    assert found["alerts"] >= 20
