"""What a person may choose about the simulated shop."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from core.errors import InputError
from core.schema import DAY, SECOND

_MOST: Final = 2**31 - 1  # rows are int32
_FIRST_YEAR: Final = 1990
_END_YEAR: Final = 2090  # a shop may last ten years


@dataclass(frozen=True)
class ShopOptions:
    """Size and span of the shop.

    Attributes:
        users: Registered users, guests not counted.
        items: Items.
        events: Events, exactly.
        days: Days that the events span, at most ten years.
        seed: Of everything random.
        start: First day, UTC, of the years whose epoch times are told apart by size (data_prep.times).
        impressions: Share of the pages whose impressions are logged.
        guests: Share of the sessions of people without a user id.
    """

    users: int
    items: int
    events: int
    days: int = 365
    seed: int = 1
    start: dt.date = dt.date(2024, 1, 1)
    impressions: float = 0.25
    guests: float = 0.2

    def __post_init__(self) -> None:
        for name, most in (("users", _MOST), ("items", _MOST), ("events", 10**12), ("days", 3650)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"--{name} {getattr(self, name)}: expected 1 to {most}")
        if not _FIRST_YEAR <= self.start.year < _END_YEAR:
            raise InputError(
                f"--start {self.start}: expected a day of {_FIRST_YEAR} to {_END_YEAR - 1}; others no shop logs"
            )
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: expected 0 or more")
        if not (math.isfinite(self.impressions) and 0 <= self.impressions <= 1):
            raise InputError(f"--impressions {self.impressions}: expected a share from 0 to 1")
        if not (math.isfinite(self.guests) and 0 <= self.guests < 1):
            raise InputError(
                f"--guests {self.guests}: expected a share from 0 to less than 1, or no user would have an event"
            )

    @property
    def start_us(self) -> int:
        """Midnight of the first day, microseconds."""
        midnight = dt.datetime.combine(self.start, dt.time(), dt.UTC)
        return int(midnight.timestamp()) * SECOND

    def day_us(self, day: int) -> int:
        """Midnight of day number `day`, microseconds."""
        return self.start_us + day * DAY

    def date(self, day: int) -> dt.date:
        """The date of day number `day`."""
        return self.start + dt.timedelta(days=day)

    def stream(self, *key: int) -> np.random.Generator:
        """Random numbers of their own for each purpose, day and block, so that no part shifts those of another."""
        return np.random.default_rng([self.seed, *key])

    def plain(self) -> dict[str, Any]:
        """The options as YAML and JSON take them."""
        return asdict(self) | {"start": self.start.isoformat()}


# First key of `stream`.
CATALOGUE, POPULATION, CALENDAR, SESSIONS, AFTERMATH = range(5)
