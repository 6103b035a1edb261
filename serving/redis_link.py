"""The connection to Redis: reads with a deadline and no retries that would break it, writes that are confirmed or refused.

While Redis fails, requests stop waiting for it: after a few failed reads in a row only one request per pause tries again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.errors import InputError
from serving.breaker import Breaker
from serving.config import RedisConfig
from serving.failures import Failure, StoreError
from serving.tally import Tally

DURABILITY: Final = "*append*"  # the settings that say whether a confirmed write is on disk
_DURABLE: Final = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

Command = tuple[Any, ...]
Connection = Any  # redis.connection.Connection, whose methods have no types


class RedisLink:
    """Connections of one process to one Redis; safe for many threads."""

    def __init__(self, url: str, config: RedisConfig, tally: Tally | None = None) -> None:
        self.address = address(url)
        self._config, self._tally = config, tally
        self._reads = client(url, config.read_deadline_ms / 1e3, retries=0).connection_pool
        self.writes = client(url, config.write_deadline_ms / 1e3, retries=1)
        self._idle: deque[Connection] = deque(maxlen=config.connections)
        self._reading = Breaker(config.failures_to_pause, config.pause_ms / 1e3)
        # of writes that a caller waits for, which wait longer themselves
        self.writing = Breaker(config.failures_to_pause, max(config.pause_ms, config.write_deadline_ms) / 1e3)

    @property
    def failure(self) -> Failure | None:
        """Of the newest read; None: it went well."""
        return self._reading.failure

    def read(self, commands: Sequence[Command], within: float | None = None) -> list[Any]:
        """The replies to `commands`, in one round trip within the read deadline, or within so many seconds where that is less.

        Raises:
            StoreError: Redis failed, or failed just now and is left alone for a moment; or `within` was too little, which is not held against it.
        """
        if within is not None and within >= self._config.read_deadline_ms / 1e3:
            within = None
        if within is not None and within <= 0:
            raise StoreError(Failure.DEADLINE_STATE, "")
        self._reading.check()
        start = time.perf_counter()
        try:
            replies = self._round_trip(commands, within)
        except redis.RedisError as e:
            self._took(start, failure_of(e))
            if within is not None and isinstance(e, redis.TimeoutError):
                raise StoreError(Failure.DEADLINE_STATE, "") from None
            failure = failure_of(e)
            self._reading.failed(failure)
            raise StoreError(failure, str(e)) from None
        self._reading.worked()
        self._took(start, "ok")
        return replies

    @property
    def paused(self) -> bool:
        """Whether requests do not wait for it, because it failed several times in a row."""
        return self._reading.is_open

    def _took(self, start: float, outcome: str) -> None:
        if self._tally is not None and self._tally.detailed:
            self._tally.note((), (("redis", (outcome,), time.perf_counter() - start),))

    def _round_trip(self, commands: Sequence[Command], within: float | None) -> list[Any]:
        try:
            connection, reused = self._idle.pop(), True
        except IndexError:
            connection, reused = self._connection(), False
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            if within is not None and not connection.can_read(timeout=within):
                raise redis.TimeoutError
            replies = [connection.read_response() for _ in commands]
        except redis.ConnectionError:
            connection.disconnect()
            if not reused:
                raise
            # the server restarted since this connection was made; so it did for the other idle ones
            self._idle.clear()
            return self._round_trip(commands, within)
        except redis.RedisError:
            connection.disconnect()  # its unread replies would answer the next request
            raise
        self._idle.append(connection)
        return replies

    def warm(self) -> None:
        """Open the connections that requests will need."""
        held: list[Connection] = []
        try:
            for _ in range(self._config.connections):
                connection = self._connection()
                connection.connect()
                held.append(connection)
        except redis.RedisError:
            self._reading.expect()  # the first request tries again, and says what is wrong
        self._idle.extend(held)

    def _connection(self) -> Connection:
        return self._reads.make_connection()

    def durable(self) -> bool:
        """Whether Redis says that a confirmed write is on disk."""
        try:
            return is_durable(self.writes.config_get(DURABILITY))
        except redis.RedisError:
            return False  # not reachable, or a host that hides its configuration


def is_durable(settings: Any) -> bool:
    """Whether the answer to CONFIG GET DURABILITY means that a confirmed write is on disk."""
    return all(settings.get(name) == value for name, value in _DURABLE.items())


def client(url: str, timeout: float, *, retries: int) -> redis.Redis:
    """A client whose every wait ends after `timeout` seconds.

    Raises:
        InputError: The URL is none that redis-py knows.
    """
    try:
        made: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), retries),
            driver_info=None,
        )
    except ValueError as e:
        raise InputError(f"--redis {address(url)}: {e}") from None
    return made


def failure_of(error: redis.RedisError) -> Failure:
    """What an error of redis-py means in our terms."""
    if isinstance(error, redis.TimeoutError):
        return Failure.REDIS_TIMEOUT
    if isinstance(error, redis.BusyLoadingError | redis.AuthenticationError) or not isinstance(
        error, redis.ConnectionError
    ):
        return Failure.REDIS_ERROR
    return Failure.REDIS_UNREACHABLE


def address(url: str) -> str:
    """The URL without credentials.

    >>> address("redis://:secret@cache:6379/1")
    'redis://cache:6379/1'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
