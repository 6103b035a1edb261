"""Feast's training join and the ranker's own facts of a person say the same, and call the same rows expired."""

# bazel: size=medium, data=[//feature_repo:all_files]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.schema import DAY
from feature_repo.store import apply, open_store
from feature_repo.training_join import training_join
from pipeline.feature_files import export
from pipeline.feature_tables import FeaturesConfig
from ranking.feature_list import USER
from ranking.user_facts import NAMES, UserFacts
from tests.feature_repo.shop import FIRST, LAST, PEOPLE, make_shop, some_rows

ROWS = 3_000


def test_feast_joins_what_the_ranker_reads(tmp_path: Path) -> None:
    """At moments from before the first event to two years after the last: a row expires a year after its last change.

    After the end of the data Feast goes on fading and ageing, while a release's snapshot stays as of the window's end.
    """
    prepared, work = make_shop(tmp_path, some_rows(2)), tmp_path / "work"
    export(prepared, work / "features", FeaturesConfig(cohort_attributes=(), pairs=False), lambda _: None)
    store = open_store(work)
    apply(store, work)
    rng = np.random.default_rng(3)
    when = rng.integers((FIRST - 20) * DAY, (LAST + 800) * DAY, ROWS)
    who = rng.choice([*PEOPLE, "u:stranger"], ROWS)
    asked = pd.DataFrame({"user_key": who, "item_id": "i00", "category": "shoes", "brand": "acme"})
    joined = training_join(store, work, asked.assign(event_timestamp=pd.to_datetime(when, unit="us", utc=True)))

    facts, rows = UserFacts.of(prepared, prepared.cuts.end), prepared.user_ids.rows(who.tolist())
    ours = [facts.at(int(row), int(time)) for row, time in zip(rows, when, strict=True)]
    expired = np.array([known is None for known in ours])
    assert expired.tolist() == joined["user__expired"].tolist()
    assert min(expired[when > (LAST + 400) * DAY].sum(), (~expired).sum()) > ROWS / 5
    defaults = np.array([f.default for f in USER[: len(NAMES)]], np.float32)
    found = joined[[name.replace(".", "__") for name in NAMES]].to_numpy()
    compared = expired | (when <= prepared.cuts.end)
    expected = np.array([defaults if f is None else f for f in ours])
    # fading a stored sum to a later day rounds once more than summing it as of that day
    np.testing.assert_allclose(found[compared], expected[compared], rtol=5e-7, atol=1e-9)
