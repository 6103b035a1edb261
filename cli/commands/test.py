"""`./aisle test`: `bazel test //...`, and a count of what ran, cached results included."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

import typer

from cli.output import console, finish, step
from core.errors import EnvironmentGapError
from core.native import load

ROOT = Path(__file__).parents[2]
_KERNELS = ("*/kernels/*.c", "*/native/*.c", "*/*/native/*.c")
_WORDS = (1, 2)  # bytes of a rank (ranking/layout.py)


@dataclass
class Tally:
    """What a run of Bazel came to."""

    passed: int = 0
    failed: int = 0
    skips: list[str] = field(default_factory=list)
    targets: int = 0
    cached: int = 0

    def line(self) -> str:
        """The line that scripts look for."""
        return f"{self.passed} passed, {self.failed} failed, {len(self.skips)} skipped"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("test", context_settings={"ignore_unknown_options": True})(run_tests)


def run_tests(arguments: list[str] = typer.Argument(None, metavar="[TARGET|BAZEL OPTION]...")) -> None:
    """Run all tests, or some: `./aisle test //tests/core/... --test_filter=ids`."""
    started = time.monotonic()
    arguments = arguments or []
    targets = [] if any(not a.startswith("-") for a in arguments) else ["//..."]
    _write_bazelrc(ROOT / ".tools" / "bazelrc")
    compile_kernels(ROOT)
    with tempfile.NamedTemporaryFile(prefix="aisle-bazel-", suffix=".json") as events:
        command = ["bazel", "test", f"--build_event_json_file={events.name}", *arguments, *targets]
        try:
            code = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
            ).returncode
        except FileNotFoundError:
            raise EnvironmentGapError("no bazel on PATH: run the tests with ./aisle test, which installs it") from None
        tally = count(Path(events.name))
    if code != 0 and tally.failed == 0:  # nothing ran far enough to say what is wrong; Bazel has said it above
        tally.failed = 1
    for skip in tally.skips:
        console.print(f"skipped: {skip}", markup=False, soft_wrap=True)
    print(tally.line(), flush=True)
    finish(
        {
            "passed": tally.passed,
            "failed": tally.failed,
            "skipped": len(tally.skips),
            "targets": tally.targets,
            "cached": tally.cached,
            "seconds": round(time.monotonic() - started, 1),
        }
    )
    if tally.failed:
        raise typer.Exit(1)


def compile_kernels(root: Path, folder: Path | None = None) -> int:
    """Compile every kernel of the sources into `folder` (default: this installation's); how many there are.

    In Bazel's sandbox nobody may write into the environment: each process of each test would compile for itself, for seconds.
    """
    made = 0
    for source in sorted(path for where in _KERNELS for path in root.glob(where)):
        for word in _WORDS if "WORD" in source.read_text() else (1,):
            try:
                load(source, word, folder)
            except EnvironmentGapError as e:
                step(f"{e}: the tests of {source.name} do without")
            else:
                made += 1
    return made


def count(events: Path) -> Tally:
    """Sums the test reports that Bazel's event file names; a target that left none of its failure counts as one."""
    tally = Tally()
    reports: dict[str, list[Path]] = {}
    for event in _lines(events):
        if result := event.get("testResult"):
            label = event["id"]["testResult"]["label"]
            outputs = result.get("testActionOutput", [])
            reports.setdefault(label, []).extend(
                Path(unquote(urlparse(o["uri"]).path)) for o in outputs if o["name"] == "test.xml"
            )
        elif summary := event.get("testSummary"):
            label = event["id"]["testSummary"]["label"]
            tally.targets += 1
            tally.cached += summary.get("totalNumCached", 0) > 0
            failed_before = tally.failed
            for report in reports.get(label, []):
                _add(report, tally)
            if summary["overallStatus"] != "PASSED" and tally.failed == failed_before:
                tally.failed += 1
    return tally


def _lines(events: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    with events.open() as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _add(report: Path, tally: Tally) -> None:
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed += 1
        elif (skipped := case.find("skipped")) is not None:
            tally.skips.append(f"{case.get('classname')}::{case.get('name')}: {skipped.get('message', '')}")
        else:
            tally.passed += 1


def _write_bazelrc(path: Path) -> None:
    """What a plain `bazel test` must know of this machine, so that both share one cache."""
    stamp = Path(sys.prefix) / "aisle-stamp"
    groups = stamp.read_text().splitlines()[0] if stamp.exists() else ""
    options = [f"build --repo_env={shlex.quote(f'AISLE_VENV={sys.prefix}')}"]
    options.append(f"build --repo_env={shlex.quote(f'AISLE_INSTALLED={groups}')}")
    if data := os.environ.get("AISLE_DATA"):
        options.append(f"test --test_env={shlex.quote(f'AISLE_DATA={data}')}")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*options, ""]))
