"""Session numbers: what the shop calls a session, else runs of a person's events without a long pause.

Where the log's clock is coarse a pause says nothing: events of one day that all stand at midnight have none, and the next day's are a
whole day away. There, a session is what a person does within a window of the session's first event.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from core.columns import Array
from core.schema import DAY, HOUR, MICROSECOND, MINUTE, SECOND

NO_SESSION = 0  # in `given`: the shop sent none
_CHUNK: Final = 1 << 20  # times looked at together
_STEPS: Final = (DAY, HOUR, MINUTE, SECOND)


def resolution(times: Array) -> int:
    """The step of the log's clock: the longest of a day, hour, minute, second or microsecond that lies between all times.

    Where the steps begin does not matter (midnight of a shop's own time zone is 22:00 UTC), as long as it is the same for all.

    Args:
        times: Microseconds in any order, int64 `[n]`; a memory-mapped column is read in pieces.

    Returns:
        Microseconds.
    """
    steps = list(_STEPS)
    for begin in range(0, len(times), _CHUNK):
        away = np.asarray(times[begin : begin + _CHUNK]) - times[0]
        while steps and np.any(away % steps[0]):
            del steps[0]  # each step is a multiple of the next
        if not steps:
            break
    return steps[0] if steps else MICROSECOND


def window_for(times: Array, window: int) -> int | None:
    """`window` where the clock of `times` is an hour or coarser, None where pauses can be told: the argument of `session_numbers`."""
    return window if resolution(times) >= HOUR else None


def session_numbers(
    users: Array, times: Array, given: Array, gap: int, first: int, *, window: int | None = None
) -> Array:
    """Dense session numbers from `first`, in the order in which sessions begin.

    Events with a session id belong together when user and id are equal, whatever lies between them. Events without one make
    sessions among themselves: a new one begins when the user's previous such event is more than `gap` before or, with a `window`,
    when the session's first event is `window` or more before.

    Args:
        users: User rows, ascending, int32 `[n]`; all events of a user are here.
        times: Microseconds, ascending for each user, int64 `[n]`.
        given: Hash of the shop's session id, NO_SESSION where there is none, int64 `[n]`.
        gap: Microseconds.
        first: The first number to use.
        window: Microseconds, for a coarse clock (`window_for`); `gap` is then not looked at.

    Returns:
        int64 `[n]`.
    """
    opener = np.arange(len(users))  # position of the event that opened this event's session
    own = np.flatnonzero(given == NO_SESSION)
    if len(own):
        begins = (
            _after_pauses(users[own], times[own], gap) if window is None else _windows(users[own], times[own], window)
        )
        opener[own] = own[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    named = np.flatnonzero(given != NO_SESSION)
    if len(named):
        order = named[np.lexsort((named, given[named], users[named]))]
        u, g = users[order], given[order]
        begins = np.concatenate([[True], (u[1:] != u[:-1]) | (g[1:] != g[:-1])])
        opener[order] = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    opens = opener == np.arange(len(users))
    return (first + np.cumsum(opens) - 1)[opener].astype(np.int64)


def _after_pauses(users: Array, times: Array, gap: int) -> Array:
    """Whether each event begins a session, bool `[n]`: the first of a user, and every one after a pause of more than `gap`."""
    return np.concatenate([[True], (users[1:] != users[:-1]) | (times[1:] - times[:-1] > gap)])


def _windows(users: Array, times: Array, window: int) -> Array:
    """Whether each event begins a session, bool `[n]`: the first of a user, and the first that is `window` or more after the last one to begin."""
    # One clock over all users: a pause of a window or more ends a session however long it is, so it, and the step to another user, count as one.
    steps = np.where(users[1:] == users[:-1], np.minimum(times[1:] - times[:-1], window), window)
    clock = np.concatenate([[0], np.cumsum(steps)])
    following = np.searchsorted(clock, clock + window).tolist()
    begins = np.zeros(len(users), bool)
    at = 0
    while at < len(users):
        begins[at] = True
        at = following[at]
    return begins
