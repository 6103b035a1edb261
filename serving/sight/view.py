"""What `top` shows: two scrapes of a server become rates, latencies and shares of the time between them."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from core.errors import AisleError, InputError

_QUANTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}


class NoMetricsError(AisleError):
    """Nothing answers where the metrics should be."""

    grpc_status = "UNAVAILABLE"


@dataclass(frozen=True)
class Series:
    """All series of one scrape."""

    at: float  # time.monotonic
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def by(self, name: str, label: str, **only: str) -> dict[str, float]:
        """Sums by one label, of the series with these other labels."""
        found: dict[str, float] = defaultdict(float)
        for (one, labels), value in self.values.items():
            if one == name:
                of = dict(labels)
                if all(of.get(k) == v for k, v in only.items()):
                    found[of.get(label, "")] += value
        return dict(found)

    def since(self, before: Series) -> Series:
        """What was added since `before`, never less than nothing."""
        return Series(self.at, {key: max(0.0, v - before.values.get(key, 0.0)) for key, v in self.values.items()})


def scraped(url: str) -> Series:
    """The series at a URL such as http://127.0.0.1:9464/metrics.

    Raises:
        InputError: It is no URL.
        NoMetricsError: Nothing answers there, or nothing of ours.
    """
    from prometheus_client.parser import text_string_to_metric_families

    if not url.startswith(("http://", "https://")):
        raise InputError(f"--metrics {url}: expected a URL such as http://127.0.0.1:9464/metrics")
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise NoMetricsError(f"{url}: no metrics there ({e}); `./aisle serve --metrics HOST:PORT` has them") from None
    return Series(time.monotonic(), {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples})


def frame(now: Series, before: Series | None) -> dict[str, Any]:
    """What to show of the time between two scrapes; without one before, of all time since the start."""
    gone = now if before is None else now.since(before)
    seconds = now.at - before.at if before is not None else _up_seconds(now)
    calls = gone.by("aisle_request_seconds_count", "rpc")
    failed = gone.by("aisle_request_seconds_count", "code")
    answered = sum(gone.by("aisle_answers_total", "level").values())
    return {
        "seconds": round(seconds, 1),
        "workers": len([v for v in now.by("aisle_worker_up", "worker").values() if v]),
        "calls": {rpc: {"rate": _rate(n, seconds), **_latency(gone, rpc)} for rpc, n in sorted(calls.items()) if n},
        "errors": {code: _rate(n, seconds) for code, n in sorted(failed.items()) if n and code != "OK"},
        "stages": {stage: _quantile(gone, "aisle_stage_seconds", 0.99, stage=stage) for stage in _stages(gone)},
        "levels": _shares(gone.by("aisle_answers_total", "level"), answered),
        "sources": _shares(gone.by("aisle_page_items_total", "source")),
        "degraded": _shares(gone.by("aisle_degraded_total", "reason"), answered),
        "arms": _shares({arm: n for arm, n in gone.by("aisle_answers_total", "arm").items() if arm}, answered),
        "releases": _shares(gone.by("aisle_answers_total", "release"), answered),
        "answering": sorted(release for release, n in now.by("aisle_release_info", "release").items() if n),
        "events": {what: _rate(n, seconds) for what, n in gone.by("aisle_events_total", "outcome").items()},
        "redis_up": all(now.by("aisle_redis_up", "worker").values()),
        "memory_mb": round(sum(now.by("aisle_memory_bytes", "worker", kind="resident").values()) / 1e6, 1),
    }


def _up_seconds(now: Series) -> float:
    starts = [s for s in now.by("aisle_start_time_seconds", "worker").values() if s]
    return max(0.001, time.time() - min(starts)) if starts else 1.0


def _rate(n: float, seconds: float) -> float:
    return round(n / max(seconds, 1e-3), 2)


def _shares(counts: Mapping[str, float], of: float | None = None) -> dict[str, float]:
    """Of `of`, else of all; the largest first."""
    total = sum(counts.values()) if of is None else of
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return {name: round(n / total, 4) for name, n in ordered if n and total}


def _stages(gone: Series) -> list[str]:
    return sorted(s for s, n in gone.by("aisle_stage_seconds_count", "stage", rpc="Recommend").items() if n)


def _latency(gone: Series, rpc: str) -> dict[str, float | None]:
    return {name: _quantile(gone, "aisle_request_seconds", q, rpc=rpc) for name, q in _QUANTILES.items()}


def _quantile(gone: Series, name: str, q: float, **only: str) -> float | None:
    """Milliseconds; see `quantile`."""
    buckets = gone.by(f"{name}_bucket", "le", **only)
    found = quantile(sorted((float(edge), n) for edge, n in buckets.items()), q)
    return None if found is None else round(1e3 * found, 2)


def quantile(buckets: list[tuple[float, float]], q: float) -> float | None:
    """As Prometheus's histogram_quantile: linear within the bucket that holds it; None where there is nothing.

    `buckets`: upper edge and how many lie at or below it, ascending, the last edge infinite.

    >>> quantile([(1.0, 10.0), (2.0, 30.0), (float("inf"), 30.0)], 0.5)
    1.25
    """
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return None
    rank, below, under = q * total, 0.0, 0.0
    for edge, n in buckets:
        if n >= rank:
            if edge == float("inf"):
                return under  # as much as is known
            return under + (edge - under) * ((rank - below) / (n - below) if n > below else 1.0)
        below, under = n, edge
    return under
