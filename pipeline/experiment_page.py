"""The report of an experiment as one self-contained HTML page: no script, nothing from elsewhere, light, dark and on paper."""

from __future__ import annotations

import datetime as dt
from html import escape
from typing import Final

from experiments.analysis import Curve, Result
from pipeline.experiment_charts import allocation, interval
from pipeline.experiment_words import About, between, meaning, percent, value_of, verdict

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1a1c1f;--quiet:#5c636b;--paper:#fff;--rule:#d9dde2;--band:#c9dcf5;
--good:#1a7f37;--bad:#b3261e;--open:#8a6100;--c0:#6b7280;--c1:#1f5fbf;--c2:#b45309;--c3:#7c3aed;--c4:#0f766e;--c5:#be185d}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--quiet:#9aa3ad;--paper:#14171a;--rule:#333a42;--band:#23406b;
--good:#4cc26b;--bad:#ff7b72;--open:#e0b050;
--c0:#9ca3af;--c1:#7db0ff;--c2:#f0a35e;--c3:#b79bff;--c4:#4fd1c5;--c5:#f472b6}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:46rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid var(--rule)}
.quiet{color:var(--quiet)}.verdict{border-left:.4rem solid var(--open);padding:.6rem 1rem;margin:1.2rem 0}
.verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
.verdict p{margin:.3rem 0}.verdict p:first-child{font-size:1.15rem;font-weight:600}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.93rem}
th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{width:100%;height:auto;display:block;margin:.6rem 0}
.band{fill:var(--band)}.zero{stroke:var(--quiet)}.margin{stroke:var(--bad);stroke-dasharray:5 4}
.line{fill:none;stroke-width:2}.tick{fill:var(--quiet);font-size:11px}.dot{fill:var(--c1)}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.fill0{fill:var(--c0)}.fill1{fill:var(--c1)}.fill2{fill:var(--c2)}.fill3{fill:var(--c3)}.fill4{fill:var(--c4)}.fill5{fill:var(--c5)}
.key{margin-right:1rem}.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.3rem}
.back0{background:var(--c0)}.back1{background:var(--c1)}.back2{background:var(--c2)}.back3{background:var(--c3)}.back4{background:var(--c4)}.back5{background:var(--c5)}
@media print{:root{--ink:#000;--paper:#fff}body{max-width:none;margin:0;font-size:11pt}svg,table,.verdict{break-inside:avoid}*{print-color-adjust:exact}}
"""


def page(about: About, result: Result) -> str:
    """The whole page."""
    said = verdict(about, result)
    primary = [c for c in result.curves if c.role == "primary"]
    second = [c for c in result.curves if c.role == "secondary"]
    guards = [c for c in result.curves if c.role == "guardrail"]
    parts = [
        f"<h1>{escape(about.name)}</h1>",
        f'<p class="quiet">{escape(about.hypothesis)}<br>Owner: {escape(about.owner or "not named")} · {_day(about.start)} to {_day(about.end)} · '
        f"as of {_moment(int(result.looks[-1]))}</p>",
        f'<div class="verdict {said.tone}"><p>{escape(said.headline)}</p><p>What happens next: {escape(said.next)}</p></div>',
        "<h2>What was to be improved</h2>",
        _metrics(about, primary),
        *(_chart(about, result, c) for c in primary),
    ]
    if second:
        parts += ["<h2>What else changed</h2>", _metrics(about, second), *(_chart(about, result, c) for c in second)]
    if guards:
        parts += [
            "<h2>What must not be harmed</h2>",
            _guardrails(about, guards),
            *(_chart(about, result, c) for c in guards),
        ]
    parts += ["<h2>Who saw what</h2>", _people(about, result)]
    if result.segments:
        parts += ["<h2>Groups of people</h2>", _segments(result)]
    parts += ["<h2>How to read this</h2>", _help(result)]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(about.name)}: experiment report</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _table(head: list[str], rows: list[list[str]], numbers: frozenset[int]) -> str:
    def cells(row: list[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=n' if i in numbers else ''}>{escape(c)}</{tag}>" for i, c in enumerate(row))

    lines = "".join(f"<tr>{cells(r, 'td')}</tr>" for r in rows)
    return f'<div class="wide"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>{lines}</tbody></table></div>'


def _metrics(about: About, curves: list[Curve]) -> str:
    rows = [
        [
            about.says.get(c.metric, c.metric),
            c.arm,
            value_of(c.metric in about.rates, c.control),
            value_of(c.metric in about.rates, c.value),
            percent(float(c.lift[-1])),
            between(float(c.low[-1]), float(c.high[-1])),
            meaning(c),
        ]
        for c in curves
    ]
    return _table(["", "arm", "control has", "arm has", "change", "certain to lie", "so"], rows, frozenset({2, 3, 4}))


def _guardrails(about: About, curves: list[Curve]) -> str:
    rows = [
        [
            about.says.get(c.metric, c.metric),
            c.arm,
            f"a loss of {c.margin:.1%}".replace("%", "\xa0%"),
            percent(float(c.lift[-1])),
            between(float(c.low[-1]), float(c.high[-1])),
            meaning(c),
        ]
        for c in curves
    ]
    return _table(["", "arm", "allowed", "change", "certain to lie", "so"], rows, frozenset({3}))


def _chart(about: About, result: Result, curve: Curve) -> str:
    label = f"{about.says.get(curve.metric, curve.metric)}, arm {curve.arm} against the control, over time"
    return f'<p class="quiet">{escape(label)}</p>' + interval(
        result.looks, curve.lift, curve.low, curve.high, label, -curve.margin
    )


def _people(about: About, result: Result) -> str:
    total = result.units[-1]
    rows = [
        [arm, f"{int(n):,}", f"{int(c):,}", f"{n / max(int(total.sum()), 1):.1%}"]
        for arm, n, c in zip(about.arms, total, result.counted, strict=True)
    ]
    text = _table(["arm", "exposed", "counted", "share"], rows, frozenset({1, 2, 3}))
    if result.ratio_p is None:
        text += "<p>A bandit moves the shares by itself, towards the arm that does better; every figure here is corrected for that.</p>"
    elif result.sound:
        text += "<p>The arms have about the number of people that they should: the split can be believed.</p>"
    else:
        text += (
            f"<p><strong>The arms do not have the number of people that they should (p = {result.ratio_p:.1g}): "
            "something loses people.</strong></p>"
        )
    if about.mixed:
        text += f"<p>{about.mixed:,} people met more than one arm and are left out.</p>"
    label = "share of newly exposed people by arm, day by day"
    return text + f'<p class="quiet">{label}</p>' + allocation(result.looks, result.units, about.arms, label)


def _segments(result: Result) -> str:
    rows = [
        [s.name, s.value or "none", s.arm, f"{s.units:,}", percent(s.lift), between(s.low, s.high)]
        for s in result.segments
    ]
    return (
        "<p>For looking only: with many groups one of them always seems to differ, so the intervals are wider and no decision rests on them.</p>"
        + _table(["", "group", "arm", "people", "change", "certain to lie"], rows, frozenset({3, 4}))
    )


def _help(result: Result) -> str:
    confidence = next((c.confidence for c in result.curves), 0.95)
    when = (
        f"holds the true change in {confidence:.1%} of experiments that are looked at once, at the end that was settled before the start. "
        "Do not look earlier, nor again. "
        if result.fixed
        else f"holds the true change, at every moment of the experiment at once, in {confidence:.1%} of experiments or more. So you may look every "
        "day, and stop on any day, without being fooled. The shaded band is that interval over time; it narrows as people are counted. "
    )
    return (
        f"<p>“Certain to lie” is an interval that {when}If it does not contain 0, there is a difference. A person counts once, when their time to act is "
        "over; people who came lately are “exposed” but not yet “counted”. “Change” compares with the control in per cent of it, after taking away "
        "what people did before the experiment.</p>"
    )


def _day(microseconds: int) -> str:
    return dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.UTC).strftime("%Y-%m-%d")


def _moment(microseconds: int) -> str:
    return dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
