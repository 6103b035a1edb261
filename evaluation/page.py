"""The result of `evaluate` as one HTML page that fetches nothing: figures, charts and the words that say how to read them."""

# bazel: data=[//evaluation/templates:all_files]

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.config import EvaluationConfig
from evaluation.charts import Point, bar, number, plot, signed, stack, whiskers
from evaluation.funnel import Place

_TEMPLATES: Final = Path(__file__).parent / "templates"
_SECTIONS: Final = (
    ("systems", "baselines"),
    ("funnel", "where items ended"),
    ("sources", "sources and features"),
    ("cost", "candidates and cost"),
    ("segments", "segments"),
    ("variety", "catalogue"),
    ("calibration", "probabilities"),
    ("people", "people"),
    ("misses", "misses"),
)
_OF_STUDY: Final = ("sources", "cost", "segments", "variety", "people", "misses")
_FEW: Final = 20  # people: what fewer did is shown, and called sure of nothing
_PLACES: Final = {
    Place.TOP_10: "on the page of ten",
    Place.TOP_100: "ranked 11 to 100",
    Place.TOP_500: "ranked 101 to 500",
    Place.BELOW_500: "ranked lower",
    Place.FILTERED: "removed by a filter",
    Place.OUTSIDE_UNION: "no room among candidates",
    Place.NOT_RETRIEVED: "no source proposed it",
}
_SEGMENTS: Final = {
    "history_length": "People by choices known before",
    "item_popularity_decile": "Items by popularity decile (10: the most popular)",
    "item_age": "Items by age",
    "category": "Items by category",
    "country": "People by country",
    "level": "People by rung of the fallback ladder",
}


def page(protocols: Mapping[str, Mapping[str, Any]], about: Mapping[str, str], config: EvaluationConfig) -> str:
    """The page.

    Args:
        protocols: By name, what `evaluation.report.summary` says, with `study` (evaluation.study, pipeline/study.py) where there is one.
        about: Of each, what was judged on what: a sentence or two.
        config: That of the figures: it says how sure the intervals are.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    shown = {
        name: {"study": None, "funnel": None, "calibration": None, "levels": None, **p} for name, p in protocols.items()
    }
    studied = any(p["study"] for p in shown.values())
    absent = {key for key in ("funnel", "calibration") if not any(p[key] for p in shown.values())}
    return environment.get_template("report.html.j2").render(
        protocols=shown,
        about=about,
        css=(_TEMPLATES / "report.css").read_text(),
        confidence=f"{100 * config.confidence:g} %",
        sections=[s for s in _SECTIONS if s[0] not in absent and (studied or s[0] not in _OF_STUDY)],
        place_names={str(place): words for place, words in _PLACES.items()},
        segment_names=_SEGMENTS,
        **_HELPERS,
    )


def percent(share: float | None) -> str:
    """A share for people; - where there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _before_name(study: Mapping[str, Any]) -> str:
    return "champion" if study["before"]["what"] == "champion" else "unlearned blend"


def _systems(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    rivals = sorted(figures["baselines"].items(), key=lambda s: (-(s[1]["ndcg@10"] or 0.0), s[0]))
    rows = [("aisle", figures), *rivals]
    spans = [
        {"mean": v["ndcg@10"], **dict(zip(("low", "high"), v["intervals"]["ndcg@10"], strict=True))} for _, v in rows
    ]
    return [
        {"name": name, "us": name == "aisle", "of": v, "strip": strip, "difference": v.get("ndcg@10_difference")}
        for (name, v), strip in zip(rows, whiskers(spans), strict=True)
    ]


def _lost(parts: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows by falling loss of the last key, with strips of the losses: a loss is what the part brings, so above 0 is good."""
    rows = sorted(parts.items(), key=lambda part: [-part[1][key]["mean"] for key in reversed(keys)])
    strips = [whiskers([v[key] for _, v in rows], zero=True) for key in keys]
    return [{"name": name, "of": v, "strips": [s[i] for s in strips]} for i, (name, v) in enumerate(rows)]


def _segment_rows(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    enough = [v["queries"] >= _FEW for v in parts.values()]
    strips = [
        whiskers([v["ndcg@10"] for v in parts.values()]),
        whiskers([v["ndcg@10_difference"] for v in parts.values()], zero=True, enough=enough),
    ]
    return [
        {"name": name, "of": v, "few": not enough[i], "strips": [s[i] for s in strips]}
        for i, (name, v) in enumerate(parts.items())
    ]


def _variety_rows(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    whole, pages = study["variety"]["catalogue"], study["variety"]["pages"]
    words = {"coverage": "coverage of the catalogue", "gini": "concentration (Gini)"}
    rows = [
        {"name": words[n], "now": whole["now"][n], "before": whole["before"][n], "difference": None, "strip": ""}
        for n in words
    ]
    for name, v in pages.items():
        strip = whiskers([v["difference"]], zero=True)[0]
        named = name.replace("_", " ")
        rows.append(
            {"name": named, "now": v["now"]["mean"], "before": v["before"]["mean"], "difference": v["difference"]}
            | {"strip": strip}
        )
    return rows


def _cost_plots(study: Mapping[str, Any]) -> str:
    costs = study["costs"]

    def points(x: str, y: str) -> list[Point]:
        return [
            Point(
                c["cpu_ms"]["median"] if x == "cpu_ms" else c[x],
                c[y]["mean"],
                c[y]["low"],
                c[y]["high"],
                f"×{c['factor']:g}",
                hollow=c["factor"] == 1,
            )
            for c in costs
        ]

    return plot(points("candidates", "recall"), "candidates", "recall among the candidates", origin=True) + plot(
        points("cpu_ms", "ndcg@10"), "CPU of the request path, ms", "NDCG@10", digits=3
    )


def _calibration_plot(figures: Mapping[str, Any]) -> str:
    points = [Point(b["probability"], b["gained"]) for b in figures["calibration"]["curve"]]
    return plot(points, "stated probability", "share that gained", diagonal=True)


_HELPERS: Final = {
    "few": _FEW,
    "number": number,
    "signed": signed,
    "percent": percent,
    "stack": stack,
    "bar": bar,
    "before_name": _before_name,
    "systems": _systems,
    "lost": _lost,
    "segment_rows": _segment_rows,
    "variety_rows": _variety_rows,
    "cost_plots": _cost_plots,
    "calibration_plot": _calibration_plot,
    "factors": lambda study: ", ".join(f"{c['factor']:g}" for c in study["costs"]),
    "retrieved": lambda p: 1 - (p["funnel"]["places"]["not_retrieved"]["share"] or 0.0),
    "funnel_places": lambda p: [(str(n), p["funnel"]["places"][n]) for n in _PLACES],
    "funnel_parts": lambda p: [(words, p["funnel"]["places"][n]["share"] or 0.0) for n, words in _PLACES.items()],
    "place_parts": lambda study, counts: [
        (_PLACES[Place(n)], c / sum(counts)) for n, c in zip(study["places"], counts, strict=True)
    ],
    "most_shown": lambda groups: max(max(v["shown"]["mean"], v["wanted"]) for v in groups.values()),
}
"""What the template may call."""
