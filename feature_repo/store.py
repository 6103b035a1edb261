"""The feature store of a work directory: open, apply, materialise. Importing Feast takes seconds: it happens inside the functions."""

# bazel: data=[//feature_repo:all_files]

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml

from core import atomic
from core.errors import ConfigError, NotFoundError
from feature_repo.definitions import VIEWS, build, read_tables

HERE: Final = Path(__file__).parent
_STATE: Final = "materialized.json"
_FORMAT: Final = "%Y-%m-%d"


def features_of(work: Path) -> Path:
    """`WORK/features`, where the tables are.

    Raises:
        NotFoundError: there are none yet.
    """
    features = work.resolve() / "features"
    if not (features / VIEWS).exists():
        raise NotFoundError(f"{features}: no feature tables; run `./aisle features export --work {work}`")
    return features


def open_store(work: Path, redis: str | None = None) -> Any:
    """The Feast store (`feast.FeatureStore`) of a work directory, online in SQLite, or in the Redis of a URL."""
    features_of(work)
    from feast import FeatureStore, RepoConfig

    names = {"AISLE_WORK": str(work.resolve())}
    if redis is not None:
        names["AISLE_FEAST_REDIS"] = connection_string(redis)
    file = HERE / ("feature_store.yaml" if redis is None else "feature_store.redis.yaml")
    config = yaml.safe_load(Template(file.read_text()).substitute(names))
    return FeatureStore(config=RepoConfig(**config, repo_path=str(HERE)))


def connection_string(url: str) -> str:
    """Feast's way to name a Redis, from a URL.

    >>> connection_string("unix:///run/redis.sock")
    'localhost:0,unix_socket_path=/run/redis.sock'
    >>> connection_string("redis://cache:6380/2")
    'cache:6380,db=2'
    """
    from redis.connection import parse_url

    try:
        parts = dict(parse_url(url))
    except ValueError as e:
        raise ConfigError(f"{url.split('@')[-1]}: not the URL of a Redis ({e})") from None
    options: dict[str, Any] = {k: parts[k] for k in ("username", "password", "db") if k in parts}
    if url.startswith("rediss:"):
        options["ssl"] = "true"
    if "path" in parts:
        place, options["unix_socket_path"] = "localhost:0", parts["path"]
    else:
        place = f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}"
    return ",".join([place, *(f"{k}={v}" for k, v in options.items())])


def apply(store: Any, work: Path) -> list[str]:
    """Register what the tables are, and take back what is there no more. Returns the names of the feature views."""
    objects = build(features_of(work))
    with _quiet():
        present = [*store.list_feature_services(), *store.list_feature_views(), *store.list_entities()]
        kept = {(type(o), o.name) for o in objects.values()}
        gone = [o for o in present if (type(o), o.name) not in kept and o.name != "__dummy"]
        store.apply(list(objects.values()), objects_to_delete=gone, partial=not gone)
    return [t["name"] for t in read_tables(features_of(work))]


@dataclass(frozen=True)
class Materialized:
    """What went online: for each view, the days `[first, last]` that were read."""

    views: dict[str, tuple[str, str]]
    seconds: float


def materialize(store: Any, work: Path, *, full: bool = False) -> Materialized:
    """Bring the online store up to the tables: what is new since the last time, and days that were re-opened since.

    The first time, and with `full`, every day is read. Feast's own first incremental run would begin at now less the ttl, and so find nothing in a data set
    that ends earlier.
    """
    start, features = time.perf_counter(), features_of(work)
    state_file = features / _STATE
    states: dict[str, Any] = json.loads(state_file.read_text()) if state_file.exists() else {}
    place = _place(store)
    state: dict[str, Any] = {} if full else states.get(place, {})
    done: dict[str, tuple[str, str]] = {}
    for table in (t for t in read_tables(features) if t["online"]):
        name = table["name"]
        written = {d: v["written"] for d, v in json.loads((features / f"{name}.json").read_text()).items()}
        fresh = [d for d, at in written.items() if at > state.get(name, {}).get("written", 0.0)]
        if fresh:
            done[name] = min(fresh), max(written)
            _materialize(store, name, *done[name], state.get(name, {}).get("last"))
            state[name] = {"written": max(written.values()), "last": max(written)}
            atomic.write_bytes(state_file, (json.dumps(states | {place: state}, indent=1) + "\n").encode())
    return Materialized(done, round(time.perf_counter() - start, 2))


def _materialize(store: Any, view: str, first: str, last: str, before: str | None) -> None:
    """Read the days from `first` to `last`; `before` is the last day of the run before."""
    with _quiet():
        known = store.get_feature_view(
            view
        ).most_recent_end_time  # of Feast's registry, which someone may have thrown away
        if before is None or first <= before or known is None:
            store.materialize(start_date=_moment(first), end_date=_moment(last), feature_views=[view])
        else:
            store.materialize_incremental(end_date=_moment(last), feature_views=[view])


def _moment(day: str) -> dt.datetime:
    return dt.datetime.strptime(day, _FORMAT).replace(tzinfo=dt.UTC)


def _place(store: Any) -> str:
    """Which online store it is, without its password."""
    online = store.config.online_store
    name = getattr(online, "connection_string", None) or getattr(online, "path", "")
    return f"{online.type}:{hashlib.blake2b(str(name).encode(), digest_size=6).hexdigest()}"


@contextlib.contextmanager
def _quiet() -> Any:
    """Feast prints on stdout, whose last line is ours: to stderr with it."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
