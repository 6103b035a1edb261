"""What a log may say of a bug: where it happened and of what kind it is, never with which values, for those may be ids of people."""

from __future__ import annotations

import traceback


def stack_of(error: BaseException) -> str:
    """The stack of an exception and of those that led to it, innermost first, without their messages.

    >>> stack_of(KeyError("ann"))
    'KeyError'
    """
    parts: list[str] = []
    at: BaseException | None = error
    while at is not None:
        parts.append("".join(traceback.format_tb(at.__traceback__)) + type(at).__name__)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n".join(reversed(parts))
