"""Every metric of the service: its name, kind, labels and meaning. The exporter, docs/metrics.md, the dashboard and the alerts are held against this table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

METRICS_AT: Final = "x-aisle-metrics"  # metadata of GetStatus: HOST:PORT of this server's metrics


class Kind(StrEnum):
    """As Prometheus names them."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True)
class Metric:
    """One family of series."""

    name: str
    kind: Kind
    labels: tuple[str, ...]  # besides `tenant`, which all have, and of gauges of a process `worker`
    meaning: str
    source: str = ""  # its name in the tally; of gauges: as they are reported


def _counter(source: str, name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"aisle_{name}_total", Kind.COUNTER, labels, meaning, source)


def _histogram(source: str, name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"aisle_{name}", Kind.HISTOGRAM, labels, meaning, source)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"aisle_{name}", Kind.GAUGE, labels, meaning, name)


METRICS: Final[tuple[Metric, ...]] = (
    _histogram(
        "calls",
        "request_seconds",
        ("rpc", "code"),
        "calls by method and gRPC status: from arrival, the wait for a thread included, until the answer is made",
    ),
    _histogram(
        "stages",
        "stage_seconds",
        ("rpc", "stage"),
        "what the time went to: `wait` for a thread, `hydrate`, `turn` to compute, `recommend` and within it `gather`, `rank`, `page`; `reasons`",
    ),
    _counter(
        "answers", "answers", ("rpc", "level", "release", "arm"), "pages answered, by rung of the fallback ladder"
    ),
    _counter("degraded", "degraded", ("reason",), "what pages did without (serving/failures.py); a page may lack two"),
    _counter("proposed", "candidates_proposed", ("source",), "candidates that a source proposed"),
    _counter("kept", "page_items", ("source",), "items on pages, by the source that speaks most for each"),
    _counter("removed", "candidates_removed", ("reason",), "candidates that are not on the page, by why"),
    _histogram("candidates", "candidates", (), "candidates of a page, all sources together"),
    _counter("exploration", "explored", ("kind",), "pages of which something was left to chance"),
    _counter("events", "events", ("outcome",), "events written: accepted, duplicate; spooled ones are accepted too"),
    _counter("pages", "log_pages", ("outcome",), "pages for the log of recommendations: logged, dropped"),
    _counter("shadows", "shadow_copies", ("arm", "outcome"), "copies for shadows: copied, dropped, failed"),
    _histogram("shadow_seconds", "shadow_seconds", ("arm",), "how long a copy took"),
    _histogram("redis", "redis_read_seconds", ("outcome",), "reads of Redis for answers: ok, or the failure"),
    _histogram("swaps", "release_swap_seconds", ("outcome",), "LoadRelease: ok, refused"),
    _gauge("ready", "1 while requests are answered"),
    _gauge("start_time_seconds", "when the process started, seconds since the epoch"),
    _gauge("requests_running", "calls that a thread answers now"),
    _gauge("threads_serving", "calls that may be answered at once (server.threads)"),
    _gauge("release_info", "1 for the release that answers", "release"),
    _gauge("release_window_end_seconds", "end of the data that the release knows, seconds since the epoch"),
    _gauge("release_loaded_seconds", "when it began to answer, seconds since the epoch"),
    _gauge("release_intact", "0 when a check found the release damaged on disk"),
    _gauge("items", "items of the release that may be shown"),
    _gauge("redis_up", "0 while reads of Redis fail"),
    _gauge("redis_paused", "1 while requests do not wait for Redis because it failed several times in a row"),
    _gauge("spool_bytes", "events on this process's disk that wait for Redis"),
    _gauge("trending_items", "items that trend"),
    _gauge("trending_age_seconds", "since the stream of events was last read to its end"),
    _gauge("catalog_up", "0 while the catalog's log cannot be written; absent without one"),
    _gauge("catalog_sequence", "number of the newest change that answers heed"),
    _gauge("catalog_items", "items by what the log says of them: new, changed, deleted, waiting", "state"),
    _gauge("catalog_log_bytes", "size of the log"),
    _gauge("rules", "rules of the shop by state: on, off (the release does not fit them)", "state"),
    _gauge("rules_readable", "0 while the newest files of rules are not in use because they are wrong"),
    _gauge("arm_open", "0 while the release of an arm of a running experiment is not open", "experiment", "arm"),
    _gauge("experiment_stopped", "1 for an experiment that a server stopped by itself", "experiment", "arm", "guard"),
    _gauge("memory_bytes", "memory of the process by kind: resident, anonymous (no page of a file)", "kind"),
    _gauge("cpu_seconds", "CPU time of the process, user and system (ever rising)"),
    _gauge("worker_up", "1 for a worker that runs and says so within ten seconds"),
    _gauge("worker_restarts", "workers that ended and were started again since the start (of the whole server)"),
)

# Written by `nightly` for node_exporter's textfile collector.
NIGHT_METRICS: Final[tuple[Metric, ...]] = (
    _gauge("nightly_last_run_seconds", "when the last run ended, however; seconds since the epoch"),
    _gauge("nightly_last_success_seconds", "when a run last published or found all as it was; seconds since the epoch"),
    _gauge("nightly_duration_seconds", "of the last run"),
    _gauge("nightly_outcome", "1 for what became of the last run: published, refused (by a gate), failed", "outcome"),
    _gauge("nightly_stage_seconds", "of each stage of the last run", "stage"),
    _gauge("nightly_stage_skipped", "1 for a stage whose artifact was there before", "stage"),
    _gauge("nightly_gate_passed", "0 for a gate that refused", "gate"),
)
