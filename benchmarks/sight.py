"""Every panel of the dashboard and every alert, against a real Prometheus that scrapes a real load.

    python -m benchmarks.sight [--release WORK/releases/current] [--seconds 20] [--drills]

A server of two workers with a durable Redis of its own is asked for pages of all kinds, takes events, changes of the catalog and a swap, and has an
experiment with a release and a shadow; Redis is frozen for a moment, so that something fails. Prometheus (Debian: prometheus) scrapes it every second with
deploy/prometheus/alerts.yaml, and what a night left beside it. Then every expression of deploy/grafana/aisle.json is asked, as Grafana would: `empty`
names those without data. Every alert must evaluate
without an error, and each has a firing drill by promtool (`--drills`: only these). The last line is JSON; exit 1 where something is missing.
"""

# bazel: imports=[cli.*], data=[//deploy:all_files]

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from aisle.v1.catalog_pb2 import Item
from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RankRequest, RecommendRequest, SimilarItemsRequest
from benchmarks.alert_drills import DEPLOY, drilled, drills, promtool
from benchmarks.fault_place import OwnRedis, copied, given_or_small, load_state
from core.errors import AisleError, EnvironmentGapError
from pipeline.night_metrics import path_of, write
from pipeline.served import Served
from serving.client import Client
from serving.release import Release
from serving.tether import tied

_VARIABLES: Final = {"$__rate_interval": "10s", "$__range": "5m", "$tenant": ".*", "$instance": ".*"}
_NIGHT: Final = {
    "stages": {"prepare": {"seconds": 61.0, "skipped": False}, "evaluate": {"seconds": 0.1, "skipped": True}},
    "gates": [{"gate": "floor", "passed": True}],
}
_RULE: Final = {"rules": [{"name": "plenty", "kind": "cap", "by": "category", "most": 400}]}
_TRIAL: Final = """\
name: trial
owner: benchmark
hypothesis: none
arms:
  usual: {}
  other: {release: other}
  beside: {release: other, shadow: 1.0}
control: usual
primary: {name: buys, events: [purchase-complete]}
"""


class Prometheus:
    """A real one on a port of its own."""

    def __init__(self, folder: Path, targets: dict[str, str]) -> None:
        """`targets`: HOST:PORT of each job."""
        jobs = [{"job_name": job, "static_configs": [{"targets": [at]}]} for job, at in targets.items()]
        rules = str(DEPLOY / "prometheus" / "alerts.yaml")
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump({"global": every, "rule_files": [rules], "scrape_configs": jobs}))
        program = shutil.which("prometheus")
        if program is None:
            raise EnvironmentGapError("no Prometheus here: apt-get install prometheus")
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        self._running = subprocess.Popen(
            tied([*command, "--web.listen-address=127.0.0.1:0"]), stderr=subprocess.PIPE, text=True
        )
        assert self._running.stderr is not None
        said = []
        for line in self._running.stderr:
            said.append(line)
            found = re.search(r'msg="Listening on" .*address=(\S+)', line)
            if found:
                self._at = f"http://{found[1]}"
                break
        else:
            raise AisleError(f"Prometheus ended: {' '.join(said[-3:])}")
        # it goes on talking, and must not wait for a reader
        threading.Thread(target=self._running.stderr.read, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._running.terminate()
        self._running.wait(30)

    def values(self, expr: str) -> list[float]:
        """What an expression gives now."""
        found = self._get("query", query=expr)["result"]
        return [float(one["value"][1]) for one in found]

    def rules(self) -> list[dict[str, Any]]:
        """The alerts, as it evaluates them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **asked: str) -> Any:
        url = f"{self._at}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def night(folder: Path) -> Iterator[str]:
    """What a night left, at HOST:PORT/metrics, as node_exporter would say it."""
    folder.mkdir()
    write(folder, "published", 62.0, _NIGHT)
    shutil.copy(path_of(folder), folder / "metrics.txt")

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return super().translate_path("/metrics.txt" if path == "/metrics" else path)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Load:
    """Calls of all kinds to one server."""

    def __init__(self, address: str, release: Release, users: list[str]) -> None:
        self._address, self._users = address, users
        self._items = [i for i in release.item_ids.texts if i][:20]
        self.calls = 0

    def round(self) -> None:
        """One of each kind, over a connection of its own, so that every worker gets some."""
        with Client(self._address, timeout=30) as ask:
            for user in self._users[:5]:
                ask.recommend(RecommendRequest(user_id=user, session_id=f"s{self.calls}", page_size=10))
                self.calls += 1
            ask.recommend(RecommendRequest(page_size=5, min_score=0.01))
            ask.rank(RankRequest(user_id=self._users[0], item_ids=self._items[:3]))
            ask.similar(SimilarItemsRequest(item_ids=self._items[:1]))
            event = Event(event_type="purchase-complete", item_id=self._items[0], user_id=self._users[0])
            ask.write_events([event])
            with contextlib.suppress(AisleError):
                ask.recommend(RecommendRequest(page_size=9999))
            self.calls += 5

    def once(self, path: Path) -> None:
        """What is done once: a change of the catalog, a swap."""
        with Client(self._address, timeout=60) as ask:
            ask.upsert_items([Item(item_id="brand-new", title="a thing")])
            ask.load_release(str(path))


def panels() -> dict[str, list[str]]:
    """Expressions of every panel of the dashboard, variables filled in."""

    def filled(expr: str) -> str:
        for name, value in _VARIABLES.items():
            expr = expr.replace(name, value)
        return expr

    found = json.loads((DEPLOY / "grafana" / "aisle.json").read_text())["panels"]
    return {p["title"]: [filled(t["expr"]) for t in p["targets"]] for p in found if p["type"] != "row"}


def watched(release: Path, seconds: float) -> dict[str, Any]:
    """The load, and what Prometheus then says to every panel and alert."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-sight-")))
        work = copied(release, folder / "work")
        redis = OwnRedis(folder / "redis", folder)
        stack.callback(redis.stop)
        redis.start()
        users = load_state(work, redis.url)
        (folder / "rules").mkdir()
        (folder / "rules" / "shop.yaml").write_text(yaml.safe_dump(_RULE))
        shutil.copytree(work.current, work.current.parent / "other")
        (folder / "experiments").mkdir()
        (folder / "experiments" / "trial.yaml").write_text(_TRIAL)
        config = folder / "serving.yaml"
        config.write_text(yaml.safe_dump({"exploration": {"share": 0.5}}))
        more = ["--redis", redis.url, "--rules", folder / "rules", "--experiments", folder / "experiments"]
        more += ["--config", config, "--metrics", "127.0.0.1:0"]
        served = stack.enter_context(Served(work.current, "--workers", 2, *more))
        left = stack.enter_context(night(folder / "night"))
        with Client(served.address) as ask:
            at = ask.metrics_at()
        prometheus = Prometheus(folder, {"aisle": at, "night": left})
        stack.callback(prometheus.stop)
        load = Load(served.address, Release.open(work.current), users)
        start, frozen = time.monotonic(), False
        while time.monotonic() < start + seconds:
            load.round()
            if not frozen and time.monotonic() > start + seconds / 2:
                redis.send(signal.SIGSTOP)
                load.round()
                redis.send(signal.SIGCONT)
                load.once(work.current)
                frozen = True
        return {"calls": load.calls, **_said(prometheus, panels())}


def _said(prometheus: Prometheus, asked: dict[str, list[str]]) -> dict[str, Any]:
    empty = {}
    for title, exprs in asked.items():
        without = [e for e in exprs if not any(math.isfinite(v) for v in prometheus.values(e))]
        if without:
            empty[title] = without
    rules = prometheus.rules()
    return {
        "panels": len(asked),
        "expressions": sum(map(len, asked.values())),
        "empty": empty,
        "alerts": len(rules),
        "alerts_in_error": {r["name"]: r.get("lastError", "") for r in rules if r["health"] != "ok"},
        "alerts_active": sorted({r["name"] for r in rules if r["alerts"]}),
    }


def drilled_all() -> dict[str, Any]:
    """Every drill; the words of promtool for those that fail."""
    if not promtool():
        raise EnvironmentGapError("no promtool here: apt-get install prometheus")
    with tempfile.TemporaryDirectory(prefix="aisle-drills-") as folder:
        said = {name: drilled(name, Path(folder)) for name in drills()}
    return {"drills": len(said), "drills_failed": {name: words for name, words in said.items() if words}}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--drills", action="store_true", help="only the drills")
    a = parser.parse_args()
    found = drilled_all()
    if not a.drills:
        with given_or_small(a.release) as release:
            found |= watched(release, a.seconds)
    print(json.dumps(found))
    bad = ("drills_failed", "empty", "alerts_in_error")
    sys.exit(int(any(found.get(name) for name in bad)))


if __name__ == "__main__":
    main()
