"""OpenTelemetry traces over OTLP/HTTP: a span for each sampled call and one for each stage of its pages.

A call whose caller sent `traceparent` (W3C Trace Context) is traced if and only if the caller traces it; of the others a share is. Spans are made when
the call is over, so what is not sampled costs nothing.
"""

from __future__ import annotations

import random
import re
from typing import Any, Final

from serving.config import TracesConfig
from serving.sight.watching import OK, Ended

_PARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = 1


class Traces:
    """Makes the spans of one process and sends them in batches, from a thread of its own."""

    def __init__(self, config: TracesConfig) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._share = config.share
        self._provider = TracerProvider(resource=Resource.create({"service.name": "aisle"}))
        exporter = OTLPSpanExporter(endpoint=config.endpoint, timeout=config.timeout_seconds)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aisle")

    def stop(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def __call__(self, call: Ended) -> None:
        """See Report."""
        parent = parent_of(call.seen.traceparent)
        if parent is None:
            if random.random() >= self._share:
                return
        elif not parent[2] & _SAMPLED:
            return
        self._trace(call, parent)

    def _trace(self, call: Ended, parent: tuple[int, int, int] | None) -> None:
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind, Status, StatusCode

        zero = call.at - call.ended  # seconds since the epoch where perf_counter is 0

        def at(moment: float) -> int:
            return round(1e9 * (zero + moment))

        above: Any = trace.set_span_in_context(trace.INVALID_SPAN)
        if parent is not None:
            known = trace.SpanContext(parent[0], parent[1], is_remote=True, trace_flags=trace.TraceFlags(_SAMPLED))
            above = trace.set_span_in_context(trace.NonRecordingSpan(known))
        span = self._tracer.start_span(
            call.seen.rpc,
            above,
            kind=SpanKind.SERVER,
            start_time=at(call.arrived),
            attributes={
                "rpc.system": "grpc",
                "rpc.method": call.seen.rpc,
                "rpc.grpc.status_code": call.code,
                "aisle.request_id": call.seen.request_id,
                "aisle.tenant": call.tenant,
            },
        )
        within = trace.set_span_in_context(span)
        self._tracer.start_span("wait", within, start_time=at(call.arrived)).end(at(call.began))
        for page in call.seen.pages:
            about: dict[str, Any] = {
                "aisle.request_id": page.request_id,
                "aisle.release": page.release,
                "aisle.level": page.level,
                "aisle.candidates": page.candidates,
                "aisle.degraded": page.failures,
            }
            for name, begin, end in page.watch.ends:
                self._tracer.start_span(name, within, start_time=at(begin), attributes=about).end(at(end))
        if call.code != OK:
            span.set_status(Status(StatusCode.ERROR, call.code))
        span.end(at(call.ended))


def parent_of(traceparent: str) -> tuple[int, int, int] | None:
    """Trace id, span id and flags of a traceparent; None where it is none.

    >>> parent_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")[2], parent_of("00-xyz")
    (1, None)
    """
    found = _PARENT.fullmatch(traceparent)
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return None
    return int(found[1], 16), int(found[2], 16), int(found[3], 16)
