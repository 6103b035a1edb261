"""The demo: a simulated shop, a night, a server with its own Redis, and the calls that a storefront would make."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from core.columns import Array, Coded, Texts
from core.config import PipelineConfig
from core.errors import AisleError
from core.schema import CATEGORY_SEPARATOR, Column, EventType
from core.work import Work
from pipeline.nightly import Night
from pipeline.nightly import run as nightly
from serving.client import Client
from serving.config import load_serving
from serving.release import Release
from serving.user_state import UserState

Say = Callable[[str], None]

_CALLS = 500  # of the latency measurement
_CLICKS = 3


@dataclass(frozen=True)
class Shopper:
    """A person of the shop, and what they lately chose."""

    user_id: str
    rows: list[int]  # item rows, newest first


@dataclass(frozen=True)
class Walk:
    """What the storefront's calls came back with."""

    shopper: Shopper
    before: RecommendResponse
    clicked: list[int]  # item rows of another category
    after: RecommendResponse
    stranger: RecommendResponse
    latencies: Array  # milliseconds, float64 [calls]


def make_shop(out: Path, say: Say) -> Path:
    """5,000 users, 5,000 items, 300,000 events; made once."""
    from data_prep.simulate.options import ShopOptions
    from data_prep.simulate.run import simulate

    data = out / "shop"
    if not data.exists():
        say("simulating a shop: 5,000 users, 5,000 items, 300,000 events of one year")
        simulate(ShopOptions(users=5_000, items=5_000, events=300_000, days=365, seed=1, start=date(2024, 1, 1)), data)
    return data


def run_night(out: Path, config: PipelineConfig, say: Say) -> Night:
    """The whole nightly run; an earlier demo's stages are not run again."""
    # whether logged pages teach takes longer to find out than all the rest of such a small night
    ranker = config.ranker.model_copy(update={"logged_pages": "off"})
    settings = config.model_copy(update={"ranker": ranker})
    return nightly(make_shop(out, say), Work(out / "work"), settings, load_serving(), say=say)


def walk(address: str, release: Release, state: UserState) -> Walk:
    """A shopper's page, the same after three clicks in another category, a stranger's page, and the latency of many pages."""
    shopper = _pick(state)
    clicked = _elsewhere(release, shopper)
    session = f"demo-{time.time_ns()}"
    with Client(address) as client:
        # two pages are compared: what differs is to be the clicks' doing
        ask = RecommendRequest(
            user_id=shopper.user_id, session_id=session, page_size=10, placement="home", explore=False
        )
        before = client.recommend(ask)
        now = time.time_ns() // 1000
        click = EventType.DETAIL_PAGE_VIEW
        client.write_events(
            [
                Event(
                    event_type=click,
                    item_id=release.item_ids[r],
                    user_id=shopper.user_id,
                    session_id=session,
                    event_time=now + n,
                )
                for n, r in enumerate(clicked)
            ]
        )
        after = client.recommend(ask)
        stranger = client.recommend(RecommendRequest(visitor_id="somebody new", page_size=10, placement="home"))
        latencies = _latencies(client, state)
    return Walk(shopper, before, clicked, after, stranger, latencies)


def _latencies(client: Client, state: UserState) -> Array:
    """Milliseconds of one call after another, as this process sees them."""
    users = [key[2:] for key in (state.ids[r] for r in range(min(len(state.ids), 20 * _CALLS))) if key.startswith("u:")]
    milliseconds = []
    for user in np.random.default_rng(7).choice(users, _CALLS).tolist():
        start = time.perf_counter()
        client.recommend(RecommendRequest(user_id=user, page_size=20))
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return np.array(milliseconds)


def _pick(state: UserState) -> Shopper:
    """Somebody with a dozen successes or so, the same one in every run."""
    for row in range(len(state.ids)):
        history = state.histories.before(row)
        chosen = history.items[history.gains >= 1]
        if state.ids[row].startswith("u:") and 6 <= len(np.unique(chosen)) <= 15:
            return Shopper(state.ids[row][2:], list(dict.fromkeys(chosen[::-1].tolist())))
    raise AisleError("no shopper with 6 to 15 purchases in this shop")


def _elsewhere(release: Release, shopper: Shopper) -> list[int]:
    """The most popular items of the first category that the shopper never chose from."""
    known = {department(release, r) for r in shopper.rows}
    departments = sorted({department(release, r) for r in range(release.items.rows)} - known - {""})
    if not departments:
        raise AisleError("the shopper chose from every category of this shop")
    rows = [r for r in release.fill.tolist() if department(release, r) == departments[0]]
    return rows[:_CLICKS]


def department(release: Release, row: int) -> str:
    """The first level of an item's category."""
    category = release.items[Column.CATEGORY]
    assert isinstance(category, Coded)
    return (category[row] or "").split(CATEGORY_SEPARATOR)[0]


def title(release: Release, row: int) -> str:
    """An item's title."""
    titles = release.items[Column.TITLE]
    assert isinstance(titles, Texts)
    return str(titles[row])
