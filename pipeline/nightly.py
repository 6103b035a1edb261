"""The nightly run: a graph of stages, each of which leaves one immutable artifact and is skipped when that is there; gates; and a new champion or none.

    forget -> prepare -> gates of the data -> train-retrieval -> build-index -> train-ranker -> evaluate -> gates of the twin, held against the champion
    -> candidate -> gates of the real thing -> publish -> prune

Modes (docs/nightly.md): `incremental` lets the towers learn when the retraining rule says so, `full` makes every stage again, `ranker` keeps the towers
whatever the rule says, `index` embeds new items and keeps all that was learned (pipeline/refresh.py).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from core import atomic
from core.config import PipelineConfig
from core.errors import ArtifactError, EnvironmentGapError
from core.prepared import Prepared
from core.work import Work
from pipeline import champion, data_gates, drift, erase, gates, nights, refresh, shift, smoke
from pipeline.evaluate import REPORT, evaluate_twin
from pipeline.evaluate import recipe as evaluation_recipe
from pipeline.gates import Verdict
from pipeline.graph import OutOfTimeError, Planned, Runner, Stage, plan
from pipeline.nights import Durations, Journal
from pipeline.publish import Parts, candidate, promote, record, release_name
from pipeline.registry import history
from pipeline.registry.prune import prune
from pipeline.twin import release_settings, twin_id
from serving.config import ServingConfig

Say = Callable[[str], None]
Mode = Literal["full", "incremental", "index", "ranker"]
MODES: Final[tuple[str, ...]] = get_args(Mode)
STAGE: Final = "publish"
_EVALUATE: Final = "evaluate"


@dataclass
class Night:
    """How the run went."""

    runner: Runner
    gates: list[Verdict] = field(default_factory=list)
    release: Path | None = None
    candidate: Path | None = None  # made, but refused
    metrics: dict[str, Any] | None = None
    unchanged: bool = False  # the champion is what would have been published

    @property
    def refused(self) -> list[str]:
        """One line for each gate that failed."""
        return [g.reason for g in self.gates if not g.passed]

    @property
    def stages(self) -> dict[str, Any]:
        """How each stage went."""
        return self.runner.records

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Add what some gates saw, and say it."""
        with self.runner.within("gates"):
            for verdict in verdicts:
                self.gates.append(verdict)
                said = "passed" if verdict.passed else "REFUSED"
                self.runner.tell(f"gate {verdict.gate}: {said}: {verdict.reason}")
                if verdict.todo:
                    self.runner.tell(f"gate {verdict.gate}: to do: {verdict.todo}")

    def result(self) -> dict[str, Any]:
        """The JSON of `nightly`."""
        return {
            "night": self.runner.journal.night,
            "release": None if self.release is None else str(self.release),
            "published": self.release is not None,
            "candidate": None if self.candidate is None else str(self.candidate),
            "gates": [asdict(g) | ({"todo": g.todo} if g.todo else {}) for g in self.gates],
            "stages": self.runner.result(),
            "seconds": round(self.runner.seconds, 1),
        }


def run(
    data: Path,
    work: Work,
    config: PipelineConfig,
    serving: ServingConfig,
    *,
    mode: Mode = "incremental",
    redis_url: str | None = None,
    budget: float | None = None,
    now: float | None = None,
    say: Say,
) -> Night:
    """Run what is not there yet, judge the twin, and publish the refitted release if every gate passes.

    Args:
        data: The shop's tables.
        work: The work directory.
        config: The settings.
        serving: Those of the servers, whose Redis keys and spool hold wishes to be forgotten.
        mode: What may be kept of the nights before.
        redis_url: Where wishes to be forgotten wait; None: in the server's own Redis under `work`, where there is one.
        budget: Seconds the night may take; what is not done by then waits for the next. None: as long as it takes.
        now: The clock of the night, seconds since the epoch; None: the machine's.
        say: Prints a line of progress.
    """
    with work.locked(make=True), written(work, mode, data, config, say, budget) as night:
        tell = night.runner.tell
        _sweep(work, mode == "full", tell)
        _forget(data, work, serving, redis_url, tell)
        before = drift.baseline(work)
        prepare, *stages = graph(data, work, config, serving, mode)
        prepared = night.runner.run(prepare)
        night.judged(
            [
                gates.data(drift.drifts(before, prepared, config.drift, tell)),
                *data_gates.judge(before, prepared, now or time.time(), config.gates, config.drift),
            ]
        )
        if night.refused:
            return night
        if mode == "index" and refresh.up_to_date(work):
            night.release, night.unchanged = work.current.resolve(), True
            tell("nothing is new since the champion")
            return night
        for stage in stages:
            night.runner.run(stage)
        if mode == "index":
            refreshed(night, work, config)
        else:
            judge_and_publish(night, work, config)
        if night.release is not None and not night.unchanged:
            prune(work, config.retention.releases, config.retention.days, say=tell)
            nights.prune_logs(work, config.retention.logs)
    return night


def dry_run(
    data: Path, work: Work, config: PipelineConfig, serving: ServingConfig, mode: Mode, say: Say
) -> list[Planned]:
    """What `run` would do and why, said in a line each; nothing is written, no lock is taken."""
    durations = Durations(nights.read(work), mode)
    stages = graph(data, work, config, serving, mode)
    if mode == "full":
        stages = [
            Stage(s.name, s.make, s.recipe, s.reads, always="--mode full makes every stage again") for s in stages
        ]
    found = plan(stages, work, durations)
    if mode != "index":
        found += _planned_end(work, config, found, durations)
    for one in found:
        say(one.line)
    return found


def _planned_end(work: Work, config: PipelineConfig, found: list[Planned], durations: Durations) -> list[Planned]:
    """The stages after the graph's: the evaluation, and publishing."""
    if any(p.runs for p in found):
        return [Planned(name, True, f"after {found[-1].stage}", durations.of(name)) for name in (_EVALUATE, STAGE)]
    prepared, parts = Prepared(work.latest("prepare")), Parts.latest(work)
    settings = release_settings(parts.sources, config)
    judging = plan([_evaluation(work, prepared, parts, config)], work, durations)
    name = release_name(prepared, parts, settings, config)
    there = work.current.exists() and work.current.resolve().name == name
    why = "it is the champion" if there else f"{name} would be published if every gate passes"
    return [*judging, Planned(STAGE, not there, why, 0.0 if there else durations.of(STAGE))]


def graph(data: Path, work: Work, config: PipelineConfig, serving: ServingConfig, mode: Mode) -> list[Stage]:
    """The stages of a night up to what its release is made of."""
    from data_prep.prepare import recipe as prepare_recipe
    from data_prep.prepare import run as prepare
    from pipeline import index, ranker
    from retrieval import fit

    catalog, frozen = serving.catalog.log_folder(work.root), mode == "ranker"
    first = Stage(
        "prepare",
        lambda say: prepare(data, work, config, say, full=mode == "full", catalog=catalog),
        lambda: prepare_recipe(data, work, config, catalog),
        always="every file is read again, as asked" if mode == "full" else None,
    )
    if mode == "index":
        return [first, *refresh.stages(work, config)]
    return [
        first,
        Stage(
            fit.STAGE,
            lambda say: fit.run(work, config, say, frozen=frozen),
            lambda: fit.recipe(work, config),
            ("prepare",),
            lean=lambda say: fit.run(work, config, say, frozen=True),
        ),
        Stage(
            index.STAGE,
            lambda say: index.run(work, config, say),
            lambda: index.recipe(work, config),
            ("prepare", fit.STAGE),
        ),
        Stage(
            ranker.STAGE,
            lambda say: ranker.run(work, config, say, data),
            lambda: ranker.recipe(work, config, data),
            ("prepare", fit.STAGE),
            lean=lambda say: ranker.run(work, config, say, data, probe=False),
        ),
    ]


@contextmanager
def written(
    work: Work, mode: str, data: Path, config: PipelineConfig, say: Say, budget: float | None = None
) -> Iterator[Night]:
    """A night whose end is written down however it comes. Running out of time is a refusal; what was done is kept."""
    durations = Durations(nights.read(work), mode)
    journal = Journal(work, mode, data)
    night = Night(Runner(work, say, journal, durations, budget))
    outcome, error = nights.FAILED, None
    try:
        yield night
        outcome = nights.REFUSED if night.refused else nights.UNCHANGED if night.unchanged else nights.PUBLISHED
    except OutOfTimeError as e:
        outcome = nights.OUT_OF_TIME
        night.judged([Verdict("time-budget", False, str(e), round(night.runner.seconds, 1), budget)])
    except BaseException as e:
        error = f"{type(e).__name__}: {e}"
        journal.log("night", error)
        raise
    finally:
        journal.write(
            "ended",
            outcome=outcome,
            seconds=round(night.runner.seconds, 1),
            release=None if night.release is None else night.release.name,
            refused=[g.gate for g in night.gates if not g.passed],
            error=error,
            **{"ndcg@10": nights.ndcg_of(night.metrics)},
        )


def _forget(data: Path, work: Work, serving: ServingConfig, redis_url: str | None, say: Say) -> None:
    """Fulfil the wishes to be forgotten, so that nothing is learned from who is gone. What cannot be done tonight waits, and is said."""
    try:
        with erase.reached(work, redis_url) as store:
            erase.run(data, work, store, serving, say).check()
    except (EnvironmentGapError, ArtifactError) as e:
        say(f"warning: wishes to be forgotten wait: {e}")


def _evaluation(work: Work, prepared: Prepared, parts: Parts, config: PipelineConfig) -> Stage:
    settings = release_settings(parts.sources, config)
    return Stage(
        _EVALUATE,
        lambda say: evaluate_twin(work, prepared, parts, settings, config, say),
        lambda: evaluation_recipe(prepared, parts, settings, config),
    )


def judge_and_publish(night: Night, work: Work, config: PipelineConfig) -> None:
    """Evaluate the twin of what the stages last made, ask the gates, and publish what passes them all."""
    prepared = Prepared(work.latest("prepare"))
    parts = Parts.latest(work)
    settings = release_settings(parts.sources, config)
    report = night.runner.run(_evaluation(work, prepared, parts, config))
    metrics: dict[str, Any] = json.loads((report / REPORT).read_bytes())["protocols"]["global"]
    night.metrics = metrics
    night.judged(gates.judge(metrics, parts.index_facts(), config))
    twin = work.stage("twin", twin_id(prepared, parts, settings))
    theirs = champion.twin_of_champion(work, prepared.cuts.test)
    if theirs is not None and theirs != twin:
        compared = Stage(
            champion.STAGE,
            lambda say: champion.compare(work, prepared, twin, theirs, config, say),
            lambda: {"twin": twin.name, "champion": theirs.name},
            always="the champion is asked the same",
        )
        found = night.runner.run(compared)
        night.judged(champion.verdicts(json.loads((found / champion.REPORT).read_bytes()), config))
    if night.refused:
        return
    start = time.perf_counter()
    with night.runner.within(STAGE):
        made = candidate(work, prepared, parts, settings, config, metrics, twin=twin)
        _look_and_promote(night, work, config, made, twin, prepared, start)


def refreshed(night: Night, work: Work, config: PipelineConfig) -> None:
    """Publish the champion with tonight's items, if the index finds them and the server answers. Nothing was learned, so no figure is asked again."""
    again, prepared = refresh.Refresh(work, config), Prepared(work.latest("prepare"))
    settings, start = refresh.settings_of(again.champion), time.perf_counter()
    night.judged(gates.judge_index(again.parts.index_facts(), config.index))
    if night.refused:
        return
    with night.runner.within(STAGE):
        metrics = again.inherited.get("metrics", {})
        night.metrics = metrics
        made = candidate(work, prepared, again.parts, settings, config, metrics, again.inherited, again.twin)
        _look_and_promote(night, work, config, made, again.champion, prepared, start)


def _look_and_promote(
    night: Night, work: Work, config: PipelineConfig, made: Path, twin: Path, prepared: Prepared, start: float
) -> None:
    """Ask the gates of the release itself, and make it the champion; one that is the champion already was asked when it became it."""
    night.unchanged = work.current.exists() and work.current.resolve() == made.resolve()
    if not night.unchanged:
        night.judged(gates.rolled_back(history.read(work), made.name))
        night.judged(smoke.canaries(made, config))
        night.judged(shift.verdict(shift.shifts(twin, made, prepared, config), config))
        night.judged(
            []
            if night.refused
            else smoke.smoke(made, config, night.runner.tell, night.runner.journal.logs / "server.log")
        )
        if made.parent != work.releases:
            record(made, [asdict(g) for g in night.gates])
    if night.refused:
        night.candidate = made
        return
    night.release = promote(work, made, f"{len(night.gates)} gates passed")
    night.runner.note(STAGE, time.perf_counter() - start, night.unchanged, made.name)
    night.runner.tell(f"{'still' if night.unchanged else 'published'} {made.name}")


def _sweep(work: Work, full: bool, say: Say) -> None:
    """Remove what killed runs left half-written; with `full`, the stages' artifacts too, so that all of them run again."""
    folders = [work.root, work.releases, work.root / "user_state", *(work.root / "stages").glob("*")]
    left = [name for folder in folders if folder.is_dir() for name in atomic.sweep(folder)]
    if left:
        say(f"removed {len(left)} half-written leftovers of an interrupted run")
    if full:
        # id maps must survive: they only ever grow; and the champion is what the night is held against
        for folder in (work.root / "stages").glob("*"):
            if folder.name not in ("prepare", "twin"):
                shutil.rmtree(folder)
