"""From an experiment's file and the logs to its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.errors import InputError
from core.event_log import Page
from core.schema import DAY, HOUR
from experiments.analysis import Question, Result, analyse
from experiments.assign import heard
from experiments.config import HOLDOUT, Experiment, Metric
from experiments.table import AnalysisTable
from pipeline.experiment_table import Assigned, Reader, Study, build
from pipeline.experiment_words import About

_FOREVER: Final = 1 << 62


@dataclass(frozen=True)
class Report:
    """What a report shows."""

    about: About
    result: Result
    table: AnalysisTable


def report(experiment: Experiment, data: Path, until: int, needed: int = 0, *, fixed_horizon: bool = False) -> Report:
    """Read the logs and work everything out as of `until` (microseconds).

    Args:
        experiment: Its file.
        data: With `recommendations/` and `events/`, as `./aisle events sink` leaves them.
        until: Later pages and events are not read.
        needed: Units of the plan; 0: not known.
        fixed_horizon: By the test for one look after the end.

    Raises:
        NotFoundError, InputError: The logs are not there, or have nothing of the experiment; a fixed-horizon test before the end.
    """
    since, end = (int(min(max(t, 0), _FOREVER)) for t in experiment.in_force)
    over = end + int(experiment.attribution_hours * HOUR)
    if fixed_horizon and until < over:
        raise InputError(
            f"experiment {experiment.name}: a fixed-horizon test is for one look after `end` and its attribution window; until then read the report "
            "without --fixed-horizon, which holds at every moment"
        )
    study = study_of(experiment, since, min(until, over))
    table = build(data, study)
    first = int(table.exposed[0]) if len(table.exposed) else since
    metrics = (experiment.primary, *experiment.secondary, *experiment.guardrails)
    about = About(
        experiment.name,
        experiment.owner,
        experiment.hypothesis,
        study.arms,
        since or first,
        end if end < _FOREVER else max(until, first) + 365 * DAY,
        needed,
        table.mixed,
        {m.name: says(m) for m in metrics},
        frozenset(m.name for m in metrics if m.kind == "rate"),
    )
    return Report(about, analyse(table, question_of(experiment), study.until, fixed_horizon=fixed_horizon), table)


def question_of(experiment: Experiment) -> Question:
    """What the file settled before the start."""
    shares: tuple[float, ...] = ()
    if experiment.allocation.policy == "fixed":
        left = 1 - experiment.holdout
        shares = tuple(left * experiment.weights[a] for a in _arms(experiment) if a != HOLDOUT)
        shares += (experiment.holdout,) if experiment.holdout else ()
    return Question(
        experiment.primary.name,
        experiment.lift,
        tuple(m.name for m in experiment.secondary),
        {g.name: g.most_lost for g in experiment.guardrails},
        shares=shares,
    )


def study_of(experiment: Experiment, since: int, until: int) -> Study:
    """What is to be read of the logs."""
    return Study(
        _arms(experiment),
        experiment.unit,
        experiment.attribution_hours,
        since,
        until,
        (experiment.primary, *experiment.secondary, *experiment.guardrails),
        experiment.allocation.policy == "fixed",
        (str(Page.EXPERIMENTS),),
        reader_of(experiment),
    )


def reader_of(experiment: Experiment) -> Reader:
    """Finds the experiment's arm in a page's row; pages whose arm was forced count for nothing."""

    def read(row: Mapping[str, Any]) -> Assigned | None:
        for text in row[Page.EXPERIMENTS] or ():
            if text.startswith(f"{experiment.name}="):
                try:
                    found = heard(text)
                except ValueError:
                    raise InputError(
                        f"the log says {text!r} of a page; expected experiment=arm@version:probability (docs/event-log.md)"
                    ) from None
                return None if found.forced else Assigned(found.arm, found.probability)
        return None

    return read


def says(metric: Metric) -> str:
    """A metric in words.

    >>> says(Metric(name="buys", events=("purchase-complete",)))
    'buys (share of people with a purchase-complete)'
    """
    what = " or ".join(str(e) for e in metric.events)
    if metric.kind == "rate":
        return f"{metric.name} (share of people with a {what})"
    if metric.kind == "count":
        return f"{metric.name} ({what} per person)"
    if metric.kind == "value":
        return f"{metric.name} (value of {what} per person)"
    return f"{metric.name} (value of {what} per {' or '.join(str(e) for e in metric.per)})"


def _arms(experiment: Experiment) -> tuple[str, ...]:
    others = [name for name in experiment.served if name != experiment.control]
    return (experiment.control, *others, *((HOLDOUT,) if experiment.holdout else ()))
