"""When the towers learn anew. On the other nights they stay: new and changed items are embedded, the embedding id and the index live on.

They learn where there are none, where settings or code changed, by schedule (`retraining.days` of data), and when people leave them behind: when
recall on the newest day, which they never learn from before they are asked, is beyond chance below what it was (`retraining.fall`).
Kept towers obey design 5 as warm starts do: those of a cut end no later than the cut of tonight that they serve.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from core import artifact
from core.config import PipelineConfig
from core.errors import ArtifactError
from core.prepared import FULL, TRAIN, TWIN, Fold, Prepared
from core.schema import DAY
from core.threads import one_thread
from core.tokens import item_bags
from retrieval.item_tower import ItemTower
from retrieval.query import QueryTower, TowerSource
from retrieval.requests import past_requests
from retrieval.sources import TOWERS
from retrieval.towers.files import check_window, read_header

_K: Final = 100
_REQUESTS: Final = 500  # asked at most; an exact search each
_FEWEST: Final = 50  # fewer say nothing
_CHANCE: Final = 2.0  # standard errors


@dataclass(frozen=True)
class Recall:
    """Mean recall@100 over some requests."""

    recall: float
    standard_error: float
    requests: int

    @classmethod
    def of(cls, shares: Iterable[float]) -> Self:
        """From what was found for each request, a share of its relevant items."""
        found = np.fromiter(shares, float)
        return cls(round(float(found.mean()), 4), round(float(found.std(ddof=1)) / len(found) ** 0.5, 4), len(found))

    def fell_from(self, reference: Recall, fall: float) -> bool:
        """Whether it is, beyond chance, below the reference by more than the share `fall` of it."""
        return self.recall + _CHANCE * self.standard_error < (1 - fall) * reference.recall


@dataclass(frozen=True)
class Plan:
    """What the towers do tonight."""

    keep: Path | None  # the artifact whose towers stay; None: they learn
    reason: str
    newest_day: Recall | None = None  # of the towers that stay
    reference: Recall | None = None  # what that is held against

    @property
    def about(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "kept": self.keep is not None,
            "reason": self.reason,
            **{n: asdict(r) for n, r in (("newest_day", self.newest_day), ("reference", self.reference)) if r},
        }


def settings_of(prepared: Prepared, config: PipelineConfig) -> str:
    """Fingerprint of all that the towers learn by, except the data."""
    code = artifact.code_version("core", "retrieval")
    seen = prepared.seen(config.evaluation.seen)
    return artifact.hash_json([code, config.towers.fingerprint(), seen, prepared.synthetic_time])


def plan(
    prepared: Prepared,
    folds: Collection[Fold],
    config: PipelineConfig,
    settings: str,
    last: Path | None,
    *,
    frozen: bool = False,
) -> Plan:
    """Whether the towers of the artifact `last` (of the night before; None: there is none) stay tonight, and why.

    Args:
        prepared: Tonight's data.
        folds: That towers are needed for.
        config: The settings.
        settings: Of `settings_of`.
        last: The artifact.
        frozen: The night has no time for them: neither age nor recall makes them learn.
    """
    if last is None or FULL not in folds:
        return Plan(None, "there are none yet" if last is None else "an evaluation by people's last events is no night")
    about = artifact.read_manifest(last).about
    if why := _outdated(prepared, folds, config.retraining.days if not frozen else math.inf, last) or (
        about.get("settings") != settings and "their settings or code changed"
    ):
        return Plan(None, str(why))
    reference, folder = _recall(about.get("towers", {}).get("reference")), last / FULL.name / TOWERS
    age, measured = prepared.cuts.end - read_header(folder)["until"], None
    if frozen:
        return Plan(last, f"they learned {age / DAY:.1f} days of data ago, and are kept as asked", None, reference)
    if age >= DAY:  # else they learned from some of that day
        measured = newest_day(prepared, carried(prepared, folder), config)
    if measured and reference and measured.fell_from(reference, config.retraining.fall):
        return Plan(None, f"recall@{_K} on the newest day fell to {measured.recall} from {reference.recall}")
    found = f", recall@{_K} on the newest day {measured.recall}" if measured else ""
    return Plan(last, f"they learned {age / DAY:.1f} days of data ago{found}", measured, reference or measured)


def learned(tonight: Plan, prepared: Prepared, folds: Collection[Fold], config: PipelineConfig, out: Path) -> Plan:
    """The plan of a night on which the towers learned, into `out`, with the recall that later nights are held against: that of the twin's."""
    if TWIN not in folds or prepared.synthetic_time or prepared.until(TWIN) > prepared.cuts.end - DAY:
        return tonight
    return replace(tonight, reference=newest_day(prepared, QueryTower.open(out / TWIN.name / TOWERS), config))


def _outdated(prepared: Prepared, folds: Collection[Fold], days: float, last: Path) -> str | None:
    if prepared.synthetic_time:
        return "without a clock nights cannot be told apart"
    for fold in folds:
        try:
            check_window(last / fold.name / TOWERS, fold, prepared.until(fold))
        except ArtifactError:
            return "the cuts moved back"
    header = read_header(last / FULL.name / TOWERS)
    if header["items"] > len(prepared.item_ids):
        return "there are fewer items than they know"
    age = prepared.cuts.end - header["until"]
    return f"{age / DAY:.1f} days of data are new to them" if age >= days * DAY else None


@one_thread()
def newest_day(prepared: Prepared, tower: QueryTower, config: PipelineConfig) -> Recall | None:
    """Recall of what people known before it chose on the last day of the data, by exact search; None where too few did."""
    since = prepared.split_at(prepared.cuts.end - DAY)
    asked = past_requests(
        since,
        TRAIN,
        remove_seen=prepared.seen(config.evaluation.seen) == "remove",
        history_events=config.sources.history_events,
        most=_REQUESTS,
        seed=config.evaluation.seed,
    )
    if len(asked) < _FEWEST:
        return None
    source = TowerSource(tower)
    return Recall.of(float(np.isin(r.relevant, source.scoring(r.query).top(_K, r.excluded)[0]).mean()) for r in asked)


def carried(prepared: Prepared, folder: Path) -> QueryTower:
    """The towers in `folder` with the items of tonight."""
    return QueryTower(folder, read_header(folder), *ItemTower.open(folder).vectors(item_bags(prepared.items)))


def _recall(about: Mapping[str, Any] | None) -> Recall | None:
    return None if about is None else Recall(**about)
