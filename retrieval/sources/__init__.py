"""The candidate sources, one module each. Opening and asking them needs numpy and core only; fitting is `retrieval.fit`.

The learned source, "towers" (retrieval.query), stands beside them in the folder `towers/`. It searches its item vectors exactly, or through the
index that whoever opens the sources brings along.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, Self

from core.candidates import Source
from core.errors import ArtifactError, nearest
from retrieval.query import QueryTower, Search, TowerSource
from retrieval.sources.content import Content
from retrieval.sources.covisitation import Covisitation
from retrieval.sources.item_knn import ItemKnn
from retrieval.sources.linear import Linear
from retrieval.sources.own_frequency import OwnFrequency
from retrieval.sources.popularity import Popularity
from retrieval.sources.recent_popularity import RecentPopularity
from retrieval.sources.transitions import Transitions

TOWERS: Final = TowerSource.name  # folder
HEADER: Final = "sources.json"  # {"sources": [{"name", ...facts}], "prepared": id, "fold": name}


class Openable(Source, Protocol):
    """A source that can be opened from its folder."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map the fitted files."""


# The order in which they are asked, and in which their scores stand in Candidates.
SOURCES: Final[dict[str, type[Openable]]] = {
    c.name: c for c in (OwnFrequency, ItemKnn, Linear, Transitions, Covisitation, Content, RecentPopularity, Popularity)
}


def open_sources(folder: Path, search_of: Callable[[QueryTower], Search] | None = None) -> tuple[Source, ...]:
    """Open every source that `folder` holds: the towers, if there are any, then the others in the order of SOURCES.

    `search_of` makes the towers' search, given the towers; without it their search is exact.

    Raises:
        ArtifactError: if the folder is not one of sources, or names one that this version does not know.
    """
    try:
        header = json.loads((folder / HEADER).read_bytes())
    except (FileNotFoundError, ValueError) as e:
        raise ArtifactError(f"{folder / HEADER}: missing or not JSON ({e})") from None
    names = {s["name"] for s in header["sources"]}
    if unknown := sorted(names - set(SOURCES)):
        raise ArtifactError(f"{folder}: unknown source {unknown[0]!r}; {nearest(unknown[0], SOURCES)}")
    towers: list[Source] = []
    if (folder / TOWERS).exists():
        tower = QueryTower.open(folder / TOWERS)
        towers.append(TowerSource(tower, search_of(tower) if search_of else None))
    return (*towers, *(source.open(folder / name) for name, source in SOURCES.items() if name in names))
