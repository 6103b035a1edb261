import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.candidates import Candidates
from core.ids import NO_ROW
from evaluation.funnel import PLACES, Place, Sightings, funnel, joined, look, places

CANDIDATES = Candidates(
    rows=np.array([2, 5, 9], np.int32),
    sources=("popularity", "knn"),
    scores=np.zeros((3, 2), np.float32),
    # popularity proposed 2 and 9, knn 5 and 9
    ranks=np.array([[0, NO_ROW], [NO_ROW, 0], [1, 1]], np.int32),
)
NONE = np.empty(0, np.int32)


def test_look_by_hand() -> None:
    s = look(np.array([1, 2, 5, 9, 11]), CANDIDATES, filtered=np.array([5]))
    assert s.retrieved.tolist() == [[False, False], [True, False], [False, True], [True, True], [False, False]]
    assert s.union.tolist() == [False, True, False, True, False]
    assert s.filtered.tolist() == [False, False, True, False, False]


def test_look_with_a_merge_that_leaves_no_room() -> None:
    s = look(np.array([2, 9]), CANDIDATES, filtered=NONE, ranked=np.array([9]))
    assert s.union.tolist() == [False, True]
    assert places(s, np.array([NO_ROW, NO_ROW])).tolist() == [
        PLACES.index(Place.OUTSIDE_UNION),
        PLACES.index(Place.BELOW_500),
    ]


def test_look_without_candidates() -> None:
    none = Candidates(NONE, ("a",), np.empty((0, 1), np.float32), np.empty((0, 1), np.int32))
    s = look(np.array([3]), none, NONE)
    assert (s.retrieved.tolist(), s.union.tolist()) == ([[False]], [False])


def test_every_place_by_hand() -> None:
    positions = np.array([0, 9, 10, 99, 100, 499, 500, NO_ROW, NO_ROW, NO_ROW, NO_ROW])
    n = len(positions)
    s = Sightings(("a",), np.ones((n, 1), bool), np.arange(n) < 8, np.arange(n) == 8)
    s.retrieved[10] = False
    found = [str(PLACES[p]) for p in places(s, positions)]
    assert found[:6] == ["top_10", "top_10", "top_100", "top_100", "top_500", "top_500"]
    assert found[6:] == ["below_500", "below_500", "filtered", "outside_union", "not_retrieved"]


def test_funnel_counts_the_chosen_pairs_by_place_and_source() -> None:
    s = joined([look(np.array([1, 2]), CANDIDATES, NONE), look(np.array([5, 9]), CANDIDATES, NONE)])
    # 1 not retrieved; 2 ranked 3rd; 5 a candidate that was not ranked; 9 left out by the mask
    result = funnel(s, np.array([NO_ROW, 2, NO_ROW, 0]), np.array([True, True, True, False]))
    assert result["pairs"] == 3
    assert {p: v["pairs"] for p, v in result["places"].items() if v["pairs"]} == {
        "top_10": 1,
        "below_500": 1,
        "not_retrieved": 1,
    }
    assert result["places"]["top_10"]["share"] == pytest.approx(1 / 3, abs=1e-6)
    assert result["sources"]["popularity"] == {"pairs": 1, "share": pytest.approx(1 / 3, abs=1e-6), "alone": 1}
    assert result["sources"]["knn"]["alone"] == 1


def test_nothing_to_lose() -> None:
    s = look(NONE, CANDIDATES, NONE)
    result = funnel(s, NONE, np.empty(0, bool))
    assert result["pairs"] == 0
    assert result["places"]["top_10"] == {"pairs": 0, "share": None}


def test_sightings_of_different_sources_do_not_join() -> None:
    other = Candidates(NONE, ("a",), np.empty((0, 1), np.float32), np.empty((0, 1), np.int32))
    with pytest.raises(ValueError, match="one set of sources"):
        joined([look(NONE, CANDIDATES, NONE), look(NONE, other, NONE)])


PAIRS = st.lists(
    st.tuples(
        st.tuples(st.booleans(), st.booleans()), st.booleans(), st.booleans(), st.integers(NO_ROW, 700), st.booleans()
    ),
    max_size=60,
)


@given(PAIRS)
def test_every_pair_ends_in_exactly_one_place_whatever_the_stages_claim(
    pairs: list[tuple[tuple[bool, bool], bool, bool, int, bool]],
) -> None:
    n = len(pairs)
    s = Sightings(
        ("a", "b"),
        np.array([p[0] for p in pairs], bool).reshape(n, 2),
        np.array([p[1] for p in pairs], bool),
        np.array([p[2] for p in pairs], bool),
    )
    positions, mask = np.array([p[3] for p in pairs], np.int32), np.array([p[4] for p in pairs], bool)
    result = funnel(s, positions, mask)
    assert sum(v["pairs"] for v in result["places"].values()) == result["pairs"] == mask.sum()
    # the ranked places are recall: as many pairs within k as metrics.Found.within counts
    top = [result["places"][p]["pairs"] for p in ("top_10", "top_100", "top_500")]
    assert np.cumsum(top).tolist() == [((positions >= 0) & (positions < k) & mask).sum() for k in (10, 100, 500)]
