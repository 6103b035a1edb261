"""How much the pages of two releases have in common, over the same people, by the request path itself (`batch`)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from core.errors import AisleError
from serving.batch import Batch, BatchAnswer, BatchQuery

PEOPLE: Final = 200
K: Final = 10
_USER: Final = "u:"  # of person keys (core.ids.person_key)


@dataclass(frozen=True)
class Overlap:
    """Means over `people` pages, each as of its release's own window's end."""

    people: int
    k: int
    overlap: float  # share of the k places whose items are on both pages, in any order
    same_first: float  # share of people whose first item is the same
    same_page: float  # share of people whose pages are the same, in order

    def rounded(self) -> dict[str, Any]:
        """As JSON."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def overlap(a: tuple[Path, Path], b: tuple[Path, Path], people: int = PEOPLE, k: int = K) -> Overlap | str:
    """Of two (release, user state) pairs; where it cannot be said, why."""
    try:
        first, second = Batch(*a), Batch(*b)
    except AisleError as e:
        return str(e)
    asked = sample(set(users(first)) & set(users(second)), people)
    if not asked:
        return "nobody is in the user state of both"
    return compared([pages(first, asked, k), pages(second, asked, k)], k)


def users(batch: Batch) -> list[str]:
    """Ids of the users with a history."""
    return [t.removeprefix(_USER) for t in batch.state.ids.texts if t.startswith(_USER)]


def sample(ids: set[str], most: int) -> list[str]:
    """The same people whenever they are among `ids`, however many others come and go: those with the smallest hashes."""
    return sorted(ids, key=lambda i: hashlib.blake2b(i.encode(), digest_size=8).digest())[:most]


def pages(batch: Batch, ids: list[str], k: int) -> list[BatchAnswer]:
    """A page of `k` for each, at the end of the release's window."""
    return [batch.rendered(BatchQuery(i, i, None), k, exclude_seen=False) for i in ids]


def compared(two: list[list[BatchAnswer]], k: int) -> Overlap:
    """What pages of the same people have in common.

    >>> a, b = ([BatchAnswer("ann", items, None, ())] for items in (["x", "y"], ["y", "z"]))
    >>> compared([a, b], 2).overlap
    0.5
    """
    both = list(zip(*two, strict=True))
    common = [len(set(p.item_ids) & set(q.item_ids)) / k for p, q in both]
    return Overlap(
        people=len(both),
        k=k,
        overlap=sum(common) / len(both),
        same_first=sum(p.item_ids[:1] == q.item_ids[:1] for p, q in both) / len(both),
        same_page=sum(p.item_ids == q.item_ids for p, q in both) / len(both),
    )
