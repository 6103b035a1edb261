"""`tune retrieval`: settings of the towers, searched with Optuna on the validation window.

A trial fits the towers on what was known before Tv (fold `choose`) and is judged after each epoch by recall@100 of what the same people chose in
`[Tv, T2)`; nothing after T2 is read. The sampler is TPE (Bergstra et al., NeurIPS 2011), seeded; a trial whose epochs lag behind the median of the
earlier ones ends early. The first trial is the present configuration. Because the best of many trials is partly luck, the winner and the present
settings are fitted once more with another seed, and the winner is taken only if its mean is higher.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
import optuna
import yaml

from core import atomic
from core.config import PipelineConfig, TowersConfig, checked, load_pipeline, overlaid, read_yaml
from core.errors import ConfigError, InputError
from core.prepared import CHOOSE, Fold, Interactions, Prepared
from retrieval.towers import validate
from retrieval.towers.checkpoint import Progress
from retrieval.towers.noise import generator
from retrieval.towers.train import SEARCH, Fit

Say = Callable[[str], None]
Watch = Callable[[int, float], None]  # epoch from 1, its recall@100; ends the fit by raising

# What is searched. A value that the configuration has and the list lacks joins it.
CHOICES: Final[dict[str, list[Any]]] = {
    "dimensions": [32, 64, 128],
    "blocks": [0, 1, 2],
    "horizon": [None, 1, 5, 20, 50],
    "targets": [1, 2, 4, 8],
    "batch_events": [1024, 2048, 4096, 8192],
    "uniform_negatives": [256, 1024, 4096],
}
RANGES: Final[dict[str, tuple[float, float, bool]]] = {  # low, high, logarithmic
    "learning_rate": (0.0005, 0.01, True),
    "dropout": (0.0, 0.6, False),
    "id_dropout": (0.0, 0.4, False),
}
_STARTING: Final = 6  # trials at random before TPE begins, and before any trial is ended early
_CONFIRMING: Final = 0.7  # share of the time after which no trial begins: the rest is for the second seed
_QUESTIONS: Final = 5  # seed of the sample of people asked: the same in every trial


class Judged(Fit):
    """A fit whose search learns from its whole fold and is judged by the next one, over the same people whatever its seed."""

    watch: Watch | None = None
    epochs = 0

    def parts(self) -> tuple[Interactions, Interactions]:
        """What is known at the fold, and what its people did right after it."""
        fold, next_fold = self.fold, Fold(self.fold.protocol, self.fold.below + 1, "next")
        folds, gains = self.prepared.events.numbers(fold.column), self.prepared.events.numbers("gain")
        later = np.asarray(folds[(folds <= fold.below) & (gains > 0)]) == fold.below
        return self.prepared.interactions(fold), validate.part(self.prepared.interactions(next_fold), later)

    def questions(self, older: Interactions, newer: Interactions) -> validate.Requests:
        """The same for every configuration but for the length of the windows."""
        rng = generator(_QUESTIONS)
        return validate.requests(older, newer, length=self.config.events, clock=self.clock, fresh=self.fresh, rng=rng)

    def recall(self, asked: validate.Requests) -> float:
        """Recall@100, told to who watches."""
        found = super().recall(asked)
        self.epochs += 1
        if self.watch is not None:
            self.watch(self.epochs, found)
        return found

    def judged(self) -> Progress:
        """Search, without the final passes: the best epoch and its figure."""
        progress = Progress(SEARCH)
        self.search(progress, {})
        return progress


def tune_retrieval(
    prepared: Prepared, config: Path | None, seconds: float, trials: int | None, out: Path, seed: int, say: Say
) -> dict[str, Any]:
    """Search for `seconds`, or `trials` if that is sooner; write the keys that beat the present settings to `out`, beside those that `config` states.

    Returns:
        `trials`; `seconds` taken; `default` and `best`, mean recall@100 of the present and the best settings over two seeds; `changed`, the keys of
        `towers` that differ; `config`, the file written, or None where the present settings stay best.

    Raises:
        InputError: if nobody chose anything in the validation window.
    """
    began = time.monotonic()
    present = load_pipeline(config)
    search = _Search(prepared, present, began + seconds, say)
    if not search.can_judge():
        raise InputError(
            f"{prepared.path}: nobody known before Tv chose anything in the validation window [Tv, T2): there is nothing to tune on;"
            " prepare more data, or move time.validation"
        )
    study = _study(seed)
    study.enqueue_trial({name: getattr(present.towers, name) for name in (*CHOICES, *RANGES)})
    study.optimize(search.trial, n_trials=1)
    while len(study.trials) != trials and time.monotonic() < began + _CONFIRMING * seconds:
        study.optimize(search.trial, n_trials=1)
    best, default = search.confirmed(study)
    values = study.best_params if best > default else {}
    changed = {k: v for k, v in values.items() if v != getattr(present.towers, k)}
    if changed:
        written = overlaid(read_yaml(config) if config else {}, {"towers": changed})
        atomic.write_bytes(out, yaml.safe_dump(written, sort_keys=False).encode())
        say(f"{out}: recall@100 {best:.4f} instead of {default:.4f} with {changed}; try it: --config {out}")
    else:
        say(f"the present settings stay best: recall@100 {default:.4f}")
    return {
        "trials": len(study.trials),
        "seconds": round(time.monotonic() - began, 1),
        "best": round(max(best, default), 4),
        "default": round(default, 4),
        "changed": changed,
        "config": str(out) if changed else None,
    }


class _Search:
    """Trials against one deadline."""

    def __init__(self, prepared: Prepared, present: PipelineConfig, deadline: float, say: Say) -> None:
        self._prepared, self._present, self._deadline, self._say = prepared, present, deadline, say

    def can_judge(self) -> bool:
        """Whether the validation window asks for anything."""
        fit = Judged(self._prepared, CHOOSE, self._present, lambda _: None)
        return bool(fit.questions(*fit.parts()).relevant)

    def trial(self, trial: optuna.Trial) -> float:
        """One trial: settings, a fit, its best recall@100."""
        values = {name: _suggest(trial, name, getattr(self._present.towers, name)) for name in (*CHOICES, *RANGES)}

        def watch(epoch: int, recall: float) -> None:
            trial.report(recall, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            found = self._fit(values, self._deadline - time.monotonic(), watch)
        except ConfigError:  # settings that do not go together, such as dimensions that the heads do not divide
            raise optuna.TrialPruned from None
        except optuna.TrialPruned:
            self._say(f"trial {trial.number}: ended early, {values}")
            raise
        self._say(f"trial {trial.number}: recall@100 {found:.4f}, {values}")
        return found

    def confirmed(self, study: optuna.Study) -> tuple[float, float]:
        """Mean recall@100 of the best and of the present settings over the seed of the trials and another one."""
        first, winner = study.trials[0], study.best_trial
        if winner.number == first.number:
            return winner.values[0], winner.values[0]
        self._say(f"trial {winner.number} against the present settings with another seed")
        other = {"seed": self._present.towers.seed + 1}
        half = (self._deadline - time.monotonic()) / 2
        best, default = (self._fit(t.params | other, half) for t in (winner, first))
        return mean([winner.values[0], best]), mean([first.values[0], default])

    def _fit(self, values: dict[str, Any], seconds: float, watch: Watch | None = None) -> float:
        limits = {"seconds": max(min(self._present.towers.seconds, seconds), 1.0)}
        towers = checked(TowersConfig, self._present.towers.model_dump() | values | limits, "tune retrieval")
        fit = Judged(self._prepared, CHOOSE, self._present.model_copy(update={"towers": towers}), lambda _: None)
        fit.watch = watch
        return fit.judged().best


def _study(seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTING),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTING, n_warmup_steps=1),
    )


def _suggest(trial: optuna.Trial, name: str, present: Any) -> Any:
    if name in CHOICES:
        choices = CHOICES[name]
        return trial.suggest_categorical(name, choices if present in choices else [*choices, present])
    low, high, logarithmic = RANGES[name]
    return trial.suggest_float(name, min(low, present), max(high, present), log=logarithmic)
