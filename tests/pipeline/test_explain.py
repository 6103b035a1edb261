"""1,000 recommendations explained: contributions add up to the score, and every reason is true of the person's own rows in the shop's tables.

The oracle reads the tables as the shop wrote them and shares no code with what is tested but the list of event types.
"""

# bazel: size=large

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.config import PipelineConfig, load_pipeline
from core.history import Query
from core.schema import DAY
from core.work import Work
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate
from ranking.groups import Group
from serving.answers import Answer, Request
from serving.batch import Batch
from serving.explain import Explanation, Outcome, explain, parts_of, position
from serving.grounds import statements
from serving.reasons import reasons
from serving.request_path import answer, rank
from tests.pipeline.small_shop import small_release

PEOPLE, PAGE = 100, 10
Explained = tuple[str, Request, Answer, Explanation]
COUNTED = {"you bought it": "purchase-complete", "you rated it": "rating", "you put it in the cart": "add-to-cart"}
COUNTED |= {"you put it on the wish list": "add-to-wishlist"}
DID = {"bought": "purchase-complete", "rated": "rating", "put in the cart": "add-to-cart"}
DID |= {"put on the wish list": "add-to-wishlist"}
CONNECTED = (
    "people who chose (.*?) also chose it",
    "often follows (.*?)",
    "often together with (.*?)",
    "similar to (.*?)",
)
TIMES = {"once": 1, "twice": 2}


@dataclass(frozen=True)
class Shop:
    """The shop's tables, and answers to some of its people."""

    batch: Batch
    config: PipelineConfig
    events: pd.DataFrame  # with a gain, in the order of time, of everybody; `person` is the user, else the visitor
    items: pd.DataFrame  # by item_id
    pages: dict[str, tuple[Request, Answer]]

    @cached_property
    def pasts(self) -> dict[Any, pd.DataFrame]:
        """The successes of each user; the newest `history_events` events are all of them."""
        return dict(list(self.events.groupby("user_id")))

    @cached_property
    def gains(self) -> dict[bool, pd.Series[Any]]:
        """What each item's people give it: each one's strongest gain, and of the last days (True) the gain of every event."""
        times = pd.to_datetime(self.events.event_time, utc=True)
        until = pd.to_datetime(self.batch.release.window_end, unit="us", utc=True)
        lately = self.events[times >= until - pd.Timedelta(days=self.config.sources.recent_days)]
        ever = self.events.groupby(["item_id", "person"]).gain.max().groupby("item_id").sum()
        return {False: ever, True: lately.groupby("item_id").gain.sum()}

    def about(self, item: str) -> pd.Series[Any]:
        """Its row of the items table."""
        row = self.items.loc[item]
        assert isinstance(row, pd.Series)
        return row

    def id(self, row: int) -> str:
        return str(self.batch.release.item_ids[row])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("explained")
    options = ShopOptions(users=250, items=400, events=20_000, days=120, seed=9, start=dt.date(2024, 1, 1))
    simulate(options, folder / "data")
    config, work = load_pipeline(), Work(folder / "work")
    small_release(folder / "data", work, config)
    [state] = (work.root / "user_state").iterdir()
    batch = Batch(work.current, state)
    events = pd.read_parquet(folder / "data" / "events")
    events["gain"] = events.event_type.map(lambda t: config.data.gains.get(t, 0.0))
    events["person"] = events.user_id.fillna(events.visitor_id)
    events = events.sort_values("event_time", kind="stable")
    few = events.groupby("user_id").size()
    people = few[few <= batch.release.settings.history_events].nlargest(PEOPLE).index
    assert len(people) == PEOPLE
    pages = {user: page_of(batch, user) for user in people}
    items = pd.read_parquet(folder / "data" / "items").set_index("item_id", drop=False)
    return Shop(batch, config, events[events.gain > 0], items, pages)


def page_of(batch: Batch, user: str) -> tuple[Request, Answer]:
    """What a person sees a day after the window."""
    time = batch.release.window_end + DAY
    row = int(batch.state.rows([user])[0])
    history, facts = batch.state.histories.before(row, time), batch.state.facts.at(row, time)
    request = Request(Query(time, row, history, facts=facts), PAGE)
    return request, answer(batch.release, request)


@pytest.fixture(scope="module")
def explained(shop: Shop) -> list[Explained]:
    release = shop.batch.release
    return [
        (user, request, page, explain(release, request, page, row))
        for user, (request, page) in shop.pages.items()
        for row in page.rows.tolist()
    ]


def test_contributions_add_up_to_the_score(explained: list[Explained]) -> None:
    assert len(explained) == PEOPLE * PAGE
    ranked = [e for _, _, _, e in explained if e.ranked_by]
    assert len(ranked) > 0.9 * len(explained)
    assert {e.ranked_by for e in ranked} == {"ranker"}
    for e in ranked:
        assert sum(e.parts.values()) == pytest.approx(e.score, abs=1e-4)
        for group, features in e.features.items():
            assert group == "base" or sum(features.values()) == pytest.approx(e.parts[group], abs=1e-9)
    assert len({round(e.score, 6) for e in ranked}) > 5  # the trees tell items apart


def test_a_ranked_list_adds_up_too(shop: Shop) -> None:
    release, rng = shop.batch.release, np.random.default_rng(1)
    for request, _ in list(shop.pages.values())[:20]:
        rows = np.sort(rng.choice(release.items.rows, 15, replace=False)).astype(np.int32)
        page = rank(release, request.query, rows)
        assert sorted(page.rows.tolist()) == rows.tolist()
        for row, score in zip(page.rows.tolist(), page.scores.tolist(), strict=True):
            at = position(page, row)
            assert at is not None
            assert sum(parts_of(release, page, at)[0].values()) == pytest.approx(score, abs=1e-4)


def test_what_is_not_on_the_page_has_one_reason_each(shop: Shop) -> None:
    release = shop.batch.release
    for request, page in list(shop.pages.values())[:3]:
        found = [explain(release, request, page, row) for row in range(release.items.rows)]
        count = Counter(e.outcome for e in found)
        assert count[Outcome.ON_PAGE] == PAGE
        assert count[Outcome.BELOW] == sum(len(r) for k, r in page.removed.items() if k == "below-page")
        assert count[Outcome.UNAVAILABLE] == sum(len(r) for k, r in page.removed.items() if k == "unavailable")
        places = sorted(e.rank for e in found if e.rank)
        assert places == list(range(1, len(places) + 1))
        for e in found:
            if e.outcome is Outcome.NOT_RETRIEVED:
                assert not any(o.rank for o in e.opinions)


def test_every_reason_is_true(shop: Shop, explained: list[Explained]) -> None:
    kinds: Counter[str] = Counter()
    for user, request, page, e in explained:
        release, item = shop.batch.release, shop.id(e.row)
        said = statements(release, request.query, e.row, e.parts)
        assert e.ranked_by or not said
        said += reasons(release, request.query, [e.row], [page.sources[e.rank - 1]])[0]
        assert said
        # the ranker of this test was grown on noise: what would be said if every group spoke for the item
        said += [s for s in statements(release, request.query, e.row, dict.fromkeys(Group, 1.0)) if s not in said]
        for reason in said:
            kinds[checked(shop, user, item, reason)] += 1
    # and all kinds of reasons are given
    assert min(kinds[k] for k in ("count", "rhythm", "connected", "popular", "brand", "category", "price")) > 3, kinds


def checked(shop: Shop, user: str, item: str, reason: str) -> str:
    """Which kind of reason it is; fails unless it is true."""
    past, about = shop.pasts[user], shop.about(item)
    mine = past[past.item_id == item]
    if found := re.fullmatch(r"(you (?:bought|rated|put|looked) .*?) (once|twice|(\d+) times)", reason):
        times = TIMES.get(found[2]) or int(found[3])
        kind = COUNTED.get(found[1])
        assert times == (len(mine) if kind is None else (mine.event_type == kind).sum()), reason
        return "count"
    if found := re.fullmatch(r"you buy it about every (\d+) days", reason):
        moments = mine[mine.event_type == "purchase-complete"].event_time.drop_duplicates()
        gaps = np.diff([t.timestamp() for t in moments]) / 86_400
        assert len(gaps) >= 2
        assert int(found[1]) == round(gaps.mean())
        assert np.abs(gaps - gaps.mean()).max() <= gaps.mean() / 2 + 1e-6
        return "rhythm"
    if found := re.fullmatch(r"you chose the brand (.*) (\d+) times", reason):
        assert found[1] == about.brand
        assert (shop.items.loc[past.item_id].brand == about.brand).sum() == int(found[2])
        return "brand"
    if found := re.fullmatch(r"you chose from (.*) (\d+) times", reason):
        assert found[1] == about.category.split(" > ")[-1]
        assert (shop.items.loc[past.item_id].category == about.category).sum() == int(found[2])
        return "category"
    if reason == "priced like what you usually choose":
        prices = shop.items.loc[past.item_id].price.dropna()
        assert len(prices) >= 5
        assert prices.quantile(0.25) * (1 - 1e-6) <= about.price <= prices.quantile(0.75) * (1 + 1e-6)
        return "price"
    if found := re.fullmatch(r"popular( now)?(?: in (.*))?", reason):
        return popular(shop, about, now=bool(found[1]), category=found[2])
    for pattern in CONNECTED:
        if found := re.fullmatch(pattern + r"(?:, which you (.*))?", reason):
            return connected(shop, past, item, found[1], found[2], alike=pattern.startswith("similar"))
    assert reason in ("fits what you chose lately", "completes the page"), reason
    assert reason == "completes the page" or len(past)
    return "plain"


def popular(shop: Shop, about: pd.Series[Any], *, now: bool, category: str | None) -> str:
    """The item has some gain, and fewer than a tenth of its category have more."""
    gains = shop.gains[now]
    assert gains.get(about.item_id, 0) > 0
    if category is None:
        return "plain"
    rivals = shop.items[shop.items.category == about.category].item_id
    assert category == about.category.split(" > ")[-1]
    assert len(rivals) >= 10
    assert (gains.reindex(rivals).fillna(0) > gains[about.item_id] + 1e-4).sum() < len(rivals) / 10
    return "popular"


def connected(shop: Shop, past: pd.DataFrame, item: str, title: str, did: str | None, *, alike: bool) -> str:
    """The person chose an item of that title, as is said, and it goes with this one: somebody had both, or they share an attribute."""
    theirs = past[past.item_id.isin(shop.items[shop.items.title == title].item_id)]
    if did in DID:
        theirs = theirs[theirs.event_type == DID[did]]
    assert len(theirs), (title, did)
    others = set(theirs.item_id)
    if alike:
        assert any(bag(shop.about(item)) & bag(shop.about(o)) for o in others)
    else:
        had = shop.events[shop.events.item_id.isin(others)].person
        assert shop.events[(shop.events.item_id == item) & shop.events.person.isin(had)].shape[0] > 0
    return "connected"


def bag(about: pd.Series[Any]) -> set[str]:
    """What an item is like: words of its title, levels of its category, and the values of its attributes."""
    levels = about.category.split(" > ")
    words = {f"title {w}" for w in re.findall(r"\w\w+", about.title.lower())}
    words |= {f"category {' > '.join(levels[: n + 1])}" for n in range(len(levels))}
    plain = {"item_id", "title", "category", "item_group_id", "price", "currency", "created_at", "available_from"}
    for name in set(about.index) - plain:
        value = about[name]
        values = value if isinstance(value, list | np.ndarray) else [value]
        words |= {f"{name} {v}" for v in values if v is not None and v == v}
    return words
