"""What a comparison of two nights finds, and the two comparisons that tables and events share: a number column's, and missing values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from core.config import DriftConfig, Threshold
from data_prep.distances import beyond_chance, ks

Level = Literal["warn", "stop"]
Profile = dict[str, Any]
# Kolmogorov-Smirnov: one in 100,000 is farther apart by chance. A night asks about dozens of columns, and what one session looks at is alike.
SURE: Final = 2.5


@dataclass(frozen=True)
class Drift:
    """One change that a person should know of.

    Attributes:
        table: events, items or users.
        column: Its column; empty for the rows themselves.
        measure: psi, ks, nulls, vanished, new, volume, stopped or kind.
        value: What was measured.
        threshold: What it is beyond, of `level`.
        level: Whether the night goes on.
        line: For people.
    """

    table: str
    column: str
    measure: str
    value: float
    threshold: float
    level: Level
    line: str


def drift(table: str, column: str, measure: str, value: float, threshold: Threshold, line: str) -> Iterator[Drift]:
    """The drift, if `value` is beyond the threshold; `{limit}` in the line is replaced by it."""
    limits: tuple[tuple[Level, float | None], ...] = (("stop", threshold.stop), ("warn", threshold.warn))
    for level, limit in limits:
        if limit is not None and value > limit:
            yield Drift(table, column, measure, float(value), limit, level, line.replace("{limit}", f"{limit:g}"))
            return


@dataclass(frozen=True)
class Sample:
    """A number column's rows. What they are worth as a sample is `size` for whether there is a value and `given` for the values there are."""

    rows: int
    nulls: int
    bins: dict[str, int]
    size: int
    given: int
    median: float


def number_drifts(
    table: str, column: str, before: Sample, now: Sample, config: DriftConfig, then: str, sure: float = SURE
) -> Iterator[Drift]:
    """Missing values and distribution of a number; `sure` scales the distance that chance is given."""
    name = f"{table}.{column}"
    yield from null_drifts(
        name, (before.nulls, before.rows, before.size), (now.nulls, now.rows, now.size), config, then
    )
    n, m = before.given, now.given
    if min(n, m) < config.min_count:
        return
    far = ks(before.bins, now.bins)
    if far <= sure * np.sqrt(1 / n + 1 / m):
        return
    ratio = now.median / before.median if before.median > 0 else 1.0
    if ratio >= 1.05 or ratio <= 0.95:
        said = f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"
        line = f"{name}: {said} the median of {then} (KS {far:.2f} > {{limit}})"
    else:
        line = f"{name}: spread unlike {then} (KS {far:.2f} > {{limit}})"
    yield from drift(table, column, "ks", far, config.ks, line)


def null_drifts(
    name: str, before: tuple[int, int, int], now: tuple[int, int, int], config: DriftConfig, then: str
) -> Iterator[Drift]:
    """Missing values; each night is (nulls, rows, size as a sample)."""
    if min(before[2], now[2]) < config.min_count:
        return
    p, q = (nulls / rows for nulls, rows, _ in (before, now))
    if beyond_chance(p, q, before[2], now[2]):
        table, column = name.split(".", 1)
        yield from drift(
            table, column, "nulls", abs(q - p), config.nulls, f"{name}: {q:.1%} missing, {p:.1%} {_at(then)}"
        )


def _at(then: str) -> str:
    return then if then == "last night" else f"in {then}"


def mover(cells: dict[str, tuple[int, int]], n: float, m: float) -> str:
    """The value whose share changed most."""
    value, (old, new) = max(cells.items(), key=lambda c: abs(c[1][0] / n - c[1][1] / m))
    return f"most of all {value!r}, {old / n:.1%} before, {new / m:.1%} now"
