"""`bench train`: how much sooner the towers reach the best recall of the TFRS tutorial's loop (design 9).

    ./aisle bench train [--work WORK] [--repeats 3]

The tutorial (tensorflow.org/recommenders/examples/basic_retrieval): embeddings of user and item ids, in-batch softmax, Adagrad, `model.fit`, metrics
off. It runs at several batch sizes and rates (`TUTORIALS`, or `--tutorial`), each until an epoch brings no better recall@100; the best recall of
them all is the mark, and the time is that of the variant which set it. Ours is the search of the production fit at default settings, until its
validation recall first reaches the mark. Both learn from the same events (fold `train` without its newest 5 %), are asked for the same people's
newest choices by the same exact search, eight times an epoch, and run alone, one after the other, each in a process of its own whose start, imports
and tracing count; looking does not. Of several repeats the median of the ratios is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.tree import aisle, run
from core.errors import AisleError

TUTORIALS: Final = ((8192, 0.1), (4096, 0.1))  # (batch, Adagrad's rate); the first is the tutorial's own
_SHOP: Final = ("--events", 1_500_000, "--items", 10_000, "--users", 30_000, "--days", 180, "--impressions", 0)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Look:
    """One line of benchmarks.train_runs."""

    seconds: float
    cpu_seconds: float
    epoch: float
    recall: float


Looks = Sequence[Look]


def bench(
    work: Path | None, seed: int, repeats: int, tutorials: Sequence[tuple[int, float]], say: Say
) -> dict[str, Any]:
    """Both, `repeats` times, on the prepared data of `work`; without it on a simulated shop made for this."""
    with _prepared(work, seed, say) as folder:
        rounds = [_round(folder, tutorials, turn, say) for turn in range(repeats)]
    speedups = [r["speedup"] for r in rounds]
    middle = rounds[speedups.index(sorted(speedups)[(repeats - 1) // 2])]
    return middle | {"speedup": round(median(speedups), 2), "repeats": speedups}


def _round(work: Path, tutorials: Sequence[tuple[int, float]], turn: int, say: Say) -> dict[str, Any]:
    """One comparison; every second one begins with ours."""
    names = [None, *tutorials] if turn % 2 else [*tutorials, None]
    runs = {name: looks_of(work, name, say) for name in names}
    mine = runs.pop(None)
    return compared(mine, {f"batch {b}, rate {r:g}": runs[b, r] for b, r in tutorials})


def compared(mine: Looks, tutorials: dict[str, Looks]) -> dict[str, Any]:
    """The figures of one round. A mark that ours never reaches is a speedup of 0."""
    best = {name: best_look(looks) for name, looks in tutorials.items()}
    winner = max(best, key=lambda name: best[name].recall)
    mark, reached = best[winner], first_at(mine, best[winner].recall)
    each = {
        name: {
            "recall@100": look.recall,
            "epoch": look.epoch,
            "seconds": look.seconds,
            "cpu_seconds": look.cpu_seconds,
            **_speedups(look, first_at(mine, look.recall)),
        }
        for name, look in best.items()
    }
    return {
        "seconds_to_baseline_recall": reached and reached.seconds,
        "baseline_seconds": mark.seconds,
        "speedup": each[winner]["speedup"],
        "cpu_speedup": each[winner]["cpu_speedup"],
        "recall@100": best_look(mine).recall,
        "baseline_recall@100": mark.recall,
        "baseline": winner,
        "epochs_to_baseline_recall": reached and reached.epoch,
        "tutorials": each,
    }


def best_look(looks: Looks) -> Look:
    """The first of the highest recall."""
    return max(looks, key=lambda look: (look.recall, -look.seconds))


def first_at(looks: Looks, recall: float) -> Look | None:
    """The first that reached `recall`."""
    return next((look for look in looks if look.recall >= recall), None)


def looks_of(work: Path, tutorial: tuple[int, float] | None, say: Say) -> list[Look]:
    """One run in its own process: ours, or a tutorial with (batch, rate).

    Raises:
        AisleError: It failed.
    """
    who = ["ours"] if tutorial is None else ["tutorial", "--batch", str(tutorial[0]), "--rate", str(tutorial[1])]
    command = [sys.executable, "-m", "benchmarks.train_runs", *who, "--work", str(work)]
    with tempfile.TemporaryFile("w+") as errors:
        began = ["--began", str(time.monotonic())]
        child = subprocess.run([*command, *began], stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
        if child.returncode:
            errors.seek(0)
            raise AisleError(f"{' '.join(command)}: ended with {child.returncode}: {errors.read()[-500:]}")
    looks = [Look(**json.loads(line)) for line in child.stdout.splitlines()]
    best = best_look(looks)
    say(f"{' '.join(who)}: recall@100 {best.recall:.4f} after {best.epoch:g} epochs, {best.seconds:.1f} s")
    return looks


@contextmanager
def _prepared(work: Path | None, seed: int, say: Say) -> Iterator[Path]:
    if work is not None:
        yield work
        return
    say(f"simulating and preparing a shop: {' '.join(map(str, _SHOP))} --seed {seed}")
    with tempfile.TemporaryDirectory(prefix="aisle-bench-") as folder:
        data, made = Path(folder) / "data", Path(folder) / "work"
        run(aisle("simulate", *_SHOP, "--seed", seed, "--out", data))
        run(aisle("prepare", "--data", data, "--work", made))
        yield made


def _speedups(tutorial: Look, mine: Look | None) -> dict[str, float]:
    if mine is None:
        return {"speedup": 0.0, "cpu_speedup": 0.0}
    return {
        "speedup": round(tutorial.seconds / mine.seconds, 2),
        "cpu_speedup": round(tutorial.cpu_seconds / mine.cpu_seconds, 2),
    }
