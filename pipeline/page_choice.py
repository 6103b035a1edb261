"""Whether the ranker learns from logged pages too, and how: decided on the validation window (`ranker.logged_pages`).

Rows of pages are requests of their own beside the constructed ones. Every constructed row has one position, and pairs are formed within a request only, so
where a row comes from says nothing about its label. Two ways:

- unbiased: LightGBM learns what a position does beside the trees (`ranking.train`). It helps where the old order did not know tastes; where it did, it takes
  taste for position
- naive: positions are not told

The validation window judges with constructed requests, in whole lists and not in pages that somebody chose: paired, on the same requests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from core.artifact import read_manifest
from core.columns import Array
from core.config import PipelineConfig, RankerConfig
from core.schema import DAY
from evaluation.intervals import Interval
from pipeline.paired import lift
from ranking.train import Probed, TrainingSet, probed, request_ndcg

OFF: Final = "off"
WAYS: Final = ("unbiased", "naive")
_LEAST: Final = 50  # pages; fewer cannot tell a habit from chance


@dataclass(frozen=True)
class Choice:
    """How pages are learned from, and the ranker that the validation window judged."""

    way: str  # OFF or one of WAYS
    found: Probed
    about: dict[str, Any]  # for the manifest


@dataclass(frozen=True)
class Remembered:
    """What an earlier night found out for `logged_pages: auto`, and the settings that say so tonight."""

    settings: RankerConfig
    way: str | None = None  # None: to be found out, or named by the shop
    decided: int | None = None  # end of the data that it was found out on, microseconds

    def over(self, about: dict[str, Any], end: int) -> dict[str, Any]:
        """`about` with the moment that it was decided at; `end`: of tonight's data."""
        if self.way is None:  # what the shop names is nothing that was found out
            return about | ({"decided": end} if self.settings.logged_pages == "auto" else {})
        why = "no time to find out" if self.decided is None else "an earlier night found it out"
        return about | {"because": why, "decided": self.decided}


def remembered(last: Path | None, end: int, config: RankerConfig, *, probe: bool = True) -> Remembered:
    """What the ranker at `last` (None: there is none) knows of logged pages, if that is younger than `logged_pages_days` of data.

    Finding out takes two to four trainings beside the one that there always is. Without a `probe` and a memory they are off, and nothing is decided.
    """
    if config.logged_pages != "auto":
        return Remembered(config)
    about = {} if last is None else read_manifest(last).about.get("logged_pages", {})
    way, decided = about.get("way"), about.get("decided")
    if way not in (OFF, *WAYS) or decided is None or not 0 <= end - decided < config.logged_pages_days * DAY:
        off = config.model_copy(update={"logged_pages": OFF})
        return Remembered(config) if probe else Remembered(off, OFF)
    return Remembered(config.model_copy(update={"logged_pages": way}), way, decided)


def placed(pages: TrainingSet, way: str) -> TrainingSet:
    """With or without their positions."""
    return pages if way == "unbiased" else replace(pages, positions=None)


def choose(learn: TrainingSet, pages: TrainingSet | None, aim: TrainingSet, config: PipelineConfig) -> Choice:
    """How to learn from `pages` beside `learn`.

    Args:
        learn: Constructed requests.
        pages: Of the same window, graded alike; None: not wanted.
        aim: The validation requests.
        config: `ranker` and `evaluation`. A way that it names is taken as it is.
    """
    ranker = config.ranker
    if pages is None:
        return Choice(OFF, probed(learn, aim, ranker), {"way": OFF, "because": "not wanted"})
    about: dict[str, Any] = {"pages": len(pages), "rows": len(pages.grades)}
    if len(pages) < _LEAST:
        reason = f"{len(pages)} pages that something came of, wanted {_LEAST}"
        return Choice(OFF, probed(learn, aim, ranker), about | {"way": OFF, "because": reason})
    if (way := ranker.logged_pages) in WAYS:
        found = probed(_both(learn, pages, way), aim, ranker)
        return Choice(way, found, about | {"way": way, "because": "so configured"})
    return _better(learn, pages, aim, config, about)


def _better(
    learn: TrainingSet, pages: TrainingSet, aim: TrainingSet, config: PipelineConfig, about: dict[str, Any]
) -> Choice:
    """The way that orders the validation window better beyond chance, and again with another seed; else OFF."""
    ranker, other = config.ranker, config.ranker.model_copy(update={"seed": config.ranker.seed + 1})
    alone = probed(learn, aim, ranker)
    tried = {way: probed(_both(learn, pages, way), aim, ranker) for way in WAYS}
    before, after = _reached(alone, aim), {way: _reached(one, aim) for way, one in tried.items()}
    lifts = {way: lift(values, before, aim, config.evaluation) for way, values in after.items()}
    best = max(lifts, key=lambda way: lifts[way].mean)
    about = about | {"lift": {way: _rounded(found) for way, found in lifts.items()}}
    if lifts[best].low <= 0:
        return Choice(OFF, alone, about | {"way": OFF, "because": "neither way is better beyond chance"})
    twice = [_reached(probed(rows, aim, other), aim) for rows in (_both(learn, pages, best), learn)]
    both = lift((after[best] + twice[0]) / 2, (before + twice[1]) / 2, aim, config.evaluation)
    about |= {"lift_of_two_seeds": _rounded(both)}
    if both.low <= 0:
        return Choice(OFF, alone, about | {"way": OFF, "because": f"{best} is not better beyond chance with two seeds"})
    return Choice(best, tried[best], about | {"way": best, "because": "better beyond chance, with two seeds"})


def _rounded(found: Interval) -> list[float]:
    return [round(v, 4) for v in found]


def _reached(found: Probed, aim: TrainingSet) -> Array:
    return request_ndcg(aim, found.scores)


def _both(learn: TrainingSet, pages: TrainingSet, way: str) -> TrainingSet:
    return TrainingSet.concatenate([learn, placed(pages, way)])
