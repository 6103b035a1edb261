"""What changed from one release to another: data, metrics, settings, what the ranker looks at, items, pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from core.columns import Columns
from core.ids import IdMap
from core.release import CONFIGURATION, RANKER, ReleaseSettings
from core.schema import Column
from core.work import Work
from pipeline.registry.find import Known
from pipeline.registry.overlap import PEOPLE, K, overlap
from ranking.scorer import HEADER

_EXAMPLES: Final = 20
_OTHER_SYSTEMS: Final = ("baselines", "intervals")  # parts of the metrics that do not speak of the release's own pages


def diff(a: Known, b: Known, people: int = PEOPLE, k: int = K) -> dict[str, Any]:
    """From `a` to `b`, as JSON. Metrics are each release's own, on its own test window: a difference between them says little by itself."""
    return {
        "from": a.facts() | {"commit": a.manifest.build.get("commit")},
        "to": b.facts() | {"commit": b.manifest.build.get("commit")},
        "parents": _changed(a.manifest.parents, b.manifest.parents),
        "metrics": metrics(a.manifest.about.get("metrics") or {}, b.manifest.about.get("metrics") or {}),
        "configuration": _configuration(a, b),
        "settings": _changed(_settings(a), _settings(b)),
        "features": features(_ranker(a), _ranker(b)),
        "items": items(a.path, b.path),
        "pages": _pages(a, b, people, k),
    }


def metrics(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Every figure that either has, by its path: {"from", "to", "delta"}."""
    first, second = (
        {
            path: v
            for path, v in flat({k: v for k, v in m.items() if k not in _OTHER_SYSTEMS})
            if isinstance(v, int | float) and not isinstance(v, bool) and not set(path.split(".")) & set(_OTHER_SYSTEMS)
        }
        for m in (a, b)
    )
    return {
        path: {
            "from": first.get(path),
            "to": second.get(path),
            "delta": round(second[path] - first[path], 6) if path in first and path in second else None,
        }
        for path in sorted(first | second)
    }


def features(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> dict[str, Any]:
    """What either ranker looks at, and each feature's share of the gain of its splits."""
    had, has = ({} if r is None else r.get("importance", {}) for r in (a, b))
    known, knows = ([] if r is None else list(r["features"]) for r in (a, b))
    gains = {
        name: {
            "from": had.get(name, 0.0),
            "to": has.get(name, 0.0),
            "delta": round(has.get(name, 0.0) - had.get(name, 0.0), 6),
        }
        for name in sorted(set(had) | set(has))
    }
    return {
        "ranker": {"from": None if a is None else a["trees"], "to": None if b is None else b["trees"]},
        "gained": sorted(set(knows) - set(known)),
        "lost": sorted(set(known) - set(knows)),
        "gains": gains,
    }


def items(a: Path, b: Path) -> dict[str, Any]:
    """Which items came and went, and which can be shown now and could not before."""
    (had, could), (has, can) = _items(a), _items(b)
    sets = {
        "gained": has - had,
        "lost": had - has,
        "on_the_shelf": (can - could) & had,
        "off_the_shelf": (could - can) & has,
    }
    return {
        "from": len(had),
        "to": len(has),
        **{name: len(found) for name, found in sets.items()},
        "examples": {name: sorted(found)[:_EXAMPLES] for name, found in sets.items()},
    }


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path.

    >>> dict(flat({"a": {"b": 1}, "c": [2]}))
    {'a.b': 1, 'c': [2]}
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    first, second = dict(flat(a)), dict(flat(b))
    paths = [p for p in sorted(first | second) if first.get(p) != second.get(p)]
    return {p: {"from": first.get(p), "to": second.get(p)} for p in paths}


def _configuration(a: Known, b: Known) -> dict[str, Any]:
    """Keys that differ; where a release does not have its configuration, only whether it is the same."""
    about = a.manifest.about, b.manifest.about
    same = about[0].get("config") == about[1].get("config")
    keys = (
        _changed(about[0][CONFIGURATION], about[1][CONFIGURATION]) if all(CONFIGURATION in x for x in about) else None
    )
    return {"same": same, "keys": {} if same else keys}


def _settings(release: Known) -> dict[str, Any]:
    return ReleaseSettings.read(release.path).model_dump(mode="json")


def _ranker(release: Known) -> dict[str, Any] | None:
    path = release.path / RANKER / HEADER
    return dict(json.loads(path.read_bytes())) if path.exists() else None


def _items(release: Path) -> tuple[set[str], set[str]]:
    """Ids of the items that there are, and of those that may be shown."""
    ids, columns = IdMap.open(release / "ids" / "items"), Columns.open(release / "items")
    alive, available = ids.alive, columns.numbers(Column.AVAILABLE)
    there = [(text, bool(available[row])) for row, text in enumerate(ids.texts) if alive[row]]
    return {text for text, _ in there}, {text for text, shown in there if shown}


def _pages(a: Known, b: Known, people: int, k: int) -> dict[str, Any]:
    found = overlap(_parts(a), _parts(b), people, k)
    return {"because": found} if isinstance(found, str) else found.rounded()


def _parts(release: Known) -> tuple[Path, Path]:
    return release.path, Work(release.path.parent.parent).user_state(release.window_end)
