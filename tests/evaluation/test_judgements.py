"""Judgements on a shop small enough to read.

Time is in days; the cuts are start 0, T1 10, Tv 20, T2 30, end 40. Items are rows a=0 b=1 c=2 d=3 e=4; "d" first appears in the test window.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.artifact import publish
from core.columns import Columns
from core.errors import ArtifactError
from core.prepared import (
    CHOOSE,
    FORMAT_VERSION,
    FULL,
    KIND,
    LAST_TRAIN,
    LAST_TWIN,
    TRAIN,
    TWIN,
    Fold,
    Prepared,
    Protocol,
    Seen,
)
from core.schema import DAY, Column
from evaluation.judgements import MAIN, NEW_ITEM, NEW_USER, Judgements, judge
from tests.prepared_fixture import Row, make_prepared

CUTS = [d * DAY for d in (0, 10, 20, 30, 40)]
BUY, VIEW, CART, RETURN = "purchase-complete", "impression", "add-to-cart", "return"


def shop(tmp_path: Path, *rows: tuple[str, str, str, float] | tuple[str, str, str, float, float]) -> Prepared:
    """Rows with the time in days."""
    micro: list[Row] = [(r[0], r[1], r[2], int(r[3] * DAY), *r[4:]) for r in rows]
    return make_prepared(tmp_path, micro, cuts=CUTS)


def wanted(prepared: Prepared, j: Judgements) -> dict[str, dict[str, float]]:
    """Person key -> item id -> gain."""
    r = j.relevance
    found: dict[str, dict[str, float]] = {prepared.user_ids[u]: {} for u in j.users.tolist()}
    for q, item, gain in zip(r.queries.tolist(), r.items.tolist(), r.gains.tolist(), strict=True):
        found[prepared.user_ids[j.users[q]]][prepared.item_ids[item]] = round(gain, 6)
    return found


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return shop(
        tmp_path,
        # ann: known; buys b twice in the window, puts c in the cart before; a again, and d, which is new
        ("u:ann", "a", BUY, 1),
        ("u:ann", "b", VIEW, 2),
        ("u:ann", "c", BUY, 25),
        ("u:ann", "b", CART, 30, 0.4),
        ("u:ann", "b", BUY, 31),
        ("u:ann", "b", BUY, 32),
        ("u:ann", "a", BUY, 33),
        ("u:ann", "d", BUY, 34),
        ("u:ann", "e", VIEW, 35),
        # bob: only looked before T2, so a new user
        ("u:bob", "a", VIEW, 5),
        ("u:bob", "b", BUY, 36),
        # cat: buys again only what she has
        ("u:cat", "e", BUY, 3),
        ("u:cat", "e", BUY, 37),
        # dan: nothing in the window
        ("u:dan", "c", BUY, 4),
        # a guest
        ("v:9", "c", BUY, 38),
    )


def test_global_keep(prepared: Prepared) -> None:
    j = judge(prepared, TWIN, "keep")
    assert wanted(prepared, j) == {
        "u:ann": {"a": 1.0, "b": 1.0, "d": 1.0},  # the greatest gain of b: bought beats in the cart
        "u:bob": {"b": 1.0},
        "u:cat": {"e": 1.0},
    }
    assert j.times.tolist() == [30 * DAY] * 3
    assert j.cohort.tolist() == [MAIN, NEW_USER, MAIN]
    assert j.main.tolist() == [True, False, True]
    assert j.choices.tolist() == [2, 0, 1]
    assert j.new_items.tolist() == [False, False, True, False, False]  # only ann's d
    assert j.dropped == {"visitors": 1}


def test_global_history_is_strictly_before_the_cut(prepared: Prepared) -> None:
    j = judge(prepared, TWIN, "keep")
    query = j.query(0, prepared)
    assert (query.user, query.time) == (0, 30 * DAY)
    assert query.history.times.tolist() == [1 * DAY, 2 * DAY, 25 * DAY]  # the cart at T2 itself is the window's
    assert query.history.items.tolist() == [0, 1, 2]
    assert query.history.gains.tolist() == [1, 0, 1]
    assert j.history(0, prepared.events, limit=2).items.tolist() == [1, 2]
    assert len(j.excluded(0, prepared.events)) == 0
    assert len(query.attributes) == 0  # nobody says anything of themselves


def test_global_remove(prepared: Prepared) -> None:
    j = judge(prepared, TWIN, "remove")
    # ann has bought a; she had only seen b. cat has bought e: nothing is left for her
    assert wanted(prepared, j) == {"u:ann": {"b": 1.0, "d": 1.0}, "u:bob": {"b": 1.0}}
    assert j.dropped == {"visitors": 1, "pairs_seen": 2, "users_all_seen": 1}
    assert j.excluded(0, prepared.events).tolist() == [0, 2]
    assert j.excluded(1, prepared.events).tolist() == []


def test_excluded_reads_the_whole_history_whatever_the_limit(prepared: Prepared) -> None:
    j = judge(prepared, TWIN, "remove")
    assert j.history(0, prepared.events, limit=1).items.tolist() == [2]
    assert j.excluded(0, prepared.events).tolist() == [0, 2]


def test_the_validation_window(prepared: Prepared) -> None:
    j = judge(prepared, CHOOSE, "keep")
    assert wanted(prepared, j) == {"u:ann": {"c": 1.0}}
    assert j.times.tolist() == [20 * DAY]
    assert len(judge(prepared, TRAIN, "keep")) == 0  # nobody bought between T1 and Tv


def test_a_return_never_reaches_back(tmp_path: Path) -> None:
    prepared = shop(
        tmp_path,
        ("u:ann", "a", BUY, 1),
        ("u:ann", "b", BUY, 31),
        ("u:ann", "b", RETURN, 32),
    )
    assert wanted(prepared, judge(prepared, TWIN, "keep")) == {"u:ann": {"b": 1.0}}


@pytest.mark.parametrize("chosen", [[], [0], [1], [0, 1]])
def test_only_holds_whole_queries(prepared: Prepared, chosen: list[int]) -> None:
    j = judge(prepared, TWIN, "remove")
    part = j.only(np.array(chosen, int))
    names = [prepared.user_ids[j.users[q]] for q in chosen]
    assert wanted(prepared, part) == {name: wanted(prepared, j)[name] for name in names}
    for n, q in enumerate(chosen):
        assert part.history(n, prepared.events).times.tolist() == j.history(q, prepared.events).times.tolist()
        assert (part.times[n], part.cohort[n], part.choices[n]) == (j.times[q], j.cohort[q], j.choices[q])
    assert len(part.new_items) == len(part.relevance.items)
    assert part.dropped == j.dropped


@pytest.fixture
def sequences(tmp_path: Path) -> Prepared:
    return shop(
        tmp_path,
        # ann: her last three share one timestamp; sorted by item, e is the last
        ("u:ann", "a", BUY, 1),
        ("u:ann", "b", VIEW, 5),
        ("u:ann", "c", BUY, 5),
        ("u:ann", "e", BUY, 5),
        ("u:ann", "a", VIEW, 6),
        # bob: his last is an item that nobody else has; a look at it comes right before
        ("u:bob", "a", BUY, 1),
        ("u:bob", "e", BUY, 2),
        ("u:bob", "d", VIEW, 3),
        ("u:bob", "d", BUY, 4),
        # cat: two purchases are too few
        ("u:cat", "a", BUY, 1),
        ("u:cat", "b", BUY, 2),
        # dan: his last is one he had
        ("u:dan", "a", BUY, 1),
        ("u:dan", "b", BUY, 2),
        ("u:dan", "a", BUY, 3),
        # a guest
        *(("v:9", "a", BUY, t) for t in (1, 2, 3)),
    )


def test_last_keep(sequences: Prepared) -> None:
    j = judge(sequences, LAST_TWIN, "keep")
    assert wanted(sequences, j) == {"u:ann": {"e": 1.0}, "u:bob": {"d": 1.0}, "u:dan": {"a": 1.0}}
    assert j.times.tolist() == [5 * DAY, 4 * DAY, 3 * DAY]
    assert j.cohort.tolist() == [MAIN, NEW_ITEM, MAIN]  # d is named by no event of a lower fold
    assert j.new_items.tolist() == [False, True, False]
    assert j.dropped == {"visitors": 1}


def test_last_history_ends_with_the_fold_not_the_clock(sequences: Prepared) -> None:
    j = judge(sequences, LAST_TWIN, "keep")
    # ann's c is as old as her target e, and known; the clock alone would lose b and c
    assert j.history(0, sequences.events).items.tolist() == [0, 1, 2]
    assert sequences.histories().before(0, int(j.times[0])).items.tolist() == [0]
    # bob's look at d belongs to his purchase of it
    assert j.history(1, sequences.events).items.tolist() == [0, 4]


def test_last_remove(sequences: Prepared) -> None:
    j = judge(sequences, LAST_TWIN, "remove")
    assert set(wanted(sequences, j)) == {"u:ann", "u:bob"}
    assert j.dropped == {"visitors": 1, "pairs_seen": 1, "users_all_seen": 1}
    assert j.excluded(0, sequences.events).tolist() == [0, 2]


def test_the_second_last_validates(sequences: Prepared) -> None:
    j = judge(sequences, LAST_TRAIN, "keep")
    assert wanted(sequences, j) == {"u:ann": {"c": 1.0}, "u:bob": {"e": 1.0}, "u:dan": {"b": 1.0}}
    # c and e: named by nobody's fold 0
    assert j.cohort.tolist() == [NEW_ITEM, NEW_ITEM, MAIN]
    assert j.history(0, sequences.events).items.tolist() == [0]


@pytest.mark.parametrize("fold", [FULL, Fold("last", 3, "last-full"), Fold("global", 0, "nothing")])
def test_a_fold_without_a_window_is_refused(prepared: Prepared, fold: Fold) -> None:
    with pytest.raises(ValueError, match="no window comes after it"):
        judge(prepared, fold, "keep")


def test_a_shop_without_a_window_has_no_queries(tmp_path: Path) -> None:
    prepared = shop(tmp_path, ("u:ann", "a", BUY, 1))
    for fold in (TWIN, CHOOSE, LAST_TWIN, LAST_TRAIN):
        j = judge(prepared, fold, "remove")
        assert (len(j), len(j.relevance), j.dropped) == (0, 0, {"visitors": 0, "pairs_seen": 0, "users_all_seen": 0})


def altered(prepared: Prepared, path: Path, column: str, folds: list[int]) -> Prepared:
    """The same artifact with another fold column."""
    with publish(path, kind=KIND, format_version=FORMAT_VERSION, id="altered") as draft:
        for part in ("users", "items"):
            Columns.open(prepared.path / part).write(draft.path / part)
        prepared.user_ids.write(draft.path / "ids" / "users")
        prepared.item_ids.write(draft.path / "ids" / "items")
        Columns({**prepared.events, column: np.array(folds, np.int8)}).write(draft.path / "events")
        draft.about.update(prepared.manifest.about)
    return Prepared(path)


def test_folds_that_go_backwards_are_refused(tmp_path: Path) -> None:
    prepared = shop(tmp_path, ("u:ann", "a", BUY, 1), ("u:ann", "b", BUY, 31))
    with pytest.raises(ArtifactError, match="'fold_global' goes backwards"):
        judge(altered(prepared, tmp_path / "altered", "fold_global", [3, 0]), TWIN, "keep")


def test_two_last_choices_are_refused(tmp_path: Path) -> None:
    prepared = shop(tmp_path, *(("u:ann", item, BUY, 1) for item in "abc"))
    with pytest.raises(ArtifactError, match="several choices in one fold of 'fold_last'"):
        judge(altered(prepared, tmp_path / "altered", "fold_last", [0, 2, 2]), LAST_TWIN, "keep")


def leaks(prepared: Prepared, j: Judgements) -> list[int]:
    """Queries whose history holds an event that was to be foretold: of the window or later."""
    folds = prepared.events.numbers(j.fold.column)
    return [
        q
        for q, (start, end) in enumerate(zip(j.history_starts.tolist(), j.history_ends.tolist(), strict=True))
        if (folds[start:end] >= j.fold.below).any()
    ]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["u:a", "u:b", "u:c", "v:d"]),
        st.sampled_from("abcde"),
        st.sampled_from([BUY, VIEW, CART, RETURN]),
        st.integers(0, 39),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    events=EVENTS,
    protocol=st.sampled_from(["global", "last"]),
    below=st.integers(1, 2),
    seen=st.sampled_from(["keep", "remove"]),
)
def test_no_history_contains_its_target(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[str, str, str, float]],
    protocol: Protocol,
    below: int,
    seen: Seen,
) -> None:
    prepared = shop(tmp_path_factory.mktemp("p"), *events)
    j = judge(prepared, Fold(protocol, below, "any"), seen)
    assert leaks(prepared, j) == []
    e, r = prepared.events, j.relevance
    for q, user in enumerate(j.users.tolist()):
        history, time = j.history(q, e), int(j.times[q])
        assert (e.numbers(Column.USER)[j.history_starts[q] : j.history_ends[q]] == user).all()
        assert (history.times < time).all() if protocol == "global" else (history.times <= time).all()
        assert j.choices[q] == np.count_nonzero(history.gains > 0)
        if seen == "remove":
            items = r.items[r.starts[q] : r.starts[q + 1]]
            assert not np.isin(items, j.excluded(q, e)).any()


def test_a_planted_leak_is_seen(prepared: Prepared) -> None:
    j = judge(prepared, TWIN, "keep")
    planted = Judgements(**{**vars(j), "history_ends": j.history_ends + np.array([0, 0, 1])})
    assert leaks(prepared, planted) == [2]
