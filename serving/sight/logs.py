"""Logs as people read them, or as JSON: one object a line. No line holds what a caller sent, but for the name it gave its call."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from types import TracebackType
from typing import Any, Final

import orjson

from core import event_log
from serving.config import LoggingConfig
from serving.sight import observation
from serving.sight.watching import OK, Ended

_LOG = logging.getLogger("aisle.calls")
_TEXT: Final = "%(asctime)s %(name)s: %(message)s"
# Statuses that are the caller's business; others are logged whatever the share.
_USUAL: Final = frozenset((OK, "INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "PERMISSION_DENIED"))  # fmt: skip


def configure(config: LoggingConfig | None = None) -> None:
    """Warnings and errors on stderr, one line each, and calls where they are asked for; None: as people read them, before the settings are known."""
    handler = logging.StreamHandler()
    as_json = config is not None and config.format == "json"
    handler.setFormatter(JsonLines() if as_json else logging.Formatter(_TEXT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    _LOG.setLevel(logging.INFO if config is not None and config.calls else logging.WARNING)


class JsonLines(logging.Formatter):
    """One JSON object a line. Of an exception: its kind and where it was, not its text, which may hold what a caller sent."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        call = getattr(record, "call", None)
        line: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": os.getpid(),
        }
        if call is not None:
            return orjson.dumps(line | call).decode()
        line["message"] = record.getMessage()
        one = observation.current()
        if one is not None and one.request_id:
            line["request_id"] = one.request_id
        if record.exc_info and record.exc_info[1] is not None:
            line |= {"error": type(record.exc_info[1]).__name__, "stack": _places(record.exc_info[2])}
        return json.dumps(line, ensure_ascii=False)


class CallLog:
    """One line for calls: a share of them, chosen by their ids, and every one that failed by the server's fault."""

    def __init__(self, share: float) -> None:
        self._share = share

    def __call__(self, call: Ended) -> None:
        """See Report."""
        seen = call.seen
        name = seen.request_id or seen.name()
        if call.code in _USUAL and not event_log.sampled("call", name, self._share):
            return
        line: dict[str, Any] = {
            "request_id": name,
            "rpc": seen.rpc,
            "code": call.code,
            "latency_ms": round(1e3 * call.seconds, 3),
            "wait_ms": round(1e3 * (call.began - call.arrived), 3),
            "tenant": call.tenant,
        }
        if seen.pages:
            first = seen.pages[0]
            line |= {
                "release": first.release,
                "ladder": first.level,
                "degraded": list(first.failures),
                "arm": first.arm,
                "pages": len(seen.pages),
                "items": sum(page.items for page in seen.pages),
            }
        text = " ".join(f"{key}={value}" for key, value in line.items())
        _LOG.info("%s", text, extra={"call": line})


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)]
