"""How likely it is that something comes of a candidate: from the ranker's score, by one rising curve for each level of the fallback ladder.

ranker/
  calibration.json  format version, sha256 of the model, method, what was measured, and the curves; rankers of before there were any lack it

Thresholds, boosts and exploration read it. The order never does: equal probabilities are no equal scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from core.artifact import sha256
from core.columns import Array
from core.errors import ArtifactError

FILE: Final = "calibration.json"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Curve:
    """Log-odds that rise with the score: straight between knots, and beyond the first and the last one straight with the slope `beyond`."""

    scores: Array  # float64 [m], ascending, m >= 1
    log_odds: Array  # float64 [m], not falling
    beyond: float = 0.0

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise ArtifactError(f"a curve that cannot be: {problem}")

    def __call__(self, scores: Array) -> Array:
        """Log-odds of scores, float64 `[n]`."""
        within = np.clip(scores, self.scores[0], self.scores[-1])
        return np.asarray(np.interp(within, self.scores, self.log_odds) + self.beyond * (scores - within))

    def mixed(self, other: Curve, share: float) -> Curve:
        """The curve of `share` parts of these log-odds and 1 - `share` parts of the other's: exactly, since both are made of straight pieces."""
        knots = np.union1d(self.scores, other.scores)
        log_odds = share * self(knots) + (1 - share) * other(knots)
        # rounding may let a level piece fall by a bit
        return Curve(knots, np.maximum.accumulate(log_odds), share * self.beyond + (1 - share) * other.beyond)


def _problem(curve: Curve) -> str | None:
    if curve.scores.ndim != 1 or curve.scores.shape != curve.log_odds.shape or not len(curve.scores):
        return f"{list(curve.scores.shape)} scores and {list(curve.log_odds.shape)} log-odds, expected as many, and at least one"
    if not (np.isfinite(curve.scores).all() and np.isfinite(curve.log_odds).all() and np.isfinite(curve.beyond)):
        return "values that are not finite"
    if (np.diff(curve.scores) <= 0).any() or (np.diff(curve.log_odds) < 0).any() or curve.beyond < 0:
        return "it falls, or its scores do not ascend"
    return None


@dataclass(frozen=True)
class Calibration:
    """The curves of a ranker."""

    method: str
    whole: Curve  # of all requests: for levels that were not there
    levels: Mapping[str, Curve]
    about: Mapping[str, Any] = field(default_factory=dict)  # what was measured, as the manifest has it

    def __call__(self, scores: Array, level: str) -> Array:
        """The probability that something comes of each candidate of a request that stands on `level`: float `[n]` -> float64 `[n]`, in (0, 1).

        That is a gain above 0 within the window that the ranker was validated on, of somebody who chooses anything in it.
        """
        log_odds = self.levels.get(level, self.whole)(np.asarray(scores, np.float64))
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700, 700))))

    def write(self, folder: Path, model: Path) -> None:
        """Write `calibration.json` into `folder` as that of `model`. The caller provides atomicity."""
        values = {
            "format_version": FORMAT_VERSION,
            "model_sha256": sha256(model),
            "method": self.method,
            "about": dict(self.about),
            "whole": _as_json(self.whole),
            "levels": {level: _as_json(curve) for level, curve in sorted(self.levels.items())},
        }
        (folder / FILE).write_text(json.dumps(values, indent=1) + "\n")

    @classmethod
    def open(cls, folder: Path, model: Path) -> Self | None:
        """What `write` left in `folder`, which must be of `model`; None where there is none.

        Raises:
            ArtifactError: if the file is damaged, of another format, or another model's.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_bytes())
            version, made_for = int(values["format_version"]), str(values["model_sha256"])
        except (ValueError, TypeError, KeyError) as e:
            raise ArtifactError(f"{path}: truncated or not a calibration ({e!r})") from None
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{path}: calibration format {version}, this Aisle reads {FORMAT_VERSION}; rebuild it with `./aisle train-ranker`"
            )
        if (found := sha256(model)) != made_for:
            raise ArtifactError(
                f"{path}: made for a model of sha256 {made_for[:12]}, {model.name} beside it has {found[:12]}: "
                "parts of different releases never meet"
            )
        try:
            levels = {str(level): _curve(curve) for level, curve in values["levels"].items()}
            return cls(str(values["method"]), _curve(values["whole"]), levels, dict(values["about"]))
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise ArtifactError(f"{path}: truncated or not a calibration ({e!r})") from None
        except ArtifactError as e:
            raise ArtifactError(f"{path}: {e}") from None


def _as_json(curve: Curve) -> dict[str, Any]:
    return {"scores": curve.scores.tolist(), "log_odds": curve.log_odds.tolist(), "beyond": float(curve.beyond)}


def _curve(values: Mapping[str, Any]) -> Curve:
    scores, log_odds = (np.asarray(values[name], np.float64) for name in ("scores", "log_odds"))
    return Curve(scores, log_odds, float(values["beyond"]))
