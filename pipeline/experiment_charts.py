"""Small SVG charts for the report: drawn by hand, so that the page needs no script and nothing from elsewhere."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from core.columns import Array

_W, _H = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 28
_COLORS: Final = 6  # classes c0 to c5 of the style sheet


def interval(looks: Array, lift: Array, low: Array, high: Array, label: str, margin: float = 0.0) -> str:
    """A lift over time within its confidence sequence; a dashed line at the margin of a guardrail (below 0)."""
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return '<p class="quiet">Too few people so far: nothing to draw.</p>'
    x, lift, low, high = looks[known].astype(float), lift[known], low[known], high[known]
    # Early intervals may be huge; the last one sets the scale.
    most = max(float(np.max(np.abs([low[-1], high[-1]]))) * 2.5, abs(margin) * 1.5, 1e-6)
    frame = _Frame(float(x[0]), float(x[-1]), -most, most)
    band = [frame.at(a, b) for a, b in zip(x, high, strict=True)]
    band += [frame.at(a, b) for a, b in zip(x[::-1], low[::-1], strict=True)]
    line = [frame.at(a, b) for a, b in zip(x, lift, strict=True)]
    parts = [
        f'<polygon class="band" points="{_points(band)}"/>',
        f'<line class="zero" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{frame.y(0):.1f}" y2="{frame.y(0):.1f}"/>',
        f'<polyline class="line c1" points="{_points(line)}"/>',
    ]
    if len(line) == 1:
        parts.append(f'<circle class="dot" cx="{line[0][0]:.1f}" cy="{line[0][1]:.1f}" r="3"/>')
    if margin:
        y = frame.y(margin)
        parts.append(f'<line class="margin" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return _svg(
        parts + frame.axes([-most, -most / 2, 0, most / 2, most], lambda v: f"{v:+.1%}".replace("-", "−")), label
    )


def allocation(looks: Array, units: Array, arms: Sequence[str], label: str) -> str:
    """Which share of the new units each arm got, day by day: `units` int64 `[looks, arms]` are totals."""
    new = np.diff(units, axis=0, prepend=np.zeros((1, units.shape[1]), units.dtype))
    kept = new.sum(axis=1) > 0
    if not kept.any():
        return '<p class="quiet">Nobody has been exposed yet.</p>'
    share = new[kept] / new[kept].sum(axis=1, keepdims=True)
    x = looks[kept].astype(float)
    frame = _Frame(float(x[0]), float(x[-1]), 0.0, 1.0)
    parts = []
    for a, _ in enumerate(arms):
        line = [frame.at(t, s) for t, s in zip(x, share[:, a], strict=True)]
        parts.append(f'<polyline class="line c{a % _COLORS}" points="{_points(line)}"/>')
        parts += [f'<circle class="fill{a % _COLORS}" cx="{u:.1f}" cy="{v:.1f}" r="2.5"/>' for u, v in line]
    legend = " ".join(
        f'<span class="key"><i class="back{a % _COLORS}"></i>{escape(arm)}</span>' for a, arm in enumerate(arms)
    )
    return _svg(parts + frame.axes([0, 0.25, 0.5, 0.75, 1], lambda v: f"{v:.0%}"), label) + f"<p>{legend}</p>"


def lines(x: Array, curves: Mapping[str, Array], label: str) -> str:
    """Curves from 0 over a number that is no time: float64 `[n]` each; those after the first six are dashed."""
    most = max(float(y.max()) for y in curves.values())
    frame = _Frame(0.0, float(x[-1]), 0.0, most or 1.0)
    parts, legend = [], []
    for n, (name, y) in enumerate(curves.items()):
        dashes = ' stroke-dasharray="6 3"' if n >= _COLORS else ""
        line = [frame.at(u, v) for u, v in zip(x.tolist(), y.tolist(), strict=True)]
        parts.append(f'<polyline class="line c{n % _COLORS}"{dashes} points="{_points(line)}"/>')
        dashed = " (dashed)" if dashes else ""
        legend.append(f'<span class="key"><i class="back{n % _COLORS}"></i>{escape(name)}{dashed}</span>')
    ticks = frame.labels([0, most / 4, most / 2, 3 * most / 4, most], lambda v: f"{v:,.0f}")
    ticks.append(f'<text class="tick" x="{_W - _RIGHT}" y="{_H - 8}" text-anchor="end">{x[-1]:,.0f}</text>')
    return _svg(parts + ticks, label) + f"<p>{' '.join(legend)}</p>"


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self.left, self.right, self.bottom, self.top = left, max(right, left + 1), bottom, top

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (self.right - self.left) * (_W - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        inside = min(max(value, self.bottom), self.top)
        return _TOP + (self.top - inside) / (self.top - self.bottom) * (_H - _TOP - _BOTTOM)

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.x(x), self.y(y)

    def labels(self, values: Sequence[float], text: Callable[[float], str]) -> list[str]:
        """Values at the left."""
        return [
            f'<text class="tick" x="{_LEFT - 6}" y="{self.y(v) + 4:.1f}" text-anchor="end">{escape(text(v))}</text>'
            for v in values
        ]

    def axes(self, values: Sequence[float], text: Callable[[float], str]) -> list[str]:
        """Labels: the values at the left, the first and last day below."""
        made = self.labels(values, text)
        for at, anchor in ((self.left, "start"), (self.right, "end")):
            made.append(
                f'<text class="tick" x="{self.x(at):.1f}" y="{_H - 8}" text-anchor="{anchor}">{_day(at)}</text>'
            )
        return made


def _day(microseconds: float) -> str:
    return dt.datetime.fromtimestamp(math.floor(microseconds / 1e6), dt.UTC).strftime("%Y-%m-%d")


def _points(line: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in line)


def _svg(parts: Sequence[str], label: str) -> str:
    inner = "".join(parts)
    return f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{escape(label, quote=True)}">{inner}</svg>'
