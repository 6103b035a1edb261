"""The whole benchmark at a size that takes a moment: three tastes, small towers. One file, so that TensorFlow starts once."""

# bazel: size=medium

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines import FOLDS, Queries, say
from benchmarks.collaborative import Grid
from benchmarks.fits import CHAINS, Fit
from benchmarks.retrieval import everything, new_items, new_users
from core.artifact import open_artifact
from core.config import PipelineConfig, load_pipeline
from core.prepared import TRAIN, TWIN, Prepared
from core.schema import DAY, EventType
from core.work import Work
from tests.prepared_fixture import make_prepared

TASTES, PER_TASTE, PEOPLE, EACH = 3, 8, 45, 13
WORDS = ("alpha", "beta", "gamma")
SMALL = {
    "dimensions": 16,
    "events": 8,
    "heads": 2,
    "epochs": 4,
    "batch_events": 64,
    "uniform_negatives": 8,
    "learning_rate": 0.01,
    "seconds": 60,
}


def config(seed: int) -> PipelineConfig:
    base = load_pipeline()
    return base.model_copy(update={"towers": base.towers.model_copy(update={**SMALL, "seed": seed})})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Person p buys items of taste p % 3, one a day for 13 days; titles tell the taste. The ranker's cut is day 9, then 10 and 11."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u:{p:02}", f"i{p % TASTES}{rng.integers(PER_TASTE)}", EventType.PURCHASE_COMPLETE, int(day * DAY + p))
        for p in range(PEOPLE)
        for day in range(EACH)
    ]
    titles = {f"i{t}{i}": f"{WORDS[t]} thing" for t in range(TASTES) for i in range(PER_TASTE)}
    cuts = [0, 9 * DAY, 10 * DAY, 11 * DAY, EACH * DAY]
    return make_prepared(tmp_path_factory.mktemp("shop"), rows, cuts=cuts, titles=titles, pairs=True, repeat_share=0.3)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def fits(prepared: Prepared, work: Path) -> list[Fit]:
    return [Fit(work, prepared, TWIN, config(seed), say) for seed in (1, 2)]


def test_the_fits_follow_the_chain_and_are_kept(prepared: Prepared, work: Path, fits: list[Fit]) -> None:
    roots = sorted((work / "benchmarks" / "retrieval").iterdir())
    assert len(roots) == 2  # seeds
    for root in roots:
        assert sorted(p.name for p in root.iterdir()) == sorted(f.name for f in CHAINS["global"])
        assert not (root / TWIN.name / "weights.json").exists()  # what follows is the test
    stamps = {root: (root / TWIN.name).stat().st_mtime_ns for root in roots}
    Fit(work, prepared, TWIN, config(1), say)
    assert {root: (root / TWIN.name).stat().st_mtime_ns for root in roots} == stamps
    assert fits[0].weights.keys() == {s.name for s in fits[0].sources}


def test_every_system_answers_the_same_queries(prepared: Prepared, fits: list[Fit]) -> None:
    queries = Queries(prepared, TWIN, "keep", fits[0].config, 100)
    result = everything(prepared, queries, fits, FOLDS["global", "test"][1], Grid.of([4], [1.0, 10.0]))
    assert result["queries"] == PEOPLE
    # each source asks for more than the 24 items there are, so that the union holds every item of the window
    assert result["union"]["recall"] == [1.0, 1.0, 1.0]
    assert len(result["union"]["by_seed"]) == len(result["towers"]["by_seed"]) == 2
    names = {name.split()[0] for name in result["baselines"]}
    assert names == {"item_knn", "popularity", "als", "ease"}
    # people keep to one taste: eight items, which anything but popularity finds first
    assert result["towers"]["hit@10"][0] > result["baselines"]["popularity"]["hit@10"][0]
    for ours in ("union", "towers"):
        mean, low, high = result["minus"][ours]["popularity"]["ndcg@10"]
        assert low <= mean <= high
        found = result["union"] if ours == "union" else result["towers"]
        assert mean == pytest.approx(found["ndcg@10"][0] - result["baselines"]["popularity"]["ndcg@10"][0], abs=2e-4)


def test_more_events_known_find_more(prepared: Prepared, fits: list[Fit]) -> None:
    rows = new_users(Queries(prepared, TWIN, "keep", fits[0].config, 100), fits)
    assert rows["people"] == PEOPLE  # everybody has eleven choices before T2
    known = rows["events_known"]
    assert list(known) == ["0", "1", "2", "5", "10+"]
    # nothing is known of a stranger: the towers are silent, the union still has what is popular
    assert known["0"]["towers_recall@500"] == [0.0, 0.0, 0.0]
    assert known["0"]["union_recall"][0] == known["1"]["towers_recall@500"][0] == 1.0


def test_new_items_are_found_by_their_words(prepared: Prepared) -> None:
    result = new_items(prepared, TWIN, [config(1)], k=8, most=100)
    # a tenth of the 24 items, rounded
    assert (result["held_items"], result["catalogue"]) == (2, 24)
    assert result["recall"]["chance"] == round(8 / 24, 4)
    assert result["recall"]["towers"][0] > result["recall"]["chance"]
    assert len(result["towers_by_seed"]) == 1


def test_a_fit_of_other_data_has_another_name(prepared: Prepared, work: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared.path, tmp_path / "copy")
    assert open_artifact(tmp_path / "copy", kind="prepared", format_version=1).id == prepared.manifest.id
    before = len(list((work / "benchmarks" / "retrieval").iterdir()))
    Fit(work, Prepared(tmp_path / "copy"), TRAIN, config(3), say)
    assert len(list((work / "benchmarks" / "retrieval").iterdir())) == before + 1
    assert Work(work).has("train-retrieval") is False
