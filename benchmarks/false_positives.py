"""How often an A/A test that is looked at every day finds something, and how soon a true lift is found.

    python -m benchmarks.false_positives [--tests N] [--users N] [--days N] [--seed S]

A/A: users differ in how often they come (gamma), what they click (beta), buy and spend (log-normal); they come back on several days, and are split in
two by chance. Three metrics, relative, with the same metric of 28 days before as covariate: buyers (a rate), spend per user (a mean), clicks per view
(a ratio). A user counts once, seven days after the first visit. Looked at on each of the days:

sequential_N%    the confidence sequence of the reports, alpha .05, planned for a lift of N %; tests of this size can find about 20 %
last_look        the fixed-horizon test of the same figures, once, on the last day: what it is for
users_daily      the same test on every day: the right unit, but peeking
naive_daily      a t-test over daily visits as if each were another user, on every day

Power: views per user, +3 %, until 1.8 times the sample that a fixed-horizon test with the same covariate needs for 80 %, 36 looks. `stopping` is the mean
sample at the first finding, or at the end without one, by the fixed sample. Planned for 3 %, and for half and twice of it, which is a wrong plan.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any, Final

import numpy as np

from benchmarks.baselines import say
from core.columns import Array
from experiments.inference.fixed import p_value
from experiments.inference.moments import Difference, Moments, difference
from experiments.inference.sequential import Mixture
from experiments.plan import information

_ALPHA: Final = 0.05
_BEFORE: Final = 28  # days of the covariate
_WINDOW: Final = 7  # days after the first visit
_VIEWS: Final = 6  # a visit
_CELLS: Final = 2_000_000  # users x days at a time
_LIFT: Final = 0.03
_PLANNED: Final = (0.03, 0.1, 0.2)
_LOOKS: Final = 36
_REACH: Final = 1.8
METRICS: Final = ("buyers", "spend", "clicks_per_view")


def shoppers(rng: np.random.Generator, shape: tuple[int, int], days: int) -> dict[str, Array]:
    """Visits of users `[tests, users, days]` and what they did, and the same of the days before as sums `[tests, users]`."""
    rate = rng.gamma(0.8, 0.35, shape)
    taste, wish = rng.beta(2, 18, shape), rng.beta(1, 12, shape)
    price = np.exp(rng.normal(3, 0.8, shape))
    made: dict[str, Array] = {}
    for name, visits in (
        ("", rng.poisson(rate[..., None], (*shape, days))),
        ("before_", rng.poisson(_BEFORE * rate)),
    ):
        own = [a[..., None] if visits.ndim == 3 else a for a in (taste, wish, price)]
        at = np.nonzero(visits)
        there = visits[at]
        sums: dict[str, Array] = {"visits": visits, "clicks": np.zeros(visits.shape), "bought": np.zeros(visits.shape)}
        sums["clicks"][at] = rng.binomial(there * _VIEWS, np.broadcast_to(own[0], visits.shape)[at])
        sums["bought"][at] = rng.binomial(there, np.broadcast_to(own[1], visits.shape)[at])
        sums["spend"] = sums["bought"] * own[2] * np.exp(rng.normal(0, 0.5, visits.shape))
        made |= {name + what: values for what, values in sums.items()}
    return made


def outcomes(made: dict[str, Array], metric: str, days: int) -> tuple[Array, Array, Array, Array]:
    """Of each user: numerator, denominator, covariate, and the day from which it counts (`days`: never), all `[tests, users]`."""
    seen = made["visits"] > 0
    first = np.where(seen.any(axis=2), seen.argmax(axis=2), days)
    since = np.arange(days) - first[..., None]
    inside = (since >= 0) & (since < _WINDOW)
    window = {what: (made[what] * inside).sum(axis=2) for what in ("visits", "clicks", "bought", "spend")}
    counted = np.minimum(first + _WINDOW, days)
    if metric == "buyers":
        return (window["bought"] > 0) * 1.0, np.ones(first.shape), (made["before_bought"] > 0) * 1.0, counted
    if metric == "spend":
        return window["spend"], np.ones(first.shape), made["before_spend"], counted
    views = made["before_visits"] * _VIEWS
    typical = made["before_clicks"].sum() / views.sum()
    return window["clicks"], window["visits"] * _VIEWS, made["before_clicks"] - typical * views, counted


def daily(y: Array, d: Array, x: Array, day: Array, arm: Array, days: int) -> tuple[Moments, Moments]:
    """Running moments `[tests, days]` of control and treatment, of units that count from a day on."""
    tests = len(y)
    cell = ((np.arange(tests)[:, None] * 2 + arm) * (days + 1) + day).ravel()
    rows = [a.ravel() for a in (y, d, x)]
    size = tests * 2 * (days + 1)
    n = np.bincount(cell, minlength=size).astype(float)
    sums = np.stack([np.bincount(cell, a, size) for a in rows], axis=-1)
    products = np.stack([np.stack([np.bincount(cell, a * b, size) for b in rows], -1) for a in rows], -2)
    shaped = [a.reshape(tests, 2, days + 1, *a.shape[1:])[:, :, :days] for a in (n, sums, products)]
    control, treatment = (Moments(*(a[:, k] for a in shaped)).cumulative(axis=1) for k in (0, 1))
    return control, treatment


def naive(made: dict[str, Array], metric: str, arm: Array, days: int) -> Difference:
    """The t-test over daily visits, each a unit: `[tests, days]`."""
    t, u, day = np.nonzero(made["visits"])
    there = (t, u, day)
    y = {"buyers": (made["bought"] > 0) * 1.0, "spend": made["spend"], "clicks_per_view": made["clicks"]}[metric][there]
    d = made["visits"][there] * _VIEWS if metric == "clicks_per_view" else np.ones(len(t))
    running = []
    for k in (0, 1):
        kept = arm[t, u] == k
        cell, size = t[kept] * days + day[kept], len(arm) * days
        rows = [y[kept], d[kept].astype(float), np.zeros(int(kept.sum()))]
        n = np.bincount(cell, minlength=size).astype(float)
        sums = np.stack([np.bincount(cell, a, size) for a in rows], axis=-1)
        products = np.stack([np.stack([np.bincount(cell, a * b, size) for b in rows], -1) for a in rows], -2)
        shaped = (a.reshape(len(arm), days, *a.shape[1:]) for a in (n, sums, products))
        running.append(Moments(*shaped).cumulative(axis=1))
    return difference(running[1], running[0], relative=False, burn_in=100)


def false_positives(tests: int, users: int, days: int, seed: int) -> dict[str, dict[str, float]]:
    """The share of A/A tests that each way of looking calls changed, by metric."""
    rng = np.random.default_rng(seed)
    calls: dict[str, dict[str, list[Array]]] = {m: {} for m in METRICS}
    step = max(1, _CELLS // (users * days))
    for start in range(0, tests, step):
        some = min(step, tests - start)
        made = shoppers(rng, (some, users), days)
        arm = rng.integers(2, size=(some, users))
        for metric in METRICS:
            control, treatment = daily(*outcomes(made, metric, days), arm, days)
            found = difference(treatment, control, relative=True)
            fixed = p_value(found.effect, found.se) < _ALPHA
            careless = naive(made, metric, arm, days)
            with np.errstate(invalid="ignore"):
                ever = {
                    f"sequential_{lift:.0%}": (
                        np.abs(found.effect) > Mixture.planned(math.log1p(lift)).radius(found.se, _ALPHA)
                    ).any(axis=1)
                    for lift in _PLANNED
                }
                ever |= {
                    "last_look": fixed[:, -1],
                    "users_daily": fixed.any(axis=1),
                    "naive_daily": (p_value(careless.effect, careless.se) < _ALPHA).any(axis=1),
                }
            for name, which in ever.items():
                calls[metric].setdefault(name, []).append(np.asarray(which))
    return {m: {name: round(float(np.concatenate(c).mean()), 4) for name, c in by.items()} for m, by in calls.items()}


def visits_of(rng: np.random.Generator, users: int, lift: float) -> tuple[Array, Array]:
    """Views in the window and before it, float64 `[users]`."""
    rate = rng.gamma(2.0, 1.0, users)
    return rng.poisson(rate * _WINDOW * (1 + lift)).astype(float), rng.poisson(rate * _BEFORE).astype(float)


def power(tests: int, seed: int) -> dict[str, Any]:
    """How often, and how soon, a lift is found by each plan."""
    rng = np.random.default_rng(seed)
    sample = Moments.of(*_without_denominator(visits_of(rng, 1_000_000, 0.0)))
    probe = difference(sample, sample, relative=True)
    needed = information(math.log1p(_LIFT), _ALPHA, 0.8) * float(probe.se**2 * sample.n)  # users of one arm
    batch = math.ceil(_REACH * needed / _LOOKS)
    looks = np.arange(1, _LOOKS + 1) * batch / needed
    plans = {"planned": _LIFT, "planned_for_half": _LIFT / 2, "planned_for_twice": _LIFT * 2}
    stops: dict[str, list[float]] = {name: [] for name in plans}
    covered, fixed = 0, 0
    for _ in range(tests):
        arms = [_running(*visits_of(rng, batch * _LOOKS, lift), batch) for lift in (0.0, _LIFT)]
        found = difference(arms[1], arms[0], relative=True)
        for name, lift in plans.items():
            radius = Mixture.planned(math.log1p(lift)).radius(found.se, _ALPHA)
            with np.errstate(invalid="ignore"):
                sure = np.flatnonzero(found.effect - radius > 0)
            stops[name].append(float(looks[sure[0]]) if len(sure) else math.inf)
            if name == "planned":
                covered += bool(np.all(np.abs(np.nan_to_num(found.effect - math.log1p(_LIFT))) <= radius))
        at = int(np.argmin(np.abs(looks - 1)))
        fixed += bool(p_value(found.effect[at], found.se[at]) < _ALPHA)
    result: dict[str, Any] = {
        "fixed_users": round(2 * needed),
        "variance_kept": round(float(probe.kept), 3),
        "fixed_power": round(fixed / tests, 4),
        "always_covered": round(covered / tests, 4),
    }
    for name, at_look in stops.items():
        result[name] = {
            "power": round(float(np.mean(np.isfinite(at_look))), 4),
            "stopping": round(float(np.minimum(at_look, _REACH).mean()), 4),
        }
    return result


def _without_denominator(of: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    y, x = of
    return y, np.ones(len(y)), x


def _running(y: Array, x: Array, batch: int) -> Moments:
    rows = np.stack([y, np.ones(len(y)), x], axis=1).reshape(-1, batch, 3)
    products = np.einsum("lbi,lbj->lij", rows, rows)
    return Moments(np.full(len(rows), float(batch)), rows.sum(axis=1), products).cumulative(axis=0)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=2_000)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.monotonic()
    aa = false_positives(args.tests, args.users, args.days, args.seed)
    for metric, shares in aa.items():
        say(f"A/A, {metric}: {shares}")
    ab = power(args.tests, args.seed + 1)
    say(f"power: {ab}")
    result = {"tests": args.tests, "users": args.users, "days": args.days, "seed": args.seed}
    print(json.dumps({**result, "a_a": aa, "power": ab, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
