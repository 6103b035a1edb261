from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from core.config import PipelineConfig, load_pipeline
from data_prep.spark import session


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One session for all tests of a target: it takes seconds to start."""
    with session(tmp_path_factory.mktemp("spark") / "spill") as s:
        s.conf.set("spark.sql.shuffle.partitions", 2)
        yield s


@pytest.fixture
def settings() -> PipelineConfig:
    return load_pipeline()


@pytest.fixture
def said() -> list[str]:
    """Lines of progress, where a test hands `said.append` to what it calls."""
    return []


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Writes tables of a shop under tmp_path/data, each as one Parquet file."""

    def write(**tables: pd.DataFrame) -> Path:
        for name, rows in tables.items():
            path = tmp_path / "data" / name / "part-0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.to_parquet(path, index=False)
        return tmp_path / "data"

    return write
