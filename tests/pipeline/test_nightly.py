"""The night end to end on a small simulated shop, in processes of their own: published, repeated, killed, resumed, judged, asked."""

# bazel: size=large, timeout=eternal, imports=[cli.__main__, cli.commands.*], data=[//configs:all_files]

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from aisle.v1.catalog_pb2 import Item
from aisle.v1.recommender_pb2 import RecommendRequest
from core import artifact
from core.config import load_pipeline
from core.ids import NO_ROW
from core.release import ReleaseSettings
from core.work import Work
from pipeline.evaluate import BASELINES, BLEND
from pipeline.registry import history
from pipeline.registry.find import named
from retrieval.query import TowerSource
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.process import ServingProcess
from serving.release import Release
from tests.serving.conftest import bare, changed, options_for

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "200"}
# small towers: what is tested here is the night and not the model
CONFIG = "evaluation: {bootstrap_samples: 100}\n"


def aisle(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, args)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("night") / "shop"
    result(aisle("simulate", "--users", 400, "--items", 200, "--events", 12_000, "--days", 60, "--out", data))
    (data.parent / "small.yaml").write_text(CONFIG)
    return data


def nightly(shop: Path, work: Path) -> tuple[object, ...]:
    return ("nightly", "--data", shop, "--work", work, "--config", shop.parent / "small.yaml")


@pytest.fixture(scope="module")
def night(shop: Path) -> tuple[Path, dict[str, Any]]:
    work = shop.parent / "work"
    return work, result(aisle(*nightly(shop, work)))


def same_release(a: Path, b: Path) -> bool:
    """Whether two releases hold the same, byte by byte: their manifests list the hash of every file."""
    return artifact.facts(artifact.read_manifest(a)) == artifact.facts(artifact.read_manifest(b))


def test_a_night_publishes_what_passes_its_gates(shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    work, done = night
    assert done["published"] is True
    assert all(g["passed"] for g in done["gates"])
    assert not any(s["skipped"] for s in done["stages"].values())
    assert (work / "releases" / "current").resolve() == Path(done["release"]).resolve()
    ReleaseSettings.read(Path(done["release"]))
    published = named(None, work)
    assert published.gates == done["gates"]
    assert load_pipeline(shop.parent / "small.yaml").model_dump(mode="json") == published.lineage()["configuration"]
    assert [(c.action, c.to) for c in history.read(Work(work))] == [(history.PUBLISH, published.name)]


def test_a_second_night_over_the_same_data_does_nothing_and_keeps_the_release(
    shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    work, first = night
    second = result(aisle(*nightly(shop, work)))
    assert second["release"] == first["release"]
    assert all(s["skipped"] for s in second["stages"].values())


def test_kill_9_at_any_step_resumes_to_the_same_release(shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    """Killed at one line of progress after the other, up to twenty times, the run that is left alone at last publishes what an undisturbed one did."""
    _, undisturbed = night
    work, kills = shop.parent / "killed", 0
    while kills < 20:
        run = subprocess.Popen(
            [sys.executable, "-m", "cli", *map(str, nightly(shop, work))],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        assert run.stderr is not None
        for line, _ in enumerate(run.stderr):
            if line >= kills:
                os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        if run.returncode == 0:
            break
        kills += 1
        current = work / "releases" / "current"
        if current.exists():
            artifact.verify(current)
    assert kills >= 10  # the rest of twenty would come after the end
    done = result(aisle(*nightly(shop, work)))
    assert Path(done["release"]).name == Path(undisturbed["release"]).name
    assert same_release(Path(done["release"]), Path(undisturbed["release"]))
    assert not list(work.rglob(".tmp-*"))


def test_two_nights_at_once_are_impossible(shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    work, _ = night
    import fcntl

    with open(work / "lock", "a") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert "is writing here" in refusal(aisle(*nightly(shop, work)))


def test_data_that_changed_beyond_a_stop_are_refused_however_often_and_the_champion_stays(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """Prices triple overnight: the run ends with exit 3 before anything learns from them, a second one too; with the limit lifted it warns."""
    work, dearer = tmp_path / "work", tmp_path / "shop"
    shutil.copytree(night[0], work, symlinks=True)
    shutil.copytree(shop, dearer)
    (file,) = (dearer / "items").glob("*.parquet")
    items = pq.read_table(file)
    tripled = pc.multiply(items.column("price"), 3)
    pq.write_table(items.set_column(items.column_names.index("price"), "price", tripled), file)
    (tmp_path / "strict.yaml").write_text(CONFIG + "drift: {ks: {stop: 0.3}}\n")
    for _ in range(2):
        refused = aisle("nightly", "--data", dearer, "--work", work, "--config", tmp_path / "strict.yaml")
        assert refused.returncode == 3, refused.stderr
        said = json.loads(refused.stdout.splitlines()[-1])
        assert list(said["stages"]) == ["prepare"]
        assert "items.price: 3" in refused.stderr.splitlines()[-1]
        assert (work / "releases" / "current").resolve().name == Path(night[1]["release"]).name
    warned = aisle("prepare", "--data", dearer, "--work", work, "--config", shop.parent / "small.yaml")
    assert any("items.price: 3" in line for line in result(warned)["drift"])


def test_the_night_after_keeps_the_towers_and_publishes_what_is_new(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """A day of events later, one of them on an item that was not there: a release of the same embedding, with one more item."""
    work = tmp_path / "work"
    shutil.copytree(night[0], work, symlinks=True)
    data = tmp_path / "shop"
    shutil.copytree(shop, data)
    events = pq.read_table(data / "events").sort_by("event_time")
    day = events.slice(len(events) - 200)
    later = pc.add(day.column("event_time"), pa.scalar(dt.timedelta(days=1)))
    items = pa.array(["new-item", *day.column("item_id").to_pylist()[1:]])
    for name, values in (("event_time", later), ("item_id", items)):
        day = day.set_column(day.column_names.index(name), name, values.cast(day.schema.field(name).type))
    if "event_id" in day.column_names:
        day = day.drop_columns(["event_id"])
    pq.write_table(day, data / "events" / "later.parquet")
    done = aisle("nightly", "--data", data, "--work", work, "--config", shop.parent / "small.yaml")
    second = Path(result(done)["release"])
    assert "towers stay: they learned 1.0 days of data ago" in " ".join(done.stderr.split()), done.stderr
    first = work / "releases" / Path(night[1]["release"]).name
    headers = [json.loads((r / "sources" / "towers" / "towers.json").read_bytes()) for r in (first, second)]
    assert headers[0]["embedding_id"] == headers[1]["embedding_id"]
    assert headers[1]["items"] == headers[0]["items"] + 1
    artifact.verify(second)


def test_the_night_after_takes_in_what_the_live_catalog_was_told(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """Two new items, one changed, one gone, one off the shelf, on a running server; a night later the release has them itself, and the server shows
    the same items from it. What it is told afterwards is replayed from the number on that the release has seen."""
    work = tmp_path / "work"
    shutil.copytree(night[0], work, symlinks=True)
    redis = EmbeddedRedis(tmp_path / "redis")
    redis.launch()
    redis.wait()
    process = ServingProcess(options_for(Work(work), redis.url, changed(bare(), "redis", read_deadline_ms=5000.0)))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=60) as client:

        def shown() -> set[str]:
            """Every item there is: the page is as long as the catalogue, and filled."""
            found = client.recommend(RecommendRequest(user_id="u0000001", page_size=300, exclude_seen=False))
            return {r.item_id for r in found.results}

        gone, off, changed_one, like, *_ = sorted(shown())
        release = Release.open(work / "releases" / "current")
        told: dict[str, Any] = {c: release.items[c][release.item_ids.row(like)] for c in ("category", "brand")}
        client.upsert_items([Item(item_id=i, title="new", price=5, **told) for i in ("new-1", "new-2")])
        client.upsert_items([Item(item_id=changed_one, title="changed", price=7, **told)])
        client.delete_items([gone, "new-2"])
        client.set_availability([off], False)
        before = shown()
        assert "new-1" in before
        assert not before & {gone, off, "new-2"}

        done = aisle(*nightly(shop, work))
        second = Release.open(Path(result(done)["release"]))
        assert "towers stay" in " ".join(done.stderr.split()), done.stderr
        client.load_release(str(second.path))
        assert shown() == before
        status = client.status().catalog
        assert (status.release_sequence, status.sequence) == (4, 4)
        assert (status.new_items, status.changed_items, status.deleted_items) == (0, 0, 0)

        # the new item is one like any other, with a vector of the kept towers that the index finds
        rows = second.item_ids.rows(["new-1", changed_one])
        titles = second.items["title"]
        assert [titles[int(r)] for r in rows] == ["new", "changed"]
        assert second.items.numbers("known")[rows].all()
        assert second.item_ids.row("new-2") == NO_ROW  # came and went between two nights
        (towers,) = (s for s in second.sources if isinstance(s, TowerSource))
        assert towers.tower.has_vector[rows].all()
        for row in rows.tolist():
            assert row in towers.search(towers.tower.item_vectors[row], 20)[0]

        # what comes now is replayed over it: availability does not bring back what is gone, an upsert does
        assert client.set_availability([gone, off], True).missing_ids == [gone]
        assert shown() == before | {off}
        client.upsert_items([Item(item_id=gone, title="back")])
        assert shown() == before | {off, gone}
        assert client.status().catalog.release_sequence == 4
    process.stop()
    redis.stop()


def ask(tmp_path: Path, work: Path, queries: dict[str, list[Any]], *more: object) -> list[dict[str, Any]]:
    pq.write_table(pa.table(queries), tmp_path / "q.parquet")
    result(
        aisle(
            "batch",
            "--release",
            work / "releases" / "current",
            "--queries",
            tmp_path / "q.parquet",
            "--k",
            50,
            "--out",
            tmp_path / "r.parquet",
            *more,
        )
    )
    return list(pq.read_table(tmp_path / "r.parquet").to_pylist())


def test_batch_answers_everybody_with_a_full_page(tmp_path: Path, night: tuple[Path, dict[str, Any]]) -> None:
    rows = ask(tmp_path, night[0], {"query_id": ["a", "b", "c"], "user_id": ["u0000001", "nobody", None]})
    for query in "abc":
        page = [r for r in rows if r["query_id"] == query]
        assert [r["rank"] for r in page] == list(range(1, 51))
        assert len({r["item_id"] for r in page}) == 50
        assert all(r["source"] for r in page)
        assert [r["score"] for r in page] == sorted((r["score"] for r in page), reverse=True)


def test_batch_takes_the_clock_of_the_query(tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    """Before a person's first event they are a stranger: their page is the one that nobody gets."""
    start = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    rows = ask(
        tmp_path, night[0], {"query_id": ["past", "nobody"], "user_id": ["u0000001", "nobody"], "time": [start, start]}
    )
    pages = [[r["item_id"] for r in rows if r["query_id"] == q] for q in ("past", "nobody")]
    assert pages[0] == pages[1]


def test_batch_excludes_what_was_seen(tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    events = pq.read_table(shop / "events").to_pylist()
    seen = {
        e["item_id"]
        for e in events
        if e["user_id"] == "u0000001" and e["event_type"] in ("detail-page-view", "purchase-complete")
    }
    query = {"query_id": ["a"], "user_id": ["u0000001"]}
    assert seen & {r["item_id"] for r in ask(tmp_path, night[0], query)}
    assert not seen & {r["item_id"] for r in ask(tmp_path, night[0], query, "--exclude-seen")}


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"query": ["a"], "user_id": ["b"]}, "no column 'query_id'"),
        ({"query_id": ["a", "a"], "user_id": ["b", "c"]}, "query_id is not unique"),
        ({"query_id": ["a"], "user_id": ["b"], "time": [True]}, "column 'time' of type bool is not a time"),
        ({"query_id": ["a"], "user_id": ["b"], "tme": [1]}, "unknown column 'tme'; did you mean 'time'"),
    ],
)
def test_a_bad_query_file_is_one_line(
    tmp_path: Path, night: tuple[Path, dict[str, Any]], queries: dict[str, list[Any]], message: str
) -> None:
    pq.write_table(pa.table(queries), tmp_path / "q.parquet")
    said = refusal(
        aisle(
            "batch",
            "--release",
            night[0] / "releases" / "current",
            "--queries",
            tmp_path / "q.parquet",
            "--out",
            tmp_path / "r.parquet",
        )
    )
    assert message in said
    assert not (tmp_path / "r.parquet").exists()


def test_evaluate_judges_both_protocols_with_baselines(night: tuple[Path, dict[str, Any]]) -> None:
    protocols = result(aisle("evaluate", "--work", night[0], "--protocol", "global,last"))["protocols"]
    assert set(protocols) == {"global", "last"}
    for figures in protocols.values():
        assert figures["queries"] > 0
        assert 0 < figures["ndcg@10"] <= 1
        assert {*BASELINES, "linear", "towers"} <= set(figures["baselines"]) <= {*BASELINES, "linear", "towers", BLEND}
        assert sum(p["pairs"] for p in figures["funnel"]["places"].values()) == figures["funnel"]["pairs"]


def test_a_release_is_judged_only_on_what_came_after_it(night: tuple[Path, dict[str, Any]]) -> None:
    said = refusal(aisle("evaluate", "--work", night[0], "--release", night[0] / "releases" / "current"))
    assert "no event of a known user after its window" in said


def test_unknown_names_are_refused_with_the_nearest(
    shop: Path, night: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "servers.yaml").write_text("tennant: shop\n")
    said = refusal(aisle(*nightly(shop, night[0]), "--serving", tmp_path / "servers.yaml"))
    assert "unknown key 'tennant'; did you mean 'tenant'" in said
    assert "did you mean 'global'" in refusal(aisle("evaluate", "--work", night[0], "--protocol", "globl"))
    assert "no prepare yet" in refusal(aisle("evaluate", "--work", night[0] / "nothing"))


def test_a_dry_run_says_what_would_run_and_why_and_writes_nothing(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    work, _ = night
    before = sorted(p.name for p in work.iterdir()), (work / "nights.jsonl").read_bytes()
    unchanged = result(aisle(*nightly(shop, work), "--dry-run"))
    assert {name: s["why"] for name, s in unchanged["stages"].items() if s["runs"]} == {}
    (tmp_path / "trees.yaml").write_text(CONFIG + "ranker: {trees: 10}\n")
    told = result(aisle("nightly", "--data", shop, "--work", work, "--config", tmp_path / "trees.yaml", "--dry-run"))
    runs = {name: s["why"] for name, s in told["stages"].items() if s["runs"]}
    assert runs["train-ranker"] == "changed: settings of the ranker"
    assert list(runs) == ["train-ranker", "evaluate", "publish"]
    assert told["seconds"] > 0
    assert before == (sorted(p.name for p in work.iterdir()), (work / "nights.jsonl").read_bytes())


def test_the_nights_are_written_down(night: tuple[Path, dict[str, Any]]) -> None:
    work, done = night
    first = result(aisle("nights", "--work", work))["nights"][0]
    assert (first["night"], first["outcome"], first["mode"]) == (done["night"], "published", "incremental")
    assert set(first["stages"]) == set(done["stages"])
    logs = work / "logs" / done["night"]
    assert {"prepare.log", "train-ranker.log", "gates.log", "server.log"} <= {p.name for p in logs.iterdir()}


def test_mode_index_takes_in_a_new_item_and_learns_nothing(
    tmp_path: Path, shop: Path, night: tuple[Path, dict[str, Any]]
) -> None:
    """An hour later there is an item more. It has a vector and is found; embedding, ranker, settings and figures are the champion's."""
    work, data = tmp_path / "work", tmp_path / "shop"
    shutil.copytree(night[0], work, symlinks=True)
    shutil.copytree(shop, data)
    (tmp_path / "small.yaml").write_text(CONFIG)
    events = pq.read_table(data / "events").sort_by("event_time")
    new = events.slice(len(events) - 2)
    new = new.set_column(new.column_names.index("item_id"), "item_id", pa.array(["new-item"] * 2))
    pq.write_table(new, data / "events" / "later.parquet")
    done = result(aisle(*nightly(data, work), "--mode", "index"))
    assert list(done["stages"]) == ["prepare", "refresh-retrieval", "refresh-index", "refresh-ranker", "publish"]
    first, second = (Release.open(r) for r in (night[0] / "releases" / "current", Path(done["release"])))
    assert len(second.item_ids) == len(first.item_ids) + 1
    files = [{n: e.sha256 for n, e in r.manifest.files.items() if n.startswith("ranker/")} for r in (first, second)]
    assert files[0] == files[1]
    assert second.settings == first.settings
    assert second.manifest.about["metrics"] == first.manifest.about["metrics"]
    again = result(aisle(*nightly(data, work), "--mode", "index"))
    assert again["release"] == done["release"]
