"""aisle.v1.Recommender: checks a request, reads the person, runs the request path, and says it in the shop's ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import grpc
import numpy as np

from aisle.v1 import recommender_pb2 as pb
from aisle.v1 import recommender_pb2_grpc
from core.attribution import token_of
from core.columns import Array
from core.history import Query
from core.ids import NO_ROW
from serving.arms.arms import Arms
from serving.arms.chosen import Copy
from serving.arms.taken import Taken
from serving.arms.ways import Way, Ways
from serving.asking import Asking, known_rows
from serving.deadline import Costs, Deadline, Step
from serving.drawn_answer import add_propensities
from serving.experiments import LiveExperiments
from serving.explain import UNKNOWN, explain
from serving.exploration import Chance, Exploration
from serving.failures import Failure, failures_of
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
from serving.request_path import answer, rank
from serving.resident import Resident
from serving.results import add_contributions, index_version, reasons_for, results_of
from serving.ruled_answer import add_rule_of, add_rules, preview
from serving.rules.live import LiveRules
from serving.shown import Shown, ShownLog
from serving.sight.observation import current, new_request_id, page_seen
from serving.stage_watch import StageWatch
from serving.tally import Tally
from serving.trending import Trending
from serving.turns import Turns

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
        turns: Turns,
        log: ShownLog,
        tally: Tally,
        trending: Trending,
        paging: Paging,
        clock: Clock = wall_clock,
        rules: LiveRules | None = None,
        exploration: Exploration | None = None,
        reply_ms: float = 0.0,
        experiments: LiveExperiments | None = None,
        arms: Arms | None = None,
    ) -> None:
        self._resident, self._state, self._turns, self._log, self._tally = resident, state, turns, log, tally
        self._trending, self._paging = trending, paging
        self._asking = Asking(trending, rules, clock)
        self._exploration, self._experiments, self._reply = exploration, experiments, reply_ms / 1e3
        self._arms = arms or Arms()
        self._ways = Ways(resident, experiments, self._arms.releases, paging, self._asking.now)
        self._arms.start_copies(self._copied)
        self._costs, self._costs_of_similar = Costs(), Costs()  # which ask other sources

    @guarded
    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:  # noqa: N802
        """See the proto."""
        watch, k = StageWatch(), check_recommend(request)
        way = self._ways.of(request)
        if request.validate_only:
            return self._arms.tried(self._ways, request, way, lambda by: self._valid(by, request, k))
        deadline = self._deadline(context)

        def done(by: Way) -> pb.RecommendResponse:
            state = self._hydrated(by.release, request, by.now, deadline)
            watch.lap("hydrate")
            with self._turns.one(deadline):
                watch.lap("turn")
                response = self._answered(self._placed(by, request, k, state, watch, deadline))
                if deadline is not None:
                    deadline.end(Step.FINISH)
            return response

        return self._arms.tried(self._ways, request, way, done)

    @guarded
    def BatchRecommend(  # noqa: N802
        self, request: pb.BatchRecommendRequest, context: grpc.ServicerContext
    ) -> pb.BatchRecommendResponse:
        """See the proto."""
        watch, sizes, asked = StageWatch(), check_batch(request), request.requests
        ways = [self._ways.of(one, f"requests[{at}].") for at, one in enumerate(asked)]
        # what cannot be used is known before anything is read or recorded
        responses = [
            self._arms.tried(self._ways, one, way, partial(self._valid, request=one, k=k, within=f"requests[{at}]."))
            for at, (way, one, k) in enumerate(zip(ways, asked, sizes, strict=True))
        ]
        states: dict[Path, PersonState] = {}

        def state(way: Way, watch: StageWatch) -> PersonState:
            path = way.release.path
            if path not in states:  # placements may be in arms with releases of their own
                states[path] = self._hydrated(way.release, asked[0], way.now, self._deadline(context))
                watch.lap("hydrate")
            return states[path]

        placed: dict[int, Placed] = {}
        taken = Taken()
        for at, one in enumerate(asked):
            if one.validate_only:
                continue
            deadline = self._deadline(context)

            def put(way: Way, at: int = at, watch: StageWatch = watch, deadline: Deadline | None = deadline) -> Placed:
                known, rows = state(way, watch), taken.in_rows_of(way.release)
                with self._turns.one(deadline):  # a turn for each: others need not wait for all of them
                    watch.lap("turn")
                    return self._placed(way, asked[at], sizes[at], known, watch, deadline, rows)

            placed[at] = self._arms.tried(self._ways, one, ways[at], put)
            taken.add(placed[at].release, placed[at].page.rows)
            watch = StageWatch()
        for at, page in placed.items():
            page.watch.resume()
            responses[at] = self._answered(page, taken.in_rows_of(page.release))
        return pb.BatchRecommendResponse(responses=responses)

    @guarded
    def Rank(self, request: pb.RankRequest, context: grpc.ServicerContext) -> pb.RankResponse:  # noqa: N802
        """See the proto."""
        watch = StageWatch()
        check_rank(request)
        release, deadline = self._resident.release, self._deadline(context)
        now = self._asking.now(release)
        state = self._hydrated(release, request, now, deadline)
        watch.lap("hydrate")
        rows, unknown = known_rows(release, request.item_ids)
        on_page, missing = known_rows(release, request.context_item_ids)
        query = Query(now, state.user, state.history, on_page, request.placement, state.facts, state.attributes)
        with self._turns.one(deadline):
            watch.lap("turn")
            page = rank(release, query, np.unique(rows), deadline)
        failures = failures_of(state.failure, page.missed)
        watch.lap("rank")

        request_id = request.request_id or new_request_id()
        response = pb.RankResponse(
            results=results_of(release, query, page),
            attribution_token=token_of(release.name, request_id),
            level=page.level,
            degraded=len(failures) > 0,
            fallback_reason=_first_of(failures),
            release=release.name,
            missing_ids=unknown + missing,
            request_id=request_id,
            index_version=index_version(release),
        )
        if request.explain:
            add_contributions(release, response.results, page)
        watch.lap("reasons")
        watch.write(response.stage_latency_ms)
        page_seen(self._tally, "Rank", request_id, release.name, page, failures, watch)
        return response

    @guarded
    def SimilarItems(self, request: pb.SimilarItemsRequest, context: grpc.ServicerContext) -> pb.SimilarItemsResponse:  # noqa: N802
        """See the proto."""
        k = check_similar(request)
        release = self._resident.release
        asked, missing = self._asking.similar(release, request, k)
        asked = replace(asked, deadline=self._deadline(context, self._costs_of_similar))
        request_id = request.request_id or new_request_id()
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
        with self._turns.one(asked.deadline):
            page = answer(release, asked, sources)
        anchored = Query(asked.query.time, context=asked.query.context)  # so that no reason speaks of a person
        response.results.extend(results_of(release, anchored, page))
        response.attribution_token = token_of(release.name, request_id)
        response.degraded, response.fallback_reason = page.missed is not None, page.missed or ""
        add_rules(response.results, asked, page)
        return response

    @guarded
    def Explain(self, request: pb.ExplainRequest, context: grpc.ServicerContext) -> pb.ExplainResponse:  # noqa: N802
        """See the proto."""
        k = check_explain(request)
        # a page that was drawn is drawn alike again; one that has no name yet is the usual one
        one = self._looked_at(request.request, k, by_chance=bool(request.request.request_id))
        release, asked, page, failures = one.release, one.asked, one.page, one.failures
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
            degraded=len(failures) > 0,
            fallback_reason=_first_of(failures),
            release=release.name,
            missing_ids=one.missing,
        )
        if found.ranked_by and (likely := probability(release, page, found.score)) is not None:
            response.probability = likely
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

    def _looked_at(self, request: pb.RecommendRequest, k: int, by_chance: bool = False) -> Placed:
        """The answer to a request inside another one; nothing of it is recorded."""
        way, watch = self._ways.of(request, "request."), StageWatch()
        state = self._hydrated(way.release, request, way.now)
        with self._turns.one():
            return self._placed(way, request, k, state, watch, within="request.", by_chance=by_chance)

    def _deadline(self, context: grpc.ServicerContext, costs: Costs | None = None) -> Deadline | None:
        """The caller's, where there is one."""
        left = context.time_remaining()
        return None if left is None else Deadline(left, costs or self._costs, self._reply)

    def _hydrated(
        self,
        release: Release,
        request: pb.RecommendRequest | pb.RankRequest,
        now: int,
        deadline: Deadline | None = None,
    ) -> PersonState:
        """What is known of who asks."""
        known = Person(request.user_id, request.visitor_id, request.session_id) if is_personal(request) else Person()
        return self._state.read(release, known, now, None if deadline is None else deadline.for_state())

    def _chance(self, way: Way, request: pb.RecommendRequest, request_id: str) -> Chance | None:
        """What of the page is left to chance: pages of visits, unless the request says otherwise.

        Nothing of a list, which is put in order once, nor of items that the caller chose or limited.
        """
        chosen = request.list_size or request.page_token or request.candidate_item_ids or request.min_score
        if self._exploration is None or chosen:
            return None
        wanted = request.explore if request.HasField("explore") else None
        if wanted is None and (request.explain or not request.session_id):
            return None
        return self._exploration.of(request_id, wanted, way.release, way.now, way.known)

    def _valid(self, way: Way, request: pb.RecommendRequest, k: int, within: str = "") -> pb.RecommendResponse:
        """The answer to a request that is only to be checked."""
        release = way.release
        _, missing = self._asking.page(release, request, k, way.now, PersonState(), within=within)
        return pb.RecommendResponse(
            release=release.name,
            missing_ids=missing,
            request_id=request.request_id,
            rules=self._asking.rules_id,
            index_version=index_version(release),
        )

    def _placed(
        self,
        way: Way,
        request: pb.RecommendRequest,
        k: int,
        state: PersonState,
        watch: StageWatch,
        deadline: Deadline | None = None,
        taken: Array = _NONE,
        within: str = "",
        by_chance: bool = True,
    ) -> Placed:
        """The page of one placement, without the rows `taken` (int32) that others show."""
        request_id = request.request_id or new_request_id()
        way = self._ways.with_bandits(way, request, state.given)
        release, now, given = way.release, way.now, way.given
        request = given.told(request)
        asked, missing = self._asking.page(release, request, k, now, state, taken, within, ruled=given.ruled)
        chance = self._chance(way, request, request_id) if by_chance else None
        asked = replace(asked, deadline=deadline, chance=chance, watch=watch)
        by = release if self._experiments is None else self._experiments.over(release, given)
        page = answer(by, asked) if way.onward is None else next_page(release, asked, way.onward)
        watch.lap("recommend")
        alone, fell = not len(taken), way.failed
        return Placed(
            request, k, now, release, state, asked, missing, way.onward, page, watch, alone, request_id, given, fell
        )

    def _answered(self, one: Placed, taken: Array = _NONE) -> pb.RecommendResponse:
        """The page in the shop's ids, counted and logged; `taken` as for Paging.token."""
        response, pool = self._said(one, taken)
        rpc = "Recommend" if (call := current()) is None else call.rpc
        arm = ",".join(f"{a.experiment}={a.arm}" for a in one.given.assignments if not a.forced)
        page_seen(self._tally, rpc, one.request_id, one.release.name, one.page, one.failures, one.watch, arm)
        if self._experiments is not None:
            self._experiments.count(one.given, one.request)
        self._log.offer(one.shown(response, pool))
        self._arms.answered(one, response)
        return response

    def _said(self, one: Placed, taken: Array = _NONE) -> tuple[pb.RecommendResponse, tuple[str, ...]]:
        """The page in the shop's ids, and those that it was drawn from."""
        request, release, asked, page = one.request, one.release, one.asked, one.page
        first = 1 if one.onward is None else one.onward.shown + 1
        response = pb.RecommendResponse(
            results=results_of(release, asked.query, page, self._trending.of(release), first),
            attribution_token=token_of(release.name, one.request_id, one.given.arms),
            level=page.level,
            degraded=len(one.failures) > 0,
            fallback_reason=_first_of(one.failures),
            release=release.name,
            missing_ids=one.missing,
            request_id=one.request_id,
            rules=self._asking.rules_id,
            outside_filter=one.outside,
            next_page_token=self._paging.token(request, release, page, one.onward, one.now, taken),
            index_version=index_version(release),
        )
        add_rules(response.results, asked, page)
        one.given.write(response)
        pool = add_propensities(response, release, page.drawn)
        if request.explain:
            add_contributions(release, response.results, page)
        one.watch.lap("reasons")
        one.watch.write(response.stage_latency_ms)
        return response, pool

    def _copied(self, one: Placed, copy: Copy) -> Shown:
        """What a shadow would have answered to a request, for its log."""
        request = pb.RecommendRequest()
        request.CopyFrom(one.request)
        request.request_id = one.request_id  # what is left to chance is so in the copy too
        way = self._ways.of_copy(copy, one)
        state = self._hydrated(way.release, request, way.now)
        with self._turns.one():  # while requests take all of them a copy waits
            placed = self._placed(way, request, one.k, state, StageWatch())
            return placed.copied(*self._said(placed))


def _first_of(failures: list[Failure]) -> str:
    return failures[0] if failures else ""
