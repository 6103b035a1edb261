"""Caps, diversity and promotions that a request brings itself: the shop's kinds of rules, given by the caller, beside those of the shop."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from aisle.v1 import recommender_pb2 as pb
from core.schema import MINUTE
from serving.filters.binding import changes_by_itself
from serving.filters.syntax import parse
from serving.per_release import PerRelease
from serving.release import Release
from serving.rules.bound import PageRules, bound
from serving.rules.load import Rule
from serving.rules.schema import Cap, Diversify, RuleSpec, Sponsor
from serving.rules.similarity import likeness
from serving.validation import BadRequestError

AUTO: Final = "auto-diversity"
# Named as in Google's retail API; the level of maximal marginal relevance that each means.
LEVELS: Final[dict[str, float]] = {
    "no-diversity": 0.0,
    "low-diversity": 0.1,
    "medium-diversity": 0.25,
    "high-diversity": 0.5,
    AUTO: 0.0,
}
_KEPT: Final = 64  # bound sets: a storefront sends the same few again and again
_ALWAYS: Final = (float("-inf"), float("inf"))

Asking = pb.RecommendRequest | pb.SimilarItemsRequest


@dataclass(frozen=True)
class Requested:
    """What a request brings, bound to the items of a release."""

    own: PageRules
    diversity: bool  # whether it decides on diversity, as to have none

    def over(self, shop: PageRules | None) -> PageRules:
        """Beside the rules of the shop: their pins and sponsors choose first, all caps hold, the request's word on diversity counts."""
        own = self.own
        if shop is None:
            return own
        wanted = own.wanted if shop.allowed is None else own.wanted[shop.allowed[own.wanted]]
        return replace(
            shop,
            rules=shop.rules + own.rules,
            wanted=np.union1d(shop.wanted, wanted).astype(np.int32),
            sponsors=shop.sponsors + own.sponsors,
            caps=shop.caps + own.caps,
            diversify=own.diversify if self.diversity else shop.diversify,
        )


class RequestRules:
    """Binds them; many threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: PerRelease[OrderedDict[tuple[bytes, int], Requested]] = PerRelease(OrderedDict)

    def of(self, request: Asking, release: Release, now: int, within: str = "") -> Requested | None:
        """What `request` brings, at `now` (microseconds, counted to the minute); None: nothing.

        Raises:
            BadRequestError: The release has not what it speaks of; `within` is the path of the request.
        """
        diversity = request.diversity_level not in ("", AUTO)
        if not (request.caps or request.promotions or diversity):
            return None
        minute = now // MINUTE if any(changes_by_itself(parse(p.filter)) for p in request.promotions) else 0
        said = pb.RecommendRequest(
            caps=request.caps, promotions=request.promotions, diversity_level=request.diversity_level
        )
        key = (said.SerializeToString(deterministic=True), minute)
        with self._lock:
            kept = self._kept.of(release)
            found = kept.get(key)
            if found is not None:
                kept.move_to_end(key)
                return found
        found = Requested(_bound(request, release, minute * MINUTE, within), diversity)
        with self._lock:
            if self._kept.holds(release, kept):
                kept[key] = found
                while len(kept) > _KEPT:
                    kept.popitem(last=False)
        return found


def _bound(request: Asking, release: Release, now: int, within: str) -> PageRules:
    fields: dict[str, RuleSpec] = {f"caps[{at}].attribute": _cap(at, cap) for at, cap in enumerate(request.caps)}
    fields |= {f"promotions[{at}].filter": _promotion(p) for at, p in enumerate(request.promotions)}
    if level := LEVELS.get(request.diversity_level):
        fields["diversity_level"] = _diversify(level, release)
    rules = [Rule(spec, "", 0, *_ALWAYS) for spec in fields.values()]
    found = bound(rules, release, now)
    if found.problems:
        # rules call the attribute of a cap `by`, and begin with it
        said = [(within + _field(fields, p.rule), str(p.error).removeprefix("by: ")) for p in found.problems]
        raise BadRequestError(said)
    return found


def _field(fields: dict[str, RuleSpec], rule: Rule) -> str:
    return next(name for name, spec in fields.items() if spec is rule.spec)


def _cap(at: int, cap: pb.Cap) -> Cap:
    keys: dict[str, Any] = {"name": f"caps.{at}", "kind": "cap", "by": cap.attribute, "window": cap.window or None}
    keys |= {"most": int(cap.max)} if cap.cap_type == pb.Cap.VALUE else {"share": cap.max / 100}
    return Cap.model_validate(keys)


def _promotion(promotion: pb.Promotion) -> Sponsor:
    keys = {"name": promotion.name, "kind": "sponsor", "where": promotion.filter, "share": promotion.percent / 100}
    return Sponsor.model_validate(keys)


def _diversify(level: float, release: Release) -> Diversify:
    """By vectors, where the release has any."""
    by = "category" if likeness("vectors", release) is None else "vectors"
    return Diversify.model_validate({"name": "diversity_level", "kind": "diversify", "level": level, "by": by})
