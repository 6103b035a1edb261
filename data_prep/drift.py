"""What is unlike last night in a night's data, one line each: `compare` two profiles (`data_prep.profiles`).

Items and users are held against last night's. Events are held against themselves: the days that are new since last night against the
`baseline_days` before them, pooled, so that every weekday is among them; what the same weekday also had a week before is no change.

Every threshold is a size of effect; besides, the change must be larger than chance makes it. Events come in sessions, not one by one, so
their number of sessions is the size of the sample. For the population stability index chance alone gives about (cells - 1)(1/n + 1/m)
(B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14(4), 2020),
which is taken off.
"""

from __future__ import annotations

from core.config import DriftConfig
from data_prep.drift_events import event_drifts
from data_prep.drift_findings import Drift, Profile
from data_prep.drift_tables import TableDrift

__all__ = ["Drift", "compare"]


def compare(before: Profile | None, now: Profile, config: DriftConfig) -> list[Drift]:
    """Every change beyond its threshold, `stop` first.

    Args:
        before: Last night's profile; None on the first night, of which only the events of the newest day can be judged.
        now: This night's.
        config: The thresholds.
    """
    found = list(event_drifts((before or {}).get("events"), now["events"], config)) if "events" in now else []
    for name in ("items", "users"):
        if before is not None:
            found += TableDrift(name, before[name], now[name], config).changes()
    return sorted(found, key=lambda d: d.level != "stop")
