"""`tune`: searches settings on the validation window; nothing after it is looked at."""

from __future__ import annotations

import importlib
import pkgutil

import typer


def register(app: typer.Typer) -> None:
    """Add the commands: each module beside this file has `register(group)`."""
    group = typer.Typer(no_args_is_help=True, help="Better settings for this shop, found on the validation window.")
    for name in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"cli.commands.tune.{name}").register(group)
    app.add_typer(group, name="tune")
