"""A study of two people by hand: what a source, a group of features and a setting bring."""

from __future__ import annotations

from math import log2
from pathlib import Path

import numpy as np
import pytest

from core.config import EvaluationConfig
from core.ids import NO_ROW
from core.prepared import TWIN
from core.schema import DAY
from evaluation import study as figures
from evaluation.catalogue import Catalogue
from evaluation.item_groups import by_age, by_popularity
from evaluation.judgements import judge
from evaluation.segments import history_length
from evaluation.study import Setting, Study
from tests.prepared_fixture import Row, make_prepared

CUTS = [d * DAY for d in (0, 10, 20, 30, 40)]
CONFIG = EvaluationConfig(seed=7, max_queries=1000, bootstrap_samples=200, confidence=0.95, seen="auto")
BUY = "purchase-complete"
SECOND = 1 / log2(3)


def page(*rows: int) -> list[int]:
    return [*rows, *[NO_ROW] * (10 - len(rows))]


@pytest.fixture
def case(tmp_path: Path) -> tuple[Study, Catalogue]:
    """Items a=0 .. c=2. ann wants b, bob wants a. Source s proposed both, t only what bob wants."""
    days = [("u:ann", "a", 1), ("u:bob", "a", 3), ("u:bob", "c", 4), ("u:ann", "b", 31), ("u:bob", "a", 33)]
    rows: list[Row] = [(u, i, BUY, d * DAY) for u, i, d in days]
    prepared = make_prepared(tmp_path, rows, cuts=CUTS)
    pages = np.array([page(1, 0), page(2, 0)], np.int32)  # ann: first; bob: second
    other = np.array([page(0, 2), page(2, 0)], np.int32)  # ann: none; bob: second
    study = Study(
        judgements=judge(prepared, TWIN, "keep"),
        pages=pages,
        before=other,
        without_source={"s": other, "t": pages},
        proposed={"s": np.array([True, True]), "t": np.array([False, True])},
        shuffled={"popularity": other},
        settings=[Setting(1.0, pages, np.array([3, 1]), np.array([True, True]), np.array([0.001, 0.003]))],
        config=CONFIG,
    )
    return study, Catalogue.of(prepared, TWIN)


def test_what_each_part_brings(case: tuple[Study, Catalogue]) -> None:
    study, _ = case
    head = figures.headline(study)
    assert head["ndcg@10"]["mean"] == pytest.approx((1 + SECOND) / 2, abs=1e-6)
    assert head["ndcg@10_difference"] == pytest.approx({"mean": 0.5, "low": 0.0, "high": 1.0})
    sources = figures.sources(study)
    # without s nothing proposes b: ann loses all of what she wants, bob nothing; without t nobody loses anything
    assert [sources[s]["recall_lost"]["mean"] for s in ("s", "t")] == [0.5, 0.0]
    assert [sources[s]["recall"]["mean"] for s in ("s", "t")] == [1.0, 0.5]
    assert sources["s"]["ndcg@10_lost"]["mean"] == 0.5
    groups = figures.feature_groups(study, {"popularity": 0.25})
    assert (groups["popularity"]["gain_share"], groups["popularity"]["ndcg@10_lost"]["mean"]) == (0.25, 0.5)


def test_cost_of_a_setting(case: tuple[Study, Catalogue]) -> None:
    (row,) = figures.costs(case[0])
    assert (row["factor"], row["candidates"], row["recall"]["mean"]) == (1.0, 2.0, 1.0)
    assert row["cpu_ms"]["median"] == 2.0  # between 1 and 3 ms
    assert row["ndcg@10_difference"]["mean"] == 0.0


def test_segments_are_compared_with_before(case: tuple[Study, Catalogue]) -> None:
    study, _ = case
    parts = figures.segments(study, [history_length(study.judgements)])["history_length"]
    # ann chose once before, bob twice
    assert {k: v["queries"] for k, v in parts.items()} == {"1": 1, "2-4": 1}
    assert (parts["1"]["ndcg@10_difference"]["mean"], parts["2-4"]["ndcg@10_difference"]["mean"]) == (1.0, 0.0)


def test_attention_now_and_before(case: tuple[Study, Catalogue]) -> None:
    study, catalogue = case
    decile = figures.exposures(study, [by_popularity(catalogue)], catalogue)["popularity decile"]
    # before T2 two chose a, one c, none b: a is the most popular; b, which no event names, is new
    first = 1 / (1 + SECOND)
    assert decile["new"]["wanted"] == 0.5
    assert decile["new"]["shown"]["mean"] == pytest.approx(first / 2, abs=1e-6)  # ann's first place of two
    assert decile["new"]["shown_difference"]["mean"] == pytest.approx(first / 2, abs=1e-6)
    assert sum(v["items"] for v in decile.values()) == pytest.approx(1, abs=1e-5)
    # a since day 1, c since day 4: under 30 days old at day 30; b is new
    age = by_age(catalogue, CUTS[3])
    assert [age.labels[c] for c in age.codes] == ["under 30 days", "new", "under 30 days"]


def test_variety_now_and_before(case: tuple[Study, Catalogue]) -> None:
    study, catalogue = case
    variety = figures.variety(study, catalogue, None)
    # b, a and c are shown now; a and c before
    assert (variety["catalogue"]["now"]["coverage"], variety["catalogue"]["before"]["coverage"]) == (1.0, 0.666667)
    # of 2 people: a log2(3/3) = 0 bits, c log2(3/2), b log2(3/1); ann's page has b for c now
    gained = (log2(3) - log2(3 / 2)) / 2 / 2
    assert variety["pages"]["novelty"]["difference"]["mean"] == pytest.approx(gained, abs=1e-6)
    assert "diversity" not in variety["pages"]
