"""What items are worth, in medians of what people chose before a cut; and configurations that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.config import ObjectiveConfig
from core.errors import InputError
from core.prepared import FULL, TRAIN, Prepared
from core.schema import DAY, Column
from pipeline.worths import item_worths
from tests.prepared_fixture import make_prepared

START = 1_700_000_000_000_000
CUTS = [START, START + 10 * DAY, START + 20 * DAY, START + 30 * DAY, START + 40 * DAY]
BUY = "purchase-complete"
# before T1 a twice and b once: prices 2, 2 and 6, median 2; c only later; d never
ROWS = [
    ("u:ann", "a", BUY, START),
    ("u:bob", "a", BUY, START + DAY),
    ("u:bob", "b", BUY, START + DAY),
    ("u:ann", "c", BUY, START + 15 * DAY),
]
NAN = float("nan")


def shop(folder: Path, price: list[float], margin: list[float] | None = None) -> Prepared:
    plain = make_prepared(folder / "plain", ROWS, cuts=CUTS, titles={"d": "D"})
    columns = {**plain.items, Column.PRICE: np.array(price, np.float32)}
    if margin is not None:
        columns["attribute.margin"] = np.array(margin, np.float32)
    return make_prepared(folder, ROWS, cuts=CUTS, titles={"d": "D"}, columns=columns)


def wanted(worth: str = "price", share: float = 0.5) -> ObjectiveConfig:
    return ObjectiveConfig(worth=worth, share=share, cap=4.0)


def test_in_medians_of_what_was_chosen_before_the_cut(tmp_path: Path) -> None:
    found = item_worths(shop(tmp_path, [2, 6, 100, NAN], [0.5, -1, 1, 2]), TRAIN, wanted())
    assert found is not None
    assert found.tolist() == [1, 3, 50, 1]  # what is unknown is worth the median


def test_a_margin_below_nothing_is_nothing(tmp_path: Path) -> None:
    """Known of a twice and b once: .5, .5 and -1, median .5."""
    found = item_worths(shop(tmp_path, [2, 6, 100, NAN], [0.5, -1, 1, 2]), TRAIN, wanted("attribute.margin"))
    assert found is not None
    assert found.tolist() == [1, 0, 2, 4]


def test_a_shop_without_prices(tmp_path: Path) -> None:
    prepared = shop(tmp_path, [NAN] * 4)
    assert item_worths(prepared, FULL, wanted(share=0.0)) is None
    with pytest.raises(InputError, match="the median price of what people chose is 0, expected more than 0"):
        item_worths(prepared, FULL, wanted())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_attribute_that_is_not_there(tmp_path: Path, share: float) -> None:
    with pytest.raises(
        InputError, match=r"no item column 'attribute.margn' that holds numbers; did you mean 'attribute.margin'"
    ):
        item_worths(shop(tmp_path, [1] * 4, [1] * 4), FULL, wanted("attribute.margn", share))
