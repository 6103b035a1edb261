"""`train-ranker` on a simulated shop that logs its pages: they are found, decided on, and what was decided is said."""

# bazel: size=medium, timeout=long

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.artifact import read_manifest
from core.config import PipelineConfig, load_pipeline
from core.event_log import part
from core.prepared import CHOOSE, FULL, TRAIN, TWIN, Prepared
from core.release import RANKER
from core.schema import HOUR, MINUTE, EventType
from core.work import Work
from data_prep.prepare import run as prepare
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, write_parquet
from pipeline.pages import impressions
from pipeline.ranker import Cutting, run
from ranking.scorer import MODEL
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import open_sources

GAINS = load_pipeline().data.gains


def config(pages: str) -> PipelineConfig:
    base = load_pipeline()
    ranker = {"trees": 20, "patience": 10, "requests": 240, "moments": 1, "logged_pages": pages}
    return base.model_copy(update={"ranker": base.ranker.model_copy(update=ranker)})


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Work]:
    folder = tmp_path_factory.mktemp("pages")
    simulate(ShopOptions(300, 120, 16_000, 40, 1, impressions=1.0), folder / "data")
    work = Work(folder / "work")
    prepared = Prepared(prepare(folder / "data", work, config("auto"), quiet))
    sources = work.stage("train-retrieval", "by-hand")
    for fold in (TRAIN, CHOOSE, TWIN, FULL):
        fit_sources(prepared, fold, config("auto"), sources / fold.name, quiet)
    names = [s.name for s in open_sources(sources / TRAIN.name)]
    (sources / "weights.json").write_text(json.dumps(dict.fromkeys(names, 0.0)))
    (sources / quotas.FILE).write_text(json.dumps(dict.fromkeys(names, 40)))
    work.set_latest("train-retrieval", "by-hand")
    return folder / "data", work


def model(path: Path) -> bytes:
    return (path / RANKER / TWIN.name / MODEL).read_bytes()


def test_pages_are_found_and_decided_on(shop: tuple[Path, Work]) -> None:
    _, work = shop
    left = {way: run(work, config(way), quiet) for way in ("off", "naive", "unbiased", "auto")}
    about = {way: read_manifest(path).about["logged_pages"] for way, path in left.items()}
    assert [about[way]["way"] for way in ("off", "naive", "unbiased")] == ["off", "naive", "unbiased"]
    assert about["naive"]["pages"] == about["auto"]["pages"] > 50
    assert set(about["auto"]["lift"]) == {"naive", "unbiased"}
    assert len({model(left[way]) for way in ("off", "naive", "unbiased")}) == 3
    # whatever was decided, the ranker is the one of that way
    assert model(left["auto"]) == model(left[about["auto"]["way"]])


def test_the_services_log_comes_first(shop: tuple[Path, Work], tmp_path: Path) -> None:
    """One page that the service logged and of which a purchase came, and the shop's own impressions of it a minute later, which are not counted again."""
    _, work = shop
    prepared = Prepared(work.latest("prepare"))
    seen = impressions(prepared, TRAIN, GAINS, 24.0)
    user, time, rows, _, _ = seen.page(0)
    ids, who = [prepared.item_ids[r] for r in rows.tolist()], prepared.user_ids[user]
    shown = {"time": time - MINUTE, "request_id": "p", "attribution_token": "p", "items": ids}
    shown |= {"positions": list(range(1, len(ids) + 1)), "user_id" if who[0] == "u" else "visitor_id": who[2:]}
    bought = {"event_type": str(EventType.PURCHASE_COMPLETE), "event_time": time + HOUR, "item_id": ids[0]}
    tables = (("recommendations", shown, PAGE_ROWS), ("events", bought | {"attribution_token": "p"}, EVENT_ROWS))
    for table, row, shape in tables:
        file = tmp_path / part(table, "2024-01-31", "1-0", "2-0")
        file.parent.mkdir(parents=True)
        write_parquet(file, [row], shape)
    sources = work.latest("train-retrieval")
    without, with_log = (
        Cutting(prepared, sources, tmp_path / "statistics", config("auto"), quiet, data) for data in (None, tmp_path)
    )
    once, again = (cuts.pages_shown(TRAIN) for cuts in (without, with_log))
    assert len(once) == len(again) == len(seen)
    assert again.page(0)[1] == time - MINUTE
    assert again.page(0)[3].tolist() == list(range(len(ids)))
    assert run(work, config("off"), quiet, tmp_path).name != run(work, config("off"), quiet).name
