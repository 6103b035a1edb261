"""Caps as a person writes them: `brand=2`, `category=30%`, `brand=1/4` (in any four places in a row)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from core.errors import InputError

if TYPE_CHECKING:
    from aisle.v1.recommender_pb2 import Cap

_CAP: Final = re.compile(r"(?P<by>.+)=(?P<most>\d+(?:\.\d+)?)(?P<share>%)?(?:/(?P<window>\d{1,4}))?")


def cap_of(text: str) -> Cap:
    """The cap that a text means.

    Raises:
        InputError: It means none.
    """
    from aisle.v1.recommender_pb2 import Cap

    found = _CAP.fullmatch(text)
    if found is None:
        raise InputError(
            f"--cap {text}: expected such as brand=2, category=30% or brand=1/4 (in any four places in a row)"
        )
    kind = Cap.PERCENTAGE if found["share"] else Cap.VALUE
    return Cap(attribute=found["by"], cap_type=kind, max=float(found["most"]), window=int(found["window"] or 0))
