"""The people: tastes by segment, registration over time, attributes that hint at the segment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from core.schema import DAY, SECOND, Column, Table
from data_prep.data_directory import Parts, table_schema
from data_prep.simulate.options import POPULATION, ShopOptions
from data_prep.simulate.preferences import CATEGORY_DIM, CATEGORY_PULL, STYLE_DIM, STYLE_PULL, Array, People
from data_prep.simulate.taxonomy import AGE_BANDS, COUNTRIES, DEVICES, LEAVES

SEGMENTS: Final = 12
EARLY: Final = 0.4  # share of the users who registered before the first day
_WRITE_ROWS: Final = 500_000
_SCHEMA: Final = table_schema(
    Table.USERS,
    (Column.USER_ID, Column.CREATED_AT),
    {"country": pa.string(), "device": pa.string(), "age_band": pa.string()},
)


@dataclass(frozen=True)
class Segments:
    """Groups of people who want alike: from what centre tastes are drawn.

    Attributes:
        style: float32 `[segments, style]`, unit length.
        favourites: Cumulative chance of each category, float64 `[segments, categories]`.
        centroids: Of the categories, float32 `[categories, CATEGORY_DIM]`, unit length.
        popularity: Of the categories, float64 `[categories]`, adds up to 1.
    """

    style: Array
    favourites: Array
    centroids: Array
    popularity: Array


@dataclass(frozen=True)
class Population:
    """The registered users, in the order in which they registered.

    Attributes:
        people: Their tastes, `[users]`.
        segment: int16 `[users]`.
        arrival: Day number on which a user registers, -1 before the first day, int32 `[users]`, ascending.
        created_at: Microseconds, int64 `[users]`.
        activity: Cumulative weight of being the one who comes, float64 `[users]`.
    """

    people: People
    segment: Array
    arrival: Array
    created_at: Array
    activity: Array


def unit(vectors: Array) -> Array:
    """Rows `[n, d]` at length 1, float32."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def make_segments(options: ShopOptions) -> Segments:
    """The centres of taste."""
    rng = options.stream(POPULATION, 0)
    popularity = rng.permutation((1 + np.arange(len(LEAVES))) ** -0.5)
    popularity /= popularity.sum()
    leaning = rng.gamma(0.3, size=(SEGMENTS, len(LEAVES))) * popularity + 0.02 * popularity
    chance = np.cumsum(leaning / leaning.sum(axis=1, keepdims=True), axis=1)
    style, centroids = rng.normal(size=(SEGMENTS, STYLE_DIM)), rng.normal(size=(len(LEAVES), CATEGORY_DIM))
    return Segments(unit(style), chance, unit(centroids), popularity)


def draw_people(rng: np.random.Generator, segments: Segments, n: int) -> tuple[People, Array]:
    """Draw n people and their segments int16 `[n]`."""
    segment = rng.integers(SEGMENTS, size=n)
    style = unit(0.5 * segments.style[segment] + 0.2 * rng.normal(size=(n, STYLE_DIM)).astype(np.float32))
    spots = rng.random((n, 4))
    favourites = np.empty((n, 4), np.int16)
    for s in range(SEGMENTS):
        of = segment == s
        favourites[of] = np.searchsorted(segments.favourites[s], spots[of]).clip(max=len(LEAVES) - 1)
    weights = np.array([0.5, 0.25, 0.15, 0.1]) * rng.gamma(2.0, size=(n, 4))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    wanted = np.einsum("nf,nfd->nd", weights, segments.centroids[favourites])
    taste = np.hstack([CATEGORY_PULL * wanted, STYLE_PULL * style]).astype(np.float32)
    budget = rng.normal(0.2, 0.9, n).astype(np.float32)
    sensitivity = rng.lognormal(-0.2, 0.5, n).astype(np.float32)
    return People(taste, favourites, weights, budget, sensitivity), segment.astype(np.int16)


def make_population(options: ShopOptions, segments: Segments) -> Population:
    """All registered users; at least one is there from the beginning."""
    rng = options.stream(POPULATION, 1)
    n = options.users
    people, segment = draw_people(rng, segments, n)
    early = max(1, round(EARLY * n))
    arrival = np.concatenate([np.full(early, -1), np.sort(rng.integers(options.days, size=n - early))]).astype(np.int32)
    within = rng.integers(6 * 3600, 20 * 3600, size=n) * SECOND
    before = rng.integers(1, 720, size=n)
    day = np.where(arrival < 0, -np.sort(before)[::-1], arrival)
    return Population(
        people, segment, arrival, options.start_us + day * DAY + within, np.cumsum(rng.lognormal(0, 1, n))
    )


def user_ids(rows: Array) -> pa.Array:
    """External ids of user rows `[n]`."""
    return pa.array(np.char.add("u", np.char.zfill(rows.astype("U10"), 7)))


def write_users(options: ShopOptions, population: Population, folder: Path) -> int:
    """The users table; country, device and age depend on the segment. Returns the number of rows."""
    rng = options.stream(POPULATION, 2)
    chances = [
        np.cumsum(rng.dirichlet(np.full(len(v), 0.7), SEGMENTS), axis=1) for v in (COUNTRIES, DEVICES, AGE_BANDS)
    ]
    parts = Parts(folder, _SCHEMA)
    for begin in range(0, options.users, _WRITE_ROWS):
        rows = np.arange(begin, min(begin + _WRITE_ROWS, options.users))
        columns = [
            user_ids(rows + 1),
            pa.array(population.created_at[rows]).cast(_SCHEMA.field(Column.CREATED_AT).type),
        ]
        for chance, values in zip(chances, (COUNTRIES, DEVICES, AGE_BANDS), strict=True):
            code = (rng.random((len(rows), 1)) > chance[population.segment[rows]]).sum(axis=1).clip(max=len(values) - 1)
            columns.append(pa.array(values).take(pa.array(code)))
        parts.append(pa.Table.from_arrays(columns, schema=_SCHEMA))
    parts.close()
    return parts.rows
