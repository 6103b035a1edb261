"""Mode `index`, for every hour: the champion with tonight's items and events, and nothing learned anew.

New and changed items are embedded by the champion's towers, its index grows by them, the sources that only count are counted up to the end of the data,
and the ranker stays as it is over item statistics of tonight. Quotas, blend weights and the figures of the twin are the champion's. Everything comes
from the champion's release, so a night that was refused leaves nothing in it.

stages/refresh-retrieval/<id>/full/, stages/refresh-index/<id>/full/, stages/refresh-ranker/<id>/statistics|ranker/full/: as those of the nightly stages
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import artifact, atomic
from core.config import PipelineConfig
from core.errors import InputError
from core.prepared import FULL, Prepared
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.release import INDEX, RANKER, SOURCES, STATISTICS, ReleaseSettings
from core.work import Work
from index_builder.build import build_index
from index_builder.grow import grow_index
from pipeline.graph import Stage
from pipeline.index import query_vectors
from pipeline.publish import Parts
from ranking import item_statistics
from retrieval.fit import fit_sources
from retrieval.query import QueryTower
from retrieval.sources import HEADER, TOWERS
from retrieval.towers.files import carry

RETRIEVAL: Final = "refresh-retrieval"
INDEXING: Final = "refresh-index"
RANKING: Final = "refresh-ranker"
_FORMAT: Final = 1

Say = Callable[[str], None]


def stages(work: Work, config: PipelineConfig) -> list[Stage]:
    """The stages after `prepare`.

    Raises:
        InputError: There is no champion to go on from.
    """
    if not work.current.exists():
        raise InputError(f"{work.current}: no release to refresh; run `./aisle nightly` without --mode index first")
    refresh = Refresh(work, config)
    return [
        Stage(RETRIEVAL, refresh.retrieval, refresh.recipe, ("prepare",)),
        Stage(INDEXING, refresh.index, refresh.index_recipe, (RETRIEVAL,)),
        Stage(RANKING, refresh.ranker, refresh.recipe, ("prepare",)),
    ]


def up_to_date(work: Work) -> bool:
    """Whether the champion knows all that was prepared last."""
    return artifact.read_manifest(work.current).parents["prepared"] == artifact.read_manifest(work.latest("prepare")).id


def settings_of(champion: Path) -> ReleaseSettings:
    """Those of the champion: nothing was chosen anew."""
    return ReleaseSettings.read(champion)


class Refresh:
    """The champion, and the artifacts that go on from it."""

    def __init__(self, work: Work, config: PipelineConfig) -> None:
        self.work, self.config = work, config
        self.champion = work.current.resolve()
        self._manifest = artifact.read_manifest(self.champion)

    @property
    def parts(self) -> Parts:
        """What the refreshed release is made of."""
        return Parts(*(self.work.latest(stage) for stage in (RETRIEVAL, INDEXING, RANKING)))

    @property
    def twin(self) -> Path | None:
        """That was judged for the champion."""
        id = self._manifest.parents.get("twin")
        return None if id is None else self.work.stage("twin", id)

    @property
    def inherited(self) -> dict[str, Any]:
        """What the champion's manifest says and the refreshed release's says too."""
        about = self._manifest.about
        return {n: about[n] for n in ("metrics", "metrics_of") if n in about} | {"refreshed": self.champion.name}

    def recipe(self) -> Recipe:
        """What sources and statistics are made from. What the champion learned, and not which release holds it: a refreshed one is made of the same."""
        header = self.champion / SOURCES / TOWERS / "towers.json"
        return {
            "prepared data": Prepared(self.work.latest("prepare")).manifest.id,
            "towers": json.loads(header.read_bytes())["embedding_id"],
            "ranker": self._learned(),
            "settings of the sources": self.config.sources.fingerprint(),
            "code": artifact.code_version("core", "retrieval", "ranking"),
        }

    def _learned(self) -> str:
        files = {
            n: e.sha256 for n, e in self._manifest.files.items() if n.startswith(f"{RANKER}/") or n == "settings.json"
        }
        return artifact.hash_json(files)

    def index_recipe(self) -> Recipe:
        """What the index is made from."""
        return {
            "sources": self.work.latest(RETRIEVAL).name,
            "settings of the index": self.config.index.fingerprint(),
            "code": artifact.code_version("core", "index_builder"),
        }

    def retrieval(self, say: Say) -> Path:
        """Sources up to the end of the data, and the champion's towers over tonight's items."""

        def make(draft: artifact.Draft) -> None:
            prepared = Prepared(self.work.latest("prepare"))
            names = [s["name"] for s in json.loads((self.champion / SOURCES / HEADER).read_bytes())["sources"]]
            use = self.config.sources.model_copy(update={"use": tuple(n for n in names if n != TOWERS)})
            config = self.config.model_copy(update={"sources": use})
            fit_sources(prepared, FULL, config, draft.path / FULL.name, say)
            carry(self.champion / SOURCES / TOWERS, prepared, FULL, draft.path / FULL.name / TOWERS)
            draft.parents.update(prepared=prepared.manifest.id, champion=self.champion.name)

        return self._made(RETRIEVAL, self.recipe(), make)

    def index(self, say: Say) -> Path:
        """The champion's index with the new items; built where it cannot grow."""

        def make(draft: artifact.Draft) -> None:
            prepared = Prepared(self.work.latest("prepare"))
            tower = QueryTower.open(self.work.latest(RETRIEVAL) / FULL.name / TOWERS)
            before = np.asarray(QueryTower.open(self.champion / SOURCES / TOWERS).item_vectors)
            vectors, queries = np.asarray(tower.item_vectors), query_vectors(prepared, FULL, tower, self.config)
            rest = (tower.embedding_id, self.config.index, draft.path / FULL.name, say)
            facts = grow_index(self.champion / INDEX, before, vectors, queries, *rest)
            draft.about["folds"] = {FULL.name: facts or build_index(vectors, queries, *rest)}

        return self._made(INDEXING, self.index_recipe(), make)

    def ranker(self, say: Say) -> Path:
        """The champion's ranker, over item statistics of tonight."""

        def make(draft: artifact.Draft) -> None:
            prepared = Prepared(self.work.latest("prepare"))
            days = self.config.sources.recent_days
            item_statistics.write(prepared, FULL, days, draft.path / STATISTICS / FULL.name)
            if (ranker := self.champion / RANKER).exists():
                atomic.link_tree(ranker, draft.path / RANKER / FULL.name)
            say("item statistics up to the end of the data; the ranker stays")

        return self._made(RANKING, self.recipe(), make)

    def _made(self, stage: str, recipe: Recipe, make: Callable[[artifact.Draft], None]) -> Path:
        id = fingerprint(recipe)[:32]
        path = self.work.stage(stage, id)
        if not path.exists():
            with artifact.publish(path, kind=stage, format_version=_FORMAT, id=id) as draft:
                make(draft)
                draft.about[MADE_FROM] = dict(recipe)
        self.work.set_latest(stage, id)
        return path
