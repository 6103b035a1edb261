"""Times and time zones as people write them in configuration files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator


def _moment(value: Any) -> Any:
    try:
        datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("not a time; expected such as 2026-11-27 or 2026-11-27 08:00") from None
    return value


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, TypeError, OSError):
        raise ValueError("unknown time zone; expected a name such as Europe/Berlin, or UTC") from None
    return value


Moment = Annotated[str, BeforeValidator(_moment)]
Zone = Annotated[str, BeforeValidator(_zone)]


def micros(moment: str, zone: str) -> float:
    """Of a `Moment`, microseconds since the epoch; one without an offset is in the `Zone`."""
    found = datetime.fromisoformat(moment)
    return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1e6
