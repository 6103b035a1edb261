"""How the figures of an evaluation look in a terminal."""

from __future__ import annotations

from typing import Any

from cli.output import console


def show_figures(protocol: str, figures: dict[str, Any]) -> None:
    """The table for people, on stderr."""
    from rich.table import Table

    from evaluation.report import METRICS, table

    shown = Table(title=f"protocol {protocol}: {figures['queries']} queries, seen items {figures['seen']}")
    shown.add_column("system")
    for metric in METRICS:
        shown.add_column(metric, justify="right")
    shown.add_column("NDCG@10 gained [interval]", justify="right")
    for row in table(figures):
        gained = row["ndcg@10_difference"]
        cells = ["-" if row[m] is None else f"{row[m]:.4f}" for m in METRICS]
        shown.add_row(
            row["system"],
            *cells,
            "" if gained is None else f"{gained['mean']:+.4f} [{gained['low']:+.4f}, {gained['high']:+.4f}]",
        )
    console.print(shown)
    if "funnel" in figures:
        places = figures["funnel"]["places"]
        console.print(
            "where the right items ended: " + ", ".join(f"{p} {v['share'] or 0:.1%}" for p, v in places.items())
        )
