"""What probabilities are fitted to: every candidate of past requests, those included for which retrieval found nothing, and what came within the window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.config import PipelineConfig, load_pipeline
from core.prepared import CHOOSE, LAST_TRAIN, TRAIN, Prepared
from core.release import STATISTICS
from core.schema import DAY
from pipeline.calibrate import calibrate, outcomes_of, sampled, until, window
from pipeline.candidates import Fitted, Past
from pipeline.requests import requests_after
from ranking import item_statistics
from ranking.feature_list import NAMES
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import SOURCES
from tests.prepared_fixture import make_prepared

START = 1_700_000_000_000_000
T1 = START + 100 * DAY
CUTS = [START, T1, T1 + 20 * DAY, T1 + 30 * DAY, T1 + 40 * DAY]
BUY = "purchase-complete"
ROWS = [
    ("u:ann", "a", BUY, T1 - 30 * DAY),
    ("u:ann", "b", BUY, T1 - 20 * DAY),
    ("u:ann", "c", BUY, T1 - 19 * DAY),
    ("u:ann", "a", BUY, T1 + 1 * DAY),
    ("u:ann", "c", BUY, T1 + 5 * DAY),
    ("u:bob", "a", BUY, T1 - 9 * DAY),
    ("u:bob", "new", BUY, T1 + 2 * DAY),  # which no source knows at T1
    ("u:cid", "b", BUY, T1 + 3 * DAY),  # a stranger until then
]


@pytest.fixture
def shop(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path, ROWS, cuts=CUTS, pairs=True, days=True, repeat_share=0.2)


def opened(shop: Prepared, folder: Path, config: PipelineConfig) -> Past:
    sources, statistics = folder / "sources" / TRAIN.name, folder / "ranker" / STATISTICS / TRAIN.name
    fit_sources(shop, TRAIN, config, sources, print)
    (sources.parent / quotas.FILE).write_text(json.dumps(dict.fromkeys(SOURCES, 50)))
    item_statistics.write(shop, TRAIN, 7, statistics)
    return Past.open(Fitted(shop.path, TRAIN, sources, statistics), config)


def test_every_candidate_counts_and_so_does_what_retrieval_missed(shop: Prepared, tmp_path: Path) -> None:
    """ann asks when the window opens and before two baskets, bob then and before one, cid before one: six requests of three known items each."""
    config = load_pipeline()
    past = opened(shop, tmp_path, config)
    requests = requests_after(shop, TRAIN, config.ranker)
    found = outcomes_of(past, requests, lambda rows: rows[:, NAMES.index("popularity.score")].astype(np.float64))
    asked = [
        (shop.user_ids[u], str(level), int(n), int(g))
        for u, level, n, g in zip(
            found.people,
            found.levels,
            found.sizes,
            np.bincount(found.request, found.gained, minlength=len(found)),
            strict=True,
        )
    ]
    assert sorted(asked) == [
        ("u:ann", "warm", 3, 1),  # before the second basket: c
        ("u:ann", "warm", 3, 2),  # before the first: a and c
        ("u:ann", "warm", 3, 2),
        ("u:bob", "short-history", 3, 0),  # "new" is no candidate
        ("u:bob", "short-history", 3, 0),
        ("u:cid", "popular", 3, 1),
    ]
    assert len(found.scores) == 18


def test_what_is_fitted_says_of_which_window(shop: Prepared, tmp_path: Path) -> None:
    config = load_pipeline()
    past, requests = opened(shop, tmp_path, config), requests_after(shop, TRAIN, config.ranker)
    found = calibrate(past, TRAIN, requests, lambda rows: rows[:, 0].astype(np.float64), config)
    assert found is not None
    assert found.about["window_us"] == 20 * DAY  # [T1, Tv)
    assert (found.about["requests"], found.about["candidates"], found.about["gained"]) == (6, 18, 6)
    # where nobody gained anything there is nothing to fit
    only_bob = requests.only(np.flatnonzero(requests.user == shop.user_ids.row("u:bob")))
    assert calibrate(past, TRAIN, only_bob, lambda rows: rows[:, 0].astype(np.float64), config) is None


def test_windows(shop: Prepared) -> None:
    assert [window(shop, f) / DAY for f in (TRAIN, CHOOSE, LAST_TRAIN)] == [20, 10, 0]


def test_a_shorter_window_cuts_what_follows(shop: Prepared) -> None:
    """Until the second day after T1: ann's first basket alone, asked about when the window opens and right before it; bob's comes too late to count."""
    requests = requests_after(shop, TRAIN, load_pipeline().ranker)
    found = until(requests, shop, T1 + 2 * DAY)
    assert {(shop.user_ids[u], int(t - T1) // DAY) for u, t in zip(found.user, found.time, strict=True)} == {
        ("u:ann", 0),
        ("u:ann", 1),
    }
    assert (found.stop - found.start).tolist() == [1, 1]


def test_a_sample_is_seeded(shop: Prepared) -> None:
    requests = requests_after(shop, TRAIN, load_pipeline().ranker)
    assert len(sampled(requests, 4, 1)) == 4
    assert sampled(requests, 4, 1).time.tolist() == sampled(requests, 4, 1).time.tolist()
    assert len(sampled(requests, 99, 1)) == len(requests)
