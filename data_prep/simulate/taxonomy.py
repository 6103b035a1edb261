"""The words of the simulated shop: categories with their seasons and habits, colours, materials, tags, brand names, countries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True)
class Leaf:
    """A category at the end of its path.

    Attributes:
        path: Category path with ` > `.
        noun: What a title calls an item of it.
        materials: What items are made of.
        price: Median price, EUR.
        peak: Day of the year of highest demand; 0 if demand does not move.
        consumable_days: Days until a buyer needs it again; 0 if never.
        complements: Nouns of the categories that go with it.
    """

    path: str
    noun: str
    materials: tuple[str, ...]
    price: float
    peak: int
    consumable_days: int
    complements: tuple[str, ...]


def _leaf(path: str, noun: str, materials: str, price: float, peak: int, again: int, complements: str) -> Leaf:
    return Leaf(path, noun, tuple(materials.split("/")), price, peak, again, tuple(complements.split("/")))


LEAVES: Final = (
    _leaf("Clothing > Accessories > Scarves", "scarf", "wool/cashmere/silk/cotton", 29, 350, 0, "beanie/gloves"),
    _leaf("Clothing > Accessories > Beanies", "beanie", "wool/fleece/cashmere", 19, 345, 0, "scarf/gloves"),
    _leaf("Clothing > Accessories > Gloves", "gloves", "leather/wool/fleece", 25, 345, 0, "scarf/beanie"),
    _leaf("Clothing > Outerwear > Jackets", "jacket", "down/softshell/waxed cotton", 120, 315, 0, "scarf/boots"),
    _leaf("Clothing > Outerwear > Raincoats", "raincoat", "nylon/recycled polyester", 79, 105, 0, "boots/backpack"),
    _leaf("Clothing > Tops > T-shirts", "t-shirt", "cotton/linen/hemp", 18, 180, 0, "shorts/sneakers"),
    _leaf("Clothing > Tops > Sweaters", "sweater", "wool/cotton/alpaca", 59, 330, 0, "scarf/jeans"),
    _leaf("Clothing > Trousers > Jeans", "jeans", "denim/stretch denim", 69, 0, 0, "sweater/sneakers"),
    _leaf("Clothing > Trousers > Shorts", "shorts", "cotton/linen/nylon", 32, 185, 0, "t-shirt/sandals"),
    _leaf("Shoes > Sneakers", "sneakers", "leather/canvas/mesh", 85, 130, 0, "t-shirt/jeans"),
    _leaf("Shoes > Boots", "boots", "leather/suede/rubber", 129, 310, 0, "jacket/gloves"),
    _leaf("Shoes > Sandals", "sandals", "leather/cork/rubber", 45, 190, 0, "shorts/sunscreen"),
    _leaf("Kitchen > Drinkware > Mugs", "mug", "stoneware/porcelain/enamel", 14, 340, 0, "coffee/tea"),
    _leaf("Kitchen > Coffee > Coffee makers", "coffee maker", "steel/glass/aluminium", 65, 340, 0, "coffee/mug"),
    _leaf("Kitchen > Cookware > Pans", "pan", "cast iron/steel/copper", 49, 330, 0, "knife/cutting board"),
    _leaf(
        "Kitchen > Cookware > Knives", "knife", "damascus steel/carbon steel/ceramic", 55, 335, 0, "cutting board/pan"
    ),
    _leaf("Kitchen > Prep > Cutting boards", "cutting board", "oak/walnut/bamboo", 28, 335, 0, "knife/pan"),
    _leaf("Food > Coffee", "coffee", "arabica/robusta/decaf", 11, 0, 28, "coffee maker/mug"),
    _leaf("Food > Tea", "tea", "green/black/herbal", 7, 355, 35, "mug/chocolate"),
    _leaf("Food > Chocolate", "chocolate", "dark/milk/hazelnut", 4, 340, 21, "tea/coffee"),
    _leaf("Food > Olive oil", "olive oil", "picual/koroneiki/blend", 13, 0, 45, "pan/cutting board"),
    _leaf("Home > Textiles > Blankets", "blanket", "wool/cotton/fleece", 49, 340, 0, "cushion/candle"),
    _leaf("Home > Textiles > Cushions", "cushion", "linen/velvet/cotton", 24, 0, 0, "blanket/lamp"),
    _leaf("Home > Lighting > Lamps", "lamp", "brass/paper/oak", 75, 320, 0, "cushion/candle"),
    _leaf("Home > Decoration > Candles", "candle", "beeswax/soy wax/rapeseed wax", 15, 345, 60, "lamp/blanket"),
    _leaf("Home > Storage > Baskets", "basket", "seagrass/felt/willow", 27, 20, 0, "blanket/lamp"),
    _leaf("Beauty > Skin care > Face creams", "face cream", "aloe/hyaluronic/shea", 22, 0, 50, "shampoo/sunscreen"),
    _leaf("Beauty > Skin care > Sunscreens", "sunscreen", "mineral/light/sport", 16, 180, 40, "sandals/face cream"),
    _leaf("Beauty > Hair care > Shampoos", "shampoo", "birch/argan/oat", 9, 0, 40, "face cream/toothpaste"),
    _leaf("Beauty > Oral care > Toothpastes", "toothpaste", "mint/fennel/charcoal", 5, 0, 35, "shampoo/detergent"),
    _leaf("Household > Laundry > Detergents", "detergent", "liquid/powder/sensitive", 8, 0, 45, "toothpaste/basket"),
    _leaf("Outdoor > Camping > Tents", "tent", "nylon/canvas/ripstop", 210, 165, 0, "sleeping bag/headlamp"),
    _leaf("Outdoor > Camping > Sleeping bags", "sleeping bag", "down/synthetic/wool", 110, 160, 0, "tent/headlamp"),
    _leaf("Outdoor > Camping > Headlamps", "headlamp", "aluminium/polymer", 35, 290, 0, "tent/backpack"),
    _leaf("Outdoor > Bags > Backpacks", "backpack", "canvas/nylon/leather", 89, 150, 0, "raincoat/headlamp"),
    _leaf("Sport > Yoga > Mats", "yoga mat", "cork/rubber/jute", 45, 15, 0, "t-shirt/water bottle"),
    _leaf("Sport > Hydration > Water bottles", "water bottle", "steel/glass/tritan", 21, 170, 0, "yoga mat/backpack"),
    _leaf("Toys > Building > Blocks", "building blocks", "beech/maple/bioplastic", 39, 345, 0, "puzzle/notebook"),
    _leaf("Toys > Games > Puzzles", "puzzle", "cardboard/birch/cork", 17, 345, 0, "building blocks/tea"),
    _leaf("Paper > Notebooks", "notebook", "recycled paper/stone paper/cotton paper", 12, 245, 90, "mug/backpack"),
)
NOUN_ROW: Final = {leaf.noun: row for row, leaf in enumerate(LEAVES)}
MATERIALS: Final = tuple(sorted({m for leaf in LEAVES for m in leaf.materials}))

COLOURS: Final = (
    "black",
    "white",
    "blue",
    "green",
    "red",
    "grey",
    "sand",
    "mustard",
    "olive",
    "rose",
    "navy",
    "natural",
)
TAGS: Final = (
    "minimalist", "retro", "sporty", "handmade", "organic", "premium", "travel", "gift",
    "family", "urban", "rustic", "vegan", "limited", "recycled", "bestseller look", "nordic",
)  # fmt: skip
COUNTRIES: Final = ("DE", "FR", "NL", "AT", "PL", "SE", "ES", "IT")
DEVICES: Final = ("mobile", "desktop", "app", "tablet")
AGE_BANDS: Final = ("18-24", "25-34", "35-44", "45-54", "55+")
CURRENCY: Final = "EUR"

_FIRST: Final = (
    "Nord", "Alba", "Fjell", "Luma", "Vero", "Kasta", "Oro", "Brisa", "Tarn", "Miro", "Sol", "Havn", "Elva", "Rune", "Piko",
    "Cala", "Dorn", "Fauna", "Grove", "Juno", "Kite", "Lark", "Moss", "Nova", "Otter", "Pine", "Quill", "Reed", "Sage", "Tide",
)  # fmt: skip
_LAST: Final = (
    "licht", "werk", "berg", "wood", "mar", "stad", "line", "craft", "field", "haus", "ro", "vik", "dale", "mont", "stein",
    "bloom", "loft", "path", "ville", "sund", "heim", "ton", "wave", "gard", "nest", "point", "ora", "by", "lund", "crest",
)  # fmt: skip


def brand_names(n: int) -> list[str]:
    """Make n distinct readable names; beyond 900 they carry a numeral."""
    names = [first + last for last in _LAST for first in _FIRST]
    return [names[i % len(names)] + (f" {i // len(names) + 1}" if i >= len(names) else "") for i in range(n)]


def consumable_days() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Days until a buyer of each category needs it again, 0 for never: int64 `[categories]`."""
    return np.array([leaf.consumable_days for leaf in LEAVES], np.int64)
