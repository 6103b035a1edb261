"""Nights on which the towers stay: what stays with them, what is new, and what ends it. Real fits of small towers.

The shop: 60 people with one of three tastes each choose one item of their taste a day; titles tell the taste.
"""

# bazel: size=medium

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artifact import read_manifest, verify
from core.config import PipelineConfig, load_pipeline
from core.prepared import CHOOSE, FULL, TRAIN, TWIN, Prepared
from core.schema import DAY, EventType
from core.work import Work
from retrieval import fit, renewal
from retrieval.renewal import Recall
from retrieval.sources import TOWERS
from tests.prepared_fixture import Row, make_prepared

PEOPLE, PER_TASTE = 60, 99
WORDS = ("alpha", "beta", "gamma")
_SMALL = {
    "dimensions": 16,
    "events": 8,
    "heads": 2,
    "blocks": 0,
    "epochs": 8,
    "batch_events": 64,
    "uniform_negatives": 16,
    "learning_rate": 0.02,
}
Choose = Callable[[int, int, np.random.Generator], str]


def settings(**retraining: float) -> PipelineConfig:
    base = load_pipeline()
    return base.model_copy(
        update={
            "towers": base.towers.model_copy(update=_SMALL),
            "retraining": base.retraining.model_copy(update=retraining),
        }
    )


def of_taste(person: int, day: int, rng: np.random.Generator) -> str:
    return f"i{person % 3}{rng.integers(PER_TASTE):02}"


def prepare(
    work: Work, days: int, choose: Choose = of_taste, titles: dict[str, str] | None = None, cuts: float = 1.0
) -> None:
    """Make so many days, the last one's choices by `choose`, the newest prepared data; `cuts`: share of the usual times of the cuts."""
    rng = np.random.default_rng(5)
    rows: list[Row] = [
        (
            f"u:{p:02}",
            (choose if day == days - 1 else of_taste)(p, day, rng),
            EventType.PURCHASE_COMPLETE,
            day * DAY + p,
        )
        for day in range(days)
        for p in range(PEOPLE)
    ]
    named = {f"i{t}{i:02}": f"{WORDS[t]} thing" for t in range(3) for i in range(PER_TASTE)} | (titles or {})
    at = [0, *(int(cuts * (days - back) * DAY) for back in (4, 3, 2)), days * DAY]
    made = make_prepared(work.root / "made", rows, cuts=at, titles=named, pairs=True, repeat_share=0.3)
    id = f"{days}-{choose.__name__}-{cuts}-{len(named)}"
    manifest = json.loads((made.path / "manifest.json").read_bytes()) | {"id": id}
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(work.stage("prepare", id), ignore_errors=True)
    work.stage("prepare", id).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made.path, work.stage("prepare", id))
    work.set_latest("prepare", id)


def night(work: Work, config: PipelineConfig) -> Path:
    return fit.run(work, config, lambda _: None)


def towers(artifact: Path, fold: str = "full") -> dict[str, Any]:
    folder = artifact / fold / TOWERS
    header: dict[str, Any] = json.loads((folder / "towers.json").read_bytes())
    return header | {"vectors": np.load(folder / "item_vectors.npy"), "has_vector": np.load(folder / "has_vector.npy")}


def about(artifact: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_manifest(artifact).about["towers"]
    return found


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """After the first night, of 10 days."""
    work = Work(tmp_path_factory.mktemp("renewal"))
    (work.root / "made").mkdir()
    prepare(work, 10)
    night(work, settings())
    return work


@pytest.fixture
def work(learned: Work, tmp_path: Path) -> Work:
    """A copy to go on with."""
    shutil.copytree(learned.root, tmp_path / "work", symlinks=True)
    return Work(tmp_path / "work")


def test_the_first_night_learns_and_says_what_later_ones_are_held_against(learned: Work) -> None:
    found = about(learned.latest(fit.STAGE))
    assert (found["kept"], found["reason"]) == (False, "there are none yet")
    assert found["reference"]["requests"] == PEOPLE
    assert found["reference"]["recall"] > 0.6  # a taste has 99 of the 297 items


def test_the_next_night_keeps_them_and_embeds_what_is_new(work: Work) -> None:
    first = towers(work.latest(fit.STAGE))
    prepare(work, 11, titles={"i000": "gamma thing", "z-new": "beta thing"})  # one item changed, one came
    second_night = night(work, settings())
    verify(second_night)
    assert about(second_night)["kept"]
    second = towers(second_night)
    assert second["embedding_id"] == first["embedding_id"]
    assert second["until"] == first["until"]
    same = (second["vectors"][: len(first["vectors"])] == first["vectors"]).all(axis=1)
    assert np.flatnonzero(~same).tolist() == [0]
    assert second["has_vector"].all()
    beta, alpha = second["vectors"][PER_TASTE + 1], second["vectors"][1]
    assert second["vectors"][-1] @ beta > second["vectors"][-1] @ alpha  # the new one is one of its taste
    for fold in (TRAIN, TWIN):
        assert (
            towers(second_night, fold.name)["embedding_id"] == towers(work.latest(fit.STAGE), fold.name)["embedding_id"]
        )


def test_what_the_data_decide_of_the_settings_does_not_make_them_learn(learned: Work, tmp_path: Path) -> None:
    """Of a shop so small the data want 32 dimensions, the configuration 64: on both nights, and the towers stay."""
    work = Work(tmp_path / "other")
    (work.root / "made").mkdir(parents=True)
    wide = settings()
    wide = wide.model_copy(update={"towers": wide.towers.model_copy(update={"dimensions": 64, "epochs": 1})})
    prepare(work, 10)
    assert towers(night(work, wide))["dimensions"] == 32
    prepare(work, 11)
    assert about(night(work, wide))["kept"]


def test_a_second_run_of_the_same_night_is_skipped(work: Work) -> None:
    prepare(work, 11)
    path = night(work, settings())
    made = path.stat().st_mtime_ns
    assert night(work, settings()) == path
    assert path.stat().st_mtime_ns == made


def test_kept_towers_serve(work: Work) -> None:
    prepare(work, 11, titles={"z-new": "beta thing"})
    kept = night(work, settings())
    prepared = Prepared(work.latest("prepare"))
    measured = renewal.newest_day(prepared, renewal.carried(prepared, kept / FULL.name / TOWERS), settings())
    assert measured == Recall(**about(kept)["newest_day"])
    assert measured.recall > 0.6


def test_by_schedule_they_learn_anew(work: Work) -> None:
    first = towers(work.latest(fit.STAGE))
    prepare(work, 12)
    again = night(work, settings(days=2))
    assert about(again)["reason"] == "2.0 days of data are new to them"
    assert towers(again)["until"] == 12 * DAY
    assert towers(again)["embedding_id"] != first["embedding_id"]


def planned(work: Work, config: PipelineConfig, *, frozen: bool = False) -> str:
    """Why they learn tonight; empty where they stay."""
    prepared, last = Prepared(work.latest("prepare")), work.latest(fit.STAGE)
    learned_by = renewal.settings_of(prepared, config)
    tonight = renewal.plan(prepared, (TRAIN, CHOOSE, TWIN, FULL), config, learned_by, last, frozen=frozen)
    return "" if tonight.keep else tonight.reason


def test_left_behind_by_people_they_learn_anew(work: Work) -> None:
    def turned(person: int, day: int, rng: np.random.Generator) -> str:
        return f"i{(person + 1) % 3}{rng.integers(PER_TASTE):02}"

    prepare(work, 11)
    assert planned(work, settings()) == ""
    prepare(work, 11, turned)
    assert "on the newest day fell to 0." in planned(work, settings())
    assert planned(work, settings(fall=1.0)) == ""
    assert planned(work, settings(), frozen=True) == ""


def test_a_night_without_time_for_them_keeps_them_whatever_their_age(work: Work) -> None:
    prepare(work, 12)
    assert planned(work, settings(days=2)) == "2.0 days of data are new to them"
    assert planned(work, settings(days=2), frozen=True) == ""
    wider = settings()
    wider = wider.model_copy(update={"towers": wider.towers.model_copy(update={"dimensions": 8})})
    assert planned(work, wider, frozen=True) == "their settings or code changed"


def test_other_settings_and_earlier_cuts_are_no_reason_to_leak(work: Work) -> None:
    wider = settings()
    wider = wider.model_copy(update={"towers": wider.towers.model_copy(update={"dimensions": 8})})
    prepare(work, 11)
    assert planned(work, wider) == "their settings or code changed"
    prepare(work, 11, cuts=0.5)
    assert planned(work, settings()) == "the cuts moved back"


def test_a_fall_is_more_than_chance() -> None:
    # 1.0, 0.5, 0.0: mean .5, deviation .5, standard error .5 / sqrt(3)
    some = Recall.of([1.0, 0.5, 0.0])
    assert (some.recall, some.standard_error, some.requests) == (0.5, 0.2887, 3)
    reference = Recall(0.8, 0.01, 500)
    # below 0.8 * 0.8 = 0.64 by more than two standard errors: .6 + 2 * .01 is, .6 + 2 * .03 is not
    assert Recall(0.6, 0.01, 500).fell_from(reference, 0.2)
    assert not Recall(0.6, 0.03, 500).fell_from(reference, 0.2)
    assert not Recall(0.0, 0.0, 500).fell_from(reference, 1.0)
