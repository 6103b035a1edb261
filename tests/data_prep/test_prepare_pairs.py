from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Columns
from core.config import PairConfig
from core.schema import DAY
from data_prep.pairs import PairSums, Sequences
from data_prep.pruning import kept_rows

A, B, C = 0, 1, 2
N = 3


def pairs(
    tmp_path: Path,
    name: str,
    events: list[tuple[int, int, float, int]],
    newest: float | None = None,
    protocol: str = "global",
    **config: float,
) -> dict[tuple[int, int, int], tuple[float, float]]:
    """Rows as (source, target, fold) -> (count, decayed); events as (user, item, day, fold) in order, the fold for both protocols."""
    chosen = PairConfig.model_validate({"window": 3, "gap_days": 30, "half_life_days": 1, "per_item": 100} | config)
    sums = PairSums(N, chosen, None if newest is None else int(newest * DAY), tmp_path)
    user, item, day, fold = (np.array(c) for c in zip(*events, strict=True))
    sums.add(Sequences(user, item, (day * DAY).astype(np.int64), fold * 4 + fold))
    sums.write(tmp_path)
    t = Columns.open(tmp_path / protocol / name)
    keys = zip(*(t.numbers(c).tolist() for c in ("source", "target", "fold")), strict=True)
    return dict(zip(keys, zip(t.numbers("count").tolist(), t.numbers("decayed").tolist(), strict=True), strict=True))


def test_transitions_reach_window_places_ahead(tmp_path: Path) -> None:
    # A B A C, window 2. One place: A>B B>A A>C. Two places: A>A is no pair, B>C at half weight.
    found = pairs(tmp_path, "transitions", [(0, A, 0, 0), (0, B, 1, 0), (0, A, 2, 0), (0, C, 3, 0)], window=2)
    assert found == {(A, B, 0): (1, 1), (A, C, 0): (1, 1), (B, A, 0): (1, 1), (B, C, 0): (1, 0.5)}


def test_transitions_end_with_the_person(tmp_path: Path) -> None:
    assert pairs(tmp_path, "transitions", [(0, A, 0, 0), (1, B, 1, 0)]) == {}


@pytest.mark.parametrize("protocol", ["global", "last"])
def test_a_pair_is_in_the_fold_of_its_later_event(tmp_path: Path, protocol: str) -> None:
    found = pairs(tmp_path, "transitions", [(0, A, 0, 0), (0, B, 1, 2)], protocol=protocol)
    assert found == {(A, B, 2): (1, 1)}


def test_transitions_halve_with_age(tmp_path: Path) -> None:
    # A>B happened on day 1, 2 days before the newest event, at a half-life of 1 day: 1/4. The count stays whole.
    found = pairs(tmp_path, "transitions", [(0, A, 0, 0), (0, B, 1, 0)], newest=3)
    assert found == {(A, B, 0): (1, 0.25)}


def test_covisits_go_both_ways_and_fade_with_the_time_between(tmp_path: Path) -> None:
    # gap 4 days, so half for each day between. A-B 1 day: 1/2. B-C 4 days: 1/16. A-C 5 days: beyond the gap.
    found = pairs(tmp_path, "covisits", [(0, A, 0, 0), (0, B, 1, 0), (0, C, 5, 0)], gap_days=4)
    assert found == {(A, B, 0): (1, 0.5), (B, A, 0): (1, 0.5), (B, C, 0): (1, 1 / 16), (C, B, 0): (1, 1 / 16)}


def test_repeated_covisits_add_up(tmp_path: Path) -> None:
    # two people with A and B at the same moment, in either order
    found = pairs(tmp_path, "covisits", [(0, A, 0, 0), (0, B, 0, 0), (1, B, 0, 1), (1, A, 0, 1)])
    assert found == {(A, B, 0): (1, 1), (A, B, 1): (1, 1), (B, A, 0): (1, 1), (B, A, 1): (1, 1)}


def test_only_the_strongest_are_kept_and_late_risers_bring_their_past(tmp_path: Path) -> None:
    # source 0, one pair a fold. Fold 0: to 1 with 2, to 2 with 1: only 0>1 is written.
    # Fold 1: 0>2 gains 3 and leads with 4 to 2.5: written with all 4; 0>1 gains .5, is second now: not written.
    # Fold 2: 0>1 gains 2 and leads with 4.5: written with the .5 that waited.
    found = kept_rows(
        np.array([1, 1, 1, 2, 2]),
        np.array([0, 1, 2, 0, 1]),
        np.array([[2, 2], [1, 0.5], [1, 2], [1, 1], [3, 3.0]]).T,
        bits=4,
        per_item=1,
    )
    assert [c.tolist() for c in found] == [[0, 0, 0], [1, 1, 2], [0, 2, 1], [2, 2, 4], [2, 2.5, 4]]


def test_ties_go_to_the_smaller_target() -> None:
    found = kept_rows(np.array([1, 2, 3]), np.zeros(3, int), np.ones((2, 3)), bits=4, per_item=2)
    assert found[1].tolist() == [1, 2]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=40
    ),
    st.integers(1, 3),
)
def test_what_is_kept_below_a_cut_does_not_depend_on_later_folds(
    rows: list[tuple[int, int, int, int]], per_item: int
) -> None:
    table = {(s << 4 | t, f): float(w) for s, t, f, w in rows}

    def kept(below: int) -> list[tuple[float, ...]]:
        chosen = sorted(k for k in table if k[1] < below)
        if not chosen:
            return []
        weights = np.array([[1, table[k]] for k in chosen]).T
        out = kept_rows(np.array([p for p, _ in chosen]), np.array([f for _, f in chosen]), weights, 4, per_item)
        return list(zip(*(c.tolist() for c in out), strict=True))

    everything = kept(4)
    for below in range(1, 4):
        assert kept(below) == [row for row in everything if row[2] < below]


def test_a_long_sequence_is_bounded(tmp_path: Path) -> None:
    # 300 events of one person at one moment, A and B in turn: each event meets at most the 100 before it, half of them the other item
    events = [(0, i % 2, 0.0, 0) for i in range(300)]
    found = pairs(tmp_path, "covisits", events)
    assert found[(A, B, 0)][0] == sum(min(i, 100) // 2 + (min(i, 100) % 2) for i in range(300))
