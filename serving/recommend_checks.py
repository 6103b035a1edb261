"""What the requests of aisle.v1.Recommender must be like, field by field. Nothing here needs a release."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from aisle.v1 import recommender_pb2 as pb
from serving.recent_events import check_recent
from serving.rules.requested import LEVELS
from serving.validation import (
    MAX_BATCH,
    MAX_CANDIDATES,
    MAX_CONTEXT,
    MAX_EXCLUDED,
    MAX_LABELS,
    MAX_LIST,
    MAX_OVERRIDES,
    MAX_PAGE,
    Problems,
)

_PERSON: Final = ("user_id", "visitor_id", "session_id")
_TEXTS: Final = ("request_id", "placement", *_PERSON)
_MAX_CAPS: Final = 16
_MAX_PROMOTIONS: Final = 10
_MAX_TOKEN: Final = 1_000_000  # bytes: a list of the longest ids that there may be stays below
_NAME: Final = re.compile(r"[\w.-]{1,64}")  # of rules too (serving.rules.schema)


def check_recommend(request: pb.RecommendRequest) -> int:
    """The page size of a request that is fine.

    Raises:
        BadRequestError: Every field that is not.
    """
    problems = Problems()
    k = _recommend(problems, request)
    problems.refuse()
    return k


def check_batch(request: pb.BatchRecommendRequest) -> list[int]:
    """The page size of each placement. See `check_recommend`."""
    asked, problems = request.requests, Problems()
    if not 1 <= len(asked) <= MAX_BATCH:
        problems.add("requests", f"has {len(asked)} entries, expected 1 to {MAX_BATCH}")
        problems.refuse()
    sizes, named = [], set()
    for at, one in enumerate(asked):
        problems.within = f"requests[{at}]."
        sizes.append(_recommend(problems, one))
        for name in _PERSON:
            _same(problems, name, getattr(one, name), getattr(asked[0], name))
        _same(problems, "personalize", is_personal(one), is_personal(asked[0]))
        if one.page_token:
            problems.add("page_token", "further pages are asked for one by one, with Recommend")
        if one.request_id and one.request_id in named:
            problems.add("request_id", f"{one.request_id!r} is the name of an earlier request of this call")
        named.add(one.request_id)
    problems.refuse()
    return sizes


def check_similar(request: pb.SimilarItemsRequest) -> int:
    """The page size. See `check_recommend`."""
    problems = Problems()
    for name in ("request_id", "placement"):
        problems.text(name, getattr(request, name))
    problems.texts("item_ids", request.item_ids, least=1, most=MAX_CONTEXT)
    problems.texts("exclude_item_ids", request.exclude_item_ids, most=MAX_EXCLUDED)
    problems.filter("filter", request.filter)
    k = problems.page_size(request.page_size)
    _arranged(problems, request)
    problems.refuse()
    return k


def check_rank(request: pb.RankRequest) -> None:
    """See `check_recommend`."""
    problems = Problems()
    for name in _TEXTS:
        problems.text(name, getattr(request, name))
    problems.texts("item_ids", request.item_ids, least=1, most=MAX_PAGE)
    problems.texts("context_item_ids", request.context_item_ids, most=MAX_CONTEXT)
    problems.refuse()


def check_explain(request: pb.ExplainRequest) -> int:
    """The page size of the request that is asked about. See `check_recommend`."""
    problems = Problems()
    problems.text("item_id", request.item_id, required=True)
    k = _within(problems, request.request)
    problems.refuse()
    return k


def check_preview(request: pb.PreviewRulesRequest) -> int:
    """The page size of the request that is looked at. See `check_recommend`."""
    problems = Problems()
    k = _within(problems, request.request)
    problems.refuse()
    return k


def is_personal(request: pb.RecommendRequest | pb.RankRequest) -> bool:
    """Whether anything may be read of the person."""
    return request.personalize if request.HasField("personalize") else True


def _within(problems: Problems, request: pb.RecommendRequest) -> int:
    problems.within = "request."
    if request.page_token:
        problems.add("page_token", "the first page is explained: leave it out")
    return _recommend(problems, request)


def _recommend(problems: Problems, request: pb.RecommendRequest) -> int:
    for name in _TEXTS:
        problems.text(name, getattr(request, name))
    problems.texts("context_item_ids", request.context_item_ids, most=MAX_CONTEXT)
    problems.texts("exclude_item_ids", request.exclude_item_ids, most=MAX_EXCLUDED)
    problems.texts("candidate_item_ids", request.candidate_item_ids, most=MAX_CANDIDATES)
    problems.pairs("labels", request.labels, MAX_LABELS)
    problems.pairs("experiment_overrides", request.experiment_overrides, MAX_OVERRIDES)
    problems.filter("filter", request.filter)
    check_recent(problems, request.recent_events)
    k = problems.page_size(request.page_size)
    if not 0 <= request.list_size <= MAX_LIST:
        problems.add("list_size", f"is {request.list_size}, expected 1 to {MAX_LIST}, or 0 for a page without others")
    problems.text("page_token", request.page_token, most=_MAX_TOKEN)
    if request.min_score:
        problems.between("min_score", request.min_score, 0, 1)
    _arranged(problems, request)
    return k


def _arranged(problems: Problems, request: pb.RecommendRequest | pb.SimilarItemsRequest) -> None:
    """Caps, diversity and promotions."""
    if request.diversity_level and request.diversity_level not in LEVELS:
        problems.add("diversity_level", f"is {request.diversity_level[:64]!r}, expected one of: {', '.join(LEVELS)}")
    _caps(problems, request.caps)
    _promotions(problems, request.promotions)


def _caps(problems: Problems, caps: Sequence[pb.Cap]) -> None:
    if len(caps) > _MAX_CAPS:
        problems.add("caps", f"has {len(caps)} entries, at most {_MAX_CAPS} are allowed")
        return
    for at, cap in enumerate(caps):
        where = f"caps[{at}]"
        problems.text(f"{where}.attribute", cap.attribute, required=True)
        if cap.cap_type == pb.Cap.PERCENTAGE:
            if not 0 < cap.max <= 100:
                problems.add(f"{where}.max", f"is {cap.max:g}, expected a percentage above 0, up to 100")
        elif cap.cap_type != pb.Cap.VALUE:
            problems.add(f"{where}.cap_type", f"is {cap.cap_type}, expected VALUE (1) or PERCENTAGE (2)")
        elif not (1 <= cap.max <= MAX_PAGE and cap.max == int(cap.max)):
            problems.add(f"{where}.max", f"is {cap.max:g}, expected a whole number of items, 1 to {MAX_PAGE}")
        if cap.window and not 2 <= cap.window <= MAX_PAGE:
            problems.add(f"{where}.window", f"is {cap.window}, expected 2 to {MAX_PAGE}, or 0 for the whole page")


def _promotions(problems: Problems, promotions: Sequence[pb.Promotion]) -> None:
    if len(promotions) > _MAX_PROMOTIONS:
        problems.add("promotions", f"has {len(promotions)} entries, at most {_MAX_PROMOTIONS} are allowed")
        return
    names: set[str] = set()
    for at, promotion in enumerate(promotions):
        where = f"promotions[{at}]"
        if not _NAME.fullmatch(promotion.name):
            problems.add(f"{where}.name", 'expected 1 to 64 letters, digits, "_", "." or "-"')
        elif promotion.name in names:
            problems.add(f"{where}.name", f"{promotion.name!r} is the name of an earlier one")
        names.add(promotion.name)
        problems.between(f"{where}.percent", promotion.percent, 1, 100)
        if promotion.filter:
            problems.filter(f"{where}.filter", promotion.filter)
        else:
            problems.add(f"{where}.filter", "is required")


def _same(problems: Problems, name: str, value: object, first: object) -> None:
    if value != first:
        problems.add(name, f"is {value!r}, that of requests[0] is {first!r}: one page is of one person")
