"""One page as it was put together for a placement, and all that led to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aisle.v1 import recommender_pb2 as pb
from serving.answers import Answer, Request
from serving.experiments import Given
from serving.failures import Failure, failures_of
from serving.online_state import PersonState
from serving.page_tokens import Onward
from serving.recommend_checks import is_personal
from serving.release import Release
from serving.request_path import is_calibrated
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
    request_id: str
    given: Given  # its arms in experiments
    arm_failed: bool = False  # the arm's own release could not answer

    @property
    def failures(self) -> list[Failure]:
        """What the answer does without, the gravest first."""
        unlimited = self.request.min_score and not is_calibrated(self.release)
        failed = Failure.ARM_FAILED if self.arm_failed else None
        return failures_of(failed, self.state.failure, self.page.missed, Failure.UNCALIBRATED if unlimited else None)

    @property
    def outside(self) -> int:
        """How many items of the page the filter does not hold for."""
        wanted, rows = self.asked.filter, self.page.rows
        return 0 if wanted is None or self.asked.strict else int(np.count_nonzero(~wanted[rows]))

    def shown(self, response: pb.RecommendResponse, pool: tuple[str, ...]) -> Shown:
        """For the log; `pool`: see Shown."""
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
            pool,
            self.given.said,
        )

    def copied(self, response: pb.RecommendResponse, pool: tuple[str, ...]) -> Shown:
        """For the log of shadows: nobody saw it, and no id of a person is in it; `request_id` is that of the page that was answered."""
        response.attribution_token = response.next_page_token = ""
        shown = self.shown(response, pool)
        return replace(shown, personal=False, candidates=None, features=None, live=())

    @property
    def _plain(self) -> bool:
        """Whether the candidates are what the sources propose: else their features are no sample of that, and are not logged."""
        asked = self.asked
        wanted = asked.rules is not None and len(asked.rules.wanted) > 0
        told = len(self.request.recent_events) > 0 and is_personal(
            self.request
        )  # no log of events will tell them again
        chosen = asked.allowed is not None or asked.only is not None or wanted or self.request.exclude_purchased
        whole = (
            not self.given.settings
            and self.alone
            and self.onward is None
            and asked.list_size <= asked.k
            and self.page.missed is None
        )
        return not chosen and not told and whole
