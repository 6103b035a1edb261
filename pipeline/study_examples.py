"""Some people of a study with their page before and after, and what it missed most. They name people and items: user data."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from core.columns import Array, Texts
from core.ids import NO_ROW
from core.prepared import Prepared
from evaluation.catalogue import Catalogue
from evaluation.funnel import PLACES, Place
from evaluation.study import Study
from serving.release import Release

_RANKS: Final = (0.95, 0.6, 0.3, 0.05)
"""Which people are shown: by the rank of NDCG@10 among all of the sample, as a share of it, the best last of all being 1."""
_HISTORY: Final = 8
_MOST: Final = 8


def examples(study: Study, release: Release, prepared: Prepared, ended: Array) -> list[dict[str, Any]]:
    """One person at each of a few ranks of NDCG@10: newest history, wanted items and where these ended, the page before and the page now."""
    order = np.argsort(study.ours, kind="stable")
    chosen = dict.fromkeys(int(order[min(len(order) - 1, int(rank * len(order)))]) for rank in _RANKS)
    return [_person(study, release, prepared, ended, q) for q in chosen]


def _person(study: Study, release: Release, prepared: Prepared, ended: Array, q: int) -> dict[str, Any]:
    judgements = study.judgements
    pairs = slice(judgements.relevance.starts[q], judgements.relevance.starts[q + 1])
    items = judgements.relevance.items[pairs]
    history = judgements.history(q, prepared.events, release.settings.history_events)
    newest = history.items[history.gains > 0][::-1]
    order = np.argsort(ended[pairs], kind="stable")
    return {
        "person": prepared.user_ids[int(judgements.users[q])],
        "choices": int(judgements.choices[q]),
        "ndcg@10": round(float(study.ours[q]), 4),
        "ndcg@10_before": round(float(study.ours[q] - study.gained[q]), 4),
        "history": [name_of(prepared, row) for row in list(dict.fromkeys(newest.tolist()))[:_HISTORY]],
        "wanted": [
            {"item": name_of(prepared, int(items[i])), "ended": str(PLACES[int(ended[pairs][i])])}
            for i in order[:_MOST]
        ],
        "wanted_items": len(items),
        "before": _page(prepared, study.before[q], items),
        "now": _page(prepared, study.pages[q], items),
    }


def _page(prepared: Prepared, rows: Array, wanted: Array) -> list[dict[str, Any]]:
    return [{"item": name_of(prepared, r), "wanted": r in wanted} for r in rows.tolist() if r != NO_ROW]


def misses(study: Study, prepared: Prepared, catalogue: Catalogue, ended: Array) -> dict[str, Any]:
    """Items that most people wanted and did not see, with where they were lost; and the people whose page got worst against before."""
    items = study.judgements.relevance.items
    lost = ended != PLACES.index(Place.TOP_10)
    counts = np.bincount(items[lost], minlength=len(prepared.item_ids))
    asked = np.bincount(items, minlength=len(counts))
    worst = np.lexsort((np.arange(len(counts)), -counts))[:_MOST]
    gained = study.gained
    people = np.argsort(gained, kind="stable")[:_MOST]
    return {
        "items": [
            {
                "item": name_of(prepared, row),
                "wanted": int(asked[row]),
                "missed": int(counts[row]),
                "people_before": int(catalogue.popularity[row]),
                "places": np.bincount(ended[items == row], minlength=len(PLACES)).tolist(),
            }
            for row in worst.tolist()
            if counts[row]
        ],
        "people": [
            {
                "person": prepared.user_ids[int(study.judgements.users[q])],
                "choices": int(study.judgements.choices[q]),
                "ndcg@10": round(float(study.ours[q]), 4),
                "ndcg@10_before": round(float(study.ours[q] - gained[q]), 4),
            }
            for q in people.tolist()
            if gained[q] < 0
        ],
        "better": int((gained > 0).sum()),
        "same": int((gained == 0).sum()),
        "worse": int((gained < 0).sum()),
    }


def name_of(prepared: Prepared, row: int) -> str:
    """The title of an item, else its id."""
    titles = prepared.items["title"]
    title = titles[row] if isinstance(titles, Texts) else ""
    return title or prepared.item_ids[row]
