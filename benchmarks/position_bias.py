"""Position bias: a ranker that learns from logged pages and is told the positions, beside one that is not, judged by what people truly want.

    python -m benchmarks.position_bias [--seeds 1,2,3] [--users 500] [--items 1200] [--events 60000] [--pages 3000] [--tests 1000] [--policy popularity]

For each seed a shop is simulated (`./aisle simulate`'s own code) and prepared, and sources are fitted as of T1. After T1 pages of 8 items of one category are
shown to known people by a `policy` that has its own taste: items that many had stand higher (popularity), or those that the person wants (taste, as the
simulator's own pages). Clicks are drawn as the simulator draws them: the person looks at a position with its planted probability, and clicks what they look
at with the probability of their true preference. Features are those of the feature path at the moment of the page. Three rankers grow on the same rows:

- naive: clicks are labels
- unbiased: the same, with the positions
- unbiased data: clicks as if everybody looked at everything, which no shop has: what there is to win

Judged on lists of all items of a category that was not shown, by NDCG@10 with the true probability of a purchase as gain. The interval is a bootstrap over
lists, all seeds together. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.candidates import listed
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.ids import NO_ROW, person_key
from core.prepared import TRAIN, Prepared
from core.work import Work
from data_prep.prepare import run as prepare
from data_prep.simulate import preferences
from data_prep.simulate.items_table import item_ids
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.population import user_ids
from data_prep.simulate.run import simulate
from data_prep.simulate.truth import Truth
from evaluation.intervals import difference
from pipeline.candidates import Fitted, Past
from ranking import item_statistics
from ranking.features import matrix
from ranking.train import GRADES, TrainingSet, grow
from retrieval.fit import fit_sources

_AT: Final = 10
_LONGEST: Final = 40  # items of a list that is judged
_NOISE: Final = 1.0  # of the policy's order, beside scores of variance 1
_TREES: Final = 100
POLICIES: Final = ("popularity", "taste")


@dataclass(frozen=True)
class Shop:
    """A simulated shop as of T1, with the truth about it. Rows of prepared data are matched with rows of the truth."""

    past: Past
    truth: Truth
    item_of: Array  # int64 [prepared items]: rows of the truth
    user_of: Array  # int64 [prepared users], NO_ROW for guests
    known: Array  # int32: prepared users with a success before T1
    live: Array  # int32: prepared items with an event before T1
    since: int
    until: int


def main() -> None:
    """Every seed, then all of them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--items", type=int, default=1200)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--pages", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=1000, help="lists that are judged, for each seed")
    parser.add_argument("--policy", choices=POLICIES, default="popularity", help="what orders the logged pages")
    a = parser.parse_args()
    config, seeds = load_pipeline(), [int(s) for s in a.seeds.split(",")]
    found: list[dict[str, Array]] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            options = ShopOptions(users=a.users, items=a.items, events=a.events, days=60, seed=seed)
            shop = made(options, Path(folder), config)
            found.append(compared(shop, config, a.pages, a.tests, a.policy, seed))
        say(f"seed {seed}: { ({n: round(float(v.mean()), 4) for n, v in found[-1].items()}) }")
    values = {name: np.concatenate([f[name] for f in found]) for name in found[0]}
    e = config.evaluation
    sure = {"samples": e.bootstrap_samples, "confidence": e.confidence, "seed": e.seed}
    lift = difference(values["unbiased"], values["naive"], **sure)  # type: ignore[arg-type]
    left = difference(values["unbiased data"], values["unbiased"], **sure)  # type: ignore[arg-type]
    result: dict[str, Any] = {"policy": a.policy, "seeds": seeds, "lists": len(values["naive"])}
    result |= {name: round(float(v.mean()), 4) for name, v in values.items()}
    result |= {"lift": [round(x, 4) for x in lift], "left_to_win": [round(x, 4) for x in left]}
    result["lift_by_seed"] = [round(float((f["unbiased"] - f["naive"]).mean()), 4) for f in found]
    print(json.dumps(result))


def made(options: ShopOptions, folder: Path, config: PipelineConfig) -> Shop:
    """Simulate, prepare, fit as of T1."""
    simulate(options, folder / "data")
    prepared = Prepared(prepare(folder / "data", Work(folder / "work"), config, say))
    fit_sources(prepared, TRAIN, config, folder / "sources", say)
    item_statistics.write(prepared, TRAIN, config.sources.recent_days, folder / "statistics")
    past = Past.open(Fitted(prepared.path, TRAIN, folder / "sources", folder / "statistics"), config)
    truth = Truth(folder / "data")
    names = {str(i): row for row, i in enumerate(item_ids(np.arange(1, options.items + 1)).to_pylist())}
    people = {str(person_key(u)): row for row, u in enumerate(user_ids(np.arange(1, options.users + 1)).to_pylist())}
    begun = prepared.interactions(TRAIN)
    return Shop(
        past,
        truth,
        np.array([names[prepared.item_ids[r]] for r in range(len(prepared.item_ids))]),
        np.array([people.get(prepared.user_ids[r], NO_ROW) for r in range(len(prepared.user_ids))]),
        np.unique(begun.user).astype(np.int32),
        np.unique(begun.item).astype(np.int32),
        prepared.until(TRAIN),
        int(prepared.events.numbers("time").max()),
    )


def compared(shop: Shop, config: PipelineConfig, pages: int, tests: int, policy: str, seed: int) -> dict[str, Array]:
    """NDCG of each ranker on each judged list, float64 `[tests]`."""
    rng = np.random.default_rng(seed)
    biased, fair = logged(shop, rng, pages, policy)
    told_nothing = replace(biased, positions=None)
    ranker = config.ranker.model_copy(update={"seed": seed, "learning_rate": 0.05})
    lists = [asked(shop, rng, _LONGEST) for _ in range(tests)]
    rows = np.concatenate([features for features, _ in lists])
    starts = np.cumsum([len(worth) for _, worth in lists])[:-1]
    result = {}
    for name, learn in (("naive", told_nothing), ("unbiased", biased), ("unbiased data", fair)):
        scores = np.split(np.asarray(grow([learn], _TREES, ranker).booster.predict(rows)), starts)
        result[name] = np.array([ndcg(s, worth) for s, (_, worth) in zip(scores, lists, strict=True)])
    chance = np.split(rng.random(len(rows)), starts)
    result["chance"] = np.array([ndcg(s, worth) for s, (_, worth) in zip(chance, lists, strict=True)])
    return result


def logged(shop: Shop, rng: np.random.Generator, pages: int, policy: str) -> tuple[TrainingSet, TrainingSet]:
    """Pages with at least one click, with their positions; and the same pages with the clicks of people who look at everything."""
    look = shop.truth.examination
    parts: tuple[list[tuple[Array, Array, Array]], ...] = ([], [])
    for _ in range(pages):
        user, time, rows = drawn(shop, rng, len(look))
        wanted = utilities(shop, user, rows)
        order = np.argsort(-(policy_scores(shop, rows, wanted, policy) + _NOISE * rng.gumbel(size=len(rows))))
        position = np.argsort(order)  # of each row, from 0
        chance = preferences.click_given_examined(wanted)
        liked = rng.random(len(rows)) < chance
        seen = liked & (rng.random(len(rows)) < look[position])
        if not liked.any():
            continue
        features = at_moment(shop, user, time, rows)
        for part, clicked in zip(parts, (seen, liked), strict=True):
            if clicked.any():
                part.append((features, np.where(clicked, GRADES, 0).astype(np.int8), position.astype(np.int32)))
    biased, fair = (_set(part) for part in parts)
    return biased, replace(fair, positions=None)


def _set(pages: list[tuple[Array, Array, Array]]) -> TrainingSet:
    features, grades, positions = (np.concatenate(column) for column in zip(*pages, strict=True))
    sizes = np.array([len(grade) for _, grade, _ in pages], np.int32)
    return TrainingSet(features, grades, sizes, np.ones(len(pages)), 0, positions=positions)


def policy_scores(shop: Shop, rows: Array, wanted: Array, policy: str) -> Array:
    """What the old ranking goes by, about variance 1: float64 `[n]`."""
    if policy == "taste":
        return preferences.ORDER_BY_TASTE * wanted
    facts = shop.past.items.facts[rows, 0].astype(np.float64)  # the log share of people who had it
    return np.asarray((facts - facts.mean()) / max(facts.std(), 1e-6))


def asked(shop: Shop, rng: np.random.Generator, most: int) -> tuple[Array, Array]:
    """A list to be judged: features float32 `[n, F]`, true worth float64 `[n]`."""
    user, time, rows = drawn(shop, rng, most)
    worth = preferences.purchase_given_examined(utilities(shop, user, rows)).astype(np.float64)
    return at_moment(shop, user, time, rows), worth


def drawn(shop: Shop, rng: np.random.Generator, most: int) -> tuple[int, int, Array]:
    """A known person, a moment after T1, and at most so many items of one category, int32 ascending, at least 4."""
    category = shop.truth.appeal.category[shop.item_of[shop.live]]
    while True:
        user = int(rng.choice(shop.known))
        if shop.user_of[user] == NO_ROW:
            continue
        rows = shop.live[category == rng.choice(category)]
        if len(rows) >= 4:
            chosen = rng.permutation(rows)[:most]
            return user, int(rng.integers(shop.since, shop.until)), np.sort(chosen).astype(np.int32)


def utilities(shop: Shop, user: int, rows: Array) -> Array:
    """What the person truly thinks of the items, float32 `[n]`."""
    return shop.truth.utility(np.full(len(rows), shop.user_of[user]), shop.item_of[rows])


def at_moment(shop: Shop, user: int, time: int, rows: Array) -> Array:
    """The features of a list, as `Rank` would have them: float32 `[n, F]`."""
    query, _ = shop.past.query(user, time)
    candidates = listed(shop.past.sources, shop.past.quotas, query, rows)
    return matrix(query, candidates, shop.past.items, shop.past.sources)


def ndcg(scores: Array, worth: Array) -> float:
    """NDCG@10 with linear gains of float64 `[n]`."""
    discount = 1 / np.log2(np.arange(min(_AT, len(worth))) + 2.0)
    best = np.sort(worth)[::-1][:_AT] @ discount
    return float(worth[np.argsort(-scores, kind="stable")][:_AT] @ discount / best)


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
