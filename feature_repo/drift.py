"""What a stored row says as of a later day, or that it says nothing any more. The same for the training join and for every online read.

A row is as of the day on which something last changed. Since then its decayed sums have faded and its ages have grown, which is arithmetic; everything else
holds. A row older than its ttl is expired: Feast ignores a ttl online, and offline it leaves nulls that look like an entity never seen. Both get the defaults,
and `<view>__expired` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from core.schema import DAY
from feature_repo.definitions import AS_OF_DAY

if TYPE_CHECKING:
    import pandas as pd

EXPIRED: Final = "expired"
Moments = NDArray[Any]  # int64 microseconds [n]


def column(view: str, field: str) -> str:
    """The name of a feature in a joined table."""
    return f"{view}__{field}"


def caught_up(frame: pd.DataFrame, tables: Iterable[Mapping[str, Any]], moments: Moments) -> pd.DataFrame:
    """`frame` with every view of `tables` brought up to the moment of each row.

    Args:
        frame: With columns `<view>__<field>` and `<view>__as_of_day`, null where the store has nothing.
        tables: Of views.json, those that were read.
        moments: Microseconds since the epoch `[n]`.

    Returns:
        The same rows: values float32 without nulls, `<view>__expired` bool instead of `<view>__as_of_day`, and the derived shares; in the
        order of the declaration, after the columns that are no features.
    """
    out = frame.copy()
    tables = list(tables)
    for table in tables:
        _catch_up(out, table, moments)
    for table in tables:
        for derived in table["derived"]:
            if (values := _ratio(out, derived["ratio"])) is not None:
                out[column(table["name"], derived["name"])] = values
    declared = [column(t["name"], f) for t in tables for f in (*_names(t), EXPIRED)]
    return out[[c for c in out.columns if c not in set(declared)] + [c for c in declared if c in out]]


def _names(table: Mapping[str, Any]) -> list[str]:
    return [f["name"] for kind in ("fields", "derived") for f in table[kind]]


def _catch_up(out: pd.DataFrame, table: Mapping[str, Any], moments: Moments) -> None:
    view, as_of = table["name"], column(table["name"], AS_OF_DAY)
    stored = out.pop(as_of).astype("float64").to_numpy()
    since = moments - np.nan_to_num(stored) * DAY
    # a row as of a later day than the moment asked about was not known then
    expired = np.isnan(stored) | (since < 0) | (since > table["ttl_days"] * DAY)
    out[column(view, EXPIRED)] = expired
    age = np.where(expired, 0, moments // DAY - np.nan_to_num(stored))
    for field in table["fields"]:
        name = column(view, field["name"])
        values = out[name].astype("float64").to_numpy()
        if field["half_life_days"] is not None:
            values = values * np.exp2(-age / field["half_life_days"])
        if field["ages"]:
            values = np.where(values >= 0, values + age, values)
        out[name] = np.where(expired, field["default"], values).astype(np.float32)


def _ratio(out: pd.DataFrame, ratio: Mapping[str, Any]) -> NDArray[np.float32] | None:
    over, under = (ratio[k].replace(".", "__") for k in ("over", "under"))
    if over not in out or under not in out:
        return None
    part, whole = out[over].to_numpy(), out[under].to_numpy() + np.float32(ratio["strength"])
    share: NDArray[np.float32] = np.divide(part, whole, out=np.zeros(len(part), np.float32), where=whole > 0)
    return share
