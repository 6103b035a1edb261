"""Assignment at scale: shares, independence of layers, and what a ramp moves.

    .venv/bin/python -m benchmarks.assignment [--ids 10000000]

Two experiments in two layers, three arms of weights 1, 2 and 1 with a holdout of .1 each, over ids `user-0`, `user-1`, ...; the first one's share of its
layer grows from .2 to .5. `shares`: of each arm, with how many standard errors it is off. `independence`: chi-square of the arms of both experiments over
who is in both, with its degrees of freedom and the chance of so much or more. `moved`: who was
in an arm and is not in the same after the ramp; `taken_in`: who came. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from scipy.stats import chi2

from core.columns import Array
from experiments.assign import Split
from experiments.config import HOLDOUT, Experiment

_ARMS = ("a", "b", "c")
_CODES = {None: -1, HOLDOUT: 3} | {arm: n for n, arm in enumerate(_ARMS)}
_BEFORE, _AFTER = 0.0, 4e15  # microseconds: before and after the ramp


def made(name: str, layer: str, **traffic: Any) -> Experiment:
    """An experiment of three arms."""
    return Experiment.model_validate(
        {
            "name": name,
            "owner": "benchmark",
            "hypothesis": "none",
            "layer": layer,
            "traffic": traffic,
            "arms": {"a": {}, "b": {"weight": 2}, "c": {}},
            "control": "a",
            "holdout": 0.1,
            "primary": {"name": "buys", "events": ["purchase-complete"]},
        }
    )


def arms(experiment: Experiment, ids: int, now: float) -> Array:
    """The arm of each id as a number: int8 `[ids]`, 3 held out, -1 not in it."""
    found, split = np.empty(ids, np.int8), Split(experiment)
    for n in range(ids):
        given = split.assign(f"user-{n}", now)
        found[n] = _CODES[None if given is None else given.arm]
    return found


def shares(found: Array, share: float) -> dict[str, dict[str, float]]:
    """Of each arm among all ids, and how many standard errors from what it should be."""
    expected = {"a": 0.9 / 4, "b": 0.9 / 2, "c": 0.9 / 4, HOLDOUT: 0.1}
    said = {}
    for arm, part in expected.items():
        p, seen = share * part, float(np.mean(found == _CODES[arm]))
        said[arm] = {"share": seen, "errors": round((seen - p) / float(np.sqrt(p * (1 - p) / len(found))), 2)}
    return said


def independence(one: Array, other: Array) -> dict[str, float]:
    """Chi-square of two assignments over who is in both."""
    both = (one >= 0) & (other >= 0)
    table = np.zeros((4, 4))
    np.add.at(table, (one[both], other[both]), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    value = float(((table - expected) ** 2 / expected).sum())
    return {
        "ids": int(both.sum()),
        "chi_square": round(value, 2),
        "degrees": 9,
        "p": round(float(chi2.sf(value, 9)), 4),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=10_000_000)
    ids = parser.parse_args().ids
    ramped = made("ramped", "pages", share=0.2, ramp=[{"at": "2026-01-01", "share": 0.5}])
    began = time.process_time()
    before, after = arms(ramped, ids, _BEFORE), arms(ramped, ids, _AFTER)
    other = arms(made("other", "mail", share=1.0), ids, _BEFORE)
    seconds = time.process_time() - began
    was_in = before >= 0
    figures = {
        "ids": ids,
        "shares_before": shares(before, 0.2),
        "shares_after": shares(after, 0.5),
        "shares_other": shares(other, 1.0),
        "independence": independence(after, other),
        "moved": int(np.count_nonzero(was_in & (before != after))),
        "taken_in": int(np.count_nonzero(~was_in & (after >= 0))),
        "cpu_us_per_assignment": round(1e6 * seconds / (3 * ids), 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
