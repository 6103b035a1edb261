"""Towers that read what people say of themselves, fitted on a small shop where it tells their taste.

One file, so that TensorFlow starts once.
"""

# bazel: size=medium

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.columns import Coded
from core.config import PipelineConfig
from core.history import History, Query
from core.prepared import TRAIN, TWIN, Prepared
from core.schema import DAY, EventType
from pipeline.publish import write_user_state
from retrieval.query import QueryTower, TowerSource
from retrieval.towers.checkpoint import Checkpoint, Progress
from retrieval.towers.inputs import joined, window
from retrieval.towers.model import Towers
from retrieval.towers.people import PersonTower
from retrieval.towers.train import fit_towers
from serving.levels import Level, level_of
from serving.user_state import UserState
from tests.prepared_fixture import make_prepared
from tests.retrieval.reopened import reopened, sized

TASTES, PER_TASTE, PEOPLE, EACH, NEWCOMERS, BACK = 3, 60, 240, 10, 140, 60
TEAMS = ("red", "green", "blue")
NONE = np.empty(0, np.int32)
SMALL = {
    "dimensions": 16,
    "events": 8,
    "heads": 2,
    "epochs": 4,
    "batch_events": 128,
    "uniform_negatives": 8,
    "learning_rate": 0.01,
    "seconds": 600,
    "user_attributes": True,
}


def config(**over: object) -> PipelineConfig:
    return sized({**SMALL, **over})


def shop(folder: Path, *, told: bool = True) -> Prepared:
    """Person p chooses items of taste p % 3 alone, one a day, and is of that team; newcomers choose one item, all at the last moment before the cut,
    when BACK of the others come once more.

    Somebody in seven says nothing. Each has a motto that nobody else has.
    """
    rng, people = np.random.default_rng(5), PEOPLE + NEWCOMERS
    rows = [
        (
            f"u:{p:03}",
            f"i{p % TASTES}{rng.integers(PER_TASTE):02}",
            EventType.PURCHASE_COMPLETE,
            int(day * DAY + (day < EACH) * p * 1_000_000),
        )
        for p in range(people)
        for day in range(0 if p < PEOPLE else EACH, EACH + (p >= PEOPLE - BACK))
    ]
    said = {
        "attribute.team": Coded.of(TEAMS[p % TASTES] if p % 7 else None for p in range(people)),
        "attribute.motto": Coded.of(f"motto {p}" for p in range(people)),
    }
    cuts = [0, 9 * DAY, 10 * DAY, 11 * DAY, 12 * DAY]
    return make_prepared(folder, rows, cuts=cuts, days=True, repeat_share=0.3, columns_of_people=said if told else None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def fitted(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("towers")
    fit_towers(prepared, TWIN, config(), out, lambda _: None)
    return out


@pytest.fixture(scope="module")
def keras(prepared: Prepared, fitted: Path) -> Towers:
    return reopened(prepared, fitted, config())


def of_team(prepared: Prepared, team: int) -> np.ndarray:
    """The tokens of somebody of a team (p = team + 3 is none of those who say nothing, for teams 0 to 2)."""
    return prepared.told.of(prepared.user_ids.row(f"u:{team + 3:03}"))


def tastes(prepared: Prepared, rows: np.ndarray) -> list[int]:
    return [int(prepared.item_ids[row][1]) for row in rows.tolist()]


def test_only_what_enough_people_say_is_learned(prepared: Prepared, fitted: Path) -> None:
    people = QueryTower.open(fitted).people
    assert people is not None
    assert len(people.tokens) == len(TEAMS)  # no motto
    assert [int(people.knows(of_team(prepared, t)).sum()) for t in range(TASTES)] == [1, 1, 1]


def test_attributes_alone_ask_where_that_beats_what_is_popular(prepared: Prepared, fitted: Path) -> None:
    """Of 2,600 events the newest twentieth is of the last moment, so that all its events are held back: those of 140 newcomers too, of whom six in
    seven (p = 240 to 379 without the 20 multiples of 7: 245, 252, ... 378) say something that is known.

    The 100 most popular of 180 items hold little more than half of what they choose; the 60 items of a taste hold all of it.
    """
    header = json.loads((fitted / "towers.json").read_text())
    assert header["format_version"] == 2
    found = header["newcomers"]
    assert found["people"] == 120
    assert found["ask"]
    assert found["recall"] > 0.8 > found["popularity"]
    source = TowerSource.open(fitted)
    for team in range(TASTES):
        rows, _ = source.scoring(Query(20 * DAY, attributes=of_team(prepared, team))).top(20, NONE)
        assert tastes(prepared, rows).count(team) >= 18


def test_attributes_that_find_less_than_what_is_popular_do_not_ask_alone(
    prepared: Prepared, fitted: Path, tmp_path: Path
) -> None:
    shutil.copytree(fitted, tmp_path / "towers")
    header = json.loads((fitted / "towers.json").read_text())
    header["newcomers"]["ask"] = False
    (tmp_path / "towers" / "towers.json").write_text(json.dumps(header))
    tower, told = QueryTower.open(tmp_path / "towers"), of_team(prepared, 0)
    assert tower.vector(Query(20 * DAY, attributes=told)) is None
    # beside a history they count as ever
    with_history = Query(20 * DAY, history=chose(5), attributes=told)
    assert np.array_equal(vector(tower, with_history), vector(QueryTower.open(fitted), with_history))


def test_who_is_known_by_attributes_alone_stands_on_a_rung_of_their_own(prepared: Prepared, fitted: Path) -> None:
    """Where they can be asked by: their page is theirs, and nothing that trends leads it."""
    towers, told = TowerSource.open(fitted), of_team(prepared, 0)
    silent = copy.copy(towers.tower)
    silent.asks_alone = False
    for query, sources, level in (
        (Query(20 * DAY, attributes=told), (towers,), Level.ATTRIBUTES),
        (Query(20 * DAY, attributes=told, context=np.zeros(1, np.int32)), (towers,), Level.CONTEXT),
        (Query(20 * DAY, attributes=told, history=chose(5)), (towers,), Level.SHORT),
        (Query(20 * DAY, attributes=told), (TowerSource(silent),), Level.POPULAR),
        (Query(20 * DAY, attributes=told), (), Level.POPULAR),
        (Query(20 * DAY, attributes=np.array([1, 2], np.uint64)), (towers,), Level.POPULAR),
        (Query(20 * DAY), (towers,), Level.POPULAR),
    ):
        assert level_of(query, 3, sources) is level


def test_unknown_attributes_are_none(prepared: Prepared, fitted: Path) -> None:
    tower = QueryTower.open(fitted)
    assert tower.vector(Query(20 * DAY, attributes=np.array([1, 2], np.uint64))) is None
    plain, other = Query(20 * DAY, history=chose(5)), np.array([1, 2], np.uint64)
    assert np.array_equal(vector(tower, plain), vector(tower, Query(20 * DAY, history=chose(5), attributes=other)))
    assert not np.array_equal(
        vector(tower, plain), vector(tower, Query(20 * DAY, history=chose(5), attributes=of_team(prepared, 1)))
    )


def chose(*items: int) -> History:
    n = len(items)
    times = np.arange(n, dtype=np.int64) * DAY
    return History(np.array(items, np.int32), times, np.full(n, 7, np.int8), np.ones(n, np.float32))


def vector(tower: QueryTower, query: Query) -> np.ndarray:
    found = tower.vector(query)
    assert found is not None
    return found


def test_litert_answers_as_keras_does(prepared: Prepared, fitted: Path, keras: Towers) -> None:
    """Real histories from none to eleven events, of people who say something and of others: the largest difference is 1e-5."""
    tower, rng, worst = QueryTower.open(fitted), np.random.default_rng(0), 0.0
    events, queries, windows, people = prepared.interactions(TWIN), [], [], []
    for _ in range(1000):
        user = int(rng.integers(events.n_users))
        start, stop = np.searchsorted(events.user, [user, user + 1])
        start = max(start, stop - int(rng.integers(12)))
        told = prepared.told.of(user)
        assert tower.people is not None
        if start == stop and not tower.people.knows(told).any():
            continue
        part = [getattr(events, name)[start:stop] for name in ("item", "time", "type", "gain")]
        queries.append(Query(time=20 * DAY, user=user, history=History(*part), attributes=told))
        windows.append(window(part[0], part[2], part[1], keras.shape.events, clock=True))
        people.append(user)
    assert min(len(q.history) for q in queries) == 0
    w = joined(windows)
    assert keras.people is not None
    person, _ = keras.people(tf.constant(np.array(people, np.int32)[:, None]))
    heard = w.segment.max(axis=1)[:, None, None].astype(np.float32)
    want = keras.query(tower.item_vectors[w.item], w.type, w.gap, w.segment, person, heard)[:, -1].numpy()
    for query, expected in zip(queries, want, strict=True):
        worst = max(worst, float(np.abs(vector(tower, query) - expected).max()))
    assert worst <= 1e-5


def test_what_is_not_heard_does_not_count(keras: Towers) -> None:
    rng = np.random.default_rng(0)
    person, heard = rng.normal(size=(1, 8, 16)).astype(np.float32), np.ones((1, 8, 1), np.float32)
    heard[0, 5] = 0
    type, gap, segment = (np.full((1, 8), v, np.int32) for v in (7, 3, 1))
    a, b = (
        keras.query(rng.normal(size=(1, 8, 16)).astype(np.float32), type, gap, segment, person, heard).numpy()[0]
        for _ in range(2)
    )
    assert np.array_equal(a[5], b[5])
    assert not np.allclose(a[4], b[4])


def test_some_positions_train_without_attributes_and_some_with_nothing_else(keras: Towers, prepared: Prepared) -> None:
    tower = keras.people
    assert isinstance(tower, PersonTower)
    silent, says = prepared.user_ids.row("u:007"), prepared.user_ids.row("u:008")
    rows = np.full((50, 100), says, np.int32)
    vectors, heard = (np.asarray(t) for t in tower(tf.constant(rows), training=True))
    none = ~vectors.any(axis=2)
    # of 5,000 draws: deviations of .0065 and .0042 around .3 and .1
    assert none.mean() == pytest.approx(0.3, abs=0.03)
    assert 1 - heard.mean() == pytest.approx(0.1, abs=0.02)
    assert not (none & (heard[:, :, 0] == 0)).any()  # never neither
    _, heard = tower(tf.constant(np.full((50, 100), silent, np.int32)), training=True)
    assert np.asarray(heard).all()  # who says nothing is always heard
    nobody, heard = tower(tf.constant([[-1]]))
    assert not np.asarray(nobody).any()
    assert np.asarray(heard).all()


def test_a_warm_start_goes_on_from_the_attributes_too(prepared: Prepared, fitted: Path, tmp_path: Path) -> None:
    still = config(epochs=1, final_epochs=1, learning_rate=1e-9)
    fit_towers(prepared, TWIN, still, tmp_path / "warm", lambda _: None, fitted)
    before, after = (QueryTower.open(path) for path in (fitted, tmp_path / "warm"))
    assert before.people is not None
    assert after.people is not None
    assert after.people.token_vectors == pytest.approx(before.people.token_vectors, abs=1e-6)
    assert after.asks_alone  # as the search found


def test_without_attributes_the_towers_are_the_very_same(tmp_path: Path) -> None:
    plain, outs = shop(tmp_path, told=False), []
    for read in (True, False):
        outs.append(tmp_path / str(read))
        quick = config(epochs=1, final_epochs=1, user_attributes=read)
        fit_towers(plain, TRAIN, quick, outs[-1], lambda _: None)
    files = [sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file()) for out in outs]
    assert files[0] == files[1]
    for name in files[0]:
        if name.suffix == ".npy":
            assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    a, b = (np.load(out / "warm.npz") for out in outs)
    assert all(np.array_equal(a[n], b[n]) for n in a.files)
    assert json.loads((outs[0] / "towers.json").read_text())["format_version"] == 1


def test_a_checkpoint_keeps_what_the_search_found(tmp_path: Path) -> None:
    found = {"people": 120, "recall": 0.3, "popularity": 0.2, "ask": True}
    Checkpoint(tmp_path, "x").save(Progress(3, newcomers=found), {})
    saved = Checkpoint(tmp_path, "x").load()
    assert saved is not None
    assert saved[0].newcomers == found


def test_user_state_holds_what_the_towers_know_and_no_more(prepared: Prepared, fitted: Path, tmp_path: Path) -> None:
    write_user_state(tmp_path / "state", prepared, fitted)
    state, people = UserState.open(tmp_path / "state"), QueryTower.open(fitted).people
    assert people is not None
    for person in ("u:007", "u:008", "u:250"):
        told = prepared.told.of(prepared.user_ids.row(person))
        assert state.told.of(state.ids.row(person)).tolist() == told[people.knows(told)].tolist()
    assert len(state.told.tokens) == sum(p % 7 > 0 for p in range(PEOPLE + NEWCOMERS))  # the team of each who names one
    assert len(state.told.of(-1)) == 0
    write_user_state(tmp_path / "plain", prepared)
    assert len(UserState.open(tmp_path / "plain").told.tokens) == 0
