"""The night end to end on a small simulated shop, in processes of their own: published, repeated, refused, written down; and its release asked and judged."""

# bazel: size=large, imports=[cli.__main__, cli.commands.*], data=[//configs:all_files]

from __future__ import annotations

import datetime as dt
import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from core.config import load_pipeline
from core.release import ReleaseSettings
from core.work import Work
from pipeline.evaluate import BASELINES, BLEND
from pipeline.registry import history
from pipeline.registry.find import named
from tests.pipeline.nightly.commands import CONFIG, aisle, nightly, refusal, result


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


def test_two_nights_at_once_are_impossible(shop: Path, night: tuple[Path, dict[str, Any]]) -> None:
    work, _ = night
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
    (tmp_path / "trees.yaml").write_text(CONFIG.replace("trees: 30", "trees: 10"))
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
