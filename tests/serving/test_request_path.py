"""The request path on the literal shop: how many candidates a page is chosen from."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.history import History, Query
from retrieval.sources.opinion import order_of
from retrieval.sources.popularity import Popularity
from retrieval.sources.recent_popularity import RecentPopularity
from serving.answers import Request
from serving.release import Release, _fill_order
from serving.request_path import answer
from tests.serving.shop import END, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release.open(make_shop(tmp_path_factory.mktemp("shop")).current)


def quota_of(release: Release, quota: int, candidates: int, per_place: int) -> Release:
    settings = release.settings.model_copy(
        update={
            "quotas": dict.fromkeys(release.settings.quotas, quota),
            "candidates": candidates,
            "candidates_per_place": per_place,
        }
    )
    return replace(release, settings=settings)


def proposed(release: Release, source: str, k: int) -> int:
    """How many candidates of a stranger's page of k are from `source`."""
    candidates = answer(release, Request(Query(END), k)).candidates
    return int((candidates.ranks[:, candidates.sources.index(source)] >= 0).sum())


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40), known=st.integers(0, 2))
def test_the_order_that_fills_pages(seed: int, n: int, known: int) -> None:
    """By what is popular lately, then ever, then by row: as a sort of all rows by the three has it."""
    rng = np.random.default_rng(seed)
    lately, ever = rng.integers(0, 3, (2, n)).astype(np.float32)
    sources = (RecentPopularity(order_of(lately), lately), Popularity(order_of(ever), ever))[:known]
    none = np.zeros(n, np.float32)
    keys = (-(ever if known > 1 else none), -(lately if known else none))
    assert _fill_order(sources, n).tolist() == np.lexsort(keys).tolist()


def test_a_page_that_the_candidates_suffice_for_takes_the_quotas_as_they_are(shop: Release) -> None:
    # 3 a place: 2 places need 6 candidates, and there are about 6
    assert proposed(quota_of(shop, quota=4, candidates=6, per_place=3), "popularity", k=2) == 4


def test_a_longer_page_asks_every_source_for_more_in_proportion(shop: Release) -> None:
    # 4 places need 12 candidates, twice the 6 that the quotas are meant for: 2 x 4 from each source
    assert proposed(quota_of(shop, quota=4, candidates=6, per_place=3), "popularity", k=4) == 8


def test_a_release_of_before_the_setting_never_asks_for_more(shop: Release) -> None:
    assert proposed(quota_of(shop, quota=4, candidates=6, per_place=0), "popularity", k=18) == 4


def test_a_baseline_of_one_source_is_asked_for_the_whole_page(shop: Release) -> None:
    # 18 items, one of them sold out
    alone = tuple(s for s in shop.sources if s.name == "popularity")
    page = answer(quota_of(shop, quota=4, candidates=6, per_place=3), Request(Query(END, history=History()), 18), alone)
    assert page.sources == ("popularity",) * 17
    assert len(np.unique(page.rows)) == 17
