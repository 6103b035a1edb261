"""Without Spark: events that come, go and move between folds leave the columns, days and pairs that counting everything leaves."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Array, Columns
from core.config import PipelineConfig, load_pipeline
from core.schema import DAY, EVENT_TYPES, Column
from data_prep.derive import Derived, Since, derive
from data_prep.events import CARRIED, COLUMNS, ORDER
from data_prep.inventory import Carried
from data_prep.merge import merged
from data_prep.pairs import PROTOCOLS

N_USERS, N_ITEMS = 5, 6
KNOWN = np.array([True, True, True, True, False])
_PAIRS = {"window": 2, "gap_days": 2, "half_life_days": 2, "per_item": 2}
CONFIG = load_pipeline()
CONFIG = CONFIG.model_copy(update={"pairs": CONFIG.pairs.model_copy(update=_PAIRS)})


def some_events(rng: np.random.Generator, n: int, days: tuple[int, int]) -> dict[str, Array]:
    """Sorted columns of events/ and carried/events/; few items, hours and prices, so that rows tie."""
    columns = {
        Column.USER: rng.integers(0, N_USERS, n),
        Column.ITEM: rng.integers(0, N_ITEMS, n),
        Column.TIME: rng.integers(days[0] * 6, days[1] * 6, n) * (DAY // 6) + 1,
        Column.TYPE: rng.integers(0, len(EVENT_TYPES), n),
        Column.PRICE: rng.choice([np.nan, 1.0, 2.0], n),
        Column.QUANTITY: rng.integers(1, 3, n),
        Column.VALUE: rng.choice([np.nan, -1.0, 1.0], n),
        Column.POSITION: rng.integers(-1, 2, n),
        "given_session": rng.integers(0, 2, n),
        "_key": rng.integers(0, 1 << 40, n),
        "_code": np.zeros(n),
    }
    typed = {c: columns[c].astype(d) for c, d in (COLUMNS | CARRIED).items()}
    order = np.lexsort([typed[c] for c in reversed(ORDER)])
    return {c: v[order] for c, v in typed.items()}


def parts(columns: dict[str, Array]) -> tuple[Columns, Columns]:
    return Columns({c: columns[c] for c in COLUMNS}), Columns({c: columns[c] for c in CARRIED})


def write(columns: dict[str, Array], folder: Path) -> Path:
    for part, name in zip(parts(columns), ("events", "carried/events"), strict=True):
        part.write(folder / name)
    return folder


def derived(draft: Path, config: PipelineConfig, since: Since | None = None) -> Derived:
    scratch = draft.with_name(f"{draft.name}-scratch")
    scratch.mkdir()
    return derive(draft, scratch, KNOWN, N_ITEMS, config, False, since)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_new=st.integers(0, 30),
    late=st.booleans(),
    share_gone=st.sampled_from([0.0, 0.02, 0.3]),
)
def test_what_a_night_leaves_is_what_counting_everything_leaves(
    seed: int, n_new: int, late: bool, share_gone: float
) -> None:
    rng = np.random.default_rng(seed)
    old, new = some_events(rng, 120, (100, 110)), some_events(rng, n_new, (100, 112) if late else (110, 112))
    gone = rng.random(120) < share_gone
    with TemporaryDirectory() as folder:
        root = Path(folder)
        before = derived(write(old, root / "before"), CONFIG)
        carried = Carried("", {}, {}, {}, {}, False, before.synthetic_time, before.cuts.end - 1, 120)
        change = merged(root / "before", gone, parts(new), root / "mine")
        mine = derived(root / "mine", CONFIG, Since(change, carried))
        both = {c: np.concatenate([old[c][~gone], new[c]]) for c in old}
        order = np.lexsort([both[c] for c in reversed(ORDER)])
        full = derived(write({c: v[order] for c, v in both.items()}, root / "full"), CONFIG)
        assert mine == full
        tables = [("events", ""), ("item_days", "revenue"), ("user_days", "spend")]
        tables += [(f"pairs/{p}/{name}", "decayed") for p in PROTOCOLS for name in ("transitions", "covisits")]
        for table, sums in tables:
            a, b = Columns.open(root / "mine" / table), Columns.open(root / "full" / table)
            for name in b:
                rtol, atol = (1e-6, 1e-9) if name == sums else (0, 0)
                np.testing.assert_allclose(a.numbers(name), b.numbers(name), rtol, atol, err_msg=f"{table} {name}")
