"""aisle.v1.Recommender: checks a request, reads the person, runs the request path, and says it in the shop's ids."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, MutableMapping

import grpc
import numpy as np

from aisle.v1 import recommender_pb2 as pb
from aisle.v1 import recommender_pb2_grpc
from core.columns import Array
from core.history import Query
from core.ids import NO_ROW
from serving.deadline import Costs, Deadline, Step
from serving.drawn_answer import add_propensities
from serving.explain import UNKNOWN, Explanation, Outcome, explain, position, score_parts
from serving.exploration import Chance, Exploration
from serving.filters.masks import Masks
from serving.filters.syntax import FilterError
from serving.grounds import statements
from serving.online_state import OnlineState, Person, PersonState
from serving.probability import probabilities, probability
from serving.reasons import reasons, title
from serving.recent_events import check_recent, with_recent
from serving.refusals import guarded
from serving.release import Release
from serving.request_path import TRENDING, Answer, Request, answer, rank
from serving.resident import Resident, made_up_history
from serving.ruled_answer import add_rule_of, add_rules, preview
from serving.rules.bound import PageRules
from serving.rules.live import LiveRules
from serving.shown import Shown, ShownLog
from serving.tally import Tally
from serving.trend import NOTHING, Trend
from serving.trending import Trending
from serving.validation import MAX_CONTEXT, MAX_EXCLUDED, MAX_PAGE, BadRequestError, Problems

_SIMILAR_SOURCES = ("item_knn", "transitions", "covisitation", "content")

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
        clock: Clock = wall_clock,
        rules: LiveRules | None = None,
        exploration: Exploration | None = None,
        reply_ms: float = 0.0,
    ) -> None:
        self._resident, self._state, self._log, self._tally = resident, state, log, tally
        self._trending, self._clock = trending, clock
        self._rules, self._masks = rules, Masks()
        self._exploration, self._reply = exploration, reply_ms / 1e3
        self._costs, self._costs_of_similar = Costs(), Costs()  # which ask other sources

    @guarded
    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:  # noqa: N802
        """See the proto."""
        watch = _Watch()
        k = _check_recommend(request)
        request_id = request.request_id or uuid.uuid4().hex
        release = self._resident.release
        deadline = self._deadline(context)
        now, state = self._hydrated(release, request, deadline)
        watch.lap("hydrate")
        asked, missing = self._asked(release, request, k, now, state)
        if deadline is not None:
            asked = dataclasses.replace(asked, deadline=deadline)
        if (chance := self._chance(release, request, request_id, now)) is not None:
            asked = dataclasses.replace(asked, chance=chance)
        page = answer(release, asked)
        watch.lap("recommend")

        response = pb.RecommendResponse(
            results=_results(release, asked.query, page, self._trending.of(release)),
            attribution_token=f"{release.name}.{request_id}",
            level=page.level,
            degraded=(failure := state.failure or page.missed) is not None,
            fallback_reason=failure or "",
            release=release.name,
            missing_ids=missing,
            request_id=request_id,
            rules=self._rules_id(),
            outside_filter=_outside(asked, page),
        )
        add_rules(response.results, asked, page)
        pool = add_propensities(response, release, page.drawn)
        if request.explain:
            _add_contributions(release, response.results, page)
        watch.lap("reasons")
        watch.write(response.stage_latency_ms)
        if deadline is not None:
            deadline.end(Step.FINISH)
        self._count(page, state)
        plain = _plain(request, asked) and page.missed is None
        self._log.offer(
            Shown(
                now,
                release,
                k,
                request,
                response,
                _personal(request),
                state.user,
                page.candidates.rows if plain else None,
                page.features if plain else None,
                state.live,
                pool,
            )
        )
        return response

    @guarded
    def Rank(self, request: pb.RankRequest, context: grpc.ServicerContext) -> pb.RankResponse:  # noqa: N802
        """See the proto."""
        watch = _Watch()
        _check_rank(request)
        release, deadline = self._resident.release, self._deadline(context)
        now, state = self._hydrated(release, request, deadline)
        watch.lap("hydrate")
        rows, unknown = _rows(release, request.item_ids)
        on_page, missing = _rows(release, request.context_item_ids)
        query = Query(now, state.user, state.history, on_page, request.placement, state.facts, state.attributes)
        page = rank(release, query, np.unique(rows), deadline)
        watch.lap("rank")

        request_id = request.request_id or uuid.uuid4().hex
        response = pb.RankResponse(
            results=_results(release, query, page),
            attribution_token=f"{release.name}.{request_id}",
            level=page.level,
            degraded=(failure := state.failure or page.missed) is not None,
            fallback_reason=failure or "",
            release=release.name,
            missing_ids=unknown + missing,
            request_id=request_id,
        )
        if request.explain:
            _add_contributions(release, response.results, page)
        watch.lap("reasons")
        watch.write(response.stage_latency_ms)
        self._count(page, state)
        return response

    @guarded
    def Explain(self, request: pb.ExplainRequest, context: grpc.ServicerContext) -> pb.ExplainResponse:  # noqa: N802
        """See the proto."""
        k = _check_explain(request)
        release = self._resident.release
        now, state = self._hydrated(release, request.request)
        asked, missing = self._asked(release, request.request, k, now, state)
        # a page that was drawn is drawn alike again; one that has no name yet is the usual one
        name = request.request.request_id
        if name and (chance := self._chance(release, request.request, name, now)) is not None:
            asked = dataclasses.replace(asked, chance=chance)
        trend, page = self._trending.of(release), answer(release, asked)
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
            sources=[pb.Evidence(**dataclasses.asdict(o)) for o in found.opinions],
            ranked_by=found.ranked_by,
            score_parts=[
                pb.ScorePart(name=name, value=value, features=found.features.get(name, {}))
                for name, value in sorted(found.parts.items(), key=lambda part: -part[1])
            ],
            level=page.level,
            degraded=state.failure is not None,
            fallback_reason=state.failure or "",
            release=release.name,
            missing_ids=missing,
        )
        if found.ranked_by and (likely := probability(release, page, found.score)) is not None:
            response.probability = likely
        if row != NO_ROW:
            add_rule_of(response, asked, page, row)
            response.title = title(release, row)
            response.available = bool(release.available[row])
            response.reasons.extend(_reasons_for(release, asked.query, page, found, trend))
        return response

    def _deadline(self, context: grpc.ServicerContext, costs: Costs | None = None) -> Deadline | None:
        """The caller's, where there is one."""
        left = context.time_remaining()
        return None if left is None else Deadline(left, costs or self._costs, self._reply)

    def _hydrated(
        self, release: Release, request: pb.RecommendRequest | pb.RankRequest, deadline: Deadline | None = None
    ) -> tuple[int, PersonState]:
        """The clock of a request, microseconds, and what is known of who asks."""
        # an invented clock may end after today: then now is the end of the window
        now = max(self._clock(), release.window_end)
        known = Person(request.user_id, request.visitor_id, request.session_id) if _personal(request) else Person()
        return now, self._state.read(release, known, now, None if deadline is None else deadline.for_state())

    def _asked(
        self, release: Release, request: pb.RecommendRequest, k: int, now: int, state: PersonState
    ) -> tuple[Request, list[str]]:
        """The request in rows, and the ids that the release does not know."""
        on_page, missing = _rows(release, request.context_item_ids)
        excluded, unknown = _rows(release, request.exclude_item_ids)
        if _personal(request):
            state, untold = with_recent(release, state, request.recent_events, now)
            unknown += untold
        query = Query(now, state.user, state.history, on_page, request.placement, state.facts, state.attributes)
        order, lead = self._trending.of(release).order, self._trending.lead(k)
        asked = Request(
            query,
            k,
            excluded,
            request.exclude_seen,
            trending=order,
            lead=lead,
            exclude_purchased=request.exclude_purchased,
            filter=self._filter(release, request.filter, now),
            strict=request.strict_filtering if request.HasField("strict_filtering") else True,
            rules=self._rules_for(release, request.placement, now),
        )
        return asked, missing + unknown

    def _chance(self, release: Release, request: pb.RecommendRequest, request_id: str, now: int) -> Chance | None:
        """What of the page is left to chance: pages of visits, unless the request says otherwise."""
        if self._exploration is None:
            return None
        wanted = request.explore if request.HasField("explore") else None
        if wanted is None and (request.explain or not request.session_id):
            return None
        return self._exploration.of(request_id, wanted, release, now, self._resident.base.items.rows)

    def _filter(self, release: Release, text: str, now: int) -> Array | None:
        """The items for which a filter holds, bool `[items]`; None without one."""
        try:
            return self._masks.of(text, release, now) if text else None
        except FilterError as e:
            raise BadRequestError([("filter", str(e))]) from None

    def _rules_for(self, release: Release, placement: str, now: int) -> PageRules | None:
        return None if self._rules is None else self._rules.rules.of(release, placement, now)

    def _rules_id(self) -> str:
        return "" if self._rules is None else self._rules.rules.set.id

    @guarded
    def PreviewRules(self, request: pb.PreviewRulesRequest, context: grpc.ServicerContext) -> pb.PreviewRulesResponse:  # noqa: N802
        """See the proto."""
        k = _check_recommend(request.request)
        release = self._resident.release
        now, state = self._hydrated(release, request.request)
        asked, _ = self._asked(release, request.request, k, now, state)
        seen = preview(release, asked)
        return pb.PreviewRulesResponse(
            items=[
                pb.PreviewedItem(
                    item_id=release.item_ids[row],
                    title=title(release, row),
                    before=before,
                    after=after,
                    because=because,
                )
                for row, before, after, because in seen.items
            ],
            rules=self._rules_id(),
            level=seen.level,
            release=release.name,
            in_force=seen.in_force,
            off=seen.off,
        )

    def _count(self, page: Answer, state: PersonState) -> None:
        self._tally.add("level", page.level)
        if page.drawn is not None and page.drawn.explored:
            self._tally.add("exploration", "explored")
        if page.drawn is not None and page.drawn.new_at is not None:
            self._tally.add("exploration", "new-item")
        for failure in {state.failure, page.missed} - {None}:
            self._tally.add("degraded", str(failure))

    @guarded
    def SimilarItems(self, request: pb.SimilarItemsRequest, context: grpc.ServicerContext) -> pb.SimilarItemsResponse:  # noqa: N802
        """See the proto."""
        k = _check_similar(request)
        release = self._resident.release
        items, missing = _rows(release, request.item_ids)
        excluded, unknown = _rows(release, request.exclude_item_ids)
        # the given items stand in for a history (item_knn reads nothing else) and are the page (so they are not part of the answer)
        query = Query(
            release.window_end,
            history=made_up_history(items, release.window_end),
            context=items,
            placement=request.placement,
        )
        sources = (*(s for s in release.sources if s.name in _SIMILAR_SOURCES), *release.newcomers)
        now = max(self._clock(), release.window_end)
        asked = Request(
            query,
            k,
            excluded,
            fill=False,
            filter=self._filter(release, request.filter, now),
            rules=self._rules_for(release, request.placement, now),
            deadline=self._deadline(context, self._costs_of_similar),
        )
        page = answer(release, asked, sources)
        request_id = request.request_id or uuid.uuid4().hex
        anchored = Query(query.time, context=items)  # so that no reason speaks of a person
        response = pb.SimilarItemsResponse(
            results=_results(release, anchored, page),
            attribution_token=f"{release.name}.{request_id}",
            release=release.name,
            missing_ids=missing + unknown,
            request_id=request_id,
            rules=self._rules_id(),
            degraded=page.missed is not None,
            fallback_reason=page.missed or "",
        )
        add_rules(response.results, asked, page)
        return response


class _Watch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: list[tuple[str, float]] = []

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps.append((stage, 1e3 * (now - self._last)))
        self._last = now

    def write(self, out: MutableMapping[str, float]) -> None:
        for stage, ms in self._laps:
            out[stage] = ms
        out["total"] = 1e3 * (self._last - self._start)


def _check_recommend(request: pb.RecommendRequest) -> int:
    """The page size of a request that is fine."""
    problems = Problems()
    for name in ("request_id", "placement", "user_id", "visitor_id", "session_id"):
        problems.text(name, getattr(request, name))
    problems.texts("context_item_ids", request.context_item_ids, most=MAX_CONTEXT)
    problems.texts("exclude_item_ids", request.exclude_item_ids, most=MAX_EXCLUDED)
    problems.labels(request.labels)
    problems.filter("filter", request.filter)
    check_recent(problems, request.recent_events)
    k = problems.page_size(request.page_size)
    problems.refuse()
    return k


def _check_similar(request: pb.SimilarItemsRequest) -> int:
    problems = Problems()
    for name in ("request_id", "placement"):
        problems.text(name, getattr(request, name))
    problems.texts("item_ids", request.item_ids, least=1, most=MAX_CONTEXT)
    problems.texts("exclude_item_ids", request.exclude_item_ids, most=MAX_EXCLUDED)
    problems.filter("filter", request.filter)
    k = problems.page_size(request.page_size)
    problems.refuse()
    return k


def _plain(request: pb.RecommendRequest, asked: Request) -> bool:
    """Whether the candidates are what the sources propose: else their features are no sample of that, and are not logged."""
    wanted = asked.rules is not None and len(asked.rules.wanted) > 0
    told = len(request.recent_events) > 0 and _personal(request)  # no log of events will ever tell them again
    return asked.allowed is None and not wanted and not request.exclude_purchased and not told


def _outside(asked: Request, page: Answer) -> int:
    """How many items of the page the filter does not hold for."""
    return 0 if asked.filter is None or asked.strict else int(np.count_nonzero(~asked.filter[page.rows]))


def _rows(release: Release, ids: Iterable[str]) -> tuple[Array, list[str]]:
    """Rows int32 of the ids that the release knows, and the ids that it does not."""
    ids = list(ids)
    if not ids:
        return np.empty(0, np.int32), []
    rows = release.item_ids.rows(ids)
    return rows[rows != NO_ROW], [i for i, row in zip(ids, rows.tolist(), strict=True) if row == NO_ROW]


def _results(release: Release, query: Query, page: Answer, trend: Trend = NOTHING) -> list[pb.Result]:
    rows = page.rows.tolist()
    said = reasons(release, query, rows, page.sources, trend)
    return [
        pb.Result(
            item_id=release.item_ids[row],
            score=score,
            rank=rank,
            source=source,
            reasons=why,
            title=title(release, row),
            probability=chance,
        )
        for rank, (row, score, source, why, chance) in enumerate(
            zip(rows, page.scores.tolist(), page.sources, said, probabilities(release, page), strict=True), 1
        )
    ]


def _add_contributions(release: Release, results: Iterable[pb.Result], page: Answer) -> None:
    """Each source's own score of each item that is a candidate, and what adds up to its score."""
    for result, row, parts in zip(results, page.rows.tolist(), score_parts(release, page), strict=True):
        at = position(page, row)
        if at is None:
            continue
        for source, score in zip(page.candidates.sources, page.candidates.scores[at].tolist(), strict=True):
            if score:
                result.contributions[source] = score
        if result.source != TRENDING:  # which leads by no score
            result.score_parts.update(parts)


def _reasons_for(release: Release, query: Query, page: Answer, found: Explanation, trend: Trend) -> list[str]:
    """What weighs most first; for an item of the page also what the page says of it."""
    said = statements(release, query, found.row, found.parts)
    if found.outcome is Outcome.ON_PAGE:
        [shown] = reasons(release, query, [found.row], [page.sources[found.rank - 1]], trend)
        said += [s for s in shown if not any(s in longer for longer in said)]
    return said


def _personal(request: pb.RecommendRequest | pb.RankRequest) -> bool:
    """Whether anything may be read of the person."""
    return request.personalize if request.HasField("personalize") else True


def _check_rank(request: pb.RankRequest) -> None:
    problems = Problems()
    for name in ("request_id", "placement", "user_id", "visitor_id", "session_id"):
        problems.text(name, getattr(request, name))
    problems.texts("item_ids", request.item_ids, least=1, most=MAX_PAGE)
    problems.texts("context_item_ids", request.context_item_ids, most=MAX_CONTEXT)
    problems.refuse()


def _check_explain(request: pb.ExplainRequest) -> int:
    """The page size of the request that is asked about."""
    problems = Problems()
    problems.text("item_id", request.item_id, required=True)
    problems.refuse()
    return _check_recommend(request.request)
