"""Time is the law: a statistic as of a moment is the same when the events from that moment on have never happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from core.columns import AnyColumn, Array, Columns
from core.config import PairConfig
from core.history import Histories, user_starts
from core.prepared import Cuts
from core.schema import DAY, Column, EventType
from data_prep.cuts import global_folds
from data_prep.days import DaySums
from data_prep.pairs import PairSums, Sequences

N_USERS, N_ITEMS, N_DAYS = 4, 6, 40
Facts = dict[tuple[int, ...], float]


@dataclass(frozen=True)
class Log:
    """Events sorted by (user, time), all arrays `[n]`."""

    user: Array
    item: Array
    time: Array
    type: Array

    def before(self, moment: int) -> Log:
        """What had happened by then."""
        early = self.time < moment
        return Log(*(getattr(self, f.name)[early] for f in fields(self)))


def some_log(rng: np.random.Generator, n: int = 300) -> Log:
    """Purchases at any microsecond of 40 days by 4 people of 6 items."""
    user = np.sort(rng.integers(0, N_USERS, n)).astype(np.int32)
    time = rng.integers(0, N_DAYS * DAY, n)
    order = np.lexsort((time, user))
    item = rng.integers(0, N_ITEMS, n).astype(np.int32)
    return Log(user, item, time[order], np.full(n, EventType.PURCHASE_COMPLETE.code, np.int8))


def assert_as_of(statistic: Callable[[Log, int], Facts], log: Log, moment: int) -> None:
    """`statistic(log, moment)` must not notice whether events from `moment` on are in the log."""
    full, cut = statistic(log, moment), statistic(log.before(moment), moment)
    differ = {
        k for k in full.keys() | cut.keys() if not np.isclose(full.get(k, 0), cut.get(k, 0), rtol=1e-6, atol=1e-9)
    }
    if differ:
        k = min(differ)
        raise AssertionError(
            f"a leak: as of {moment}, {len(differ)} values depend on later events; {k} is {full.get(k)}, but {cut.get(k)} without them"
        )


def item_day_snapshot(log: Log, moment: int) -> Facts:
    """(item, day, column) -> value of item_days, for the days before that of `moment`."""
    with TemporaryDirectory() as folder:
        sums = DaySums(N_USERS, N_ITEMS, (0, N_DAYS - 1), Path(folder))
        sums.add(log.user, log.item, log.time, log.type, np.ones(len(log.user)))
        sums.write(Path(folder))
        days = Columns.open(Path(folder) / "item_days")
        rows = np.flatnonzero(days.numbers("day") < moment // DAY)
        names = ("purchase-complete", "revenue", "users")
        return {
            (int(days.numbers("item")[r]), int(days.numbers("day")[r]), c): float(days.numbers(n)[r])
            for r in rows
            for c, n in enumerate(names)
        }


def pairs_snapshot(log: Log, moment: int, per_item: int = 2) -> Facts:
    """(table, source, target, column) -> sums of the pairs in the folds below `moment`, which is the test cut."""
    cuts = Cuts(start=0, ranker=moment // 2, validation=moment * 3 // 4, test=moment, end=N_DAYS * DAY)
    facts: Facts = {}
    with TemporaryDirectory() as folder:
        config = PairConfig(window=2, gap_days=3, half_life_days=5, per_item=per_item)
        sums = PairSums(N_ITEMS, config, N_DAYS * DAY, Path(folder))
        sums.add(Sequences(log.user, log.item, log.time, global_folds(log.time, cuts).astype(np.int64) * 4))
        sums.write(Path(folder))
        for table, name in enumerate(("transitions", "covisits")):
            rows = Columns.open(Path(folder) / "global" / name)
            for r in np.flatnonzero(rows.numbers("fold") < 3):
                for c, column in enumerate(("count", "decayed")):
                    key = (table, int(rows.numbers("source")[r]), int(rows.numbers("target")[r]), c)
                    facts[key] = facts.get(key, 0.0) + float(rows.numbers(column)[r])
    return facts


def history_of(histories: Callable[[Log], Histories]) -> Callable[[Log, int], Facts]:
    """(user, place) -> item of each person's history before the moment."""

    def statistic(log: Log, moment: int) -> Facts:
        store = histories(log)
        return {(u, p): float(i) for u in range(N_USERS) for p, i in enumerate(store.before(u, moment).items)}

    return statistic


def histories(log: Log) -> Histories:
    """The log as core.history has it."""
    columns: dict[str, AnyColumn] = {
        Column.ITEM: log.item,
        Column.TIME: log.time,
        Column.TYPE: log.type,
        Column.GAIN: np.ones(len(log.user), np.float32),
    }
    return Histories(Columns(columns), user_starts(log.user, N_USERS))
