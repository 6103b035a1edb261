"""What is planted is what happens: the log of a simulated shop agrees with the preferences it says it has."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from core.errors import ArtifactError, NotFoundError
from core.schema import EventType
from data_prep.simulate import preferences
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.population import draw_people, make_segments
from data_prep.simulate.preferences import Appeal, People
from data_prep.simulate.run import simulate
from data_prep.simulate.sessions import choose_categories
from data_prep.simulate.shelf import Shelf
from data_prep.simulate.taxonomy import LEAVES
from data_prep.simulate.truth import Truth

N = len(LEAVES)
POSITIVE = (
    EventType.DETAIL_PAGE_VIEW,
    EventType.CLICK,
    EventType.ADD_TO_CART,
    EventType.ADD_TO_WISHLIST,
    EventType.PURCHASE_COMPLETE,
)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that logs every page."""
    out = tmp_path_factory.mktemp("logged") / "data"
    simulate(ShopOptions(users=400, items=400, events=150_000, days=40, seed=5, impressions=1.0), out)
    return out


def with_rows(data: Path) -> pd.DataFrame:
    """Events of users with the rows of user and item, which are the order of the tables."""
    events = pd.read_parquet(data / "events")
    events = events[events.user_id.notna()].reset_index(drop=True)
    for table, column, row in (("users", "user_id", "u"), ("items", "item_id", "i")):
        events[row] = pd.Index(pd.read_parquet(data / table)[column]).get_indexer(events[column])
    return events


def people(**arrays: object) -> People:
    """One person with no taste, favourites 0, 1, 2, 2 and no care for prices, unless said otherwise."""
    defaults = {
        "taste": np.zeros((1, 2), np.float32),
        "favourites": np.array([[0, 1, 2, 2]], np.int16),
        "weights": np.array([[0.4, 0.3, 0.2, 0.1]], np.float32),
        "budget": np.zeros(1, np.float32),
        "sensitivity": np.zeros(1, np.float32),
    }
    return People(**{**defaults, **arrays})  # type: ignore[arg-type]


def test_utility_by_hand() -> None:
    """taste (1, 2); item 0: (3, 0.5) quality 1 price 2; item 1: (0, 0) quality 0 price -1; budget 0.5, sensitivity 2.

    U0 = 3 + 1 + 1 - 2 x (2 - 0.5) = 2; U1 = 0, because below the budget a price costs nothing.
    """
    person = people(
        taste=np.array([[1, 2]], np.float32), budget=np.array([0.5], np.float32), sensitivity=np.array([2], np.float32)
    )
    appeal = Appeal(
        np.array([[3, 0.5], [0, 0]], np.float32),
        np.array([1, 0], np.float32),
        np.array([2, -1], np.float32),
        np.zeros(2, np.int16),
    )
    np.testing.assert_allclose(preferences.utility(person, appeal, np.array([[0, 1]])), [[2, 0]])


def test_intent_by_hand() -> None:
    """Season doubles category 0 and empties category 1: favourites .8, 0, .2 + .1 of 1.1; explorers spread over all but 1."""
    demand = np.ones(N)
    demand[0], demand[1] = 2, 0
    popularity = np.full(N, 1 / N)
    found = preferences.intent(people(), demand, popularity)[0]
    anywhere = 0.15 / N / (N / N)  # popularity x demand sums to (N - 2 + 2) / N = 1
    expected = np.full(N, anywhere)
    expected[0] = 2 * anywhere + 0.85 * 0.8 / 1.1
    expected[1] = 0
    expected[2] = anywhere + 0.85 * 0.3 / 1.1
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert found.sum() == pytest.approx(1)


def test_intent_of_someone_whose_favourites_are_all_gone_is_the_explorers() -> None:
    demand = np.ones(N)
    demand[:3] = 0
    found = preferences.intent(people(), demand, np.full(N, 1 / N))[0]
    np.testing.assert_allclose(found[3:], 1 / (N - 3))
    assert found[:3].sum() == 0


def test_sessions_choose_categories_as_intent_says() -> None:
    """Frequencies of 40,000 sessions of one person within 5 standard errors of every stated chance."""
    options = ShopOptions(1, 1, 1)
    segments = make_segments(options)
    shelf = object.__new__(Shelf)
    shelf.demand, shelf.popularity = preferences.season(200), segments.popularity
    one = draw_people(options.stream(0), segments, 1)[0]
    n = 40_000
    chosen = choose_categories(np.random.default_rng(1), one.take(np.zeros(n, int)), shelf)
    chance = preferences.intent(one, shelf.demand, shelf.popularity)[0]
    error = np.abs(np.bincount(chosen, minlength=N) / n - chance)
    assert (error < 5 * np.sqrt(chance * (1 - chance) / n) + 1e-9).all()


def test_season_swings_between_peak_and_half_a_year_later() -> None:
    tent = next(i for i, leaf in enumerate(LEAVES) if leaf.noun == "tent")
    jeans = next(i for i, leaf in enumerate(LEAVES) if leaf.noun == "jeans")
    peak, trough = preferences.season(165), preferences.season(165 + 183)
    assert peak[tent] / trough[tent] == pytest.approx(np.exp(2 * preferences.SEASON_AMPLITUDE), rel=1e-3)
    assert peak[jeans] == trough[jeans] == 1


def test_position_bias_is_the_planted_one(logged: Path) -> None:
    """Clicks at a position over what would be clicked if all were examined = examination, within 5 standard errors."""
    truth, events = Truth(logged), with_rows(logged)
    shown = events[events.event_type == EventType.IMPRESSION]
    clicks = events[events.event_type == EventType.CLICK].set_index(["session_id", "item_id"]).index
    clicked = pd.MultiIndex.from_frame(shown[["session_id", "item_id"]]).isin(clicks)
    wanted = preferences.click_given_examined(truth.utility(shown.u.to_numpy(), shown.i.to_numpy()))
    position = shown.position.to_numpy(int)
    for p, examination in enumerate(truth.examination):
        at = position == p
        chance = examination * wanted[at]
        error = np.sqrt((chance * (1 - chance)).sum()) / wanted[at].sum()
        assert at.sum() > 1000
        # Each day's log is cut at its quota, which loses a few clicks of its last session: .01.
        assert clicked[at].sum() / wanted[at].sum() == pytest.approx(examination, abs=5 * error + 0.01)
    assert list(truth.examination) == sorted(truth.examination, reverse=True)
    assert truth.examination[0] == 1
    assert truth.examination[-1] < 0.3


def test_carts_and_purchases_follow_from_utility(logged: Path) -> None:
    truth, events = Truth(logged), with_rows(logged)
    views = events[(events.event_type == EventType.DETAIL_PAGE_VIEW) & (events.placement != "reorder")]
    chance = preferences.cart_given_viewed(truth.utility(views.u.to_numpy(), views.i.to_numpy()))
    pairs = pd.MultiIndex.from_frame(views[["session_id", "item_id"]])

    def happened(kind: EventType) -> float:
        of = events[events.event_type == kind].set_index(["session_id", "item_id"]).index
        return float(pairs.isin(of).mean())

    # 5 standard errors of a share of n views are below 2.5 / sqrt(n); .005 for sessions cut at a day's quota.
    tolerance = 2.5 / np.sqrt(len(views)) + 0.005
    assert happened(EventType.ADD_TO_CART) == pytest.approx(chance.mean(), abs=tolerance)
    assert happened(EventType.PURCHASE_COMPLETE) == pytest.approx(chance.mean() * preferences.BUY, abs=tolerance)


def test_attributes_tell_of_tastes(logged: Path) -> None:
    """Two items of one brand and material are closer in style than two items at random."""
    items = pd.read_parquet(logged / "items")
    style = np.load(logged / "truth/item_taste.npy")[:, preferences.CATEGORY_DIM :]
    alike = np.equal.outer(items.brand.to_numpy(), items.brand.to_numpy())
    alike &= np.not_equal.outer(items.index.to_numpy(), items.index.to_numpy())
    alike &= np.not_equal.outer(items.item_group_id.fillna("").to_numpy(), items.item_group_id.fillna("").to_numpy())
    close = style @ style.T
    assert close[alike].mean() > 0.3
    assert abs(close.mean()) < 0.1


def test_popularity_is_heavy_tailed(logged: Path) -> None:
    views = pd.read_parquet(logged / "events").query("event_type == 'detail-page-view'").item_id.value_counts()
    assert views.head(len(views) // 10).sum() > 0.3 * views.sum()


def test_preference_is_the_product_that_is_documented(logged: Path) -> None:
    truth = Truth(logged)
    user, day = np.array([7]), 30
    found = truth.preference(user, day)[0]
    item = int(np.nonzero(truth.launch <= day)[0][5])
    utility = truth.utility(user, np.array([item]))
    demand = preferences.season((dt.date(2024, 1, 1) + dt.timedelta(days=day)).timetuple().tm_yday)
    demand *= np.isin(np.arange(N), truth.appeal.category[truth.launch <= day])
    popularity = np.load(logged / "truth/category_popularity.npy")
    intent = preferences.intent(truth.people.take(user), demand, popularity)[0, truth.appeal.category[item]]
    click, cart = 1 / (1 + np.exp(-(utility[0] - 1.2))), 1 / (1 + np.exp(-(utility[0] - 2.4)))
    assert found[item] == pytest.approx(intent * click * cart * 0.6, rel=1e-5)
    assert (found[truth.launch > day] == 0).all()
    assert (truth.launch > day).any()


def test_truth_of_no_simulated_shop(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"only `\./aisle simulate` knows the preferences"):
        Truth(tmp_path)


def test_truth_of_another_formula_is_refused(logged: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    shop = json.loads((logged / "truth/shop.json").read_text())
    shop["coefficients"]["CLICK"] = 9.0
    (tmp_path / "truth/shop.json").write_text(json.dumps(shop))
    with pytest.raises(ArtifactError, match=r"simulated with .*9.0.*simulate it again"):
        Truth(tmp_path)


def ndcg_at_10(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Mean over users `[u]` of scores and relevance `[u, items]`."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    discount = 1 / np.log2(np.arange(10) + 2)
    gained = (np.take_along_axis(relevant, top, axis=1) * discount).sum(axis=1)
    ideal = np.array([discount[: min(10, int(n))].sum() for n in relevant.sum(axis=1)])
    return float((gained / ideal).mean())


def test_personal_models_can_learn_the_shop(tmp_path: Path) -> None:
    """On a split by time, item kNN has at least twice the NDCG@10 of popularity, and the planted preferences beat both."""
    simulate(ShopOptions(users=1000, items=1000, events=60_000, seed=1), tmp_path / "data")
    events = with_rows(tmp_path / "data")
    events = events[events.event_type.isin(POSITIVE)]
    cut = events.event_time.quantile(0.9)
    train, test = events[events.event_time < cut], events[events.event_time >= cut]
    seen = sp.csr_matrix((np.ones(len(train)), (train.u, train.i)), (1000, 1000))
    seen.data[:] = 1
    norm = np.sqrt(seen.sum(axis=0)).A1 + 1e-9
    similar = (seen.T @ seen).toarray() / norm[:, None] / norm
    np.fill_diagonal(similar, 0)

    users = np.intersect1d(test.u.unique(), train.u.unique())
    relevant = np.zeros((1000, 1000), bool)
    relevant[test.u, test.i] = True
    relevant = relevant[users]
    popular = np.broadcast_to(np.bincount(train.i, minlength=1000), relevant.shape)
    popularity, knn = ndcg_at_10(popular, relevant), ndcg_at_10(seen[users] @ similar, relevant)
    planted = ndcg_at_10(Truth(tmp_path / "data").preference(users, 345), relevant)
    assert knn > 2 * popularity
    assert planted > 2 * popularity
