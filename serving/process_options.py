"""What a serving process is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.board import Board
from serving.config import ServingConfig
from serving.tenants_file import TenantSpec


@dataclass(frozen=True)
class ProcessOptions:
    """What one process is started with."""

    release: Path
    work: Path
    host: str
    port: int  # 0 picks one
    redis_url: str
    embedded: bool  # the Redis is ours: the user state is loaded into it as needed
    config: ServingConfig
    shared_port: bool = False  # with the other workers
    board: Board | None = None  # where workers agree on the release
    tenants: tuple[
        TenantSpec, ...
    ] = ()  # several shops, each with a release of its own; empty: one, of `release` and `config.tenant`
    confined: bool = False  # only releases of this work directory may be loaded
