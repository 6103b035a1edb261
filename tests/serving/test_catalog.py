"""The live catalog over gRPC, in one process: what is upserted is found, what is deleted is gone, and a plain dictionary agrees."""

# bazel: size=medium, timeout=long

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aisle.v1.catalog_pb2 import CustomAttribute, Item
from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import ExplainRequest, RankRequest, RecommendRequest, SimilarItemsRequest
from core.catalog_entry import Entry, Kind
from core.columns import Columns
from core.errors import InputError
from core.history import Query
from core.release import CATALOG_LOG, CATALOG_SEQUENCE, SOURCES
from core.schema import Column
from core.work import Work
from retrieval.item_tower import ItemTower
from retrieval.sources import TOWERS
from serving.answers import Request
from serving.catalog import Catalog
from serving.client import Client, ServerError
from serving.config import ServingConfig, load_serving
from serving.live_release import LiveRelease
from serving.process import ServingProcess
from serving.release import Release
from serving.request_path import answer
from serving.resident import made_up_history
from tests.serving.conftest import changed, options_for
from tests.serving.exploring import drawing
from tests.serving.live_shop import END, ITEMS, SOLD_OUT, make_live_shop, price

ALPHA, BETA = "p00", "p01"  # people who choose items of one taste alone


class Clock:
    """Microseconds, set by the test."""

    def __init__(self) -> None:
        self.now = END + 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_live_shop(tmp_path_factory.mktemp("live-shop"))


@pytest.fixture
def work(made: Work, tmp_path: Path) -> Work:
    """The shop, without a log."""
    shutil.copytree(made.root, tmp_path / "work", symlinks=True)
    return Work(tmp_path / "work")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def started(
    work: Work, redis_url: str, config: ServingConfig, clock: Clock
) -> Iterator[Callable[..., tuple[ServingProcess, Client]]]:
    """Starts servers on the shop."""
    running: list[tuple[ServingProcess, Client]] = []

    def start(**catalog: object) -> tuple[ServingProcess, Client]:
        process = ServingProcess(options_for(work, redis_url, changed(config, "catalog", **catalog)), clock)
        process.start()
        running.append((process, Client(f"127.0.0.1:{process.port}", timeout=20)))
        return running[-1]

    yield start
    for process, client in running:
        client.close()
        process.stop()


@pytest.fixture
def ask(started: Callable[..., tuple[ServingProcess, Client]]) -> Client:
    return started()[1]


def thing(item_id: str, taste: str = "alpha", **values: Any) -> Item:
    """An item like those of the shop."""
    given: dict[str, Any] = {"title": f"{taste} thing", "category": f"all > {taste}", "brand": taste, "price": 11.0}
    use = {"use": CustomAttribute(text=[taste])}
    return Item(item_id=item_id, attributes=use, **given | values)


def page(ask: Client, user: str = ALPHA, k: int = 100, **asked: Any) -> list[str]:
    found = ask.recommend(RecommendRequest(user_id=user, page_size=k, **asked))
    return [r.item_id for r in found.results]


def similar(ask: Client, *ids: str, k: int = 8) -> list[str]:
    return [r.item_id for r in ask.similar(SimilarItemsRequest(item_ids=ids, page_size=k)).results]


def test_an_upserted_item_is_proposed_to_those_whom_it_fits(ask: Client) -> None:
    done = ask.upsert_items([thing("new-a"), thing("new-b", "beta")])
    assert (done.upserted, done.created, done.sequence) == (2, 2, 1)
    # everything that they have not had: of their own taste there is only the new one
    alpha, beta = (
        ask.recommend(RecommendRequest(user_id=user, page_size=3, exclude_seen=True)).results for user in (ALPHA, BETA)
    )
    assert "new-a" in [r.item_id for r in alpha]
    assert "new-b" not in [r.item_id for r in alpha]
    assert "new-b" in [r.item_id for r in beta]
    mine = next(r for r in alpha if r.item_id == "new-a")
    assert (mine.source, mine.title) == ("towers", "alpha thing")
    assert list(mine.reasons) == ["fits what you chose lately"]


def test_an_upserted_item_gets_a_place_for_being_new(
    work: Work, redis_url: str, config: ServingConfig, clock: Clock
) -> None:
    """From people whom it does not suit, too: else nobody would ever know. Until it is gone."""
    due = config.model_copy(update={"exploration": drawing(share=0.0, new_items__share=1.0)})
    process = ServingProcess(options_for(work, redis_url, changed(due, "log", share=1.0)), clock)
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        ask.upsert_items([thing("new-b", "beta")])
        visit = RecommendRequest(user_id=ALPHA, session_id="s", page_size=3)
        found = ask.recommend(visit)
        (new,) = [r for r in found.results if r.source == "new"]
        # one of three places, any: a third; whatever stands in the others was replaced with a third
        assert (new.item_id, list(new.reasons)) == ("new-b", ["new in the shop"])
        assert new.propensity == pytest.approx(1 / 3)
        assert [r.propensity for r in found.results if r.source != "new"] == pytest.approx([2 / 3, 2 / 3])
        assert not found.explored
        assert dict(ask.status().exploration) == {"new-item": 1}
        ask.delete_items(["new-b"])
        after = ask.recommend(visit)
        assert [(r.source == "new", r.propensity) for r in after.results] == [(False, 1.0)] * 3
    process.stop()


def test_similar_items_propose_it_and_start_from_it(ask: Client) -> None:
    before = similar(ask, "alpha-1")
    assert similar(ask, "new-a") == []  # nobody knows it yet
    ask.upsert_items([thing("new-a"), thing("new-b", "beta")])
    assert "new-a" in similar(ask, "alpha-1", k=20)
    assert set(before) - {"new-a"} <= set(similar(ask, "alpha-1", k=20))
    near = similar(ask, "new-a", k=5)
    assert len(near) == 5
    assert all(i.startswith("alpha") for i in near)
    assert "new-a" not in near


def test_rank_and_explain_know_it(ask: Client) -> None:
    ask.upsert_items([thing("new-a"), thing("new-b", "beta")])
    ranked = ask.rank(RankRequest(user_id=ALPHA, item_ids=["beta-1", "new-b", "new-a", "gone"]))
    assert ranked.results[0].item_id == "new-a"  # of the person's taste
    assert list(ranked.missing_ids) == ["gone"]
    asked = RecommendRequest(user_id=ALPHA, page_size=20)
    why = ask.explain(ExplainRequest(request=asked, item_id="new-a"))
    assert (why.title, why.available, why.outcome) == ("alpha thing", True, "on-page")
    ask.delete_items(["new-a"])
    gone = ask.explain(ExplainRequest(request=asked, item_id="new-a"))
    assert (gone.available, gone.outcome) == (False, "not-retrieved")  # the search of new items passes over it


def test_what_people_do_with_it_counts(ask: Client) -> None:
    ask.upsert_items([thing("new-b", "beta")])
    ask.write_events([Event(event_type="purchase-complete", item_id="new-b", user_id="newcomer")])
    found = ask.recommend(RecommendRequest(user_id="newcomer", page_size=6))
    assert found.level == "short-history"
    assert sum(r.item_id.startswith("beta") for r in found.results) >= 5
    again = ask.recommend(RecommendRequest(user_id="newcomer", page_size=100, exclude_seen=True))
    assert "new-b" not in [r.item_id for r in again.results]
    named = ask.recommend(RecommendRequest(context_item_ids=["new-b", "gone"], page_size=5))
    assert list(named.missing_ids) == ["gone"]
    assert (named.level, "new-b" in [r.item_id for r in named.results]) == ("context", False)


def test_a_deletion_holds_until_a_later_upsert(ask: Client) -> None:
    ask.upsert_items([thing("new-a")])
    done = ask.delete_items(["new-a", "alpha-1", "no-such"])
    assert (done.deleted, list(done.missing_ids), done.sequence) == (2, ["no-such"], 2)
    assert not {"new-a", "alpha-1"} & set(page(ask))
    assert ask.set_availability(["alpha-1"], True).missing_ids == ["alpha-1"]  # does not bring it back
    assert "alpha-1" not in page(ask)
    assert ask.upsert_items([thing("alpha-1")]).created == 1
    assert "alpha-1" in page(ask)
    assert "new-a" not in page(ask)
    ask.upsert_items([thing("new-a")])
    assert "new-a" in page(ask)


def test_availability(ask: Client) -> None:
    assert SOLD_OUT not in page(ask)
    done = ask.set_availability([SOLD_OUT, "alpha-2", "no-such"], True)
    assert (done.changed, list(done.missing_ids)) == (2, ["no-such"])
    assert {SOLD_OUT, "alpha-2"} <= set(page(ask))
    ask.set_availability([SOLD_OUT, "alpha-2"], False)
    assert not {SOLD_OUT, "alpha-2"} & set(page(ask))
    assert not {SOLD_OUT, "alpha-2"} & set(similar(ask, "alpha-1", k=30))
    # stock and the flag of an upsert; the flag wins
    ask.upsert_items([thing("a", stock=0), thing("b", stock=2), thing("c", stock=2, available=False), thing("d")])
    assert set(page(ask)) & set("abcd") == {"b", "d"}
    ask.set_availability(["a", "b"], True)
    assert set(page(ask)) & set("abcd") == {"a", "b", "d"}
    ask.upsert_items([thing("b", stock=0)])  # a whole row: what was set before is not kept
    assert set(page(ask)) & set("abcd") == {"a", "d"}


def test_a_window_opens_and_closes_by_the_clock(ask: Client, clock: Clock) -> None:
    hour = 3_600_000_000
    ask.upsert_items([thing("w", available_from=clock.now + hour, available_until=clock.now + 2 * hour)])
    assert "w" not in page(ask)
    clock.now += hour
    assert "w" in page(ask)
    clock.now += hour - 1
    assert "w" in page(ask)
    clock.now += 1
    assert "w" not in page(ask)


def test_restart_and_release_swap_give_the_same_catalog(
    work: Work, started: Callable[..., tuple[ServingProcess, Client]]
) -> None:
    first, ask = started()
    ask.upsert_items([thing("new-a"), thing("new-b", "beta"), thing("alpha-3", title="gamma thing", brand="gamma")])
    ask.delete_items(["new-b", "alpha-1"])
    ask.set_availability([SOLD_OUT], True)
    asked = RecommendRequest(user_id=ALPHA, page_size=100)
    want = [(r.item_id, r.score, r.title) for r in ask.recommend(asked).results]
    assert "alpha-1" not in [w[0] for w in want]
    other = work.releases / "another"
    shutil.copytree(work.current.resolve(), other)
    assert ask.load_release(str(other)).release == "another"
    assert [(r.item_id, r.score, r.title) for r in ask.recommend(asked).results] == want
    first.stop()
    _, again = started()
    assert [(r.item_id, r.score, r.title) for r in again.recommend(asked).results] == want
    status = again.status().catalog
    assert (status.state, status.sequence, status.release_sequence) == ("up", 3, 0)
    assert (status.new_items, status.changed_items, status.deleted_items, status.waiting_items) == (1, 1, 2, 0)
    assert status.log_bytes == (work.root / "catalog" / "log").stat().st_size


def live_of(work: Work, clock: Clock, release: Release | None = None) -> tuple[Catalog, LiveRelease]:
    catalog = Catalog(work.root / "catalog", load_serving().catalog, clock)
    return catalog, catalog.over(release or Release.open(work.current))


def test_a_release_replays_only_what_it_has_not_seen(work: Work, clock: Clock) -> None:
    catalog, live = live_of(work, clock)
    catalog.write(Entry(Kind.UPSERT, 1, items=({"item_id": "new-a"},)), live)
    catalog.write(Entry(Kind.DELETE, 2, item_ids=("alpha-1",)), live)
    catalog.write(Entry(Kind.DELETE, 3, item_ids=("alpha-2",)), live)
    base = live.base
    assert base.manifest.about[CATALOG_SEQUENCE] == 0  # as published: nothing of any log is in its items table
    newer = catalog.over(with_about(base, **{CATALOG_SEQUENCE: 2, CATALOG_LOG: log_id(work)}))
    assert newer.view.item_ids.row("new-a") == -1
    rows = base.item_ids.rows(["alpha-1", "alpha-2"])
    assert newer.view.available[rows].tolist() == [True, False]
    assert newer.counts().sequence == 3
    assert (newer.seen, live.seen) == (2, 0)


def test_what_a_release_has_seen_of_another_log_is_nothing_of_this_one(work: Work, clock: Clock) -> None:
    """The log was moved away, or the release comes from a host with a log of its own: its numbers mean nothing here."""
    catalog, live = live_of(work, clock)
    catalog.write(Entry(Kind.DELETE, 1, item_ids=("alpha-1",)), live)
    newer = catalog.over(with_about(live.base, **{CATALOG_SEQUENCE: 9, CATALOG_LOG: "of-another"}))
    assert not newer.view.available[live.base.item_ids.row("alpha-1")]
    assert newer.seen == 0
    assert catalog.write(Entry(Kind.DELETE, 1, item_ids=("alpha-2",)), newer).sequence == 2


def test_a_log_that_was_put_back_gives_no_number_twice(work: Work, clock: Clock) -> None:
    """The release has seen entry 9 and the copy of the log ends with 1: what comes next must not be taken for seen."""
    catalog, live = live_of(work, clock)
    catalog.write(Entry(Kind.DELETE, 1, item_ids=("alpha-1",)), live)
    newer = catalog.over(with_about(live.base, **{CATALOG_SEQUENCE: 9, CATALOG_LOG: log_id(work)}))
    assert newer.view.available[live.base.item_ids.row("alpha-1")]
    assert catalog.write(Entry(Kind.DELETE, 2, item_ids=("alpha-2",)), newer).sequence == 10
    assert not newer.view.available[live.base.item_ids.row("alpha-2")]


def test_what_the_items_table_has_seen_deleted_stays_so_until_an_upsert(work: Work, clock: Clock) -> None:
    """A release whose night took the deletion in: its row is there, the item is not."""
    base = Release.open(work.current)
    gone = np.array([i == "alpha-1" for i in base.item_ids.texts])
    items = Columns({**base.items, Column.DELETED: gone}, base.items.rows)
    catalog, live = live_of(work, clock, replace(base, items=items, available=base.available & ~gone))
    row = base.item_ids.row("alpha-1")
    assert catalog.write(Entry(Kind.AVAILABILITY, 1, item_ids=("alpha-1",), available=True), live).missing == (
        "alpha-1",
    )
    assert not live.current.available[row]
    assert catalog.write(Entry(Kind.UPSERT, 2, items=({"item_id": "alpha-1"},)), live).missing == ("alpha-1",)
    assert live.current.available[row]
    assert catalog.write(Entry(Kind.DELETE, 3, item_ids=("alpha-1",)), live).missing == ()


def test_windows_of_the_items_table_open_and_close_by_the_clock(work: Work, clock: Clock) -> None:
    """alpha-1 comes in an hour, alpha-2 goes in two, alpha-3 is gone, alpha-4 is as good as without a window."""
    base, hour = Release.open(work.current), 3_600_000_000
    names, now = [f"alpha-{n}" for n in (1, 2, 3, 4)], clock.now
    rows = base.item_ids.rows(names)
    since, until = (np.full(base.items.rows, -1, np.int64) for _ in range(2))
    since[rows] = [now + hour, -1, -1, now - hour]
    until[rows] = [now + 3 * hour, now + 2 * hour, now - hour, -1]
    items = Columns({**base.items, Column.AVAILABLE_FROM: since, Column.AVAILABLE_UNTIL: until}, base.items.rows)
    _, live = live_of(work, clock, replace(base, items=items))

    def shown() -> list[int]:
        return live.current.available[rows].astype(int).tolist()  # type: ignore[no-any-return]

    seen = [shown()]
    for _ in range(3):
        clock.now += hour
        seen.append(shown())
    assert seen == [[0, 1, 0, 1], [1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1]]


def with_about(release: Release, **values: object) -> Release:
    """The release with another manifest."""
    about = release.manifest.about | values
    return replace(release, manifest=release.manifest.model_copy(update={"about": about}))


def log_id(work: Work) -> str:
    return (work.root / "catalog" / "id").read_text()


def test_vectors_are_the_item_towers(work: Work, clock: Clock) -> None:
    catalog, live = live_of(work, clock)
    known, row = live.base, live.base.item_ids.row("alpha-1")
    same = {
        "item_id": "alpha-1",
        "title": "alpha thing",
        "category": "all > alpha",
        "brand": "alpha",
        "price": price("alpha-1"),
        "attributes": {"use": ["alpha", "use 1"]},
    }
    catalog.write(Entry(Kind.UPSERT, 1, items=(same,)), live)
    query = Query(END, history=made_up_history(np.array([row, row + 2], np.int32), END))
    before, after = (answer(release, Request(query, 30)) for release in (known, live.view))
    assert after.rows.tolist() == before.rows.tolist()
    assert after.scores == pytest.approx(before.scores, abs=1e-5)  # upserted as it was, nothing changes
    catalog.write(Entry(Kind.UPSERT, 2, items=(same | {"title": "gamma thing", "brand": "gamma"},)), live)
    tower = ItemTower.open(known.path / SOURCES / TOWERS)
    source = next(s for s in live.view.sources if s.name == TOWERS)
    want = tower.vector(
        {"title": "gamma thing", "category": "all > alpha", "brand": "gamma", "price": 11.0, "use": ["alpha", "use 1"]},
        row,
    )
    assert source.tower.item_vectors[row] == pytest.approx(want, abs=1e-6)  # type: ignore[attr-defined]
    scoring = source.scoring(query)
    rows, scores = scoring.top(30, np.empty(0, np.int32))
    assert sorted(rows.tolist()) == sorted(set(rows.tolist()))
    vector = source.tower.vector(query)  # type: ignore[attr-defined]
    assert scores[rows == row] == pytest.approx([want @ vector], abs=1e-5)
    assert scores == pytest.approx(scoring.of(rows), abs=1e-5)


def test_a_request_waits_for_a_thread_that_is_still_applying_an_entry(work: Work, clock: Clock) -> None:
    """Four requests come at once after a long entry: the first applies it, and the others must not pass by before its last item is gone."""
    writer, first = live_of(work, clock)
    _, live = live_of(work, clock, first.base)
    row, together = first.base.item_ids.row("alpha-1"), threading.Barrier(4)
    for at in range(10):
        writer.write(Entry(Kind.UPSERT, 1, items=({"item_id": "alpha-1"},)), first)
        live.take()
        live.absorb()
        assert live.current.available[row]
        writer.write(Entry(Kind.DELETE, 2, item_ids=(*(f"{at}-{n}" for n in range(2000)), "alpha-1")), first)
        found: list[bool] = []

        def request(found: list[bool] = found) -> None:
            together.wait()
            found.append(bool(live.current.available[row]))

        threads = [threading.Thread(target=request) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert found == [False] * 4


NAMES = ("alpha-1", "beta-2", SOLD_OUT, "x", "y", "z")
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.sampled_from(NAMES), st.sampled_from([None, True, False])),
        st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("availability"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=14,
)


def shown(release: Release) -> set[str]:
    return {release.item_ids[row] for row in answer(release, Request(Query(END), 500)).rows.tolist()}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_any_sequence_of_calls_is_what_a_dictionary_says(
    made: Work, clock: Clock, tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, Any, Any]]
) -> None:
    """Two workers, of which either writes; one is started again now and then. The model: item -> whether it may be shown, for items that exist."""
    base = Release.open(made.current)
    folder = tmp_path_factory.mktemp("catalog")
    workers = [Catalog(folder, load_serving().catalog, clock) for _ in range(2)]
    lives = [worker.over(base) for worker in workers]
    model = {item: item != SOLD_OUT for item in ITEMS}
    for at, (what, item, value) in enumerate(operations):
        one = at % 2
        if what == "upsert":
            row = {"item_id": item} | ({} if value is None else {"available": value})
            workers[one].write(Entry(Kind.UPSERT, at, items=(row,)), lives[one])
            model[item] = value is not False
        elif what == "delete":
            workers[one].write(Entry(Kind.DELETE, at, item_ids=(item,)), lives[one])
            model.pop(item, None)
        elif what == "availability":
            done = workers[one].write(Entry(Kind.AVAILABILITY, at, item_ids=(item,), available=value), lives[one])
            assert done.there == (item in model)
            if item in model:
                model[item] = value
        else:
            workers[one] = Catalog(folder, load_serving().catalog, clock)
            lives[one] = workers[one].over(base)
        other = lives[1 - one]
        may = {i for i, available in model.items() if available}
        assert shown(lives[one].current) == may
        # the other worker: what is gone is gone at once, what is new comes with its vector
        assert shown(other.current) <= may
        other.absorb()
        assert shown(other.current) == may


def test_what_cannot_be_used_is_named_field_by_field(ask: Client) -> None:
    cases: list[tuple[list[Item], str]] = [
        ([], "items: has 0 entries, expected 1 to 1000"),
        ([Item(title="x")], "items[0].item_id: is required"),
        ([Item(item_id="x" * 257)], "items[0].item_id: has 257 bytes"),
        ([thing("a"), thing("a")], "items[1].item_id: is that of items[0] too: 'a'"),
        ([thing("a", price=-1.0)], "items[0].price: is -1.0, expected a finite number, 0 or more"),
        ([thing("a", price=float("nan"))], "items[0].price: is nan"),
        ([thing("a", title="x" * 1025)], "items[0].title: has 1025 bytes, at most 1024"),
        ([thing("a", available_from=5, available_until=5)], "items[0].available_until: is 5, not after"),
        ([thing("a", created_at=-5)], "items[0].created_at: is -5"),
        ([Item(item_id="a", attributes={"use": CustomAttribute()})], "items[0].attributes['use']: needs texts or"),
        (
            [Item(item_id="a", attributes={"title": CustomAttribute(text=["x"])})],
            "items[0].attributes['title']: is a field of the item",
        ),
        (
            [Item(item_id="a", attributes={"n": CustomAttribute(numbers=[float("inf")])})],
            "items[0].attributes['n']: expected finite numbers",
        ),
    ]
    for items, says in cases:
        with pytest.raises(InputError) as caught:
            ask.upsert_items(items)
        assert says in str(caught.value)
    with pytest.raises(InputError, match=r"item_ids: has 1001 entries, expected 1 to 1000"):
        ask.delete_items(["x"] * 1001)
    with pytest.raises(InputError, match=r"item_ids\[1\]: is that of item_ids\[0\] too"):
        ask.delete_items(["x", "x"])
    with pytest.raises(InputError, match=r"item_ids\[0\]: is required"):
        ask.set_availability([""], True)
    with pytest.raises(InputError, match="available: is required"):
        ask.set_availability(["x"], None)  # type: ignore[arg-type]
    assert ask.status().catalog.sequence == 0  # nothing of all that was stored


def test_more_new_items_than_there_may_be_are_refused(
    started: Callable[..., tuple[ServingProcess, Client]],
) -> None:
    _, ask = started(new_items=2)
    ask.upsert_items([thing("a"), thing("b"), thing("alpha-1")])  # two new ones
    with pytest.raises(ServerError, match=r"RESOURCE_EXHAUSTED.*`catalog.new_items` allows \(2\)"):
        ask.upsert_items([thing("c")])
    assert ask.status().catalog.sequence == 1
    ask.upsert_items([thing("a", title="other")])


def test_without_a_place_for_the_log_the_release_alone_answers(
    started: Callable[..., tuple[ServingProcess, Client]],
) -> None:
    process, ask = started(folder="none")
    with pytest.raises(ServerError, match="FAILED_PRECONDITION: this server has no place for a log of changes"):
        ask.delete_items(["alpha-1"])
    assert ask.status().catalog.state == "none"
    assert process.resident.release is process.resident.base
