"""What a shop of so many items and requests needs, computed from measured figures: cores, hosts, memory, shards, dollars.

    python -m benchmarks.cost_model                                     the table of docs/scaling.md
    python -m benchmarks.cost_model --items 2e7 --requests 500 --people 3e6
    python -m benchmarks.cost_model --figures MY.yaml                   from your own measurements and prices

Measured figures and assumptions are kept apart in benchmarks/figures.yaml, each with its source or its reason. The model is arithmetic on them and claims
no more: beyond ten million items, and beyond one host, nothing was measured.
"""

# bazel: data=[//benchmarks:all_files]

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from core.errors import InputError

FIGURES: Final = Path(__file__).parent / "figures.yaml"
ITEMS: Final = (10_000_000, 100_000_000, 1_000_000_000)
REQUESTS: Final = (1_000, 10_000, 100_000)
_LARGEST_MEASURED: Final = 10_000_000  # items in one index; more are dealt to shards of at most so many
_IN_A_BYTE: Final = 4_000_000  # from so many on an index keeps a byte a component (configs/pipeline.yaml, index.kinds)
_GB: Final = 1e9


class Figures(NamedTuple):
    """The file: what was measured, with what each was measured at, and what is assumed."""

    measured: dict[str, float]
    at: dict[str, float]
    assumed: dict[str, float]


@dataclass(frozen=True)
class Need:
    """What it takes."""

    items: int
    requests_per_second: int
    people: int
    shards: int  # of the items; each request asks all
    cpu_ms: float  # of a request, all shards together
    cores: int  # that answer, with what is spare
    hosts: int
    items_gb: float  # one copy of all shards: mapped files, as far as requests touch them, shared by a host's workers
    hosts_by: str  # "cores" or "memory": what asked for so many; for memory every shard is there twice
    redis_gb: float
    night_core_hours: float  # to prepare a day of events
    index_minutes: float  # to build each shard's index, shards side by side
    dollars_a_month: float


def read(path: Path) -> Figures:
    """Read the file.

    Raises:
        InputError: if it is not YAML, or a figure lacks its value, or its source or reason.
    """
    try:
        whole = yaml.safe_load(path.read_text())
        for part, said in (("measured", "source"), ("assumed", "why")):
            for name, figure in whole[part].items():
                if not isinstance(figure.get("value"), int | float) or not figure.get(said):
                    raise InputError(
                        f"{path}: {part}.{name}: expected `value`, a number, and `{said}`, where it is from"
                    )
    except (yaml.YAMLError, KeyError, AttributeError, TypeError, FileNotFoundError) as e:
        raise InputError(f"{path}: expected the keys of {FIGURES.name}, `measured` and `assumed` ({e})") from None
    values = {part: {n: float(f["value"]) for n, f in whole[part].items()} for part in ("measured", "assumed")}
    at = {n: float(f["at_items"]) for n, f in whole["measured"].items() if "at_items" in f}
    return Figures(values["measured"], at, values["assumed"])


def need(items: int, requests: int, people: int, figures: Figures) -> Need:
    """What so many items, requests a second and people take.

    A shard searches its own items and the gatherer unites the answers, so that a request costs one search a shard and everything else once. A search grows
    with `search_growth` of the items between what was measured and the shard's size.
    """
    m, a = figures.measured, figures.assumed
    shards = math.ceil(items / _LARGEST_MEASURED)
    each = items / shards
    search = m["search_cpu_ms"] * (each / figures.at["search_cpu_ms"]) ** a["search_growth"]
    cpu = m["request_cpu_ms"] - m["search_cpu_ms"] + shards * search
    cores = math.ceil(requests * cpu / 1e3 / a["utilisation"] * a["spare"])
    of_item = (m["worker_pss_gb"] - m["worker_base_gb"]) / figures.at["worker_pss_gb"]
    if each > _IN_A_BYTE:
        of_item -= (m["bytes_a_vector_flat"] - m["bytes_a_vector_sq8"]) / _GB
    of_items, of_workers = items * of_item, a["cores_a_host"] * m["worker_base_gb"]
    copies = math.ceil(a["spare"])
    asked = {
        "cores": math.ceil(cores / a["cores_a_host"]),
        "memory": copies * math.ceil(of_items / (a["host_memory_gb"] - of_workers)),
    }
    hosts = max(asked.values())
    redis = people * m["redis_bytes_a_person"] / _GB
    month = a["month_hours"] * (hosts * a["cores_a_host"] * a["core_hour"] + 2 * redis * a["redis_gb_hour"])
    night = people * a["events_a_person_a_day"] / m["prepare_events_per_second"] * 2 / 3600
    return Need(
        items=items,
        requests_per_second=requests,
        people=people,
        shards=shards,
        cpu_ms=round(cpu, 2),
        cores=cores,
        hosts=hosts,
        items_gb=round(of_items, 1),
        hosts_by=next(what for what, n in asked.items() if n == hosts),
        redis_gb=round(redis, 1),
        night_core_hours=round(night, 1),
        index_minutes=round(m["index_build_s"] * each / figures.at["index_build_s"] / 60, 1),
        dollars_a_month=float(round(month, -2)),
    )


def table(needs: list[Need]) -> str:
    """Markdown."""
    head = "| items | requests/s | shards | CPU ms a request | cores | hosts | set by | GB of items | $ a month |"
    rows = [
        f"| {n.items / 1e6:,g}M | {n.requests_per_second:,} | {n.shards} | {n.cpu_ms:.2f} | {n.cores:,} | {n.hosts:,} "
        f"| {n.hosts_by} | {n.items_gb:g} | {n.dollars_a_month:,.0f} |"
        for n in needs
    ]
    return "\n".join([head, "|" + "---|" * 9, *rows])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=float, nargs="+", default=ITEMS)
    parser.add_argument("--requests", type=float, nargs="+", default=REQUESTS, help="a second")
    parser.add_argument("--people", type=float, help="in Redis; default: the file's")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    return parser.parse_args()


def main() -> None:
    """See the module."""
    given = _arguments()
    figures = read(given.figures)
    people = int(given.people or figures.assumed["people"])
    needs = [need(int(i), int(r), people, figures) for i in given.items for r in given.requests]
    print(table(needs))
    result: list[dict[str, Any]] = [asdict(n) for n in needs]
    print(json.dumps({"needs": result}))


if __name__ == "__main__":
    main()
