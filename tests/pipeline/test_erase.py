"""A person is forgotten: after DeleteUser and `users erase` no byte of the ids is in any file, nobody else notices, and a kill does no harm."""

# bazel: size=large, imports=[cli.__main__, cli.commands.*], data=[//configs:all_files]

from __future__ import annotations

import bz2
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core import artifact
from core.columns import Columns
from core.config import load_pipeline
from core.ids import NO_ROW, IdMap
from core.prepared import FULL, Prepared
from core.release import ReleaseSettings
from core.schema import DAY, Column
from core.work import Work
from data_prep.prepare import run as prepare
from feature_repo.store import apply as register
from feature_repo.store import materialize as bring_online
from feature_repo.store import open_store
from pipeline import sink
from pipeline.erase import Erased, reached, run
from pipeline.feature_files import export as write_features
from pipeline.feature_tables import load_features
from pipeline.publish import Parts, publish
from retrieval.sources import HEADER
from serving.batch import Batch, BatchQuery
from serving.client import Client
from serving.config import ServingConfig, load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.forget import Wishes
from serving.keys import Keys
from serving.process import ProcessOptions, ServingProcess
from serving.redis_link import client
from serving.release import Release
from serving.spool import Spool
from tests.serving.shop import START, TITLES, write_sources
from tests.waiting import until

USER, VISITOR = "erika-0099", "browser-0099"
NEEDLES = (USER.encode(), VISITOR.encode())
KEEPERS = [f"keeper-{n:04d}" for n in range(24)]
DAYS = 20
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "200"}


def everything(*roots: Path) -> Iterator[tuple[Path, bytes]]:
    """All there is on disk, as it lies there and uncompressed."""
    for path in (p for root in roots for p in root.rglob("*") if p.is_file()):
        yield path, path.read_bytes() + os.fsencode(path)
        if path.suffix == ".gz":
            yield path, gzip.decompress(path.read_bytes())
        elif path.suffix == ".bz2":
            yield path, bz2.decompress(path.read_bytes())
        elif path.suffix == ".parquet":
            yield path, repr(pq.read_table(path).to_pydict()).encode()


def holding(*roots: Path) -> set[Path]:
    return {path for path, data in everything(*roots) if any(n in data for n in NEEDLES)}


def make_data(data: Path) -> None:
    """Twenty days of purchases by 24 people and the one to be forgotten, in every kind of file."""
    items = sorted(TITLES)
    rows = [
        {
            "event_type": "purchase-complete",
            "event_time": pd.Timestamp(START + day * DAY + n * 60_000_001, unit="us"),
            "item_id": items[(n * 5 + day) % len(items)],
            "user_id": user,
            "visitor_id": f"device-of-{n}",
            "session_id": f"session-{n}-{day}",
        }
        for day in range(DAYS)
        for n, user in enumerate([*KEEPERS, USER])
    ]
    # a browser that others used as well, before she signed in and after
    rows[0]["visitor_id"] = VISITOR
    rows.append({**rows[-1], "user_id": None, "visitor_id": VISITOR, "item_id": "tea-1"})
    # two that cannot be events
    rows += [{**rows[24], "event_type": "teleport"}, {**rows[0], "event_type": "teleport"}]
    frame = pd.DataFrame(rows)
    (data / "events" / "day=1").mkdir(parents=True)
    frame[:200].to_parquet(data / "events" / "day=1" / "part-0.parquet", index=False)
    text = frame.assign(event_time=frame.event_time.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    text[200:300].to_csv(data / "events" / "b.csv", index=False)
    text[300:400].to_csv(data / "events" / "c.csv.gz", index=False)
    text[400:].to_json(data / "events" / "d.jsonl.bz2", orient="records", lines=True)
    (data / "users").mkdir()
    people = pd.DataFrame({"user_id": [*KEEPERS, USER], "city": ["Kiel", "Bonn"] * 12 + ["Erikastadt"]})
    people.to_csv(data / "users" / "users.csv", index=False)
    (data / "items").mkdir()
    table = pd.DataFrame({"item_id": items, "title": [TITLES[i] for i in items], "price": 2.5})
    table.to_parquet(data / "items" / "items.parquet", index=False)
    (data / "rejected").mkdir()
    content = [json.dumps({"who": who, "n": 1}) for who in (USER, "keeper-0003")]
    rejected = pd.DataFrame({"reason": "bad", "file": "x.csv", "content": content})
    rejected.to_parquet(data / "rejected" / "part-0.parquet", index=False)


def make_release(work: Work, prepared: Prepared) -> None:
    """As `nightly` publishes one, with literal sources."""
    sources = work.root.parent / "train-retrieval" / "literal" / FULL.name
    if not sources.exists():
        write_sources(prepared.item_ids, sources)
    config = load_pipeline()
    names = [s["name"] for s in json.loads((sources / HEADER).read_bytes())["sources"]]
    settings = ReleaseSettings(
        quotas=dict.fromkeys(names, 50),
        weights=dict.fromkeys(names, 1.0),
        history_events=100,
        warm_events=3,
        candidates=100,
        gains=config.data.gains,
    )
    publish(work, prepared, Parts(sources.parent), settings, config, {"ndcg@10": 0.5})


def event(item: str, user: str = "", visitor: str = "", session: str = "") -> Event:
    return Event(
        event_type="add-to-cart", item_id=item, user_id=user, visitor_id=visitor, session_id=session, event_time=START
    )


def make_features(work: Work, redis_url: str) -> None:
    """Tables, and Feast's online stores over them: in SQLite, and in our own Redis."""
    write_features(Prepared(work.latest("prepare")), work.root / "features", load_features(), lambda _: None)
    for url in (None, redis_url):
        store = open_store(work.root, url)
        register(store, work.root)
        bring_online(store, work.root)


def spool(folder: Path) -> None:
    """What a server left that was killed while Redis was away."""
    left = Spool(folder, 1 << 20)
    events = [
        {"event_type": "click", "event_time": START, "item_id": "tea-2", "user_id": who}
        for who in (USER, "keeper-0005")
    ]
    left.append(json.dumps(events).encode())
    left.close()


@dataclass(frozen=True)
class Life:
    """A shop before anybody is forgotten: its folders, what it answered, and a copy of it all with the wish stored."""

    data: Path
    work: Work
    copy: Path
    rows: dict[str, int]
    served: dict[str, list[str]]
    batched: dict[str, list[str]]
    done: Erased


@pytest.fixture(scope="module")
def config() -> ServingConfig:
    defaults = load_serving()
    changes = {
        "redis": defaults.redis.model_copy(update={"read_deadline_ms": 5_000.0, "write_deadline_ms": 5_000.0}),
        "log": defaults.log.model_copy(update={"share": 1.0, "features_share": 1.0}),
    }
    return defaults.model_copy(update=changes)


def pages(port: int) -> dict[str, list[str]]:
    with Client(f"127.0.0.1:{port}", timeout=20) as ask:
        asked = {who: ask.recommend(RecommendRequest(user_id=who)) for who in (*KEEPERS[:6], USER, "nobody")}
    assert not any(a.degraded for a in asked.values())
    return {who: [r.item_id for r in a.results] for who, a in asked.items()}


def batched(work: Work) -> dict[str, list[str]]:
    release = Release.open(work.current)
    batch = Batch(work.current, work.user_state(release.window_end))
    people = (*KEEPERS, USER, "nobody")
    return {who: batch.rendered(BatchQuery(who, who, None), 10, exclude_seen=False).item_ids for who in people}


def serving(work: Work, config: ServingConfig, url: str) -> ServingProcess:
    return ServingProcess(ProcessOptions(work.current, work.root, "127.0.0.1", 0, url, embedded=True, config=config))


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, config: ServingConfig) -> Life:
    home = tmp_path_factory.mktemp("life")
    data, work = home / "data", Work(home / "work")
    make_data(data)
    with work.locked(make=True):
        prepared = Prepared(prepare(data, work, load_pipeline(), lambda _: None))
    make_release(work, prepared)
    rows = {p: prepared.user_ids.row(p) for p in prepared.user_ids.texts}
    redis = EmbeddedRedis(work.root / "redis")
    redis.launch()
    redis.wait()
    make_features(work, redis.url)
    server = serving(work, config, redis.url)
    server.start()
    with Client(f"127.0.0.1:{server.port}", timeout=20) as ask:
        ask.write_events([event("tea-3", USER, VISITOR, "s-9"), event("cup-3", "keeper-0000")])
        served = pages(server.port)
        before = batched(work)
        server.stop()  # the log of pages is written
        store = client(redis.url, 20, retries=0)
        with sink.locked(data):
            sink.Sink(store, Keys("default"), data, 1_000, lambda _: None).drain()
        server = serving(work, config, redis.url)
        server.start()
    with Client(f"127.0.0.1:{server.port}", timeout=20) as ask:
        # these wait in the stream, beside one another in one node of it
        ask.write_events(
            [
                event("tea-4", "keeper-0001"),
                event("tea-4", USER, VISITOR, "s-9"),
                event("pot-2", "keeper-0002", VISITOR),
            ]
        )
        assert ask.delete_user(USER, VISITOR).pending
    server.stop()
    spool(work.root / "spool")
    redis.stop()
    copy = home / "copy"
    shutil.copytree(work.root, copy / "work", symlinks=True)
    shutil.copytree(data, copy / "data")
    with work.locked(), reached(work, None) as store:
        done = run(data, work, store, config, lambda _: None)
    return Life(data, work, copy, rows, served, before, done)


def test_the_shop_was_full_of_her(life: Life) -> None:
    """Else the tests below would prove nothing."""
    copy, held = life.copy, {str(p.relative_to(life.copy)) for p in holding(life.copy)}
    for place in ("data/events/b.csv", "data/events/c.csv.gz", "data/events/d.jsonl.bz2", "data/users/users.csv"):
        assert place in held
    assert {p.split("/")[1] for p in held if p.startswith("data/")} == {
        "events",
        "users",
        "rejected",
        "recommendations",
    }
    inside = {p.split("/")[1] for p in held if p.startswith("work/")}
    assert {"stages", "user_state", "redis", "spool", "features"} <= inside
    assert "releases" not in inside
    assert any(p.endswith("rejected/events.parquet") for p in held)
    assert life.served[USER] != life.served["nobody"]
    assert (copy / "work" / "redis" / "appendonly.aof").exists()


def test_no_byte_of_the_ids_is_left(life: Life) -> None:
    assert life.done.left == []
    assert holding(life.data, life.work.root) == set()


def test_what_was_done_is_told(life: Life) -> None:
    # one wish names both
    assert life.done.requests == 1
    assert life.done.short == 0
    assert life.done.files_rewritten > 8
    # her 20 purchases in DATA and in prepared data and user state alone are 60
    assert life.done.rows_removed > 60


def test_her_row_is_a_tombstone_and_all_others_are_as_they_were(life: Life) -> None:
    prepared = Prepared(life.work.latest("prepare"))
    artifact.verify(prepared.path)
    for person, row in life.rows.items():
        gone = person in (f"u:{USER}", f"v:{VISITOR}")
        assert prepared.user_ids.row(person) == (NO_ROW if gone else row)
        assert prepared.user_ids.alive[row] == (not gone)
    before = Prepared(Work(life.copy / "work").latest("prepare"))
    users = before.events.numbers(Column.USER)
    keep = ~np.isin(users, [life.rows[f"u:{USER}"], life.rows[f"v:{VISITOR}"]])
    assert keep.sum() < len(keep)
    for name in before.events:
        np.testing.assert_array_equal(prepared.events.numbers(name), before.events.numbers(name)[keep])
    city = prepared.users["attribute.city"]
    assert "Erikastadt" not in list(city.values)  # type: ignore[union-attr]
    assert [city[life.rows[f"u:{k}"]] for k in KEEPERS[:2]] == ["Kiel", "Bonn"]


def test_the_release_goes_on_with_its_user_state_and_others_get_what_they_got(
    life: Life, config: ServingConfig
) -> None:
    state = life.work.user_state(Release.open(life.work.current).window_end)
    artifact.verify(state)
    answers = batched(life.work)
    assert answers[USER] == answers["nobody"]
    assert {k: answers[k] for k in KEEPERS} == {k: life.batched[k] for k in KEEPERS}
    redis = EmbeddedRedis(life.work.root / "redis")
    redis.launch()
    redis.wait()
    server = serving(life.work, config, redis.url)
    server.start()
    again = pages(server.port)
    store = client(redis.url, 20, retries=0)
    until(lambda: store.xlen(Keys("default").events) == 3)  # the spooled click of keeper 5 too
    server.stop()
    left = [json.loads(fields[b"event"]) for _, fields in store.xrange(Keys("default").events)]
    assert Wishes(store, Keys("default")).pending() == {}
    assert Wishes(store, Keys("default")).marks() == []
    redis.stop()
    assert again[USER] == again["nobody"]
    # keeper 1 and 2 wrote meanwhile
    assert {k: again[k] for k in (KEEPERS[0], *KEEPERS[3:5])} == {
        k: life.served[k] for k in (KEEPERS[0], *KEEPERS[3:5])
    }
    assert sorted(e["user_id"] for e in left) == ["keeper-0001", "keeper-0002", "keeper-0005"]
    assert not any("visitor_id" in e for e in left)


def test_the_data_of_others_are_all_there(life: Life) -> None:
    def events(data: Path) -> list[Any]:
        found = [pd.read_parquet(f) for f in sorted((data / "events").rglob("*.parquet"))]
        found += [pd.read_csv(f) for f in sorted((data / "events").glob("*.csv*"))]
        found += [pd.read_json(f, lines=True) for f in sorted((data / "events").glob("*.jsonl*"))]
        rows = pd.concat([f.assign(event_time=f.event_time.astype(str)) for f in found])
        rows = rows[rows.user_id.notna() & (rows.user_id != USER)]
        return sorted(rows[["user_id", "item_id", "session_id"]].fillna("").itertuples(index=False, name=None))

    assert events(life.data) == events(life.copy / "data")
    shown = pd.concat(pd.read_parquet(f) for f in (life.data / "recommendations").rglob("*.parquet"))
    assert sorted(shown.user_id) == [*KEEPERS[:6], "nobody"]
    (kept,) = pd.read_parquet(life.data / "rejected" / "part-0.parquet").content
    assert "keeper-0003" in kept
    features = pd.concat(pd.read_parquet(f) for f in (life.work.root / "features" / "user").rglob("*.parquet"))
    assert set(features.user_key) == {p for p in life.rows if p not in (f"u:{USER}", f"v:{VISITOR}")}


def online_people(life: Life, work: Path, url: str | None) -> set[str]:
    """Whom Feast knows."""
    names = [p for p in life.rows if p]
    answer = open_store(work, url).get_online_features(["user:events_30d"], [{"user_key": n} for n in names])
    table = answer.to_dict()
    values = next(v for k, v in table.items() if k != "user_key")
    return {n for n, v in zip(table["user_key"], values, strict=True) if v is not None}


def test_the_feature_stores_know_all_others(life: Life) -> None:
    others = {p for p in life.rows if p not in (f"u:{USER}", f"v:{VISITOR}")}
    assert online_people(life, life.copy / "work", None) == set(life.rows)
    assert online_people(life, life.work.root, None) == others
    redis = EmbeddedRedis(life.work.root / "redis")
    redis.launch()
    redis.wait()
    assert online_people(life, life.work.root, redis.url) == others
    redis.stop()


def test_a_second_night_keeps_the_rows_of_others_and_who_returns_is_new(life: Life) -> None:
    back = pd.DataFrame(
        {
            "event_type": "purchase-complete",
            "event_time": [pd.Timestamp(START + (DAYS - 1) * DAY, unit="us")],
            "item_id": "tea-1",
            "user_id": USER,
        }
    )
    data, work = life.work.root.parent / "next" / "data", Work(life.work.root.parent / "next" / "work")
    shutil.copytree(life.data, data)
    shutil.copytree(life.work.root, work.root, symlinks=True)
    back.to_parquet(data / "events" / "z.parquet", index=False)
    with work.locked():
        prepared = Prepared(prepare(data, work, load_pipeline(), lambda _: None))
    rows = {p: r for p, r in life.rows.items() if p not in (f"u:{USER}", f"v:{VISITOR}")}
    assert {p: prepared.user_ids.row(p) for p in rows} == rows
    assert prepared.user_ids.row(f"u:{USER}") >= len(life.rows)
    assert not prepared.user_ids.alive[life.rows[f"u:{USER}"]]
    assert (prepared.events.numbers(Column.USER) == prepared.user_ids.row(f"u:{USER}")).sum() == 1


def test_beside_a_server_that_answers(life: Life, config: ServingConfig, tmp_path: Path) -> None:
    shutil.copytree(life.copy, tmp_path / "shop", symlinks=True)
    data, work = tmp_path / "shop" / "data", Work(tmp_path / "shop" / "work")
    shutil.rmtree(work.root / "spool")  # a server would hand it over before or after
    redis = EmbeddedRedis(work.root / "redis")
    redis.launch()
    redis.wait()
    server = serving(work, config, redis.url)
    server.start()
    with work.locked(), reached(work, None) as store:
        done = run(data, work, store, config, lambda _: None)
    assert (done.requests, done.left) == (1, [])
    answers = pages(server.port)
    assert answers[USER] == answers["nobody"]
    with Client(f"127.0.0.1:{server.port}", timeout=20) as ask:
        ask.write_events([event("pot-3", USER)])  # a new beginning
    assert pages(server.port)[USER] != answers["nobody"]
    server.stop()
    redis.stop()


def test_kill_9_at_any_step_and_a_rerun_finishes(life: Life, tmp_path: Path) -> None:
    shutil.copytree(life.copy, tmp_path / "shop", symlinks=True)
    data, work = tmp_path / "shop" / "data", Work(tmp_path / "shop" / "work")
    command = [sys.executable, "-m", "cli", "users", "erase", "--work", str(work.root), "--data", str(data)]
    kills = 0
    while kills < 30:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
        )
        assert process.stderr is not None
        assert process.stdout is not None
        said = []
        for line in process.stderr:
            # the first lines are of steps that have nothing to do any more
            said.append(line)
            if len(said) > kills:
                os.killpg(process.pid, signal.SIGKILL)
        out = process.stdout.read()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
        kills += 1
    assert 4 <= kills < 30
    done = json.loads(out.splitlines()[-1])
    assert done["left"] == []
    assert holding(data, work.root) == set()
    for path in (work.latest("prepare"), *(work.root / "user_state").iterdir()):
        artifact.verify(path)
    assert batched(work) == batched(life.work)
    ids = IdMap.open(work.latest("prepare") / "ids" / "users")
    assert ids.row("u:keeper-0000") == life.rows["u:keeper-0000"]
    assert Columns.open(work.latest("prepare") / "events").rows == Prepared(life.work.latest("prepare")).events.rows


def test_what_cannot_be_taken_out_is_named_and_the_wish_waits(life: Life, tmp_path: Path) -> None:
    shutil.copytree(life.copy, tmp_path / "shop", symlinks=True)
    data, work = tmp_path / "shop" / "data", Work(tmp_path / "shop" / "work")
    (data / "events" / "_notes.txt").write_text(f"called {USER} back\n")
    command = [sys.executable, "-m", "cli", "users", "erase", "--work", str(work.root), "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1])["left"] == ["DATA/events/_notes.txt"]
    assert "1 files still name who is to be forgotten: DATA/events/_notes.txt" in done.stderr.splitlines()[-1]
    (data / "events" / "_notes.txt").unlink()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["requests"] == 1
    assert holding(data, work.root) == set()
