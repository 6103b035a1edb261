"""Watches the arms of running experiments while they answer, and stops an experiment of which one does harm: a canary is called back by itself.

Counted is each unit once for each thing that may happen to it (experiments.inference.arrivals): an answer failed, an answer took longer than
`watch.slow_ms`, it followed a page with an event of a guardrail that has `stops`. Each process remembers whom it counted, and hands them to sets
in Redis that all processes of the shop share; where Redis is away it goes by its own. The arm of a unit is chosen by its hash alone, so either
is a fair count.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from aisle.v1 import events_pb2 as pb_events
from aisle.v1 import recommender_pb2 as pb
from core.attribution import read_token
from core.ids import hash64
from experiments.config import HOLDOUT, Experiment
from experiments.files import Written, stopped
from experiments.inference.arrivals import log_evidence
from experiments.stops import Stop, write_stop
from serving.experiments import Given, LiveExperiments
from serving.keys import Keys
from serving.private_logs import stack_of
from serving.redis_link import RedisLink

_LOG = logging.getLogger(__name__)
_SECONDS: Final = 0.5
_MOST: Final = 100_000  # units of an arm that one guard remembers: evidence is long decided
_DAYS: Final = 60
ERRORS, SLOW, DIED = "errors", "slow", "died"
Key = tuple[str, str, str, str]  # experiment, id of what its file says, guard, arm


@dataclass(frozen=True)
class Guard:
    """What must not happen more often in an arm than in the control, or not less often."""

    name: str
    ratio: float  # so many times as often is allowed
    more: bool  # it must not happen more often


def guards_of(experiment: Experiment) -> tuple[Guard, ...]:
    """Of an experiment; none without `watch`."""
    watch = experiment.watch
    if watch is None:
        return ()
    found = [Guard(ERRORS, watch.errors, more=True)] if watch.errors is not None else []
    found += [Guard(SLOW, watch.slow, more=True)] if watch.slow is not None else []
    return (*found, *(Guard(_of(g.name), 1 - g.most_lost, more=False) for g in experiment.guardrails if g.stops))


class ArmWatch:
    """Of one tenant. Many threads count; a thread of its own decides."""

    def __init__(self, link: RedisLink, keys: Keys, experiments: LiveExperiments) -> None:
        self._redis, self._keys, self._experiments = link.writes, keys, experiments
        self._lock = threading.Lock()
        self._seen: dict[Key, set[int]] = defaultdict(set)
        self._new: dict[Key, set[int]] = defaultdict(set)  # of these, what Redis was not told
        self._tripped: dict[str, bool] = {}  # by name, and whether the switch could be written
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arm-watch", daemon=True)

    def start(self) -> None:
        """Begin to decide."""
        self._thread.start()

    def blame(self, left: Collection[Path], worker: int) -> None:
        """The worker before this one died while releases of arms were at work in it: their experiments are stopped before any of them is opened again."""
        for written in self._experiments.written:
            name = written.experiment.name
            for arm, path in written.releases.items():
                if path in left and written.experiment.watch is not None and name not in self._experiments.stopped:
                    why = f"worker {worker} ended while the release {path.name} of {arm!r} was at work in it"
                    self._pull(written, Stop(arm, DIED, why))

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def answered(self, given: Given, request: pb.RecommendRequest, milliseconds: float) -> None:
        """A page was answered in so long."""
        for written, arm in self._watched(given):
            watch = written.experiment.watch
            if watch is not None and watch.slow is not None and milliseconds > watch.slow_ms:
                self._count(written, SLOW, arm, units_of(request)[written.experiment.unit])

    def failed(self, given: Given, request: pb.RecommendRequest) -> None:
        """A page could not be answered, or not by the arm's own release."""
        for written, arm in self._watched(given):
            self._count(written, ERRORS, arm, units_of(request)[written.experiment.unit])

    def followed(self, event: pb_events.Event, now: int) -> None:
        """An event that followed a page of an experiment counts for the arm of its unit. `now`: microseconds.

        The token of the event says of which experiments the page was; the arm is found as it was for the page, since anybody can write a token.
        """
        named = {arm.experiment for arm in read_token(event.attribution_token).arms}
        for written in self._experiments.written if named else ():
            experiment = written.experiment
            if experiment.name not in named:
                continue
            guards = [g.name for g in experiment.guardrails if g.stops and event.event_type in g.events]
            unit = units_of(event)[experiment.unit]
            if experiment.watch is None or not guards or not unit or not experiment.runs(now):
                continue
            one = written.split.assign(unit, now)
            if one is not None and not one.forced and one.arm != HOLDOUT:
                for guard in guards:
                    self._count(written, _of(guard), one.arm, unit)

    def look(self) -> None:
        """Hand over what is new, and stop what must be stopped. Called by one thread."""
        off = self._experiments.stopped
        running = [w for w in self._experiments.written if w.experiment.watch is not None]
        alive = {(w.experiment.name, w.id) for w in running if w.experiment.name not in off}
        with self._lock:
            for kept in (self._seen, self._new):
                for key in [k for k in kept if k[:2] not in alive]:
                    del kept[key]
        for written in running:
            name = written.experiment.name
            if name not in off:
                self._decide(written, self._counts(written))
            elif name in self._tripped:
                self._forget(written)  # what other processes still handed over: `resume` begins anew
        self._taken_back()

    def _taken_back(self) -> None:
        """Experiments whose switch was removed run again; of a folder that cannot be read nothing is known."""
        folder, written = self._experiments.folder, [name for name, there in self._tripped.items() if there]
        if folder is None or not written:
            return
        with contextlib.suppress(OSError):
            for name in set(written) - stopped(folder):
                del self._tripped[name]
                self._experiments.untrip(name)

    def _decide(self, written: Written, counts: Mapping[tuple[str, str], int]) -> None:
        experiment, watch = written.experiment, written.experiment.watch
        assert watch is not None
        guards, arms = guards_of(experiment), [a for a in experiment.served if a != experiment.control]
        for guard in guards:
            control = counts.get((guard.name, experiment.control), 0)
            for arm in arms:
                n = counts.get((guard.name, arm), 0)
                share = experiment.weights[arm] / (experiment.weights[arm] + experiment.weights[experiment.control])
                limit = len(guards) * len(arms) / watch.alpha
                if n + control < watch.least:
                    continue
                if log_evidence(n, control, share, guard.ratio, more=guard.more) >= math.log(limit):
                    self._trip(written, arm, guard, n, control, share)
                    return

    def _trip(self, written: Written, arm: str, guard: Guard, n: int, control: int, share: float) -> None:
        often = "more" if guard.more else "less"
        why = (
            f"{guard.name} {often} often than allowed: {n} {written.experiment.unit}s of {arm!r} and {control} of "
            f"{written.experiment.control!r}, where {share:.1%} of both are of {arm!r}; allowed is {guard.ratio:g} times as often"
        )
        self._pull(written, Stop(arm, guard.name, why))

    def _pull(self, written: Written, stop: Stop) -> None:
        """The switch: here and now, and by its file everywhere."""
        name, folder = written.experiment.name, self._experiments.folder
        self._experiments.trip(name)
        self._forget(written)
        try:
            first = folder is not None and write_stop(folder, name, stop)
            self._tripped[name] = True
        except OSError as e:
            _LOG.error("experiment %s is stopped in this process alone, %s cannot be written: %s", name, folder, e)
            first, self._tripped[name] = True, False
        if first:
            _LOG.error("experiment %s is stopped: %s", name, stop.why)

    def _counts(self, written: Written) -> dict[tuple[str, str], int]:
        """By guard and arm: of all processes, else of this one."""
        experiment = written.experiment
        keys: list[Key] = [
            (experiment.name, written.id, guard.name, arm)
            for guard in guards_of(experiment)
            for arm in experiment.served
        ]
        with self._lock:
            new = {key: sorted(self._new[key]) for key in keys if self._new.get(key)}
            own = {key[2:]: len(self._seen.get(key, ())) for key in keys}
        try:
            pipe = self._redis.pipeline(transaction=False)
            for key, units in new.items():
                pipe.sadd(self._keys.watched(*key), *(unit.to_bytes(8, "big", signed=False) for unit in units))
                pipe.expire(self._keys.watched(*key), _DAYS * 86_400)
            for key in keys:
                pipe.scard(self._keys.watched(*key))
            replies: list[Any] = pipe.execute()
        except redis.RedisError:
            return own
        with self._lock:
            for key, units in new.items():
                self._new[key] -= set(units)
        return {key[2:]: int(n) for key, n in zip(keys, replies[-len(keys) :], strict=True)} if keys else {}

    def _forget(self, written: Written) -> None:
        experiment = written.experiment
        keys = [(g.name, arm) for g in guards_of(experiment) for arm in experiment.served]
        try:
            self._redis.delete(*(self._keys.watched(experiment.name, written.id, *key) for key in keys))
        except redis.RedisError:
            return  # tried again with the next look

    def _count(self, written: Written, guard: str, arm: str, unit: str) -> None:
        key, hashed = (written.experiment.name, written.id, guard, arm), hash64(unit)
        with self._lock:
            seen = self._seen[key]
            if unit and hashed not in seen and not self._full(written, guard):
                seen.add(hashed)
                self._new[key].add(hashed)

    def _full(self, written: Written, guard: str) -> bool:
        """Whether a guard remembers no more units, of no arm: one that went on alone would look guilty, or beyond reproach."""
        head = (written.experiment.name, written.id, guard)
        return any(len(self._seen.get((*head, arm), ())) >= _MOST for arm in written.experiment.served)

    def _watched(self, given: Given) -> Iterator[tuple[Written, str]]:
        for a in given.assignments:
            if not a.forced and a.arm != HOLDOUT and (written := self._of(a.experiment)) is not None:
                yield written, a.arm

    def _of(self, name: str) -> Written | None:
        """A watched experiment."""
        found = self._experiments.written
        return next((w for w in found if w.experiment.name == name and w.experiment.watch is not None), None)

    def _run(self) -> None:
        while not self._stopping.wait(_SECONDS):
            try:
                self.look()
            except Exception as e:  # noqa: BLE001 - the next look may be fine, and requests go on
                _LOG.error("the arms of experiments were not watched\n%s", stack_of(e))


def units_of(request: pb.RecommendRequest | pb_events.Event) -> dict[str, str]:
    """The ids of a request, or of an event, by kind of unit."""
    return {"user": request.user_id, "visitor": request.visitor_id, "session": request.session_id}


def _of(guardrail: str) -> str:
    """The guard of a guardrail: those of `watch` have names without a colon."""
    return f"guardrail:{guardrail}"
