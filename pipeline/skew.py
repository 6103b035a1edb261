"""`features skew`: the features of logged requests, computed again from the release, the user state and the event log, against those that served.

What had arrived before a request is what its page says it saw (`live_events`), so an event that came late is no skew. Events of a person that lie
between the window's end and the request by their own time, and were not there for it, are counted as `unseen_events`: late ones, and those that
the online store lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.errors import ArtifactError
from core.history import History, Query
from core.ids import NO_ROW
from core.work import Work
from pipeline.page_log import LiveLog, LoggedPage, read_pages
from ranking.feature_list import NAMES
from serving.answers import Request
from serving.online_state import joined
from serving.release import Release
from serving.request_path import answer
from serving.user_state import UserState, state_id

CANDIDATES: Final = "candidates"
"""Stands among the features that drifted where the sources proposed other items."""
ROUNDING: Final = (1e-5, 1e-6)
"""Relative and absolute: another processor may round the last bits of a sum otherwise, which is no drift."""


@dataclass
class Drift:
    """How one feature differs."""

    values: int = 0  # that differ
    total: float = 0.0  # of their absolute differences
    greatest: float = 0.0
    example: dict[str, Any] = field(default_factory=dict)  # of the greatest

    def add(self, differences: Array, example: Mapping[str, Any]) -> None:
        """Absolute differences of values of one request, all above 0; `example` is of the greatest."""
        self.values += len(differences)
        self.total += float(differences.sum())
        if float(differences.max()) > self.greatest:
            self.greatest, self.example = float(differences.max()), dict(example)


@dataclass
class Comparison:
    """Sums over requests."""

    rounding: tuple[float, float] = ROUNDING
    requests: int = 0
    different_requests: int = 0
    values: int = 0
    by_feature: dict[str, Drift] = field(default_factory=dict)

    def add(self, request_id: str, rows: Array, logged: Array, computed: Array, again: Array) -> None:
        """One request.

        Args:
            request_id: Its name.
            rows: Logged candidates, item rows int32 `[n]` ascending.
            logged: Their features float32 `[n, F]`.
            computed: The candidates of now, item rows int32 `[m]` ascending.
            again: Their features float32 `[m, F]`; those of items that are on both sides are compared.
        """
        _, at, of = np.intersect1d(rows, computed, assume_unique=True, return_indices=True)
        a, b = logged[at].astype(np.float64), again[of].astype(np.float64)
        unlike = ~np.isclose(a, b, *self.rounding)
        self.requests += 1
        self.values += a.size
        other = len(rows) + len(computed) - 2 * len(at)
        self.different_requests += bool(unlike.any() or other)
        if other:
            alone = np.setxor1d(rows, computed)
            example = {"request_id": request_id, "item": int(alone[0]), "only_logged": bool(alone[0] in rows)}
            self._of(CANDIDATES).add(np.ones(other), example)
        for column in np.flatnonzero(unlike.any(axis=0)).tolist():
            where = np.flatnonzero(unlike[:, column])
            difference = np.abs(a[where, column] - b[where, column])
            worst = int(where[difference.argmax()])
            example = {
                "request_id": request_id,
                "item": int(rows[at[worst]]),
                "logged": float(a[worst, column]),
                "recomputed": float(b[worst, column]),
            }
            self._of(NAMES[column]).add(difference, example)

    def _of(self, name: str) -> Drift:
        return self.by_feature.setdefault(name, Drift())

    @property
    def mismatches(self) -> int:
        """Values that differ, and candidates that are on one side only."""
        return sum(d.values for d in self.by_feature.values())

    def features(self) -> dict[str, dict[str, Any]]:
        """For each feature that drifted, the most values first: share of its values, mean and largest absolute difference, an example."""
        each = max(self.values / len(NAMES), 1)
        ordered = sorted(self.by_feature.items(), key=lambda f: (-f[1].values, f[0]))
        return {
            name: {
                "share": round(drift.values / each, 6),
                "mean_absolute": drift.total / drift.values,
                "largest": drift.greatest,
                "example": drift.example,
            }
            for name, drift in ordered
        }


class Recomputation:
    """Answers logged requests again from a release, its user state and the events that its answers had seen."""

    def __init__(self, release: Release, state: UserState, log: LiveLog) -> None:
        self._release, self._state, self._events = release, state, log.events

    @classmethod
    def open(cls, release: Release, work: Work, log: LiveLog) -> Recomputation:
        """With the user state that was made with the release.

        Raises:
            ArtifactError: if the state in the work directory is another one.
        """
        path = work.user_state(release.window_end)
        if not path.exists():
            raise ArtifactError(
                f"{path}: no user state of {release.name}; --work names the directory that it was published in"
            )
        if (found := state_id(path)) != release.state_id:
            raise ArtifactError(
                f"{path}: user state {found[:12]}, but {release.name} was made with {release.state_id[:12] or 'none'}"
            )
        return cls(release, UserState.open(path, release.settings.history_events), log)

    def missing(self, page: LoggedPage) -> bool:
        """Whether the page saw an event that is not in the log (yet), or not any more."""
        return any(h not in self._events for h in page.live_events)

    def query(self, page: LoggedPage) -> Query:
        """The request as serving saw it."""
        user, history = self._night(page)
        live = [self._events[h] for h in page.live_events]
        return Query(
            page.time,
            user,
            joined(self._release, history, live, page.time),
            self._rows(page.context_item_ids),
            facts=self._state.facts.at(user, page.time),
            attributes=self._state.told.of(self._told(page)),
        )

    def features(self, page: LoggedPage) -> tuple[Array, Array]:
        """Candidates int32 `[m]` and their features float32 `[m, F]`, by the request path."""
        asked = Request(self.query(page), page.page_size, self._rows(page.exclude_item_ids), page.exclude_seen)
        again = answer(self._release, asked)
        assert again.features is not None
        return again.candidates.rows, again.features

    def _night(self, page: LoggedPage) -> tuple[int, History]:
        """Row and history of the first of the person's keys that has one, as `materialize` left them."""
        for key in page.person.keys:
            row = self._state.ids.row(key)
            history = self._state.histories.before(row)
            if row != NO_ROW and len(history):
                return row, history
        return NO_ROW, History()

    def _told(self, page: LoggedPage) -> int:
        """Row of the first of the person's keys that says something of the person; NO_ROW where none does."""
        rows = (self._state.ids.row(key) for key in page.person.keys)
        return next((row for row in rows if len(self._state.told.of(row))), NO_ROW)

    def _rows(self, ids: tuple[str, ...]) -> Array:
        rows = self._release.item_ids.rows(ids)
        return np.asarray(rows[rows != NO_ROW])


def skew(log: Path, path: Path, work: Work, data: Path, most: int) -> dict[str, Any]:
    """Compare at most `most` logged requests of the release at `path`; what `features skew` prints.

    Raises:
        AisleError: There is nothing to compare, or the log is of other features; one line.
    """
    release = Release.open(path)
    if release.scorer is None:
        raise ArtifactError(f"{path}: no ranker, so its pages have no features: nothing to compare")
    chosen = read_pages(log, release.name, str(release.scorer.header["schema"]), most)
    events = LiveLog.read(data, [page.person for page in chosen.pages])
    again, found, left = Recomputation.open(release, work, events), Comparison(), Counter(chosen.others)
    unseen = 0
    for page in chosen.pages:
        unseen += len(events.unseen(page, release.window_end))
        if len(page.candidates) and page.candidates.max() >= len(release.item_ids):
            left["held items that came after the release"] += 1
            continue
        if again.missing(page):
            left["saw events that are not in the log"] += 1
            continue
        found.add(page.request_id, page.candidates, page.features, *again.features(page))
    return {
        "requests": found.requests,
        "mismatches": found.mismatches,
        "different_requests": found.different_requests,
        "values": found.values,
        "features": found.features(),
        "unseen_events": unseen,
        "not_compared": dict(left),
        "release": release.name,
    }
