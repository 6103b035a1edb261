"""The analysis table: one row a unit of an experiment, and all that its statistics may know of it.

A unit belongs to the arm that it was exposed to first; its outcomes are those of the attribution window after that, and it counts from the end of the
window on, once. A covariate is what it did before. So no look ever takes half a window for a whole one, and no unit that comes back counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from core.columns import Array
from core.errors import InputError, nearest
from core.schema import DAY
from experiments.inference.moments import Moments


@dataclass(frozen=True)
class AnalysisTable:
    """Units `[n]`, in the order of their first exposure."""

    arms: tuple[str, ...]  # the first is the control
    arm: Array  # int64 [n] into `arms`
    exposed: Array  # int64 [n], microseconds, rising
    propensity: Array  # float64 [n]: the chance that the unit had of its arm
    window: int  # microseconds
    outcomes: dict[str, tuple[Array, Array]]  # by metric: numerator and denominator, float64 [n] each
    covariates: dict[str, Array] = field(default_factory=dict)  # by metric, float64 [n]: the same before the experiment
    segments: dict[str, Array] = field(default_factory=dict)  # by name, text [n]
    mixed: int = 0  # units that met more than one arm, and were left out

    def __post_init__(self) -> None:
        if len(self.arms) < 2:
            raise InputError(f"an experiment compares two arms at least, got {', '.join(self.arms) or 'none'}")
        if (np.diff(self.exposed) < 0).any():
            raise ValueError("units must come in the order of exposure")

    def numerators(self, metric: str) -> tuple[Array, Array, Array]:
        """Numerator, denominator and covariate of a metric: float64 `[n]` each.

        Raises:
            InputError: The table does not have it.
        """
        if metric not in self.outcomes:
            raise InputError(f"no metric {metric!r} in the analysis table; {nearest(metric, self.outcomes)}")
        y, d = self.outcomes[metric]
        return y, d, self.covariates.get(metric, np.zeros(len(y)))

    def looks(self, until: int) -> Array:
        """Ends of the days (microseconds) at which units have counted, the last one `until`: int64 `[days]`."""
        if not len(self.exposed):
            return np.array([until], np.int64)
        first = (int(self.exposed[0]) + self.window) // DAY + 1
        days = np.arange(first, max(until // DAY, first - 1) + 1, dtype=np.int64) * DAY
        return np.unique(np.r_[days[days < until], until])

    def counted(self, at: int) -> int:
        """How many units (the first ones) have counted by a moment."""
        return int(np.searchsorted(self.exposed, at - self.window, side="right"))

    def moments(self, metric: str, arm: int, looks: Array, rows: Array | None = None) -> Moments:
        """Of an arm's units that have counted at each look: leading axis `[looks]`.

        Args:
            metric: Its name.
            arm: Its index.
            looks: int64 `[looks]`, rising.
            rows: bool `[n]`, a segment of the units.
        """
        kept = self.arm == arm if rows is None else (self.arm == arm) & rows
        y, d, x = (a[kept] for a in self.numerators(metric))
        at = np.searchsorted(looks, self.exposed[kept] + self.window, side="left")
        values = np.stack([y, d, x], axis=1).astype(np.float64)
        n, sums, products = np.zeros(len(looks) + 1), np.zeros((len(looks) + 1, 3)), np.zeros((len(looks) + 1, 3, 3))
        np.add.at(n, at, 1.0)
        np.add.at(sums, at, values)
        np.add.at(products, at, values[:, :, None] * values[:, None, :])
        return Moments(n[:-1], sums[:-1], products[:-1]).cumulative(axis=0)
