"""The towers fitted on a small shop with three tastes: what they learn, what they leave for serving, and that they never look ahead.

One file, so that TensorFlow starts once.
"""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.config import PipelineConfig
from core.errors import ArtifactError
from core.history import History, Query
from core.prepared import LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Prepared
from core.schema import DAY, EventType
from retrieval.item_tower import ItemTower
from retrieval.query import QueryTower, TowerSource
from retrieval.towers.files import check_window
from retrieval.towers.inputs import joined, window
from retrieval.towers.model import QueryTower as KerasQueryTower
from retrieval.towers.model import Towers
from retrieval.towers.train import fit_towers
from tests.prepared_fixture import make_prepared
from tests.retrieval.reopened import reopened, sized

TASTES, PER_TASTE, PEOPLE, EACH = 3, 8, 60, 10
NEW = {"n0": "alpha new", "n1": "beta new"}  # items that nobody has chosen
WORDS = ("alpha", "beta", "gamma")
SMALL = {
    "dimensions": 16,
    "events": 8,
    "heads": 2,
    "epochs": 6,
    "batch_events": 64,
    "uniform_negatives": 8,
    "learning_rate": 0.01,
    "seconds": 60,
}


def config(**over: object) -> PipelineConfig:
    return sized({**SMALL, **over})


def shop(folder: Path) -> Prepared:
    """Person p chooses items of taste p % 3 alone, one a day; the titles tell the taste."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u:{p:02}", f"i{p % TASTES}{rng.integers(PER_TASTE)}", EventType.PURCHASE_COMPLETE, int(day * DAY + p))
        for p in range(PEOPLE)
        for day in range(EACH)
    ]
    titles = {f"i{t}{i}": f"{WORDS[t]} thing" for t in range(TASTES) for i in range(PER_TASTE)} | NEW
    cuts = [0, 7 * DAY, 8 * DAY, 9 * DAY, EACH * DAY]
    return make_prepared(folder, rows, cuts=cuts, titles=titles, repeat_share=0.3)


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


def asking(items: list[int], context: tuple[int, ...] = (), gain: float = 1.0) -> Query:
    n = len(items)
    history = History(
        np.array(items, np.int32),
        np.arange(n, dtype=np.int64) * DAY,
        np.full(n, 7, np.int8),
        np.full(n, gain, np.float32),
    )
    return Query(time=20 * DAY, history=history, context=np.array(context, np.int32))


def taste(prepared: Prepared, row: int) -> str:
    return prepared.item_ids[row][1]


def test_one_event_is_enough_to_find_the_taste(prepared: Prepared, fitted: Path) -> None:
    source = TowerSource.open(fitted)
    for t in range(TASTES):
        first = prepared.item_ids.row(f"i{t}0")
        rows, scores = source.scoring(asking([first])).top(PER_TASTE - 1, np.array([first], np.int32))
        assert first not in rows
        assert np.all(np.diff(scores) <= 0)
        assert [taste(prepared, r) for r in rows].count(str(t)) >= PER_TASTE - 2


def test_a_page_alone_asks_too(prepared: Prepared, fitted: Path) -> None:
    source = TowerSource.open(fitted)
    rows, _ = source.scoring(asking([], context=(prepared.item_ids.row("i10"),))).top(5, np.empty(0, np.int32))
    assert [taste(prepared, r) for r in rows].count("1") >= 4


def test_nothing_usable_is_no_opinion(prepared: Prepared, fitted: Path) -> None:
    source = TowerSource.open(fitted)
    for query in (asking([]), asking([-1, 10_000]), asking([0], gain=0.0), asking([], context=(-1,))):
        assert source.tower.vector(query) is None
        scoring = source.scoring(query)
        assert len(scoring.top(5, np.empty(0, np.int32))[0]) == 0
        assert scoring.of(np.array([0, -1, 10_000], np.int32)).tolist() == [0, 0, 0]


def test_unknown_items_do_not_change_the_answer(fitted: Path) -> None:
    tower = QueryTower.open(fitted)
    with_unknown, without = tower.vector(asking([1, -1, 2])), tower.vector(asking([1, 2]))
    assert with_unknown is not None
    assert with_unknown == pytest.approx(without, abs=0.2)  # the days between differ, the items do not


def test_scores_are_inner_products(fitted: Path) -> None:
    source = TowerSource.open(fitted)
    scoring = source.scoring(asking([3, 4]))
    rows, scores = scoring.top(6, np.empty(0, np.int32))
    assert scoring.of(rows) == pytest.approx(scores, abs=1e-6)
    assert np.linalg.norm(source.tower.item_vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_an_index_can_take_the_place_of_exact_search(fitted: Path) -> None:
    asked = []

    def search(vector: np.ndarray, k: int, allowed: object = None) -> tuple[np.ndarray, np.ndarray]:
        asked.append((vector.shape, k))
        return np.array([4, 2, -1], np.int32), np.array([0.9, 0.8, -np.inf], np.float32)

    rows, _ = TowerSource.open(fitted, search).scoring(asking([3])).top(2, np.array([4], np.int32))
    assert rows.tolist() == [2]
    assert asked == [((16,), 3)]  # one more for the excluded item


def test_a_new_item_has_a_vector_from_its_attributes(prepared: Prepared, fitted: Path) -> None:
    tower, items = QueryTower.open(fitted), ItemTower.open(fitted)
    rows = [prepared.item_ids.row(i) for i in NEW]
    for row, title in zip(rows, NEW.values(), strict=True):
        # in the table already, or told to the service a moment ago: the same vector
        assert items.vector({"title": title}) == pytest.approx(tower.item_vectors[row], abs=1e-6)
    alpha, beta = (tower.item_vectors[r] for r in rows)
    mine = tower.vector(asking([prepared.item_ids.row("i00")]))
    assert mine is not None
    assert alpha @ mine > beta @ mine + 0.2
    assert not items.vector({"title": "zzz"}).any()


def test_a_known_item_keeps_its_id_embedding(prepared: Prepared, fitted: Path) -> None:
    row = prepared.item_ids.row("i00")
    tower, items = QueryTower.open(fitted), ItemTower.open(fitted)
    assert items.vector({"title": "alpha thing"}, row) == pytest.approx(tower.item_vectors[row], abs=1e-6)


def test_litert_answers_as_keras_does(prepared: Prepared, fitted: Path, keras: Towers) -> None:
    tower, rng, worst = QueryTower.open(fitted), np.random.default_rng(0), 0.0
    events, queries, windows = prepared.interactions(TWIN), [], []
    for _ in range(1000):
        end = int(rng.integers(1, len(events.user) + 1))
        start = max(int(np.searchsorted(events.user, events.user[end - 1])), end - int(rng.integers(1, 12)))
        part = [getattr(events, name)[start:end] for name in ("item", "time", "type", "gain")]
        queries.append(Query(time=int(part[1][-1]) + 1, history=History(*part)))
        windows.append(window(part[0], part[2], part[1], keras.shape.events, clock=True))
    w = joined(windows)
    want = keras.query(tower.item_vectors[w.item], w.type, w.gap, w.segment)[:, -1].numpy()
    for query, expected in zip(queries, want, strict=True):
        got = tower.vector(query)
        assert got is not None
        worst = max(worst, float(np.abs(got - expected).max()))
    assert worst <= 1e-5
    n = len(prepared.item_ids)
    assert keras.items(tf.range(n)).numpy() == pytest.approx(tower.item_vectors, abs=1e-6)


def test_threads_get_the_same_answers(fitted: Path) -> None:
    tower = QueryTower.open(fitted)
    queries = [asking([i % 20, (i * 7) % 20]) for i in range(50)]
    want = [np.asarray(tower.vector(q)) for q in queries]
    got: dict[int, list[bool]] = {}

    def ask(thread: int) -> None:
        got[thread] = [np.array_equal(np.asarray(tower.vector(q)), w) for q, w in zip(queries, want, strict=True)]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [all(v) for v in got.values()] == [True] * 4


def changed_before(encoder: KerasQueryTower, at: int) -> bool:
    """Whether changing the event `at`, in item, type and gap, changes what any earlier position says."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 8, 16)).astype(np.float32)
    type, gap, segment = (np.full((2, 8), v, np.int32) for v in (7, 3, 1))
    before = encoder(vectors, type, gap, segment).numpy()
    vectors[:, at], type[:, at], gap[:, at] = rng.normal(size=(2, 16)), 2, 9
    after = encoder(vectors, type, gap, segment).numpy()
    assert not np.allclose(before[:, at], after[:, at])
    return not np.array_equal(before[:, :at], after[:, :at])


def test_a_later_event_never_changes_an_earlier_position(keras: Towers) -> None:
    assert not any(changed_before(keras.query, at) for at in range(1, 8))


def test_a_planted_look_ahead_is_caught(keras: Towers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.towers.model.np.triu", lambda a, _: np.zeros_like(a))
    assert changed_before(keras.query, 5)


def test_people_in_one_row_do_not_see_each_other(keras: Towers) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1, 8, 16)).astype(np.float32)
    type, gap = (np.full((1, 8), v, np.int32) for v in (7, 3))
    segment = np.array([[1, 1, 1, 2, 2, 2, 2, 2]], np.int32)
    before = keras.query(vectors, type, gap, segment).numpy()
    vectors[:, :3] = rng.normal(size=(1, 3, 16))
    after = keras.query(vectors, type, gap, segment).numpy()
    assert np.array_equal(before[:, 3:], after[:, 3:])


def test_every_prefix_in_a_row_is_that_prefix_alone(keras: Towers) -> None:
    vectors = np.random.default_rng(0).normal(size=(1, 8, 16)).astype(np.float32)
    whole = np.full((1, 8), 1, np.int32)
    together = keras.query(vectors, whole * 7, whole * 3, whole).numpy()[0]
    for n in range(1, 9):
        alone, segment = np.zeros_like(vectors), np.zeros((1, 8), np.int32)
        alone[:, -n:], segment[:, -n:] = vectors[:, :n], 1
        assert keras.query(alone, whole * 7, whole * 3, segment).numpy()[0, -1] == pytest.approx(
            together[n - 1], abs=1e-5
        )


def test_the_same_seed_gives_the_same_towers(prepared: Prepared, fitted: Path, tmp_path: Path) -> None:
    short = config(epochs=1, final_epochs=1)  # embedding_id is the hash of all weights
    for name in ("a", "b"):
        fit_towers(prepared, TRAIN, short, tmp_path / name, lambda _: None)
    a, b = (json.loads((tmp_path / name / "towers.json").read_text()) for name in ("a", "b"))
    assert a == b
    assert a["embedding_id"] != json.loads((fitted / "towers.json").read_text())["embedding_id"]


def test_a_warm_start_begins_where_the_earlier_window_ended(prepared: Prepared, tmp_path: Path) -> None:
    said: list[str] = []
    still = config(epochs=1, final_epochs=1, learning_rate=1e-9)
    fit_towers(prepared, TRAIN, still, tmp_path / "train", said.append)
    fit_towers(prepared, TWIN, still, tmp_path / "twin", said.append, tmp_path / "train")
    train, twin = (np.load(tmp_path / n / "item_vectors.npy") for n in ("train", "twin"))
    known = np.load(tmp_path / "train" / "item_tower" / "has_id.npy")
    assert twin[known] == pytest.approx(train[known], abs=1e-4)
    assert "warm" in said[-1]


def test_a_warm_start_from_a_later_window_is_refused(prepared: Prepared, fitted: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"fold 'twin'.*know events that fold 'train'"):
        fit_towers(prepared, TRAIN, config(), tmp_path, lambda _: None, fitted)
    check_window(fitted, TWIN, prepared.until(TWIN))
    # all folds of `last` stand for one moment: the number of the fold decides
    (tmp_path / "towers.json").write_text(
        json.dumps({"format_version": 1, "protocol": "last", "below": 2, "fold": "last-twin", "until": 5})
    )
    check_window(tmp_path, LAST_TWIN, 5)
    for fold in (LAST_TRAIN, TWIN):
        with pytest.raises(ArtifactError, match="must not"):
            check_window(tmp_path, fold, 5)


def test_towers_of_other_sizes_are_no_warm_start(prepared: Prepared, fitted: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="towers of other sizes"):
        fit_towers(prepared, TWIN, config(dimensions=8), tmp_path, lambda _: None, fitted)


def test_no_events_leave_towers_that_know_only_content(tmp_path: Path) -> None:
    rows = [("u:1", "a", EventType.PURCHASE_COMPLETE, 5 * DAY)]
    empty = make_prepared(tmp_path, rows, cuts=[0, DAY, 2 * DAY, 3 * DAY, 6 * DAY], repeat_share=0.0)
    fit_towers(empty, TRAIN, config(), tmp_path / "out", lambda _: None)
    assert TowerSource.open(tmp_path / "out").tower.vector(asking([0])) is None


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("towers.json", b"{", "not JSON"),
        ("towers.json", None, "missing"),
        ("item_vectors.npy", b"\x93NUMPY", "truncated"),
        ("item_vectors.npy", None, "missing"),
    ],
)
def test_broken_towers_are_refused_by_name(
    fitted: Path, tmp_path: Path, file: str, content: bytes | None, says: str
) -> None:
    for source in (p for p in fitted.rglob("*") if p.is_file() and p.name != file):
        (tmp_path / source.relative_to(fitted)).parent.mkdir(exist_ok=True)
        (tmp_path / source.relative_to(fitted)).symlink_to(source)
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{file}.*{says}"):
        QueryTower.open(tmp_path)
