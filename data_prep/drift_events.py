"""Changes in the days of events that are new since last night, held against the days before them.

What is as it was on the same weekday of the weeks before is no change. Events come in sessions, not one by one, so the number of sessions is the
size of the sample.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.config import DriftConfig
from data_prep.distances import DEVIATIONS, median, psi, psi_of_chance
from data_prep.drift_findings import Drift, Profile, Sample, drift, mover, number_drifts

_GROWN: Final = 1.1  # a day with this many times the events that it had last night was not over then
_LEAST_DAYS: Final = 3
_WEEKS: Final = (1, 2)  # back, whose weekdays say what a weekday is like; profiles.DAYS has so many


def new_days(before: Profile | None, now: Profile) -> list[str]:
    """The calendar days (ISO) of `now` that last night did not know, or knew only a part of; the newest alone on a first night."""
    last = dt.date.fromisoformat(now["last"])
    if before is None:
        return [now["last"]]
    known = dt.date.fromisoformat(before["last"])
    first = known + dt.timedelta(days=1)
    counts = [sum(p["days"].get(before["last"], {}).get("types", {}).values()) for p in (before, now)]
    if counts[1] > _GROWN * counts[0]:
        first = known
    return [(first + dt.timedelta(days=k)).isoformat() for k in range((last - first).days + 1)]


@dataclass(frozen=True)
class _Pool:
    """Some days of events together."""

    days: list[str]
    profile: Profile

    def type_counts(self, *, until_clock: bool = False) -> Counter[str]:
        """Events by type; `until_clock`: of every day only those up to the newest event's time of day."""
        found: Counter[str] = Counter()
        for d in self.days:
            whole = self.profile["days"].get(d, {}).get("types", {})
            found.update(self.profile["until_clock"].get(d, {}) if until_clock else whole)
        return found

    def sessions(self) -> int:
        """Sessions, a day each."""
        return sum(self.profile["days"].get(d, {}).get("sessions", 0) for d in self.days)

    def sample(self, column: str) -> Sample:
        """A number column of these days."""
        rows = self.type_counts().total()
        bins: Counter[str] = Counter()
        nulls = given = 0
        for d in self.days:
            found = self.profile["days"].get(d, {})
            has = found.get("columns", {}).get(column)
            nulls += has["nulls"] if has else sum(found.get("types", {}).values())
            given += has["sessions"] if has else 0
            bins.update(has["bins"] if has else {})
        return Sample(rows, nulls, dict(bins), self.sessions(), given, median(bins))


def event_drifts(before: Profile | None, now: Profile, config: DriftConfig) -> Iterator[Drift]:
    """Stopped types, volumes, the mix of types and every number column of the new days; nothing while there are too few days before them.

    Args:
        before: `events` of last night's profile; None: there was no night, and the newest day alone is new.
        now: `events` of this night's.
        config: The thresholds.
    """
    fresh = new_days(before, now)
    if not fresh:
        return
    earliest = max(min(now["days"]), _shifted(now["first"], 1))  # the log's first day may be half a day
    usual = [d for k in range(config.baseline_days, 0, -1) if (d := _shifted(fresh[0], -k)) >= earliest]
    if len(usual) < _LEAST_DAYS:
        return
    new, old = _Pool(fresh, now), _Pool(usual, now)
    stopped = list(_stopped(new, old, config))
    yield from stopped
    volumes = list(_volumes(new, old, earliest, {d.column for d in stopped}, config))
    yield from volumes
    then = f"the {len(usual)} days before"
    mix = [] if stopped or volumes else list(_type_mix(new, old, config, then))
    yield from mix
    for column in sorted({c for d in (*fresh, *usual) for c in now["days"].get(d, {}).get("columns", {})}):
        for found in number_drifts("events", column, old.sample(column), new.sample(column), config, then):
            # purchases have a price and impressions a position: where the types are others, so are the missing values
            if found.measure != "nulls" or not (stopped or volumes or mix):
                yield found


@dataclass(frozen=True)
class Volume:
    """Events on the new days against what the days before promise."""

    here: int
    expected: float
    factor: float  # here / expected or, where that is nearer to 1, against the same weekdays of the weeks before
    sure: bool  # beyond what chance makes
    line: str


def volume(before: Profile | None, now: Profile, config: DriftConfig) -> Volume | None:
    """How many events the new days have; arguments as of `event_drifts`. None: no new day, or too little to promise anything."""
    fresh = new_days(before, now)
    if not fresh:
        return None
    earliest = max(min(now["days"]), _shifted(now["first"], 1))
    usual = [d for k in range(config.baseline_days, 0, -1) if (d := _shifted(fresh[0], -k)) >= earliest]
    if len(usual) < _LEAST_DAYS:
        return None
    new, old = _Pool(fresh, now), _Pool(usual, now)
    here, expected = new.type_counts().total(), sum(_expected(new, old, d, None) for d in fresh)
    promises = [expected, *_promised_by_weekdays(new, earliest, None)]
    factors = [max(here, 0.5) / max(p, 0.5) for p in promises]
    nearest = min(factors, key=lambda f: abs(np.log(f)))
    crowd = 1 + 2 * old.type_counts().total() / max(1, old.sessions())
    sure = max(here, expected) >= config.min_count and abs(here - expected) > DEVIATIONS * np.sqrt(expected * crowd)
    when = fresh[0] if len(fresh) == 1 else f"{fresh[0]} to {fresh[-1]}"
    line = f"{here:,} events on {when}, about {expected:,.0f} expected from the {len(usual)} days before"
    return Volume(here, expected, float(nearest), bool(sure), line)


def _shifted(day: str, by: int) -> str:
    return (dt.date.fromisoformat(day) + dt.timedelta(days=by)).isoformat()


def _a_day(counts: Counter[str], days: int, type_: str | None) -> float:
    return (counts.total() if type_ is None else counts[type_]) / days


def _expected(new: _Pool, old: _Pool, day: str, type_: str | None) -> float:
    """Events of a type (None: of all) that the days before promise for a new day, the newest up to where the log ends."""
    counts = old.type_counts(until_clock=day == new.profile["last"])
    return _a_day(counts, len(old.days), type_)


def _week_before(new: _Pool, old: _Pool, day: str, type_: str | None) -> float | None:
    """The same on the same weekday a week before, if that is among the days before."""
    earlier = _shifted(day, -7)
    return _expected(new, _Pool([earlier], old.profile), day, type_) if earlier in old.days else None


def _promised_by_weekdays(new: _Pool, earliest: str, type_: str | None) -> list[float]:
    """Events that the same weekdays of the weeks before promise for all new days; empty where a new day has none to go by.

    Of two weeks where the log has them: one quiet Wednesday is no habit, and would excuse half a feed on the next.
    """
    promises = []
    for day in new.days:
        same = [d for k in _WEEKS if earliest <= (d := _shifted(day, -7 * k)) < new.days[0]]
        if not same:
            return []
        promises.append(_expected(new, _Pool(same, new.profile), day, type_))
    return [sum(promises)]


def _stopped(new: _Pool, old: _Pool, config: DriftConfig) -> Iterator[Drift]:
    """New days without any event, or without one of a type; `column` is the type."""
    for day in new.days:
        today = _Pool([day], new.profile).type_counts()
        kinds: list[str | None] = [None] if not today else [t for t in sorted(old.type_counts()) if not today[t]]
        for type_ in kinds:
            expected = _expected(new, old, day, type_)
            if _week_before(new, old, day, type_) != 0.0 and expected >= config.min_count:
                usual = _a_day(old.type_counts(), len(old.days), type_)
                line = f"events: no {type_ or 'event at all'} on {day}, {usual:,.0f} a day before"
                yield from drift("events", type_ or "", "stopped", expected, config.stopped, line)


def _volumes(new: _Pool, old: _Pool, earliest: str, stopped: set[str], config: DriftConfig) -> Iterator[Drift]:
    """Many more or many fewer events than expected: of all or, where that is as ever, of a type that still comes."""
    if "" in stopped:
        return
    found = list(_volume(new, old, earliest, None, config))
    yield from found
    for type_ in () if found else sorted(set(old.type_counts()) - stopped):
        yield from _volume(new, old, earliest, type_, config)


def _volume(new: _Pool, old: _Pool, earliest: str, type_: str | None, config: DriftConfig) -> Iterator[Drift]:
    counts = new.type_counts()
    here = counts.total() if type_ is None else counts[type_]
    expected = sum(_expected(new, old, d, type_) for d in new.days)
    promises = [expected, *_promised_by_weekdays(new, earliest, type_)]
    # events come by the session; the variance of a sum of sessions that are as unlike as waiting times is twice a session's size times the sum
    crowd = 1 + 2 * old.type_counts().total() / max(1, old.sessions())
    if max(here, expected) < config.min_count or abs(here - expected) <= DEVIATIONS * np.sqrt(expected * crowd):
        return
    factor = min(max(here, p) / max(1.0, min(here, p)) for p in promises)
    when = new.days[0] if len(new.days) == 1 else f"{new.days[0]} to {new.days[-1]}"
    line = f"events: {here:,} {type_ or 'in all'} on {when}, about {expected:,.0f} expected from the {len(old.days)} days before"
    yield from drift("events", type_ or "", "volume", factor, config.volume, line)


def _type_mix(new: _Pool, old: _Pool, config: DriftConfig, then: str) -> Iterator[Drift]:
    """Event types in other shares than on the days before and, where those are there, on the same weekdays a week before."""
    week = _Pool([d for k in new.days if (d := _shifted(k, -7)) in old.days], old.profile)
    pools = [old, week] if len(week.days) == len(new.days) else [old]
    b, m = new.type_counts(), new.sessions()
    values = []
    for pool in pools:
        a, n = pool.type_counts(), pool.sessions()
        types = sorted(a | b)
        if len(types) < 2 or min(n, m) < config.min_count:
            return
        value = psi([a[t] for t in types], [b[t] for t in types], n, m)
        if pool is old and value <= psi_of_chance(len(types), n, m):
            return
        values.append(value)
    a = old.type_counts()
    most = mover({t: (a[t], b[t]) for t in sorted(a | b)}, a.total(), b.total())
    line = f"events.event_type: mixed unlike {then} (PSI {min(values):.2f} > {{limit}}): {most}"
    yield from drift("events", "event_type", "psi", min(values), config.psi, line)
