"""Releases for the tests of the registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.work import Work
from tests.pipeline.registry.two_nights import make_nights


@pytest.fixture(scope="session")
def nights_of_session(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_nights(tmp_path_factory.mktemp("nights"))


@pytest.fixture
def nights(nights_of_session: Work, tmp_path: Path) -> Work:
    """Two nights, to be changed."""
    shutil.copytree(nights_of_session.root, tmp_path / "work", symlinks=True)
    return Work(tmp_path / "work")
