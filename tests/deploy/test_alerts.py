"""Alert rules and dashboard name what there is; every alert fires when it should, and has an entry in the run book."""

# bazel: size=medium, data=[//deploy:all_files, //docs:all_files]

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.alert_drills import ALERTS, DEPLOY, alerts, drilled, drills, promtool
from serving.failures import Failure
from serving.sight.metric_list import METRICS, NIGHT_METRICS, Kind

DOCS = Path(__file__).parent.parent.parent / "docs"
needs_promtool = pytest.mark.skipif(not promtool(), reason="no promtool here (Debian: prometheus)")
# what Prometheus adds to every series, and what a histogram has
USUAL = {"tenant", "instance", "job"}


def series() -> dict[str, set[str]]:
    """Every series that a scrape can have, and its labels."""
    found: dict[str, set[str]] = {"up": set(USUAL)}
    for metric in (*METRICS, *NIGHT_METRICS):
        labels = {*metric.labels, *USUAL}
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}_{end}": labels for end in ("sum", "count")}
            found[f"{metric.name}_bucket"] = labels | {"le"}
        else:
            found[metric.name] = labels | ({"worker"} if metric.kind is Kind.GAUGE else set())
    return found


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "aisle.json").read_text())
    panels = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    return panels + [alert.expr for alert in alerts().values()]


def problems(expr: str) -> list[str]:
    """Names in an expression that no scrape has."""
    known, found = series(), []
    used = re.findall(r"\b(aisle_\w+|up\b)(\{[^}]*\})?", expr)
    for name, selector in used:
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
        found += [name] if name not in known else [f"{name}.{label}" for label in labels if label not in known[name]]
    every = set().union(*(known.get(name, set()) for name, _ in used))
    for names in re.findall(r"(?:by|on|ignoring|without) \(([^)]*)\)", expr):
        found += [name for name in re.split(r",\s*", names) if name not in every]
    return found


@pytest.mark.parametrize("expr", expressions())
def test_what_is_asked_exists(expr: str) -> None:
    assert problems(expr) == []


def test_what_does_not_exist_is_seen() -> None:
    assert problems('rate(aisle_answers_total{levl="warm"}[5m])') == ["aisle_answers_total.levl"]
    assert problems("sum by (levels) (aisle_ready)") == ["levels"]
    assert problems("aisle_redy") == ["aisle_redy"]


def test_every_metric_is_shown_or_alerts() -> None:
    asked = " ".join(expressions())
    assert [m.name for m in (*METRICS, *NIGHT_METRICS) if m.name not in asked] == []


def test_every_alert_has_a_drill() -> None:
    assert list(drills()) == list(alerts())


@needs_promtool
def test_the_rules_are_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("name", list(drills()))
def test_an_alert_fires_and_is_silent(name: str, tmp_path: Path) -> None:
    assert drilled(name, tmp_path) == ""


def test_every_alert_and_every_failure_is_in_the_run_book() -> None:
    book = (DOCS / "operations.md").read_text()
    headings = set(re.findall(r"^#+ `?([\w-]+)`?$", book, re.MULTILINE))
    assert [name for name in alerts() if name not in headings] == []
    assert [str(failure) for failure in Failure if str(failure) not in headings] == []
    for alert in alerts().values():
        assert alert.annotations["runbook"] == f"docs/operations.md#{alert.name.lower()}"


def test_every_metric_is_in_the_docs_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    expected = [(m.name, str(m.kind), ", ".join(m.labels), m.meaning) for m in (*METRICS, *NIGHT_METRICS)]
    assert [(name, kind, labels.replace("`", ""), meaning) for name, kind, labels, meaning in rows] == expected
