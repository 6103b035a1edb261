"""Every source against the laws."""

import subprocess
import sys

from retrieval.sources import SOURCES
from tests.retrieval.laws import SourceLaws, folder, prepared, queries

__all__ = ["folder", "prepared", "queries"]  # fixtures


class TestPopularity(SourceLaws):
    name = "popularity"


class TestRecentPopularity(SourceLaws):
    name = "recent_popularity"


class TestOwnFrequency(SourceLaws):
    name = "own_frequency"


class TestItemKnn(SourceLaws):
    name = "item_knn"


class TestLinear(SourceLaws):
    name = "linear"


class TestTransitions(SourceLaws):
    name = "transitions"


class TestCovisitation(SourceLaws):
    name = "covisitation"


class TestContent(SourceLaws):
    name = "content"


def test_no_source_without_its_laws() -> None:
    assert {c.name for c in SourceLaws.__subclasses__()} >= set(SOURCES)


def test_answering_loads_numpy_and_core_only() -> None:
    code = "import sys, retrieval.sources; print([m for m in ('scipy', 'pandas', 'tensorflow', 'pyarrow') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
