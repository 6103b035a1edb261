"""The experiments of a server: which arms a request is given, and what of serving they change (docs/experiments.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from aisle.v1 import admin_pb2, recommender_pb2
from core.attribution import GivenArm
from core.errors import nearest
from core.marked import signature
from experiments.assign import Assignment, assign, overridden, said
from experiments.config import HOLDOUT, Experiment, Settings
from experiments.files import Written, load_experiments, stopped
from experiments.learning import Rewarding
from serving.config import ExperimentsConfig
from serving.followed import Followed
from serving.learning import Learning
from serving.online_state import Person
from serving.recommend_checks import is_personal
from serving.release import Release
from serving.tally import Tally
from serving.validation import BadRequestError

_MOST_VIEWS: Final = 1_000  # combinations of arms
_COUNTED: Final = "experiment"


@dataclass(frozen=True)
class Given:
    """The arms of a request, and what they change."""

    assignments: tuple[Assignment, ...] = ()
    settings: tuple[Settings, ...] = ()  # of the arms that change anything

    @property
    def said(self) -> tuple[str, ...]:
        """For the log."""
        return tuple(said(self.assignments))

    @property
    def arms(self) -> tuple[GivenArm, ...]:
        """For the attribution token: those that count."""
        return tuple(GivenArm(a.experiment, a.arm, a.version) for a in self.assignments if not a.forced)

    def told(self, request: recommender_pb2.RecommendRequest) -> recommender_pb2.RecommendRequest:
        """The request with what the arms add; a caller who asks for something gets that. The same object where nothing is added."""
        added = {}
        for settings in self.settings:
            if settings.diversity_level is not None and not request.diversity_level:
                added["diversity_level"] = settings.diversity_level
        explore = next((s.explore for s in self.settings if s.explore is not None), None)
        if explore is not None and not request.HasField("explore"):
            added["explore"] = explore  # type: ignore[assignment]
        if not added:
            return request
        changed = recommender_pb2.RecommendRequest(**added)  # type: ignore[arg-type]
        changed.MergeFrom(request)
        return changed

    def write(self, response: recommender_pb2.RecommendResponse) -> None:
        """Say the arms in the answer."""
        for a in self.assignments:
            response.experiment_assignments.add(
                experiment=a.experiment, arm=a.arm, probability=a.probability, version=a.version, forced=a.forced
            )


_NOTHING: Final = Given()


class LiveExperiments:
    """Follows a folder of experiments. Files that do not fit never replace those that do; a kill switch needs no file to fit.

    Args:
        config: Where they are.
        tenant: Whose requests these are.
        tally: Counts requests by arm.
        clock: Microseconds.
    """

    def __init__(self, config: ExperimentsConfig, tenant: str, tally: Tally, clock: Callable[[], int]) -> None:
        self._folder, self._tenant, self._tally, self._clock = config.path, tenant, tally, clock
        self._learning: Learning | None = None
        self._bandits: tuple[Sequence[Written], dict[str, Rewarding], tuple[str, ...]] = ((), {}, ())
        self._views: dict[tuple[tuple[str, str], ...], tuple[Release, tuple[Settings, ...], Release]] = {}
        folder = self._folder
        self._followed: Followed[tuple[Written, ...]] | None = None
        self._switches: Followed[frozenset[str]] | None = None
        if folder is not None:
            seconds = config.refresh_seconds
            self._followed = Followed(
                "experiments", lambda: signature(folder), lambda: load_experiments(folder), seconds
            )
            # followed by itself: a file that does not fit must not keep one from being stopped
            self._switches = Followed("stopped experiments", lambda: stopped(folder), lambda: stopped(folder), seconds)

    def learn_by(self, learning: Learning) -> None:
        """Bandits are given arms and remembered by it; without it they are in nobody's page."""
        self._learning = learning

    @property
    def bandits(self) -> dict[str, Rewarding]:
        """Those that learn, by name."""
        return self._learners()[1]

    @property
    def tags(self) -> tuple[str, ...]:
        """Of those that learn, what a session's state is to be asked for."""
        return self._learners()[2]

    def _learners(self) -> tuple[Sequence[Written], dict[str, Rewarding], tuple[str, ...]]:
        written = self.written
        if self._bandits[0] is not written:
            found = {
                w.experiment.name: Rewarding(w.experiment) for w in written if w.experiment.allocation.policy != "fixed"
            }
            self._bandits = written, found, tuple(of.tag for of in found.values())
        return self._bandits

    def start(self) -> None:
        """Begin to look for changes."""
        for followed in (self._followed, self._switches):
            if followed is not None:
                followed.start()

    def stop(self) -> None:
        """Look no more."""
        for followed in (self._followed, self._switches):
            if followed is not None:
                followed.stop()

    @property
    def written(self) -> Sequence[Written]:
        """The experiments that fit, running or not."""
        return () if self._followed is None else self._followed.value

    @property
    def stopped(self) -> frozenset[str]:
        """Names of those whose kill switch is on."""
        return frozenset() if self._switches is None else self._switches.value

    def of(
        self,
        request: recommender_pb2.RecommendRequest,
        now: int,
        within: str = "",
        kept: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Given:
        """The arms of a request.

        Args:
            request: It was checked.
            now: Microseconds.
            within: The path of the request in a larger one, for errors.
            kept: What bandits gave the session before (serving.feedback), as far as Redis says.

        Raises:
            BadRequestError: It asks for an experiment or an arm that there is not.
        """
        found = self.written
        asked = request.experiment_overrides
        if asked:
            _check(dict(asked), found, within)
        if not found or (not is_personal(request) and not asked):
            return _NOTHING
        given, off, personal = [], self.stopped, is_personal(request)
        units = {"user": request.user_id, "visitor": request.visitor_id, "session": request.session_id}
        placement, labels, bandits = request.placement, dict(request.labels), self.bandits
        for experiment in (written.experiment for written in found):
            name = experiment.name
            if name in off or not experiment.runs(now) or not experiment.takes(placement, self._tenant, labels):
                continue
            if asked and name in asked:
                given.append((experiment, overridden(experiment, asked[name])))
            elif personal and (unit := units[experiment.unit]):
                if (learner := bandits.get(name)) is None:
                    one = assign(experiment, unit, now)
                else:
                    one = None if self._learning is None else self._learning.assign(learner, unit, now, kept)
                if one is not None:
                    given.append((experiment, one))
        if not given:
            return _NOTHING
        changing = (e.changes.get(a.arm) for e, a in given)
        return Given(tuple(a for _, a in given), tuple(c for c in changing if c is not None))

    def count(self, given: Given, request: recommender_pb2.RecommendRequest) -> None:
        """One more request was answered as these arms say."""
        self._tally.note((_COUNTED, (f"{a.experiment}={a.arm}",), 1) for a in given.assignments if not a.forced)
        if self._learning is None:
            return
        for a in given.assignments:
            if a.version and not a.forced and (of := self.bandits.get(a.experiment)) is not None:
                who = Person(request.user_id, request.visitor_id).keys
                self._learning.met(of, a, request.session_id, who[0] if who else "")

    def over(self, release: Release, given: Given) -> Release:
        """The release as these arms run it: its files with other settings."""
        changing = tuple(s for s in given.settings if s.quotas or s.ranker == "off")
        if not changing:
            return release
        key = tuple((a.experiment, a.arm) for a in given.assignments)
        kept = self._views.get(key)
        if kept is None or kept[0] is not release or kept[1] != changing:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            self._views[key] = kept = release, changing, _changed(release, changing)
        return kept[2]

    def status(self) -> admin_pb2.ExperimentsStatus:
        """For GetStatus."""
        now, counts = self._clock(), self._tally.of(_COUNTED)
        return admin_pb2.ExperimentsStatus(
            folder="" if self._folder is None else str(self._folder),
            problem="" if self._followed is None else self._followed.problem,
            experiments=[self._status_of(written, now, counts) for written in self.written],
        )

    def _status_of(self, written: Written, now: int, counts: Mapping[str, int]) -> admin_pb2.ExperimentStatus:
        experiment = written.experiment
        said = admin_pb2.ExperimentStatus(
            name=experiment.name,
            id=written.id,
            state=self._state(experiment, now),
            share=experiment.share(now),
            shares=experiment.weights,
            requests={arm: counts.get(f"{experiment.name}={arm}", 0) for arm in (*experiment.arms, HOLDOUT)},
            policy=experiment.allocation.policy,
        )
        of = self.bandits.get(experiment.name)
        if of is not None and self._learning is not None:
            shares, said.version, said.decided = self._learning.shares(of)
            seen = self._learning.seen(of)
            said.sample_ratio_p = seen.ratio_p
            for field, values in ((said.exposed, seen.exposed), (said.rewarded, seen.rewarded)):
                field.update(values)
            said.shares.update(shares)
        return said

    def _state(self, experiment: Experiment, now: int) -> str:
        since, until = experiment.in_force
        if experiment.name in self.stopped:
            return "stopped"
        if not experiment.enabled:
            return "off"
        if now < since:
            return "waiting"
        return "over" if now >= until else "running"


def _check(asked: dict[str, str], found: Sequence[Written], within: str) -> None:
    field = f"{within}experiment_overrides"
    experiments = {w.experiment.name: w.experiment for w in found}
    for name, arm in asked.items():
        if name not in experiments:
            raise BadRequestError([(field, f"no experiment {name!r}; {nearest(name, experiments)}")])
        if arm not in experiments[name].arms:
            raise BadRequestError([(field, f"no arm {arm!r} of {name!r}; {nearest(arm, experiments[name].arms)}")])


def _changed(release: Release, changing: Sequence[Settings]) -> Release:
    quotas = dict(release.settings.quotas)
    for settings in changing:
        quotas |= {name: quota for name, quota in settings.quotas.items() if name in quotas}
    other = replace(release, settings=release.settings.model_copy(update={"quotas": quotas}))
    if any(settings.ranker == "off" for settings in changing):
        other = replace(other, scorer=None, table=None)
    return other
