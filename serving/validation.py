"""Checks of requests: every problem at once, each with the field it is in, as google.rpc.BadRequest wants them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from core.errors import InputError
from serving.filters.syntax import FilterError, parse

MAX_ID_BYTES: Final = 256
MAX_PAGE: Final = 500
DEFAULT_PAGE: Final = 10
MAX_CONTEXT: Final = 50
MAX_EXCLUDED: Final = 1_000
MAX_LABELS: Final = 64
MAX_EVENTS: Final = 1_000
MAX_LIST: Final = 1_000
MAX_CANDIDATES: Final = 1_000
MAX_BATCH: Final = 20
MAX_OVERRIDES: Final = 20


class BadRequestError(InputError):
    """A request with fields that cannot be used. `violations` holds (field path, what is wrong)."""

    def __init__(self, violations: list[tuple[str, str]]) -> None:
        super().__init__(
            "; ".join(f"{where}: {what}" for where, what in violations[:3]) + (" ..." if len(violations) > 3 else "")
        )
        self.violations = violations


@dataclass
class Problems:
    """Collects violations while a request is checked. `within` is the path of a request inside another one, such as `requests[2].`."""

    found: list[tuple[str, str]] = field(default_factory=list)
    within: str = ""

    def add(self, where: str, what: str) -> None:
        """Note a problem with a field."""
        self.found.append((self.within + where, what))

    def refuse(self) -> None:
        """Raise if there is any problem."""
        if self.found:
            raise BadRequestError(self.found)

    def text(self, where: str, value: str, *, required: bool = False, most: int = MAX_ID_BYTES) -> None:
        """An id or another short text, of at most `most` bytes."""
        if required and not value:
            self.add(where, "is required")
        # a character has at most 4 bytes: short texts need not be encoded to know
        elif len(value) > most // 4 and len(value.encode()) > most:
            self.add(where, f"has {len(value.encode())} bytes, at most {most} are allowed")

    def texts(self, where: str, values: Iterable[str], *, most: int, least: int = 0) -> None:
        """A list of ids."""
        values = list(values)
        if not least <= len(values) <= most:
            self.add(where, f"has {len(values)} entries, expected {least} to {most}")
            return
        for at, value in enumerate(values):
            self.text(f"{where}[{at}]", value, required=True)

    def filter(self, where: str, text: str) -> None:
        """A filter expression, empty for none."""
        try:
            if text:
                parse(text)
        except FilterError as e:
            self.add(where, str(e))

    def page_size(self, value: int) -> int:
        """The number of items wanted."""
        if not 0 <= value <= MAX_PAGE:
            self.add("page_size", f"is {value}, expected 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}")
        return value or DEFAULT_PAGE

    def pairs(self, where: str, pairs: Mapping[str, str], most: int) -> None:
        """Texts by texts."""
        if len(pairs) > most:
            self.add(where, f"has {len(pairs)} entries, at most {most} are allowed")
            return
        for key, value in pairs.items():
            self.text(where, key, required=True)
            self.text(f"{where}[{key[:32]!r}]", value)

    def between(self, where: str, value: float, least: float, most: float) -> None:
        """A number from `least` to `most`; NaN is none."""
        if not least <= value <= most:
            self.add(where, f"is {value:g}, expected {least:g} to {most:g}")

    def number(self, where: str, value: float, *, least: float = -math.inf) -> None:
        """A number, which must be finite."""
        if not (math.isfinite(value) and value >= least):
            self.add(
                where, f"is {value}, expected a finite number" + (f", {least:g} or more" if least > -math.inf else "")
            )
