"""`experiment simulate`: what bandits lose by learning, and how soon they follow a change, where the truth is known, and what it brings to know who asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.output import console, finish, step

_KINDS: Final = 3


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("simulate")(simulate_)


def simulate_(
    rates: Annotated[str, typer.Option(help="success rates of the arms")] = ".04,.05,.045,.06",
    later: Annotated[str, typer.Option(help="of the second scenario, from its half on")] = ".06,.05,.045,.04",
    sessions: Annotated[int, typer.Option(min=10_000, help="of each shop")] = 200_000,
    round_size: Annotated[int, typer.Option("--round", min=1, help="sessions between two versions of shares")] = 100,
    seeds: Annotated[int, typer.Option(min=2, help="shops")] = 50,
    half_life: Annotated[int, typer.Option(min=1, help="sessions until what was seen counts half")] = 20_000,
    kinds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="kinds of shoppers, each of which likes another arm best; 1: nobody is told apart",
            show_default="3, or as many as there are arms",
        ),
    ] = None,
    delay: Annotated[int, typer.Option(min=0, help="rounds until successes are known")] = 1,
    seed: Annotated[int, typer.Option(help="another seed is other chance")] = 1,
    out: Annotated[Path | None, typer.Option(help="also write the curves as an HTML page")] = None,
) -> None:
    """Regret of every policy and of a fixed split: with the floor, without it, and after the best arm changes; and where kinds of shoppers differ."""
    import time

    from experiments import simulate_contexts
    from experiments.simulate import Curves, Shop, lai_robbins, learners, run, summary
    from experiments.simulate_contexts import KindsShop

    began = time.monotonic()
    before, after = _rates("--rates", rates), _rates("--later", later)
    if len(before) != len(after):
        from core.errors import InputError

        raise InputError(f"--later {later}: {len(after)} arms, but --rates has {len(before)}")
    kinds = min(_KINDS, len(before)) if kinds is None else kinds
    if kinds > len(before):
        from core.errors import InputError

        raise InputError(f"--kinds {kinds}: each likes another arm best, and there are {len(before)} arms")
    rounds = max(sessions // round_size, 4)
    steady = Shop(before, before, rounds, round_size, delay)
    scenarios: dict[str, tuple[Shop, bool]] = {
        "as served": (steady, True),
        "without the floor": (steady, False),
        "the best arm changes": (Shop(before, after, rounds, round_size, delay), True),
    }
    result: dict[str, Any] = {"sessions": rounds * round_size, "seeds": seeds, "seed": seed, "rates": before}
    result |= {"later": after, "lai_robbins": lai_robbins(before), "half_life": half_life}
    drawn: dict[str, dict[str, Curves]] = {}
    for scenario, (shop, floor) in scenarios.items():
        drawn[scenario] = {
            name: run(shop, learner, seeds, seed)
            for name, learner in learners(len(before), half_life / round_size, floor).items()
        }
        _say(result, scenario, summary(shop, drawn[scenario]), began)
    for scenario, (shop, floor) in scenarios.items() if kinds > 1 else ():
        several = KindsShop(shop.rates, shop.later, rounds, round_size, delay, kinds)
        name_of_all = f"{kinds} kinds of shoppers, {scenario}"
        drawn[name_of_all] = {
            name: simulate_contexts.run(several, told, seeds, seed)
            for name, told in simulate_contexts.learners(len(before), half_life / round_size, floor).items()
        }
        _say(result, name_of_all, summary(several, drawn[name_of_all]), began)
    if out is not None:
        from core.atomic import write_bytes
        from pipeline.regret_page import page

        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, page(drawn, round_size, seeds).encode())
        step(f"the page: {out}")
    finish(result | {"seconds": round(time.monotonic() - began, 1)})


def _say(result: dict[str, Any], scenario: str, found: dict[str, dict[str, float]], began: float) -> None:
    import time

    result[scenario] = found
    show(scenario, found)
    step(f"{scenario}: {time.monotonic() - began:.0f} s")


def _rates(option: str, text: str) -> tuple[float, ...]:
    from core.errors import InputError

    try:
        read = tuple(float(part) for part in text.split(","))
    except ValueError:
        read = ()
    if len(read) < 2 or not all(0 < r < 0.8 for r in read):
        raise InputError(f"{option} {text}: expected two rates or more between 0 and .8, such as .04,.05")
    return read


def show(scenario: str, summary: dict[str, dict[str, float]]) -> None:
    """The table for people."""
    from rich.table import Table

    from experiments.simulate import GROWTHS

    table = Table(title=f"{scenario}: successes lost against always knowing the best arm", title_justify="left")
    for column in ("policy", "regret", "grows as", "exponent", "recovered after"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, figures in sorted(summary.items(), key=lambda entry: entry[1]["regret"]):
        cells = [name, f"{figures['regret']:,.0f} ± {figures['se']:,.0f}"]
        if "recovery" in figures:
            back = figures["recovery"]
            cells += ["", "", "never" if back == float("inf") else f"{back:,.0f} sessions"]
        else:
            cells += [min(GROWTHS, key=lambda g: figures[g]), f"{figures['exponent']:.2f}", ""]
        table.add_row(*cells)
    console.print(table)
