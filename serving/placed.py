"""One page as it was put together for a placement, and all that led to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aisle.v1 import recommender_pb2 as pb
from serving.failures import Failure
from serving.online_state import PersonState
from serving.page_tokens import Onward
from serving.recommend_checks import is_personal
from serving.release import Release
from serving.request_path import Answer, Request, is_calibrated
from serving.shown import Shown
from serving.stage_watch import StageWatch


@dataclass(frozen=True)
class Placed:
    """A page that was put together for a placement."""

    request: pb.RecommendRequest
    k: int
    now: int
    release: Release
    state: PersonState
    asked: Request
    missing: list[str]
    onward: Onward | None  # the list that it is a further page of
    page: Answer
    watch: StageWatch
    alone: bool  # no other placement kept items off it

    @property
    def failure(self) -> Failure | None:
        """What the answer does without."""
        if self.request.min_score and not is_calibrated(self.release):
            return self.state.failure or Failure.UNCALIBRATED
        return self.state.failure

    @property
    def outside(self) -> int:
        """How many items of the page the filter does not hold for."""
        wanted, rows = self.asked.filter, self.page.rows
        return 0 if wanted is None or self.asked.strict else int(np.count_nonzero(~wanted[rows]))

    def shown(self, response: pb.RecommendResponse) -> Shown:
        """For the log."""
        plain = self._plain
        return Shown(
            self.now,
            self.release,
            self.k,
            self.request,
            response,
            is_personal(self.request),
            self.state.user,
            self.page.candidates.rows if plain else None,
            self.page.features if plain else None,
            self.state.live,
        )

    @property
    def _plain(self) -> bool:
        """Whether the candidates are what the sources propose: else their features are no sample of that, and are not logged."""
        asked = self.asked
        wanted = asked.rules is not None and len(asked.rules.wanted) > 0
        chosen = asked.allowed is not None or asked.only is not None or wanted or self.request.exclude_purchased
        return not chosen and self.alone and self.onward is None and asked.list_size <= asked.k
