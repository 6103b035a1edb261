"""The server's settings: `configs/serving.yaml`, checked."""

# bazel: data=[//configs:all_files]

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from core.config import Section, checked, overlaid, read_yaml
from serving.protection_config import ProtectionConfig

PAGE_KEY: Final = "page-tokens.key"


class ServerConfig(Section):
    """One serving process."""

    threads: int = Field(ge=1, le=256)
    computing: int = Field(ge=1, le=256)
    drain_seconds: float = Field(gt=0)
    lame_duck_seconds: float = Field(ge=0)
    reply_ms: float = Field(ge=0)


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
    spool: str = Field(min_length=1)
    spool_mb: float = Field(gt=0)

    def spool_folder(self, work: Path) -> Path | None:
        """Where events wait for Redis: None where they may not. `work` is the work directory, if it is one."""
        if self.spool == "none":
            return None
        if self.spool == "work":
            return work / "spool" if (work / "releases").is_dir() else None
        return Path(self.spool)


class LogConfig(Section):
    """The log of recommendations."""

    share: float = Field(ge=0, le=1)
    features_share: float = Field(ge=0, le=1)
    queue_pages: int = Field(ge=1)
    stream_pages: int = Field(ge=1)


class TrendingConfig(Section):
    """What trends within the hour, on pages and in the log."""

    enabled: bool
    refresh_seconds: float = Field(gt=0)
    least_gain: float = Field(gt=0)
    page_share: float = Field(ge=0, le=1)
    snapshot_seconds: float = Field(gt=0)
    snapshot_items: int = Field(ge=1)
    stream_snapshots: int = Field(ge=1)


class CatalogConfig(Section):
    """The live catalog."""

    folder: str = Field(min_length=1)
    new_items: int = Field(ge=1, le=1_000_000)
    follow_ms: float = Field(gt=0)

    def log_folder(self, work: Path) -> Path | None:
        """Where the log of changes is: None where there may be none. `work` is the work directory, if it is one."""
        if self.folder == "none":
            return None
        if self.folder == "work":
            return work / "catalog" if (work / "releases").is_dir() else None
        return Path(self.folder)


class RulesConfig(Section):
    """The rules of pages."""

    folder: str = Field(min_length=1)
    refresh_seconds: float = Field(gt=0)

    @property
    def path(self) -> Path | None:
        """Where they are: None for none."""
        return None if self.folder == "none" else Path(self.folder)


class ExperimentsConfig(Section):
    """The experiments of a server."""

    folder: str = Field(min_length=1)
    refresh_seconds: float = Field(gt=0)
    releases: int = Field(default=2, ge=0, le=16)
    shadow_queue: int = Field(default=64, ge=1)

    @property
    def path(self) -> Path | None:
        """Where they are: None for none."""
        return None if self.folder == "none" else Path(self.folder)


class PagingConfig(Section):
    """Tokens that lead to further pages."""

    key: str = Field(min_length=1)
    hours: float = Field(gt=0)

    def key_file(self, work: Path) -> Path | None:
        """Where the secret is: None where the server has no place for it. `work` is the work directory, if it is one."""
        if self.key == "work":
            return work / PAGE_KEY if (work / "releases").is_dir() else None
        return Path(self.key)


class NewItemsConfig(Section):
    """Places for new items."""

    share: float = Field(ge=0, le=1)
    days: float = Field(gt=0)
    least_gain: float = Field(gt=0)
    kin: float = Field(ge=1)


class ExplorationConfig(Section):
    """What of pages is left to chance."""

    share: float = Field(ge=0, le=1)
    steepness: float = Field(ge=0, le=8)
    reach: float = Field(ge=1, le=5)
    places: int = Field(ge=1, le=50)
    features_share: float = Field(ge=0, le=1)
    new_items: NewItemsConfig


class MetricsConfig(Section):
    """Where Prometheus may read."""

    listen: str = Field(min_length=1)

    @property
    def on(self) -> bool:
        """Whether there are any."""
        return self.listen != "none"


class LoggingConfig(Section):
    """What is said on stderr, and how."""

    format: Literal["text", "json"]
    calls: float = Field(ge=0, le=1)


class TracesConfig(Section):
    """Where traces go."""

    endpoint: str = Field(min_length=1)
    share: float = Field(ge=0, le=1)
    timeout_seconds: float = Field(gt=0)

    @property
    def on(self) -> bool:
        """Whether there are any."""
        return self.endpoint != "none"


class ServingConfig(Section):
    """The whole of `configs/serving.yaml`."""

    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    server: ServerConfig
    redis: RedisConfig
    events: EventsConfig
    log: LogConfig
    trending: TrendingConfig
    catalog: CatalogConfig
    rules: RulesConfig
    experiments: ExperimentsConfig
    paging: PagingConfig
    exploration: ExplorationConfig
    protection: ProtectionConfig
    metrics: MetricsConfig
    logging: LoggingConfig
    traces: TracesConfig

    def with_metrics(self, listen: str) -> ServingConfig:
        """The same, with metrics at HOST:PORT."""
        return self.model_copy(update={"metrics": self.metrics.model_copy(update={"listen": listen})})

    def with_rules(self, folder: Path) -> ServingConfig:
        """The same, with the rules of a folder."""
        rules = self.rules.model_copy(update={"folder": str(folder.absolute())})
        return self.model_copy(update={"rules": rules})

    def with_experiments(self, folder: Path) -> ServingConfig:
        """The same, with the experiments of a folder."""
        experiments = self.experiments.model_copy(update={"folder": str(folder.absolute())})
        return self.model_copy(update={"experiments": experiments})

    def with_protection(self, **files: Path | None) -> ServingConfig:
        """The same, with those files of the section `protection` that are given."""
        return self.model_copy(update={"protection": self.protection.with_files(**files)})


DEFAULTS = Path(__file__).parent.parent / "configs" / "serving.yaml"


def load_serving(path: Path | None = None) -> ServingConfig:
    """The defaults, with the keys of `path` laid over them."""
    values = read_yaml(DEFAULTS)
    if path is not None:
        values = overlaid(values, read_yaml(path))
    return checked(ServingConfig, values, path or DEFAULTS)
