"""The gates before publish: each looks at one thing, and says what it saw whether it passes or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.config import IndexConfig, PipelineConfig
from data_prep.drift import Drift


@dataclass(frozen=True)
class Verdict:
    """What one gate saw."""

    gate: str
    passed: bool
    reason: str


def judge(metrics: Mapping[str, Any], indexes: Mapping[str, Any], config: PipelineConfig) -> list[Verdict]:
    """Every gate's verdict on the twin's `metrics` (protocol `global`) and on the facts of each index that was built."""
    return [_index(indexes, config.index), _answers(metrics), _popularity(metrics)]


def data(drifts: Sequence[Drift]) -> Verdict:
    """Data that changed beyond a threshold of level stop are not learned from. Asked right after `prepare`."""
    stops = [d.line for d in drifts if d.level == "stop"]
    warned = f"{len(drifts)} warnings" if drifts else "like the night before"
    return Verdict("data", not stops, "; ".join(stops) or warned)


def _index(indexes: Mapping[str, Any], config: IndexConfig) -> Verdict:
    """An index that loses too many of the true neighbours of real queries is not served."""
    found = {fold: float(facts[f"recall@{config.k}"]) for fold, facts in sorted(indexes.items())}
    ok = all(recall >= config.recall_floor for recall in found.values())
    shown = ", ".join(f"{fold} {recall:.4f}" for fold, recall in found.items())
    return Verdict(
        "index-recall", ok, f"recall@{config.k} against exact search {shown}, refused below {config.recall_floor}"
    )


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
