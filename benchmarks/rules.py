"""What rules and filters cost a request: the whole stage over 500 candidates, and making the masks of a catalogue.

    .venv/bin/python -m benchmarks.rules                     # 1,000,000 items, 500 candidates, rules of every kind
    .venv/bin/python -m benchmarks.rules --items 10000000

A release in memory with made-up brands, categories, prices, stock and vectors of 64 numbers. `stage` is `serving.rules.arrange.arrange`, all that rules do
to a page after the ranker: by the times of the wall, and by those of the CPU (of this thread), which a busy machine does not lengthen. Every round has
other candidates. `one_kind` is the same with the rules of one kind alone; `bind` the first request after the items changed, `mask` a new filter.
The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.artifact import Manifest
from core.columns import AnyColumn, Array, Coded, Columns, Texts
from core.history import History, Query
from core.ids import IdMap
from core.release import FORMAT_VERSION, KIND, ReleaseSettings
from core.schema import DAY, Column, EventType
from serving.filters.masks import Masks
from serving.release import Release
from serving.rules.arrange import arrange
from serving.rules.bound import PageRules, bound
from serving.rules.load import Rule
from serving.rules.schema import KINDS
from serving.rules.similarity import of_vectors

_SEED: Final = 7
_END: Final = 1_760_000_000_000_000
_CANDIDATES: Final = 500
_DIMENSIONS: Final = 64
_PAGES: Final = (10, 24, 100)
_WARM_UP: Final = 50
_FILTERS: Final = (
    'brand = "brand-3"',
    'category UNDER "department-1" AND price IN [10..50)',
    'NOT brand IN ("brand-1", "brand-2") AND (stock > 3 OR age_days < 30)',
)
_RULES: Final[tuple[dict[str, Any], ...]] = (
    {"kind": "hide", "where": 'brand = "brand-9"'},
    {"kind": "boost", "where": 'category UNDER "department-2" AND price < 50', "places": 10},
    {"kind": "boost", "where": 'brand IN ("brand-4", "brand-5", "brand-6", "brand-7", "brand-8")', "places": 3},
    {"kind": "bury", "where": "price > 90", "places": 20},
    {"kind": "freshness", "places": 20, "half_life_days": 14},
    {"kind": "price-band", "least": 0.5, "most": 2.0, "times_price_of": "history", "places": 15},
    {"kind": "low-stock", "below": 2, "places": "all"},
    {"kind": "fatigue", "after": 2, "days": 7, "places": 10},
    {"kind": "pin", "item": "17", "at": 1},
    {"kind": "pin", "item": "23", "at": 5},
    {"kind": "sponsor", "where": 'brand = "brand-11"', "share": 0.1},
    {"kind": "cap", "by": "brand", "most": 2, "window": 8},
    {"kind": "cap", "by": "category", "levels": 1, "share": 0.4},
    {"kind": "cap", "by": "item_group_id", "most": 1},
    {"kind": "diversify", "by": "category", "level": 0.3, "first": 24},
)


def made_shop(items: int) -> Release:
    """A release without sources, most popular item first."""
    rng = np.random.default_rng(_SEED)

    def coded(names: list[str], skew: float) -> Coded:
        ordered = sorted(names)
        weight = np.arange(1, len(ordered) + 1.0) ** -skew
        return Coded(rng.choice(len(ordered), items, p=weight / weight.sum()).astype(np.int32), Texts.of(ordered))

    paths = [f"department-{d} > aisle-{a} > shelf-{s}" for d in range(8) for a in range(10) for s in range(10)]
    columns: dict[str, AnyColumn] = {
        Column.BRAND: coded([f"brand-{n}" for n in range(500)], 1.0),
        Column.CATEGORY: coded(paths, 0.5),
        Column.ITEM_GROUP_ID: Coded(
            (np.arange(items) // 3).astype(np.int32), Texts.of(f"{n:08}" for n in range(items // 3 + 1))
        ),
        Column.PRICE: rng.gamma(2, 20, items).astype(np.float32),
        Column.STOCK: rng.poisson(8, items).astype(np.float32),
        Column.CREATED_AT: _END - rng.integers(0, 400 * DAY, items),
        Column.AVAILABLE: np.ones(items, bool),
    }
    settings = ReleaseSettings(
        quotas={},
        weights={},
        history_events=100,
        warm_events=3,
        candidates=500,
        gains={EventType.PURCHASE_COMPLETE: 1.0},
    )
    about = {"window": [_END - DAY, _END], "user_state": ""}
    return Release(
        Path("made"),
        Manifest(kind=KIND, format_version=FORMAT_VERSION, id="made", about=about),
        settings,
        IdMap.of(map(str, range(items))),
        Columns(columns, items),
        (),
        None,
        None,
        {},
        np.ones(items, bool),
        np.arange(items, dtype=np.int32),
    )


def rules_of(kinds: set[str] | None = None) -> list[Rule]:
    """The rules, or those of some kinds."""
    found = []
    for n, keys in enumerate(_RULES):
        if kinds is None or keys["kind"] in kinds:
            spec = KINDS[keys["kind"]].model_validate({"name": f"rule-{n}", **keys})
            found.append(Rule(spec, "made.yaml", n, *spec.in_force))
    return found


def stage(rules: PageRules, items: int, k: int, rounds: int) -> dict[str, float]:
    """Percentiles of the arrangement of a page of k, milliseconds."""
    rng = np.random.default_rng(_SEED)
    wall, cpu = np.empty(rounds), np.empty(rounds)
    for at in range(-_WARM_UP, rounds):
        line = _line(rng, items, [row for _, _, row in rules.pins])
        query = _query(rng, items, line)
        began, used = time.perf_counter_ns(), time.thread_time_ns()
        arranged = arrange(rules, query, line, len(line), k)
        if at >= 0:
            cpu[at], wall[at] = time.thread_time_ns() - used, time.perf_counter_ns() - began
        assert len(arranged.page) == k
    return {
        f"{name}_p{p}_ms": round(float(np.percentile(taken, p)) / 1e6, 4)
        for name, taken in (("wall", wall), ("cpu", cpu))
        for p in (50, 99)
    }


def _line(rng: np.random.Generator, items: int, pinned: list[int]) -> Array:
    """Candidates in an order by chance, pinned ones among them."""
    drawn = np.setdiff1d(rng.integers(0, items, 2 * _CANDIDATES), pinned)
    rng.shuffle(drawn)
    line = np.concatenate([pinned, drawn[: _CANDIDATES - len(pinned)]]).astype(np.int32)
    rng.shuffle(line)
    return line


def _query(rng: np.random.Generator, items: int, line: Array) -> Query:
    """Somebody with 50 purchases, who was shown 40 of the candidates lately."""
    rows = np.concatenate([rng.integers(0, items, 50), line[:40]]).astype(np.int32)
    kinds = np.repeat([EventType.PURCHASE_COMPLETE.code, EventType.IMPRESSION.code], (50, 40)).astype(np.int8)
    times = np.sort(_END - rng.integers(0, 7 * DAY, 90))
    return Query(_END, history=History(rows, times, kinds, np.repeat([1, 0], (50, 40)).astype(np.float32)))


def once(work: Callable[[], Any]) -> float:
    """Milliseconds of the CPU, the least of three."""
    taken = []
    for _ in range(3):
        began = time.thread_time_ns()
        work()
        taken.append((time.thread_time_ns() - began) / 1e6)
    return round(min(taken), 2)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2_000)
    given = parser.parse_args()
    release = made_shop(given.items)
    every = bound(rules_of(), release, _END)
    assert not every.problems
    vectors = np.random.default_rng(_SEED).normal(size=(given.items, _DIMENSIONS)).astype(np.float32)
    assert every.diversify is not None
    by_vectors = replace(every, diversify=(*every.diversify[:2], of_vectors(vectors)))
    kinds = sorted({str(keys["kind"]) for keys in _RULES} - {"hide"})
    print(
        json.dumps(
            {
                "items": given.items,
                "candidates": _CANDIDATES,
                "rules": len(_RULES),
                "stage": {f"page_{k}": stage(every, given.items, k, given.rounds) for k in _PAGES},
                "stage_by_vectors": {f"page_{k}": stage(by_vectors, given.items, k, given.rounds) for k in _PAGES},
                "one_kind_cpu_p50_ms": {
                    kind: stage(bound(rules_of({kind}), release, _END), given.items, 24, max(given.rounds // 10, 1))[
                        "cpu_p50_ms"
                    ]
                    for kind in kinds
                },
                "bind_ms": once(lambda: bound(rules_of(), release, _END)),
                "mask_ms": {text: once(lambda text=text: Masks().of(text, release, _END)) for text in _FILTERS},  # type: ignore[misc]
            }
        )
    )


if __name__ == "__main__":
    main()
