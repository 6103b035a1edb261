"""What each item is worth to the shop, relative to the median of what people chose before a cut: for `ranking.objective`."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.config import ObjectiveConfig
from core.errors import InputError, nearest
from core.prepared import Fold, Prepared
from core.schema import Column


def item_worths(prepared: Prepared, fold: Fold, objective: ObjectiveConfig) -> Array | None:
    """float32 `[items]`, none negative, 1 where an item's worth is unknown; None where the shop knows of none and the objective wants none.

    `price`: the item's price. `attribute.<name>`: that number of the items table, such as a margin.

    Raises:
        InputError: if the objective needs a worth and no item that anybody chose has one.
    """
    columns = prepared.items
    numbers = [n for n in columns if n == Column.PRICE or (n.startswith("attribute.") and _is_number(columns[n]))]
    if objective.worth not in numbers and (objective.share > 0 or objective.worth != Column.PRICE):
        raise InputError(
            f"{prepared.path}: ranker.objective.worth: no item column {objective.worth!r} that holds numbers; {nearest(objective.worth, numbers)}"
        )
    if objective.worth not in numbers:
        return None
    worths = np.asarray(columns.numbers(objective.worth), np.float64)
    chosen = worths[prepared.interactions(fold).item]
    chosen = chosen[np.isfinite(chosen)]
    median = float(np.median(chosen)) if len(chosen) else 0.0
    if median <= 0:
        if objective.share > 0:
            raise InputError(
                f"{prepared.path}: ranker.objective: the median {objective.worth} of what people chose is {median:g}, expected more than 0; "
                "give the items one, or set ranker.objective.share to 0"
            )
        return None
    return np.where(np.isfinite(worths), np.maximum(worths / median, 0.0), 1.0).astype(np.float32)


def _is_number(column: object) -> bool:
    return isinstance(column, np.ndarray) and column.dtype == np.float32
