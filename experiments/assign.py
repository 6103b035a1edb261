"""Who is in which arm: consistent hashing, the same in every process, language and year.

The point of a unit under a salt is the first 8 bytes of SHA-256 of the UTF-8 text `<salt> 0x1F <unit id>`, as a big-endian number, divided by 2^64: in [0, 1).
Under the salt `layer:<layer>` it says which part of the layer the unit is in, under `arm:<experiment>` which arm it gets there: the two know nothing of
each other, nor do those of two layers. A share that grows therefore takes new units in and moves nobody. docs/experiments.md has test vectors.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple

from experiments.config import HOLDOUT, Experiment

_SEPARATOR: Final = "\x1f"
_FIRST_8: Final = Struct(">Q")
_WHOLE: Final = float(1 << 64)
_BELOW_ONE: Final = 1 - 2**-53


class Assignment(NamedTuple):
    """What became of a unit. A tuple: there are few different ones, and what is made of each is kept by its value."""

    experiment: str
    arm: str  # `holdout`: answered as without the experiment
    probability: float  # that this arm was given; 1 where it was forced
    version: int = 0  # of a bandit's shares; 0: a fixed split
    forced: bool = False  # counts for nothing


def point(salt: str, unit: str) -> float:
    """Where a unit stands under a salt, in [0, 1).

    >>> round(point("layer:default", "user-1"), 6)
    0.613243
    """
    (number,) = _FIRST_8.unpack_from(sha256(f"{salt}{_SEPARATOR}{unit}".encode()).digest())
    at = number / _WHOLE
    return at if at < 1 else _BELOW_ONE  # the nearest float of the highest numbers is 1


@lru_cache(maxsize=1024)  # experiments of one layer ask for the same
def layer_point(layer: str, unit: str) -> float:
    """Where a unit stands in a layer, in [0, 1)."""
    return point(f"layer:{layer}", unit)


class Split:
    """What an experiment gives at each point of [0, 1): the holdout, then the arms side by side in their order. A point belongs to what begins there.

    Args:
        experiment: Whose.
        shares: Of the arms, where a bandit has set them; they add up to 1. None: as the file says.
        version: Of these. Units of another version are drawn anew.
    """

    def __init__(self, experiment: Experiment, shares: Mapping[str, float] | None = None, version: int = 0) -> None:
        self.experiment, self.version = experiment, version
        self._arm = f"arm:{experiment.name}" if shares is None else f"arm:{experiment.name}:{version}"
        self._held, self._left = experiment.holdout, 1 - experiment.holdout
        spread = shares or experiment.weights
        self._ends = list(accumulate(spread.values()))
        self._ends[-1] = math.inf  # what rounding leaves behind the last arm is the last arm's
        self._given = [Assignment(experiment.name, arm, self._left * share, version) for arm, share in spread.items()]
        self._holdout = Assignment(experiment.name, HOLDOUT, self._held, version)

    def at(self, point: float) -> Assignment:
        """What is given there."""
        if point < self._held:
            return self._holdout
        return self._given[bisect_right(self._ends, (point - self._held) / self._left)]

    def assign(self, unit: str, now: float) -> Assignment | None:
        """The arm of a unit that is eligible while the experiment runs; None: the experiment does not take it.

        Args:
            unit: Its id, not empty.
            now: Microseconds, for the ramp.
        """
        experiment = self.experiment
        if experiment.forced and (arm := experiment.forced.get(unit)) is not None:
            return Assignment(experiment.name, arm, 1.0, self.version, forced=True)
        traffic = experiment.traffic
        first, share = traffic.first, experiment.share(now) if traffic.ramp else traffic.share
        if (first or share < 1) and not first <= layer_point(experiment.layer, unit) < first + share:
            return None
        return self.at(point(self._arm, unit))


def overridden(experiment: Experiment, arm: str) -> Assignment:
    """The arm that a request asks for by name (`experiment_overrides`)."""
    return Assignment(experiment.name, arm, 1.0, forced=True)


def shadowed(experiment: Experiment, unit: str) -> tuple[str, ...]:
    """The shadows that make a copy of what the experiment, which takes the unit, answers it: by its point under `shadow:EXPERIMENT:ARM`."""
    return tuple(
        arm for arm, share in experiment.shadows.items() if point(f"shadow:{experiment.name}:{arm}", unit) < share
    )


def said(assignments: Iterable[Assignment]) -> list[str]:
    """For the log: `experiment=arm@version:probability`, with `!` where it was forced."""
    return [_said(a) for a in assignments]


@lru_cache(maxsize=4096)
def _said(a: Assignment) -> str:
    return f"{a.experiment}={a.arm}@{a.version}:{a.probability!r}{'!' if a.forced else ''}"


def heard(text: str) -> Assignment:
    """What `said` said.

    >>> heard("order=b@7:0.25")
    Assignment(experiment='order', arm='b', probability=0.25, version=7, forced=False)

    Raises:
        ValueError: It never did.
    """
    experiment, _, rest = text.removesuffix("!").partition("=")
    arm, _, numbers = rest.rpartition("@")
    version, _, probability = numbers.partition(":")
    return Assignment(experiment, arm, float(probability), int(version), text.endswith("!"))
