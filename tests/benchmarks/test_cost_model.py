"""The arithmetic of the cost model, by hand and by what must hold whatever the figures."""

# bazel: data=[//docs:all_files]

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cost_model import FIGURES, Figures, need, read, table
from core.errors import InputError

SIMPLE = Figures(
    measured={
        "request_cpu_ms": 5.0,
        "search_cpu_ms": 1.0,
        "worker_pss_gb": 1.1,
        "worker_base_gb": 0.1,
        "bytes_a_vector_flat": 400.0,
        "bytes_a_vector_sq8": 200.0,
        "redis_bytes_a_person": 1000.0,
        "prepare_events_per_second": 50_000.0,
        "index_build_s": 6.0,
    },
    at={"search_cpu_ms": 1e6, "worker_pss_gb": 1e6, "index_build_s": 1e6},
    assumed={
        "utilisation": 0.5,
        "spare": 1.5,
        "search_growth": 0.5,
        "events_a_person_a_day": 5.0,
        "cores_a_host": 10.0,
        "host_memory_gb": 101.0,
        "core_hour": 0.05,
        "redis_gb_hour": 0.02,
        "month_hours": 1000.0,
    },
)


def test_one_shard_by_hand() -> None:
    found = need(4_000_000, 1000, 36_000_000, SIMPLE)
    # four times the items: a search of 2 ms for 1, 6 in all; 6 cores busy, 12 at half load, 18 with half of it spare
    assert (found.shards, found.cpu_ms, found.cores) == (1, 6.0, 18)
    # 1000 bytes an item are 4 GB: one host holds them, two are there. 18 cores are two hosts as well
    assert (found.items_gb, found.hosts, found.hosts_by) == (4.0, 2, "cores")
    assert found.redis_gb == 36.0
    # 180M events at 50,000 a second of two cores: an hour of both
    assert found.night_core_hours == 2.0
    assert found.index_minutes == 0.4  # 24 s
    # 20 cores at .05 and twice 36 GB at .02, for a thousand hours: 1000 + 1440
    assert found.dollars_a_month == 2400.0


def test_many_shards_by_hand() -> None:
    found = need(1_000_000_000, 1, 0, SIMPLE)
    # 100 shards of ten million: each search costs sqrt(10), the rest of the request 4 ms once
    assert found.shards == 100
    assert found.cpu_ms == pytest.approx(4 + 100 * 10**0.5, abs=0.01)
    # vectors in a byte a component: 800 bytes an item are 800 GB; 100 GB a host beside its workers: eight, twice
    assert (found.items_gb, found.hosts, found.hosts_by) == (800.0, 16, "memory")


@given(st.integers(1, 2_000_000_000), st.integers(1, 100_000), st.integers(0, 10**9), st.integers(2, 5))
def test_more_never_takes_less(items: int, requests: int, people: int, times: int) -> None:
    small = need(items, requests, people, SIMPLE)
    assert need(items, requests * times, people, SIMPLE).cores >= small.cores
    assert need(items, requests, people * times, SIMPLE).redis_gb >= small.redis_gb
    assert small.hosts * SIMPLE.assumed["cores_a_host"] >= small.cores


def test_the_file_says_where_each_figure_is_from(tmp_path: Path) -> None:
    figures = read(FIGURES)
    assert set(SIMPLE.measured) == set(figures.measured)
    assert set(SIMPLE.assumed) | {"people"} == set(figures.assumed)
    whole = yaml.safe_load(FIGURES.read_text())
    del whole["measured"]["request_cpu_ms"]["source"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(whole))
    with pytest.raises(InputError, match=r"measured\.request_cpu_ms: expected `value`, a number, and `source`"):
        read(tmp_path / "mine.yaml")
    (tmp_path / "none.yaml").write_text("assumed: {}")
    with pytest.raises(InputError, match=r"expected the keys of figures\.yaml"):
        read(tmp_path / "none.yaml")


def test_the_document_shows_what_the_command_prints() -> None:
    figures = read(FIGURES)
    needs = [
        need(items, requests, int(figures.assumed["people"]), figures)
        for items in (10_000_000, 100_000_000, 1_000_000_000)
        for requests in (1_000, 10_000, 100_000)
    ]
    assert table(needs) in (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
