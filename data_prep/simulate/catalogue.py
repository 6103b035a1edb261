"""The items: products with variants, styles that brand, material and tags give away, prices, launches, outages, complements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.schema import DAY, HOUR
from data_prep.simulate.options import CATALOGUE, ShopOptions
from data_prep.simulate.population import Segments, unit
from data_prep.simulate.preferences import STYLE_DIM, Appeal, Array
from data_prep.simulate.taxonomy import COLOURS, LEAVES, MATERIALS, NOUN_ROW, TAGS

EARLY: Final = 0.7  # share of the products that are there before the first day
COMPLEMENTS: Final = 3
_VARIANTS: Final = (0.7, 0.15, 0.1, 0.05)  # chance of 1, 2, 3, 4 variants
_LOG_PRICE_SPREAD: Final = 0.45
_BLOCK: Final = 100_000


@dataclass(frozen=True)
class Catalogue:
    """All items that will ever be sold, `[items]` each unless said otherwise.

    Attributes:
        appeal: What makes them wanted.
        product: Row of the product, int32.
        variants: How many variants the product has, int8.
        brand: int32.
        material: Row of MATERIALS, int16.
        colour: Row of COLOURS, int8.
        tags: Rows of TAGS, int8 `[items, 3]`; -1 where there are fewer.
        price: float64, EUR.
        popularity: Weight of being shown, float64.
        launch: Day number, -1 before the first day, int32.
        created_at: Microseconds, int64; before the launch day begins.
        outages: item, first day, day after the last, int32 `[outages, 3]`.
        complements: Item rows that go with an item, int32 `[items, 3]`.
    """

    appeal: Appeal
    product: Array
    variants: Array
    brand: Array
    material: Array
    colour: Array
    tags: Array
    price: Array
    popularity: Array
    launch: Array
    created_at: Array
    outages: Array
    complements: Array

    def __len__(self) -> int:
        return len(self.product)


def make_catalogue(options: ShopOptions, segments: Segments) -> Catalogue:
    """The items of the shop. The first one is always on the shelf, so that there is always something to see."""
    rng = options.stream(CATALOGUE)
    n = options.items
    sizes = _product_sizes(rng, n)
    products = len(sizes)
    product = np.repeat(np.arange(products, dtype=np.int32), sizes)

    category = rng.choice(len(LEAVES), size=products, p=segments.popularity).astype(np.int16)
    brand, brand_style, luxury = _brands(rng, products)
    material = _materials(rng, category)
    material_style = unit(rng.normal(size=(len(MATERIALS), STYLE_DIM)))[material]
    style = unit(0.6 * brand_style[brand] + 0.4 * material_style + 0.09 * rng.normal(size=(products, STYLE_DIM)))
    style = unit(style[product] + 0.06 * rng.normal(size=(n, STYLE_DIM)))
    quality = rng.normal(0, 0.5, products)[product].astype(np.float32)

    spread = 0.5 * luxury[brand] + np.sqrt(0.75) * rng.normal(size=products)
    median = np.array([leaf.price for leaf in LEAVES])[category]
    price = np.maximum(np.round(median * np.exp(_LOG_PRICE_SPREAD * spread) * 20) / 20, 0.5)[product]
    taste = np.hstack([segments.centroids[category[product]], style]).astype(np.float32)
    launch, created = _launches(rng, options, products)
    return Catalogue(
        appeal=Appeal(taste, quality, spread[product].astype(np.float32), category[product]),
        product=product,
        variants=np.repeat(sizes, sizes).astype(np.int8),
        brand=brand[product],
        material=material[product],
        colour=_colours(rng, product),
        tags=_tags(rng, style),
        price=price,
        popularity=rng.lognormal(0, 1.2, n) * np.exp(quality),
        launch=launch[product],
        created_at=created[product],
        outages=_outages(rng, options),
        complements=_complements(rng, taste, category[product]),
    )


def _product_sizes(rng: np.random.Generator, n: int) -> Array:
    """Variants of each product, adding up to n: int64 `[products]`."""
    sizes = 1 + rng.choice(4, size=n, p=_VARIANTS)
    products = int(np.searchsorted(np.cumsum(sizes), n)) + 1
    sizes = sizes[:products]
    sizes[-1] -= sizes.sum() - n
    return np.asarray(sizes)


def _brands(rng: np.random.Generator, products: int) -> tuple[Array, Array, Array]:
    """Brand of each product int32 `[products]`; style `[brands, style]` and luxury `[brands]` of the brands."""
    brands = int(np.clip(1.5 * np.sqrt(products), 12, 3000))
    size = (1 + np.arange(brands)) ** -0.6
    brand = rng.choice(brands, size=products, p=size / size.sum()).astype(np.int32)
    return brand, unit(rng.normal(size=(brands, STYLE_DIM))), rng.normal(size=brands)


def _materials(rng: np.random.Generator, category: Array) -> Array:
    row = {m: i for i, m in enumerate(MATERIALS)}
    material = np.empty(len(category), np.int16)
    for c, leaf in enumerate(LEAVES):
        of = category == c
        material[of] = rng.choice([row[m] for m in leaf.materials], size=int(of.sum()))
    return material


def _colours(rng: np.random.Generator, product: Array) -> Array:
    """Neighbouring variants differ: each product counts on from a random colour."""
    first = np.searchsorted(product, product)
    offset = rng.integers(len(COLOURS), size=int(product[-1]) + 1)
    return np.asarray((offset[product] + np.arange(len(product)) - first) % len(COLOURS), np.int8)


def _tags(rng: np.random.Generator, style: Array) -> Array:
    """One to three tags that fit the style, in blocks: int8 `[n, 3]`."""
    direction = unit(rng.normal(size=(len(TAGS), STYLE_DIM)))
    tags = np.empty((len(style), 3), np.int8)
    for begin in range(0, len(style), _BLOCK):
        fit = style[begin : begin + _BLOCK] @ direction.T
        best = np.argsort(-(fit + 0.1 * rng.normal(size=fit.shape)), axis=1, kind="stable")[:, :3]
        count = rng.integers(1, 4, size=(len(fit), 1))
        tags[begin : begin + _BLOCK] = np.where(np.arange(3) < count, best, -1)
    return tags


def _launches(rng: np.random.Generator, options: ShopOptions, products: int) -> tuple[Array, Array]:
    """Launch day int32 `[products]` and creation, up to 8 hours before that day begins, int64 `[products]`."""
    launch = np.where(rng.random(products) < EARLY, -1, rng.integers(options.days, size=products)).astype(np.int32)
    launch[0] = -1
    shelf_day = np.where(launch < 0, -rng.integers(0, 720, size=products), launch)
    return launch, options.start_us + shelf_day * DAY - rng.integers(1, 8 * HOUR, size=products)


def _outages(rng: np.random.Generator, options: ShopOptions) -> Array:
    """About one outage of 3 to 14 days an item in 120 days: int32 `[outages, 3]`, by first day."""
    item = np.repeat(np.arange(options.items), rng.poisson(options.days / 120, size=options.items))
    item = item[item > 0]
    first = rng.integers(options.days, size=len(item))
    outages = np.column_stack([item, first, first + rng.integers(3, 15, size=len(item))]).astype(np.int32)
    return outages[np.argsort(outages[:, 1], kind="stable")]


def _complements(rng: np.random.Generator, taste: Array, category: Array) -> Array:
    """For each item the best in style of 8 random items of the categories that go with its own: int32 `[items, 3]`."""
    order = np.argsort(category, kind="stable")
    starts = np.searchsorted(category[order], np.arange(len(LEAVES) + 1))
    partners = np.array([[NOUN_ROW[noun] for noun in leaf.complements] for leaf in LEAVES])
    chosen = np.empty((len(category), COMPLEMENTS), np.int32)
    for begin in range(0, len(category), _BLOCK):
        own = category[begin : begin + _BLOCK]
        rows = np.arange(begin, begin + len(own))
        partner = partners[own[:, None], rng.integers(2, size=(len(own), 8))]
        size = starts[partner + 1] - starts[partner]
        spot = starts[partner] + (rng.random(partner.shape) * size).astype(np.int64)
        others = np.where(size > 0, order[np.minimum(spot, len(order) - 1)], rows[:, None])
        fit = np.einsum("nd,nmd->nm", taste[rows, -STYLE_DIM:], taste[others, -STYLE_DIM:])
        best = np.argsort(-fit, axis=1, kind="stable")[:, :COMPLEMENTS]
        chosen[rows] = np.take_along_axis(others, best, axis=1)
    return chosen
