"""Training rows: complete, causal, and without a target that the person could not have had next."""

import numpy as np
import pytest

from core.prepared import Interactions
from core.schema import MINUTE
from retrieval.towers.inputs import gap_buckets, repeats, window
from retrieval.towers.stream import Rows, Stream
from retrieval.towers.validate import hold_back, recall, requests


def events(
    users: list[int], items: list[int], times: list[int] | None = None, gains: list[float] | None = None
) -> Interactions:
    n = len(users)
    at = np.array(times if times is not None else range(n), np.int64) * MINUTE
    gain = np.array(gains if gains is not None else [1.0] * n, np.float32)
    return Interactions(
        np.array(users, np.int32), np.array(items, np.int32), at, np.zeros(n, np.int8), gain, 9, 99, int(at.max()) + 1
    )


def rows(
    e: Interactions, seed: int = 0, *, length: int = 4, targets: int = 1, horizon: int = 1, fresh: bool = False
) -> Rows:
    return Stream(e, length=length, targets=targets, horizon=horizon, fresh=fresh, clock=True).epoch(
        np.random.default_rng(seed)
    )


def next_of(r: Rows) -> dict[int, set[int]]:
    """Item -> its targets that count."""
    found: dict[int, set[int]] = {}
    for item, segment, target, weight in zip(
        r.item.ravel(),
        r.segment.ravel(),
        r.target.reshape(-1, r.target.shape[2]),
        r.weight.reshape(-1, r.weight.shape[2]),
        strict=True,
    ):
        if segment >= 0:
            found.setdefault(int(item), set()).update(target[weight > 0].tolist())
    return found


@pytest.mark.parametrize("seed", range(5))
def test_each_event_appears_once_and_its_target_is_the_next_one_even_across_rows(seed: int) -> None:
    r = rows(events([1, 1, 1, 1, 1, 1, 2, 2], [10, 11, 12, 13, 14, 15, 20, 21]), seed)
    assert next_of(r) == {10: {11}, 11: {12}, 12: {13}, 13: {14}, 14: {15}, 15: set(), 20: {21}, 21: set()}
    assert np.bincount(r.item[r.segment >= 0])[[10, 15, 20, 21]].tolist() == [1, 1, 1, 1]


def test_targets_come_from_the_horizon_and_never_from_the_past_or_from_others() -> None:
    e = events([1] * 6 + [2] * 2, [10, 11, 12, 13, 14, 15, 20, 21])
    seen: dict[int, set[int]] = {}
    for seed in range(40):
        for item, targets in next_of(rows(e, seed, targets=2, horizon=3)).items():
            seen.setdefault(item, set()).update(targets)
    assert seen == {
        10: {11, 12, 13},
        11: {12, 13, 14},
        12: {13, 14, 15},
        13: {14, 15},
        14: {15},
        15: set(),
        20: {21},
        21: set(),
    }


def test_fresh_targets_skip_what_the_person_already_has() -> None:
    assert next_of(rows(events([1, 1, 1, 1], [10, 11, 10, 12]), fresh=True)) == {10: {11, 12}, 11: {12}, 12: set()}


def test_targets_weigh_their_gain() -> None:
    r = rows(events([1, 1], [10, 11], gains=[1.0, 0.25]))
    assert r.weight[r.item == 10].ravel().tolist() == [0.25]


def test_the_order_within_a_moment_is_dealt_anew() -> None:
    e = events([1, 1, 1], [10, 11, 12], times=[0, 0, 5])
    assert {tuple(sorted(next_of(rows(e, seed))[10])) for seed in range(20)} == {(11,), (12,)}


def test_lines_of_one_order_are_one_event() -> None:
    r = rows(events([1, 1, 1], [10, 10, 11], times=[0, 0, 5]))
    assert np.count_nonzero(r.segment >= 0) == 2
    assert repeats(np.array([5, 5]), np.array([1, 1]), np.array([1, 2])).tolist() == [False, False]


def test_gaps_start_anew_with_each_person() -> None:
    assert gap_buckets(np.array([0, 3, 3]) * MINUTE, np.array([1, 1, 2])).tolist() == [0, 3, 0]


def test_a_window_holds_the_newest_events_on_the_right() -> None:
    w = window(np.array([7, 8, 9]), np.array([1, 2, 3]), np.array([0, 1, 3]) * MINUTE, 2, clock=True)
    assert [getattr(w, n).tolist() for n in ("item", "type", "gap", "segment")] == [
        [[8, 9]],
        [[2, 3]],
        [[0, 2]],
        [[1, 1]],
    ]
    assert window(np.array([7]), np.array([1]), np.array([5]), 2, clock=False).segment.tolist() == [[0, 1]]


def test_held_back_is_the_newest_part_by_clock_or_each_persons_last() -> None:
    # 60 people at each of the moments 0 to 19: the 0.95 quantile of their 1200 events is the 1140th smallest, at moment 18
    crowd = [(p, t) for p in range(60) for t in range(20)]
    e = events([p for p, _ in crowd], [t for _, t in crowd], times=[t for _, t in crowd])
    older, newer = hold_back(e, "global")
    assert set(newer.item.tolist()) == {18, 19}
    assert (len(older.item), len(newer.item)) == (1080, 120)
    # people who come one after the other: nobody of the newest part was there before it
    e = events([1] * 3 + [2] * 2 + [3] * 15, list(range(20)), times=list(range(20)))
    for protocol in ("global", "last"):
        older, newer = hold_back(e, protocol)
        assert newer.item.tolist() == [2, 19]  # person 2 has too few events
        assert older.item.tolist() == [0, 1, *range(3, 19)]


def test_what_a_person_has_is_asked_again_only_where_people_buy_again() -> None:
    older, newer = events([1, 1], [10, 11]), events([1, 1, 2], [10, 12, 13], times=[5, 6, 7])
    ask = {
        fresh: requests(older, newer, length=2, clock=True, fresh=fresh, rng=np.random.default_rng(0))
        for fresh in (True, False)
    }
    assert [r.tolist() for r in ask[True].relevant] == [[12]]
    assert [r.tolist() for r in ask[False].relevant] == [[10, 12]]
    assert recall(np.array([[12, 11]]), (np.array([10, 12]),), k=1) == 0.5
