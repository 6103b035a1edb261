"""What running experiments cost a request: the same requests with none and with many, in turn, in process.

    .venv/bin/python -m benchmarks.experiment_overhead [--experiments 20] [--requests 5000]

`layers`: four layers with an equal share of the experiments in each, so that a request is in four of them. `all`: each experiment has a layer of its own
and takes everybody, so that every request is in all of them: the dearest case. Timed is what serving does for
experiments: to find the arms, to apply them, to write them into the answer, the log's text and the counters (serving/experiments.py).
The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from serving.config import ExperimentsConfig
from serving.experiments import LiveExperiments
from serving.tally import Tally

_FILE = """\
name: {name}
owner: benchmark
hypothesis: none
layer: {layer}
traffic: {{first: {first}, share: {share}}}
eligible: {{placements: [home, product-*]}}
arms: {{usual: {{}}, other: {{settings: {{diversity_level: low-diversity}}}}}}
control: usual
primary: {{name: buys, events: [purchase-complete]}}
"""

_LAYERS = 4


def timed(folder: Path, requests: int) -> list[float]:
    """Microseconds of each request."""
    live = LiveExperiments(ExperimentsConfig(folder=str(folder), refresh_seconds=1), "default", Tally(), lambda: 0)
    found = []
    for n in range(-200, requests):
        request = RecommendRequest(user_id=f"user-{n}", placement="home")
        began = time.perf_counter_ns()
        given = live.of(request, 0)
        given.told(request)
        given.write(RecommendResponse())
        given.said  # noqa: B018 - what the log keeps is made here
        live.count(given, request)
        if n >= 0:
            found.append((time.perf_counter_ns() - began) / 1e3)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--requests", type=int, default=5000)
    a = parser.parse_args()
    figures: dict[str, object] = {"experiments": a.experiments, "requests": a.requests}
    with tempfile.TemporaryDirectory() as place:
        for n, name, layers in (
            (0, "none", 1),
            (1, "one", 1),
            (a.experiments, "layers", _LAYERS),
            (a.experiments, "all", a.experiments),
        ):
            folder = Path(place) / name
            folder.mkdir()
            for at in range(n):
                share = layers / n if n > layers else 1.0
                told = {"layer": f"l{at % layers}", "first": round(at // layers * share, 6), "share": round(share, 6)}
                (folder / f"e{at}.yaml").write_text(_FILE.format(name=f"e{at}", **told))
            us = timed(folder, a.requests)
            figures[name] = {f"p{q}_us": round(float(np.percentile(us, q)), 2) for q in (50, 99)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
