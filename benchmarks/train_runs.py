"""One timed training run in its own process, for benchmarks.train: the towers as nights train them, or the TFRS tutorial.

    python -m benchmarks.train_runs ours|tutorial --work WORK --began MONOTONIC [--batch B --rate R]

Prints a line of JSON at every look: `seconds` since the process was asked for (interpreter, imports, tracing and all; looks themselves are not
counted), `cpu_seconds` of its threads, `epoch`, `recall` (@100 over the whole catalogue known, exact search) of the same people's newest choices.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import tensorflow as tf

from core.columns import Array
from core.config import load_pipeline
from core.prepared import TRAIN, Fold, Interactions, Prepared
from core.work import Work
from retrieval.towers import validate
from retrieval.towers.checkpoint import Progress
from retrieval.towers.learner import Learner
from retrieval.towers.stream import Rows
from retrieval.towers.train import SEARCH, Fit, validation_requests

FOLD: Final[Fold] = TRAIN
LOOKS: Final = 8  # in an epoch, of either
_PATIENCE: Final = 1  # epochs of the tutorial without a better recall
_SHUFFLED: Final = 100_000  # as in the tutorial
_MOST_TUTORIAL_EPOCHS: Final = 30
_MOST_EPOCHS: Final = 3  # of ours

T = TypeVar("T")


class Watch:
    """Seconds since `began` (time.monotonic() is one clock for all processes), less what was spent under `aside`."""

    def __init__(self, began: float) -> None:
        self._began, self._cpu = began, 0.0

    @property
    def seconds(self) -> float:
        """Counted so far."""
        return time.monotonic() - self._began

    def aside(self, do: Callable[[], T]) -> T:
        """Do something that is not counted."""
        start, cpu = time.monotonic(), time.process_time()
        result = do()
        self._began += time.monotonic() - start
        self._cpu += time.process_time() - cpu
        return result

    def look(self, epoch: float, recall: Callable[[], float]) -> float:
        """Measure, uncounted, and print."""
        seconds, cpu = self.seconds, time.process_time() - self._cpu
        found = self.aside(recall)
        line = {"seconds": seconds, "cpu_seconds": cpu, "epoch": epoch, "recall": found}
        print(json.dumps({name: round(value, 4) for name, value in line.items()}), flush=True)
        return found


class _WatchedFit(Fit):
    """The production fit with looks between its epochs, and within them."""

    watch: Watch
    asked: validate.Requests
    epochs = 0

    def questions(self, older: Interactions, newer: Interactions) -> validate.Requests:
        self.asked = self.watch.aside(lambda: Fit.questions(self, older, newer))
        return self.asked

    def recall(self, asked: validate.Requests) -> float:
        self.epochs += 1
        return self.watch.look(self.epochs, lambda: Fit.recall(self, asked))

    def look_within(self, part: int) -> None:
        self.watch.look(self.epochs + part / LOOKS, lambda: Fit.recall(self, self.asked))


class _WatchedLearner(Learner):
    """A learner that makes its passes in parts."""

    fit: _WatchedFit

    def steps(self, rates: Array, rows: Rows) -> float:
        losses = []
        for number, part in enumerate(np.array_split(np.arange(len(rates)), LOOKS)):
            if number and len(part):
                self.fit.look_within(number)
            some = slice(part[0] * self.size, (part[-1] + 1) * self.size) if len(part) else slice(0)
            if len(part):
                losses.append(
                    Learner.steps(self, rates[part], Rows(*(getattr(rows, f.name)[some] for f in fields(rows))))
                )
        return float(np.mean(losses))


def ours(prepared: Prepared, watch: Watch) -> None:
    """The search for the number of epochs as a night makes it, but for at most three epochs and without a clock, which the looks would use up."""
    config = load_pipeline(None)
    config = config.model_copy(
        update={"towers": config.towers.model_copy(update={"seconds": 1e9, "epochs": _MOST_EPOCHS})}
    )
    fit = _WatchedFit(prepared, FOLD, config, lambda _: None)
    fit.watch = watch
    fit.learner = learner = _WatchedLearner(fit.towers, fit.config, fresh=fit.fresh, clock=fit.clock)
    learner.fit = fit
    fit.search(Progress(SEARCH), {})


def tutorial(prepared: Prepared, watch: Watch, batch: int, rate: float) -> None:
    """The loop of the basic retrieval tutorial (tensorflow.org/recommenders/examples/basic_retrieval) with metrics off, until its recall stops growing."""
    import tensorflow_recommenders as tfrs

    config = load_pipeline(None)
    older, newer = validate.hold_back(prepared.interactions(FOLD), FOLD.protocol)
    fresh = prepared.seen(config.evaluation.seen) == "remove"
    users = np.array([prepared.user_ids[row] for row in older.user.tolist()])
    items = np.array([prepared.item_ids[row] for row in older.item.tolist()])
    towers = [_tutorial_tower(np.unique(ids), config.towers.dimensions) for ids in (users, items)]

    class Model(tfrs.Model):
        """As in the tutorial."""

        def __init__(self) -> None:
            super().__init__()
            self.user_model, self.item_model = towers
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
            found = self.user_model(features["user_id"]), self.item_model(features["item_id"])
            return self.task(*found, compute_metrics=not training)

    tf.random.set_seed(config.towers.seed)
    model = Model()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(rate))
    events = tf.data.Dataset.from_tensor_slices({"user_id": users, "item_id": items})
    cached = events.shuffle(_SHUFFLED).batch(batch).cache()
    asked = watch.aside(
        lambda: validation_requests(older, newer, config.towers, fresh=fresh, clock=not prepared.synthetic_time)
    )
    known = np.unique(older.item)
    people = tf.constant([prepared.user_ids[row] for row in asked.people.tolist()])
    names = tf.constant([prepared.item_ids[row] for row in known.tolist()])
    looks = _TutorialLooks(watch, -(-len(users) // batch), lambda: _tutorial_recall(model, people, names, known, asked))
    model.fit(cached, epochs=_MOST_TUTORIAL_EPOCHS, verbose=0, callbacks=[looks])


def _tutorial_tower(ids: Array, dimensions: int) -> Any:
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=ids, mask_token=None),
            tf.keras.layers.Embedding(len(ids) + 1, dimensions),
        ]
    )


class _TutorialLooks(tf.keras.callbacks.Callback):
    """Looks as often as ours, and stops when nothing better comes."""

    def __init__(self, watch: Watch, steps: int, recall: Callable[[], float]) -> None:
        super().__init__()
        self._watch, self._steps, self._recall = watch, steps, recall
        self._at = set(np.unique(np.linspace(0, steps, LOOKS + 1).round().astype(int))[1:].tolist())
        self._epoch, self._best, self._best_at = 0, -1.0, 0.0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """One look where it is due."""
        if batch + 1 in self._at:
            at = self._epoch + (batch + 1) / self._steps
            found = self._watch.look(at, self._recall)
            if found > self._best:
                self._best, self._best_at = found, at

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Stop, or go on."""
        self._epoch = epoch + 1
        self.model.stop_training = self._epoch - self._best_at >= _PATIENCE


def _tutorial_recall(model: Any, people: Any, names: Any, known: Array, asked: validate.Requests) -> float:
    """Exact search among the `known` item rows, as validate.ranked does it."""
    queries, learned = model.user_model(people).numpy(), model.item_model(names).numpy()
    vectors = np.zeros((int(known.max()) + 1, learned.shape[1]), np.float32)
    vectors[known] = learned
    allowed = np.zeros(len(vectors), bool)
    allowed[known] = True
    at = iter(range(0, len(queries), 512))  # ranked() asks for the people in order, so many at a time
    best = validate.ranked(asked, vectors, allowed, lambda w, _: queries[(a := next(at)) : a + len(w.item)], 100)
    return validate.recall(best, asked.relevant)


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=("ours", "tutorial"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--began", type=float, default=None, help="time.monotonic() when the process was asked for; default: now"
    )
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rate", type=float, default=0.1)
    args = parser.parse_args()
    watch, prepared = (
        Watch(time.monotonic() if args.began is None else args.began),
        Prepared(Work(args.work).latest("prepare")),
    )
    if args.who == "ours":
        ours(prepared, watch)
    else:
        tutorial(prepared, watch, args.batch, args.rate)


if __name__ == "__main__":
    main()
