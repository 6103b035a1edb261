"""The gates before publish: each looks at one thing, and says what it saw whether it passes or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What one gate saw."""

    gate: str
    passed: bool
    reason: str


def judge(metrics: Mapping[str, Any]) -> list[Verdict]:
    """Every gate's verdict on the twin's `metrics` (protocol `global`)."""
    return [_answers(metrics), _popularity(metrics)]


def _answers(metrics: Mapping[str, Any]) -> Verdict:
    """Every test query must have got a page without an item twice. Without queries nothing can be judged, and nothing is refused."""
    queries, wrong = int(metrics["queries"]), int(metrics["unanswered"]) + int(metrics["duplicates"])
    return Verdict("answers", wrong == 0, f"{queries} test queries, {wrong} without an answer or with an item twice")


def _popularity(metrics: Mapping[str, Any]) -> Verdict:
    """A page worse than the plain best-seller list, beyond doubt, is not worth serving."""
    if not metrics["queries"]:
        return Verdict("popularity", True, "no test queries: not judged")
    difference = metrics["baselines"]["popularity"]["ndcg@10_difference"]
    ok = difference["high"] >= 0
    low, high = difference["low"], difference["high"]
    return Verdict(
        "popularity",
        ok,
        f"NDCG@10 against popularity {difference['mean']:+.4f}, interval {low:+.4f} to {high:+.4f}, refused below 0",
    )
