"""Which sources run, and how large the towers are, for the data at hand: a small shop wants other defaults than a large one.

Every decision has a reason that a person can read. A setting that the shop's own configuration file names is left as it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from core.columns import AnyColumn, Array, Coded, Tags, Texts
from core.config import PipelineConfig, SourcesConfig
from core.errors import ConfigError, nearest
from core.prepared import Prepared
from core.schema import Column
from core.tokens import TOKEN_PEOPLE
from retrieval.sources import SOURCES
from retrieval.sources.popularity import Popularity

_SMALL: Final = 500  # items: vectors of so few need no 64 numbers
_LONG: Final = 0.99  # of the people have no more successes than the towers read
_EVENTS: Final = (20, 50, 100)  # lengths that the towers are given
_SPARSE: Final = 30  # successes of an item on average; an id embedding learned from fewer is mostly noise
_SPARSE_DROPOUT: Final = 0.3
_TOLD_APART: Final = 0.5  # of the people: attributes that most share, or that few have, tell too little to be read
_SECONDS_PER_MILLION: Final = 60.0  # events; more data earns more time than `towers.seconds`


@dataclass(frozen=True)
class Decision:
    """One setting that follows from the data."""

    setting: str
    value: Any
    because: str

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}: {self.because}"


def fitted_sources(config: SourcesConfig) -> list[str]:
    """Names of the sources to fit, in the order of SOURCES; popularity always, since pages are filled up with it.

    Raises:
        ConfigError: if the configuration names one that there is not.
    """
    if config.use == "auto":
        return list(SOURCES)
    if unknown := [n for n in config.use if n not in SOURCES]:
        raise ConfigError(f"sources.use: unknown source {unknown[0]!r}; {nearest(unknown[0], SOURCES)}")
    return [n for n in SOURCES if n in config.use or n == Popularity.name]


def decide(prepared: Prepared, config: PipelineConfig) -> list[Decision]:
    """What the data say about the settings that the configuration leaves open."""
    made = [_sources(prepared, config), *_towers(prepared, config)]
    return [d for d in made if d.setting not in config.given]


def adapted(config: PipelineConfig, decisions: list[Decision]) -> PipelineConfig:
    """The configuration with the decisions in it."""
    for d in decisions:
        section, key = d.setting.split(".")
        changed = getattr(config, section).model_copy(update={key: d.value})
        config = config.model_copy(update={section: changed})
    return config


def recorded(decisions: list[Decision]) -> dict[str, Any]:
    """For the manifest."""
    return {"decisions": [asdict(d) for d in decisions]}


def _sources(prepared: Prepared, config: PipelineConfig) -> Decision:
    """Sources that cannot say anything are not fitted, opened and asked. Those that `evaluate` names as baselines always are."""
    out: dict[str, str] = {}
    if not _described(prepared):
        out["content"] = "items have no attributes"
    if config.sources.linear_items == 0:
        out["linear"] = "linear_items is 0"
    names = tuple(n for n in SOURCES if n not in out)
    reasons = "; ".join(f"without {name}, since {why}" for name, why in out.items())
    return Decision("sources.use", names, reasons or "each has something to say")


def _towers(prepared: Prepared, config: PipelineConfig) -> list[Decision]:
    lengths = _successes(prepared, Column.USER)
    n_items, n_events = len(prepared.item_ids), int(lengths.sum())
    usual = int(np.quantile(lengths, _LONG)) if len(lengths) else 0
    towers = config.towers
    read = min((n for n in _EVENTS if n >= usual), default=towers.events)
    made = []
    if n_items < _SMALL and towers.dimensions > 32:
        made.append(Decision("towers.dimensions", 32, f"{n_items:,} items"))
    if read < towers.events:
        made.append(Decision("towers.events", read, f"{_LONG:.0%} of the people have at most {usual} successes"))
    mean = _successes(prepared, Column.ITEM).mean() if n_events else 0.0
    if mean < _SPARSE and towers.id_dropout < _SPARSE_DROPOUT and _described(prepared):
        made.append(
            Decision("towers.id_dropout", _SPARSE_DROPOUT, f"{mean:.0f} successes of an item teach its id little")
        )
    if towers.user_attributes == "auto":
        made += _attributes(prepared)
    seconds = towers.seconds
    while seconds < _SECONDS_PER_MILLION * n_events / 1e6:
        seconds *= 2
    if seconds > towers.seconds:
        made.append(Decision("towers.seconds", seconds, f"{n_events:,} successes to learn from"))
    return made


def _attributes(prepared: Prepared) -> list[Decision]:
    """Whether what people say of themselves tells them apart; without any attribute nothing is decided, and nothing read."""
    told, people = prepared.told, int(np.count_nonzero(prepared.users.numbers("known")))
    if not len(told.tokens):
        return []
    _, token, counts = np.unique(told.tokens, return_inverse=True, return_counts=True)
    telling = (counts >= TOKEN_PEOPLE) & (counts <= people / 2)
    rows = np.repeat(np.arange(len(told)), np.diff(told.starts))
    share = len(np.unique(rows[telling[token]])) / max(people, 1)
    because = f"{share:.0%} of the people say of themselves what at least {TOKEN_PEOPLE} and at most half of them do"
    return [Decision("towers.user_attributes", share >= _TOLD_APART, because)]


def _successes(prepared: Prepared, of: Column) -> Array:
    """Events with gain of each person (or item) that has any: int64 `[n]`."""
    success = np.asarray(prepared.events.numbers(Column.GAIN)) > 0
    counts = np.bincount(prepared.events.numbers(of)[success])
    return counts[counts > 0]


def _described(prepared: Prepared) -> bool:
    """Whether some column tells items apart by what they are (retrieval.attributes reads the same ones)."""
    return any(_tells(name, column) for name, column in prepared.items.items())


def _tells(name: str, column: AnyColumn) -> bool:
    if isinstance(column, Tags):
        return len(column.codes) > 0
    if isinstance(column, Texts):
        return name == Column.TITLE and any(len(title) for title in column)
    named = name in (Column.CATEGORY, Column.BRAND) or name.startswith("attribute.")
    return named and isinstance(column, Coded) and bool((np.asarray(column.codes) >= 0).any())
