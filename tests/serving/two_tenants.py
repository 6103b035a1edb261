"""Two shops behind one server that share no id: for tests of what keeps them apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from core.work import Work
from serving.api_keys import new_key
from serving.keys_file import add
from serving.process_options import ProcessOptions
from serving.tenants_file import load_tenants
from tests.serving.conftest import bare, changed
from tests.serving.shop import make_shop

NAMES = ("north", "south")


@dataclass
class TwoTenants:
    """Their releases, and a file of keys: one of each tenant and role."""

    folder: Path
    works: dict[str, Work] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)  # by tenant and role

    def __post_init__(self) -> None:
        for name in NAMES:
            self.works[name] = make_shop(self.folder / name, prefix=f"{name}-")
            for role in ("read", "write", "admin"):
                self.keys[name, role], entry = new_key(name, role)
                add(self.keys_file, entry)
        self.tenants_file.write_text(
            yaml.safe_dump({"tenants": {name: {"release": str(work.current)} for name, work in self.works.items()}})
        )

    @property
    def keys_file(self) -> Path:
        return self.folder / "keys.yaml"

    @property
    def tenants_file(self) -> Path:
        return self.folder / "tenants.yaml"

    def options(self, redis_url: str, **protection: object) -> ProcessOptions:
        """Of a process that serves both; with keys, unless `protection` says otherwise."""
        config = changed(changed(bare(), "redis", read_deadline_ms=300.0), "log", share=1.0)
        config = changed(config, "protection", **{"keys": str(self.keys_file), "shed": False, **protection})
        specs = load_tenants(self.tenants_file)
        first = specs[0].release
        return ProcessOptions(first, self.folder, "127.0.0.1", 0, redis_url, True, config, tenants=specs)
