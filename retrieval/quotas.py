"""How many candidates each source may propose, chosen at night: shops differ in which source finds what the others miss.

Greedy ascent on the recall of the union under a budget, by gain for each candidate that it costs. Recall of a union is submodular, for which this
greedy is the standard approximation (Krause and Golovin, Submodular function maximization, 2014, section 3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.candidates import Source
from core.columns import Array
from core.config import SourcesConfig
from retrieval.requests import ENOUGH, PastRequest

FILE: Final = "quotas.json"  # of the artifact of `train-retrieval`: source -> quota
STEP: Final = 25
_FAR: Final = 8  # a source may be given so many steps at once: its first ones often repeat what the others propose
_LEAST: Final = {
    "popularity": 50,
    "recent_popularity": 50,
}  # what a stranger's page is ranked from; strangers are no past requests


@dataclass(frozen=True)
class Chosen:
    """Quotas, and what they reach on the requests they were chosen on."""

    quotas: dict[str, int]
    recall: float  # of the union; NaN where nothing was measured
    size: float  # mean candidates
    because: str

    def write(self, folder: Path) -> None:
        """Leave `quotas.json` in `folder`."""
        (folder / FILE).write_text(json.dumps(self.quotas, indent=1, sort_keys=True) + "\n")

    @property
    def about(self) -> dict[str, Any]:
        """For the manifest."""
        measured = self.recall == self.recall
        recall, size = (round(self.recall, 4), round(self.size, 1)) if measured else (None, None)
        return {"quotas": self.quotas, "validation_recall": recall, "candidates": size, "quotas_because": self.because}

    def __str__(self) -> str:
        return f"{', '.join(f'{n} {q}' for n, q in self.quotas.items())}: {self.because}"


def read_quotas(folder: Path) -> dict[str, int]:
    """What `Chosen.write` left in `folder`."""
    return dict(json.loads((folder / FILE).read_bytes()))


def choose_quotas(
    sources: Sequence[Source], requests: Sequence[PastRequest], n_items: int, config: SourcesConfig
) -> Chosen:
    """The quotas of the configuration, or those whose union holds about `candidates` items and as many relevant ones as possible."""
    names, budget = [s.name for s in sources], config.candidates
    if config.quotas != "auto":
        return Chosen({n: config.quotas.get(n, 0) for n in names}, float("nan"), float("nan"), "as configured")
    if n_items <= budget:
        return Chosen(dict.fromkeys(names, n_items), float("nan"), float("nan"), f"all {n_items} items fit")
    if len(requests) < ENOUGH:
        even = max(STEP, 2 * budget // max(1, len(names)))  # about half of what the sources propose is proposed twice
        reason = f"{len(requests)} past requests are too few to choose on"
        return Chosen(dict.fromkeys(names, even), float("nan"), float("nan"), reason)
    proposals = _Proposals.of(sources, requests, budget)
    steps = proposals.greedy([_LEAST.get(n, 0) // STEP for n in names], budget)
    quotas = {name: int(n) * STEP for name, n in zip(names, steps, strict=True)}
    recall, size = proposals.reached(steps)
    reason = f"recall {recall:.4f} with {size:.0f} candidates on {len(requests)} past requests"
    return Chosen(quotas, recall, size, reason)


@dataclass(frozen=True)
class _Proposals:
    """Every source's `budget` best of every request. A cell is one (request, item) that some source proposes."""

    cells: list[list[Array]]  # for each source and step of its list: int32 positions of cells
    worth: Array  # float64 [cells]: what proposing it adds to the sum of recalls
    requests: int

    @classmethod
    def of(cls, sources: Sequence[Source], requests: Sequence[PastRequest], budget: int) -> _Proposals:
        n = -(-budget // STEP)
        steps: list[list[list[Array]]] = [[[] for _ in range(n)] for _ in sources]
        worths, start = [np.empty(0)], 0
        for request in requests:
            lists = [s.scoring(request.query).top(budget, request.excluded)[0] for s in sources]
            rows = np.unique(np.concatenate(lists))
            for of_source, proposed in zip(steps, lists, strict=True):
                at = (np.searchsorted(rows, proposed) + start).astype(np.int32)
                for step in range(-(-len(at) // STEP)):
                    of_source[step].append(at[step * STEP : (step + 1) * STEP])
            worths.append(np.isin(rows, request.relevant) / len(request.relevant))
            start += len(rows)
        nothing = [np.empty(0, np.int32)]
        cells = [[np.concatenate(parts or nothing) for parts in of_source] for of_source in steps]
        return cls(cells, np.concatenate(worths), len(requests))

    def greedy(self, least: Sequence[int], budget: int) -> list[int]:
        """Steps of each source: from `least`, always where most recall is gained for a candidate, until the budget is spent."""
        steps, inside = list(least), self._union(least)
        left = float(budget * self.requests - inside.sum())
        while True:
            best, where = 0.0, (0, 0, np.empty(0, np.int32))
            for s, lists in enumerate(self.cells):
                for to in range(steps[s] + 1, min(steps[s] + _FAR, len(lists)) + 1):
                    new = np.concatenate(lists[steps[s] : to])  # nothing twice: a source's steps are disjoint
                    new = new[~inside[new]]
                    gain = float(self.worth[new].sum()) / max(len(new), 1)
                    if len(new) <= left and gain > best:
                        best, where = gain, (s, to, new)
            if not best:
                return steps
            s, to, new = where
            steps[s], left = to, left - len(new)
            inside[new] = True

    def reached(self, steps: Sequence[int]) -> tuple[float, float]:
        """Recall of the union, and its mean size."""
        inside = self._union(steps)
        return float(self.worth[inside].sum()) / self.requests, float(inside.sum()) / self.requests

    def _union(self, steps: Iterable[int]) -> Array:
        inside = np.zeros(len(self.worth), bool)
        for lists, n in zip(self.cells, steps, strict=True):
            for cells in lists[:n]:
                inside[cells] = True
        return inside
