"""Runs the shop day by day: each day is one file of events, made in blocks of sessions of a fixed size, so that memory depends on no total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.schema import DAY, EVENT_TYPES, SECOND, EventType, Table
from data_prep.data_directory import new_data_directory, open_part, write_dataset_file
from data_prep.simulate.calendar import Aftermath, day_quotas
from data_prep.simulate.catalogue import Catalogue, make_catalogue
from data_prep.simulate.items_table import write_items
from data_prep.simulate.log import SCHEMA, Rows, arrow_table, joined, session_rows
from data_prep.simulate.options import SESSIONS, ShopOptions
from data_prep.simulate.population import Population, Segments, draw_people, make_population, make_segments, write_users
from data_prep.simulate.preferences import Array
from data_prep.simulate.sessions import LONGEST, Visitors, show_pages, touch
from data_prep.simulate.shelf import Shelf
from data_prep.simulate.taxonomy import consumable_days
from data_prep.simulate.truth import write_truth

# Part of the shop's definition, like the seed: another size is another shop.
BLOCK: Final = 1 << 15
CHUNK: Final = 1_000_000  # events of a day that are sorted and written together
_EVENTS_A_SESSION: Final = 5.5  # a guess for the first block


@dataclass(frozen=True)
class Simulated:
    """What was written; `mix` counts the events of each type."""

    events: int
    items: int
    users: int
    mix: dict[str, int]


def simulate(options: ShopOptions, out: Path) -> Simulated:
    """Write the shop's data directory, with its known preferences in `truth/`.

    Raises:
        InputError: `out` is not free.
    """
    with new_data_directory(out) as root:
        shop = Shop(options)
        items = write_items(options, shop.catalogue, root / Table.ITEMS)
        users = write_users(options, shop.population, root / Table.USERS)
        mix: Counter[str] = Counter()
        for day, quota in enumerate(day_quotas(options)):
            if quota == 0:
                continue
            with open_part(root / Table.EVENTS / f"part-{options.date(day).isoformat()}.parquet", SCHEMA) as part:
                for rows in shop.day(day, int(quota)):
                    part.write_table(arrow_table(rows, options.day_us(day), shop.catalogue))
                    counts = np.bincount(rows.type, minlength=len(EVENT_TYPES))
                    mix.update({t.value: int(counts[t.code]) for t in EVENT_TYPES if counts[t.code]})
        write_truth(root, options, shop.segments, shop.population, shop.catalogue)
        write_dataset_file(root, "simulate", [], synthetic_time=False, options=options.plain())
    return Simulated(mix.total(), items, users, dict(mix.most_common()))


class Shop:
    """The shop with everything that lasts longer than a day."""

    def __init__(self, options: ShopOptions) -> None:
        self.options = options
        self.segments: Segments = make_segments(options)
        self.population: Population = make_population(options, self.segments)
        self.catalogue: Catalogue = make_catalogue(options, self.segments)
        self._order = np.argsort(self.catalogue.appeal.category, kind="stable")
        self._by_handful = consumable_days()[self.catalogue.appeal.category] > 0
        self._aftermath = Aftermath(options, self.catalogue)
        self._sessions = 0
        self._events_a_session = _EVENTS_A_SESSION

    def day(self, day: int, quota: int) -> Iterator[Rows]:
        """Exactly `quota` events of one day, in the order of time; a day of more than CHUNK comes in several, each in order.

        Returns come first, then those who register today and those who reorder, then whoever comes by.
        """
        shelf = Shelf(self.options, self.catalogue, self.segments, self._order, day)
        waiting = [self._returns(day, quota)]
        made, block, due = len(waiting[0]), 0, self._due_visitors(day, shelf)
        while made < quota:
            rng = self.options.stream(SESSIONS, day, block)
            visitors = next(due, None) or self._passers_by(rng, day, quota - made)
            rows = self._visit(rng, visitors, shelf).take(slice(quota - made))
            self._aftermath.learn(rows, day)
            waiting.append(rows)
            made, block = made + len(rows), block + 1
            if sum(map(len, waiting)) >= CHUNK:
                yield joined(waiting).by_time()
                waiting = []
        if any(map(len, waiting)):
            yield joined(waiting).by_time()

    def _visit(self, rng: np.random.Generator, visitors: Visitors, shelf: Shelf) -> Rows:
        pages = show_pages(rng, visitors, self.catalogue, shelf, self.options.impressions)
        touches = touch(rng, visitors, pages, self.catalogue, shelf)
        rows = session_rows(rng, visitors, pages, touches, self._by_handful, self._sessions)
        self._sessions += len(visitors.user)
        self._events_a_session = 0.5 * self._events_a_session + 0.5 * max(1.0, len(rows) / len(visitors.user))
        return rows

    def _returns(self, day: int, most: int) -> Rows:
        due = self._aftermath.returns(day)
        n = min(len(due.user), most)
        rng = self.options.stream(SESSIONS, day)
        return Rows(
            session=np.full(n, -1),
            user=due.user[:n],
            time=rng.integers(8 * 3_600_000, 20 * 3_600_000, size=n),
            type=np.full(n, EventType.RETURN.code, np.int8),
            item=due.item[:n],
            position=np.full(n, -1),
            placement=np.full(n, -1, np.int8),
            quantity=due.quantity[:n],
        )

    def _due_visitors(self, day: int, shelf: Shelf) -> Iterator[Visitors]:
        """Who registers today, from the moment they do, and who needs something again that is in stock."""
        population = self.population
        new = np.arange(*np.searchsorted(population.arrival, [day, day + 1]))
        reorders = self._aftermath.reorders(day)
        in_stock = shelf.live[reorders.item]
        user = np.concatenate([new, reorders.user[in_stock]])
        item = np.concatenate([np.full(len(new), -1), reorders.item[in_stock]])
        registered = (population.created_at[new] - self.options.day_us(day)) / SECOND + 20
        rng = self.options.stream(SESSIONS, day, 0, 0)
        start = np.concatenate([registered, _day_time(rng, int(in_stock.sum()))])
        for begin in range(0, len(user), BLOCK):
            at = slice(begin, begin + BLOCK)
            yield Visitors(user[at], population.people.take(user[at]), start[at], item[at])

    def _passers_by(self, rng: np.random.Generator, day: int, events: int) -> Visitors:
        """About as many sessions as make `events`, of guests and of users who registered before today."""
        n = int(np.clip(1.1 * events / self._events_a_session, 8, BLOCK))
        population = self.population
        known = int(np.searchsorted(population.arrival, day))
        activity = population.activity[:known]
        user = np.searchsorted(activity, rng.random(n) * activity[-1], side="right").clip(max=known - 1)
        guest = rng.random(n) < self.options.guests
        people = population.people.take(user)
        people.put(np.nonzero(guest)[0], draw_people(rng, self.segments, int(guest.sum()))[0])
        return Visitors(np.where(guest, -1, user), people, _day_time(rng, n), np.full(n, -1))


def _day_time(rng: np.random.Generator, n: int) -> Array:
    """Seconds since midnight, around lunch and in the evening, never so late that a session passes midnight: float64 `[n]`."""
    last = DAY / SECOND - LONGEST
    usual = np.where(rng.random(n) < 0.4, rng.normal(12.5, 2.5, n), rng.normal(19.5, 2.0, n)) * 3600
    return np.asarray(np.where((usual >= 0) & (usual <= last), usual, rng.random(n) * last))
