"""Answers Prometheus: /metrics over HTTP, from the snapshots of one process or of all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from core.errors import InputError
from serving.sight.metric_list import METRICS, Kind, Metric
from serving.sight.snapshot import Gauge, Snapshot, by_tenant
from serving.tally import Labels, edges_of

Snapshots = Callable[[], Sequence[Snapshot]]
_CUMULATED_FIRST: Final = 1  # a histogram's first number is its sum


class Exporter:
    """Serves /metrics on HOST:PORT until it is stopped."""

    def __init__(self, listen: str, snapshots: Snapshots, of_server: Callable[[], list[Gauge]] = list) -> None:
        """`of_server`: gauges of the whole server, beside those of its workers.

        Raises:
            InputError: It cannot listen there.
        """
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.registry import Collector

        class Ours(Collector):
            def collect(self) -> Iterator[Any]:
                return families(snapshots(), of_server())

            def describe(self) -> Iterable[Any]:  # so that registering does not collect
                return ()

        registry = CollectorRegistry()
        registry.register(Ours())
        host, port = parse_address(listen)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as e:
            raise InputError(f"--metrics {listen}: cannot listen there: {e.strerror or e}") from None
        self.address = f"{host}:{self._server.server_port}"

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Family(Protocol):
    def add_metric(self, labels: Sequence[str], value: Any) -> None: ...


def families(snapshots: Sequence[Snapshot], of_server: Sequence[Gauge] = ()) -> Iterator[Any]:
    """The families of METRICS that have a value, for prometheus_client to write."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    sums = by_tenant(snapshots)
    for metric in METRICS:
        labels = (*metric.labels, "tenant")
        if metric.kind is Kind.COUNTER:
            counter = CounterMetricFamily(metric.name, metric.meaning, labels=labels)
            for tenant, one in sums.items():
                for key, n in one.counts.get(metric.source, {}).items():
                    counter.add_metric((*key, tenant), n)
            yield counter
        elif metric.kind is Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=labels)
            for tenant, one in sums.items():
                for key, values in one.times.get(metric.source, {}).items():
                    histogram.add_metric((*key, tenant), _cumulated(metric.source, values), values[0])
            yield histogram
        else:
            gauge = GaugeMetricFamily(metric.name, metric.meaning, labels=(*labels, "worker"))
            for key, value, tenant, worker in _gauges(metric, snapshots, of_server):
                gauge.add_metric((*key, tenant, worker), value)
            yield gauge


def _gauges(
    metric: Metric, snapshots: Sequence[Snapshot], of_server: Sequence[Gauge]
) -> Iterator[tuple[Labels, float, str, str]]:
    for one in snapshots:
        if metric.name == "aisle_worker_up":
            yield (), float(one.fresh), one.tenant, one.worker
        elif one.fresh:  # what a process said that is gone holds no more; what it counted does
            for name, key, value in one.gauges:
                if name == metric.source:
                    yield key, value, one.tenant, one.worker
    for name, key, value in of_server:
        if name == metric.source:
            yield key, value, snapshots[0].tenant if snapshots else "", ""


def _cumulated(name: str, values: list[float]) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for edge, n in zip([*map(str, edges_of(name)), "+Inf"], values[_CUMULATED_FIRST:], strict=True):
        total += n
        buckets.append((edge, total))
    return buckets


def parse_address(listen: str) -> tuple[str, int]:
    """HOST and PORT.

    >>> parse_address("127.0.0.1:9464")
    ('127.0.0.1', 9464)
    """
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise InputError(f"--metrics {listen}: expected HOST:PORT, such as 127.0.0.1:9464; port 0 picks one")
    return host.strip("[]"), int(port)
