"""The whole benchmark at a size that takes a moment: three tastes, small towers. One file, so that TensorFlow starts once."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines import FOLDS, Queries, say
from benchmarks.collaborative import Grid
from benchmarks.fits import CHAINS, Fit
from benchmarks.retrieval import everything, new_items, new_users
from core.config import PipelineConfig, load_pipeline
from core.prepared import TWIN, Prepared
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
    one = Fit(work, prepared, TWIN, config(1), say)
    return [one, one]  # as if two seeds had come out alike


def test_the_fits_follow_the_chain_and_are_kept(prepared: Prepared, work: Path, fits: list[Fit]) -> None:
    (root,) = (work / "benchmarks" / "retrieval").iterdir()
    assert sorted(p.name for p in root.iterdir()) == sorted(f.name for f in CHAINS["global"])
    # the weights were chosen on the window before the test
    assert [p.parent.name for p in root.glob("*/weights.json")] == ["choose"]
    assert fits[0].weights.keys() == {s.name for s in fits[0].sources}
    stamp = (root / TWIN.name).stat().st_mtime_ns
    Fit(work, prepared, TWIN, config(1), say)
    assert (root / TWIN.name).stat().st_mtime_ns == stamp
    assert not Work(work).has("train-retrieval")


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
