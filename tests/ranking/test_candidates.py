"""The ranker's training sets: which requests, which labels, no leak; and that serving computes the very same features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.errors import ArtifactError
from core.history import Histories, History
from core.prepared import LAST_TRAIN, TRAIN, TWIN, Prepared
from core.release import STATISTICS, ReleaseSettings
from core.schema import DAY, HOUR
from pipeline.candidates import Fitted, Past, build
from pipeline.publish import Parts, assemble, write_user_state
from pipeline.requests import Requests, requests_after
from ranking import item_statistics
from ranking.feature_list import NAMES
from ranking.features import ItemTable, matrix
from ranking.train import GRADES
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import SOURCES
from serving.batch import Batch, BatchQuery
from tests.prepared_fixture import make_prepared

START = 1_700_000_000_000_000
T1 = START + 100 * DAY
CUTS = [START, T1, T1 + 20 * DAY, T1 + 30 * DAY, T1 + 40 * DAY]
BUY = "purchase-complete"
QUOTAS = dict.fromkeys(SOURCES, 50)
ROWS = [
    ("u:ann", "a", BUY, T1 - 30 * DAY),
    ("u:ann", "b", BUY, T1 - 20 * DAY),
    ("u:ann", "a", BUY, T1 + 1 * DAY),  # two baskets in the ranker's window
    ("u:ann", "c", BUY, T1 + 5 * DAY),
    ("u:ann", "b", BUY, T1 + 25 * DAY),  # and one in the validation window
    ("u:bob", "a", BUY, T1 - 9 * DAY),
    ("u:bob", "c", BUY, T1 - 5 * DAY),
    ("u:cid", "b", BUY, T1 + 2 * DAY),  # new in the window
    ("u:dan", "a", BUY, T1 - 50 * DAY),
    ("u:dan", "b", BUY, T1 - 40 * DAY),
    ("u:dan", "c", BUY, T1 - 30 * DAY),
]


def configured(**ranker: float) -> PipelineConfig:
    config = load_pipeline()
    return config.model_copy(update={"ranker": config.ranker.model_copy(update=ranker)})


@pytest.fixture
def shop(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path, ROWS, cuts=CUTS, pairs=True, days=True, repeat_share=0.2)


@pytest.fixture
def fitted(shop: Prepared, tmp_path: Path) -> Fitted:
    sources, statistics = tmp_path / "sources" / TRAIN.name, tmp_path / "ranker" / STATISTICS / TRAIN.name
    fit_sources(shop, TRAIN, load_pipeline(), sources, print)
    (sources.parent / quotas.FILE).write_text(json.dumps(QUOTAS))
    item_statistics.write(shop, TRAIN, 7, statistics)
    return Fitted(shop.path, TRAIN, sources, statistics)


def test_requests_when_the_window_opens_and_before_each_basket(shop: Prepared) -> None:
    requests = requests_after(shop, TRAIN, configured(moments=3).ranker)
    asked = {(shop.user_ids[u], (t - T1) / DAY) for u, t in zip(requests.user, requests.time, strict=True)}
    assert asked == {("u:ann", 0), ("u:ann", 1), ("u:ann", 5), ("u:cid", 2)}
    assert np.all(shop.events.numbers("fold_global")[requests.stop - 1] == 1)


def test_moments_are_a_sample_of_each_person(shop: Prepared) -> None:
    assert len(requests_after(shop, TRAIN, configured(moments=1).ranker)) == 3
    assert len(requests_after(shop, TRAIN, configured(moments=0).ranker)) == 1


def test_protocol_last_asks_right_before_the_second_last(shop: Prepared) -> None:
    requests = requests_after(shop, LAST_TRAIN, configured().ranker)
    asked = {(shop.user_ids[u], (t - T1) / DAY) for u, t in zip(requests.user, requests.time, strict=True)}
    assert asked == {("u:ann", 5), ("u:dan", -40)}


def labels(past: Past, fading: float, day: int) -> dict[str, int]:
    requests = requests_after(past.prepared, TRAIN, configured(moments=3, fading=fading).ranker)
    r = int(
        np.flatnonzero((requests.time == T1 + day * DAY) & (requests.user == past.prepared.user_ids.row("u:ann")))[0]
    )
    rows, grades = past.relevant(int(requests.start[r]), int(requests.stop[r]), np.empty(0, np.int32))
    return {past.prepared.item_ids[i]: g for i, g in zip(rows.tolist(), grades.tolist(), strict=True)}


@pytest.mark.parametrize(
    ("fading", "day", "expected"),
    [
        (1.0, 0, {"a": GRADES, "c": GRADES}),
        (0.5, 0, {"a": GRADES, "c": GRADES // 2}),
        (1.0, 5, {"c": GRADES}),  # what lies before the request is no label, nor what follows in the next window
    ],
)
def test_labels_are_what_followed_in_the_window(
    fitted: Fitted, fading: float, day: int, expected: dict[str, int]
) -> None:
    assert labels(Past.open(fitted, configured(fading=fading)), fading, day) == expected


def test_what_retrieval_missed_is_not_put_in_and_counted(fitted: Fitted) -> None:
    """Quotas of nothing: no request has a candidate, so none is kept."""
    config = configured()
    (fitted.sources.parent / quotas.FILE).write_text("{}")
    rows = build(fitted, requests_after(Prepared(fitted.prepared), TRAIN, config.ranker), config, None, 100)
    assert (len(rows), rows.dropped, len(rows.grades)) == (0, 4, 0)


def test_training_rows_belong_to_their_requests(fitted: Fitted) -> None:
    rows = build(fitted, requests_after(Prepared(fitted.prepared), TRAIN, configured().ranker), configured(), None, 100)
    assert rows.sizes.sum() == len(rows.grades) == len(rows.matrix)
    assert np.all(np.add.reduceat(rows.grades, np.cumsum(rows.sizes) - rows.sizes) > 0)
    assert np.isfinite(rows.matrix).all()


def test_the_history_ends_before_the_request(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past.open(fitted, configured())
    ann = past.prepared.user_ids.row("u:ann")
    assert len(past.query(ann, T1 + DAY)[0].history) == 2

    def including_the_target(self: Histories, user: int, time: int | None = None) -> History:
        return honest(self, user, None if time is None else time + 1)

    honest = Histories.before
    monkeypatch.setattr(Histories, "before", including_the_target)
    with pytest.raises(ValueError, match="that would be a leak"):
        past.query(ann, T1 + DAY)


def test_statistics_or_sources_of_a_later_cut_are_refused(fitted: Fitted, shop: Prepared, tmp_path: Path) -> None:
    item_statistics.write(shop, TWIN, 7, tmp_path / "later")
    with pytest.raises(ArtifactError, match=r"later.*'twin'.*follow 'train'.*leak"):
        Past.open(fitted._replace(statistics=tmp_path / "later"), configured())
    fit_sources(shop, TWIN, load_pipeline(), tmp_path / "later-sources", print)
    with pytest.raises(ArtifactError, match=r"later-sources.*'twin'.*follow 'train'.*leak"):
        Past.open(fitted._replace(sources=tmp_path / "later-sources"), configured())


def test_serving_computes_the_same_features_bit_for_bit(fitted: Fitted, shop: Prepared, tmp_path: Path) -> None:
    """The release of TRAIN, asked through `batch` at the moments of the training requests."""
    config = configured()
    settings = ReleaseSettings(
        quotas=QUOTAS,
        weights={"popularity": 1.0},
        history_events=config.sources.history_events,
        warm_events=3,
        candidates=500,
        gains=config.data.gains,
    )
    parts = Parts(sources=fitted.sources.parent, ranker=tmp_path / "ranker")
    assemble(tmp_path / "release", shop, parts, TRAIN, settings, {})
    write_user_state(tmp_path / "state", shop)
    batch, past = Batch(tmp_path / "release", tmp_path / "state"), Past.open(fitted, config)
    table = ItemTable.open(tmp_path / "release" / STATISTICS, batch.release.items)
    for day in (0, 1, 5):
        time = T1 + day * DAY + HOUR
        page = batch.answer(BatchQuery("q", "ann", time), 3, exclude_seen=False)
        query, _ = past.query(shop.user_ids.row("u:ann"), time)
        served = matrix(query, page.candidates, table, batch.release.sources)
        assert np.array_equal(served, trained_on(past, time, page.candidates.rows))


def trained_on(past: Past, time: int, rows: Array) -> Array:
    """What `Past.answer` computes for ann at `time`, all candidates kept."""
    start = int(np.searchsorted(past.prepared.events.numbers("time")[:5], time))
    user = past.prepared.user_ids.row("u:ann")
    asked = Requests(*(np.array([v]) for v in (user, time, min(start, 4), 5)))
    got = past.answer(asked, None)
    assert got.matrix.shape == (len(rows), len(NAMES))
    return got.matrix
