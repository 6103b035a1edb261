"""The gates before publish: each looks at one thing, and says what it saw whether it passes or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.config import IndexConfig, PipelineConfig
from data_prep.drift import Drift
from pipeline.registry.history import ROLLBACK, Change

TODO: Final = {
    "data": "look at what changed; if it is meant, run with a higher `drift.<measure>.stop`, else mend the feed and run again",
    "freshness": "see why the feed is late or its clock is off, deliver what is missing and run again",
    "volume": "deliver the whole day again under the same file names, or, if the change is real, run with another `gates.fewer_events`",
    "resent": "remove the files that were delivered twice and run again",
    "index-recall": "raise `index.recall_target`, or run with --mode full to build the index anew",
    "canaries": "run with --mode full to build the index anew",
    "answers": "a bug or a damaged artifact: `./aisle releases verify`, then --mode full",
    "popularity": "run with --mode full; if it stays, look at the data of the last days",
    "ndcg": "run with --mode full; if it stays, see what changed in settings and data since the champion",
    "retrieval-recall": "run with --mode full, which lets the towers learn anew",
    "segments": "see the segment in `./aisle evaluate`; if it is meant, raise `gates.segment_fall`",
    "coverage": "see what the pages show in `./aisle evaluate`; if it is meant, raise `gates.coverage_fall`",
    "concentration": "see what the pages show in `./aisle evaluate`; if it is meant, raise `gates.gini_rise`",
    "ranker-inputs": "run with --mode full: sources fitted on tonight's data speak unlike those that the ranker was judged with",
    "rolled-back": "mend what was wrong with it, or make it current by `./aisle releases promote`",
    "smoke": "serve the candidate by hand (its path is above) and look at its log; a busy machine is a reason to run again",
    "time-budget": "run again: what is done is kept; or give more minutes",
}
"""What to do about each gate's refusal; docs/nightly.md says more under the gate's name."""


@dataclass(frozen=True)
class Verdict:
    """What one gate saw: in words, and as the figure that it held against a threshold where there is one."""

    gate: str
    passed: bool
    reason: str
    figure: float | None = None
    threshold: float | None = None

    @property
    def todo(self) -> str | None:
        """What to do about it, where it refused."""
        return None if self.passed else f"{TODO[self.gate]} (docs/nightly.md#{self.gate})"


def judge(metrics: Mapping[str, Any], indexes: Mapping[str, Any], config: PipelineConfig) -> list[Verdict]:
    """Every gate's verdict on the twin's `metrics` (protocol `global`) and on the facts of each index that was built."""
    return [*judge_index(indexes, config.index), _answers(metrics), _popularity(metrics)]


def judge_index(indexes: Mapping[str, Any], config: IndexConfig) -> list[Verdict]:
    """What was measured when each index was built or grown."""
    return [_index(indexes, config)]


def data(drifts: Sequence[Drift]) -> Verdict:
    """Data that changed beyond a threshold of level stop are not learned from. Asked right after `prepare`."""
    stops = [d.line for d in drifts if d.level == "stop"]
    warned = f"{len(drifts)} warnings" if drifts else "like the night before"
    return Verdict("data", not stops, "; ".join(stops) or warned)


def rolled_back(changes: Sequence[Change], candidate: str) -> list[Verdict]:
    """What somebody took back is not published again by a night that finds nothing new."""
    last = changes[-1] if changes else None
    if last is None or last.action != ROLLBACK or last.before != candidate:
        return []
    return [
        Verdict(
            "rolled-back",
            False,
            f"{candidate} was taken back by {last.who} at {last.when}: {last.why or 'no reason given'}",
        )
    ]


def _index(indexes: Mapping[str, Any], config: IndexConfig) -> Verdict:
    """An index that loses too many of the true neighbours of real queries is not served."""
    found = {fold: float(facts[f"recall@{config.k}"]) for fold, facts in sorted(indexes.items())}
    ok = all(recall >= config.recall_floor for recall in found.values())
    shown = ", ".join(f"{fold} {recall:.4f}" for fold, recall in found.items())
    said = f"recall@{config.k} against exact search {shown}, refused below {config.recall_floor}"
    return Verdict("index-recall", ok, said, min(found.values(), default=None), config.recall_floor)


def _answers(metrics: Mapping[str, Any]) -> Verdict:
    """Every test query must have got a page without an item twice. Without queries nothing can be judged, and nothing is refused."""
    queries, wrong = int(metrics["queries"]), int(metrics["unanswered"]) + int(metrics["duplicates"])
    return Verdict(
        "answers", wrong == 0, f"{queries} test queries, {wrong} without an answer or with an item twice", wrong, 0
    )


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
        high,
        0.0,
    )
