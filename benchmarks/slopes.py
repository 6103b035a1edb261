"""Whether a figure grows over time: the slope of a line through it, with its 95 % interval; and the memory of a process, which should not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from core.columns import Array


@dataclass(frozen=True)
class Slope:
    """Of a least-squares line, in units of y for one of x; `low` and `high` bound it with 95 % confidence."""

    slope: float
    low: float
    high: float

    @property
    def grows(self) -> bool:
        """Whether it is above zero beyond its interval."""
        return self.low > 0

    def rounded(self, digits: int = 3) -> dict[str, float | bool]:
        """For the last line of a benchmark."""
        return {**{name: round(value, digits) for name, value in asdict(self).items()}, "grows": self.grows}


def memory_mb(pid: int) -> dict[str, float]:
    """Of a process, megabytes by the kernel's names: "Rss", "Pss", "Anonymous" (no page of a file), ..."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(kb) * 1024 / 1e6 for name, kb, _ in (line.split() for line in lines)}


def slope(x: Sequence[float] | Array, y: Sequence[float] | Array) -> Slope:
    """Through the points `x` and `y`, float `[n]` each, n at least 3; their errors are taken to be independent."""
    line = stats.linregress(np.asarray(x, np.float64), np.asarray(y, np.float64))
    reach = float(stats.t.ppf(0.975, len(x) - 2)) * float(line.stderr)
    return Slope(float(line.slope), float(line.slope) - reach, float(line.slope) + reach)


def slope_of_steps(x: Sequence[float] | Array, y: Sequence[float] | Array, blocks: int = 10) -> Slope:
    """The same for a figure whose errors hang together, such as the memory of a process, which stays where it is until it takes a step.

    The line goes through the means of `blocks` stretches of equal length: neighbours within one are no evidence of their own.
    """
    parts = zip(
        np.array_split(np.asarray(x, np.float64), blocks),
        np.array_split(np.asarray(y, np.float64), blocks),
        strict=True,
    )
    means = np.array([(a.mean(), b.mean()) for a, b in parts if len(a)])
    return slope(means[:, 0], means[:, 1])
