"""aisle.v1.Recommender: checks a request, reads the person, runs the request path, and says it in the shop's ids."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict

import grpc
import numpy as np

from aisle.v1 import recommender_pb2 as pb
from aisle.v1 import recommender_pb2_grpc
from core.columns import Array
from core.history import Query
from core.ids import NO_ROW
from serving.asking import Asking, known_rows
from serving.explain import UNKNOWN, explain
from serving.failures import Failure
from serving.online_state import OnlineState, Person, PersonState
from serving.paging import Paging, next_page
from serving.placed import Placed
from serving.probability import probability
from serving.reasons import title
from serving.recommend_checks import (
    check_batch,
    check_explain,
    check_preview,
    check_rank,
    check_recommend,
    check_similar,
    is_personal,
)
from serving.refusals import guarded
from serving.release import Release
from serving.request_path import Answer, answer, rank
from serving.resident import Resident
from serving.results import add_contributions, index_version, reasons_for, results_of
from serving.ruled_answer import add_rule_of, add_rules, preview
from serving.rules.live import LiveRules
from serving.shown import ShownLog
from serving.stage_watch import StageWatch
from serving.tally import Tally
from serving.trending import Trending

_SIMILAR_SOURCES = ("item_knn", "transitions", "covisitation", "content")
_NONE = np.empty(0, np.int32)

Clock = Callable[[], int]


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


class RecommenderService(recommender_pb2_grpc.RecommenderServicer):
    """Answers from the resident release and the online state."""

    def __init__(
        self,
        resident: Resident,
        state: OnlineState,
        log: ShownLog,
        tally: Tally,
        trending: Trending,
        paging: Paging,
        clock: Clock = wall_clock,
        rules: LiveRules | None = None,
    ) -> None:
        self._resident, self._state, self._log, self._tally = resident, state, log, tally
        self._trending, self._paging = trending, paging
        self._asking = Asking(trending, rules, clock)

    @guarded
    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:  # noqa: N802
        """See the proto."""
        watch, k = StageWatch(), check_recommend(request)
        release = self._resident.release
        now = self._asking.now(release)
        if request.validate_only:
            return self._valid(release, request, k, now)
        state = self._hydrated(release, request, now)
        watch.lap("hydrate")
        return self._answered(self._placed(release, request, k, now, state, watch))

    @guarded
    def BatchRecommend(  # noqa: N802
        self, request: pb.BatchRecommendRequest, context: grpc.ServicerContext
    ) -> pb.BatchRecommendResponse:
        """See the proto."""
        watch, sizes, asked = StageWatch(), check_batch(request), request.requests
        release = self._resident.release
        now = self._asking.now(release)
        # what cannot be used is known before anything is read or recorded
        responses = [
            self._valid(release, one, k, now, f"requests[{at}].")
            for at, (one, k) in enumerate(zip(asked, sizes, strict=True))
        ]
        wanted = [at for at, one in enumerate(asked) if not one.validate_only]
        state = self._hydrated(release, asked[0], now) if wanted else PersonState()
        watch.lap("hydrate")
        placed, taken = [], _NONE
        for at in wanted:
            placed.append(self._placed(release, asked[at], sizes[at], now, state, watch, taken))
            taken, watch = np.concatenate([taken, placed[-1].page.rows]), StageWatch()
        for at, one in zip(wanted, placed, strict=True):
            one.watch.resume()
            responses[at] = self._answered(one, taken)
        return pb.BatchRecommendResponse(responses=responses)

    @guarded
    def Rank(self, request: pb.RankRequest, context: grpc.ServicerContext) -> pb.RankResponse:  # noqa: N802
        """See the proto."""
        watch = StageWatch()
        check_rank(request)
        release = self._resident.release
        now = self._asking.now(release)
        state = self._hydrated(release, request, now)
        watch.lap("hydrate")
        rows, unknown = known_rows(release, request.item_ids)
        on_page, missing = known_rows(release, request.context_item_ids)
        query = Query(now, state.user, state.history, on_page, request.placement, state.facts, state.attributes)
        page = rank(release, query, np.unique(rows))
        watch.lap("rank")

        request_id = request.request_id or uuid.uuid4().hex
        response = pb.RankResponse(
            results=results_of(release, query, page),
            attribution_token=f"{release.name}.{request_id}",
            level=page.level,
            degraded=state.failure is not None,
            fallback_reason=state.failure or "",
            release=release.name,
            missing_ids=unknown + missing,
            request_id=request_id,
            index_version=index_version(release),
        )
        if request.explain:
            add_contributions(release, response.results, page)
        watch.lap("reasons")
        watch.write(response.stage_latency_ms)
        self._count(page, state.failure)
        return response

    @guarded
    def SimilarItems(self, request: pb.SimilarItemsRequest, context: grpc.ServicerContext) -> pb.SimilarItemsResponse:  # noqa: N802
        """See the proto."""
        k = check_similar(request)
        release = self._resident.release
        asked, missing = self._asking.similar(release, request, k)
        request_id = request.request_id or uuid.uuid4().hex
        response = pb.SimilarItemsResponse(
            release=release.name,
            missing_ids=missing,
            request_id=request_id,
            rules=self._asking.rules_id,
            index_version=index_version(release),
        )
        if request.validate_only:
            return response
        sources = (*(s for s in release.sources if s.name in _SIMILAR_SOURCES), *release.newcomers)
        page = answer(release, asked, sources)
        anchored = Query(asked.query.time, context=asked.query.context)  # so that no reason speaks of a person
        response.results.extend(results_of(release, anchored, page))
        response.attribution_token = f"{release.name}.{request_id}"
        add_rules(response.results, asked, page)
        return response

    @guarded
    def Explain(self, request: pb.ExplainRequest, context: grpc.ServicerContext) -> pb.ExplainResponse:  # noqa: N802
        """See the proto."""
        k = check_explain(request)
        one = self._looked_at(request.request, k)
        release, asked, page, failure = one.release, one.asked, one.page, one.failure
        row = release.item_ids.row(request.item_id)
        found = UNKNOWN if row == NO_ROW else explain(release, asked, page, row)
        response = pb.ExplainResponse(
            item_id=request.item_id,
            outcome=found.outcome,
            summary=found.summary,
            rank=found.rank,
            score=found.score,
            page_score=found.page_score,
            candidates=len(page.candidates),
            sources=[pb.Evidence(**asdict(o)) for o in found.opinions],
            ranked_by=found.ranked_by,
            score_parts=[
                pb.ScorePart(name=name, value=value, features=found.features.get(name, {}))
                for name, value in sorted(found.parts.items(), key=lambda part: -part[1])
            ],
            level=page.level,
            degraded=failure is not None,
            fallback_reason=failure or "",
            release=release.name,
            missing_ids=one.missing,
        )
        if found.ranked_by and (chance := probability(release, page, found.score)) is not None:
            response.probability = chance
        if row != NO_ROW:
            add_rule_of(response, asked, page, row)
            response.title = title(release, row)
            response.available = bool(release.available[row])
            response.reasons.extend(reasons_for(release, asked.query, page, found, self._trending.of(release)))
        return response

    @guarded
    def PreviewRules(self, request: pb.PreviewRulesRequest, context: grpc.ServicerContext) -> pb.PreviewRulesResponse:  # noqa: N802
        """See the proto."""
        one = self._looked_at(request.request, check_preview(request))
        seen = preview(one.release, one.asked)
        return pb.PreviewRulesResponse(
            items=[
                pb.PreviewedItem(
                    item_id=one.release.item_ids[row],
                    title=title(one.release, row),
                    before=before,
                    after=after,
                    because=because,
                )
                for row, before, after, because in seen.items
            ],
            rules=self._asking.rules_id,
            level=seen.level,
            release=one.release.name,
            in_force=seen.in_force,
            off=seen.off,
        )

    def _looked_at(self, request: pb.RecommendRequest, k: int) -> Placed:
        """The answer to a request inside another one; nothing of it is recorded."""
        release, watch = self._resident.release, StageWatch()
        now = self._asking.now(release)
        return self._placed(release, request, k, now, self._hydrated(release, request, now), watch, within="request.")

    def _hydrated(self, release: Release, request: pb.RecommendRequest | pb.RankRequest, now: int) -> PersonState:
        """What is known of who asks."""
        known = Person(request.user_id, request.visitor_id, request.session_id) if is_personal(request) else Person()
        return self._state.read(release, known, now)

    def _valid(
        self, release: Release, request: pb.RecommendRequest, k: int, now: int, within: str = ""
    ) -> pb.RecommendResponse:
        """The answer to a request that is only to be checked."""
        _, missing = self._asking.page(release, request, k, now, PersonState(), within=within)
        self._paging.onward(request, now)
        return pb.RecommendResponse(
            release=release.name,
            missing_ids=missing,
            request_id=request.request_id,
            rules=self._asking.rules_id,
            index_version=index_version(release),
        )

    def _placed(
        self,
        release: Release,
        request: pb.RecommendRequest,
        k: int,
        now: int,
        state: PersonState,
        watch: StageWatch,
        taken: Array = _NONE,
        within: str = "",
    ) -> Placed:
        """The page of one placement, without the rows `taken` (int32) that others show."""
        asked, missing = self._asking.page(release, request, k, now, state, taken, within)
        onward = self._paging.onward(request, now)
        page = answer(release, asked) if onward is None else next_page(release, asked, onward)
        watch.lap("recommend")
        return Placed(request, k, now, release, state, asked, missing, onward, page, watch, not len(taken))

    def _answered(self, one: Placed, taken: Array = _NONE) -> pb.RecommendResponse:
        """The page in the shop's ids, counted and logged; `taken` as for Paging.token."""
        request, release, asked, page = one.request, one.release, one.asked, one.page
        request_id = request.request_id or uuid.uuid4().hex
        first = 1 if one.onward is None else one.onward.shown + 1
        response = pb.RecommendResponse(
            results=results_of(release, asked.query, page, self._trending.of(release), first),
            attribution_token=f"{release.name}.{request_id}",
            level=page.level,
            degraded=one.failure is not None,
            fallback_reason=one.failure or "",
            release=release.name,
            missing_ids=one.missing,
            request_id=request_id,
            rules=self._asking.rules_id,
            outside_filter=one.outside,
            next_page_token=self._paging.token(request, release, page, one.onward, one.now, taken),
            index_version=index_version(release),
        )
        add_rules(response.results, asked, page)
        if request.explain:
            add_contributions(release, response.results, page)
        one.watch.lap("reasons")
        one.watch.write(response.stage_latency_ms)
        self._count(page, one.failure)
        self._log.offer(one.shown(response))
        return response

    def _count(self, page: Answer, failure: Failure | None) -> None:
        self._tally.add("level", page.level)
        if failure is not None:
            self._tally.add("degraded", failure)
