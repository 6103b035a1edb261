"""The commands of the registry and of Redis backups, as a person or a script calls them."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.work import Work
from tests.pipeline.registry.two_nights import REFUSED, names, variant
from tests.serving.shop import PURCHASES


def aisle(*arguments: object, expect: int = 0) -> dict[str, Any]:
    """The JSON of a command, with its stderr under "stderr"."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == expect, done.stderr
    said = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
    return {**said, "stderr": done.stderr}


def last_line(*arguments: object, expect: int = 2) -> str:
    """Of stderr of a command that does not succeed."""
    return str(aisle(*arguments, expect=expect)["stderr"].strip().splitlines()[-1])


def test_a_day_of_an_operator(nights: Work, tmp_path: Path) -> None:
    (first, second), work = names(nights), ("--work", nights.root)
    refused = variant(nights, first, "refused", REFUSED).name
    listed = aisle("releases", "list", *work)
    assert [(r["release"], r["current"], r["previous"]) for r in listed["releases"]] == [
        (second, True, False),
        (refused, False, False),  # made last, of the first night's data
        (first, False, True),
    ]
    assert last_line("releases", "promote", refused, *work, expect=3).startswith("error: not promoted: popularity")
    promoted = aisle("releases", "promote", refused, *work, "--force", "--why", "a drill")
    assert (promoted["release"], promoted["previous"]) == (refused, second)
    shown = aisle("releases", "show", refused, *work)
    assert shown["history"][-1]["why"] == "a drill"
    assert shown["lineage"]["gates"] == REFUSED
    assert aisle("releases", "rollback", *work)["release"] == second
    compared = aisle("releases", "diff", first, second, *work)
    assert compared["pages"]["people"] == len([key for key in PURCHASES if key.startswith("u:")])
    assert f"{first} -> {second}" in " ".join(compared["stderr"].split())
    card = aisle("releases", "card", *work, "--out", tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == card["card"]
    pruned = aisle("releases", "prune", *work, "--keep", 1)
    assert pruned["kept"][second] == "current"


def test_copies(nights: Work, tmp_path: Path) -> None:
    second, url, host = names(nights)[1], f"file://{tmp_path}/remote", tmp_path / "host"
    aisle("releases", "push", "--work", nights.root, "--to", url)
    assert [r["release"] for r in aisle("releases", "list", "--from", url)["releases"]] == [second]
    assert aisle("releases", "pull", "latest", "--from", url, "--work", host)["current"]
    assert aisle("releases", "verify", "--work", host)["release"] == second
    assert aisle("releases", "prune", "--from", url, "--keep", 1, "--spare-hours", 0)["files"] == 0
    assert "no release other; `./aisle releases list --from" in last_line(
        "releases", "pull", "other", "--from", url, "--work", host
    )


def test_what_is_wrong_is_one_line(nights: Work, tmp_path: Path) -> None:
    assert "name --work WORK, or --from URL" in last_line("releases", "list")
    assert "no such release; `./aisle releases list" in last_line("releases", "show", "nope", "--work", nights.root)
    assert "name --redis URL, or --work WORK" in last_line("redis", "backup", "--out", tmp_path / "b")
    assert "no Redis of our own there" in last_line("redis", "backup", "--work", nights.root, "--out", tmp_path / "b")


def test_backup_of_a_redis_that_does_not_run_and_into_a_new_host(nights: Work, tmp_path: Path) -> None:
    """The command starts WORK's own Redis for as long as it needs it."""
    file = tmp_path / "b"
    loaded = aisle("materialize", "--work", nights.root)
    saved = aisle("redis", "backup", "--work", nights.root, "--out", file)
    assert saved["keys"] == loaded["users"] + 2  # the marker, and the list of windows
    done = aisle("redis", "restore", "--work", tmp_path / "new", "--in", file)
    assert (done["keys"], done["expired"], done["removed"]) == (saved["keys"], 0, 0)
    assert "--replace" in last_line("redis", "restore", "--work", tmp_path / "new", "--in", file)
    assert aisle("redis", "restore", "--work", tmp_path / "new", "--in", file, "--replace")["removed"] == saved["keys"]
