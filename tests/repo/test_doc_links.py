"""Every file that the documentation links or draws is there."""

# bazel: data=[//:tree, //docs:all_files]

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "notebooks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_DRAWN = re.compile(
    r"\b((?:core|data_prep|retrieval|index_builder|ranking|evaluation|serving|pipeline|experiments|cli|feature_repo)/[\w/]*(?:\.py)?)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Those that stay in the checkout; the founders' folder beside it may be missing."""
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link and "shared/" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_what_the_architecture_draws_is_there() -> None:
    blocks = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
    drawn = {path for block in blocks for path in _DRAWN.findall(block)}
    assert len(blocks) >= 3  # the night, a request, the events
    assert {"pipeline/twin.py", "core/candidates.py", "serving/event_store.py"} <= drawn
    assert [path for path in sorted(drawn) if not (ROOT / path).exists()] == []
