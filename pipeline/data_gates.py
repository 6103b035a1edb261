"""Gates that are asked right after `prepare`: what cannot be trusted is not learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import artifact
from core.config import DriftConfig, GatesConfig
from core.prepared import Prepared
from core.schema import HOUR, SECOND
from data_prep import drift_events, profiles
from data_prep.validate import DUPLICATE_ID, RESEND
from pipeline.gates import Verdict

_FEWEST: Final = 100  # rows; fewer say nothing of a feed


def judge(before: Path | None, prepared: Path, now: float, gates: GatesConfig, config: DriftConfig) -> list[Verdict]:
    """What the gates of the data see.

    Args:
        before: The prepared data set behind the champion, or the last one without a champion; None: there is none.
        prepared: Tonight's.
        now: The clock of the night, seconds since the epoch.
        gates: The thresholds.
        config: What the days before promise.
    """
    data = Prepared(prepared)
    found = [] if data.synthetic_time else [*_freshness(data, now, gates), *_volume(before, prepared, gates, config)]
    return found + (_resent(before, data, gates) if before is not None else [])


def _freshness(data: Prepared, now: float, gates: GatesConfig) -> list[Verdict]:
    """How old the newest event is; an event of tomorrow is a wrong clock."""
    newest = data.cuts.end - 1
    hours = (now * SECOND - newest) / HOUR
    at = f"the newest event is of {np.datetime64(newest, 'us').astype('datetime64[s]')} UTC"
    if gates.ahead_hours is not None and hours < -gates.ahead_hours:
        reason = f"{at}, {-hours:.1f} h ahead of the clock, refused beyond {gates.ahead_hours:g} h"
        return [Verdict("freshness", False, reason, -hours, gates.ahead_hours)]
    if gates.freshness_hours is None:
        return []
    reason = f"{at}, {max(0.0, hours):.1f} h old, refused beyond {gates.freshness_hours:g} h"
    return [Verdict("freshness", hours <= gates.freshness_hours, reason, hours, gates.freshness_hours)]


def _volume(before: Path | None, prepared: Path, gates: GatesConfig, config: DriftConfig) -> list[Verdict]:
    """Far fewer events than usual are half a feed; far more may be every event twice."""
    now = profiles.load(prepared)
    if before is None or not now or "events" not in now:
        return []  # a first night knows no feed: whatever its last day is like, the log is what there is
    found = drift_events.volume((profiles.load(before) or {}).get("events"), now["events"], config)
    if found is None:
        return []
    few = gates.fewer_events is not None and 1 / found.factor > gates.fewer_events
    many = gates.more_events is not None and found.factor > gates.more_events
    threshold = gates.more_events if found.factor > 1 else gates.fewer_events
    times = f"{found.factor:.1f} times as many" if found.factor > 1 else f"{1 / found.factor:.1f} times fewer"
    limit = "never refused" if threshold is None else f"refused beyond {threshold:g} times"
    reason = f"{found.line}: {times}, {limit}"
    return [Verdict("volume", not (found.sure and (few or many)), reason, round(found.factor, 3), threshold)]


def _resent(before: Path, data: Prepared, gates: GatesConfig) -> list[Verdict]:
    """Of the rows that are new since the champion, those that had come before already."""
    earlier = artifact.read_manifest(before)
    if gates.resent_share is None or earlier.id == data.manifest.id:
        return []
    again = _again(data.manifest.about) - _again(earlier.about)
    new = int(data.manifest.about["counts"]["events"]) - int(earlier.about["counts"]["events"])
    if again + max(0, new) < _FEWEST or again < 0:
        return []
    share = again / (again + max(0, new))
    reason = f"{share:.1%} of {again + max(0, new):,} new rows had come before, refused beyond {gates.resent_share:.0%}"
    return [Verdict("resent", share <= gates.resent_share, reason, round(share, 4), gates.resent_share)]


def _again(about: Mapping[str, Any]) -> int:
    rejected = about["rejected"]["events"]
    return sum(int(rejected.get(reason, 0)) for reason in (DUPLICATE_ID, RESEND))
