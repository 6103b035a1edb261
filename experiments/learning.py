"""How a bandit learns: what a unit's reward is, what counts so far say of the arms, and the next version of the shares.

A unit counts for the arm that it was given first, once: when its attribution window is over, with the rewards in it, capped. Counts are kept by *bucket*, a
stretch of time in which units were exposed; a bucket is learned from when the window of the last unit in it is over. So no unit counts while it may still be
rewarded, and a reward that arrives late changes the bucket where it belongs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from core.artifact import hash_json
from core.schema import DAY, HOUR, SECOND, Column
from experiments.config import HOLDOUT, Allocation, Experiment
from experiments.policies import Policy, Seen, epsilon_greedy, gaussian_thompson, thompson, ucb

_GRID: Final = 10_000  # steps of a value up to its cap: sums of whole numbers do not depend on their order
_MOST_CAPS: Final = 1e9  # of one event: sums of 400 stay whole numbers where they are added up
_BUCKETS: Final = 10  # of a window at most: a finer one would not be known much sooner


@dataclass(frozen=True)
class Rewarding:
    """What feedback has to know of an experiment."""

    experiment: Experiment

    @cached_property
    def tag(self) -> str:
        """Names what is counted: another one where arms, metric, window or cap change, so that what was seen before is not mixed with it."""
        e = self.experiment
        said = [list(e.arms), e.primary.model_dump(mode="json"), self.window, self.bucket, self.cap]
        return f"{e.name}.{hash_json(said)[:8]}"

    @cached_property
    def window(self) -> int:
        """Microseconds after the first page in which events count."""
        return round(self.experiment.attribution_hours * HOUR)

    @cached_property
    def bucket(self) -> int:
        """Microseconds of exposures that are counted together."""
        return max(round(self.experiment.allocation.update_seconds * SECOND), self.window // _BUCKETS)

    @cached_property
    def cap(self) -> int:
        """The greatest reward of a unit, in steps."""
        kind, cap = self.experiment.primary.kind, self.experiment.allocation.cap
        return 1 if kind == "rate" else round(cap or 1) if kind == "count" else _GRID

    def reward(self, columns: Mapping[str, Any]) -> int | None:
        """Steps that an event adds; None: it is none of those that count."""
        metric = self.experiment.primary
        if columns[Column.EVENT_TYPE] not in metric.events:
            return None
        if metric.kind != "value":
            return 1
        caps = _worth(columns) / (self.experiment.allocation.cap or 1.0)
        return round(min(max(caps, -_MOST_CAPS), _MOST_CAPS) * _GRID)


def _worth(columns: Mapping[str, Any]) -> float:
    """As in reports (pipeline.experiment_table): price times quantity, else the event's value, else 1."""
    if Column.PRICE in columns:
        return float(columns[Column.PRICE]) * float(columns.get(Column.QUANTITY, 1))
    return float(columns.get(Column.VALUE, 1.0))


class Group(NamedTuple):
    """Units of one bucket, version and arm."""

    bucket: int
    version: int
    arm: str
    units: int
    rewarded: int  # of them, with any reward
    total: int  # of their rewards, in steps
    squares: int

    @classmethod
    def read(cls, name: str, value: str) -> Group:
        """From a field of the counts: `bucket:version:arm`, and `units rewarded total squares`."""
        bucket, version, arm = name.split(":")
        return cls(int(bucket), int(version), arm, *map(int, value.split()))


Sums = dict[str, tuple[float, float, float]]
"""By arm: units, their rewards (1 at the cap) and the squares of these."""


@dataclass(frozen=True)
class Shares:
    """One version of what a bandit decided."""

    version: int
    shares: dict[str, float]
    at: int = 0  # microseconds: when it was decided
    life: str = ""  # of the counts that it was made from: others follow when Redis loses them
    seen: Sums = field(default_factory=dict)  # as it was weighed
    base: Sums = field(default_factory=dict)  # of lives before this one ...
    base_at: int = 0  # ... as of then

    @classmethod
    def first(cls, experiment: Experiment) -> Shares:
        """What a policy says before it has seen anything: version 1, the same in every process."""
        return cls(1, _shares(experiment, {}))

    @property
    def said(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def heard(cls, text: str | bytes, arms: Iterable[str]) -> Shares:
        """What `said` said.

        Raises:
            ValueError: It never did, or of other arms.
        """
        try:
            made = cls(**json.loads(text))
            made = replace(made, seen=_sums(made.seen), base=_sums(made.base))
            if list(made.shares) != list(arms) or not abs(sum(made.shares.values()) - 1) < 1e-6 or made.version < 1:
                raise ValueError("not the shares of these arms")
        except (TypeError, AttributeError) as e:
            raise ValueError(str(e)) from None
        return made


def learned(now: int, of: Rewarding, before: Shares, groups: Iterable[Group], life: str) -> Shares | None:
    """The next version, from all that has been counted; None: nothing is known that `before` did not know.

    Args:
        now: Microseconds.
        of: The experiment.
        before: The version in force.
        groups: The counts.
        life: Their name. Another one than that of `before` means that Redis lost those: what `before` had seen of them then stays as it was.
    """
    base, base_at = before.base, before.base_at
    if before.life and life != before.life:
        base, base_at = before.seen, before.at
    half_life = of.experiment.allocation.half_life_days
    seen = {arm: np.zeros(3) for arm in of.experiment.arms}
    for arm, known_before in base.items():
        seen[arm] += np.array(known_before) * _weight(now - base_at, half_life)
    for g in groups:
        end = (g.bucket + 1) * of.bucket
        if g.arm in seen and end + of.window <= now:
            sums = np.array([g.units, g.total / of.cap, g.squares / of.cap**2])
            seen[g.arm] += sums * _weight(now - end, half_life)
    known = _sums(seen)
    if known == before.seen or (not before.seen and not any(n for n, _, _ in known.values())):
        return None
    return Shares(before.version + 1, _shares(of.experiment, known), now, life, known, base, base_at)


def _sums(read: Mapping[str, Any]) -> Sums:
    return {arm: (float(n), float(total), float(squares)) for arm, (n, total, squares) in read.items()}


def _weight(age: int, half_life_days: float | None) -> float:
    return 1.0 if half_life_days is None else 0.5 ** (max(age, 0) / (half_life_days * DAY))


def _shares(experiment: Experiment, sums: Sums) -> dict[str, float]:
    arms = list(experiment.arms)
    count, total, squares = np.array([sums.get(arm, (0.0, 0.0, 0.0)) for arm in arms]).T
    found = policy_of(experiment.allocation)(Seen.of(count, total, squares))
    return dict(zip(arms, found.tolist(), strict=True))


def policy_of(allocation: Allocation) -> Policy:
    """The policy that a file names; not `fixed`."""
    made: dict[str, Policy] = {
        "epsilon-greedy": epsilon_greedy(allocation.epsilon),
        "ucb": ucb(),
        "thompson": thompson(),
        "gaussian-thompson": gaussian_thompson(),
    }
    return made[allocation.policy]


def by_arm(experiment: Experiment, groups: Iterable[Group]) -> dict[str, tuple[int, int]]:
    """Units exposed and rewarded of each arm, `holdout` too where there is one, whether their windows are over or not."""
    names = (*experiment.arms, *((HOLDOUT,) if experiment.holdout else ()))
    found = dict.fromkeys(names, (0, 0))
    for g in groups:
        n, rewarded = found.get(g.arm, (0, 0))
        found[g.arm] = n + g.units, rewarded + g.rewarded
    return found
