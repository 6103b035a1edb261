"""Many experiments at once: a request is in exactly those whose own split takes its unit, in the order of their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from aisle.v1.recommender_pb2 import RecommendRequest
from core.schema import SECOND
from experiments.files import load_experiments
from serving.config import ServingConfig
from serving.experiments import LiveExperiments
from serving.tally import Tally

FILE = """\
name: {name}
owner: ann
hypothesis: h
arms: {{a: {{}}, b: {{}}}}
control: a
primary: {{name: buys, events: [purchase-complete]}}
{more}
"""
SHOP = {
    "e1": "layer: one\ntraffic: {first: 0, share: .3}\nforced: {u7: b, v9: a}",
    "e2": "layer: two\ntraffic: {share: .5}\neligible: {placements: [home]}\nstart: 1969-12-31T00:00:00",
    "e3": "layer: one\ntraffic: {first: .3, share: .1, ramp: [{at: 1970-01-01T00:00:10, share: .4}]}",
    "e4": "layer: three\nholdout: .5",
    "e5": "layer: one\ntraffic: {first: .7, share: .3}\nunit: visitor",
    "e6": "layer: two\ntraffic: {first: .5, share: .5}\neligible: {labels: {country: [DE]}}",
    "e7": "layer: two\ntraffic: {first: 0, share: .5}\nend: 1969-12-31T00:00:00",
    "e8": "layer: two\nenabled: false",
}


@pytest.mark.parametrize("now", [0, 20 * SECOND])
@pytest.mark.parametrize("labels", [{}, {"country": "DE"}])
def test_a_request_is_in_those_that_take_its_unit(
    tmp_path: Path, config: ServingConfig, now: int, labels: dict[str, str]
) -> None:
    for name, more in SHOP.items():
        (tmp_path / f"{name}.yaml").write_text(FILE.format(name=name, more=more))
    live = LiveExperiments(config.with_experiments(tmp_path).experiments, "default", Tally(), lambda: now)
    written = load_experiments(tmp_path)
    met = set()
    for n in range(400):
        request = RecommendRequest(user_id=f"u{n}", visitor_id=f"v{n}", placement="home", labels=labels)
        expected = [
            one
            for w in written
            if w.experiment.runs(now)
            and w.experiment.is_at("home", "default")
            and w.experiment.wants(labels)
            and (one := w.split.assign(request.visitor_id if w.experiment.unit == "visitor" else request.user_id, now))
        ]
        assert list(live.of(request, now).assignments) == expected
        met |= {(a.experiment, a.forced) for a in expected}
    always = {("e1", False), ("e1", True), ("e2", False), ("e3", False), ("e4", False), ("e5", False)}
    assert met == always | ({("e6", False)} if labels else set())
