"""Whole answers by the compiled kernels are those of numpy, to the bit: pages, scores, candidates, features and reasons of a seeded shop."""

# bazel: size=medium

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import candidates
from core.columns import Array
from core.history import History, Query
from core.schema import EventType
from ranking import compiled_features
from retrieval.sources import evidence, neighbours, own_frequency
from serving.answers import Request
from serving.reasons import reasons
from serving.release import Release
from serving.request_path import answer, rank
from tests.serving.shop import END, make_shop
from tests.serving.test_probability import learned

TYPES = (EventType.PURCHASE_COMPLETE, EventType.PURCHASE_COMPLETE, EventType.RETURN, EventType.DETAIL_PAGE_VIEW)


def some_request(rng: np.random.Generator, items: int) -> Request:
    h = int(rng.integers(0, 30))
    types = np.array([TYPES[n].code for n in rng.integers(0, len(TYPES), h)], np.int8)
    gains = np.where(types == EventType.PURCHASE_COMPLETE.code, 1, 0).astype(np.float32)
    times = END - np.sort(rng.integers(1, 100, h))[::-1] * 10**10
    history = History(rng.integers(0, items, h).astype(np.int32), times.astype(np.int64), types, gains)
    page = rng.integers(0, items, int(rng.integers(0, 3))).astype(np.int32)
    excluded = rng.integers(0, items, int(rng.integers(0, 3))).astype(np.int32)
    allowed = rng.random(items) < 0.6 if rng.random() < 0.3 else None
    return Request(
        Query(END, 0, history, page), int(rng.integers(1, 20)), excluded, bool(rng.random() < 0.3), filter=allowed
    )


def answered(release: Release, requests: list[Request]) -> list[list[Any]]:
    """Everything that an answer holds, of `answer` and of `rank`."""
    found = []
    for request in requests:
        listed = np.unique(request.query.history.items)
        for page in (answer(release, request), rank(release, request.query, listed)):
            c = page.candidates
            arrays: list[Array | None] = [page.rows, page.scores, page.every, page.features, c.rows, c.scores, c.ranks]
            said = reasons(release, request.query, page.rows.tolist(), page.sources)
            found.append([None if a is None else a.tolist() for a in arrays] + [page.sources, page.level, said])
    return found


def test_whole_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = make_shop(tmp_path, ranker=learned)
    release, rng = Release.open(work.current), np.random.default_rng(11)
    requests = [some_request(rng, len(release.item_ids)) for _ in range(150)]
    found = answered(release, requests)
    assert any(row[3] for row in found)  # the ranker's matrix is among it
    for module in (candidates, evidence, neighbours, own_frequency, compiled_features):
        monkeypatch.setattr(module, "library", lambda: None)
    # notes of queries hold what the kernel has found
    plain = [replace(r, query=replace(r.query)) for r in requests]
    assert answered(Release.open(work.current), plain) == found
