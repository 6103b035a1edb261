"""The benchmark of rules runs, and what it measures is a stage that does something."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import rules as benchmark
from core.history import Query
from serving.rules.arrange import arrange
from serving.rules.bound import bound


def test_it_prints_its_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rules", "--items", "5000", "--rounds", "3"])
    benchmark.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["items"], found["candidates"], found["rules"]) == (5000, 500, 15)
    assert found["stage"]["page_24"]["cpu_p99_ms"] >= found["stage"]["page_24"]["cpu_p50_ms"] > 0
    assert set(found["mask_ms"]) == set(benchmark._FILTERS)


def test_every_rule_of_it_is_in_force() -> None:
    release = benchmark.made_shop(5000)
    every = bound(benchmark.rules_of(), release, benchmark._END)
    assert not every.problems
    assert (len(every.movers), len(every.pins), len(every.caps), len(every.sponsors), len(every.gates)) == (
        7,
        2,
        3,
        1,
        1,
    )
    line = np.arange(500, dtype=np.int32)
    page = arrange(every, Query(benchmark._END), line, 500, 24).page
    assert (page[0], page[4]) == (17, 23)  # pinned
    assert page.tolist() != list(range(24))
