"""`./aisle`, with a stand-in for uv that records what it is asked to do: no network, and no minute-long installs."""

# bazel: size=medium, data=[//:tree], imports=[cli.*]

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.repo.checkout import copy

# Makes a virtualenv as uv would, out of the one that runs the tests. With AISLE_TEST_PIPE it first says that it has
# begun and waits to be let go on, by the two ends of a pair of named pipes.
_UV = """\
#!/bin/sh
echo "$@" >>"$AISLE_TEST_LOG"
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
if [ -n "${{AISLE_TEST_PIPE:-}}" ]; then
    echo begun >"$AISLE_TEST_PIPE.begun"
    read -r answer <"$AISLE_TEST_PIPE.go"
fi
[ -z "${{AISLE_TEST_FAIL:-}}" ] || {{ echo "no route to host" >&2; exit 1; }}
printf '#!/bin/sh\\nexec {python} "$@"\\n' >"$UV_PROJECT_ENVIRONMENT/bin/python"
chmod +x "$UV_PROJECT_ENVIRONMENT/bin/python"
"""


@dataclass
class Launcher:
    """A copy of the checkout, with a log of the calls of uv."""

    root: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "aisle", *arguments], cwd=cwd, env={**self.environ, **environ}, capture_output=True, text=True
        )

    def start(self, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "aisle", "setup"],
            env={**self.environ, **environ},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def syncs(self) -> list[str]:
        """What each call of uv was asked to do."""
        log = Path(self.environ["AISLE_TEST_LOG"])
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    root = copy(tmp_path / "checkout with a space")
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(_UV.format(python=sys.executable))
    uv.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AISLE_", "PYTHON"))}
    path = os.pathsep.join(
        [str(uv.parent), "/usr/local/bin", "/usr/bin", "/bin", str(Path(sys.executable).resolve().parent)]
    )
    return Launcher(root, {**kept, "PATH": path, "AISLE_TEST_LOG": str(tmp_path / "log")})


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    stem = str(tmp_path / "pipe")
    os.mkfifo(stem + ".begun")
    os.mkfifo(stem + ".go")
    return stem


def assert_one_clear_line(run: subprocess.CompletedProcess[str], code: int, text: str) -> None:
    assert run.returncode == code
    assert text in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


@pytest.mark.parametrize("shell", ["sh", "dash"])
def test_is_posix(launcher: Launcher, shell: str) -> None:
    found = shutil.which(shell) or "/bin/sh"
    assert subprocess.run([found, "-n", launcher.root / "aisle"]).returncode == 0


def test_the_lock_is_installed_once(launcher: Launcher) -> None:
    first = launcher("setup")
    assert first.returncode == 0, first.stderr
    (found,) = (launcher.root / ".venv").glob("lib/*/site-packages/aisle-gen.pth")
    assert found.read_text() == f"{launcher.root}/.gen\n"
    assert json.loads(first.stdout)["groups"].startswith("serve train spark dev faiss-")
    (sync,) = launcher.syncs()
    assert (
        "--frozen --compile-bytecode --no-default-groups --group serve --group train --group spark --group dev" in sync
    )
    again = launcher("setup")
    assert (len(launcher.syncs()), again.stderr) == (1, "")


def test_another_lock_is_installed(launcher: Launcher) -> None:
    launcher("setup")
    with (launcher.root / "uv.lock").open("a") as lock:
        lock.write("# changed\n")
    launcher("setup")
    assert len(launcher.syncs()) == 2


def test_the_chosen_groups_hold(launcher: Launcher) -> None:
    launcher("setup", AISLE_GROUPS="serve faiss-cpu")
    assert json.loads(launcher("setup").stdout)["groups"] == "serve faiss-cpu"
    assert [s.split("--no-default-groups ")[1].removesuffix(" --quiet") for s in launcher.syncs()] == [
        "--group serve --group faiss-cpu"
    ]
    assert_one_clear_line(launcher("test"), 2, "AISLE_GROUPS=default ./aisle test")
    assert "train" in json.loads(launcher("setup", AISLE_GROUPS="default").stdout)["groups"]


def test_a_failed_install_is_tried_again(launcher: Launcher) -> None:
    failed = launcher("setup", AISLE_TEST_FAIL="1")
    assert_one_clear_line(failed, 2, "installing the locked packages failed")
    assert "no route to host" in failed.stderr
    assert launcher("setup").returncode == 0
    assert len(launcher.syncs()) == 2


def test_two_at_once_install_once(launcher: Launcher, pipe: str) -> None:
    first = launcher.start(AISLE_TEST_PIPE=pipe)
    assert Path(pipe + ".begun").read_text() == "begun\n"
    second = launcher.start()
    assert second.stderr is not None
    assert "waiting for another set-up" in second.stderr.readline()
    Path(pipe + ".go").write_text("go\n")
    for process in (first, second):
        out, err = process.communicate()
        assert (process.returncode, json.loads(out)["venv"]) == (0, str(launcher.root / ".venv")), err
    assert len(launcher.syncs()) == 1


def test_a_killed_install_is_started_over(launcher: Launcher, pipe: str) -> None:
    process = launcher.start(AISLE_TEST_PIPE=pipe)
    assert Path(pipe + ".begun").read_text() == "begun\n"
    leftover = launcher.root / ".venv" / "half-written"
    leftover.touch()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = launcher("setup")
    assert again.returncode == 0, again.stderr
    assert "starting over" in again.stderr
    assert not leftover.exists()


def test_no_python_is_said_in_one_line(launcher: Launcher, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    for name in ("sh", "cat", "sha256sum", "cut", "dirname", "readlink", "mkdir", "flock", "rm", "id"):
        (tools / name).symlink_to(str(shutil.which(name)))
    assert_one_clear_line(launcher("setup", PATH=str(tools)), 2, "Python 3.11 is missing")


def test_works_from_anywhere_and_through_a_link(launcher: Launcher, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "core").mkdir(parents=True)
    (elsewhere / "core" / "__init__.py").write_text("raise RuntimeError('the wrong core')")
    (elsewhere / "link").symlink_to(launcher.root / "aisle")
    assert launcher("setup").returncode == 0
    for command in (launcher.root / "aisle", elsewhere / "link"):
        run = subprocess.run([command, "--help"], cwd=elsewhere, env=launcher.environ, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert "Run all tests" in run.stdout
        assert run.stderr == ""


def test_unknown_command(launcher: Launcher) -> None:
    launcher("setup")
    assert_one_clear_line(launcher("tset"), 2, "test")


def test_data_must_exist(launcher: Launcher) -> None:
    launcher("setup")
    assert_one_clear_line(launcher("--help", AISLE_DATA="/no/such/folder"), 2, "/no/such/folder")


def test_protos_are_generated_when_they_change(launcher: Launcher) -> None:
    folder = launcher.root / "proto" / "aisle" / "v1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "planted.proto").write_text(
        'syntax = "proto3";\npackage aisle.v1;\nmessage Planted {\n  int32 a = 1;\n}\n'
    )
    launcher("setup")
    generated = launcher.root / ".gen" / "aisle" / "v1" / "planted_pb2.py"
    first = generated.read_text()
    before = generated.stat().st_mtime_ns
    launcher("setup")
    assert generated.stat().st_mtime_ns == before
    (folder / "planted.proto").write_text(
        'syntax = "proto3";\npackage aisle.v1;\nmessage Planted {\n  int32 b = 1;\n}\n'
    )
    launcher("setup")
    assert generated.read_text() != first
