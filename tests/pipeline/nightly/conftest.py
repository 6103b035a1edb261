"""A small simulated shop and its first night, made once for each target: tests that write work on copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.nightly.commands import CONFIG, aisle, nightly, result


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's tables; `small.yaml` lies beside them."""
    data = tmp_path_factory.mktemp("night") / "shop"
    result(aisle("simulate", "--users", 400, "--items", 200, "--events", 12_000, "--days", 60, "--out", data))
    (data.parent / "small.yaml").write_text(CONFIG)
    return data


@pytest.fixture(scope="session")
def night(shop: Path) -> tuple[Path, dict[str, Any]]:
    """The work directory of the first night, and what the night said."""
    work = shop.parent / "work"
    return work, result(aisle(*nightly(shop, work)))
