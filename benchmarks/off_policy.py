"""Whether off-policy estimates tell the truth: on the Open Bandit Dataset, and where the truth is known.

    python -m benchmarks.off_policy [--data DIR] [--replications N] [--pages N] [--seed S]

Open Bandit (DIR holds `random` and `bts` as published): what `bts` would earn, estimated from the `random` log alone, with the rate that it had in its own
log; for each campaign, and each position. The policy is how often `bts` showed each item at each position. `covers`: the interval holds the on-policy rate.

Simulation: pages of ten places drawn from 30 items like explored pages of the service (docs/exploration.md), 1 to 3 pages a person, read as its log
is; clicks depend on person, item and place. Judged are the usual order and a draw at steepness 4. `bias` is the mean error by
the true value, `coverage` the share of replications whose 95 % interval holds it; `wrong` is the same with a reward model that knows nothing of items.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import say
from core.columns import Array
from experiments.off_policy import ESTIMATORS, Log, Target, evaluate
from pipeline.explored_log import ExploredPage, Policy, plackett_luce, rows_of, usual
from pipeline.propensity_log import read_log, target_of
from serving.config import load_serving
from serving.plackett_luce import drawn, table, worths

_POOL, _PLACES = 30, 10


def open_bandit(data: Path) -> dict[str, Any]:
    """Each campaign's estimates of `bts`, and what it had."""
    result: dict[str, Any] = {}
    for campaign in ("men", "women"):
        log, items, _ = read_log(data / "random" / campaign / f"{campaign}.csv.gz")
        theirs = data / "bts" / campaign / f"{campaign}.csv.gz"
        own, _, _ = read_log(theirs)
        found = evaluate(log, target_of(log, items, f"log:{theirs}"))
        for place, evaluation in found.items():
            rate = float(own.reward[np.full(len(own.reward), place == "all") | (own.place.astype(str) == place)].mean())
            result[f"{campaign} {place}"] = {
                "on_policy": round(rate, 6),
                "random": round(evaluation.logged, 6),
                "effective": round(evaluation.diagnostics.effective),
                **{
                    name: {
                        "value": round(e.value, 6),
                        "low": round(e.low, 6),
                        "high": round(e.high, 6),
                        "covers": e.low <= rate <= e.high,
                    }
                    for name, e in evaluation.estimates.items()
                },
            }
    return result


def pages_of(rng: np.random.Generator, pages: int, steepness: float) -> tuple[list[ExploredPage], Array]:
    """Explored pages with clicks, and the chance of a click on each item of the pool in each place: float64 `[pages, pool, places]`."""
    propensity = table(_POOL, _PLACES, steepness)
    person = np.repeat(np.arange(pages), rng.integers(1, 4, pages))[:pages]
    eager = rng.gamma(2.0, 0.5, pages)[person]
    liked = np.clip(0.25 * worths(_POOL, 0.5) * np.exp(rng.normal(0, 0.5, (pages, _POOL))), 0, 0.6)
    seen = worths(_PLACES, 0.7)
    chance = np.minimum(eager[:, None, None] * liked[:, :, None] * seen, 0.95)
    made = []
    for n in range(pages):
        order = drawn(worths(_POOL, steepness), rng.random(_POOL))[:_PLACES]
        places = np.arange(_PLACES)
        clicks = rng.random(_PLACES) < chance[n, order, places]
        made.append(
            ExploredPage(
                str(n),
                str(person[n]),
                [str(i) for i in range(_POOL)],
                list(range(1, _PLACES + 1)),
                [str(i) for i in order.tolist()],
                propensity[order, places].tolist(),
                clicks.astype(float).tolist(),
            )
        )
    return made, chance


def simulate(replications: int, pages: int, seed: int) -> dict[str, Any]:
    """Bias and coverage of each estimator for each policy, with the usual reward model and with an ignorant one."""
    steepness = load_serving().exploration.steepness
    policies: dict[str, Policy] = {"usual": usual, "plackett-luce:4": plackett_luce(4.0)}
    errors: dict[tuple[str, str], list[tuple[float, bool, float]]] = {}
    for replication in range(replications):
        made, chance = pages_of(np.random.default_rng([seed, replication]), pages, steepness)
        for name, policy in policies.items():
            truth = float((chance.mean(axis=0) * policy(made[0])).sum() / _PLACES)
            log, target = rows_of(made, policy)
            ignorant = Log(log.reward, log.propensity, log.place, np.zeros_like(log.cell), log.cluster)
            flat = Target(target.chosen, target.rows, np.zeros_like(target.cells), target.chances)
            for model, rows, wanted in (("", log, target), (" wrong", ignorant, flat)):
                for estimator, e in evaluate(rows, wanted)["all"].estimates.items():
                    if not model or estimator in ("dm", "dr"):
                        kept = errors.setdefault((name, estimator + model), [])
                        kept.append((e.value / truth - 1, e.low <= truth <= e.high, (e.high - e.low) / truth / 2))
    return {
        name: {
            estimator: {
                "bias": round(float(np.mean([e for e, _, _ in kept])), 4),
                "coverage": round(float(np.mean([c for _, c, _ in kept])), 4),
                "half_width": round(float(np.mean([w for _, _, w in kept])), 4),
            }
            for (at, estimator), kept in errors.items()
            if at == name
        }
        for name in policies
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/open-bandit"))
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--pages", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    result: dict[str, Any] = {"replications": args.replications, "pages": args.pages, "seed": args.seed}
    if args.data.is_dir():
        result["open_bandit"] = open_bandit(args.data)
        for name, figures in result["open_bandit"].items():
            say(f"{name}: on-policy {figures['on_policy']}, " + ", ".join(f"{e} {figures[e]}" for e in ESTIMATORS))
        covers = {k: all(f[e]["covers"] for e in ESTIMATORS) for k, f in result["open_bandit"].items()}
        result["campaigns_covered"] = all(c for k, c in covers.items() if k.endswith("all"))
        result["places_covered"] = sum(c for k, c in covers.items() if not k.endswith("all"))
    else:
        say(f"{args.data}: not there; without the Open Bandit Dataset only the simulation runs")
    result["simulation"] = simulate(args.replications, args.pages, args.seed)
    for name, by in result["simulation"].items():
        say(f"simulated, {name}: {by}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
