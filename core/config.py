"""Configuration: YAML files checked against frozen models; an unknown key is an error that names the nearest known one.

`configs/pipeline.yaml` holds every default with its reason. A user's file (`nightly --config F`) needs only the keys that differ.
"""

# bazel: data=[//configs:all_files]

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from core.artifact import hash_json
from core.errors import ConfigError, nearest
from core.schema import EventType

M = TypeVar("M", bound="Section")


class Section(BaseModel):
    """One section of a configuration file. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def fingerprint(self) -> str:
        """Hex sha256 of the values."""
        return hash_json(self.model_dump(mode="json"))


class DataConfig(Section):
    """How the shop's events are read."""

    gains: dict[EventType, float]
    max_rejected_share: float = Field(ge=0, le=1)
    session_gap_minutes: float = Field(gt=0)
    session_window_hours: float = Field(gt=0)
    bot_events_per_day: int = Field(gt=0)
    synthetic_time: bool | None
    currency: str | None = Field(pattern=r"^[A-Z]{3}$")
    exchange_rates: dict[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _some_gain(self) -> Self:
        if not any(g > 0 for g in self.gains.values()):
            raise ValueError("no event type has a positive gain: nothing would count as a success")
        return self

    @model_validator(mode="after")
    def _rates_into_something(self) -> Self:
        if self.exchange_rates and self.currency is None:
            raise ValueError("exchange_rates without currency: name the currency that the rates lead to")
        if self.exchange_rates.get(self.currency or "", 1.0) != 1.0:
            raise ValueError(
                f"the rate of {self.currency} into itself is 1, got {self.exchange_rates[self.currency or '']}"
            )
        return self


class TimeConfig(Section):
    """Where the one timeline is cut (design 5), as quantiles of the times of positive-gain events of known users."""

    ranker: float = Field(gt=0, lt=1)
    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.ranker < self.validation < self.test:
            raise ValueError(f"expected ranker < validation < test, got {self.ranker}, {self.validation}, {self.test}")
        return self


class PairConfig(Section):
    """Co-visitation and next-item transitions."""

    window: int = Field(ge=1, le=50)
    gap_days: float = Field(gt=0)
    half_life_days: float = Field(gt=0)
    per_item: int = Field(ge=1)


class SourcesConfig(Section):
    """The sources without learning."""

    use: Literal["auto"] | tuple[str, ...]
    recent_days: float = Field(gt=0)
    neighbours: int = Field(ge=1)
    history_events: int = Field(ge=1)
    context_items: int = Field(ge=1)
    recency: float = Field(ge=0)
    linear_items: int = Field(ge=0)
    linear_penalty: float = Field(gt=0)
    linear_recency: float = Field(ge=0)
    warm_events: int = Field(ge=1)
    candidates: int = Field(ge=1)
    candidates_per_place: int = Field(ge=0)
    quotas: Literal["auto"] | dict[str, Annotated[int, Field(ge=0)]]


class TowersConfig(Section):
    """The learned towers: their sizes, what they learn from, and how long they may take."""

    seed: int
    dimensions: int = Field(ge=4, multiple_of=4)
    events: int = Field(ge=1, le=1000)
    blocks: int = Field(ge=0, le=8)
    heads: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    id_dropout: float = Field(ge=0, lt=1)
    horizon: int | None = Field(ge=1)
    targets: int = Field(ge=1, le=32)
    batch_events: int = Field(ge=16)
    uniform_negatives: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    final_epochs: int = Field(ge=1)
    seconds: float = Field(gt=0)
    user_attributes: Literal["auto"] | bool

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.dimensions % self.heads:
            raise ValueError(f"expected dimensions divisible by heads, got {self.dimensions} and {self.heads}")
        if self.batch_events < self.events:
            raise ValueError(f"expected batch_events >= events, got {self.batch_events} < {self.events}")
        return self


class RetrainingConfig(Section):
    """When the towers learn anew."""

    days: float = Field(ge=0)
    fall: float = Field(gt=0, le=1)


class IndexConfig(Section):
    """The nearest-neighbour index over the item vectors."""

    exact_below: int = Field(ge=0)
    kinds: dict[Literal["hnsw", "ivf-flat", "ivf-sq8", "ivf-pq"], tuple[int, int | None]]
    device: Literal["auto", "cpu", "gpu"]
    compact_share: float = Field(gt=0, le=1)
    k: int = Field(ge=1)
    queries: int = Field(ge=1)
    recall_target: float = Field(gt=0, le=1)
    recall_floor: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _some_kind_for_every_size(self) -> Self:
        """Sizes at which another set of kinds is tried: at each of them there must be one."""
        for items in {self.exact_below, *(most for _, most in self.kinds.values() if most is not None)}:
            if items >= self.exact_below and not any(
                least <= items and (most is None or items < most) for least, most in self.kinds.values()
            ):
                raise ValueError(f"no kind for {items} items: widen the range [from, below) of one")
        return self


class ObjectiveConfig(Section):
    """What a label is worth to the shop (ranking/objective.py)."""

    worth: str = Field(pattern=r"^(price|attribute\..+)$")
    share: float = Field(ge=0, le=1)
    cap: float = Field(ge=1)


LoggedPages = Annotated[
    Literal["auto", "off", "unbiased", "naive"], BeforeValidator(lambda v: "off" if v is False else v)
]
"""YAML reads a bare `off` as false."""


class RankerConfig(Section):
    """The ranker: what it learns from, and how its trees grow."""

    seed: int
    logged_pages: LoggedPages
    logged_pages_days: float = Field(ge=0)
    attribution_hours: float = Field(gt=0)
    requests: int = Field(ge=1)
    moments: int = Field(ge=0)
    fading: float = Field(gt=0, le=1)
    negatives: int = Field(ge=10)
    trees: int = Field(ge=1)
    patience: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    leaves: int = Field(ge=2)
    rows_per_leaf: int = Field(ge=1)
    feature_share: float = Field(gt=0, le=1)
    row_share: float = Field(gt=0, le=1)
    shrinkage: float = Field(ge=0)
    truncation: int = Field(ge=1)
    objective: ObjectiveConfig


class EvaluationConfig(Section):
    """What `evaluate` measures, and how sure it is."""

    seed: int
    max_queries: int = Field(ge=1)
    bootstrap_samples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    seen: Literal["auto", "keep", "remove"]


class Threshold(Section):
    """From where on a change is worth a warning, and from where on it stops the night (null: never)."""

    warn: float | None = Field(ge=0)
    stop: float | None = Field(ge=0)


class DriftConfig(Section):
    """When a night's data is so unlike the last one's that a person should look."""

    baseline_days: int = Field(ge=3, le=14)
    min_count: int = Field(ge=1)
    psi: Threshold
    ks: Threshold
    nulls: Threshold
    vanished: Threshold
    new: Threshold
    volume: Threshold
    stopped: Threshold


class GatesConfig(Section):
    """What a night must not fall short of to be published (docs/nightly.md). null: that gate is not asked."""

    freshness_hours: float | None = Field(gt=0)
    ahead_hours: float | None = Field(ge=0)
    fewer_events: float | None = Field(gt=1)
    more_events: float | None = Field(gt=1)
    resent_share: float | None = Field(ge=0, le=1)
    canary_share: float | None = Field(ge=0, le=1)
    ndcg_fall: float | None = Field(ge=0, le=1)
    recall_fall: float | None = Field(ge=0, le=1)
    segment_fall: float | None = Field(ge=0, le=1)
    segment_queries: int = Field(ge=10)
    segments: tuple[str, ...]
    requests: int = Field(ge=100)
    coverage_fall: float | None = Field(ge=0, le=1)
    gini_rise: float | None = Field(ge=0, le=1)
    input_shift: float | None = Field(ge=0, le=1)
    p99_ms: float | None = Field(gt=0)
    memory_gb: float | None = Field(gt=0)


class RetentionConfig(Section):
    """What is kept of the nights before."""

    releases: int = Field(ge=2)
    days: float = Field(ge=0)
    logs: int = Field(ge=1)


class PipelineConfig(Section):
    """The whole of `configs/pipeline.yaml`."""

    data: DataConfig
    drift: DriftConfig
    time: TimeConfig
    pairs: PairConfig
    sources: SourcesConfig
    towers: TowersConfig
    retraining: RetrainingConfig
    index: IndexConfig
    ranker: RankerConfig
    evaluation: EvaluationConfig
    gates: GatesConfig
    retention: RetentionConfig
    given: tuple[str, ...] = Field(default=(), exclude=True)
    """"section.key" of every setting that the shop's own file names: these are not adapted to the data (retrieval/defaults.py)."""

    def fingerprint(self) -> str:
        """Hex sha256 of all that decides what a release holds: not of what it is judged by, nor of what is kept."""
        return hash_json(self.model_dump(mode="json", exclude={"gates", "retention"}))


DEFAULTS = Path(__file__).parent.parent / "configs" / "pipeline.yaml"


def load_pipeline(path: Path | None = None) -> PipelineConfig:
    """The defaults, with the keys of `path` laid over them."""
    values = read_yaml(DEFAULTS)
    if path is None:
        return checked(PipelineConfig, values, DEFAULTS)
    own = read_yaml(path)
    config = checked(PipelineConfig, overlaid(values, own), path)
    given = tuple(f"{section}.{key}" for section, keys in own.items() for key in keys)
    return config.model_copy(update={"given": given})


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        values = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a directory, expected a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(e, "problem", None) or e).split())
        raise ConfigError(f"{path}{where}: not valid YAML: {problem}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, expected a mapping of sections")
    return values


def checked(model: type[M], values: dict[str, Any], where: Path | str) -> M:
    """`values` as a `model`; the first problem becomes one line that names the place and, for an unknown key, the nearest known one."""
    try:
        return model.model_validate(values)
    except ValidationError as e:
        problem = e.errors()[0]
        at = ".".join(str(p) for p in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _section_at(model, problem["loc"][:-1])
            raise ConfigError(
                f"{where}: unknown key {at!r}; {nearest(str(problem['loc'][-1]), known.model_fields)}"
            ) from None
        if problem["type"] == "missing":
            raise ConfigError(f"{where}: missing key {at!r}") from None
        if problem["type"] == "enum" and problem["loc"][-1] == "[key]":
            raise ConfigError(
                f"{where}: unknown event type {problem['input']!r} in {problem['loc'][-3]!r}; {nearest(str(problem['input']), EventType)}"
            ) from None
        got = f" (got {problem['input']!r})" if not isinstance(problem["input"], dict) else ""
        raise ConfigError(f"{where}: {at}: {problem['msg'].removeprefix('Value error, ')}{got}") from None


def _section_at(model: type[Section], loc: tuple[int | str, ...]) -> type[Section]:
    for name in loc:
        annotation = model.model_fields[str(name)].annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            model = annotation
    return model


def overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid over it, section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = overlaid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
