"""What a release directory holds. One immutable artifact: parts of different releases never meet.

    releases/<name>/
      manifest.json     parents (prepared, retrieval, ...), about: window, fold, config hash, seen, metrics of the twin, user state hash
      settings.json     quotas, blend weights, history limit and ladder thresholds that the request path runs with
      ids/items/        item id map (core.ids)
      items/            item columns, row-aligned with the map (core.columns)
      sources/          one folder a candidate source (retrieval.sources), the towers among them
      index/            nearest-neighbour index over the towers' item vectors (index_builder)
      statistics/       item features as of the cut (ranking.item_table); optional
      ranker/           the model and what it was trained with (ranking.scorer); optional: without it the blend ranks

A release holds no user data. The **twin** is the same directory built as of T2: what the test window judges; the published release is
refitted up to the end of the data with the twin's settings, and carries the twin's metrics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from core.config import Section, checked
from core.errors import ArtifactError
from core.schema import EventType

KIND: Final = "release"
FORMAT_VERSION: Final = 1
SETTINGS: Final = "settings.json"
SOURCES: Final = "sources"
INDEX: Final = "index"
STATISTICS: Final = "statistics"
RANKER: Final = "ranker"
# In the manifest's `about`: the newest entry of the catalog's log that the items table has seen, and the id of that log.
CATALOG_SEQUENCE: Final = "catalog_sequence"
CATALOG_LOG: Final = "catalog_log"
# What the configuration was, whole; and in `build`, since what gates measure depends on the moment: their verdicts, as JSON.
CONFIGURATION: Final = "configuration"
GATES: Final = "gates"

STATE_KIND: Final = "user-state"
STATE_FORMAT_VERSION: Final = 2


class ReleaseSettings(Section):
    """How the request path runs this release."""

    quotas: dict[str, int]  # candidates asked of each source
    weights: dict[str, float]  # of each source in the unlearned blend
    history_events: int  # newest events of a person that are read
    warm_events: int  # this many events with positive gain make a person warm
    candidates: int  # about how many the quotas find for a usual page
    gains: dict[EventType, float]  # what a live event counts as a success
    candidates_per_place: int = (
        0  # a page so long that this many a place are more than `candidates` asks each source for more
    )

    def write(self, folder: Path) -> None:
        """Write into a release directory."""
        (folder / SETTINGS).write_text(json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ReleaseSettings:
        """Read from a release directory."""
        try:
            values = json.loads((folder / SETTINGS).read_bytes())
        except (FileNotFoundError, ValueError) as e:
            raise ArtifactError(f"{folder / SETTINGS}: missing or not JSON ({e})") from None
        return checked(cls, values, folder / SETTINGS)
