"""Java and Redis are found, or said to be missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import programs
from core.errors import EnvironmentGapError
from core.programs import java_home, redis_server


def fake_java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\n")
    (home / "bin" / "java").chmod(0o755)
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("AISLE_REDIS_SERVER", raising=False)


def test_java_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "a", "21.0.8")))
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "b", "17.0.1") / "bin"))
    assert java_home() == tmp_path / "a"


@pytest.mark.parametrize("old", ["11.0.2", "1.8.0_392"])
def test_java_that_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "a", old)))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(fake_java(tmp_path / "b", "17.0.15") / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert java_home() == tmp_path / "b"


def test_locked_java_runs_with_the_option_that_spark_adds() -> None:
    command = [str(java_home() / "bin" / "java"), "--add-modules=jdk.incubator.vector", "-version"]
    run = subprocess.run(command, env={"PATH": os.defpath}, capture_output=True, text=True)
    assert (run.returncode, "openjdk version" in run.stderr) == (0, True), run.stderr


def test_locked_java_where_the_packages_are_read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert java_home() == tmp_path / "cache" / "aisle" / "jdk"


def test_redis_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    embedded = redis_server()
    assert embedded.is_relative_to(sys.prefix)
    assert "Redis server" in subprocess.run([embedded, "--version"], capture_output=True, text=True).stdout
    own = fake_java(tmp_path / "a", "").joinpath("bin", "java").rename(tmp_path / "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server() == own
    monkeypatch.setenv("AISLE_REDIS_SERVER", str(embedded))
    assert redis_server() == embedded
    monkeypatch.setenv("AISLE_REDIS_SERVER", "/no/such/program")
    with pytest.raises(EnvironmentGapError, match="/no/such/program"):
        redis_server()


def test_what_is_missing_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_package", lambda _: None)
    with pytest.raises(EnvironmentGapError, match="set JAVA_HOME"):
        java_home()
    with pytest.raises(EnvironmentGapError, match="no redis-server"):
        redis_server()
