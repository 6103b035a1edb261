"""`keys`, the options of protected servers, and where secrets may come from."""

# bazel: imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import typer

import cli.app
from core.errors import InputError
from serving.api_keys import load_keys
from serving.caller import Role
from serving.client_security import ClientSecurity
from serving.protection import is_loopback

SECRET = "aisle_0123456789abcdef_secret"


def run(*arguments: str, code: int = 0) -> Any:
    """The last line of stdout, or of stderr where it fails."""
    done = subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else json.loads(done.stdout.splitlines()[-1])


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    made = run("keys", "new", "--tenant", "acme", "--role", "write", "--days", "1", "--file", str(file))
    found = load_keys(file).find(made["key"], time.time())
    assert found is not None
    assert (found.tenant, found.role, found.id) == ("acme", Role.WRITE, made["entry"]["id"])
    assert 86_000 < found.expires - time.time() <= 86_400
    (listed,) = run("keys", "list", "--file", str(file))["keys"]
    assert listed == {k: v for k, v in made["entry"].items() if k != "sha256"}
    run("keys", "revoke", "--file", str(file), "--id", found.id)
    assert len(load_keys(file)) == 0
    assert "no key has the id" in run("keys", "revoke", "--file", str(file), "--id", found.id, code=2)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--role", "root"], "'read', 'write' or 'admin'"),
        (["--tenant", "A B"], "tenant"),
        (["--days", "0"], "--days 0: expected more than 0"),
    ],
)
def test_a_key_that_cannot_be_made_is_one_line(arguments: list[str], problem: str) -> None:
    assert problem in run("keys", "new", *arguments, code=2)


def test_every_command_with_a_server_takes_the_options_of_tls_and_none_takes_a_key() -> None:
    cli.app._register()
    program = typer.main.get_command(cli.app.app)

    def commands(at: Any, name: str) -> Any:
        for inner, command in getattr(at, "commands", {}).items():
            yield from commands(command, f"{name} {inner}")
        if not hasattr(at, "commands"):
            yield name, {o for p in at.params if isinstance(p, click.Option) for o in p.opts}

    calling = {name for name, options in commands(program, "") if "--server" in options}
    assert {" recommend", " events send", " explain", " rank", " similar", " users delete"} <= calling
    for name, options in commands(program, ""):
        assert ("--tls-ca" in options) == (name in calling), name
        assert not {"--api-key", "--token", "--password"} & options, name


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    for environment in ({"AISLE_API_KEY": SECRET}, {"AISLE_API_KEY_FILE": str(file)}):
        security = ClientSecurity.of_environment(environment)
        assert security.metadata == (("authorization", f"Bearer {SECRET}"),)
        assert "secret" not in repr(security)
    with pytest.raises(InputError, match="both set"):
        ClientSecurity.of_environment({"AISLE_API_KEY": SECRET, "AISLE_API_KEY_FILE": str(file)})
    with pytest.raises(InputError, match="cannot be read: No such file"):
        ClientSecurity.of_environment({"AISLE_API_KEY_FILE": str(tmp_path / "nowhere")})
    assert ClientSecurity.of_environment({}) == ClientSecurity()


@pytest.mark.parametrize(
    ("security", "problem"),
    [
        (ClientSecurity(ca="system", cert="c"), "go together"),
        (ClientSecurity(cert="c", key="k"), "--cert without --tls-ca"),
        (ClientSecurity(ca="nowhere.pem"), "--tls-ca nowhere.pem: cannot be read"),
    ],
)
def test_half_of_what_tls_needs_is_one_line(security: ClientSecurity, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        security.channel("127.0.0.1:1", [])


def test_serve_says_what_is_missing(tmp_path: Path) -> None:
    assert "--release R, or --tenants FILE" in run("serve", code=2)
    release = tmp_path / "releases" / "one"
    release.mkdir(parents=True)
    assert "tls_cert and tls_key go together" in run("serve", "--release", str(release), "--tls-cert", "x", code=2)
    assert "--tenants" in run("serve", "--tenants", str(tmp_path / "none.yaml"), code=2)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("[::]", False),
    ],
)
def test_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
