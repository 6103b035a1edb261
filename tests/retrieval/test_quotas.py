"""Quotas on sources that are lists by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.candidates import gather
from core.columns import Array
from core.config import SourcesConfig, load_pipeline
from core.history import Query
from retrieval.quotas import STEP, choose_quotas, read_quotas
from retrieval.requests import PastRequest

NONE = np.empty(0, np.int32)


class Listing:
    """A source that always proposes the same rows."""

    def __init__(self, name: str, rows: Array) -> None:
        self.name, self._rows = name, rows.astype(np.int32)

    def scoring(self, query: Query) -> Listing:
        return self

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        rows = self._rows[~np.isin(self._rows, excluded)][:k]
        return rows, np.arange(len(rows), 0, -1, dtype=np.float32)

    def of(self, rows: Array) -> Array:
        return np.isin(rows, self._rows).astype(np.float32)


def asking(relevant: list[int], n: int = 200) -> list[PastRequest]:
    return [PastRequest(Query(time=t), NONE, np.array(relevant, np.int32)) for t in range(n)]


def configured(candidates: int, **more: object) -> SourcesConfig:
    return load_pipeline().sources.model_copy(update={"candidates": candidates, **more})


def test_the_budget_goes_where_the_relevant_items_are() -> None:
    # "good" has the two relevant items in its second and fourth block of 25, "bad" none: only "good" is worth candidates
    good, bad = Listing("good", np.arange(0, 200)), Listing("bad", np.arange(1000, 1200))
    chosen = choose_quotas([bad, good], asking([30, 80]), 5000, configured(100))
    assert chosen.quotas == {"bad": 0, "good": 4 * STEP}
    assert (chosen.recall, chosen.size) == (1.0, 4 * STEP)


def test_what_another_source_proposes_already_is_not_paid_for_twice() -> None:
    # the twin repeats the first list; the third source has the other relevant item
    first, twin, third = (
        Listing("first", np.arange(100)),
        Listing("twin", np.arange(100)),
        Listing("third", np.arange(500, 600)),
    )
    chosen = choose_quotas([first, twin, third], asking([3, 503]), 5000, configured(50))
    assert chosen.quotas["first"] + chosen.quotas["twin"] == STEP
    assert (chosen.quotas["third"], chosen.recall) == (STEP, 1.0)


def test_the_budget_is_kept_and_the_recall_is_that_of_the_request_path() -> None:
    rng = np.random.default_rng(5)
    sources = [Listing(f"s{i}", rng.permutation(3000)[:800]) for i in range(4)]
    requests = [
        PastRequest(
            Query(time=t),
            np.sort(rng.choice(3000, 5, False)).astype(np.int32),
            np.sort(rng.choice(3000, 9, False)).astype(np.int32),
        )
        for t in range(150)
    ]
    chosen = choose_quotas(sources, requests, 3000, configured(300))
    found = [gather(tuple(sources), chosen.quotas, r.query, r.excluded).rows for r in requests]
    assert np.mean([len(rows) for rows in found]) == pytest.approx(chosen.size)
    assert chosen.size <= 300
    assert np.mean(
        [np.isin(r.relevant, rows).mean() for r, rows in zip(requests, found, strict=True)]
    ) == pytest.approx(chosen.recall)


def test_popular_items_stay_for_strangers() -> None:
    sources = [Listing("good", np.arange(200)), Listing("popularity", np.arange(1000, 1200))]
    assert choose_quotas(sources, asking([30, 80]), 5000, configured(100)).quotas == {
        "good": 2 * STEP,
        "popularity": 50,
    }


def test_a_catalogue_that_fits_is_taken_whole() -> None:
    chosen = choose_quotas([Listing("a", np.arange(40))], asking([3]), 40, configured(500))
    assert (chosen.quotas, chosen.because) == ({"a": 40}, "all 40 items fit")


def test_too_few_requests_give_every_source_the_same() -> None:
    chosen = choose_quotas([Listing("a", NONE), Listing("b", NONE)], asking([3], 5), 5000, configured(500))
    assert chosen.quotas == {"a": 500, "b": 500}
    assert "5 past requests are too few" in str(chosen)


def test_configured_quotas_win_and_are_left_for_the_later_stages(tmp_path: Path) -> None:
    chosen = choose_quotas([Listing("a", NONE), Listing("b", NONE)], asking([3]), 10, configured(500, quotas={"b": 7}))
    chosen.write(tmp_path)
    assert read_quotas(tmp_path) == {"a": 0, "b": 7}
    assert chosen.about["validation_recall"] is None
