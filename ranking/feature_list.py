"""The ranker's features: one ordered list. The matrix has one column for each, in this order; a model knows the list by its hash.

`snapshot` features are as of the release's cut or the last materialisation before the request; `live` ones follow from the request itself, its
history and what the sources say of it. A feature that does not apply (source absent, time synthetic, price unknown) holds its default, never NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

from core.artifact import hash_json

SOURCES: Final = (
    "own_frequency",
    "item_knn",
    "linear",
    "transitions",
    "covisitation",
    "content",
    "recent_popularity",
    "popularity",
    "towers",
)
"""The candidate sources that features know by name. A release may have fewer; one that is not here speaks only through `agree.*`."""


@dataclass(frozen=True)
class Feature:
    """One column of the matrix."""

    name: str
    meaning: str
    source: Literal["candidates", "history", "items", "request", "user"]
    default: float = 0.0
    freshness: Literal["snapshot", "live"] = "live"
    timed: bool = False  # needs a real clock: holds its default where only the order of events is known


def _candidates(name: str, meaning: str) -> Feature:
    return Feature(name, meaning, "candidates")


def _history(name: str, meaning: str, default: float = 0.0, *, timed: bool = False) -> Feature:
    return Feature(name, meaning, "history", default, timed=timed)


def _item(name: str, meaning: str, default: float = 0.0, *, timed: bool = False) -> Feature:
    return Feature(name, meaning, "items", default, "snapshot", timed)


def _request(name: str, meaning: str, default: float = 0.0, *, timed: bool = False) -> Feature:
    return Feature(name, meaning, "request", default, timed=timed)


def _user(name: str, meaning: str, default: float = 0.0) -> Feature:
    return Feature(name, meaning, "user", default, "snapshot", timed=True)


SCORES: Final = tuple(_candidates(f"{s}.score", f"{s}: score over its greatest among the candidates") for s in SOURCES)
RANKS: Final = tuple(
    _candidates(f"{s}.rank", f"{s}: 1 / (1 + position in its own list), 0 where it did not propose the item")
    for s in SOURCES
)
NEIGHBOURS: Final = ("item_knn", "linear", "transitions", "covisitation", "content")
"""Sources that start from single items: the more they know of these, the greater their scores."""
ASKED_AGAIN: Final = ("item_knn", "linear", "transitions")
"""Those of them that are asked a second time, about the newest basket alone; what the others then say adds nothing (measured)."""
LATE: Final = tuple(
    _candidates(f"late.{s}", f"{s} asked about the newest basket alone: score over its greatest") for s in ASKED_AGAIN
)
STRENGTH: Final = tuple(
    _candidates(f"strength.{s}", f"log of 1 + the greatest score that {s} gives: how much evidence it has at all")
    for s in NEIGHBOURS
)
AGREE: Final = (
    _candidates("agree.score", "mean over the sources of the score over its greatest"),
    _candidates("agree.rank", "sum over the sources of 1 / (10 + position)"),
    _candidates("agree.count", "number of sources that propose the item"),
)
OWN: Final = (
    _history("own.count", "successes of the person with the item"),
    _history("own.share", "these, as a share of the person's successes"),
    _history("own.baskets", "share of the person's baskets (successes at one moment) that hold the item"),
    _history("own.fading", "successes with the item, each weighted by 2^(-age / 30 days)", timed=True),
    _history("own.late_baskets", "share of the newest 5 baskets that hold the item"),
    _history("own.baskets_since", "baskets after the last one with the item", -1.0),
    _history("own.events_since", "successes after the last one with the item", -1.0),
    _history("own.days_since", "days since the last success with the item", -1.0, timed=True),
    _history("own.gap_days", "mean days between the person's baskets with the item", -1.0, timed=True),
    _history("own.due", "days since the last success with the item over that gap", -1.0, timed=True),
    _history(
        "own.due_as_others", "the same over the mean gap of everybody who came back to the item", -1.0, timed=True
    ),
    _history("own.touched", "events without gain (views, clicks of gain 0) with the item"),
)
AFFINITY: Final = (
    _history("brand.share", "share of the person's successes with the item's brand"),
    _history("category.share", "share of the person's successes in the item's category"),
    _history("category.late", "the same among the newest 5 successes"),
    _history(
        "attributes.overlap",
        "rarity-weighted share of the item's attributes that the newest 50 successes have, each by how many have it",
    ),
    _history("attributes.late", "the same for the newest 3 successes"),
    _history("price.distance", "log price minus the person's mean log price"),
    _history("price.strangeness", "its absolute value over the spread of the person's log prices"),
)
ITEM: Final = (
    _item("item.popularity", "log of the share of people with a success on the item", -15.0),
    _item("item.recent", "log of its share of the successes of the newest `recent_days`", -15.0, timed=True),
    _item("item.month", "log of its share of the successes of the newest 30 days", -15.0, timed=True),
    _item("item.trend", "the log share of the newest `recent_days` minus that of all time", timed=True),
    _item("item.age", "log of 1 + days from the item's first event to the cut", -1.0, timed=True),
    _item("item.quiet", "log of 1 + days from the item's last success to the cut", -1.0, timed=True),
    _item("item.loyalty", "share of its people who came back to it"),
    _item(
        "item.gap_days",
        "mean days between the successes of one person with the item, 0 where nobody came back",
        timed=True,
    ),
    _item("item.price", "log of 1 + price, 0 where it is unknown"),
    _item("item.value", "mean graded feedback (`value`) of its events minus the mean of all events"),
)
PERSON: Final = (
    _request("person.successes", "number of successes in the history"),
    _request("person.items", "number of distinct items among them"),
    _request("person.repeats", "share of them that repeat an earlier item"),
    _request("person.baskets", "number of baskets"),
    _request("person.basket_size", "mean successes a basket"),
    _request("person.days_since", "days since the last success", -1.0, timed=True),
    _request("person.gap_days", "mean days between baskets", -1.0, timed=True),
    _request("person.days", "days from the first success to the request", -1.0, timed=True),
    _request("person.taste", "mean log popularity of the items of the newest 50 successes"),
    _request("request.context", "number of items on the page the person looks at"),
)
USER: Final = (
    _user("user.tenure_days", "days from the first active day to the snapshot", -1.0),
    _user("user.recency_days", "days from the last active day to the snapshot", -1.0),
    _user("user.active_days_30d", "days with an event among the 30 before the snapshot"),
    _user("user.purchases_30d", "purchases less returns in those"),
    _user("user.spend_30d", "money spent less returned in those"),
    _user("user.events_decayed", "events before the snapshot, half-life 30 days"),
    _user("user.price_level", "mean log of 1 + price of all purchases before the snapshot"),
    _user("user.expired", "1 where the person has no snapshot, or one older than its time to live", 1.0),
)
"""The person's long-term facts (ranking.statistics), as of the snapshot of ranking.user_facts; without one they hold their defaults."""
FEATURES: Final[tuple[Feature, ...]] = (
    *SCORES,
    *RANKS,
    *LATE,
    *STRENGTH,
    *AGREE,
    *OWN,
    *AFFINITY,
    *ITEM,
    *PERSON,
    *USER,
)
NAMES: Final = tuple(f.name for f in FEATURES)


def schema_hash() -> str:
    """Hex sha256 of the ordered list: what a model was trained on."""
    return hash_json([asdict(f) for f in FEATURES])
