"""Changes of items and users since last night."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from core.config import DriftConfig
from core.schema import CATEGORY_SEPARATOR
from data_prep.distances import psi, psi_of_chance
from data_prep.drift_findings import Drift, Profile, Sample, drift, mover, null_drifts, number_drifts

_SURE: Final = 1.4  # most rows are the same on both nights, so that chance does less than between two samples
_FEW: Final = 5  # rows of a table: values with fewer come and go


@dataclass(frozen=True)
class TableDrift:
    """One table on two nights."""

    name: str
    before: Profile
    now: Profile
    config: DriftConfig

    def changes(self) -> Iterator[Drift]:
        """Rows, then column by column."""
        n, m = self.before["rows"], self.now["rows"]
        if n >= self.config.min_count:
            factor = max(n, m) / max(1, min(n, m))
            line = f"{self.name}: {m:,} rows, {n:,} last night"
            yield from drift(self.name, "", "volume", factor, self.config.volume, line)
        if n == 0 or m == 0:
            return
        for column, old in self.before["columns"].items():
            new = self.now["columns"].get(column)
            if new is None:
                share = 1 - old["nulls"] / n
                line = f"{self.name}.{column}: the column vanished ({share:.1%} of {self.name} had a value)"
                yield from drift(self.name, column, "vanished", share, self.config.vanished, line)
            elif new["kind"] != old["kind"] and old["nulls"] < n and new["nulls"] < m:
                line = f"{self.name}.{column}: {_KINDS[new['kind']]}, {_KINDS[old['kind']]} last night"
                yield Drift(self.name, column, "kind", 1.0, 0.0, "warn", line)
            elif new["kind"] == old["kind"]:
                yield from self._column(column, old, new)

    def _column(self, column: str, old: Profile, new: Profile) -> Iterator[Drift]:
        n, m = self.before["rows"], self.now["rows"]
        if old["kind"] == "number":
            old_sample, new_sample = [
                Sample(r, c["nulls"], c["bins"], r, r - c["nulls"], (c.get("quantiles") or [float("nan")] * 3)[2])
                for r, c in ((n, old), (m, new))
            ]
            yield from number_drifts(self.name, column, old_sample, new_sample, self.config, "last night", _SURE)
            return
        yield from null_drifts(
            f"{self.name}.{column}", (old["nulls"], n, n), (new["nulls"], m, m), self.config, "last night"
        )
        if old["kind"] in ("coded", "tags", "flag"):
            values = [] if old["kind"] == "flag" else [*self._vanished(column, old, new), *self._new(column, old, new)]
            yield from values or self._mix(column, old, new)

    def _vanished(self, column: str, old: Profile, new: Profile) -> Iterator[Drift]:
        """Values that last night's table had and this one has not, or hardly; of a category that goes, only the topmost is named."""
        n, m = self.before["rows"], self.now["rows"]
        gone = {v: c for v, c in old["values"].items() if c >= _FEW and _most(new, v) / m < c / n / 2}
        for value, count in gone.items():
            if not _below(value, gone):
                most = _most(new, value)
                left = "vanished" if most == 0 else f"fell below {most / m:.1%}"
                line = f"{self.name}.{column}: {value!r} {left} (had {count / n:.1%} of {self.name})"
                yield from drift(self.name, column, "vanished", count / n, self.config.vanished, line)

    def _new(self, column: str, old: Profile, new: Profile) -> Iterator[Drift]:
        n, m = self.before["rows"], self.now["rows"]
        came = {v: c for v, c in new["values"].items() if c >= _FEW and _most(old, v) / n < c / m / 2}
        for value, count in came.items():
            if not _below(value, came):
                line = f"{self.name}.{column}: {value!r} is new ({count / m:.1%} of {self.name})"
                yield from drift(self.name, column, "new", count / m, self.config.new, line)

    def _mix(self, column: str, old: Profile, new: Profile) -> Iterator[Drift]:
        cells = _cells(old, new)
        n, m = (sum(c[k] for c in cells.values()) for k in (0, 1))
        if len(cells) < 2 or min(n, m) < self.config.min_count:
            return
        value = psi([c[0] for c in cells.values()], [c[1] for c in cells.values()], n, m)
        if value <= psi_of_chance(len(cells), n, m):
            return
        line = f"{self.name}.{column}: mixed unlike last night (PSI {value:.2f} > {{limit}}): {mover(cells, n, m)}"
        yield from drift(self.name, column, "psi", value, self.config.psi, line)


_KINDS: Final = {
    "number": "numbers",
    "coded": "text values",
    "tags": "lists",
    "flag": "true or false",
    "text": "text",
    "time": "times",
}


def _most(column: Profile, value: str) -> float:
    """The most rows that a value can have by a profile that does not list it; infinite for one that it lists."""
    if value in column["values"]:
        return math.inf
    complete = column.get("all_tops") and CATEGORY_SEPARATOR not in value
    return 0 if complete else float(column["unlisted"])


def _below(value: str, others: dict[str, int]) -> bool:
    """Whether a category above this one is among the others."""
    parts = value.split(CATEGORY_SEPARATOR)
    return any(CATEGORY_SEPARATOR.join(parts[:depth]) in others for depth in range(1, len(parts)))


def _cells(old: Profile, new: Profile) -> dict[str, tuple[int, int]]:
    """Rows of each value on both nights; what one night does not list is pooled in both. Of categories, the top level."""
    sides = [{v: c for v, c in p["values"].items() if CATEGORY_SEPARATOR not in v} for p in (old, new)]
    listed = [
        v
        for v in {**sides[0], **sides[1]}
        if all(v in s or p["rest"] == 0 for s, p in zip(sides, (old, new), strict=True))
    ]
    cells = {v: (sides[0].get(v, 0), sides[1].get(v, 0)) for v in listed}
    rest = [
        sum(s.values()) + p["rest"] - sum(s.get(v, 0) for v in listed) for s, p in zip(sides, (old, new), strict=True)
    ]
    return cells | ({"(others)": (rest[0], rest[1])} if any(rest) else {})
