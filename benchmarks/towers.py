"""The towers alone, by exact search: quality after a fold, seconds to fit, equality with Keras, time of one query.

    python -m benchmarks.towers --work WORK --fold twin [--towers DIR] [--set dropout=0.5]...

Relevant is what people known at the fold chose right after it (evaluation.judgements). Items already seen are removed where the shop sees no
repeats. Without `--towers` they are fitted anew. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.baselines import Queries
from benchmarks.union import DEPTH
from core.config import PipelineConfig, TowersConfig, checked, load_pipeline
from core.history import History, Query
from core.prepared import LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Fold, Prepared
from core.tokens import item_bags, look_up
from core.work import Work
from retrieval.query import QueryTower, TowerSource
from retrieval.towers.export import load_weights
from retrieval.towers.inputs import joined, window
from retrieval.towers.model import Shape, Towers
from retrieval.towers.train import fit_towers

_MOST = 25_000  # queries, a seeded sample
FOLDS = {f.name: f for f in (TRAIN, TWIN, LAST_TRAIN, LAST_TWIN)}


def main() -> None:
    """Fit (or open), measure, print."""
    args = _arguments()
    config = load_pipeline(args.config)
    values = config.towers.model_dump() | {k: yaml.safe_load(v) for k, v in (s.split("=", 1) for s in args.set)}
    config = config.model_copy(update={"towers": checked(TowersConfig, values, "--set")})
    prepared, fold = Prepared(Work(args.work).latest("prepare")), FOLDS[args.fold]
    with tempfile.TemporaryDirectory(prefix="aisle-") as scratch:
        folder, began = args.towers or Path(scratch), time.monotonic()
        if not (folder / "towers.json").exists():
            fit_towers(prepared, fold, config, folder, lambda text: print(text, flush=True), args.warm)
        seconds = time.monotonic() - began
        tower = QueryTower.open(folder)
        result = {
            "work": str(args.work),
            "fold": fold.name,
            "fit_seconds": round(seconds, 1),
            **quality(prepared, fold, tower, config),
        }
        result |= equality(prepared, fold, tower, folder, config.towers)
    print(json.dumps(result))


def quality(prepared: Prepared, fold: Fold, tower: QueryTower, config: PipelineConfig) -> dict[str, float]:
    """HR@10, NDCG@10, recall@100 and @500 of the test queries about the fold after `fold`, as ../shared/acceptance/check.py counts them."""
    queries = Queries(prepared, fold, prepared.seen(config.evaluation.seen), config, _MOST)
    source = TowerSource(tower)
    answers = [source.scoring(query).top(DEPTH, excluded)[0] for query, excluded in queries.asked]
    return {"queries": len(queries), **queries.judged(answers)}


def equality(
    prepared: Prepared, fold: Fold, tower: QueryTower, folder: Path, config: TowersConfig, most: int = 10_000
) -> dict[str, float]:
    """Largest difference between LiteRT and Keras over real histories, and the time of one query on one thread."""
    bags, tokens = item_bags(prepared.items), np.load(folder / "item_tower" / "tokens.npy")
    c = config
    shape = Shape(
        len(prepared.item_ids), len(tokens), c.dimensions, c.events, c.blocks, c.heads, c.dropout, c.id_dropout
    )
    nothing = np.zeros(shape.items)
    towers = Towers(shape, look_up(bags, tokens), nothing > 0, nothing.astype(np.float32), 1, np.random.default_rng(0))
    load_weights(towers, tokens, folder)
    events = prepared.interactions(fold)
    clock = not prepared.synthetic_time
    # prefixes of real histories: one for each of the sampled events
    ends = np.sort(np.random.default_rng(0).permutation(len(events.user))[:most])
    spans = [(int(np.searchsorted(events.user, events.user[e])), int(e) + 1) for e in ends]
    microseconds, got = [], np.empty((len(spans), c.dimensions), np.float32)
    for row, (a, b) in enumerate(spans):
        query = Query(
            time=int(events.time[b - 1]) + 1,
            history=History(events.item[a:b], events.time[a:b], events.type[a:b], events.gain[a:b]),
        )
        start = time.perf_counter_ns()
        vector = tower.vector(query)
        microseconds.append((time.perf_counter_ns() - start) / 1000)
        got[row] = np.nan if vector is None else vector
    worst = 0.0
    for start in range(0, len(spans), 500):
        w = joined(
            [
                window(events.item[a:b], events.type[a:b], events.time[a:b], c.events, clock)
                for a, b in spans[start : start + 500]
            ]
        )
        want = towers.query(tower.item_vectors[w.item], w.type, w.gap, w.segment)[:, -1].numpy()
        worst = max(worst, float(np.abs(want - got[start : start + 500]).max()))
    p50, p99 = np.percentile(microseconds, [50, 99])
    return {"histories": len(spans), "max_error": worst, "query_p50_us": round(p50, 1), "query_p99_us": round(p99, 1)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", choices=sorted(FOLDS), required=True)
    parser.add_argument("--towers", type=Path, help="fitted towers to measure, or where to leave them")
    parser.add_argument("--warm", type=Path, help="towers of an earlier window to begin from")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of `towers`")
    return parser.parse_args()


if __name__ == "__main__":
    main()
