"""`experiment`: A/B tests and bandits, from planning to the report."""

from __future__ import annotations

import importlib
import pkgutil

import typer


def register(app: typer.Typer) -> None:
    """Add the commands: each module beside this file has `register(group)`."""
    group = typer.Typer(no_args_is_help=True, help="Experiments and bandits: docs/experiment-statistics.md.")
    for name in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"cli.commands.experiment.{name}").register(group)
    app.add_typer(group, name="experiment")
