"""Spark's Java process that ends before its work does: one line says so."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark import SparkContext

from core.errors import EnvironmentGapError
from data_prep.spark import session


def test_a_java_process_that_is_killed_is_said_to_have_ended(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentGapError, match=r"Java process ended before its work did.*spark\.driver\.memory"):  # noqa: SIM117
        with session(tmp_path / "spill") as spark:
            process = SparkContext._gateway.proc  # type: ignore[union-attr]
            process.kill()
            process.wait()
            spark.range(3).count()
    with session(tmp_path / "spill") as spark:  # the next one is not harmed by it
        assert spark.range(3).count() == 3
