"""Regret curves of `experiment simulate` as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from experiments.simulate import Curves
from pipeline.experiment_charts import lines
from pipeline.experiment_page import STYLE

_POINTS = 200


def page(scenarios: Mapping[str, Mapping[str, Curves]], sessions: int, seeds: int) -> str:
    """The mean over seeds of each learner's regret, by scenario; `sessions` of a round."""
    parts = ["<h1>What bandits lose by learning</h1>"]
    parts.append(
        f'<p class="quiet">Successes lost against always knowing the best arm, mean of {seeds} shops, by sessions so far.</p>'
    )
    for scenario, curves in scenarios.items():
        some = next(iter(curves.values())).regret
        kept = np.unique(np.linspace(0, some.shape[1] - 1, _POINTS).astype(int))
        drawn = {name: c.regret[:, kept].mean(axis=0) for name, c in curves.items()}
        parts.append(f"<h2>{escape(scenario)}</h2>{lines((kept + 1.0) * sessions, drawn, scenario)}")
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Regret</title><style>{STYLE}</style></head><body>{body}</body></html>\n'
