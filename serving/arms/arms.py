"""What arms ask of the service that answers: an arm's release that cannot answer is stood in for, answers are watched, shadows get their copies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from aisle.v1 import recommender_pb2 as pb
from core.errors import AisleError
from serving.arms.at_work import AtWork
from serving.arms.chosen import Copy
from serving.arms.open_releases import OpenReleases
from serving.arms.shadow import Shadows
from serving.arms.watch import ArmWatch
from serving.arms.ways import Way, Ways
from serving.caller import TooMuchError
from serving.placed import Placed
from serving.private_logs import stack_of
from serving.shown import Shown

_LOG = logging.getLogger(__name__)
_MOST_LOGGED: Final = 20
A = TypeVar("A")


class Arms:
    """Of one tenant; without parts it does nothing."""

    def __init__(
        self,
        releases: OpenReleases | None = None,
        watch: ArmWatch | None = None,
        shadows: Shadows | None = None,
        at_work: AtWork | None = None,
    ) -> None:
        self._at_work = at_work or AtWork(None)
        self.releases, self.watch, self._shadows = releases, watch, shadows
        self._logged: set[str] = set()  # a fault comes with every request of the arm, and is told once

    def start_copies(self, make: Callable[[Placed, Copy], Shown]) -> None:
        """How the copies of shadows are made."""
        if self._shadows is not None:
            self._shadows.make = make

    def tried(self, ways: Ways, request: pb.RecommendRequest, way: Way, do: Callable[[Way], A]) -> A:
        """What `do` makes by a way. Where an arm's own release cannot, the release that answers everybody does.

        The request stays the arm's, whose fault it is: what becomes of its people is what the arm does to them.
        """
        try:
            if not way.arms_own:
                return do(way)
            with self._at_work.on(way.release.path):
                return do(way)
        except TooMuchError:  # the load's fault, which no other release mends
            raise
        except Exception as e:
            if not way.arms_own:
                if self.watch is not None and not isinstance(e, AisleError):
                    self.watch.failed(way.given, request)
                raise
            found = do(ways.instead(way))  # what the request itself has wrong is refused here
            if self.watch is not None:
                self.watch.failed(way.given, request)
            said = f"the release {way.release.name} of an arm could not answer\n{stack_of(e)}"
            if said not in self._logged and len(self._logged) < _MOST_LOGGED:
                self._logged.add(said)
                _LOG.error("%s", said)
            return found

    def answered(self, one: Placed, response: pb.RecommendResponse) -> None:
        """A page was answered."""
        if self.watch is not None and one.given.assignments:
            took = response.stage_latency_ms  # but for the wait for its turn, which is other requests' doing
            self.watch.answered(one.given, one.request, took["total"] - took.get("turn", 0.0))
        if self._shadows is not None and one.given.copies and one.alone and one.onward is None:
            self._shadows.offer(one)
