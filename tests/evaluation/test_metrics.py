from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Array
from core.ids import NO_ROW
from evaluation.metrics import Found, find, hit, mrr, ndcg, padded, recall
from evaluation.relevance import Relevance
from tests.evaluation.cases import answers, cases, relevance

METRICS = (ndcg, hit, recall, mrr)
KS = st.integers(1, 14)


def test_metrics_of_a_case_done_by_hand() -> None:
    found = find(answers([7, 3, 9, 5]), relevance({3: 1.0, 5: 0.4, 8: 0.4}))
    assert found.positions.tolist() == [1, 3, NO_ROW]
    # dcg@3: item 3 at rank 2: 1 / log2(3).  ideal@3: gains 1, .4, .4 at ranks 1, 2, 3
    assert ndcg(found, 3)[0] == pytest.approx((1 / log2(3)) / (1 / log2(2) + 0.4 / log2(3) + 0.4 / log2(4)))
    # dcg@4 adds item 5 at rank 4; the ideal has only 3 items
    dcg = 1 / log2(3) + 0.4 / log2(5)
    assert ndcg(found, 4)[0] == pytest.approx(dcg / (1 + 0.4 / log2(3) + 0.4 / log2(4)))
    assert (recall(found, 1)[0], recall(found, 2)[0], recall(found, 4)[0]) == (0, 1 / 3, 2 / 3)
    assert (hit(found, 1)[0], hit(found, 2)[0]) == (0, 1)
    assert (mrr(found, 1)[0], mrr(found, 4)[0]) == (0, 1 / 2)


def test_a_k_beyond_the_answer_and_the_relevant_items() -> None:
    found = find(answers([2]), relevance({2: 1.0, 4: 1.0}))
    # ideal over min(k, 2) = 2 items
    assert ndcg(found, 500)[0] == pytest.approx(1 / (1 + 1 / log2(3)))
    assert recall(found, 500)[0] == 1 / 2


def test_a_query_without_an_answer_scores_0() -> None:
    found = find(answers([1], []), relevance({1: 1.0}, {1: 1.0}))
    assert [m(found, 10).tolist() for m in METRICS] == [[1.0, 0.0]] * 4


def test_answers_of_no_width_and_no_queries() -> None:
    assert [m(find(np.empty((1, 0), np.int32), relevance({1: 1.0})), 10).tolist() for m in METRICS] == [[0.0]] * 4
    none = Relevance(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    assert [len(m(find(np.empty((0, 5), np.int32), none), 10)) for m in METRICS] == [0] * 4


def test_a_repeated_item_counts_at_its_first_place_and_wastes_the_others() -> None:
    found = find(answers([4, 4, 4, 6]), relevance({4: 1.0, 6: 1.0}))
    assert recall(found, 3)[0] == 1 / 2
    # item 4 at rank 1, item 6 at rank 4
    assert ndcg(found, 10)[0] == pytest.approx((1 + 1 / log2(5)) / (1 + 1 / log2(3)))


def test_equal_gains_cancel() -> None:
    rows = answers([7, 3, 9, 5])
    equal, unit = relevance({3: 0.1, 5: 0.1, 8: 0.1}), relevance({3: 1.0, 5: 1.0, 8: 1.0})
    np.testing.assert_allclose(ndcg(find(rows, equal), 10), ndcg(find(rows, unit), 10), rtol=1e-12)


def test_padded_cuts_and_fills() -> None:
    rows = padded([np.array([1, 2, 3]), np.array([], int), np.array([4])], 2)
    assert rows.tolist() == [[1, 2], [NO_ROW, NO_ROW], [4, NO_ROW]]
    assert rows.dtype == np.int32


@pytest.mark.parametrize("bad", [np.zeros((2, 3), np.int32), np.zeros(3, np.int32), np.zeros((1, 3))])
def test_answers_that_do_not_fit_are_refused(bad: Array) -> None:
    with pytest.raises(ValueError, match=r"expected integer answers \[1, k\]"):
        find(bad, relevance({1: 1.0}))


@pytest.mark.parametrize("metric", METRICS)
def test_k_must_be_at_least_1(metric: type) -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        metric(find(answers([1]), relevance({1: 1.0})), 0)


@given(cases(distinct=False), KS)
def test_every_metric_is_in_0_to_1(case: tuple[Relevance, Array], k: int) -> None:
    found = find(case[1], case[0])
    for metric in METRICS:
        values = metric(found, k)
        assert values.shape == (len(case[0]),)
        assert ((values >= 0) & (values <= 1)).all()


@given(cases(), KS)
def test_a_perfect_ranking_scores_1(case: tuple[Relevance, Array], k: int) -> None:
    r, _ = case
    best = [r.items[a:b][np.argsort(-r.gains[a:b])] for a, b in zip(r.starts, r.starts[1:], strict=False)]
    found = find(padded(best, 12), r)
    assert ndcg(found, k) == pytest.approx(1, abs=1e-12)
    assert (hit(found, k) == 1).all()
    assert (mrr(found, k) == 1).all()
    assert recall(found, 12).tolist() == [1.0] * len(r)


@given(cases(), KS, st.integers(0, 10), st.integers(1, 11))
def test_moving_the_better_item_up_never_hurts(case: tuple[Relevance, Array], k: int, at: int, by: int) -> None:
    r, rows = case
    gains = dict(zip(zip(r.queries.tolist(), r.items.tolist(), strict=True), r.gains.tolist(), strict=True))
    lower = min(11, at + by)
    improved = rows.copy()
    for q, row in enumerate(rows):
        if gains.get((q, int(row[lower])), 0.0) > gains.get((q, int(row[at])), 0.0):
            improved[q, [at, lower]] = row[[lower, at]]
    for metric in METRICS:
        assert (metric(find(improved, r), k) >= metric(find(rows, r), k) - 1e-12).all()


@given(cases(), KS, st.randoms(use_true_random=False))
def test_the_order_of_the_queries_does_not_matter(case: tuple[Relevance, Array], k: int, random: object) -> None:
    r, rows = case
    order = np.arange(len(r))
    random.shuffle(order)  # type: ignore[attr-defined]
    new = np.argsort(order)  # query order[j] becomes query j
    shuffled = Relevance.of(new[r.queries], r.items, r.gains, len(r))
    for metric in METRICS:
        np.testing.assert_allclose(metric(find(rows[order], shuffled), k), metric(find(rows, r), k)[order], rtol=1e-12)


@given(cases(), KS)
def test_an_irrelevant_item_at_the_end_changes_nothing(case: tuple[Relevance, Array], k: int) -> None:
    r, rows = case
    longer = np.concatenate([rows, np.full((len(rows), 1), 99, np.int32)], axis=1)
    for metric in METRICS:
        np.testing.assert_array_equal(metric(find(longer, r), k), metric(find(rows, r), k))


@given(cases(), KS)
def test_recall_hits_and_mrr_grow_with_k(case: tuple[Relevance, Array], k: int) -> None:
    found = find(case[1], case[0])
    for metric in (recall, hit, mrr):
        assert (metric(found, k) <= metric(found, k + 1)).all()


@given(cases())
def test_only_is_as_if_nothing_else_were_relevant(case: tuple[Relevance, Array]) -> None:
    r, rows = case
    pairs = r.items % 2 == 0
    part, queries = find(rows, r).only(pairs)
    direct = find(rows[queries], r.only(pairs)[0])
    assert isinstance(part, Found)
    np.testing.assert_array_equal(part.positions, direct.positions)
    assert len(part) == len(queries)


def score(ranked: list[list[int]], wanted: list[set[int]]) -> dict[str, float]:
    """The definitions of acceptance/check.py, written again in plain Python: means over queries."""
    total = {"ndcg@10": 0.0, "hit@10": 0.0, "recall@100": 0.0, "recall@500": 0.0}
    for row, relevant in zip(ranked, wanted, strict=True):
        hits = [i for i, item in enumerate(row) if item in relevant]
        ideal = sum(1 / np.log2(i + 2) for i in range(min(10, len(relevant))))
        total["ndcg@10"] += sum(1 / np.log2(i + 2) for i in hits if i < 10) / ideal
        total["hit@10"] += any(i < 10 for i in hits)
        for k in (100, 500):
            total[f"recall@{k}"] += sum(i < k for i in hits) / len(relevant)
    return {name: value / len(wanted) for name, value in total.items()}


def test_equal_to_the_acceptance_check_on_random_data() -> None:
    rng = np.random.default_rng(3)
    ranked = [rng.permutation(900)[: rng.integers(0, 600)].tolist() for _ in range(120)]
    wanted = [set(rng.choice(900, rng.integers(1, 60), replace=False).tolist()) for _ in range(120)]
    found = find(
        padded([np.array(row, int) for row in ranked], 600), relevance(*(dict.fromkeys(w, 1.0) for w in wanted))
    )
    ours = {
        "ndcg@10": ndcg(found, 10),
        "hit@10": hit(found, 10),
        "recall@100": recall(found, 100),
        "recall@500": recall(found, 500),
    }
    for name, value in score(ranked, wanted).items():
        assert ours[name].mean() == pytest.approx(value, abs=1e-12), name


def test_blocks_of_pairs_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    rows = np.stack([rng.permutation(50)[:20] for _ in range(30)]).astype(np.int32)
    r = relevance(*({int(i): 1.0 for i in rng.choice(50, 7, replace=False)} for _ in range(30)))
    whole = find(rows, r).positions
    monkeypatch.setattr("evaluation.metrics._CELLS", 60)
    np.testing.assert_array_equal(find(rows, r).positions, whole)
