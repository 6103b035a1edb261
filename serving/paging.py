"""Further pages of a list: its first page put everything in order, and the token carries that order on."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from aisle.v1 import recommender_pb2 as pb
from core.candidates import Candidates
from core.columns import Array
from core.errors import InputError
from core.ids import NO_ROW
from serving.answers import FILL, TRENDING, Answer, Request, Rest
from serving.levels import Level
from serving.page_tokens import Onward, PageTokens
from serving.release import Release
from serving.rules.arrange import Arranged, arrange
from serving.validation import BadRequestError

# What may differ from page to page; all else must be as in the first request.
_FREE: Final = (
    "request_id",
    "page_size",
    "list_size",
    "page_token",
    "labels",
    "validate_only",
)
_NO_CANDIDATES: Final = Candidates(np.empty(0, np.int32), (), np.empty((0, 0), np.float32), np.empty((0, 0), np.int32))


class Paging:
    """Lists of one tenant."""

    def __init__(self, tokens: PageTokens) -> None:
        self._tokens = tokens

    def onward(self, request: pb.RecommendRequest, now: int) -> Onward | None:
        """What the token of a request leads to, at `now` (microseconds); None: it has none.

        Raises:
            BadRequestError: The token is not one for this request.
        """
        if not request.page_token:
            return None
        try:
            return self._tokens.open(request.page_token, self._fingerprint(request), now)
        except InputError as e:
            raise BadRequestError([("page_token", str(e))]) from None

    def token(
        self,
        request: pb.RecommendRequest,
        release: Release,
        page: Answer,
        onward: Onward | None,
        now: int,
        taken: Array,
    ) -> str:
        """Of what comes after `page`, without the rows `taken` (int32) by other placements; empty where nothing does."""
        if page.rest is None:
            return ""
        left = np.flatnonzero(~np.isin(page.rest.rows, taken)).tolist()
        if not left:
            return ""
        before = onward or Onward(
            now, self._fingerprint(request), release.name, page.level, page.calibrated, 0, [], [], []
        )
        rows, scores = page.rest.rows.tolist(), page.rest.scores.tolist()
        return self._tokens.seal(
            replace(
                before,
                shown=before.shown + len(page.rows),
                item_ids=[release.item_ids[rows[at]] for at in left],
                scores=[scores[at] for at in left],
                sources=[page.rest.sources[at] for at in left],
            )
        )

    def _fingerprint(self, request: pb.RecommendRequest) -> bytes:
        said = pb.RecommendRequest()
        said.CopyFrom(request)
        for name in _FREE:
            said.ClearField(name)
        return self._tokens.fingerprint(said.SerializeToString(deterministic=True))


def next_page(release: Release, request: Request, onward: Onward) -> Answer:
    """The next `request.k` of a list. What may not be shown any more is left out.

    Caps, diversity and sponsored places hold on every page; pins and moves had their say when the list was put in order.
    """
    rest = _showable(release, request, onward)
    arranged: Arranged | None = None
    page, after = np.arange(min(request.k, len(rest.rows))), np.arange(request.k, len(rest.rows))
    if request.rules is not None and request.rules.arranges:
        rules = replace(request.rules, pins=(), movers=())
        arranged = arrange(rules, request.query, rest.rows, _candidates(rest), request.k)
        page, after = arranged.page, arranged.rest
    shown = _part(rest, page)
    return Answer(
        rows=shown.rows,
        scores=shown.scores,
        sources=shown.sources,
        level=Level(onward.level),
        candidates=_NO_CANDIDATES,
        removed={},
        line=rest.rows,
        arranged=arranged,
        rest=_part(rest, after),
        calibrated=onward.calibrated and onward.release == release.name,
    )


def _showable(release: Release, request: Request, onward: Onward) -> Rest:
    """What is left of the list and may be shown now."""
    rows = release.item_ids.rows(onward.item_ids)
    known = np.flatnonzero(rows != NO_ROW)
    mine = rows[known]
    able = release.available[mine] & ~np.isin(mine, request.never)
    rules = None if request.rules is None else request.rules.allowed
    allowed = request.allowed if request.strict else rules
    kept = known[able if allowed is None else able & allowed[mine]]
    return Rest(
        rows[kept].astype(np.int32),
        np.array(onward.scores, np.float32)[kept],
        tuple(onward.sources[at] for at in kept.tolist()),
    )


def _candidates(rest: Rest) -> int:
    """How many of the rest come before what only fills the list."""
    ranked = [at for at, source in enumerate(rest.sources) if source not in (FILL, TRENDING)]
    return ranked[-1] + 1 if ranked else 0


def _part(rest: Rest, places: Array) -> Rest:
    return Rest(rest.rows[places], rest.scores[places], tuple(rest.sources[at] for at in places.tolist()))
