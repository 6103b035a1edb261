"""From the analysis table to what a report says: estimates over time, decisions, guardrails, segments, sample ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from core.columns import Array
from experiments.inference import bandit, fixed, sample_ratio
from experiments.inference.corrections import e_benjamini_hochberg
from experiments.inference.moments import Difference, difference
from experiments.inference.sequential import Mixture
from experiments.table import AnalysisTable

BANDIT_BURN_IN: Final = 200

Decision = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Question:
    """What was settled before the start. Of every metric more is better: a loss is what a guardrail watches for."""

    primary: str
    lift: float  # the smallest of the primary metric that is worth finding, .03 for 3 %
    secondary: tuple[str, ...] = ()
    guardrails: dict[str, float] = field(default_factory=dict)  # metric -> loss that is borne, .01 for 1 %
    alpha: float = 0.05
    shares: tuple[float, ...] = ()  # of a fixed split; none: a bandit


@dataclass(frozen=True)
class Curve:
    """One metric of one arm against the control, as lifts (.03 is +3 %), at each look: float64 `[looks]`."""

    metric: str
    arm: str
    role: Literal["primary", "secondary", "guardrail"]
    lift: Array
    low: Array
    high: Array
    value: float  # of the arm, as counted so far
    control: float
    kept: float  # share of the variance that the covariate left
    log_evidence: float  # against no change, now: of the e-value, or of 1 / p at a fixed horizon
    confidence: float
    decision: Decision
    margin: float = 0.0  # of a guardrail
    breached: bool = False


@dataclass(frozen=True)
class Segment:
    """The primary metric among some of the units: for looking only, no decision rests on it."""

    name: str
    value: str
    arm: str
    units: int
    lift: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """All of it, as of one moment."""

    looks: Array  # int64 [looks], microseconds
    units: Array  # int64 [looks, arms]: exposed so far
    counted: Array  # int64 [arms], now
    curves: list[Curve]
    segments: list[Segment]
    ratio_p: float | None  # always-valid; none for a bandit
    bandit: bool
    fixed: bool = False  # one look at the end, by the fixed-horizon test

    @property
    def sound(self) -> bool:
        """Whether the arms have the units that they should."""
        return self.ratio_p is None or self.ratio_p >= sample_ratio.ALARM


def analyse(table: AnalysisTable, question: Question, until: int, *, fixed_horizon: bool = False) -> Result:
    """Everything as of `until`.

    Args:
        table: The units.
        question: What is asked of them.
        until: Microseconds.
        fixed_horizon: This is the one look that was settled before the start; intervals are narrower, and hold at no other moment.

    Raises:
        InputError: The table lacks a metric that the question names.
    """
    looks = np.array([until], np.int64) if fixed_horizon else table.looks(until)
    curves = []
    arms = range(1, len(table.arms))
    roles: list[tuple[Literal["primary", "secondary", "guardrail"], str]] = [("primary", question.primary)]
    roles += [("secondary", m) for m in question.secondary] + [("guardrail", m) for m in question.guardrails]
    for role, metric in roles:
        # Of the primary metric every arm may be shipped by mistake; secondary ones are corrected together below; a guardrail errs to the safe side alone.
        alpha = question.alpha / len(arms) if role == "primary" else question.alpha
        for arm in arms:
            curves.append(_curve(table, question, looks, metric, arm, role, alpha, fixed_horizon))
    exposed = np.array(
        [[int(((table.arm == a) & (table.exposed < t)).sum()) for a in range(len(table.arms))] for t in looks]
    )
    ratio = sample_ratio.p_value(exposed[-1].tolist(), question.shares) if question.shares else None
    n = table.counted(until)
    return Result(
        looks,
        exposed,
        np.bincount(table.arm[:n], minlength=len(table.arms)),
        _corrected(curves, question.alpha),
        _segments(table, question, until) if question.shares and not fixed_horizon else [],
        ratio,
        not question.shares,
        fixed_horizon,
    )


def estimate(
    table: AnalysisTable, metric: str, arm: int, looks: Array, split: bool, rows: Array | None = None
) -> Difference:
    """An arm against the control at each look, relative: `[looks]`."""
    if split:
        treatment, control = (table.moments(metric, a, looks, rows) for a in (arm, 0))
        return difference(treatment, control, relative=True)
    y, d, _ = table.numerators(metric)
    counted = [table.counted(int(t)) for t in looks]
    return bandit.differences(
        y,
        d,
        table.arm,
        table.propensity,
        counted,
        pair=(arm, 0),
        arms=len(table.arms),
        relative=True,
        burn_in=BANDIT_BURN_IN,
    )


def _curve(
    table: AnalysisTable,
    question: Question,
    looks: Array,
    metric: str,
    arm: int,
    role: Literal["primary", "secondary", "guardrail"],
    alpha: float,
    fixed_horizon: bool,
) -> Curve:
    found = estimate(table, metric, arm, looks, bool(question.shares))
    mixture = Mixture.planned(math.log1p(question.lift))
    radius = fixed.radius(found.se, alpha) if fixed_horizon else mixture.radius(found.se, alpha)
    evidence = (
        -np.log(np.maximum(fixed.p_value(found.effect, found.se), 1e-300))
        if fixed_horizon
        else mixture.log_evidence(found.effect, found.se)
    )
    n = table.counted(int(looks[-1]))
    y, d, _ = table.numerators(metric)
    value, control = (_ratio(y[:n][at].sum(), d[:n][at].sum()) for at in (table.arm[:n] == arm, table.arm[:n] == 0))
    low, high = found.lift(found.effect - radius), found.lift(found.effect + radius)
    margin = question.guardrails.get(metric, 0.0) if role == "guardrail" else 0.0
    decision: Decision = "better" if low[-1] > 0 else "worse" if high[-1] < 0 else "open"
    return Curve(
        metric,
        table.arms[arm],
        role,
        found.lift(found.effect),
        low,
        high,
        value,
        control,
        float(found.kept[-1]),
        float(evidence[-1]),
        1 - alpha,
        decision,
        margin,
        bool(role == "guardrail" and high[-1] < -margin),
    )


def _ratio(y: float, d: float) -> float:
    """NaN where there is nothing to divide by."""
    return float(y / d) if d else math.nan


def _corrected(curves: list[Curve], alpha: float) -> list[Curve]:
    """Secondary metrics are called changed by e-BH over all of them and all arms; at a fixed horizon, where evidence is 1 / p, that is BH."""
    second = [c for c in curves if c.role == "secondary"]
    found = e_benjamini_hochberg(np.array([c.log_evidence for c in second]), alpha)
    calls: dict[int, Decision] = {}
    for c, sure in zip(second, found.tolist(), strict=True):
        calls[id(c)] = ("better" if c.lift[-1] > 0 else "worse") if sure else "open"
    return [replace(c, decision=calls[id(c)]) if id(c) in calls else c for c in curves]


def _segments(table: AnalysisTable, question: Question, until: int) -> list[Segment]:
    """The primary metric by segment, each interval as wide as all of them together need (Bonferroni)."""
    groups = [(name, value) for name, of in table.segments.items() for value in sorted(set(of.tolist()))]
    alpha = question.alpha / max(len(groups) * (len(table.arms) - 1), 1)
    mixture, looks = Mixture.planned(math.log1p(question.lift)), np.array([until])
    made = []
    for name, value in groups:
        rows = table.segments[name] == value
        for arm in range(1, len(table.arms)):
            found = estimate(table, question.primary, arm, looks, True, rows)
            radius = mixture.radius(found.se, alpha)
            lift, low, high = (
                float(found.lift(e)[0]) for e in (found.effect, found.effect - radius, found.effect + radius)
            )
            made.append(Segment(name, value, table.arms[arm], int(rows[: table.counted(until)].sum()), lift, low, high))
    return made
