"""What the past says about an experiment to come: who would have been in it, how much a metric varies, and how much of that is habit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.errors import InputError
from core.prepared import Prepared
from core.schema import DAY, Column, EventType
from experiments.inference.moments import Moments, difference

SINCE_DAYS: Final = 28  # of people's arrivals, and as many before them of their habits
PLANNED: Final = {
    "conversion": EventType.PURCHASE_COMPLETE,
    "purchases": EventType.PURCHASE_COMPLETE,
    "clicks": EventType.CLICK,
}


@dataclass(frozen=True)
class Past:
    """Of the people of the last days."""

    value: float  # the metric's
    spread: float  # squared coefficient of variation, as the covariate leaves it
    kept: float  # share of it that the covariate left
    arrived: Array  # float64 [days]: different people by the end of each day


def past(prepared: Prepared, metric: str, window_days: float) -> Past:
    """Measure a metric as an experiment would.

    Args:
        prepared: The shop's events.
        metric: `conversion`, `purchases` or `clicks`.
        window_days: The attribution window.

    Raises:
        InputError: The events are too short for it, have no success of that kind, or an invented clock.
    """
    if prepared.synthetic_time:
        raise InputError("the times of these events are invented: give --baseline and --traffic instead of --work")
    user, time, kind = (np.asarray(prepared.events.numbers(c)) for c in (Column.USER, Column.TIME, Column.TYPE))
    end, window = int(time.max()) + 1, int(window_days * DAY)
    since = end - window - SINCE_DAYS * DAY
    if since - SINCE_DAYS * DAY < int(time.min()):
        raise InputError(
            f"the events span {(end - int(time.min())) / DAY:.0f} days; expected {2 * SINCE_DAYS + window_days:g} at least, or --baseline and --traffic"
        )
    success = kind == PLANNED[metric].code
    inside = (time >= since) & (time < end - window)
    people, first = _first(user[inside], time[inside])
    at = np.searchsorted(people, user)
    known = at < len(people)
    known[known] = people[at[known]] == user[known]
    at, when, good = at[known], time[known], success[known]
    y = np.bincount(at[good & (when >= first[at]) & (when < first[at] + window)], minlength=len(people)).astype(float)
    x = np.bincount(at[good & (when < first[at]) & (when >= first[at] - SINCE_DAYS * DAY)], minlength=len(people))
    if metric == "conversion":
        y, x = (y > 0) * 1.0, (x > 0) * 1
    moments = Moments.of(y, None, x)
    if not y.any():
        raise InputError(f"nobody has a success for {metric} in the last {SINCE_DAYS} days: give --baseline")
    halves = difference(moments, moments, relative=True, burn_in=0)  # variance 2 x spread / n
    days = np.sort((first - since) // DAY)
    arrived = np.searchsorted(days, np.arange(SINCE_DAYS), side="right").astype(float)
    return Past(float(moments.value), float(halves.se**2 * moments.n / 2), float(halves.kept), arrived)


def days_for(units: float, arrived: Array, share: float) -> float:
    """Days until a share of people has brought so many units; after the days that were seen new people come as in their second half."""
    reached = arrived * share
    if reached[-1] >= units:
        return float(np.argmax(reached >= units) + 1)
    half = len(reached) // 2
    rate = (reached[-1] - reached[half - 1]) / (len(reached) - half)
    return len(reached) + (units - reached[-1]) / rate if rate > 0 else float("inf")


def _first(user: Array, time: Array) -> tuple[Array, Array]:
    """Different users, rising, and the first time of each."""
    order = np.lexsort((time, user))
    people, at = np.unique(user[order], return_index=True)
    return people, time[order][at]
