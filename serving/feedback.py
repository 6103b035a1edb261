"""Feedback of bandits: what a session was given and what came of it, in Redis, so that every session and every reward counts once.

A session has one hash (`Keys.unit`). Under the tag of an experiment (experiments.learning) it says what the session was given first, and under tag and
event each event that counts. What a session adds to the counts of its experiment is a function of this hash alone: whenever it changes, in one atomic
step the old part leaves the counts and the new one enters. So neither the order in which pages and events arrive matters, nor how often.

    <tag>            time version arm probability window bucket cap       of the first page; times in microseconds, cap in steps
    <tag>:<event>    time reward                                          in steps

An event names its experiments by its attribution token, of which nothing else is believed: a session without a record of the server's own counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from core.attribution import read_token
from core.schema import SECOND, Column
from experiments.assign import Assignment
from experiments.config import HOLDOUT
from experiments.learning import Rewarding
from serving.keys import Keys
from serving.tally import Tally

_KEEP_COUNTS_SECONDS: Final = 90 * 86_400
MOST_EVENTS: Final = 400  # of one session: more is a robot's, and does not count
_COUNTED: Final = "feedback"

# Of a session's hash and the counts of one experiment. `rewarded` is called by the script that stores events (serving.event_writer).
FUNCTIONS: Final = f"""
local function part(unit, tag)
  local given = redis.call('HGET', unit, tag)
  if not given then return nil end
  local at, version, arm, window, bucket, cap = string.match(given, '^(%d+) (%d+) (%S+) %S+ (%d+) (%d+) (%d+)$')
  local from, sum, head = tonumber(at), 0, tag .. ':'
  local all = redis.call('HGETALL', unit)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, #head) == head then
      local time, reward = string.match(all[i + 1], '^(%d+) (-?%d+)$')
      if tonumber(time) >= from and tonumber(time) < from + tonumber(window) then sum = sum + tonumber(reward) end
    end
  end
  local group = string.format('%.0f', math.floor(from / tonumber(bucket))) .. ':' .. version .. ':' .. arm
  return group, math.min(math.max(sum, 0), tonumber(cap))
end
local function add(counts, group, n, reward)
  local held = redis.call('HGET', counts, group) or '0 0 0 0'
  local units, rewarded, total, squares = string.match(held, '^(%d+) (%d+) (%d+) (%d+)$')
  units, total, squares = units + n, total + n * reward, squares + n * reward * reward
  rewarded = rewarded + (reward > 0 and n or 0)
  if units <= 0 then redis.call('HDEL', counts, group)
  else redis.call('HSET', counts, group, string.format('%.0f %.0f %.0f %.0f', units, rewarded, total, squares)) end
end
local function put(unit, counts, tag, field, value)
  local group, reward = part(unit, tag)
  if group then add(counts, group, -1, reward) end
  if value then redis.call('HSET', unit, field, value) else redis.call('HDEL', unit, field) end
  group, reward = part(unit, tag)
  if group then
    add(counts, group, 1, reward)
    redis.call('EXPIRE', counts, {_KEEP_COUNTS_SECONDS})
  end
end
local function keep(key, seconds)
  if redis.call('TTL', key) < tonumber(seconds) then redis.call('EXPIRE', key, seconds) end
end
local function rewarded(unit, counts, tag, event, value, seconds)
  local field = tag .. ':' .. event
  if redis.call('HEXISTS', unit, field) == 1 or redis.call('HLEN', unit) >= {MOST_EVENTS} then return end
  put(unit, counts, tag, field, value)
  keep(unit, seconds)
end
"""

# KEYS: per exposure the session's hash, the counts, the sessions of its person. ARGV: per exposure tag, what was given, seconds to keep it, and the session
# where it is somebody's.
_EXPOSE: Final = (
    FUNCTIONS
    + """
for i = 0, #KEYS / 3 - 1 do
  local unit, counts, units = KEYS[3 * i + 1], KEYS[3 * i + 2], KEYS[3 * i + 3]
  local tag, given, seconds = ARGV[4 * i + 1], ARGV[4 * i + 2], ARGV[4 * i + 3]
  local held = redis.call('HGET', unit, tag)
  local was, is = held and tonumber(string.match(held, '^%d+')), tonumber(string.match(given, '^%d+'))
  if not held or is < was or (is == was and given < held) then put(unit, counts, tag, tag, given) end
  keep(unit, seconds)
  if ARGV[4 * i + 4] ~= '' then
    redis.call('SADD', units, ARGV[4 * i + 4])
    keep(units, seconds)
  end
end
"""
)

# KEYS: a session's hash, then the counts of each tag in ARGV.
_LEAVE: Final = (
    FUNCTIONS
    + """
for i = 1, #ARGV do put(KEYS[1], KEYS[i + 1], ARGV[i], ARGV[i], nil) end
return redis.call('DEL', KEYS[1])
"""
)


@dataclass(frozen=True)
class Exposure:
    """The first page of a session that a bandit had a part in."""

    of: Rewarding
    given: Assignment
    session: str
    who: str  # person key, empty for nobody
    time: int  # microseconds

    @property
    def said(self) -> str:
        """As the session's hash has it."""
        a, r = self.given, self.of
        return f"{self.time} {a.version} {a.arm} {a.probability!r} {r.window} {r.bucket} {r.cap}"


def remembered(experiment: str, said: bytes) -> Assignment:
    """The assignment of `Exposure.said`."""
    _, version, arm, probability, *_ = said.decode().split(" ")
    return Assignment(experiment, arm, float(probability), int(version))


@dataclass(frozen=True)
class Reward:
    """What an event adds to its session: keys and arguments of `rewarded`."""

    keys: tuple[str, str]
    arguments: tuple[str, str, str, int]


class Feedback:
    """What events say of bandits.

    Args:
        keys: Of the tenant.
        bandits: The experiments that learn, by name, as this process has them.
        late_days: For how long after the window of a session its late events still count.
        tally: Counts what is learned from, and what is not, and why.
    """

    def __init__(
        self, keys: Keys, bandits: Callable[[], Mapping[str, Rewarding]], late_days: float, tally: Tally
    ) -> None:
        self._keys, self._bandits, self._tally = keys, bandits, tally
        self._late = late_days * 86_400

    def seconds(self, of: Rewarding) -> int:
        """For how long a session is kept."""
        return round(of.window / SECOND + self._late)

    def of(self, hash: int, time: int, columns: Mapping[str, Any]) -> list[Reward]:
        """What an event adds: nothing where its token names no bandit.

        Args:
            hash: Of the event.
            time: Its own, microseconds.
            columns: As it is stored.
        """
        token = columns.get(Column.ATTRIBUTION_TOKEN, "")
        if "@" not in token:
            return []
        found, bandits = [], self._bandits()
        for experiment, arm, version in read_token(token).arms:
            if not version:  # a fixed split, which learns nothing
                continue
            of = bandits.get(experiment)
            problem = self._problem(of, arm, columns)
            if of is None or problem:
                self._tally.add(_COUNTED, problem)
                continue
            reward = of.reward(columns)
            if reward is not None:
                unit = self._keys.unit(columns[Column.SESSION_ID])
                said = (of.tag, f"{hash:016x}", f"{time} {reward}", self.seconds(of))
                found.append(Reward((unit, self._keys.counts(of.tag)), said))
                self._tally.add(_COUNTED, "taken")
        return found

    @staticmethod
    def _problem(of: Rewarding | None, arm: str, columns: Mapping[str, Any]) -> str:
        if of is None:
            return "unknown-experiment"
        if arm not in of.experiment.arms and arm != HOLDOUT:
            return "unknown-arm"
        return "" if columns.get(Column.SESSION_ID) else "no-session"

    def expose(self, store: redis.Redis, exposures: Sequence[Exposure]) -> None:
        """Store what sessions were given; that of a session's first page stays, whichever comes first.

        Raises:
            redis.RedisError: It is not known to be stored; the same call may be made again.
        """
        keys, arguments = [], []
        for e in exposures:
            keys += [self._keys.unit(e.session), self._keys.counts(e.of.tag), self._keys.units(e.who)]
            arguments += [e.of.tag, e.said, self.seconds(e.of), e.session if e.who else ""]
        store.eval(_EXPOSE, len(keys), *keys, *arguments)


def forget_units(store: redis.Redis, keys: Keys, people: Sequence[str], sessions: Sequence[str]) -> int:
    """Take sessions out of the counts, those of people (person keys) too, and forget them; how many there were."""
    known: set[str] = set(sessions)
    for who in people:
        found: Any = store.smembers(keys.units(who))
        known |= {s.decode() for s in found}
        store.delete(keys.units(who))
    removed = 0
    for session in sorted(known):
        fields: Any = store.hkeys(keys.unit(session))
        tags = sorted({f.decode().split(":")[0] for f in fields})
        if tags:
            names = [keys.unit(session), *(keys.counts(t) for t in tags)]
            removed += int(store.eval(_LEAVE, len(names), *names, *tags))
    return removed
