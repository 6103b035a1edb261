"""The server's settings: `configs/serving.yaml`, checked."""

# bazel: data=[//configs:all_files]

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from core.config import Section, checked, overlaid, read_yaml


class ServerConfig(Section):
    """One serving process."""

    threads: int = Field(ge=1, le=256)
    drain_seconds: float = Field(gt=0)


class RedisConfig(Section):
    """How long an answer and a write wait for Redis, and when they stop waiting."""

    read_deadline_ms: float = Field(gt=0)
    write_deadline_ms: float = Field(gt=0)
    connections: int = Field(ge=1)
    failures_to_pause: int = Field(ge=1)
    pause_ms: float = Field(gt=0)


class EventsConfig(Section):
    """What is kept of live events."""

    live_per_person: int = Field(ge=1, le=10_000)
    live_days: float = Field(gt=0)
    dedup_days: float = Field(gt=0)
    stream_events: int = Field(ge=1)
    future_minutes: float = Field(ge=0)


class ServingConfig(Section):
    """The whole of `configs/serving.yaml`."""

    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    server: ServerConfig
    redis: RedisConfig
    events: EventsConfig


DEFAULTS = Path(__file__).parent.parent / "configs" / "serving.yaml"


def load_serving(path: Path | None = None) -> ServingConfig:
    """The defaults, with the keys of `path` laid over them."""
    values = read_yaml(DEFAULTS)
    if path is not None:
        values = overlaid(values, read_yaml(path))
    return checked(ServingConfig, values, path or DEFAULTS)
