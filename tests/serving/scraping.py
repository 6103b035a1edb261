"""Reading the metrics of a server in a test."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from serving.client import Client


def metrics_of(address: str) -> str:
    """HOST:PORT of the metrics of the server at `address`."""
    with Client(address, timeout=20) as ask:
        return ask.metrics_at()


class Scrape:
    """What a scrape said."""

    def __init__(self, at: str) -> None:
        with urllib.request.urlopen(f"http://{at}/metrics", timeout=20) as answer:
            self.text = answer.read().decode()
        self.families = list(text_string_to_metric_families(self.text))
        self.samples = [s for family in self.families for s in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of that name with these labels; 0 where there is none."""
        return sum(s.value for s in self.samples if s.name == name and _has(s.labels, labels))

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label."""
        return {s.labels[label] for s in self.samples if s.name == name}


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
