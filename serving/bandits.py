"""The shares of bandits: learned by one process at a time, followed by all, kept in memory and on disk. No answer waits for Redis, or fails without it.

Every version is published in Redis (`Keys.shares`). Each process looks twice a second, takes up a newer one, and puts the one it knows back where Redis has
lost it. Whoever holds the lease learns: from the counts (serving.feedback) the next version, which is published only behind the one it was made from.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from core.atomic import write_bytes
from core.schema import SECOND
from experiments.config import Experiment
from experiments.inference.sample_ratio import log_evidence
from experiments.learning import Group, Rewarding, Shares, by_arm, learned
from serving.keys import Keys

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 0.4
_LEASE_MS: Final = 3_000
_KEEP_SECONDS: Final = 90 * 86_400
_FRESH_SECONDS: Final = 1.0  # so old may counts be that a status says
_LIFE: Final = "life"

# KEYS: shares. ARGV: version, its JSON, its shares alone, seconds to keep. A version that is not newer than the one there is left out.
_PUBLISH: Final = """
local there = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if there >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'newest', ARGV[2], 'v' .. ARGV[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""

# KEYS: the lease. ARGV: who, milliseconds.
_LEASE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


@dataclass(frozen=True)
class Seen:
    """What a bandit has seen: sessions by arm, and the chance of such a split while all is right."""

    exposed: dict[str, int] = field(default_factory=dict)
    rewarded: dict[str, int] = field(default_factory=dict)
    ratio_p: float = 1.0


class Bandits:
    """The bandits of one tenant in one process.

    Args:
        store: A client for writing.
        keys: Of the tenant.
        running: The experiments that learn, by name.
        folder: Where the shares are kept; None: in memory alone.
        clock: Microseconds.
    """

    def __init__(
        self,
        store: redis.Redis,
        keys: Keys,
        running: Callable[[], Mapping[str, Rewarding]],
        folder: Path | None,
        clock: Callable[[], int],
    ) -> None:
        self._store, self._keys, self._running, self._folder, self._clock = store, keys, running, folder, clock
        self._shares: dict[str, Shares] = {}  # by tag
        self._due: dict[str, float] = {}  # by tag, when to learn again
        self._looked: dict[str, tuple[float, Seen]] = {}
        self._me, self._away = uuid.uuid4().hex, ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bandits", daemon=True)

    def start(self) -> None:
        """Begin to follow and to learn."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def shares(self, of: Rewarding) -> Shares:
        """Those in force: the newest that this process knows."""
        found = self._shares.get(of.tag)
        if found is None:
            found = self._shares.setdefault(of.tag, self._kept(of))
        return found

    def look(self) -> None:
        """Follow what others published, and learn if it is our turn.

        Raises:
            redis.RedisError: Redis failed; what is known stays.
        """
        running = tuple(self._running().values())
        if not running:
            return
        pipeline = self._store.pipeline(transaction=False)
        for of in running:
            pipeline.hmget(self._keys.shares(of.tag), "version", "newest")
        for of, (version, newest) in zip(running, pipeline.execute(), strict=True):
            self._follow(of, int(version or 0), newest)
        if self._store.eval(_LEASE, 1, self._keys.learner, self._me, str(_LEASE_MS)):
            for of in running:
                self._learn(of)

    def seen(self, of: Rewarding) -> Seen:
        """What it has seen, a second old at most; older where Redis is away."""
        at, seen = self._looked.get(of.tag, (-math.inf, Seen()))
        if time.monotonic() - at < _FRESH_SECONDS:
            return seen
        try:
            groups = self._groups(of)
            versions: Any = self._store.hgetall(self._keys.shares(of.tag))
        except redis.RedisError:
            return seen
        counts = by_arm(of.experiment, groups)
        exposed, rewarded = ({arm: pair[at] for arm, pair in counts.items()} for at in (0, 1))
        seen = Seen(exposed, rewarded, _ratio_p(of.experiment, groups, versions))
        self._looked[of.tag] = time.monotonic(), seen
        return seen

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            try:
                self.look()
                problem = ""
            except (redis.RedisError, ValueError) as e:  # ValueError: what Redis holds there is not ours
                problem = str(e) or type(e).__name__
            if bool(problem) != bool(self._away):
                _LOG.warning("bandits: %s", f"the shares stay as they are: {problem}" if problem else "Redis is back")
            self._away = problem

    def _follow(self, of: Rewarding, version: int, newest: bytes | None) -> None:
        known = self.shares(of)
        if version > known.version and newest is not None:
            try:
                self._take(of, Shares.heard(newest, of.experiment.arms))
            except ValueError as e:
                _LOG.error("shares of %s in Redis cannot be read: %s", of.tag, e)
        elif version < known.version and known.version > 1:
            self._publish(of, known)

    def _learn(self, of: Rewarding) -> None:
        now, known = self._clock(), self.shares(of)
        if now < self._due.get(of.tag, 0):
            return
        self._due[of.tag] = now + of.experiment.allocation.update_seconds * SECOND
        counts = self._keys.counts(of.tag)
        self._store.hsetnx(counts, _LIFE, uuid.uuid4().hex)
        life: Any = self._store.hget(counts, _LIFE)
        made = learned(now, of, known, self._groups(of), life.decode() if life else "")
        if made is not None and self._publish(of, made):
            self._take(of, made)

    def _groups(self, of: Rewarding) -> list[Group]:
        return [
            Group.read(name.decode(), value.decode())
            for name, value in self._store.hscan_iter(self._keys.counts(of.tag), count=1_000)
            if name != _LIFE.encode()
        ]

    def _publish(self, of: Rewarding, shares: Shares) -> bool:
        arguments = (str(shares.version), shares.said, json.dumps(shares.shares), str(_KEEP_SECONDS))
        return bool(self._store.eval(_PUBLISH, 1, self._keys.shares(of.tag), *arguments))

    def _take(self, of: Rewarding, shares: Shares) -> None:
        self._shares[of.tag] = shares
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._folder / f"{of.tag}.json", shares.said.encode())
        except OSError as e:
            _LOG.warning("the shares of %s are kept in memory alone: %s", of.tag, e)

    def _kept(self, of: Rewarding) -> Shares:
        """From the disk, as an earlier process left them; else what a policy says before it has seen anything."""
        if self._folder is not None:
            try:
                return Shares.heard((self._folder / f"{of.tag}.json").read_bytes(), of.experiment.arms)
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as e:
                _LOG.warning("the shares of %s on disk cannot be used: %s", of.tag, e)
        return Shares.first(of.experiment)


def _ratio_p(experiment: Experiment, groups: Sequence[Group], versions: Mapping[bytes, bytes]) -> float:
    """Always-valid: the Bayes factors of the versions multiply, as each speaks of sessions of its own, at shares that were settled before these came.

    Of the arms among themselves: how many are held out is the file's to change, while what was counted goes on.
    """
    counts: dict[int, dict[str, int]] = {}
    for g in groups:
        of = counts.setdefault(g.version, {})
        of[g.arm] = of.get(g.arm, 0) + g.units
    log = 0.0
    for version, found in counts.items():
        said = versions.get(f"v{version}".encode())
        if said is None and version > 1:
            continue  # Redis lost them
        shares = Shares.first(experiment).shares if said is None else json.loads(said)
        log += log_evidence([found.get(arm, 0) for arm in shares], list(shares.values()))
    return math.exp(-max(log, 0.0))
