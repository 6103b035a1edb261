"""The ranker's matrix by a compiled kernel (ranking/native/features.c): the bits of the numpy functions in ranking/features.py, several times sooner.

A request has some hundred candidates: numpy spends its time on being called. Where there is no compiler, `library` is None, and features are made in numpy.
"""

# bazel: data=[//ranking/native:all_files]

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.candidates import Candidates
from core.columns import Array, Tags
from core.history import History
from core.live_columns import LiveTags
from core.native import Scratch, address, load_if_possible
from ranking.feature_list import AFFINITY, AGREE, LATE, OWN, RANKS, SCORES, STRENGTH
from ranking.item_table import FACT_NAMES, ItemTable

_SOURCE: Final = Path(__file__).parent / "native" / "features.c"
_POINTER, _LONG, _DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_GAP, _PRICE = FACT_NAMES.index("item.gap_days"), FACT_NAMES.index("item.price")
_AGREE_ROW: Final = len(SCORES) + len(RANKS) + len(LATE) + len(STRENGTH)
_OWN_ROW: Final = _AGREE_ROW + len(AGREE)
_AFFINITY_ROW: Final = _OWN_ROW + len(OWN)
_ITEM_ROW: Final = _AFFINITY_ROW + len(AFFINITY)
_CONSTANT_ROW: Final = _ITEM_ROW + len(FACT_NAMES)
_ROWS: Final = (_AGREE_ROW, _OWN_ROW, _AFFINITY_ROW, _ITEM_ROW, _CONSTANT_ROW)
_NOT_THERE: Final = 0
TASTE: Final = 50  # newest successes whose attributes and popularity make up a person's taste; the kernel has the same

_scratch: Final = Scratch()


class _Request(ctypes.Structure):
    _fields_ = [
        *((name, _LONG) for name in ("n", "sources")),
        *((name, _POINTER) for name in ("rows", "scores", "ranks", "score_row", "rank_row")),
        *((name, _LONG) for name in ("h", "now", "events")),
        *((name, _POINTER) for name in ("past", "times", "fade", "event_items", "event_gains")),
        *(("price_mean", _DOUBLE), ("price_spread", _DOUBLE), ("priced", _LONG), ("facts", _POINTER)),
        *((name, _LONG) for name in ("width", "gap", "price")),
        *((name, _POINTER) for name in ("brand", "category", "starts", "codes", "rarity")),
        *((name, _LONG) for name in ("by_place", "agree_row", "own_row", "affinity_row", "item_row", "constant_row")),
        *(("constants", _LONG), ("constant", _POINTER), ("out", _POINTER), ("top", _POINTER)),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernel; None where it cannot be had, and the log says why."""
    compiled = load_if_possible(_SOURCE, "features are made by numpy")
    if compiled is None:
        return None
    compiled.scratch_bytes.argtypes, compiled.scratch_bytes.restype = [_POINTER, _LONG], _LONG
    compiled.fill.argtypes, compiled.fill.restype = [_POINTER, _POINTER], None
    return compiled


def fill(
    kernel: Any,
    out: Array,
    candidates: Candidates,
    places: tuple[Array, Array],
    past: Array,
    times: Array,
    fade: Array,
    history: History,
    now: int,
    prices: tuple[float, float] | None,
    items: ItemTable,
    constant: Array,
) -> Array | None:
    """Fill `out` but for the features of the newest basket and of strength. The kernel looks into no array from its end or beyond it.

    Args:
        kernel: The library.
        out: float32 `[F, n]`, zeros.
        candidates: n of S sources, one at least.
        places: Rows of the matrix for the score and the rank of each source, int64 `[S]`; -1: features do not know it.
        past: int32 `[h]` items of the successes, oldest first.
        times: int64 `[h]` of these.
        fade: float64 `[h]` what each of them weighs now.
        history: The whole history.
        now: Of the request, microseconds.
        prices: Mean log price of the successes and the spread that distances are measured by; None: none has a price.
        items: Of the release.
        constant: float32, the last features of the list, the same for every candidate.

    Returns:
        float32 `[S]`: the greatest score of each source among the candidates; 0 where that is no number. None, and nothing filled, where a row is not
        one of the items, there are too many sources, or the items lie in memory in another way.
    """
    starts, codes, by_place = _attributes(items, candidates.rows, past)
    top = np.empty(len(candidates.sources), np.float32)
    arrays = [
        np.ascontiguousarray(array, dtype)
        for array, dtype in (
            *((candidates.rows, np.int32), (candidates.scores, np.float32), (candidates.ranks, np.int32)),
            *((places[0], np.int64), (places[1], np.int64), (past, np.int32), (times, np.int64), (fade, np.float64)),
            *((history.items, np.int32), (history.gains, np.float32)),
        )
    ]
    at = [address(array) for array in arrays]
    mean, spread = prices or (0.0, 1.0)
    request = _Request(
        *(len(candidates), len(candidates.sources), *at[:5]),
        *(len(past), now, len(history), *at[5:]),
        *(mean, spread, prices is not None),
        *(address(items.facts), items.facts.shape[1], _GAP, _PRICE),
        address(items.brand) if items.has_brand else _NOT_THERE,
        address(items.category) if items.has_category else _NOT_THERE,
        *(address(starts) if len(items.rarity) else _NOT_THERE, address(codes), address(items.rarity), by_place),
        *(*_ROWS, len(constant), address(constant), address(out), address(top)),
    )
    where = ctypes.addressof(request)
    size = kernel.scratch_bytes(where, len(items)) if items.is_plain else -1
    if size < 0:
        return None
    kernel.fill(where, _scratch.of(size))
    return top


def _attributes(items: ItemTable, rows: Array, past: Array) -> tuple[Array, Array, bool]:
    """Starts and codes of attributes: of all items by row; where some of these were changed, of the candidates and the newest successes alone."""
    attributes: Tags = items.attributes
    newest = past[-TASTE:]
    if isinstance(attributes, LiveTags) and attributes.is_changed[rows].any() | attributes.is_changed[newest].any():
        every = np.concatenate([rows, newest])
        codes, owner = attributes.codes_of(every)
        starts = np.zeros(len(every) + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=len(every)), out=starts[1:])
        return starts, np.ascontiguousarray(codes, np.int32), True
    return attributes.starts, attributes.codes, False
