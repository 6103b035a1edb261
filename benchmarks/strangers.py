"""What the attributes of people, the popularity of their cohorts and new arrivals add to retrieval, by how much is known of the person.

    python -m benchmarks.strangers --work WORK [--seeds 7 8 9] [--most N]

WORK is prepared over a whole data set. Everything is fitted as of Tv, in the order of a night, and judged on the validation window that follows
(`global`): people with a history by its length, and people of whom nothing is known but their attributes. Two tables for each of these groups:

alone: every system as a ranking of the whole catalogue, completed by what is popular. Recall@100 and NDCG@10.
beside: what the union of the sources (towers with attributes where there are any) gains in recall from FURTHER more candidates of each system.

Figures are means over the seeds of the towers, query by query; intervals are of 1,000 bootstrap samples of the people. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.baselines import say
from benchmarks.fits import Fit
from benchmarks.union import DEPTH, METRICS, filled, measured
from core.candidates import Source, gather
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.history import Query
from core.prepared import CHOOSE, Fold, Prepared
from core.schema import DAY, Column
from core.tokens import TOKEN_PEOPLE
from core.work import Work
from evaluation.intervals import intervals
from evaluation.judgements import MAIN, NEW_USER, Judgements, judge
from evaluation.relevance import Relevance
from retrieval.query import best
from retrieval.sources import TOWERS

FURTHER: Final = 50
WITH: Final = "towers, attributes"
_SHOWN: Final = ("recall@100", "ndcg@10")

Rank = Callable[
    [Query, int, Array], Array
]  # a query, k, the rows not to return (ascending) -> at most k rows, best first


@dataclass(frozen=True)
class Group:
    """People asked, of whom about equally much is known."""

    name: str
    asked: list[tuple[Query, Array]]
    relevance: Relevance

    def wanted(self, query: int) -> Array:
        """Item rows that the person of `query` chose."""
        return self.relevance.items[self.relevance.starts[query] : self.relevance.starts[query + 1]]


def groups(prepared: Prepared, fold: Fold, config: PipelineConfig, most: int) -> list[Group]:
    """People by the number of their choices before the fold; those without any only where they say something of themselves."""
    judgements = judge(prepared, fold, prepared.seen(config.evaluation.seen))
    told = np.diff(prepared.told.starts)[judgements.users] > 0
    n, known = judgements.choices, judgements.cohort == MAIN
    kinds = {
        "attributes alone": (judgements.cohort == NEW_USER) & told,
        "1 or 2": known & (n <= 2),
        "3 to 9": known & (n > 2) & (n < 10),
        "10 and more": known & (n >= 10),
    }
    rng = np.random.default_rng(config.evaluation.seed)
    samples = {name: np.sort(rng.permutation(np.flatnonzero(which))[:most]) for name, which in kinds.items()}
    limit = config.sources.history_events
    return [_group(name, prepared, judgements.only(rows), limit) for name, rows in samples.items() if len(rows)]


def _group(name: str, prepared: Prepared, judgements: Judgements, history_events: int) -> Group:
    asked = [
        (judgements.query(q, prepared, history_events), judgements.excluded(q, prepared.events))
        for q in range(len(judgements))
    ]
    return Group(name, asked, judgements.relevance)


def cohorts(prepared: Prepared, fold: Fold, days: float, prior: float) -> Rank:
    """What people who say the same of themselves chose in the last `days`: p(i) times, for each token, p(i | token) / p(i) (naive Bayes).

    p(i | token) is shrunk to p(i) as if a gain of `prior` had been seen with the token as everybody else's is spread. Whoever says nothing that is
    known of enough people gets nothing.
    """
    events, told, n = prepared.interactions(fold), prepared.told, len(prepared.item_ids)
    late = events.time >= events.until - days * DAY
    user, item, gain = events.user[late], events.item[late], events.gain[late]
    p = np.bincount(item, weights=gain, minlength=n) / max(float(gain.sum()), 1e-9)
    people, active = np.repeat(np.arange(len(told)), np.diff(told.starts)), np.unique(user)
    lifts: dict[int, Array] = {}
    for token in np.unique(told.tokens).tolist():
        of = np.zeros(len(told), bool)
        of[people[told.tokens == token]] = True
        if of[active].sum() >= TOKEN_PEOPLE:
            theirs = np.bincount(item[of[user]], weights=gain[of[user]], minlength=n)
            shrunk = (theirs + prior * p) / (theirs.sum() + prior)
            lifts[token] = np.divide(shrunk, p, out=np.ones(n), where=p > 0)

    def rank(query: Query, k: int, without: Array) -> Array:
        known = [lifts[t] for t in query.attributes.tolist() if t in lifts]
        return _best(p * np.prod(known, axis=0), k, without) if known else np.empty(0, np.int32)

    return rank


def arrivals(prepared: Prepared, fold: Fold, days: float) -> Rank:
    """Items whose first event or `created_at` lies in the last `days`, by a lower bound of their people a day: (sqrt(people) - 1)^2 / days there.

    The root of a Poisson count has a standard deviation of a half: this is two of them below (Anscombe, Biometrika 35, 1948). Newest first where
    the bound is 0.
    """
    events, n, until = prepared.interactions(fold), len(prepared.item_ids), prepared.until(fold)
    first = np.full(n, until)
    np.minimum.at(first, events.item, events.time)
    if Column.CREATED_AT in prepared.items:
        created = prepared.items.numbers(Column.CREATED_AT)
        first = np.where(created >= 0, np.minimum(first, created), first)
    pairs = np.unique(np.stack([events.user, events.item]), axis=1)
    people, age = np.bincount(pairs[1], minlength=n), np.maximum((until - first) / DAY, 1.0)
    new = (first < until) & (age <= days)
    scores = np.where(new, (np.maximum(np.sqrt(people) - 1, 0) ** 2 + 1e-6) / age, 0.0)
    return lambda _, k, without: _best(scores, k, without)


def _best(scores: Array, k: int, without: Array) -> Array:
    allowed = np.where(scores > 0, scores, -np.inf)
    allowed[without] = -np.inf
    return best(np.arange(len(scores), dtype=np.int32), allowed, k)[0]


def asking(source: Source) -> Rank:
    """A source as a system."""
    return lambda query, k, without: source.scoring(query).top(k, without)[0]


def alone(system: Rank, popular: Source, group: Group) -> Array:
    """METRICS `[q, 4]` of whole pages."""
    pages = [filled(system(query, DEPTH, without), popular, query, without) for query, without in group.asked]
    return measured(pages, group.relevance)


def beside(
    systems: dict[str, Rank], sources: tuple[Source, ...], quotas: dict[str, int], group: Group
) -> dict[str, Array]:
    """Recall of the union of `sources`, and what FURTHER candidates of each system that it lacks would add: float64 `[q]`."""
    found = {name: np.zeros(len(group.asked)) for name in ("union", *systems)}
    for q, (query, without) in enumerate(group.asked):
        union, wanted = gather(sources, quotas, query, without).rows, group.wanted(q)
        found["union"][q] = np.isin(wanted, union).mean()
        taken = np.union1d(union, without).astype(np.int32)
        for name, system in systems.items():
            found[name][q] = np.isin(wanted, system(query, FURTHER, taken)).mean()
    return found


def of_seed(
    work: Path, prepared: Prepared, everybody: list[Group], config: PipelineConfig
) -> dict[str, dict[str, Array]]:
    """Both tables of one seed: for each group, by "alone SYSTEM METRIC" and "beside SYSTEM", float64 `[q]`."""
    described = bool(len(prepared.told.tokens))
    fits = {
        label: Fit(work, prepared, CHOOSE, with_attributes(config, label == WITH), say)
        for label in (TOWERS, WITH)[: 1 + described]
    }
    whole = fits[WITH if described else TOWERS]
    systems: dict[str, Rank] = {label: asking(f.source(TOWERS)) for label, f in fits.items()}
    systems |= {name: asking(whole.source(name)) for name in ("popularity", "recent_popularity")}
    systems |= {"cohorts": cohorts(prepared, CHOOSE, 60, 3000)} if described else {}
    systems |= {} if prepared.synthetic_time else {"arrivals": arrivals(prepared, CHOOSE, 30)}
    result: dict[str, dict[str, Array]] = {}
    for group in everybody:
        rows = result.setdefault(group.name, {})
        for name, system in systems.items():
            values = alone(system, whole.source("popularity"), group)
            rows |= {f"alone {name} {metric}": values[:, METRICS.index(metric)] for metric in _SHOWN}
        for label, f in fits.items():
            rows[f"union with {label}"] = beside({}, f.sources, f.quotas, group)["union"]
        others = {name: system for name, system in systems.items() if name != TOWERS or not described}
        rows |= {f"beside {name}": v for name, v in beside(others, whole.sources, whole.quotas, group).items()}
    return result


def with_attributes(config: PipelineConfig, read: bool) -> PipelineConfig:
    """The configuration with towers that read the attributes of people, or do not."""
    return config.model_copy(update={"towers": config.towers.model_copy(update={"user_attributes": read})})


def main() -> None:
    """Fit, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--most", type=int, default=2000, help="people of a group at most (a seeded sample)")
    parser.add_argument("--config", type=Path)
    args = parser.parse_args()
    base = load_pipeline(args.config)
    prepared = Prepared(Work(args.work).latest("prepare"))
    everybody = groups(prepared, CHOOSE, base, args.most)
    runs = []
    for seed in args.seeds:
        towers = base.towers.model_copy(update={"seed": seed, "seconds": 1e9})
        runs.append(of_seed(args.work, prepared, everybody, base.model_copy(update={"towers": towers})))
    result: dict[str, Any] = {"work": str(args.work), "fold": CHOOSE.name, "seeds": args.seeds}
    for group in everybody:
        values = {name: np.mean([r[group.name][name] for r in runs], axis=0) for name in runs[0][group.name]}
        for metric in _SHOWN:
            if (ours := f"alone {WITH} {metric}") in values:
                values[f"{ours}, minus {TOWERS}"] = values[ours] - values[f"alone {TOWERS} {metric}"]
        e = base.evaluation
        table = np.column_stack(list(values.values()))
        found = intervals(table, samples=e.bootstrap_samples, confidence=e.confidence, seed=e.seed)
        result[group.name] = {"people": len(group.asked)} | {
            name: [round(float(x), 4) for x in row] for name, row in zip(values, found, strict=True)
        }
        say(f"{group.name}: {len(group.asked)} people")
        for name in values:
            say(f"  {name:50} {result[group.name][name]}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
