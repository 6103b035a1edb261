"""`serve --tenants FILE`: which shops one server answers for, and where each has its release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from core.config import Section, checked, read_yaml
from core.errors import ConfigError, NotFoundError

TENANT: Final = r"^[a-z0-9][a-z0-9-]*$"


class TenantSpec(Section):
    """One shop. Paths are absolute once the file is loaded."""

    name: str = Field(pattern=TENANT)
    release: Path  # a release directory, or WORK/releases/current
    work: Path  # of its catalog's log, spool, page tokens; only its releases may be loaded
    rules: Path | None = None
    requests_per_second: float | None = Field(default=None, gt=0)


class _Listed(Section):
    release: Path
    work: Path | None = None
    rules: Path | None = None
    requests_per_second: float | None = Field(default=None, gt=0)


class _TenantsFile(Section):
    tenants: dict[Annotated[str, Field(pattern=TENANT)], dict[str, Any]] = Field(min_length=1)


def load_tenants(path: Path) -> tuple[TenantSpec, ...]:
    """In the order of the file; relative paths are beside it.

    Raises:
        ConfigError: It does not fit, or two tenants share a work directory.
        NotFoundError: It is not there, or a release of it is not.
    """
    if not path.is_file():
        raise NotFoundError(f"--tenants {path}: no such file; it lists tenants, each with its `release`")
    specs = [_spec(path, name, one) for name, one in checked(_TenantsFile, read_yaml(path), path).tenants.items()]
    homes: dict[Path, str] = {}
    for spec in specs:
        other = homes.setdefault(spec.work.resolve(), spec.name)
        if other != spec.name:
            raise ConfigError(f"{path}: tenants {other} and {spec.name} share the work directory {spec.work}")
    return tuple(specs)


def _spec(path: Path, name: str, values: dict[str, Any]) -> TenantSpec:
    one, beside = checked(_Listed, values, f"{path}: tenants.{name}"), path.absolute().parent
    release = beside / one.release
    if not release.exists():
        raise NotFoundError(f"{path}: tenants.{name}.release: {release}: no such directory")
    if one.work is None and release.parent.name != "releases":
        raise ConfigError(
            f"{path}: tenants.{name}: {release} is in no folder `releases` of a work directory: name its `work`"
        )
    work = release.parent.parent if one.work is None else beside / one.work
    rules = None if one.rules is None else beside / one.rules
    return TenantSpec(name=name, release=release, work=work, rules=rules, requests_per_second=one.requests_per_second)
