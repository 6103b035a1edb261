"""The simulated shop keeps its promises: funnel, time, stock, exact counts, the same bytes again."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.commands import simulate as command
from core.errors import InputError
from core.schema import EVENTS, ITEMS, USERS, EventType
from data_prep.simulate import run
from data_prep.simulate.calendar import day_quotas
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate
from data_prep.simulate.taxonomy import LEAVES, brand_names

SHOP = ShopOptions(users=300, items=240, events=20_000, days=80, seed=3)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shop") / "data"
    simulate(SHOP, out)
    return out


@pytest.fixture(scope="module")
def events(shop: Path) -> pd.DataFrame:
    return pd.read_parquet(shop / "events")


@pytest.fixture(scope="module")
def items(shop: Path) -> pd.DataFrame:
    return pd.read_parquet(shop / "items").set_index("item_id")


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def first_times(events: pd.DataFrame, kind: EventType) -> pd.Series[pd.Timestamp]:
    of = events[events.event_type == kind]
    return of.groupby(["session_id", "item_id"]).event_time.min()


def assert_follows(events: pd.DataFrame, later: EventType, earlier: EventType) -> None:
    """Each `later` event has an `earlier` one on the same item in its session, not after it."""
    rows = events[events.event_type == later].set_index(["session_id", "item_id"]).event_time
    assert len(rows) > 0
    before = first_times(events, earlier).reindex(rows.index)
    assert before.notna().all()
    assert (before <= rows).all()


def test_same_arguments_same_bytes(shop: Path, tmp_path: Path) -> None:
    simulate(SHOP, tmp_path / "again")
    assert content(tmp_path / "again") == content(shop)


def test_another_seed_is_another_shop(shop: Path, tmp_path: Path) -> None:
    simulate(replace(SHOP, seed=4), tmp_path / "other")
    one, other = content(shop), content(tmp_path / "other")
    assert one.keys() == other.keys()
    differing = {name.split("/")[0] for name in one if one[name] != other[name]}
    assert differing == {"events", "items", "users", "truth", "dataset.yaml"}


def test_counts_are_exact_and_columns_are_those_of_the_contract(shop: Path, events: pd.DataFrame) -> None:
    assert len(events) == SHOP.events
    assert set(events.columns) <= {str(c) for c in EVENTS.kinds}
    assert events[[str(c) for c in EVENTS.required]].notna().all().all()
    assert (events.user_id.notna() ^ events.visitor_id.notna()).all()
    items, users = pd.read_parquet(shop / "items"), pd.read_parquet(shop / "users")
    assert (len(items), len(users)) == (SHOP.items, SHOP.users)
    assert {str(c) for c in ITEMS.kinds} - set(items.columns) == {"available_from", "available_until"}
    assert {str(c) for c in USERS.kinds} <= set(users.columns)
    assert items.item_id.is_unique
    assert users.user_id.is_unique
    assert set(events.item_id) <= set(items.item_id)
    assert set(events.user_id.dropna()) <= set(users.user_id)
    assert yaml.safe_load((shop / "dataset.yaml").read_text())["synthetic_time"] is False


def test_each_file_is_one_day_in_the_order_of_time(shop: Path) -> None:
    files = sorted((shop / "events").glob("*.parquet"))
    assert len(files) == SHOP.days
    for file in files:
        times = pd.read_parquet(file).event_time
        assert times.is_monotonic_increasing
        assert {t.date().isoformat() for t in times} == {file.stem.removeprefix("part-")}


def test_funnel_within_a_session(events: pd.DataFrame) -> None:
    assert_follows(events, EventType.CLICK, EventType.IMPRESSION)
    assert_follows(events, EventType.ADD_TO_CART, EventType.DETAIL_PAGE_VIEW)
    assert_follows(events, EventType.ADD_TO_WISHLIST, EventType.DETAIL_PAGE_VIEW)
    assert_follows(events, EventType.REMOVE_FROM_CART, EventType.ADD_TO_CART)
    assert_follows(events, EventType.PURCHASE_COMPLETE, EventType.ADD_TO_CART)
    removed = first_times(events, EventType.REMOVE_FROM_CART).index
    assert removed.intersection(first_times(events, EventType.PURCHASE_COMPLETE).index).empty


def test_nothing_happens_before_registration_or_launch(shop: Path, events: pd.DataFrame, items: pd.DataFrame) -> None:
    users = pd.read_parquet(shop / "users").set_index("user_id")
    known = events[events.user_id.notna()]
    assert (known.event_time > users.created_at.reindex(known.user_id).to_numpy()).all()
    assert (events.event_time > items.created_at.reindex(events.item_id).to_numpy()).all()
    start = pd.Timestamp(SHOP.start, tz="UTC")
    # They do arrive over time: 60 % of the users and 30 % of the products after the first day.
    assert 0.5 < (users.created_at > start).mean() < 0.7
    assert 0.2 < (items.created_at > start).mean() < 0.4


def test_nothing_happens_on_items_out_of_stock(shop: Path, events: pd.DataFrame, items: pd.DataFrame) -> None:
    outages = np.load(shop / "truth/outages.npy")
    assert len(outages) > 50
    day = (events.event_time - pd.Timestamp(SHOP.start, tz="UTC")).dt.days.to_numpy()
    row = items.index.get_indexer(pd.Index(events.item_id))
    out = np.zeros((SHOP.items, SHOP.days), bool)
    for item, first, after in outages:
        out[item, first:after] = True
    during = events[out[row, day]]
    assert set(during.event_type) <= {EventType.RETURN}  # what was bought before may come back
    assert (items.stock == 0).equals(~items.available)
    np.testing.assert_array_equal(~items.available, out[:, -1])


def test_returns_give_back_what_the_user_bought_before(events: pd.DataFrame) -> None:
    returns = events[events.event_type == EventType.RETURN]
    assert len(returns) > 10
    bought = events[(events.event_type == EventType.PURCHASE_COMPLETE) & events.user_id.notna()]
    pairs = returns.merge(bought, on=["user_id", "item_id", "quantity", "price"], suffixes=("", "_bought"))
    earlier = pairs[pairs.event_time_bought < pairs.event_time]
    days = (earlier.event_time.dt.normalize() - earlier.event_time_bought.dt.normalize()).dt.days
    plausible = earlier[(days >= 3) & (days <= 21)]
    assert len(plausible.drop_duplicates(["user_id", "item_id", "event_time"])) == len(returns)


def test_reorders_are_of_consumables_that_the_user_had(events: pd.DataFrame, items: pd.DataFrame) -> None:
    again = events[(events.placement == "reorder") & (events.event_type == EventType.DETAIL_PAGE_VIEW)]
    assert len(again) > 10
    consumable = {leaf.path for leaf in LEAVES if leaf.consumable_days}
    assert set(items.category.reindex(again.item_id)) <= consumable
    first = events[events.event_type == EventType.PURCHASE_COMPLETE].groupby(["user_id", "item_id"]).event_time.min()
    had = first.reindex(pd.MultiIndex.from_frame(again[["user_id", "item_id"]]))
    assert (had.to_numpy() < again.event_time.to_numpy()).all()


def test_complements_follow_an_item_they_go_with(shop: Path, events: pd.DataFrame, items: pd.DataFrame) -> None:
    complements = np.load(shop / "truth/complements.npy")
    views = events[events.event_type == EventType.DETAIL_PAGE_VIEW]
    views = views.assign(row=items.index.get_indexer(pd.Index(views.item_id)))
    followed = views[views.placement == "similar"]
    assert len(followed) > 100
    by_session = views.groupby("session_id").row.agg(list)
    for session, row in zip(followed.session_id, followed.row, strict=True):
        assert any(row in complements[seen] for seen in by_session[session] if seen != row)


def test_items_read_like_a_shop(items: pd.DataFrame) -> None:
    first = items.iloc[0]
    noun = next(leaf.noun for leaf in LEAVES if leaf.path == first.category)
    assert first.title == f"{first.brand} {first.material} {noun}, {first.colour}"
    assert items.tags.map(len).between(1, 3).all()
    grouped = items[items.item_group_id.notna()].groupby("item_group_id")
    assert grouped.ngroups > 10
    assert (grouped.brand.nunique() == 1).all()
    assert (grouped.colour.nunique() == grouped.size()).all()  # variants differ in colour
    assert (grouped.size()[:-1] >= 2).all()


def test_impressions_are_logged_for_the_share_that_was_asked(tmp_path: Path) -> None:
    shop = ShopOptions(users=50, items=50, events=3000, days=20)
    none = simulate(replace(shop, impressions=0.0), tmp_path / "none").mix
    assert "impression" not in none
    assert "click" not in none
    every = simulate(replace(shop, impressions=1.0), tmp_path / "every").mix
    assert every["impression"] > 1000
    # Only complements and reorders are viewed without a click on a page.
    assert every["click"] > 0.6 * every["detail-page-view"]


def test_blocks_within_a_day_keep_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of more sessions than a block holds: 4,000 events on 2 days in blocks of 32 sessions."""
    monkeypatch.setattr(run, "BLOCK", 32)
    simulate(ShopOptions(users=200, items=100, events=4000, days=2), tmp_path / "data")
    events = pd.read_parquet(tmp_path / "data/events")
    assert len(events) == 4000
    assert_follows(events, EventType.PURCHASE_COMPLETE, EventType.DETAIL_PAGE_VIEW)
    # A session number is given once: all its events are of one person and, at most an hour long, of one block.
    sessions = events.groupby("session_id")
    assert (sessions.user_id.nunique() + sessions.visitor_id.nunique() == 1).all()
    assert (sessions.event_time.max() - sessions.event_time.min()).max() < pd.Timedelta(hours=1)


@pytest.mark.parametrize(("users", "items", "n", "days"), [(1, 1, 1, 1), (1, 1, 40, 3), (2, 1, 7, 30), (50, 3, 20, 2)])
def test_the_smallest_shops(users: int, items: int, n: int, days: int, tmp_path: Path) -> None:
    done = simulate(ShopOptions(users, items, n, days), tmp_path / "data")
    assert (done.events, done.items, done.users) == (n, items, users)
    assert len(pd.read_parquet(tmp_path / "data/events")) == n


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 800), st.integers(0, 5))
def test_day_quotas_add_up(n: int, days: int, seed: int) -> None:
    quotas = day_quotas(ShopOptions(1, 1, n, days, seed))
    assert quotas.sum() == n
    assert quotas.min() >= 0
    assert len(quotas) == days


def test_brand_names_do_not_repeat() -> None:
    assert len(set(brand_names(3000))) == 3000


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"users": 0}, "--users 0: expected 1 to "),
        ({"items": -1}, "--items -1: expected 1 to "),
        ({"events": 0}, "--events 0: expected 1 to "),
        ({"days": 4000}, "--days 4000: expected 1 to 3650"),
        ({"start": dt.date(1989, 12, 31)}, "--start 1989-12-31: expected a day of 1990 to 2089"),
        ({"start": dt.date(9999, 12, 1)}, "--start 9999-12-01: expected a day of 1990 to 2089"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"impressions": 1.5}, "--impressions 1.5: expected a share from 0 to 1"),
        ({"guests": float("nan")}, "--guests nan: expected a share from 0 to less than 1"),
    ],
)
def test_options_out_of_bounds(change: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ShopOptions(**{"users": 1, "items": 1, "events": 1, **change})  # type: ignore[arg-type]


def test_a_used_out_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="already holds files"):
        simulate(ShopOptions(1, 1, 1), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_ends_in_one_line_of_json(tmp_path: Path) -> None:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)  # with one command alone typer takes no name
    words = ["simulate", "--users", "5", "--items", "6", "--events", "70", "--days", "3", "--start", "2025-03-01"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert {k: result[k] for k in ("rows_read", "events", "items", "users", "rejected")} == {
        "rows_read": 70, "events": 70, "items": 6, "users": 5, "rejected": 0,
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "data/events").iterdir())[0] == "part-2025-03-01.parquet"
