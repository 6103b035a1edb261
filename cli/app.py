"""The application: registers the commands, and turns every error into one line and an exit code.

Exit 0: the job did its work. 2: bad input or configuration. 3: a gate refused to publish. 1: a bug; its stack trace goes to a file.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import tempfile
import traceback
from pathlib import Path

import click
import typer
from rich.markup import escape

import cli.commands
from cli.machine import refusal
from cli.output import console, finish
from cli.secured import secure_all
from core.errors import AisleError, GateRefused, nearest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Aisle: a two-stage recommender service for storefronts.",
)


def _register() -> None:
    """Each module of cli.commands has `register(app)`; the order is alphabetical."""
    for module in sorted(m.name for m in pkgutil.iter_modules(cli.commands.__path__)):
        importlib.import_module(f"cli.commands.{module}").register(app)
    secure_all(app)


def main() -> None:
    """Run one command and exit with its code."""
    try:
        _register()
        code = app(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("interrupted", 130)
    except click.UsageError as e:
        _fail(_usage(e), 2)
    except click.ClickException as e:
        _fail(e.format_message(), 2)
    except GateRefused as e:
        _fail(str(e), e.exit_code)
    except AisleError as e:
        _fail(str(e), e.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os._exit(141)
    except Exception as e:  # noqa: BLE001 - the last line of stderr is for a person, the stack goes to a file
        if isinstance(e, OSError) and (line := refusal(e)):
            _fail(line, 2)
        _fail(
            f"{type(e).__name__}: {_one_line(str(e))} - this is a bug in Aisle; the stack trace is in {_keep_trace()}",
            1,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.UsageError) -> str:
    if error.ctx is not None and error.message.startswith("No such command"):
        name = error.message.split("'")[1] if "'" in error.message else ""
        commands = getattr(error.ctx.command, "commands", {})
        return f"no command {name!r}; {nearest(name, commands)}"
    said = _one_line(error.format_message()) or "name a command, one of those above"  # it has printed its help
    return said + ("" if error.ctx is None else _help(error.ctx))


def _help(context: click.Context) -> str:
    """Where the usage of a command is, by its whole path: `./aisle catalog delete --help`."""
    names = ["--help"]
    at: click.Context | None = context
    while at is not None and at.parent is not None:  # the outermost is the program
        names.insert(0, at.info_name or "")
        at = at.parent
    return f" (see `./aisle {' '.join(names)}`)"


def _fail(text: str, code: int) -> None:
    console.print(f"[red]error:[/red] {escape(_one_line(text))}", soft_wrap=True)
    sys.exit(code)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _keep_trace() -> Path:
    handle, name = tempfile.mkstemp(prefix="aisle-bug-", suffix=".txt")
    with os.fdopen(handle, "w") as f:
        f.write(traceback.format_exc())
    return Path(name)


__all__ = ["app", "finish", "main"]
