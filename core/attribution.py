"""Attribution tokens: what an event says of the page that it came from. The one place that makes and reads them.

    <release>.<request id>                                       of a page in no experiment, and of every page before there were arms in tokens
    <experiment>=<arm>@<version>,...~<release>.<request id>      with the arms that the page was given

A token is not sealed, because nothing that it says is believed: it joins events with pages in the logs, and names experiments for the feedback of bandits,
which takes arm, version and time from the server's own record of what the unit was given (serving/feedback.py). Whoever makes one up can so do no more
than an event can that is made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

_ARM: Final = r"[a-z0-9][a-z0-9-]{0,63}=[a-z0-9][a-z0-9-]{0,63}@\d{1,18}"
_ARMS: Final = re.compile(rf"{_ARM}(?:,{_ARM})*")
_MOST_ARMS: Final = 20  # 20 of the longest names are 3,020 bytes
MAX_TOKEN_BYTES: Final = 4_096


class GivenArm(NamedTuple):
    """An arm that the page was given, by chance and not by force."""

    experiment: str
    arm: str
    version: int  # of a bandit's shares; 0: a fixed split


@dataclass(frozen=True)
class Attribution:
    """What a token says."""

    release: str
    request_id: str
    arms: tuple[GivenArm, ...] = ()


def token_of(release: str, request_id: str, arms: Iterable[GivenArm] = ()) -> str:
    """The token of a page. Beyond 20 arms those of bandits go first: only they are learned from by it.

    >>> token_of("r1", "q7", [GivenArm("order", "b", 3)])
    'order=b@3~r1.q7'
    """
    plain, given = f"{release}.{request_id}", tuple(arms)
    if not given:
        return plain
    if len(given) > _MOST_ARMS:
        given = tuple(sorted(given, key=lambda a: not a.version))[:_MOST_ARMS]
    return f"{','.join([f'{e}={a}@{v}' for e, a, v in given])}~{plain}"


def read_token(token: str) -> Attribution:
    """What a token says; whatever it is, it is read. The first `.` ends the release: its names have none.

    >>> read_token("order=b@3~r1.q7").arms
    (GivenArm(experiment='order', arm='b', version=3),)
    """
    head, tilde, plain = token.partition("~")
    arms: tuple[GivenArm, ...] = ()
    if tilde and _ARMS.fullmatch(head):  # an older token with a `~` in its request id has a `.` before it
        arms = tuple(_arm(part) for part in head.split(","))
    else:
        plain = token
    release, _, request_id = plain.partition(".")
    return Attribution(release, request_id, arms)


def _arm(text: str) -> GivenArm:
    experiment, _, rest = text.partition("=")
    arm, _, version = rest.partition("@")
    return GivenArm(experiment, arm, int(version))
