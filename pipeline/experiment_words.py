"""An experiment's result in words for somebody who is not a statistician: the verdict, and what happens next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from core.schema import DAY
from experiments.analysis import Curve, Result
from experiments.config import HOLDOUT

_ROUND: Final = 10  # days ahead that are worth naming


@dataclass(frozen=True)
class About:
    """What the experiment is, by its file."""

    name: str
    owner: str
    hypothesis: str
    arms: tuple[str, ...]
    start: int  # microseconds
    end: int  # microseconds
    needed: int = 0  # units that the plan asks for; 0: not known
    mixed: int = 0  # units that met more than one arm
    says: Mapping[str, str] = field(default_factory=dict)  # metric -> what it is
    rates: frozenset[str] = frozenset()  # metrics that are shares of people


@dataclass(frozen=True)
class Verdict:
    """One sentence, what to do, and why: plain text."""

    headline: str
    next: str
    tone: str  # good | bad | open


def percent(lift: float) -> str:
    r"""A lift with its sign.

    >>> percent(0.0312), percent(-0.5), percent(float("nan"))
    ('+3.1\xa0%', '−50.0\xa0%', 'not known yet')
    """
    if not math.isfinite(lift):
        return "not known yet"
    return f"{'+' if lift >= 0 else '−'}{abs(lift):.1%}".replace("%", "\xa0%")


def between(low: float, high: float) -> str:
    """An interval as people say it."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "too few people so far"
    return f"between {percent(low)} and {percent(high)}"


def value_of(rate: bool, value: float) -> str:
    r"""A metric's value with its unit.

    >>> value_of(True, 0.0421), value_of(False, 12.5)
    ('4.21\xa0%', '12.5')
    """
    if not math.isfinite(value):
        return "not known yet"
    return f"{value:.2%}".replace("%", "\xa0%") if rate else f"{value:.4g}"


def verdict(about: About, result: Result) -> Verdict:
    """What the figures mean. Problems come first: a broken split makes every other figure worthless."""
    if not result.sound:
        return Verdict(
            "The arms do not have the number of people that they should: do not believe any figure below.",
            "Stop the experiment and find what loses people in one arm (redirects, errors, bots, logging), then start anew.",
            "bad",
        )
    broken = [c for c in result.curves if c.breached and c.arm != HOLDOUT]
    if broken:
        c = broken[0]
        return Verdict(
            f"Arm {c.arm} harms what was to be protected: "
            f"{about.says.get(c.metric, c.metric)} changed by {percent(c.lift[-1])} ({between(c.low[-1], c.high[-1])}).",
            f"Stop arm {c.arm}: the loss is beyond the {percent(-c.margin)} that was allowed, and not by chance.",
            "bad",
        )
    every = [c for c in result.curves if c.role == "primary"]
    primary = [c for c in every if c.arm != HOLDOUT] or every  # what is held out is nothing that could be shipped
    better = sorted((c for c in primary if c.decision == "better"), key=lambda c: -c.lift[-1])
    if better:
        c = better[0]
        return Verdict(
            f"Arm {c.arm} is better: {about.says.get(c.metric, c.metric)} {percent(c.lift[-1])} ({between(c.low[-1], c.high[-1])}).",
            _ship(about, result, c.arm),
            "good",
        )
    worse = [c for c in primary if c.decision == "worse"]
    if worse and len(worse) == len(primary):
        return Verdict(
            "No arm is better than the control, and all are worse.",
            "Stop the experiment and keep what is there.",
            "bad",
        )
    best = max(primary, key=lambda c: c.lift[-1] if math.isfinite(c.lift[-1]) else -math.inf)
    headline = f"Not decided yet: {about.says.get(best.metric, best.metric)} of arm {best.arm} may have changed by {between(best.low[-1], best.high[-1])}."
    if not math.isfinite(best.low[-1]):
        headline = "Not decided yet: too few people have been counted to say anything."
    return Verdict(headline, _wait(about, result), "open")


def _ship(about: About, result: Result, arm: str) -> str:
    """What to do with an arm that is better: no harm shown is not yet safe."""
    unsure = [c for c in result.curves if c.role == "guardrail" and c.arm == arm and not _safe(c)]
    if unsure:
        names = ", ".join(about.says.get(c.metric, c.metric) for c in unsure)
        more = "" if result.fixed else " Let it run on: looking again costs nothing."
        return f"Do not ship arm {arm} yet: not proven safe so far: {names}.{more}"
    if result.fixed:
        return f"Ship arm {arm}."
    return f"Ship arm {arm}, or let it run on for a narrower figure: looking again costs nothing."


def _safe(guardrail: Curve) -> bool:
    return bool(guardrail.low[-1] > -guardrail.margin)


def _wait(about: About, result: Result) -> str:
    now, counted = int(result.looks[-1]), int(result.counted.sum())
    if now >= about.end:
        return "The experiment is over without a finding: if there is an effect, it is smaller than what was planned for. Keep what is there."
    text = "Let it run."
    days = (now - about.start) / DAY
    if about.needed and counted and days > 0:
        left = max(about.needed - counted, 0) / (counted / days)
        text += f" {counted:,} of the {about.needed:,} people of the plan have been counted"
        text += (
            f"; at this rate the rest take about {math.ceil(left):,} more day{'s' if left > 1 else ''}."
            if left
            else "."
        )
        if left and now + left * DAY > about.end:
            text += " That is after its end: lengthen it, widen its share, or expect no answer."
    if result.fixed:
        return text + " This was the one look that the plan allowed."
    return text + " You may look at this page as often as you like: its intervals hold at every moment."


def meaning(curve: Curve) -> str:
    """What one row of the table says."""
    if curve.breached:
        return "harmed beyond what was allowed"
    if curve.role == "guardrail":
        return "safe" if _safe(curve) else "no harm shown, not yet proven safe"
    return {"better": "better", "worse": "worse", "open": "no difference shown yet"}[curve.decision]
