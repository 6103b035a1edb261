"""Every command that README.md and docs/ show exists, with its options, and is run by a test or listed with the reason why not."""

# bazel: data=[//:tree, //docs:all_files], imports=[cli.app, cli.commands.*]

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from cli import app as command_line
from tools.doccommands import PAGE, RUN_BY, Shown, evidence, shown, text

ROOT = Path(__file__).parents[2]
COMMANDS = list(shown(ROOT))
LAUNCHER = {"setup"}  # what the launcher does by itself
FREE = {"test"}  # hands its options to Bazel


@pytest.fixture(scope="module")
def root_command() -> click.Group:
    if not command_line.app.registered_commands:
        command_line._register()
    found = typer.main.get_command(command_line.app)
    assert isinstance(found, click.Group)
    return found


def problem(command: Shown, group: click.Group) -> str | None:
    """What is wrong with a command of ./aisle."""
    words = command.words[1:]
    if words[0] in LAUNCHER:
        return None
    at: click.Command = group
    while isinstance(at, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in at.commands:
            return f"no command {name!r}"
        at = at.commands[name]
        if name in FREE:
            return None
    known = {name for p in at.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")} | {"--help"}
    unknown = [w for w in words if w.startswith("--") and w.partition("=")[0] not in known]
    return f"no option {unknown}" if unknown else None


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 40
    assert {"README.md", "docs/results.md", "docs/event-log.md"} <= {c.file for c in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=[f"{c.file}:{c.line}" for c in COMMANDS])
def test_it_exists(command: Shown, root_command: click.Group) -> None:
    if command.words[0] == "./aisle":
        assert problem(command, root_command) is None, command.text
        return
    module = ROOT / (command.words[2].replace(".", "/") + ".py")
    assert module.exists(), command.text
    folder = module.parent
    texts = [module.read_text()]  # and of what it imports beside it, for options that several benchmarks share
    texts += [
        (folder / f"{name}.py").read_text() for name in re.findall(rf"from {folder.name}\.(\w+) import", texts[0])
    ]
    for option in (w.partition("=")[0] for w in command.words if w.startswith("--")):
        assert any(f'"{option}"' in t for t in texts), f"{command.text}: no option {option}"


def test_a_wrong_command_is_noticed(root_command: click.Group) -> None:
    assert problem(Shown("x", 1, "./aisle nightli --work W"), root_command) == "no command 'nightli'"
    assert problem(Shown("x", 1, "./aisle nightly --wrok W"), root_command) == "no option ['--wrok']"
    assert problem(Shown("x", 1, "./aisle events sink [--redis URL] --data D  # why"), root_command) is None


def test_each_is_run_or_says_why_not() -> None:
    assert [c.text for c in COMMANDS if evidence(c) is None] == []


@pytest.mark.parametrize("words", RUN_BY)
def test_what_is_said_to_run_it_does(words: str) -> None:
    source = (ROOT / RUN_BY[words]).read_text()
    for word in words.split():
        assert re.search(rf'["\s]{re.escape(word)}["\s]', source), f"{RUN_BY[words]} does not run {words}"


def test_the_list_is_fresh() -> None:
    assert (ROOT / PAGE).read_text() == text(ROOT), "run .venv/bin/python -m tools.doccommands"
