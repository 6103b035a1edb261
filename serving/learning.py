"""What a server that runs bandits has besides: their shares, what sessions were given, what events say (docs/experiments.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from aisle.v1 import recommender_pb2
from experiments.assign import Assignment, Split
from experiments.learning import Rewarding
from serving.bandits import Bandits, Seen
from serving.config import ServingConfig
from serving.exposures import Exposures
from serving.feedback import Exposure, Feedback, remembered
from serving.keys import Keys
from serving.online_state import Person
from serving.redis_link import RedisLink
from serving.tally import Tally


class Learning:
    """The parts, connected.

    Args:
        link: To Redis.
        config: Of the server.
        work: Its work directory, if it is one.
        bandits: The experiments that learn, by name.
        tally: Counts what they do.
        clock: Microseconds.
    """

    def __init__(
        self,
        link: RedisLink,
        config: ServingConfig,
        work: Path,
        bandits: Callable[[], Mapping[str, Rewarding]],
        tally: Tally,
        clock: Callable[[], int],
    ) -> None:
        keys = Keys(config.tenant)
        self.feedback = Feedback(keys, bandits, config.events.dedup_days, tally)
        self._exposures = Exposures(link.writes, self.feedback, tally)
        self._bandits = Bandits(link.writes, keys, bandits, _folder(config, work), clock)
        self._clock = clock
        self._splits: dict[str, Split] = {}  # by tag

    def start(self) -> None:
        """Begin to follow, to learn and to remember."""
        self._exposures.start()
        self._bandits.start()

    def stop(self) -> None:
        """End it; what waits is written first."""
        self._bandits.stop()
        self._exposures.stop()

    def assign(self, of: Rewarding, session: str, now: float, given: Mapping[str, bytes]) -> Assignment | None:
        """The arm of a session: the one it met first, else by the shares in force; None: the experiment does not take it.

        Args:
            of: The experiment.
            session: Its id.
            now: Microseconds, for the ramp.
            given: What Redis remembers of the session, by tag; empty where it is away.
        """
        experiment = of.experiment
        if session not in experiment.forced:
            kept = self._exposures.kept(of.tag, session)
            if kept is None and (said := given.get(of.tag)) is not None:
                kept = remembered(experiment.name, said)
            if kept is not None:
                return kept
        return self._split(of).assign(session, now)

    def _split(self, of: Rewarding) -> Split:
        """By the shares in force."""
        shares, made = self._bandits.shares(of), self._splits.get(of.tag)
        if made is None or made.version != shares.version or made.experiment is not of.experiment:
            made = self._splits[of.tag] = Split(of.experiment, shares.shares, shares.version)
        return made

    def met(self, of: Rewarding, given: Assignment, request: recommender_pb2.RecommendRequest) -> None:
        """The session of a request is shown a page of an arm."""
        session = request.session_id
        if self._exposures.kept(of.tag, session) is None:
            who = Person(request.user_id, request.visitor_id).keys
            self._exposures.note(Exposure(of, given, session, who[0] if who else "", self._clock()))

    def shares(self, of: Rewarding) -> tuple[dict[str, float], int, int]:
        """Those in force, their version, and when they were decided (microseconds)."""
        found = self._bandits.shares(of)
        return found.shares, found.version, found.at

    def seen(self, of: Rewarding) -> Seen:
        """What it has learned from."""
        return self._bandits.seen(of)


def _folder(config: ServingConfig, work: Path) -> Path | None:
    """Where shares outlive the process and Redis: in the work directory, else beside the spool."""
    if (work / "releases").is_dir():
        return work / "bandits"
    spool = config.events.spool_folder(work)
    return None if spool is None else spool / "bandits"
