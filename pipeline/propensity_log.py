"""Any log of places with propensities, one row a place, as rows for experiments.off_policy: the layout of the Open Bandit Dataset (Saito et al., 2021).

Columns: `item_id`, `position`, `click` or `reward`, `propensity_score` or `propensity`, maybe `cluster` (rows that belong together; else each is alone).
A policy on it shows each item at a position with a chance that depends on nothing else: from a table of `position`, `item_id`, `probability`, or as often as
another log of the same layout shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from core.errors import InputError, NotFoundError, nearest
from experiments.off_policy import Log, Target

_NUMBERS: Final = ("position", "click", "reward", "propensity", "propensity_score", "probability")


def read_table(path: Path, columns: Sequence[str], what: str) -> pd.DataFrame:
    """A CSV (maybe compressed) or Parquet file that has these columns; those of numbers hold numbers.

    Raises:
        NotFoundError, InputError: It is not there, not readable, or lacks a column or a number.
    """
    if not path.is_file():
        raise NotFoundError(f"{what} {path}: no such file")
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError, UnicodeDecodeError) as e:
        raise InputError(f"{what} {path}: {str(e).splitlines()[0]}; expected a CSV or Parquet file") from None
    for column in columns:
        if column not in frame:
            raise InputError(f"{what} {path}: no column {column!r}; {nearest(column, frame.columns)}")
    for column in frame.columns.intersection(list(_NUMBERS)):
        read = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
        if len(wrong := np.flatnonzero(~np.isfinite(read))):
            got = frame[column].iloc[wrong[0]]
            raise InputError(f"{what} {path}: column {column!r}, row {wrong[0] + 1}: expected a number (got {got!r})")
        if not pd.api.types.is_numeric_dtype(frame[column]):  # texts in Parquet
            frame[column] = read
    return frame


def read_log(path: Path) -> tuple[Log, pd.Index, pd.DataFrame]:
    """A log's rows, the item of each cell, and the table.

    Raises:
        NotFoundError, InputError: The file, or a column of it, is not there, or its propensities are none.
    """
    frame = read_table(path, ("item_id", "position"), "--log")
    reward, propensity = (
        next((c for c in names if c in frame), None)
        for names in (("click", "reward"), ("propensity_score", "propensity"))
    )
    if reward is None or propensity is None:
        raise InputError(
            f"--log {path}: expected `click` or `reward`, and `propensity_score` or `propensity`: without exact propensities nothing can be said"
        )
    cells, items = pd.factorize(frame["item_id"], sort=True)
    cluster = pd.factorize(frame["cluster"])[0] if "cluster" in frame else np.arange(len(frame))
    log = Log(
        frame[reward].to_numpy(np.float64),
        frame[propensity].to_numpy(np.float64),
        frame["position"].to_numpy(np.int64),
        cells.astype(np.int64),
        cluster.astype(np.int64),
    )
    return log, pd.Index(items), frame


def target_of(log: Log, items: pd.Index, policy: str) -> Target:
    """A policy on the log: `log:FILE` or a table."""
    if policy.startswith("log:"):
        frame = read_table(Path(policy.removeprefix("log:")), ("item_id", "position"), "--policy")
        rows = frame.groupby("position").size()
        table = frame.groupby(["position", "item_id"]).size().rename("probability").reset_index()
        table["probability"] /= table["position"].map(rows)
    else:
        table = read_table(Path(policy), ("position", "item_id", "probability"), "--policy")
    places = np.unique(log.place)
    chance = np.zeros((len(places), len(items)))
    cells = items.get_indexer(pd.Index(table["item_id"]))
    at = pd.Index(places).get_indexer(pd.Index(table["position"]))
    known = (cells >= 0) & (at >= 0)  # what the log never shows stays uncovered
    np.add.at(chance, (at[known], cells[known]), table["probability"].to_numpy()[known])
    row = np.searchsorted(places, log.place)
    wide = np.arange(len(items))
    return Target(
        chance[row, log.cell],
        np.repeat(np.arange(len(row)), len(items)),
        np.tile(wide, len(row)),
        chance[row].ravel(),
    )
