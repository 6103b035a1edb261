"""Turns what a request says into rows and rules of the release that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from aisle.v1 import recommender_pb2 as pb
from core.columns import Array
from core.history import Query
from core.ids import NO_ROW
from serving.answers import Request
from serving.filters.masks import Masks
from serving.filters.syntax import FilterError
from serving.online_state import PersonState
from serving.recent_events import with_recent
from serving.recommend_checks import is_personal
from serving.release import Release
from serving.request_path import is_calibrated
from serving.resident import made_up_history
from serving.rules.bound import PageRules
from serving.rules.live import LiveRules
from serving.rules.requested import Asking as Asked
from serving.rules.requested import RequestRules
from serving.trending import Trending
from serving.validation import BadRequestError

_NONE = np.empty(0, np.int32)


class Asking:
    """What requests are understood with: filters, the rules of the shop and of the request, what trends."""

    def __init__(self, trending: Trending, rules: LiveRules | None, clock: Callable[[], int]) -> None:
        self._trending, self._shop, self._clock = trending, rules, clock
        self._masks, self._requested = Masks(), RequestRules()

    def now(self, release: Release) -> int:
        """The clock of a request, microseconds."""
        # an invented clock may end after today: then now is the end of the window
        return max(self._clock(), release.window_end)

    @property
    def rules_id(self) -> str:
        """A hash of the rules of the shop, empty without any."""
        return "" if self._shop is None else self._shop.rules.set.id

    def page(
        self,
        release: Release,
        request: pb.RecommendRequest,
        k: int,
        now: int,
        state: PersonState,
        taken: Array = _NONE,
        within: str = "",
        *,
        ruled: bool = True,
    ) -> tuple[Request, list[str]]:
        """The request in rows, and the ids that the release does not know.

        Args:
            release: What answers.
            request: What is asked; it was checked.
            k: Places of the page.
            now: The clock, microseconds.
            state: What is known of the person.
            taken: Item rows int32 that another placement shows.
            within: The path of the request in a larger one, for errors.
            ruled: False: of the shop's rules only those that hide hold.

        Raises:
            BadRequestError: The release does not have what it speaks of.
        """
        on_page, missing = known_rows(release, request.context_item_ids)
        excluded, unknown = known_rows(release, request.exclude_item_ids)
        listed, unlisted = known_rows(release, request.candidate_item_ids)
        if is_personal(request):
            state, untold = with_recent(release, state, request.recent_events, now)
            unknown += untold
        query = Query(now, state.user, state.history, on_page, request.placement, state.facts, state.attributes)
        only = np.unique(listed) if request.candidate_item_ids else None
        least = request.min_score if request.min_score and is_calibrated(release) else 0.0
        full = only is None and not least  # pages are filled, but for these
        asked = Request(
            query,
            k,
            np.concatenate([excluded, taken]) if len(taken) else excluded,
            request.exclude_seen,
            fill=full,
            trending=self._trending.of(release).order if full else _NONE,
            lead=self._trending.lead(k) if full else 0,
            exclude_purchased=request.exclude_purchased,
            filter=self._filter(release, request.filter, now, within),
            strict=request.strict_filtering if request.HasField("strict_filtering") else True,
            rules=self._rules(release, request, now, within, ruled=ruled),
            only=only,
            least=least,
            list_size=max(k, request.list_size) if request.list_size else 0,
        )
        return asked, missing + unknown + unlisted

    def similar(self, release: Release, request: pb.SimilarItemsRequest, k: int) -> tuple[Request, list[str]]:
        """The same for items that go with others. See `page`."""
        items, missing = known_rows(release, request.item_ids)
        excluded, unknown = known_rows(release, request.exclude_item_ids)
        # the given items stand in for a history (item_knn reads nothing else) and are the page (so they are not part of the answer)
        query = Query(
            release.window_end,
            history=made_up_history(items, release.window_end),
            context=items,
            placement=request.placement,
        )
        now = self.now(release)
        asked = Request(
            query,
            k,
            excluded,
            fill=False,
            filter=self._filter(release, request.filter, now, ""),
            rules=self._rules(release, request, now, ""),
        )
        return asked, missing + unknown

    def _filter(self, release: Release, text: str, now: int, within: str) -> Array | None:
        """The items for which a filter holds, bool `[items]`; None without one."""
        try:
            return self._masks.of(text, release, now) if text else None
        except FilterError as e:
            raise BadRequestError([(f"{within}filter", str(e))]) from None

    def _rules(
        self, release: Release, request: Asked, now: int, within: str, *, ruled: bool = True
    ) -> PageRules | None:
        """Those of the shop for the placement, and those that the request brings."""
        shop = None if self._shop is None else self._shop.rules.of(release, request.placement, now, arranging=ruled)
        requested = self._requested.of(request, release, now, within)
        return shop if requested is None else requested.over(shop)


def known_rows(release: Release, ids: Iterable[str]) -> tuple[Array, list[str]]:
    """Rows int32 of the ids that the release knows, and the ids that it does not."""
    ids = list(ids)
    if not ids:
        return _NONE, []
    rows = release.item_ids.rows(ids)
    return rows[rows != NO_ROW], [i for i, row in zip(ids, rows.tolist(), strict=True) if row == NO_ROW]
