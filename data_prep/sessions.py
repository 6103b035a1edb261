"""Session numbers: what the shop calls a session, else runs of a person's events without a long pause."""

from __future__ import annotations

import numpy as np

from core.columns import Array

NO_SESSION = 0  # in `given`: the shop sent none


def session_numbers(users: Array, times: Array, given: Array, gap: int, first: int) -> Array:
    """Dense session numbers from `first`, in the order in which sessions begin.

    Events with a session id belong together when user and id are equal, whatever lies between them. Events without one make
    sessions among themselves: a new one begins when the user's previous such event is more than `gap` before.

    Args:
        users: User rows, ascending, int32 `[n]`; all events of a user are here.
        times: Microseconds, ascending for each user, int64 `[n]`.
        given: Hash of the shop's session id, NO_SESSION where there is none, int64 `[n]`.
        gap: Microseconds.
        first: The first number to use.

    Returns:
        int64 `[n]`.
    """
    opener = np.arange(len(users))  # position of the event that opened this event's session
    own = np.flatnonzero(given == NO_SESSION)
    if len(own):
        u, t = users[own], times[own]
        begins = np.concatenate([[True], (u[1:] != u[:-1]) | (t[1:] - t[:-1] > gap)])
        opener[own] = own[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    named = np.flatnonzero(given != NO_SESSION)
    if len(named):
        order = named[np.lexsort((named, given[named], users[named]))]
        u, g = users[order], given[order]
        begins = np.concatenate([[True], (u[1:] != u[:-1]) | (g[1:] != g[:-1])])
        opener[order] = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    opens = opener == np.arange(len(users))
    return (first + np.cumsum(opens) - 1)[opener].astype(np.int64)
