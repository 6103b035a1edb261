"""`bench`: the speed figures that Aisle claims, each with its baseline measured in the same run."""

from __future__ import annotations

import importlib
import pkgutil

import typer


def register(app: typer.Typer) -> None:
    """Add the commands: each module beside this file has `register(group)`."""
    group = typer.Typer(no_args_is_help=True, help="Speed, each figure beside a baseline of the same run.")
    for name in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"cli.commands.bench.{name}").register(group)
    app.add_typer(group, name="bench")
