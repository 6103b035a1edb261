from pathlib import Path

import numpy as np

from core.prepared import LAST_TWIN, TWIN
from core.schema import DAY
from evaluation.catalogue import NEVER, Catalogue
from evaluation.judgements import judge
from evaluation.segments import history_length, item_age, item_popularity, segmentations
from tests.prepared_fixture import Row, make_prepared

CUTS = [d * DAY for d in (0, 100, 200, 500, 600)]
BUY, VIEW = "purchase-complete", "impression"


def rows() -> list[Row]:
    """Rows: a=0 .. e=4 of items, ann=0, bob=1, cat=2 of users; T2 is day 500."""
    history = [
        ("u:ann", "a", BUY, 10), ("u:ann", "a", BUY, 20), ("u:bob", "a", BUY, 495), ("u:bob", "b", BUY, 495),
        ("u:ann", "c", VIEW, 300),
    ]  # fmt: skip
    window = [("u:ann", i, BUY, 510 + n) for n, i in enumerate("abcd")] + [("u:cat", "e", BUY, 550)]
    return [(u, i, t, day * DAY) for u, i, t, day in history + window]


def test_catalogue_knows_nothing_of_the_window(tmp_path: Path) -> None:
    c = Catalogue.of(make_prepared(tmp_path, rows(), cuts=CUTS), TWIN)
    assert c.popularity.tolist() == [2, 1, 0, 0, 0]  # people, and ann bought a twice
    assert c.first_seen.tolist() == [10 * DAY, 495 * DAY, 300 * DAY, NEVER, NEVER]  # a look shows the item
    assert c.known.tolist() == [True, True, True, False, False]
    assert (c.people, len(c), c.synthetic_time) == (2, 5, False)
    assert c.alive.all()


def test_segments_by_hand(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, rows(), cuts=CUTS)
    j, c = judge(prepared, TWIN, "keep"), Catalogue.of(prepared, TWIN)
    assert j.relevance.items.tolist() == [0, 1, 2, 3, 4]  # ann's a b c d, cat's e

    length = history_length(j)
    assert [length.labels[code] for code in length.codes] == ["2-4", "0"]  # ann: 2 purchases, the look does not count
    assert length.pairs(j, "2-4").tolist() == [True] * 4 + [False]

    # known items by people: c 0, b 1, a 2 -> percentiles 1/6, 3/6, 5/6 -> deciles 2, 6, 9
    decile = item_popularity(j, c)
    assert [decile.labels[code] for code in decile.codes] == ["9", "6", "2", "new", "new"]
    assert decile.pairs(j, "new").tolist() == [False, False, False, True, True]

    # ages at day 500: a 490, b 5, c 200
    age = item_age(j, c)
    assert [age.labels[code] for code in age.codes] == ["365+ days", "0-6 days", "90-364 days", "new", "new"]


def test_the_bounds_of_history_lengths(tmp_path: Path) -> None:
    lengths = [1, 2, 4, 5, 9, 10, 49, 50]
    events: list[Row] = [(f"u:{n:02}", "a", BUY, d * DAY) for n in lengths for d in (*range(n), 550)]
    segments = history_length(judge(make_prepared(tmp_path, events, cuts=CUTS), TWIN, "keep"))
    found = [segments.labels[code] for code in segments.codes]
    assert found == ["1", "2-4", "2-4", "5-9", "5-9", "10-49", "10-49", "50+"]


def test_an_item_first_seen_later_on_the_clock_is_as_young_as_can_be(tmp_path: Path) -> None:
    # ann ends before bob begins: under `last` his purchase of d at day 30 makes it known when she is asked at day 3
    events: list[Row] = [("u:ann", i, BUY, d * DAY) for d, i in enumerate("abcd")]
    events += [("u:bob", i, BUY, d * DAY) for d, i in ((30, "d"), (31, "a"), (32, "b"))]
    prepared = make_prepared(tmp_path, events, cuts=CUTS)
    j, c = judge(prepared, LAST_TWIN, "keep"), Catalogue.of(prepared, LAST_TWIN)
    age = item_age(j, c)
    assert [age.labels[code] for code in age.codes] == ["0-6 days", "30-89 days"]


def test_an_invented_clock_has_no_ages(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, rows(), cuts=CUTS, synthetic_time=True)
    j, c = judge(prepared, TWIN, "keep"), Catalogue.of(prepared, TWIN)
    assert [s.name for s in segmentations(j, c)] == ["history_length", "item_popularity_decile"]


def test_every_query_or_pair_is_in_one_segment_of_each_kind(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, rows(), cuts=CUTS)
    j, c = judge(prepared, TWIN, "keep"), Catalogue.of(prepared, TWIN)
    for kind in segmentations(j, c):
        assert np.sum([kind.pairs(j, label) for label in kind.labels], axis=0).tolist() == [1] * 5
