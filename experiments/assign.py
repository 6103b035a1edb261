"""Who is in which arm: consistent hashing, the same in every process, language and year.

The point of a unit under a salt is the first 8 bytes of SHA-256 of the UTF-8 text `<salt> 0x1F <unit id>`, as a big-endian number, divided by 2^64: in [0, 1).
Under the salt `layer:<layer>` it says which part of the layer the unit is in, under `arm:<experiment>` which arm it gets there: the two know nothing of
each other, nor do those of two layers. A share that grows therefore takes new units in and moves nobody. docs/experiments.md has test vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from experiments.config import HOLDOUT, Experiment

_SEPARATOR: Final = "\x1f"
_WHOLE: Final = float(1 << 64)
_BELOW_ONE: Final = 1 - 2**-53


@dataclass(frozen=True)
class Assignment:
    """What became of a unit."""

    experiment: str
    arm: str  # `holdout`: answered as without the experiment
    probability: float  # that this arm was given; 1 where it was forced
    version: int = 0  # of a bandit's shares; 0: a fixed split
    forced: bool = False  # counts for nothing


@lru_cache(maxsize=1024)  # experiments of one layer ask for the same
def point(salt: str, unit: str) -> float:
    """Where a unit stands under a salt, in [0, 1).

    >>> round(point("layer:default", "user-1"), 6)
    0.613243
    """
    digest = hashlib.sha256(f"{salt}{_SEPARATOR}{unit}".encode()).digest()
    at = int.from_bytes(digest[:8], "big") / _WHOLE
    return at if at < 1 else _BELOW_ONE  # the nearest float of the highest numbers is 1


def chosen(shares: Mapping[str, float], at: float) -> str:
    """The arm at a point of [0, 1): shares lie side by side in their order, and add up to 1."""
    end, arm = 0.0, ""
    for arm, share in shares.items():
        end += share
        if at < end:
            return arm
    return arm  # rounding left a sliver behind the last


def assign(
    experiment: Experiment, unit: str, now: float, shares: Mapping[str, float] | None = None, version: int = 0
) -> Assignment | None:
    """The arm of a unit that is eligible; None: the experiment does not take it.

    Args:
        experiment: It runs.
        unit: Its id, not empty.
        now: Microseconds, for the ramp.
        shares: Of the arms, where a bandit has set them; None: as the file says.
        version: Of these. Units of another version are drawn anew.
    """
    if experiment.forced and (arm := experiment.forced.get(unit)) is not None:
        return Assignment(experiment.name, arm, 1.0, version, forced=True)
    first, share = experiment.traffic.first, experiment.share(now)
    if (first or share < 1) and not first <= point(f"layer:{experiment.layer}", unit) < first + share:
        return None
    salt = f"arm:{experiment.name}" if shares is None else f"arm:{experiment.name}:{version}"
    spread, at = shares or experiment.weights, point(salt, unit)
    if at < experiment.holdout:
        return Assignment(experiment.name, HOLDOUT, experiment.holdout, version)
    left = 1 - experiment.holdout
    arm = chosen(spread, (at - experiment.holdout) / left)
    return Assignment(experiment.name, arm, left * spread[arm], version)


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
    return [f"{a.experiment}={a.arm}@{a.version}:{a.probability!r}{'!' if a.forced else ''}" for a in assignments]


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
