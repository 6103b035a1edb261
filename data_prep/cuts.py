"""Where the timeline is cut, which fold an event is in, and whether the clock is real (core.prepared has the definitions)."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.config import TimeConfig
from core.errors import InputError
from core.prepared import Cuts
from core.schema import DAY
from data_prep.sums import distinct
from data_prep.times import iso

_NEARLY_ALL = 0.99


def find_cuts(labels: Array, start: int, end: int, config: TimeConfig) -> Cuts:
    """The boundaries: quantiles of label times (nearest event, as pandas and numpy have it), made distinct.

    Where quantiles fall on one moment (a day of a synthetic clock), the earlier boundary moves back to the next distinct time
    before the later one: the test window keeps its place, validation and ranker windows go before it.

    Args:
        labels: Times of the positive-gain events of known users, int64 `[n]`, microseconds.
        start: Time of the first event.
        end: One past the time of the last event.
        config: The quantiles.

    Raises:
        InputError: Fewer than four distinct label times up to the test boundary: nothing could be held out.
    """
    times = distinct(labels)
    if len(times) < 4:
        raise InputError(
            f"events: successes of known users fall on {len(times)} distinct times, at least 4 are needed to cut the log into training, "
            "ranker, validation and test windows; add history, or give more event types a gain (data.gains)"
        )
    wanted = [int(np.quantile(labels, q, method="nearest")) for q in (config.ranker, config.validation, config.test)]
    # at least one time must stay below each boundary, and the same for the windows between
    later, cuts = len(times), []
    for n_before, quantile in zip((3, 2, 1), reversed(wanted), strict=True):
        at = min(int(np.searchsorted(times, quantile)), later - 1)
        if at < n_before:
            at = n_before
        cuts.append(at)
        later = at
    test, validation, ranker = (int(times[at]) for at in cuts)
    return Cuts(start=start, ranker=ranker, validation=validation, test=test, end=end)


def describe(cuts: Cuts) -> str:
    """The cuts as one line for people."""
    return (
        f"training from {iso(cuts.start)}, ranker from {iso(cuts.ranker)}, validation from {iso(cuts.validation)}, "
        f"test from {iso(cuts.test)} to {iso(cuts.end - 1)}"
    )


def global_folds(times: Array, cuts: Cuts) -> Array:
    """int8 `[n]`: how many of the boundaries ranker, validation, test are at or before each time.

    >>> global_folds(np.array([0, 10, 19, 20, 35]), Cuts(start=0, ranker=10, validation=20, test=30, end=36))
    array([0, 1, 1, 2, 3], dtype=int8)
    """
    return np.searchsorted(np.array([cuts.ranker, cuts.validation, cuts.test]), times, side="right").astype(np.int8)


def last_folds(users: Array, gains: Array, cut: Array) -> Array:
    """Folds of the protocol `last`.

    The last positive-gain event of a user is in fold 2, the one before in fold 1, the others in 0. An event without gain goes
    with the next positive-gain event of its user, or with the last one where none follows.

    Args:
        users: User rows, ascending, each user's events in order of time, int32 `[n]`.
        gains: float32 `[n]`.
        cut: Whether the user is cut at all (known, not a visitor), bool `[n]`.

    Returns:
        int8 `[n]`; all 0 for users with fewer than 3 positive-gain events, and for those that are not cut.
    """
    folds = np.zeros(len(users), np.int8)
    if len(users) == 0:
        return folds
    positive = gains > 0
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(users)]]))
    before: Array = np.cumsum(positive) - positive  # positive events before this one, over all users
    total = np.add.reduceat(positive.astype(np.int64), starts)
    of_user: Array = before - np.repeat(before[starts], lengths)
    # 0-based place of the positive event that an event goes with, then how many follow it
    place = np.minimum(of_user, np.repeat(total, lengths) - 1)
    left = np.repeat(total, lengths) - 1 - place
    eligible = (np.repeat(total, lengths) >= 3) & cut
    folds[eligible & (left == 0)] = 2
    folds[eligible & (left == 1)] = 1
    return folds


def has_synthetic_time(users: Array, times: Array) -> bool:
    """Whether practically every event comes the same step after its user's one before, all at one time of day.

    Args:
        users: User rows, ascending, int32 `[n]`.
        times: Microseconds, ascending for each user, int64 `[n]`.
    """
    same = users[1:] == users[:-1]
    steps = (times[1:] - times[:-1])[same]
    if len(steps) == 0:
        return False
    clock = times % DAY
    usual = np.median(steps)
    return bool(
        usual > 0 and np.mean(steps == usual) >= _NEARLY_ALL and np.mean(clock == np.median(clock)) >= _NEARLY_ALL
    )
