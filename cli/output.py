"""What every command prints: progress for people on stderr, one line of JSON as the last line of stdout."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console


class _Progress(Console):
    """Its reader may go away, as `head` does: that ends a command like any other broken pipe, where rich would exit with 1, which means a bug."""

    def on_broken_pipe(self) -> None:
        """Called where rich caught it."""
        raise BrokenPipeError


console = _Progress(stderr=True, highlight=False)


def step(text: str) -> None:
    """One line of progress."""
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}")


def finish(result: Mapping[str, Any]) -> None:
    """The command's result: the last thing on stdout."""
    print(json.dumps(_plain(result), default=str), flush=True)


def _plain(value: Any) -> Any:
    """JSON has no NaN: a figure that does not exist is null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
