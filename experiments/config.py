"""An experiment as its file says it (`configs/experiments/*.yaml`), checked. docs/experiments.md has every key with examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from core.config import Section
from core.moments import Moment, Zone, micros
from core.schema import EventType

HOLDOUT: Final = "holdout"
_EPSILON: Final = 1e-9


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(Section):
    """What of serving an arm does in another way. A caller who asks for something by name (`diversity_level`, `explore`) gets that."""

    diversity_level: Literal["no-diversity", "low-diversity", "medium-diversity", "high-diversity"] | None = None
    explore: bool | None = None  # draw the order of every page at random, or of none
    quotas: dict[str, Annotated[int, Field(ge=0, le=10_000)]] = Field(
        default_factory=dict
    )  # of sources; others keep theirs
    ranker: Literal["on", "off"] | None = None  # off: the unlearned blend orders
    rules: Literal["on", "off"] | None = None  # off: none of the shop's rules but those that hide


class Arm(Section):
    """One way to answer: the shop's own release and settings, but for what is named."""

    weight: float = Field(default=1.0, ge=1e-6, le=1e6)  # against those of the others
    settings: Settings = Settings()
    release: str | None = Field(default=None, min_length=1)  # one of WORK/releases, or a path
    shadow: Share = (
        0.0  # nobody is answered by it; of so many units what it would answer is computed beside, and logged
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shadow and "weight" in self.model_fields_set:
            raise ValueError("weight: nobody is answered by a shadow; `shadow` says of how many units it makes copies")
        if self.shadow and self.release is None and self.settings == Settings():
            raise ValueError("shadow: the arm answers as ever; name a release or settings to compare")
        return self


class Watch(Section):
    """What is watched of the arms while they answer (experiments.inference.arrivals). A breach stops the experiment by itself."""

    errors: float | None = Field(default=1.5, ge=1)  # so many times the control's may be; null: not watched
    slow: float | None = Field(default=1.5, ge=1)  # of answers that take more than `slow_ms`, likewise
    slow_ms: float = Field(default=50.0, gt=0)
    alpha: float = Field(default=0.01, gt=0, lt=0.5)  # the chance that it ever stops an experiment whose arms are fine
    least: int = Field(default=5, ge=1)  # units to which it happened, over both arms, before anything is said


class Step(Section):
    """From a moment on the experiment takes another share of its layer."""

    at: Moment
    share: Share


class Traffic(Section):
    """Which part of a layer the experiment takes. Experiments of one layer must not overlap: nobody is in two of them."""

    first: Share = 0.0  # where its part begins
    share: Share = 1.0  # how much it takes from the start on
    ramp: tuple[Step, ...] = ()


class Eligibility(Section):
    """Whose requests count: all that is said must hold."""

    placements: tuple[str, ...] = ()  # patterns such as product-*
    tenants: tuple[str, ...] = ()
    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # of the request, e.g. country: [DE, AT]


class Metric(Section):
    """A number of a unit, of the events that follow its first page within the attribution window."""

    name: Name
    events: tuple[EventType, ...] = Field(min_length=1)
    kind: Literal["rate", "count", "value", "ratio"] = "rate"  # did any; how many; their value; value per `per`
    per: tuple[EventType, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "ratio") != bool(self.per):
            raise ValueError("`per` is for kind ratio, which needs it")
        return self


class Guardrail(Metric):
    """A metric that must not fall by more than a share of the control's."""

    most_lost: float = Field(default=0.0, ge=0, lt=1)
    stops: bool = False  # an arm that is shown to break it is closed by itself


class Allocation(Section):
    """How units are spread over the arms. All but `fixed` learn from feedback, and are for sessions."""

    policy: Literal["fixed", "epsilon-greedy", "ucb", "thompson", "gaussian-thompson"] = "fixed"
    epsilon: float = Field(default=0.1, gt=0, le=1)
    update_seconds: float = Field(default=600.0, ge=1)  # between two versions of the shares
    cap: float | None = Field(default=None, gt=0)  # of a unit's reward, where the primary metric is a count or a value
    half_life_days: float | None = Field(default=None, gt=0)  # what was seen so long ago counts half; none: all counts


class Experiment(Section):
    """One experiment."""

    name: Name
    owner: str = Field(min_length=1)
    hypothesis: str = Field(min_length=1)
    enabled: bool = True
    unit: Literal["user", "visitor", "session"] = "user"
    layer: Name = "default"
    traffic: Traffic = Traffic()
    eligible: Eligibility = Eligibility()
    arms: dict[Name, Arm] = Field(min_length=2, max_length=20)
    control: Name
    allocation: Allocation = Allocation()
    holdout: float = Field(
        default=0.0, ge=0, lt=1
    )  # of its own part: answered as without it, counted as the arm `holdout`
    forced: dict[str, Name] = Field(
        default_factory=dict, max_length=1000
    )  # unit id -> arm, for testers; they count for nothing
    primary: Metric
    lift: float = Field(default=0.05, gt=0, le=10)  # smallest of the primary metric worth finding: sharpens the report
    secondary: tuple[Metric, ...] = Field(default=(), max_length=20)
    guardrails: tuple[Guardrail, ...] = Field(default=(), max_length=20)
    watch: Watch | None = None  # none: guardrails are for reports alone
    attribution_hours: float = Field(default=24.0, gt=0, le=8_784)  # a year
    start: Moment | None = None
    end: Moment | None = None
    time_zone: Zone = "UTC"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if HOLDOUT in self.arms:
            raise ValueError(f"arms: {HOLDOUT!r} is the name of what is held out; call the arm otherwise")
        for what, arm in (("control", self.control), *((f"forced.{unit}", arm) for unit, arm in self.forced.items())):
            if arm not in self.arms:
                raise ValueError(f"{what}: no arm {arm!r}; the arms are {', '.join(self.arms)}")
            if arm not in self.served:
                raise ValueError(f"{what}: nobody is answered by {arm!r}, which is a shadow")
        own = [name for name, arm in self.arms.items() if arm.release or arm.shadow]
        if self.allocation.policy != "fixed" and own:
            raise ValueError(
                f"arms.{own[0]}: a release and a shadow need `allocation: {{policy: fixed}}`: "
                "a bandit chooses when the person is read already, which is as the release knows them"
            )
        if self.watch is not None and self.allocation.policy != "fixed":
            raise ValueError("watch: needs `allocation: {policy: fixed}`: it knows whose shares stay as they are")
        if self.allocation.policy != "fixed" and self.unit != "session":
            raise ValueError(
                f"allocation: {self.allocation.policy} moves units between arms; only `unit: session` may be"
            )
        self._measurable()
        self._learnable()
        since, until = self.in_force
        if since >= until:
            raise ValueError(f"end {self.end} is not after start {self.start}")
        steps = self._steps
        if [at for at, _ in steps] != sorted({at for at, _ in steps}):
            raise ValueError("traffic.ramp: the steps must follow each other in time")
        shares = [self.traffic.share, *(share for _, share in steps)]
        if self.allocation.policy == "fixed" and shares != sorted(shares):
            raise ValueError(
                "traffic.ramp: a share that falls would move people out of their arm; end the experiment instead"
            )
        if self.traffic.first + max(shares) > 1 + _EPSILON:
            raise ValueError(f"traffic: {self.traffic.first:g} + {max(shares):g} is more than the whole layer")
        return self

    def _measurable(self) -> None:
        """Refuse two metrics of one name: a report finds what is counted by it, and would show one of them as the other."""
        known: dict[str, dict[str, object]] = {}
        for metric in (self.primary, *self.secondary, *self.guardrails):
            says = metric.model_dump(include=set(Metric.model_fields))
            if known.setdefault(metric.name, says) != says:
                raise ValueError(
                    f"metric {metric.name!r} is there twice and counts two things (events, kind, per): call one otherwise"
                )
        for what, names in (
            ("secondary", [m.name for m in self.secondary]),
            ("guardrails", [g.name for g in self.guardrails]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{what}: {twice!r} is there twice; leave one out")

    def _learnable(self) -> None:
        """Refuse a bandit whose rewards cannot be counted unit by unit, between 0 and a cap."""
        a, kind = self.allocation, self.primary.kind
        if a.policy == "fixed":
            return
        if self.shadows or any(arm.release for arm in self.arms.values()):
            raise ValueError("arms: those of a bandit differ in settings; release and shadow are for `policy: fixed`")
        if kind == "ratio":
            raise ValueError("primary: a ratio is of all units together; a bandit needs a rate, a count or a value")
        if kind == "rate" and a.cap is not None:
            raise ValueError("allocation.cap: a rate is 0 or 1 already; leave it out")
        if kind != "rate" and a.cap is None:
            raise ValueError(f"allocation.cap: say which {kind} of one unit counts as 1; more counts as much")
        if kind == "count" and a.cap is not None and a.cap != int(a.cap):
            raise ValueError(f"allocation.cap: {a.cap:g} is no count; expected a whole number")

    @cached_property
    def in_force(self) -> tuple[float, float]:
        """When it runs: half-open, microseconds; infinite where nothing is said."""
        return (
            -math.inf if self.start is None else self._micros(self.start),
            math.inf if self.end is None else self._micros(self.end),
        )

    @property
    def part(self) -> tuple[float, float]:
        """The part of the layer that it takes in the end: half-open, 0 to 1."""
        first = self.traffic.first
        return first, first + max(self.traffic.share, *(step.share for step in self.traffic.ramp), 0.0)

    def share(self, now: float) -> float:
        """Of the layer, at a moment (microseconds)."""
        share = self.traffic.share
        for at, then in self._steps:
            if at > now:
                break
            share = then
        return share

    def runs(self, now: float) -> bool:
        """Whether anybody is in it at a moment (microseconds)."""
        since, until = self.in_force
        return self.enabled and since <= now < until

    def is_at(self, placement: str, tenant: str) -> bool:
        """Whether requests of a placement and a tenant are eligible, but for their labels."""
        wanted = self.eligible
        if wanted.placements and not any(fnmatchcase(placement, pattern) for pattern in wanted.placements):
            return False
        return not wanted.tenants or tenant in wanted.tenants

    def wants(self, labels: Mapping[str, str]) -> bool:
        """Whether requests with these labels are eligible."""
        wanted = self.eligible.labels
        return not wanted or all(labels.get(key) in values for key, values in wanted.items())

    @cached_property
    def served(self) -> tuple[str, ...]:
        """The arms that somebody is answered by, in the order of the file: all but shadows."""
        return tuple(name for name, arm in self.arms.items() if not arm.shadow)

    @cached_property
    def shadows(self) -> dict[str, float]:
        """The other arms, and of which share of units each makes copies."""
        return {name: arm.shadow for name, arm in self.arms.items() if arm.shadow}

    @cached_property
    def weights(self) -> dict[str, float]:
        """The share of each arm in a fixed split, in the order of the file; they add up to 1. Shadows have none."""
        whole = sum(self.arms[name].weight for name in self.served)
        return {name: self.arms[name].weight / whole for name in self.served}

    @cached_property
    def changes(self) -> dict[str, Settings]:
        """Of each arm that changes anything, what."""
        return {name: arm.settings for name, arm in self.arms.items() if arm.settings != Settings()}

    @cached_property
    def _steps(self) -> list[tuple[float, float]]:
        return [(self._micros(step.at), step.share) for step in self.traffic.ramp]

    def _micros(self, moment: str) -> float:
        return micros(moment, self.time_zone)
