"""Small charts as SVG and HTML text: one palette for the colour-blind, in light, in dark and on paper.

Colours come from the classes of the page (`evaluation/templates/report.css`), so that one markup serves every scheme; they are those of Okabe & Ito
(Color Universal Design, 2008). No colour stands alone: every series has another mark, or a label beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 380, 230  # of a plot, in the units of its viewBox: about pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 16, 40


@dataclass(frozen=True)
class Axis:
    """A straight scale from values to places, with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], most: int = 5) -> Axis:
        """Round bounds around the values, with at most about `most` ticks."""
        low, high = min(values), max(values)
        if high - low <= 1e-9 * max(abs(low), abs(high)):  # no span to speak of
            low, high = low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1)
        step = _round_step((high - low) / most)
        first, last = floor(low / step + 1e-9), -floor(-high / step + 1e-9)
        return cls(first * step, last * step, tuple(t * step for t in range(first, last + 1)))

    def share(self, value: float) -> float:
        """Where a value lies between low, 0, and high, 1."""
        return (value - self.low) / (self.high - self.low)


def _round_step(least: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** floor(log10(least))
    return next((f * power for f in (1, 2, 2.5, 5) if f * power >= least * (1 - 1e-9)), 10 * power)


def number(value: float | None, digits: int = 4) -> str:
    """A figure for people: without a leading zero, as papers print shares; - where there is none."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return (
        text.replace("-0.", "−.", 1)
        if text.startswith("-0.")
        else text.removeprefix("0")
        if text.startswith("0.")
        else text
    )


def signed(value: float | None, digits: int = 4) -> str:
    """The same with its sign."""
    return "–" if value is None else ("+" if value >= 0 else "") + number(value, digits)


def whiskers(
    rows: Sequence[Mapping[str, float]], zero: bool = False, enough: Sequence[bool] | None = None
) -> list[str]:
    """One strip for each interval (`mean`, `low`, `high`), all on one scale, to stand in a table's cells.

    Args:
        rows: The intervals.
        zero: They are differences: 0 is on the scale and drawn, and who is sure to be above or below it is coloured and shaped.
        enough: Whether a row has enough behind it for its interval to be sure of anything: the bootstrap of one person is a point. None: all have.
    """
    values = [v for row in rows for v in (row["low"], row["high"])] + ([0.0] if zero else [])
    axis = Axis.over(values) if values else Axis(0, 1, ())
    return [_strip(row, axis, zero, sure) for row, sure in zip(rows, enough or [True] * len(rows), strict=True)]


def _strip(row: Mapping[str, float], axis: Axis, zero: bool, enough: bool) -> str:
    low, mean, high = (100 * axis.share(row[n]) for n in ("low", "mean", "high"))
    kind = (
        "sure up"
        if zero and enough and row["low"] > 0
        else "sure down"
        if zero and enough and row["high"] < 0
        else "open"
        if zero
        else "plain"
    )
    line = f'<i class="zero" style="left:{100 * axis.share(0.0):.2f}%"></i>' if zero else ""
    said = f"{number(row['mean'])}, from {number(row['low'])} to {number(row['high'])}"
    return (
        f'<span class="strip {kind}" role="img" aria-label="{said}">{line}'
        f'<i class="span" style="left:{low:.2f}%;width:{max(0.4, high - low):.2f}%"></i>'
        f'<i class="dot" style="left:{mean:.2f}%"></i></span>'
    )


def stack(parts: Sequence[tuple[str, float]]) -> str:
    """One bar of shares that add up to 1, each with a class c0, c1, ... and its share written in it where there is room."""
    cells = "".join(
        f'<i class="c{n} fill" style="width:{100 * share:.3f}%" title="{escape(label)} {100 * share:.1f}%">'
        f"{f'{100 * share:.0f}%' if share >= 0.06 else ''}</i>"
        for n, (label, share) in enumerate(parts)
        if share > 0
    )
    return f'<div class="stack" role="img" aria-label="{escape(_said(parts))}">{cells}</div>'


def _said(parts: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{label} {100 * share:.1f}%" for label, share in parts)


def bar(share: float, most: float, kind: str = "c0") -> str:
    """A bar for a table's cell, as long as `share` is of `most`."""
    return f'<span class="bar"><i class="{kind} fill" style="width:{100 * share / most if most > 0 else 0:.2f}%"></i></span>'


@dataclass(frozen=True)
class Point:
    """A point of a plot, with the interval of y around it where there is one, and words beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    hollow: bool = False


def plot(
    points: Sequence[Point], x: str, y: str, *, diagonal: bool = False, digits: int = 2, origin: bool = False
) -> str:
    """A line through points in their order.

    Args:
        points: At least one.
        x: What the horizontal axis is, with its unit.
        y: What the vertical axis is.
        diagonal: Draw where y equals x.
        digits: Of the ticks of y.
        origin: x begins at 0.
    """
    xs = Axis.over([p.x for p in points] + ([0.0] if origin else []), 4)
    ys = Axis.over([v for p in points for v in (p.y, p.low, p.high) if v is not None])
    if diagonal:
        xs = ys = Axis.over([v for p in points for v in (p.x, p.y)] + [0.0], 4)

    def at(px: float, py: float) -> tuple[float, float]:
        return _LEFT + xs.share(px) * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - ys.share(py) * (
            HEIGHT - _TOP - _BOTTOM
        )

    drawn = [*_grid(xs, ys, digits)]
    if diagonal:
        drawn.append(_line("reference", at(xs.low, xs.low), at(xs.high, xs.high)))
    drawn += [
        _line("whisker", at(p.x, p.low), at(p.x, p.high)) for p in points if p.low is not None and p.high is not None
    ]
    drawn.append(
        f'<polyline class="series" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in (at(p.x, p.y) for p in points))}"/>'
    )
    for i, p in enumerate(points):
        a, b = at(p.x, p.y)
        drawn.append(f'<circle class="{"hollow" if p.hollow else "mark"}" cx="{a:.1f}" cy="{b:.1f}" r="4.5"/>')
        if p.label:
            end, shift = ("end", -8) if a > WIDTH * 0.7 else ("start", 8)
            drawn.append(
                f'<text class="said" x="{a + shift:.1f}" y="{b + (16, -9)[i % 2]:.1f}" text-anchor="{end}">{escape(p.label)}</text>'
            )
    drawn.append(
        f'<text class="axis" x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x)}</text>'
    )
    said = f"{y} by {x}: " + "; ".join(f"{p.x:g}: {p.y:g}" for p in points)
    body = "".join(drawn)
    return (
        f'<figure class="plot"><figcaption>{escape(y)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{body}</svg></figure>'
    )


def _grid(xs: Axis, ys: Axis, digits: int) -> list[str]:
    drawn = []
    for tick in ys.ticks:
        place = HEIGHT - _BOTTOM - ys.share(tick) * (HEIGHT - _TOP - _BOTTOM)
        drawn.append(_line("grid", (_LEFT, place), (WIDTH - _RIGHT, place)))
        drawn.append(f'<text x="{_LEFT - 7}" y="{place + 4:.1f}" text-anchor="end">{number(tick, digits)}</text>')
    for tick in xs.ticks:
        place = _LEFT + xs.share(tick) * (WIDTH - _LEFT - _RIGHT)
        drawn.append(f'<text x="{place:.1f}" y="{HEIGHT - _BOTTOM + 17}" text-anchor="middle">{tick:g}</text>')
    return drawn


def _line(kind: str, a: tuple[float, float], b: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
