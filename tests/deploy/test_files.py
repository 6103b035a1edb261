"""What cannot be run here is at least well-formed, and names options, files and services that there are."""

# bazel: size=medium, imports=[cli.*], data=[//deploy:all_files]

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml

from benchmarks.alert_drills import DEPLOY
from cli import app as cli_app
from serving.config import load_serving

UNITS = sorted((DEPLOY / "systemd").glob("aisle*"))
COMPOSE = DEPLOY / "compose.yaml"
INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip


@pytest.fixture(scope="module")
def commands() -> Any:
    cli_app._register()
    return typer.main.get_command(cli_app.app)


def options_of(commands: Any, words: list[str]) -> list[str]:
    """Options among the words of a command line that the command does not have."""
    command = commands.commands[words[0]]
    known = {name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts}
    return [word for word in words[1:] if word.startswith("--") and word not in known]


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: continued lines as one, without comments."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here (Debian: systemd)")
@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_units_are_units(unit: Path, tmp_path: Path) -> None:
    for one in UNITS:  # a timer looks for its service
        (tmp_path / one.name).write_text(one.read_text().replace("/opt/aisle/aisle", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


@pytest.mark.parametrize("unit", [u for u in UNITS if u.suffix == ".service"], ids=lambda p: p.name)
def test_units_call_what_there_is(unit: Path, commands: Any) -> None:
    (line,) = re.findall(r"^ExecStart=/opt/aisle/aisle (.*)$", unit.read_text(), re.MULTILINE)
    assert options_of(commands, shlex.split(line)) == []
    (environment,) = re.findall(r"^EnvironmentFile=/etc/aisle/(.*)$", unit.read_text(), re.MULTILINE)
    set_there = re.findall(r"^(AISLE_\w+)=", (DEPLOY / "systemd" / environment).read_text(), re.MULTILINE)
    assert [name for name in re.findall(r"\$\{(\w+)\}", line) if name not in set_there] == []


def test_every_timer_has_its_service() -> None:
    names = {u.name for u in UNITS}
    assert {u.stem for u in UNITS if u.suffix == ".timer"} == {"aisle-nightly", "aisle-index", "aisle-ranker"}
    assert all(f"{u.stem}.service" in names for u in UNITS)


def test_the_example_of_settings_is_one() -> None:
    assert load_serving(DEPLOY / "systemd" / "serving.yaml").logging.format == "json"


def test_the_dockerfile_is_one(commands: Any) -> None:
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    stages = [text.split(" AS ") for name, text in found if name == "FROM"]
    assert [stage for _, stage in stages] == ["base", "serve", "train"]
    assert [base for base, _ in stages[1:]] == ["base", "base"]
    said = [yaml.safe_load(text) for name, text in found if name in ("CMD", "ENTRYPOINT")]
    serve = [*said[0][1:], *said[1]]
    assert options_of(commands, serve) == []
    assert options_of(commands, said[3]) == []
    health = next(text for name, text in found if name == "HEALTHCHECK")
    assert options_of(commands, yaml.safe_load(health.split("CMD", 1)[1])[1:]) == []
    groups = re.findall(r'AISLE_GROUPS="([^"]*)"', (DEPLOY / "Dockerfile").read_text())
    assert groups == ["serve faiss-cpu", "serve train spark faiss-cpu"]
    # no image runs as root
    assert [text for name, text in found if name == "USER"] == ["aisle", "aisle"]


def test_compose_names_what_there_is(commands: Any) -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    assert set(compose) == {"services", "secrets", "volumes"}
    services = compose["services"]
    known = {"image", "build", "command", "volumes", "healthcheck", "restart", "environment", "ports", "secrets"}
    known |= {"depends_on", "stop_grace_period", "profiles"}
    stages = {text.split(" AS ")[1] for name, text in instructions() if name == "FROM"}
    for name, service in services.items():
        assert set(service) <= known, name
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert "build" in service or re.search(r":v?\d", service["image"]), f"{name}: no version"
        if "build" in service:
            assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert service["build"]["target"] in stages
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), volume
        # what people may reach is bound to loopback: the rest of the world comes through a proxy of theirs
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    assert options_of(commands, ["serve", *services["serve"]["command"]]) == []
    assert "appendonly" in " ".join(services["redis"]["command"])
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    assert {t.split(":")[0] for job in scraped for c in job["static_configs"] for t in c["targets"]} <= set(services)
