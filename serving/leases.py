"""Rate limits without a round trip: every process takes a little of a budget in advance.

The budget is a token bucket in Redis (rate a second, a burst at most), refilled by Redis's own clock. Beside the requests, each process leases as many
tokens as it used of late, for the next fraction of a second. Without Redis a process goes on with its share of the rate: one part of as many as took
from the budget when Redis was last there.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

import redis

from serving.caller import TooMuchError
from serving.keys import Keys

_LOG = logging.getLogger(__name__)
_AHEAD: Final = 1.5  # of what was used since the last lease
_KEEP_SECONDS: Final = 60.0  # a bucket that nobody asks is forgotten after so long

# KEYS: the bucket, who takes from it. ARGV: rate, burst, tokens wanted, who, seconds after which one who does not come back does not count.
# Returns the tokens granted, as text (Lua's numbers would lose their fraction), and how many take from the bucket.
_SCRIPT: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(held[1]) or burst
local at = tonumber(held[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local granted = math.min(wanted, tokens)
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - granted), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * (burst / rate + 60)))
redis.call('ZADD', KEYS[2], now, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[5]))
redis.call('PEXPIRE', KEYS[2], 60000)
return {string.format('%.6f', granted), redis.call('ZCARD', KEYS[2])}
"""


@dataclass(frozen=True)
class Budget:
    """What is limited. `name` is empty for a whole tenant, else the id of one of its API keys."""

    tenant: str
    name: str
    rate: float  # requests a second
    burst: float  # requests


class _Bucket:
    """What this process holds of a budget."""

    def __init__(self, budget: Budget, lease_seconds: float) -> None:
        self.budget = budget
        self.ready = max(1.0, budget.rate * lease_seconds)  # held for whoever comes next
        self.tokens = self.ready
        self.asked = 0  # since the last lease
        self.used = time.monotonic()
        self.takers = 1


class Leases:
    """The limits of one process, for many threads.

    Args:
        store: A client of Redis.
        seconds: Between two leases.
        takers: Processes that take from a budget, at least: the workers of this server.
    """

    def __init__(self, store: redis.Redis, seconds: float, takers: int = 1) -> None:
        self._store, self._seconds, self._takers = store, seconds, takers
        self._script: Any = store.register_script(_SCRIPT)
        self._me = uuid.uuid4().hex
        self._buckets: dict[Budget, _Bucket] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="leases", daemon=True)
        self._away = False

    def start(self) -> None:
        """Begin to lease."""
        self._thread.start()

    def stop(self) -> None:
        """Lease no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def take(self, budget: Budget) -> None:
        """Use one token.

        Raises:
            TooMuchError: There is none; it says when there may be.
        """
        with self._lock:
            bucket = self._buckets.get(budget)
            if bucket is None:
                bucket = self._buckets[budget] = _Bucket(budget, self._seconds)
                bucket.takers = self._takers
            bucket.asked += 1
            bucket.used = time.monotonic()
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                return
        of = f"API key {budget.name}" if budget.name else f"tenant {budget.tenant}"
        wait = max(self._seconds, 1 / budget.rate)
        raise TooMuchError(f"{of} asks more than its {budget.rate:g} requests a second", wait)

    def renew(self, elapsed: float) -> None:
        """Lease for every bucket that is in use; `elapsed` seconds since the last time count where Redis is away."""
        now = time.monotonic()
        with self._lock:
            for budget in [b for b, bucket in self._buckets.items() if now - bucket.used > _KEEP_SECONDS]:
                del self._buckets[budget]
            asked = []
            for bucket in self._buckets.values():
                wanted = min(max(bucket.ready, _AHEAD * bucket.asked), bucket.budget.burst) - bucket.tokens
                bucket.asked = 0
                if wanted > 0:
                    asked.append((bucket, wanted))
        for bucket, wanted in asked:
            granted = self._leased(bucket, wanted, elapsed)
            with self._lock:
                bucket.tokens += granted

    def _leased(self, bucket: _Bucket, wanted: float, elapsed: float) -> float:
        """Tokens from Redis, or from our share of the rate."""
        budget = bucket.budget
        keys, gone = Keys(budget.tenant), 10 * self._seconds + 1
        try:
            granted, takers = self._script(
                keys=[keys.tokens(budget.name), keys.takers(budget.name)],
                args=[budget.rate, budget.burst, wanted, self._me, gone],
            )
        except redis.RedisError as e:
            self._say(str(e))
            return min(wanted, budget.rate * elapsed / bucket.takers)
        self._say("")
        bucket.takers = max(self._takers, int(takers))
        return float(granted)

    def _say(self, problem: str) -> None:
        if bool(problem) != self._away:
            self._away = bool(problem)
            _LOG.warning("rate limits: %s", problem or "Redis is there again")

    def _follow(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(self._seconds):
            now = time.monotonic()
            self.renew(now - last)
            last = now
