"""What answers a request: the release that answers everybody, or that of the arm which the request is given; settled before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from aisle.v1 import recommender_pb2 as pb
from experiments.config import Settings
from serving.arms.chosen import Copy
from serving.arms.open_releases import OpenRelease, OpenReleases
from serving.experiments import Given, LiveExperiments
from serving.page_tokens import Onward
from serving.paging import Paging
from serving.placed import Placed
from serving.release import Release
from serving.resident import Resident

_NOBODY = Given()  # in no experiment


@dataclass(frozen=True)
class Way:
    """How a request is answered."""

    release: Release
    known: int  # rows of it without the live catalog
    now: int  # microseconds
    given: Given
    onward: Onward | None = None  # the list that it asks for a further page of
    failed: bool = False  # the arm's own release could not answer: the release of all does
    settled: bool = False  # bandits have no word in it

    @property
    def arms_own(self) -> bool:
        """Whether an arm's release answers."""
        return self.given.release is not None and not self.failed


class Ways:
    """Finds them.

    Args:
        resident: What answers everybody.
        experiments: That requests are in; None: no.
        open_releases: Of arms; None: none.
        paging: Opens the tokens of lists.
        now: The clock of a request to a release, microseconds.
    """

    def __init__(
        self,
        resident: Resident,
        experiments: LiveExperiments | None,
        open_releases: OpenReleases | None,
        paging: Paging,
        now: Callable[[Release], int],
    ) -> None:
        self._resident, self._experiments, self._open, self._paging = resident, experiments, open_releases, paging
        self._now = now

    def of(self, request: pb.RecommendRequest, within: str = "") -> Way:
        """Of a request; `within` is its path in a larger one.

        A further page of a list goes on with the release that put the list in order, as long as that is open. Where that is not the one
        that its arm would answer by, the page is in no experiment.

        Raises:
            BadRequestError: It asks for an arm that there is not, or its page token is not one for it.
        """
        main = self._resident.release
        now = self._now(main)
        given = _NOBODY if self._experiments is None else self._experiments.of(request, now, within)
        onward = self._paging.onward(request, now)
        own, settled = given.release, False
        if onward is not None and onward.release != (main if own is None else own.base).name:
            begun = None if onward.release == main.name or self._open is None else self._open.named(onward.release)
            if begun is not None or own is not None:
                given, own, settled = replace(_NOBODY, release=begun), begun, True
        if own is None:
            return Way(main, self._resident.base.items.rows, now, given, onward, settled=settled)
        release = own.current
        return Way(release, own.base.items.rows, self._now(release), given, onward, settled=settled)

    def with_bandits(self, way: Way, request: pb.RecommendRequest, kept: Mapping[str, bytes]) -> Way:
        """The same with the arms of bandits, which need what is known of the session (`kept`: what they gave it); they change settings alone."""
        if self._experiments is None or way.settled:
            return way
        return replace(way, given=self._experiments.with_bandits(way.given, request, way.now, kept))

    def instead(self, way: Way) -> Way:
        """The same by the release that answers everybody: that of the arm could not."""
        main = self._resident.release
        return Way(main, self._resident.base.items.rows, self._now(main), way.given, way.onward, True, way.settled)

    def of_copy(self, copy: Copy, one: Placed) -> Way:
        """How a shadow answers what `one` was answered."""
        held = OpenRelease(self._resident.held) if copy.release is None else copy.release
        release, settings = held.current, () if copy.settings == Settings() else (copy.settings,)
        given = replace(one.given, assignments=(copy.assignment,), settings=settings, release=copy.release, copies=())
        return Way(release, held.base.items.rows, max(one.now, release.window_end), given, settled=True)
