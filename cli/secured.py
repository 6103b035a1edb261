"""Every command that calls a server takes the options of a protected one: --tls-ca, --cert, --key. The API key comes from the environment alone.

The options are other spellings of the variables that serving.client_security reads; there is none for the key, because arguments are for everyone on
the machine to read.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer

_TLS: Final = {
    "tls_ca": (
        "AISLE_TLS_CA",
        "--tls-ca",
        "PEM file that vouches for the server's certificate, or `system`; without it no TLS",
    ),
    "cert": ("AISLE_TLS_CERT", "--cert", "PEM file of our certificate, for a server that asks for one"),
    "key": ("AISLE_TLS_KEY", "--key", "PEM file of its key"),
}


def secure_all(app: typer.Typer) -> None:
    """Add the options to every command of `app`, and of its groups, that has an option `server`."""
    for info in _commands(app):
        taken = inspect.signature(info.callback).parameters if info.callback is not None else {}
        if info.callback is not None and "server" in taken and "tls_ca" not in taken:
            info.callback = _secured(info.callback)


def _commands(app: typer.Typer) -> Iterator[typer.models.CommandInfo]:
    yield from app.registered_commands
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance)


def _secured(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command, whose client finds what these options say."""

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name, (variable, _, _) in _TLS.items():
            if said := kwargs.pop(name):
                os.environ[variable] = said
        return command(*args, **kwargs)

    said = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default="",
            annotation=Annotated[str, typer.Option(option, help=text, envvar=variable)],
        )
        for name, (variable, option, text) in _TLS.items()
    ]
    parameters = [*said.parameters.values(), *more]
    call.__signature__ = said.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return call
