"""A Redis, a release and a server for the tests of serving: real ones, on a socket and a port of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py

from core.work import Work
from serving.client import Client
from serving.config import ServingConfig, load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.process import ProcessOptions, ServingProcess
from serving.redis_link import client
from tests.serving.exploring import drawing
from tests.serving.shop import make_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def redis_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """For tests that neither stop it nor read its files."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    server.launch()
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_of_session: EmbeddedRedis) -> str:
    """An empty Redis."""
    store = client(redis_of_session.url, 5, retries=0)
    store.flushall()
    store.config_resetstat()
    return redis_of_session.url


@pytest.fixture
def store(redis_url: str) -> redis_py.Redis:
    return client(redis_url, 5, retries=0)


@pytest.fixture(scope="session")
def config() -> ServingConfig:
    """The defaults, with a deadline that a busy test machine keeps."""
    return changed(bare(), "redis", read_deadline_ms=300.0)


def bare() -> ServingConfig:
    """The defaults without what outlives or follows a call, and without chance: no spool, no log of recommendations, no trends, no exploration.

    Nor is anything shed, however busy the test machine.
    """
    plain = load_serving().model_copy(update={"exploration": drawing(share=0.0, new_items__share=0.0)})
    plain = changed(plain, "protection", shed=False)
    return changed(changed(changed(plain, "events", spool="none"), "log", share=0), "trending", enabled=False)


def changed(config: ServingConfig, section: str, **values: object) -> ServingConfig:
    """`config` with other values in one section."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def options_for(shop: Work, redis_url: str, config: ServingConfig) -> ProcessOptions:
    return ProcessOptions(shop.current, shop.root, "127.0.0.1", 0, redis_url, embedded=True, config=config)


@pytest.fixture
def server(shop: Work, redis_url: str, config: ServingConfig) -> Iterator[ServingProcess]:
    """Serves the shop, user state loaded."""
    process = ServingProcess(options_for(shop, redis_url, config))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def ask(server: ServingProcess) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.port}", timeout=20) as connected:
        yield connected
