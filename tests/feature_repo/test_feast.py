"""The Feast repository over real tables: DuckDB offline, SQLite and a real Redis online, the `feast` program itself."""

# bazel: size=medium, data=[//feature_repo:all_files]

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.online_store import FIELDS, VIEW, decoded, encoded, entity_key, field_name
from core.columns import Coded
from core.errors import ConfigError, InputError, NotFoundError
from core.ids import NO_ROW
from core.prepared import Prepared
from core.schema import DAY
from feature_repo.definitions import SERVICES
from feature_repo.online import online_features
from feature_repo.store import apply, connection_string, features_of, materialize, open_store
from feature_repo.training_join import training_join
from pipeline.feature_files import export
from pipeline.feature_tables import FeaturesConfig
from ranking.gain_statistics import Cohorts, affinity, tastes
from ranking.item_day_statistics import ItemStatistics
from ranking.pair_statistics import PairStatistics
from ranking.statistics import ENTITIES, PAIR_STATISTICS
from ranking.user_statistics import UserStatistics
from serving.embedded_redis import EmbeddedRedis
from serving.redis_link import client
from tests.feature_repo.shop import FIRST, ITEMS, LAST, PEOPLE, make_shop, some_rows

CONFIG = FeaturesConfig(cohort_attributes=("country",), pairs=True)
REPOSITORY = Path(__file__).parents[2] / "feature_repo"


@dataclass
class Place:
    work: Path
    prepared: Prepared
    store: Any  # online in SQLite


def exported(folder: Path, work: Path, rows: Any, last: int = LAST) -> Prepared:
    prepared = make_shop(folder, rows, last)
    export(prepared, work / "features", CONFIG, lambda text: None)
    return prepared


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("shop")
    work = folder / "work"
    prepared = exported(folder, work, some_rows(1))
    store = open_store(work)
    assert apply(store, work) == list(ENTITIES)
    return Place(work, prepared, store)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    server.launch()
    server.wait()
    yield server
    server.stop()


def some_entities(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """n rows at any microsecond from 20 days before the first event to 10 after the last, strangers among them; and their moments."""
    rng = np.random.default_rng(seed)
    when = rng.integers((FIRST - 20) * DAY, (LAST + 1) * DAY, n)
    columns = {
        "user_key": [*PEOPLE, "u:stranger"],
        "item_id": [*ITEMS, "gone"],
        "other_item_id": ITEMS,
        "category": ["shoes", "hats", ""],
        "brand": ["acme", "zeta"],
        "cohort": ["all", "country=DE", "category=hats", "country=XX"],
    }
    frame = pd.DataFrame({name: rng.choice(values, n) for name, values in columns.items()})
    return frame.assign(event_timestamp=pd.to_datetime(when, unit="us", utc=True)), when


def codes(values: Coded, texts: Any) -> np.ndarray[Any, Any]:
    known = {v: c for c, v in enumerate(values.values)}
    return np.array([known.get(t, NO_ROW) for t in texts])


def assert_as_of(joined: pd.DataFrame, view: str, names: tuple[str, ...], expected: Any) -> None:
    """Equal to float32 where the row is not expired."""
    live = ~joined[f"{view}__expired"].to_numpy()
    assert live.sum() > 100
    found = joined[[f"{view}__{n.split('.')[1]}" for n in names]].to_numpy()
    np.testing.assert_allclose(found[live], expected[live], rtol=5e-7, atol=1e-9)


def test_the_join_is_as_of_the_day_of_each_row(place: Place) -> None:
    frame, when = some_entities(4_000)
    days, prepared = when // DAY, place.prepared
    joined = training_join(place.store, place.work, frame)
    pd.testing.assert_frame_equal(joined[frame.columns.tolist()], frame)  # no row lost, none moved
    users = prepared.user_ids.rows(frame["user_key"])
    items, people = ItemStatistics.of(prepared), UserStatistics.of(prepared)
    known = people.as_of(users, days)
    assert_as_of(joined, "item", items.names, items.as_of(prepared.item_ids.rows(frame["item_id"]), days))
    assert_as_of(joined, "user", people.names, known)
    gain = known[:, people.names.index("user.gain_decayed")]
    for what in ("category", "brand"):
        coded = prepared.items[what]
        assert isinstance(coded, Coded)
        taste = tastes(prepared, what).as_of(users, codes(coded, frame[what]), days)
        np.testing.assert_allclose(joined[f"user_{what}__gain_decayed"], taste, rtol=5e-7, atol=1e-9)
        np.testing.assert_allclose(joined[f"user_{what}__affinity"], affinity(taste, gain), rtol=1e-6, atol=1e-9)


def test_what_was_not_known_is_the_default_and_marked(place: Place) -> None:
    frame, when = some_entities(2_000, seed=1)
    joined = training_join(place.store, place.work, frame)
    early = when < FIRST * DAY
    assert early.sum() > 200
    stranger = (frame["user_key"] == "u:stranger").to_numpy()
    for view in SERVICES["ranker_v1"]:
        assert joined.loc[early, f"{view}__expired"].all()
    assert joined.loc[stranger, "user__expired"].all()
    assert (joined.loc[early | stranger, "user__recency_days"] == -1).all()
    assert (joined.loc[early, "item__conversion"] == np.float32(0.03)).all()
    assert not joined.isna().any(axis=None)


def test_cohorts_and_pairs_join_too(place: Place) -> None:
    frame, when = some_entities(2_000, seed=2)
    days, prepared = when // DAY, place.prepared
    items, cohorts = prepared.item_ids.rows(frame["item_id"]), Cohorts.of(prepared, CONFIG.cohort_attributes)
    rows = np.array([cohorts.names.index(c) if c in cohorts.names else NO_ROW for c in frame["cohort"]])
    joined = training_join(place.store, place.work, frame, "cold_start_v1")
    expected = cohorts.popularity(rows, items, days)
    live = ~(joined["cohort__expired"] | joined["cohort_item__expired"]).to_numpy()
    np.testing.assert_allclose(joined["cohort_item__popularity"][live], expected[live], rtol=1e-6, atol=1e-9)
    joined = training_join(place.store, place.work, frame, "neighbours_v1")
    pairs = PairStatistics(prepared).as_of(items, prepared.item_ids.rows(frame["other_item_id"]), days)
    assert_as_of(joined, "pair", tuple(s.name for s in PAIR_STATISTICS), pairs)


def test_a_missing_key_column_and_an_unknown_service_are_named(place: Place) -> None:
    frame, _ = some_entities(3)
    with pytest.raises(InputError, match="no column 'brand'"):
        training_join(place.store, place.work, frame.drop(columns="brand"))
    with pytest.raises(NotFoundError, match="did you mean 'ranker_v1'"):
        training_join(place.store, place.work, frame, "ranker_v2")


@pytest.mark.parametrize("online", ["sqlite", "redis"])
def test_online_is_offline_of_the_same_moment(place: Place, redis: EmbeddedRedis, online: str) -> None:
    store = place.store if online == "sqlite" else open_store(place.work, redis.url)
    apply(store, place.work)
    done = materialize(store, place.work)
    assert set(done.views) == set(ENTITIES) - {"pair"}
    assert materialize(store, place.work).views == {}  # nothing new
    frame, _ = some_entities(300, seed=3)
    now = (LAST + 2) * DAY + 5
    frame["event_timestamp"] = pd.to_datetime(now, unit="us", utc=True)
    keys = frame.drop(columns="event_timestamp").to_dict("records")
    for service in ("ranker_v1", "cold_start_v1"):
        wanted = {k for t in SERVICES[service] for k in ENTITIES[t].keys}
        asked = [{k: row[k] for k in wanted} for row in keys]
        found = online_features(store, place.work, asked, now, service)
        joined = training_join(place.store, place.work, frame, service)
        same = [c for c in joined.columns if "__" in c]
        pd.testing.assert_frame_equal(found[same], joined[same])


def test_online_rows_older_than_their_ttl_are_marked(place: Place) -> None:
    materialize(place.store, place.work)
    asked = [{"user_key": "u:00", "item_id": "i00", "category": "shoes", "brand": "acme"}]
    ttl = ENTITIES["item"].ttl_days
    fresh = online_features(place.store, place.work, asked, (LAST + 1) * DAY)
    late = online_features(place.store, place.work, asked, (LAST + ttl + 1) * DAY)
    assert fresh["item__age_days"][0] > 0
    assert not fresh["item__expired"][0]
    assert late["item__expired"][0]
    assert late["item__age_days"][0] == -1
    # a moment before the materialised day: what is online was not known then
    assert online_features(place.store, place.work, asked, FIRST * DAY)["item__expired"][0]


def test_new_and_reopened_days_reach_the_online_store(tmp_path: Path, redis: EmbeddedRedis) -> None:
    work, middle, rows = tmp_path / "work", FIRST + 60, some_rows(4)
    early = [r for r in rows if r[3] < middle * DAY]
    exported(tmp_path / "one", work, early, middle)
    store = open_store(work, redis.url)
    apply(store, work)
    materialize(store, work, full=True)
    exported(tmp_path / "two", work, rows)
    done = materialize(store, work)
    # new days only; Feast's own incremental run goes on from the end of the one before
    assert {first for first, _ in done.views.values()} >= {done.views["user"][0]}
    assert done.views["user"][0] > "2022-03-09"  # FIRST + 60
    # an event of day LAST - 2 comes late, of one whose newest row may be older than the newest day online
    prepared = exported(tmp_path / "three", work, [*rows, ("u:05", "i05", "purchase-complete", (LAST - 2) * DAY + 1)])
    assert materialize(store, work).views["user"][0] <= "2022-04-07"
    asked = [{"user_key": "u:05", "item_id": "i05", "category": "hats", "brand": "acme"}]
    found = online_features(store, work, asked, LAST * DAY)
    users = UserStatistics.of(prepared)
    expected = users.as_of(np.array([5]), np.array([LAST]))[0]
    np.testing.assert_allclose([found[n.replace(".", "__")][0] for n in users.names], expected, rtol=5e-7)


def feast(command: str, repository: Path, work: Path) -> str:
    """What the program prints, called as its users call it: in the folder, knowing nothing of our modules."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"AISLE_WORK": str(work)}
    program = [str(Path(sys.executable).parent / "feast"), command]
    done = subprocess.run(program, cwd=repository, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plan_and_apply_as_any_feast_user_does(place: Place, tmp_path: Path) -> None:
    # a work directory of its own for the registry, over the same tables
    (tmp_path / "features").mkdir()
    for entry in ("views.json", *ENTITIES):
        (tmp_path / "features" / entry).symlink_to(features_of(place.work) / entry)
    # a copy: Feast does not find its way through the links that Bazel lays
    repository = tmp_path / "feature_repo"
    repository.mkdir()
    for file in REPOSITORY.iterdir():
        if file.is_file():
            shutil.copyfile(file, repository / file.name)
    assert "Created feature view user_category" in feast("plan", repository, tmp_path)
    assert "Created feature service ranker_v1" in feast("apply", repository, tmp_path)
    registered = open_store(tmp_path)
    assert {v.name for v in registered.list_feature_views()} == set(ENTITIES)
    assert {s.name for s in registered.list_feature_services()} == set(SERVICES)


@pytest.mark.parametrize(
    ("set_it", "message"),
    [(False, "AISLE_WORK is not set: export AISLE_WORK="), (True, "run `./aisle features export")],
)
def test_the_feast_program_without_tables_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_it: bool, message: str
) -> None:
    monkeypatch.delenv("AISLE_WORK", raising=False)
    if set_it:
        monkeypatch.setenv("AISLE_WORK", str(tmp_path))
    # as Feast imports it
    spec = importlib.util.spec_from_file_location("definitions", REPOSITORY / "definitions.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(SystemExit, match=message):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_work_directory_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="features export"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///run/redis.sock", "localhost:0,unix_socket_path=/run/redis.sock"),
        ("redis://cache:6380/2", "cache:6380,db=2"),
        ("redis://:secret@cache", "cache:6379,password=secret"),
    ],
)
def test_connection_strings(url: str, expected: str) -> None:
    assert connection_string(url) == expected


def test_a_url_that_is_none() -> None:
    with pytest.raises(ConfigError, match="not the URL of a Redis"):
        connection_string("cache:6379")


def test_the_state_of_the_online_store_holds_no_secret(place: Place) -> None:
    assert "password" not in json.dumps(json.loads((features_of(place.work) / "materialized.json").read_text()))


def test_the_benchmark_reads_and_writes_what_the_sdk_does(place: Place, redis: EmbeddedRedis) -> None:
    store = open_store(place.work, redis.url)
    apply(store, place.work)
    materialize(store, place.work, full=True)
    kept, key = client(redis.url, 5, retries=0), entity_key("user_key", "u:03")
    names = [field_name(VIEW, f) for f in FIELDS]
    messages: Any = kept.hmget(key, names)
    table = pd.read_parquet(features_of(place.work) / "user")
    newest = table[table["user_key"] == "u:03"].sort_values("as_of_day").iloc[-1]
    values = newest[list(FIELDS)].to_numpy(np.float32)
    np.testing.assert_array_equal(decoded(messages), values)
    assert encoded(values) == messages
    kept.hset(key, mapping=dict(zip(names, encoded(values + 1), strict=True)))
    asked = [{"user_key": "u:03"}]
    answer = store.get_online_features(features=[f"user:{f}" for f in FIELDS], entity_rows=asked).to_dict()
    np.testing.assert_array_equal([answer[f][0] for f in FIELDS], values + 1)
