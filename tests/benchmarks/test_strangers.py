"""The systems that the benchmark holds against the towers, on a shop that a reader can do by hand."""

from pathlib import Path

import numpy as np

from benchmarks.strangers import arrivals, beside, cohorts, groups
from core.candidates import Scoring
from core.columns import Array, Coded
from core.config import load_pipeline
from core.history import Query
from core.prepared import CHOOSE, TRAIN, Prepared
from core.schema import DAY, EventType
from retrieval.sources.opinion import WholeOrder, order_of
from tests.prepared_fixture import Row, make_prepared

BUY = EventType.PURCHASE_COMPLETE
NONE = np.empty(0, np.int32)
CUTS = [0, 100 * DAY, 101 * DAY, 102 * DAY, 103 * DAY]


def shop(tmp_path: Path) -> Prepared:
    """20 red people bought item a, 20 blue ones b, all on the days from 60 to 99; a person of no colour and a green one bought c on day 99."""
    rows: list[Row] = [(f"u:{p:02}", "ab"[p // 20], BUY, (60 + p) * DAY) for p in range(40)]
    rows += [("u:40", "c", BUY, 99 * DAY), ("u:41", "c", BUY, 99 * DAY)]
    rows += [("u:42", "a", BUY, 101 * DAY), ("u:43", "a", BUY, 101 * DAY), ("u:00", "b", BUY, 101 * DAY)]
    colours = ["red"] * 20 + ["blue"] * 20 + [None, "green", "red", None]
    columns = {"attribute.colour": Coded.of(colours)}
    return make_prepared(tmp_path, rows, cuts=CUTS, repeat_share=0.3, columns_of_people=columns)


def of(prepared: Prepared, person: str) -> Query:
    row = prepared.user_ids.row(person)
    return Query(CUTS[1], row, attributes=prepared.told.of(row))


def test_a_cohort_prefers_what_its_people_chose(tmp_path: Path) -> None:
    """p = 20/42, 20/42, 2/42; red, prior 21: a (20 + 10) / 41 over p = 1.54, b and c 21 p / 41 over p = .51, so a .73, b .24, c .02."""
    prepared = shop(tmp_path)
    rank = cohorts(prepared, TRAIN, 60, 21)
    assert rank(of(prepared, "u:00"), 3, NONE).tolist() == [0, 1, 2]
    assert rank(of(prepared, "u:30"), 3, NONE).tolist() == [1, 0, 2]
    assert rank(of(prepared, "u:30"), 2, np.array([1], np.int32)).tolist() == [0, 2]
    assert rank(of(prepared, "u:40"), 3, NONE).tolist() == []  # says nothing
    assert rank(of(prepared, "u:41"), 3, NONE).tolist() == []  # alone with it
    # the 30 days before day 100 know ten of the red, too few to be a cohort
    assert cohorts(prepared, TRAIN, 30, 21)(of(prepared, "u:00"), 3, NONE).tolist() == []


def test_arrivals_are_ordered_by_a_lower_bound_of_people_a_day(tmp_path: Path) -> None:
    """b began on day 80, 20 people: (4.47 - 1)^2 / 20 = .60; c on day 99, two people: (1.41 - 1)^2 / 1 = .17; a began on day 60."""
    prepared = shop(tmp_path)
    query = Query(CUTS[1])
    assert arrivals(prepared, TRAIN, 30)(query, 5, NONE).tolist() == [1, 2]
    assert arrivals(prepared, TRAIN, 50)(query, 5, NONE).tolist() == [1, 0, 2]  # a: (4.47 - 1)^2 / 40 = .30
    assert arrivals(prepared, TRAIN, 30)(query, 5, np.array([1], np.int32)).tolist() == [2]


def test_people_are_grouped_by_what_is_known_of_them(tmp_path: Path) -> None:
    prepared = shop(tmp_path)
    found = {
        g.name: [prepared.user_ids[q.user] for q, _ in g.asked] for g in groups(prepared, CHOOSE, load_pipeline(), 9)
    }
    assert found == {"attributes alone": ["u:42"], "1 or 2": ["u:00"]}  # u:43 says nothing


class Popular:
    """b, then a."""

    name = "popularity"

    def scoring(self, query: Query) -> Scoring:
        scores = np.array([1, 2, 0], np.float32)
        return WholeOrder(order_of(scores), scores)


def test_what_is_found_beside_the_union(tmp_path: Path) -> None:
    """u:42 chose a. A union of one, b, misses it; what it lacks of a system's list is asked for."""
    group = groups(prepared := shop(tmp_path), CHOOSE, load_pipeline(), 9)[0]
    asked: list[list[int]] = []

    def system(query: Query, k: int, without: Array) -> Array:
        asked.append(without.tolist())
        return np.array([0], np.int32)

    found = beside({"system": system}, (Popular(),), {"popularity": 1}, group)
    assert prepared.item_ids[0] == "a"
    assert {name: values.tolist() for name, values in found.items()} == {"union": [0.0], "system": [1.0]}
    assert asked == [[1]]
