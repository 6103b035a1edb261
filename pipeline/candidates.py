"""The ranker's training sets: what the real sources would have proposed at past moments, and what became of it.

Time is the law: every request is answered by sources and statistics fitted strictly before it, its history is strictly before it, and what counts
as relevant is what followed within its window (pipeline/requests.py). A relevant item that retrieval missed is never put among the candidates: its
missing sources would give it away.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from core.candidates import Candidates, Source, gather
from core.columns import Array, Columns
from core.config import PipelineConfig
from core.errors import ArtifactError
from core.history import Histories, Query, user_starts
from core.prepared import Fold, Prepared
from core.schema import Column
from core.threads import answering
from pipeline.requests import Requests
from pipeline.worths import item_worths
from ranking.feature_list import NAMES
from ranking.features import ItemTable, matrix
from ranking.item_table import read_header
from ranking.train import GRADES, TrainingSet
from ranking.user_facts import UserFacts
from retrieval.quotas import read_quotas
from retrieval.sources import HEADER, open_sources
from serving.release import Release

_CHUNK: Final = 128
_AT: Final = 10


class Fitted(NamedTuple):
    """Where the files of one cut are: all that answers requests after it."""

    prepared: Path
    fold: Fold
    sources: Path
    statistics: Path


@dataclass(frozen=True)
class Past:
    """A shop as of one cut, opened for answering past requests: the training join."""

    prepared: Prepared
    histories: Histories
    sources: tuple[Source, ...]
    items: ItemTable
    facts: UserFacts
    quotas: dict[str, int]
    config: PipelineConfig
    exclude_seen: bool
    worths: Array | None = None  # float32 [items], for labels (pipeline.worths)

    @classmethod
    def open(cls, fitted: Fitted, config: PipelineConfig) -> Past:
        """From the files of the stages.

        Raises:
            ArtifactError: if sources or statistics are of another cut than `fitted.fold`: they could know what came after the requests.
        """
        prepared = Prepared(fitted.prepared)
        try:
            sources_fold = json.loads((fitted.sources / HEADER).read_bytes())["fold"]
        except (FileNotFoundError, ValueError, KeyError) as e:
            raise ArtifactError(
                f"{fitted.sources / HEADER}: missing or not the header of fitted sources ({e})"
            ) from None
        for path, fold in ((fitted.sources, sources_fold), (fitted.statistics, read_header(fitted.statistics)["fold"])):
            if fold != fitted.fold.name:
                raise ArtifactError(
                    f"{path}: fitted as of {fold!r}, but the requests follow {fitted.fold.name!r}: that would be a leak"
                )
        items = ItemTable.open(fitted.statistics, prepared.items)
        histories = prepared.histories(config.sources.history_events)
        return cls(
            prepared,
            histories,
            open_sources(fitted.sources),
            items,
            UserFacts.of(prepared),
            read_quotas(fitted.sources.parent),
            config,
            prepared.seen(config.evaluation.seen) == "remove",
            item_worths(prepared, fitted.fold, config.ranker.objective),
        )

    @classmethod
    def after(cls, release: Release, prepared: Prepared, config: PipelineConfig) -> Past:
        """A release and what people did since, in data prepared later: for requests that the release could have been asked.

        Raises:
            ArtifactError: if the release has no ranker, and so no item statistics.
        """
        if release.table is None:
            raise ArtifactError(
                f"{release.path}: no ranker, so nothing reads features; train one with `./aisle nightly`"
            )
        return cls(
            prepared,
            _known_to(release, prepared),
            release.sources,
            release.table,
            UserFacts.of(prepared, release.window_end),
            release.settings.quotas,
            config,
            prepared.seen(config.evaluation.seen) == "remove",
        )

    def query(self, user: int, time: int) -> tuple[Query, Array]:
        """The request as serving would see it, and the item rows never to return, int32 ascending.

        Raises:
            ValueError: if the history reaches the moment of the request, where what is to be predicted begins.
        """
        query = Query(
            time,
            user,
            self.histories.before(user, time),
            attributes=self.prepared.told.of(user),
            facts=self.facts.at(user, time),
        )
        if len(query.history) and query.history.times[-1] >= time:
            raise ValueError(
                f"history up to {query.history.times[-1]} us for a request at {time} us: that would be a leak"
            )
        had = query.history.items[query.history.gains > 0] if self.exclude_seen else np.empty(0, np.int32)
        return query, np.unique(had)

    def features(self, query: Query, excluded: Array) -> tuple[Candidates, Array]:
        """What the sources propose, without the item rows `excluded` (int32 ascending), and its features float32 `[n, F]`."""
        candidates = gather(self.sources, self.quotas, query, excluded)
        return candidates, matrix(query, candidates, self.items, self.sources)

    def relevant(self, start: int, stop: int, excluded: Array) -> tuple[Array, Array]:
        """What followed: item rows int32 `[m]` ascending, and their grades int8 `[m]`, 1 to GRADES: the gain, faded for each basket before it."""
        events, config = self.prepared.events, self.config
        gains, items, times = (events.numbers(c)[start:stop] for c in (Column.GAIN, Column.ITEM, Column.TIME))
        keep = (gains > 0) & ~np.isin(items, excluded)
        gains, items, times = gains[keep], items[keep], times[keep]
        if not len(items):
            return items, items.astype(np.int8)
        basket = np.cumsum(np.diff(times, prepend=times[0]) != 0)
        worth = gains / max(config.data.gains.values()) * config.ranker.fading**basket
        rows, inverse = np.unique(items, return_inverse=True)
        best = np.zeros(len(rows))
        np.maximum.at(best, inverse, worth)
        kept = best >= 0.5 / GRADES
        return rows[kept], np.ceil(np.minimum(best[kept], 1.0) * GRADES - 1e-6).astype(np.int8)

    def answer(self, requests: Requests, negatives: int | None) -> TrainingSet:
        """The training set of some requests, `negatives` candidates of each at most that nothing came of (None: all).

        Which ones is left to chance alone: chosen by anything that a feature reflects, they would teach the ranker the choice.
        """
        matrices, grades, ideals, dropped = [np.empty((0, len(NAMES)), np.float32)], [np.empty(0, np.int8)], [], 0
        items, people = [np.empty(0, np.int32)], []
        for user, time, start, stop in zip(
            *(a.tolist() for a in (requests.user, requests.time, requests.start, requests.stop)), strict=True
        ):
            query, excluded = self.query(user, time)
            wanted, worth = self.relevant(start, stop, excluded)
            if not len(wanted):
                continue  # the person only came back to what is never shown again: no request of this shop
            candidates, rows = self.features(query, excluded)
            grade = np.zeros(len(candidates), np.int8)
            _, at, of = np.intersect1d(candidates.rows, wanted, assume_unique=True, return_indices=True)
            if not len(at):
                dropped += 1
                continue
            grade[at] = worth[of]
            kept = _kept(grade, negatives, np.random.default_rng((user, time)))
            matrices.append(rows[kept])
            grades.append(grade[kept])
            items.append(candidates.rows[kept])
            people.append(user)
            best = np.sort(worth)[::-1][:_AT]
            ideals.append(float((best / np.log2(np.arange(len(best)) + 2.0)).sum()))
        sizes = np.array([len(g) for g in grades[1:]], np.int32)
        worths = None if self.worths is None else self.worths[np.concatenate(items)]
        return TrainingSet(
            np.concatenate(matrices),
            np.concatenate(grades),
            sizes,
            np.array(ideals),
            dropped,
            worths=worths,
            people=np.array(people, np.int32),
        )


class Asked(Protocol):
    """Past moments that rows can be made of: pipeline.requests.Requests, or pipeline.pages.Pages."""

    def __len__(self) -> int: ...

    def only(self, rows: Array) -> Self:
        """Those at these places."""


A = TypeVar("A", bound=Asked)
Answer = Callable[[Past, A], TrainingSet]


def _known_to(release: Release, prepared: Prepared) -> Histories:
    """Histories of the items that a release knows: the others are no events to it."""
    events, n = prepared.events, release.items.rows
    keep = np.asarray(events.numbers(Column.ITEM)) < n
    columns = (Column.USER, Column.ITEM, Column.TIME, Column.TYPE, Column.GAIN)
    known = Columns({c: np.asarray(events.numbers(c))[keep] for c in columns})
    starts = user_starts(known.numbers(Column.USER), len(prepared.user_ids))
    return Histories(known, starts, release.settings.history_events)


def _kept(grades: Array, negatives: int | None, rng: np.random.Generator) -> Array:
    """Positions of everything with a grade and of a sample of the rest, ascending."""
    nothing = np.flatnonzero(grades == 0)
    if negatives is not None and len(nothing) > negatives:
        nothing = rng.choice(nothing, negatives, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(grades), nothing]))


def build(fitted: Fitted, requests: Requests, config: PipelineConfig, negatives: int | None, most: int) -> TrainingSet:
    """Answer requests in a seeded order until `most` of them have a relevant candidate."""
    return answered(fitted, requests, config, partial(Past.answer, negatives=negatives), most)


def answered(fitted: Fitted, requests: A, config: PipelineConfig, answer: Answer[A], most: int) -> TrainingSet:
    """The rows that `answer` makes of requests, in a seeded order until there are `most` of them; in worker processes when there are many."""
    shuffled = requests.only(np.random.default_rng(config.ranker.seed).permutation(len(requests)))
    if len(shuffled) <= 2 * _CHUNK:
        return answer(Past.open(fitted, config), shuffled)
    chunks = [shuffled.only(rows) for rows in np.array_split(np.arange(len(shuffled)), len(shuffled) // _CHUNK)]
    with answering(_open, (fitted, config, answer)) as pool:
        parts: list[TrainingSet] = []
        for part in pool.map(_answer, chunks):
            parts.append(part)
            if sum(map(len, parts)) >= most:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return TrainingSet.concatenate(parts)


_worker: tuple[Past, Answer[Any]]


def _open(fitted: Fitted, config: PipelineConfig, answer: Answer[Any]) -> None:
    global _worker
    _worker = Past.open(fitted, config), answer


def _answer(requests: Asked) -> TrainingSet:
    past, answer = _worker
    return answer(past, requests)
