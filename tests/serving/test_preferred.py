"""What trends on a page: where it may lead, where it fills, and that nothing else about the page changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Array
from core.history import Query
from core.work import Work
from serving.answers import Answer, Removal, Request
from serving.levels import Level
from serving.release import Release
from serving.request_path import answer
from serving.resident import made_up_history
from tests.serving.shop import END, SOLD_OUT, TITLES

ITEMS = sorted(TITLES)


@pytest.fixture(scope="session")
def release(shop: Work) -> Release:
    """With lists so short that pages need filling: one item a source."""
    whole = Release.open(shop.current)
    short = {"quotas": dict.fromkeys(whole.settings.quotas, 1), "candidates_per_place": 0}
    return replace(whole, settings=whole.settings.model_copy(update=short))


def rows(release: Release, *items: str) -> Array:
    return release.item_ids.rows(items)


def names(release: Release, page: Answer) -> list[tuple[str, str]]:
    return [(release.item_ids[row], source) for row, source in zip(page.rows.tolist(), page.sources, strict=True)]


def test_a_page_is_filled_with_what_trends_before_what_is_popular(release: Release) -> None:
    query = Query(END, context=rows(release, "tea-2"))
    plain = answer(release, Request(query, 9))
    assert plain.level is Level.CONTEXT
    ranked = sum(source != "fill" for source in plain.sources)
    assert 0 < ranked < 6
    on_page = [item for item, _ in names(release, plain)]
    cold = [item for item in ITEMS if item not in (*on_page, "tea-2", SOLD_OUT)][:2]
    # of what trends the first is on the page anyway, one is sold out, and one is what the page is about
    trend = rows(release, on_page[0], cold[0], SOLD_OUT, "tea-2", cold[1])
    page = answer(release, Request(query, 9, trending=trend, lead=9))
    assert names(release, page)[:ranked] == names(release, plain)[:ranked]
    assert names(release, page)[ranked : ranked + 2] == [(cold[0], "trending"), (cold[1], "trending")]
    assert names(release, page)[ranked + 2 :] == names(release, plain)[ranked:-2]
    unfilled = answer(release, Request(query, 9, fill=False, trending=trend, lead=9))
    assert names(release, unfilled) == names(release, plain)[:ranked]


def test_only_a_page_for_somebody_unknown_begins_with_it(release: Release) -> None:
    trend = rows(release, "cup-1", "tea-1")
    stranger = answer(release, Request(Query(END), 4, trending=trend, lead=1))
    assert names(release, stranger)[0] == ("cup-1", "trending")
    assert answer(release, Request(Query(END), 4, trending=trend)).sources[0] != "trending"
    for n, level in ((1, Level.SHORT), (5, Level.WARM)):
        query = Query(END, history=made_up_history(rows(release, *ITEMS[:n]), END))
        page = answer(release, Request(query, 4, trending=trend, lead=4))
        assert (page.level, page.sources[0] != "trending") == (level, True)


some_rows = st.lists(st.integers(0, len(ITEMS) - 1), unique=True).map(lambda found: np.array(found, np.int32))


@settings(max_examples=150, deadline=None)
@given(trend=some_rows, excluded=some_rows, context=some_rows, k=st.integers(1, 20), lead=st.integers(0, 20))
def test_a_page_keeps_its_laws(
    release: Release, trend: Array, excluded: Array, context: Array, k: int, lead: int
) -> None:
    asked = Request(Query(END, context=context[:1]), k, excluded, trending=trend, lead=min(lead, k))
    page = answer(release, asked)
    found = page.rows.tolist()
    assert len(set(found)) == len(found) == len(page.sources) == len(page.scores)
    forbidden = {*excluded.tolist(), *context[:1].tolist(), release.item_ids.row(SOLD_OUT)}
    assert len(found) == min(k, len(ITEMS) - len(forbidden))
    assert not forbidden & set(found)
    assert (np.diff(page.scores) <= 0).all()
    # every candidate is on the page, below it, or removed with a reason: once
    candidates = page.candidates.rows.tolist()
    ends = [set(found) & set(candidates), *(set(page.removed[r].tolist()) for r in Removal)]
    assert sum(map(len, ends)) == len(candidates) == len(set().union(*ends))
    # what trends comes in its own order, those that lead first
    trending = [row for row, source in zip(found, page.sources, strict=True) if source == "trending"]
    assert trending == [row for row in trend.tolist() if row in trending]
    # without it the rest of the page is in the same order
    plain = answer(release, replace(asked, trending=trend[:0])).rows.tolist()
    others = [row for row in found if row not in trending]
    assert others == [row for row in plain if row in others]
