"""Opens a release for answering: maps its files, checks that its parts belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.artifact import Manifest, open_artifact
from core.candidates import Explains, Source
from core.columns import Array, Columns
from core.errors import ArtifactError
from core.held import Held
from core.history import Query
from core.ids import IdMap
from core.release import (
    CATALOG_LOG,
    CATALOG_SEQUENCE,
    FORMAT_VERSION,
    INDEX,
    KIND,
    RANKER,
    SOURCES,
    STATISTICS,
    ReleaseSettings,
)
from core.schema import Column
from index_builder.search import open_index
from ranking.features import ItemTable
from ranking.scorer import Scorer
from retrieval.query import QueryTower, Search
from retrieval.sources import open_sources


@dataclass(frozen=True)
class Release:
    """An opened release; every array is memory-mapped and read-only."""

    path: Path
    manifest: Manifest
    settings: ReleaseSettings
    item_ids: IdMap
    items: Columns
    sources: tuple[Source, ...]
    table: ItemTable | None  # what features know of the items; there when a scorer is
    scorer: Scorer | None  # None: the blend ranks
    explainers: dict[str, Explains]  # the sources that can name the item behind a proposal
    available: Array  # bool [items]
    fill: Array  # int32 [items]: every item, the most popular first, for pages that nothing else fills
    newcomers: tuple[
        Source, ...
    ] = ()  # asked by SimilarItems too, for items that came after the release (serving.live_release)
    held: Held | None = None  # as long as it is open, `releases prune` leaves its directory alone

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.name

    @property
    def window_end(self) -> int:
        """One past the newest event that the release knows of, microseconds."""
        return int(self.manifest.about["window"][1])

    @property
    def catalog_sequence(self) -> int:
        """Number of the newest entry of the catalog's log that its items table has seen; 0 where it knows of no log."""
        return int(self.manifest.about.get(CATALOG_SEQUENCE, 0))

    @property
    def catalog_log(self) -> str:
        """Id of that log."""
        return str(self.manifest.about.get(CATALOG_LOG, ""))

    @property
    def state_id(self) -> str:
        """The user state made with this release (`user_state.state_id`); empty for a twin, which is never served."""
        return str(self.manifest.about.get("user_state", ""))

    @classmethod
    def open(cls, path: Path, *, stamped: bool = False) -> Release:
        """Open the release at `path` (a link such as `releases/current` is followed once, here)."""
        path = path.resolve()
        held = Held(path)
        manifest = open_artifact(path, kind=KIND, format_version=FORMAT_VERSION, stamped=stamped)
        item_ids, items = IdMap.open(path / "ids" / "items"), Columns.open(path / "items")
        if len(item_ids) != items.rows:
            raise ArtifactError(
                f"{path}: {items.rows} item rows, but {len(item_ids)} ids: parts of different releases never meet"
            )
        sources = open_sources(path / SOURCES, lambda tower: _indexed(path / INDEX, tower))
        ranked = (path / RANKER).exists()
        return cls(
            path=path,
            manifest=manifest,
            settings=ReleaseSettings.read(path),
            item_ids=item_ids,
            items=items,
            sources=sources,
            table=ItemTable.open(path / STATISTICS, items) if ranked else None,
            scorer=Scorer.open(path / RANKER, [s.name for s in sources]) if ranked else None,
            explainers={s.name: s for s in sources if isinstance(s, Explains)},
            available=np.asarray(items.numbers(Column.AVAILABLE)) & item_ids.alive,
            fill=_fill_order(sources, items.rows),
            held=held,
        )


def _indexed(folder: Path, tower: QueryTower) -> Search:
    """The towers' search through the release's index; items that the towers know nothing of are never found."""
    index = open_index(folder, tower.item_vectors, tower.embedding_id)
    known = None if tower.has_vector.all() else np.asarray(tower.has_vector)

    def search(vector: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        both = known if allowed is None or known is None else known & allowed
        rows, scores = index.search(vector[None], k, allowed if both is None else both)
        return rows[0], scores[0]

    return search


def _fill_order(sources: tuple[Source, ...], n_items: int) -> Array:
    """Every item row: recently popular ones first, then popular ones, then the rest by row; ties by the other popularity, then by row."""
    every, none = np.arange(n_items, dtype=np.int32), np.empty(0, np.int32)
    nobody = (none, np.zeros(n_items, np.float32))
    said = {
        s.name: (scoring.top(n_items, none)[0], scoring.of(every))
        for s in sources
        if s.name in ("recent_popularity", "popularity")
        for scoring in (s.scoring(Query(time=0)),)
    }
    (recent, lately), (popular, ever) = (said.get(name, nobody) for name in ("recent_popularity", "popularity"))
    recent = np.sort(recent)
    first = recent[np.lexsort((-ever[recent], -lately[recent]))]
    left = np.ones(n_items, bool)
    left[first] = False
    then = popular[left[popular]]
    left[then] = False
    return np.concatenate([first, then, every[left]]).astype(np.int32)
