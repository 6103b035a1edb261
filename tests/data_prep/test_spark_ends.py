"""Spark's Java process that ends before its work does: one line says so."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark import SparkContext

from core.errors import EnvironmentGapError
from data_prep.spark import session


def killed(spill: Path) -> None:
    """Count rows in a session whose Java process is gone."""
    with session(spill) as spark:
        process = SparkContext._gateway.proc
        process.kill()
        process.wait()
        spark.range(3).count()


def test_a_java_process_that_is_killed_is_said_to_have_ended(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentGapError, match=r"Java process ended before its work did.*spark\.driver\.memory"):
        killed(tmp_path / "spill")
    with session(tmp_path / "spill") as spark:  # the next one is not harmed by it
        assert spark.range(3).count() == 3
