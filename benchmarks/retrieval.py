"""What retrieval finds, against item kNN, ALS, EASE and popularity: every system over the full catalogue, on the same queries, in one run.

    python -m benchmarks.retrieval --work WORK --protocol global|last [--window test|validation] [--seeds 1 2 3] [--most N]
    python -m benchmarks.retrieval --work WORK --protocol P --new-items [--k 100]
    python -m benchmarks.retrieval --work WORK --protocol P --new-users

WORK is prepared over a whole data set (benchmarks.public_sets, then `./aisle prepare`). Sources, towers and blend weights are those that the
night makes of it, one fit a seed, kept in WORK (benchmarks.fits). The union is asked for a page of 500; the towers alone by exact search. Settings of
ALS and EASE are chosen in this run on the window before the one that is judged, for each of two metrics (`chosen_for`). Under protocol `last` the
validation window has none before it: there, settings and weights are chosen on the very window. Intervals are of 1,000 bootstrap samples of the
queries; a tower's figures are means over the seeds, query by query, before they are taken. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import newcomers
from benchmarks.baselines import FOLDS, Queries, alone, say
from benchmarks.collaborative import Als, Grid, Scores, als, ease, ease_weights, gram, ranked
from benchmarks.fits import Fit
from benchmarks.union import DEPTH, METRICS, Union, measured
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import Fold, Prepared
from core.work import Work
from evaluation.intervals import difference, intervals
from evaluation.judgements import judge
from retrieval.cosine import person_item_matrix
from retrieval.defaults import adapted, decide
from retrieval.item_tower import ItemTower
from retrieval.query import QueryTower
from retrieval.sources import TOWERS

CHOSEN_FOR: Final = ("recall@500", "ndcg@10")
KNOWN_EVENTS: Final = (0, 1, 2, 5, None)  # None: all of at least 10
_ENOUGH: Final = 10
_CHOOSING: Final = 5000  # queries of the window that settings of ALS and EASE are chosen on


def main() -> None:
    """One table on stderr, one line of JSON."""
    args = _arguments()
    config = load_pipeline(args.config)
    prepared = Prepared(Work(args.work).latest("prepare"))
    fold, before = FOLDS[args.protocol, args.window]
    seeds = args.seeds or [config.towers.seed]
    about = {"work": str(args.work), "fold": fold.name, "seen": prepared.seen(config.evaluation.seen), "seeds": seeds}
    if args.new_items:
        result = new_items(prepared, fold, [seeded(config, s, args.seconds) for s in seeds], args.k, args.most)
    else:
        queries = Queries(prepared, fold, about["seen"], config, args.most)
        fits = [Fit(args.work, prepared, fold, seeded(config, s, args.seconds), say) for s in seeds]
        grid = Grid.of(args.als_factors, args.ease_penalties)
        result = new_users(queries, fits) if args.new_users else everything(prepared, queries, fits, before, grid)
    print(json.dumps(about | result))


def seeded(config: PipelineConfig, seed: int, seconds: float) -> PipelineConfig:
    """The configuration with another seed for the towers, and so much time that on a busy machine the clock ends none of them."""
    return config.model_copy(update={"towers": config.towers.model_copy(update={"seed": seed, "seconds": seconds})})


def everything(prepared: Prepared, queries: Queries, fits: list[Fit], before: Fold, grid: Grid) -> dict[str, Any]:
    """Union, towers, baselines, and the differences between them."""
    config = fits[0].config
    unions = [f.unite(queries.asked, queries.relevance) for f in fits]
    towers = [measured(alone(f.source(TOWERS), f.sources, queries), queries.relevance) for f in fits]
    for f, union, tower in zip(fits, unions, towers, strict=True):
        say(f"seed {f.seed}: union {union.means()}; towers {dict(zip(METRICS, tower.mean(0).round(4), strict=True))}")
    ours = {"union": np.mean([u.measured for u in unions], axis=0), "towers": np.mean(towers, axis=0)}
    theirs = {
        n: measured(alone(fits[0].source(n), fits[0].sources, queries), queries.relevance)
        for n in ("item_knn", "popularity")
    }
    choosing = Queries(prepared, before, queries.judgements.seen, config, _CHOOSING)
    theirs |= dict(learned(prepared, queries, before, choosing, grid, config.towers.seed))
    whole = np.mean([u.recall for u in unions], axis=0)
    result: dict[str, Any] = {
        "queries": len(queries),
        "union": {
            "by_seed": [u.means() for u in unions],
            "recall": interval(whole, config),
            **figures(ours["union"], config),
        },
        "sources": added(fits[0], unions[0]),
        "towers": {
            "by_seed": [dict(zip(METRICS, t.mean(0).round(4).tolist(), strict=True)) for t in towers],
            **figures(ours["towers"], config),
        },
        "baselines": {name: figures(values, config) for name, values in theirs.items()},
        "minus": {
            name: {other: compared(mine, values, config) for other, values in theirs.items()}
            for name, mine in ours.items()
        },
    }
    for name, values in {**ours, **theirs}.items():
        say(f"{name:40} " + "  ".join(f"{m} {v:.4f}" for m, v in zip(METRICS, values.mean(0), strict=True)))
    for name, facts in result["sources"].items():
        say(f"{name:20} {facts}")
    for name, rows in result["minus"].items():
        for other, row in rows.items():
            say(f"{name} minus {other}: recall@500 {row['recall@500']}")
    return result


def added(fitted: Fit, union: Union) -> dict[str, dict[str, float]]:
    """Of each source: its quota, its recall alone, and what the union loses without it."""
    return {
        s.name: {
            "quota": fitted.quotas.get(s.name, 0),
            "recall": round(float(union.alone[s.name].mean()), 4),
            "lost_without": round(float(union.lost[s.name].mean()), 4),
        }
        for s in fitted.sources
    }


def learned(
    prepared: Prepared, queries: Queries, before: Fold, choosing: Queries, grid: Grid, seed: int
) -> Iterator[tuple[str, Array]]:
    """ALS and EASE with the settings that were best on `choosing`, for each metric of CHOSEN_FOR: name, METRICS `[q, 4]`."""
    tried: dict[str, tuple[Als | float, Array]] = {}
    for name, setting, values in answered(prepared, before, choosing, grid, seed):
        tried[name] = setting, values.mean(0)
        say(f"{before.name}: {name} {dict(zip(METRICS, values.mean(0).round(4).tolist(), strict=True))}")
    best: dict[str, list[str]] = {}
    for kind in ("als", "ease"):
        for metric in CHOSEN_FOR:
            of_kind = [name for name in tried if name.startswith(kind)]
            name = max(of_kind, key=lambda n: float(tried[n][1][METRICS.index(metric)]))
            best.setdefault(name, []).append(metric)
    settings = [tried[name][0] for name in best]
    chosen = Grid(
        tuple(s for s in settings if isinstance(s, Als)), tuple(s for s in settings if not isinstance(s, Als))
    )
    for name, _, values in answered(prepared, queries.judgements.fold, queries, chosen, seed):
        yield f"{name}, chosen_for {' and '.join(best[name])}", values


def answered(
    prepared: Prepared, fold: Fold, queries: Queries, grid: Grid, seed: int
) -> Iterator[tuple[str, Als | float, Array]]:
    """Fit each setting as of `fold`: its name, the setting, METRICS `[q, 4]` of its answers."""
    matrix = person_item_matrix(prepared.interactions(fold)).tocsc()
    fitted = np.flatnonzero(np.diff(matrix.indptr) > 0)
    chosen, people = matrix[:, fitted].tocsr(), queries.judgements.users
    excluded = [without for _, without in queries.asked]

    def judged(scores: Scores) -> Array:
        return measured(ranked(scores, people, fitted, excluded, DEPTH), queries.relevance)

    for setting in grid.als:
        name = "als " + " ".join(f"{k} {v:g}" for k, v in setting._asdict().items())
        yield name, setting, judged(als(chosen, setting, seed))
    together = gram(chosen)
    for penalty in grid.ease:
        yield f"ease lambda {penalty:g}", penalty, judged(ease(chosen, ease_weights(together, penalty)))


def new_users(queries: Queries, fits: list[Fit]) -> dict[str, Any]:
    """Union and towers for people with at least 10 choices, of whom only the newest n are known."""
    enough = np.flatnonzero(queries.judgements.choices >= _ENOUGH)
    relevance = queries.relevance.only(np.isin(queries.relevance.queries, enough))[0]
    remove, rows = queries.judgements.seen == "remove", {}
    for n in KNOWN_EVENTS:
        asked = [newcomers.truncated(queries.asked[q][0], n, remove) for q in enough]
        found = []
        for f in fits:
            union = f.unite(asked, relevance)
            source = f.source(TOWERS)
            tower = measured([source.scoring(q).top(DEPTH, without)[0] for q, without in asked], relevance)
            found.append(np.column_stack([union.recall, union.measured[:, 3], tower[:, 2:]]))
        names = ("union_recall", "union_recall@500", "towers_recall@100", "towers_recall@500")
        label = f"{_ENOUGH}+" if n is None else str(n)
        rows[label] = named(np.mean(found, axis=0), names, fits[0].config)
        say(f"{label:4} events known: {rows[label]}")
    return {"people": len(enough), "events_known": rows}


def new_items(prepared: Prepared, fold: Fold, configs: list[PipelineConfig], k: int, most: int) -> dict[str, Any]:
    """Recall of items that lost every event, against the full catalogue: the towers' content vectors, and content kNN."""
    from retrieval.towers.train import fit_towers  # TensorFlow

    config = configs[0]
    held = newcomers.held_items(prepared, fold, config.evaluation.seed)
    reduced = newcomers.Without(prepared, held)
    catalogue = np.zeros(len(prepared.item_ids), bool)
    catalogue[prepared.interactions(fold).item] = True
    judgements = judge(prepared, fold, prepared.seen(config.evaluation.seen))
    cases = newcomers.requests(prepared, judgements.only(np.flatnonzero(judgements.main)), held, config, most)
    s = config.sources
    knn = {
        f"content kNN, recency {r:g}": newcomers.ContentKnn(prepared.items, catalogue, s.context_items, r)
        for r in (s.recency, 0.0)
    }
    found = {
        name: [newcomers.found(c, source.scores(c.query), catalogue, k) for c in cases] for name, source in knn.items()
    }
    towers = []
    for other in configs:
        with tempfile.TemporaryDirectory(prefix="aisle-") as folder:
            fit_towers(reduced, fold, adapted(other, decide(reduced, other)), Path(folder), say)
            tower = QueryTower.open(Path(folder))
            vectors = np.array(tower.item_vectors)
            vectors[held] = newcomers.content_vectors(ItemTower.open(Path(folder)), prepared.items, held)
            asked = [tower.vector(c.query) for c in cases]
            scores = (np.zeros(len(vectors)) if v is None else vectors @ v for v in asked)
            towers.append([newcomers.found(c, row, catalogue, k) for c, row in zip(cases, scores, strict=True)])
    values = {"towers": np.mean(towers, axis=0), **{name: np.array(v) for name, v in found.items()}}
    result = {
        "held_items": len(held),
        "catalogue": int(catalogue.sum()),
        "requests": len(cases),
        "k": k,
        "recall": {name: interval(v, config) for name, v in values.items()}
        | {"chance": round(k / int(catalogue.sum()), 4)},
        "towers_by_seed": [round(float(np.mean(t)), 4) for t in towers],
        "towers_minus": {
            name: list(_rounded(_difference(values["towers"], v, config)))
            for name, v in values.items()
            if name != "towers"
        },
    }
    say(json.dumps(result, indent=1))
    return result


def figures(values: Array, config: PipelineConfig) -> dict[str, list[float]]:
    """METRICS `[q, 4]` as mean, low, high."""
    return named(values, METRICS, config)


def named(values: Array, names: tuple[str, ...], config: PipelineConfig) -> dict[str, list[float]]:
    """Columns `[q, m]` as mean, low, high."""
    e = config.evaluation
    found = intervals(values, samples=e.bootstrap_samples, confidence=e.confidence, seed=e.seed)
    return {name: _rounded(i) for name, i in zip(names, found, strict=True)}


def interval(values: Array, config: PipelineConfig) -> list[float]:
    """`[q]` as mean, low, high."""
    return named(values[:, None], ("",), config)[""]


def compared(ours: Array, theirs: Array, config: PipelineConfig) -> dict[str, list[float]]:
    """Paired differences of METRICS `[q, 4]`: mean, low, high."""
    return {m: _rounded(_difference(ours[:, c], theirs[:, c], config)) for c, m in enumerate(METRICS)}


def _difference(ours: Array, theirs: Array, config: PipelineConfig) -> tuple[float, ...]:
    e = config.evaluation
    return difference(ours, theirs, samples=e.bootstrap_samples, confidence=e.confidence, seed=e.seed)


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(v, 4) for v in values]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--protocol", choices=["global", "last"], required=True)
    parser.add_argument("--window", choices=["test", "validation"], default="test")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the towers; default: that of the configuration")
    parser.add_argument("--most", type=int, default=25_000, help="queries at most (a seeded sample)")
    parser.add_argument("--seconds", type=float, default=600.0, help="towers.seconds: no fit should end by the clock")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--als-factors", type=int, nargs="+", default=[64, 256], help="tried on the window before")
    parser.add_argument("--ease-penalties", type=float, nargs="+", default=[100, 300, 1000], help="likewise")
    parser.add_argument("--new-items", action="store_true", help="a tenth of the items added back by attributes only")
    parser.add_argument("--new-users", action="store_true", help="by the number of events seen")
    parser.add_argument("--k", type=int, default=100, help="depth for new items")
    return parser.parse_args()


if __name__ == "__main__":
    main()
