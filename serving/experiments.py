"""The experiments of a server: which arms a request is given, and what of serving they change (docs/experiments.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from aisle.v1 import admin_pb2, recommender_pb2
from core.attribution import GivenArm
from core.errors import nearest
from core.marked import signature
from core.schema import MINUTE
from experiments.assign import Assignment, layer_point, overridden, said
from experiments.config import HOLDOUT, Settings
from experiments.files import Find, Written, load_experiments, stopped, wanted
from experiments.learning import Rewarding
from experiments.stops import read_stop
from serving.arms.chosen import Copy, all_open, copies_of, opened, served_releases
from serving.arms.open_releases import OpenRelease, OpenReleases
from serving.config import ExperimentsConfig
from serving.followed import Followed
from serving.learning import Learning
from serving.recommend_checks import is_personal
from serving.release import Release
from serving.tally import Note, Tally
from serving.validation import BadRequestError

_MOST_VIEWS: Final = 1_000  # combinations of arms
_MOST_PLACEMENTS: Final = 1_000  # whose experiments are remembered: callers name them
_COUNTED: Final = "experiment"
_AHEAD: Final = 5 * MINUTE  # before its start an experiment's releases are opened


@dataclass(frozen=True)
class Given:
    """The arms of a request, and what they change."""

    assignments: tuple[Assignment, ...] = ()
    settings: tuple[Settings, ...] = ()  # of the arms that change anything
    release: OpenRelease | None = None  # of an arm that has one of its own
    copies: tuple[Copy, ...] = ()  # that shadows make
    bandits: Mapping[str, Rewarding] = field(default_factory=dict)  # those that were asked, as their files then were

    @property
    def said(self) -> tuple[str, ...]:
        """For the log."""
        return tuple(said(self.assignments))

    @property
    def arms(self) -> tuple[GivenArm, ...]:
        """For the attribution token: those that count."""
        return tuple(GivenArm(a.experiment, a.arm, a.version) for a in self.assignments if not a.forced)

    @property
    def ruled(self) -> bool:
        """Whether the shop's rules arrange the page; those that hide always hold."""
        said = [s.rules for s in self.settings if s.rules is not None]
        return not said or said[-1] == "on"

    def told(self, request: recommender_pb2.RecommendRequest) -> recommender_pb2.RecommendRequest:
        """The request with what the arms add; a caller who asks for something gets that, and of two arms that say it the last says what.

        The same object where nothing is added.
        """
        added = {}
        for settings in self.settings:
            if settings.diversity_level is not None and not request.diversity_level:
                added["diversity_level"] = settings.diversity_level
            if settings.explore is not None and not request.HasField("explore"):
                added["explore"] = settings.explore  # type: ignore[assignment]
        if not added:
            return request
        changed = recommender_pb2.RecommendRequest(**added)  # type: ignore[arg-type]
        changed.MergeFrom(request)
        return changed

    def write(self, response: recommender_pb2.RecommendResponse) -> None:
        """Say the arms in the answer."""
        response.experiment_assignments.extend([_message(a) for a in self.assignments])


@lru_cache(maxsize=4096)
def _message(a: Assignment) -> recommender_pb2.ExperimentAssignment:
    """Its field of an answer, which copies it."""
    return recommender_pb2.ExperimentAssignment(**a._asdict())


@lru_cache(maxsize=4096)
def _count(a: Assignment) -> Note:
    return _COUNTED, (f"{a.experiment}={a.arm}",), 1


_NOTHING: Final = Given()
_Choose = Callable[[Written, str, float], Assignment | None]
"""The arm of a unit at a moment (microseconds); None: the experiment does not take it."""


class _Layer(NamedTuple):
    """Experiments of one layer for one kind of unit."""

    name: str
    unit: str
    places: tuple[int, ...]  # among all of a placement
    parts: tuple[tuple[float, float], ...]  # of the layer, half-open, that each takes in the end
    forced: frozenset[str]  # units that belong into one of them wherever they stand


class _AtPlacement:
    """The experiments that take requests of a placement, as far as their labels fit."""

    def __init__(self, written: Sequence[Written]) -> None:
        self._written = written
        self._layers: list[_Layer] = []
        by_layer: dict[tuple[str, str], list[int]] = {}
        for place, one in enumerate(written):
            by_layer.setdefault((one.experiment.layer, one.experiment.unit), []).append(place)
        for (name, unit), places in by_layer.items():
            of = [written[place].experiment for place in places]
            # a bandit keeps a session wherever it stands
            parts = tuple(e.part if e.allocation.policy == "fixed" else (0.0, math.inf) for e in of)
            forced = frozenset(who for e in of for who in e.forced)
            self._layers.append(_Layer(name, unit, tuple(places), parts, forced))
        self._divided = any(first > 0 or end < 1 for layer in self._layers for first, end in layer.parts)

    def near(self, units: Mapping[str, str], every: bool) -> Sequence[Written]:
        """All but those that surely do not take these units, in their order; with `every` all of them.

        Of most experiments of a layer one look at the unit's point in it says so.
        """
        if every or not self._divided:
            return self._written
        found: list[int] = []
        for layer in self._layers:
            unit = units[layer.unit]
            if not unit:
                continue
            if unit in layer.forced:
                found += layer.places
                continue
            at = layer_point(layer.name, unit)
            found += [place for place, (first, end) in zip(layer.places, layer.parts, strict=True) if first <= at < end]
        return [self._written[place] for place in sorted(found)]


class _ByPlacement:
    """Experiments of a tenant, found by the placement of a request."""

    def __init__(self, written: Sequence[Written], tenant: str) -> None:
        self._written, self._tenant = written, tenant
        self._at: dict[str, _AtPlacement] = {}

    def at(self, placement: str) -> _AtPlacement:
        """Those that take its requests."""
        found = self._at.get(placement)
        if found is None:
            if len(self._at) >= _MOST_PLACEMENTS:
                self._at.clear()
            found = _AtPlacement([w for w in self._written if w.experiment.is_at(placement, self._tenant)])
            self._at[placement] = found
        return found


class _Sorted:
    """Experiments by how arms are given."""

    def __init__(self, written: Sequence[Written], tenant: str) -> None:
        learning = [w for w in written if w.experiment.allocation.policy != "fixed"]
        self.written = written  # all
        self.fixed = _ByPlacement([w for w in written if w.experiment.allocation.policy == "fixed"], tenant)
        self.learning = _ByPlacement(learning, tenant)
        self.bandits = {w.experiment.name: Rewarding(w.experiment) for w in learning}
        self.tags = tuple(of.tag for of in self.bandits.values())


class LiveExperiments:
    """Follows a folder of experiments. Files that do not fit never replace those that do; a kill switch needs no file to fit.

    Args:
        config: Where they are.
        tenant: Whose requests these are.
        tally: Counts requests by arm.
        clock: Microseconds.
        open_releases: Those of arms; None: there can be none.
        find: Finds an arm's release when a file is read.
    """

    def __init__(
        self,
        config: ExperimentsConfig,
        tenant: str,
        tally: Tally,
        clock: Callable[[], int],
        open_releases: OpenReleases | None = None,
        find: Find | None = None,
    ) -> None:
        self._open = open_releases
        self._tripped: frozenset[str] = (
            frozenset()
        )  # stopped by this process, whether or not the switch could be written
        self._folder, self._tenant, self._tally, self._clock = config.path, tenant, tally, clock
        self._learning: Learning | None = None
        self._sorted_last = _Sorted((), tenant)
        self._views: dict[tuple[tuple[str, str], ...], tuple[Release, tuple[Settings, ...], Release]] = {}
        folder = self._folder
        self._followed: Followed[tuple[Written, ...]] | None = None
        self._switches: Followed[frozenset[str]] | None = None
        if folder is not None:
            seconds = config.refresh_seconds

            def read() -> tuple[Written, ...]:
                return _servable(folder, find, config.releases, clock())

            self._followed = Followed("experiments", lambda: signature(folder), read, seconds)
            # followed by itself: a file that does not fit must not keep one from being stopped
            self._switches = Followed(
                "stopped experiments", lambda: _switches_sign(folder), lambda: stopped(folder), seconds
            )

    def learn_by(self, learning: Learning) -> None:
        """Bandits are given arms and remembered by it; without it they are in nobody's page."""
        self._learning = learning

    @property
    def bandits(self) -> dict[str, Rewarding]:
        """Those that learn, by name."""
        return self._sorted.bandits

    @property
    def tags(self) -> tuple[str, ...]:
        """Of those that learn, what a session's state is to be asked for."""
        return self._sorted.tags

    @property
    def _sorted(self) -> _Sorted:
        written = self.written
        if self._sorted_last.written is not written:
            self._sorted_last = _Sorted(written, self._tenant)
        return self._sorted_last

    def start(self) -> None:
        """Begin to look for changes."""
        for followed in (self._followed, self._switches):
            if followed is not None:
                followed.start()
        if self._open is not None and self._folder is not None:
            self._open.start(self.wanted)

    def stop(self) -> None:
        """Look no more."""
        if self._open is not None:
            self._open.stop()
        for followed in (self._followed, self._switches):
            if followed is not None:
                followed.stop()

    @property
    def folder(self) -> Path | None:
        """Where they are; None: nowhere."""
        return self._folder

    @property
    def written(self) -> Sequence[Written]:
        """The experiments that fit, running or not."""
        return () if self._followed is None else self._followed.value

    @property
    def stopped(self) -> frozenset[str]:
        """Names of those whose kill switch is on."""
        found = frozenset() if self._switches is None else self._switches.value
        return found | self._tripped if self._tripped else found

    def trip(self, name: str) -> None:
        """Stop one here and now; the file of the switch, which all look at, says so to the others and keeps it."""
        self._tripped |= {name}

    def untrip(self, name: str) -> None:
        """The switch was taken back."""
        self._tripped -= {name}

    def wanted(self) -> list[Path]:
        """The releases of arms that are needed now, or soon."""
        now, off = self._clock(), self.stopped
        found: list[Path] = []
        for written in self.written:
            experiment = written.experiment
            if experiment.name not in off and (experiment.runs(now) or experiment.runs(now + _AHEAD)):
                found += written.releases.values()
        return found

    def of(self, request: recommender_pb2.RecommendRequest, now: int, within: str = "") -> Given:
        """The arms of a request, but for those of bandits.

        Args:
            request: It was checked.
            now: Microseconds.
            within: The path of the request in a larger one, for errors.

        Raises:
            BadRequestError: It asks for an experiment or an arm that there is not.
        """
        found = self.written
        if request.experiment_overrides:
            _check(dict(request.experiment_overrides), found, within)
        return self._among(self._sorted.fixed, request, now, _split) if found else _NOTHING

    def with_bandits(
        self, given: Given, request: recommender_pb2.RecommendRequest, now: int, kept: Mapping[str, bytes]
    ) -> Given:
        """The same and the arms of bandits, which keep a session in the arm that it met first.

        `kept`: what they gave it (serving.feedback), as far as Redis says.
        """
        learning, found = self._learning, self._sorted  # once: files may change before the page is counted
        bandits = found.bandits
        if learning is None or not bandits:
            return given

        def learned(written: Written, unit: str, now: float) -> Assignment | None:
            return learning.assign(bandits[written.experiment.name], unit, now, kept)

        more = self._among(found.learning, request, now, learned)
        if not more.assignments:
            return given
        return replace(
            given,
            assignments=given.assignments + more.assignments,
            settings=given.settings + more.settings,
            bandits=bandits,
        )

    def _among(self, some: _ByPlacement, request: recommender_pb2.RecommendRequest, now: int, choose: _Choose) -> Given:
        """The arms of a request in some of the experiments."""
        asked, personal = dict(request.experiment_overrides), is_personal(request)
        if not personal and not asked:
            return _NOTHING
        units = {"user": request.user_id, "visitor": request.visitor_id, "session": request.session_id}
        found = some.at(request.placement).near(units, every=bool(asked))
        if not found:
            return _NOTHING
        given, off, labels = [], self.stopped, dict(request.labels)
        copies: tuple[Copy, ...] = ()
        for written in found:
            experiment = written.experiment
            name = experiment.name
            if name in off or not experiment.runs(now) or not experiment.wants(labels):
                continue
            if written.releases and not all_open(written, self._open):
                continue
            if name in asked:
                given.append((written, overridden(experiment, asked[name])))
            elif personal and (unit := units[experiment.unit]):
                one = choose(written, unit, now)
                if one is not None:
                    given.append((written, one))
                    if experiment.shadows and not one.forced:
                        copies += copies_of(written, unit, self._open)
        if not given:
            return _NOTHING
        changing = (w.experiment.changes.get(a.arm) for w, a in given)
        arms, settings = tuple(a for _, a in given), tuple(c for c in changing if c is not None)
        if not any(w.releases for w, _ in given):
            return Given(arms, settings, copies=copies)
        release = next((o for w, a in given if (o := opened(w.releases.get(a.arm), self._open)) is not None), None)
        return Given(arms, settings, release, () if release is not None else copies)

    def count(self, given: Given, request: recommender_pb2.RecommendRequest) -> None:
        """One more request was answered as these arms say."""
        self._tally.note([_count(a) for a in given.assignments if not a.forced])
        if self._learning is None:
            return
        for a in given.assignments:
            if a.version and not a.forced and (of := given.bandits.get(a.experiment)) is not None:
                self._learning.met(of, a, request)

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
        now, counts, copied = self._clock(), self._tally.of(_COUNTED), self._tally.of("shadows")
        return admin_pb2.ExperimentsStatus(
            folder="" if self._folder is None else str(self._folder),
            problem="" if self._followed is None else self._followed.problem,
            experiments=[self._status_of(written, now, counts, copied) for written in self.written],
        )

    def _status_of(
        self, written: Written, now: int, counts: Mapping[str, int], copied: Mapping[str, int]
    ) -> admin_pb2.ExperimentStatus:
        experiment = written.experiment
        said = admin_pb2.ExperimentStatus(
            name=experiment.name,
            id=written.id,
            state=self._state(written, now),
            share=experiment.share(now),
            shares=experiment.weights,
            requests={arm: counts.get(f"{experiment.name}={arm}", 0) for arm in (*experiment.served, HOLDOUT)},
            policy=experiment.allocation.policy,
            why=self._why(written),
            releases={arm: self._said(path) for arm, path in written.releases.items()},
            copies={arm: copied.get(f"{experiment.name}={arm}", 0) for arm in experiment.shadows},
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

    def _why(self, written: Written) -> str:
        """It is stopped, or not running yet."""
        stop = read_stop(self._folder, written.experiment.name)
        if written.experiment.name in self.stopped:
            return "" if stop is None else stop.why
        waiting = [(p, self._said(p)) for p in served_releases(written).values()]
        return "; ".join(f"{path.name} {said}" for path, said in waiting if said != "open")

    def _said(self, path: Path) -> str:
        """How it stands with the release of an arm."""
        return "" if self._open is None else self._open.problem(path) or "open"

    def _state(self, written: Written, now: int) -> str:
        experiment = written.experiment
        since, until = experiment.in_force
        if experiment.name in self.stopped:
            return "stopped"
        if not experiment.enabled:
            return "off"
        if now < since:
            return "waiting"
        if now >= until:
            return "over"
        return "running" if all_open(written, self._open) else "opening"


def _switches_sign(folder: Path) -> object:
    """Changes when a switch does, and when the folder cannot be read any more, or again."""
    try:
        return stopped(folder)
    except OSError as e:
        return f"unreadable: {e}"


def _split(written: Written, unit: str, now: float) -> Assignment | None:
    return written.split.assign(unit, now)


def _servable(folder: Path, find: Find | None, most: int, now: int) -> tuple[Written, ...]:
    """The experiments of a folder, whose arms name at most so many releases."""
    found = load_experiments(folder, find)
    releases: set[Path] = set()
    for written in found:
        if wanted(written, now):
            releases |= set(written.releases.values())
        if len(releases) > most:
            raise written.file.problem(
                ("arms",),
                f"arms would have {len(releases)} releases of their own open, and experiments.releases of the server allows {most}",
            )
    return found


def _check(asked: dict[str, str], found: Sequence[Written], within: str) -> None:
    field = f"{within}experiment_overrides"
    experiments = {w.experiment.name: w.experiment for w in found}
    for name, arm in asked.items():
        if name not in experiments:
            raise BadRequestError([(field, f"no experiment {name!r}; {nearest(name, experiments)}")])
        if arm not in experiments[name].arms:
            raise BadRequestError([(field, f"no arm {arm!r} of {name!r}; {nearest(arm, experiments[name].arms)}")])
        if arm not in experiments[name].served:
            raise BadRequestError([(field, f"nobody is answered by {arm!r} of {name!r}, which is a shadow")])


def _changed(release: Release, changing: Sequence[Settings]) -> Release:
    quotas = dict(release.settings.quotas)
    for settings in changing:
        quotas |= {name: quota for name, quota in settings.quotas.items() if name in quotas}
    other = replace(release, settings=release.settings.model_copy(update={"quotas": quotas}))
    if any(settings.ranker == "off" for settings in changing):
        other = replace(other, scorer=None, table=None)
    return other
