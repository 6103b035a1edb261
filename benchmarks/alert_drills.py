"""The firing drill of every alert: what deploy/prometheus/drills.yaml plants, held against deploy/prometheus/alerts.yaml by promtool."""

# bazel: data=[//deploy:all_files]

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yaml"
DRILLS: Final = DEPLOY / "prometheus" / "drills.yaml"
_LABEL: Final = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


@dataclass(frozen=True)
class Alert:
    """One rule."""

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


def alerts() -> dict[str, Alert]:
    """Those of alerts.yaml, by name."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    return {r["alert"]: Alert(r["alert"], r["expr"], r["labels"], r["annotations"]) for r in rules}


def drills() -> dict[str, Any]:
    """Those of drills.yaml, by the name of the alert."""
    found: dict[str, Any] = yaml.safe_load(DRILLS.read_text())
    return found


def drilled(name: str, folder: Path) -> str:
    """Run the drill of an alert, and of calm; empty where it fires and is silent as it should, else promtool's words."""
    drill, alert = drills()[name], alerts()[name]
    labels = {**alert.labels, **drill["labels"]}

    def told(text: str) -> str:
        return _LABEL.sub(lambda found: str(labels.get(found[1], "")), text)

    expected = {"exp_labels": labels, "exp_annotations": {k: told(v) for k, v in alert.annotations.items()}}
    tests = [_test(drill["fires"], drill["at"], name, [expected]), _test(drill["calm"], drill["at"], name, [])]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def promtool() -> bool:
    """Whether this machine has it (Debian: prometheus)."""
    return shutil.which("promtool") is not None


def _test(series: list[str], at: str, name: str, expected: list[Any]) -> dict[str, Any]:
    split = [re.fullmatch(r"(\S+\{.*\}|\S+) (.*)", one) for one in series]
    return {
        "interval": "1m",
        "input_series": [{"series": s[1], "values": s[2]} for s in split if s is not None],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected}],
    }
