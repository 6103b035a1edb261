"""Fits the towers of one fold: learn on its older part, stop by recall on its newest, then pass over the whole of it with a falling rate.

Cold, the number of epochs is chosen by recall@100 of the held-back part (validate.py). Warm (`warm_from`: towers of a window that ends no later),
only the final passes are made. Seeded: two runs on one machine give the same towers, unless the time budget ends one of them; so do one run and
one that was killed and goes on from its checkpoint, because all chance is a function of seed, phase and pass (noise.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from core.artifact import code_version, hash_json
from core.columns import Array
from core.config import PipelineConfig, TowersConfig
from core.prepared import Fold, Interactions, Prepared
from core.tokens import TOKEN_PEOPLE, item_bags, look_up, person_bags, vocabulary
from retrieval.sources.opinion import order_of
from retrieval.sources.popularity import people_gains
from retrieval.towers import validate
from retrieval.towers.checkpoint import Checkpoint, Progress
from retrieval.towers.export import Facts, Newcomers, export, load_weights
from retrieval.towers.files import check_window, read_header
from retrieval.towers.inputs import Window
from retrieval.towers.learner import Learner
from retrieval.towers.model import Shape, Towers
from retrieval.towers.noise import generator
from retrieval.towers.people import People

Say = Callable[[str], None]

_TOKEN_ITEMS = 2  # a token of fewer items says no more than their ids
_MOST_TOKENS = 50_000
_MOST_PERSON_TOKENS = 10_000
_FEWEST_NEWCOMERS = 100  # fewer cannot tell whether attributes alone may ask
_LAST_RATE = 0.1  # of the learning rate, reached at the end of the final passes
_SEARCH_SHARE = 0.7  # of the time budget
_START, _VALIDATION, SEARCH, FINAL, _NEWCOMERS = range(5)  # what is drawn for: each has its own chance


def fit_towers(
    prepared: Prepared,
    fold: Fold,
    config: PipelineConfig,
    out: Path,
    say: Say,
    warm_from: Path | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Fit the towers as of `fold` into the folder `out` (see export.py for what it then holds).

    Args:
        prepared: The data.
        fold: What may be known.
        config: `towers` and `evaluation.seen` are read.
        out: Made if it is not there.
        say: Progress for a person.
        warm_from: A folder that this function wrote for the same item rows and a window that ends no later than `fold`'s.
        checkpoint: A folder of this fit's own, outside `out`: kept up while it runs, so that a killed one goes on from its last whole pass, and a
            finished one is only exported. What another fit left there is written over.
    """
    Fit(prepared, fold, config, say, warm_from, checkpoint).run(out)


class Fit:
    """One fold's fit."""

    model: ClassVar[type[Towers]] = Towers

    def __init__(
        self,
        prepared: Prepared,
        fold: Fold,
        pipeline: PipelineConfig,
        say: Say,
        warm_from: Path | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self._began = time.monotonic()
        self.prepared, self.fold, self.config, self._say = prepared, fold, pipeline.towers, say
        self._events, self.clock = prepared.interactions(fold), not prepared.synthetic_time
        # what pages leave out, because the person has it, is no target either
        self.fresh = prepared.seen(pipeline.evaluation.seen) == "remove"
        tf.keras.utils.set_random_seed(self.config.seed)
        tf.config.experimental.enable_op_determinism()
        self._bags, n, c = item_bags(prepared.items), self._events.n_items, self.config
        self._tokens = vocabulary(self._bags, np.unique(self._events.item), _TOKEN_ITEMS, _MOST_TOKENS)
        content = look_up(self._bags, self._tokens)
        shape = Shape(n, len(self._tokens), c.dimensions, c.events, c.blocks, c.heads, c.dropout, c.id_dropout)
        unknown, rare = np.zeros(n, bool), np.zeros(n, np.float32)  # until the learner tells
        self.people = self._people()
        rng = generator(c.seed, _START)
        self.towers = self.model(shape, content, unknown, rare, c.uniform_negatives, rng, self.people)
        self._warm, self._newcomers = warm_from is not None, None
        if warm_from is not None:
            check_window(warm_from, fold, self._events.until)
            load_weights(self.towers, self._tokens, warm_from)
            self._newcomers = read_header(warm_from).get("newcomers")
        self._variables = self.towers.trainable_variables
        self.learner = Learner(self.towers, c, fresh=self.fresh, clock=self.clock)
        self._checkpoint = Checkpoint(checkpoint, self._id(warm_from))

    def run(self, out: Path) -> None:
        """Learn and export."""
        progress = self.learn()
        known = self.towers.items.id_row.numpy() < self._events.n_items
        facts = Facts(
            fold=self.fold.name,
            protocol=self.fold.protocol,
            below=self.fold.below,
            prepared=self.prepared.manifest.id,
            until=self._events.until,
            clock=self.clock,
            epochs=progress.best_at,
            validation_recall=max(progress.best, 0.0) if progress.best_at else None,
            config=self.config.fingerprint(),
            newcomers=progress.newcomers or self._newcomers,
        )
        export(self.towers, self._tokens, self._bags, facts, out)
        how = (
            "warm"
            if self._warm
            else f"{facts.epochs} epochs, recall@100 {facts.validation_recall or 0:.3f} on the newest part"
        )
        self._say(
            f"{self.fold.name}: towers of {known.sum():,} items learned from {len(self._events.item):,} events ({how}; {progress.spent:.0f} s)"
        )

    def learn(self) -> Progress:
        """All passes, from where a killed fit of the same kind stopped if there was one. How far they came."""
        if not len(self._events.item):
            return Progress(FINAL)
        saved = self._checkpoint.load()
        progress, groups = saved or (Progress(FINAL if self._warm else SEARCH), {})
        self._began -= progress.spent
        if saved:
            self._say(f"{self.fold.name}: going on after pass {progress.epoch} of a fit that was stopped")
        if progress.phase == SEARCH:
            self.search(progress, groups)
            progress.phase, progress.epoch, groups = FINAL, 0, {}
        self._final(progress, groups)
        return progress

    def search(self, progress: Progress, groups: dict[str, list[Array]]) -> None:
        """Epochs over the older part while recall of the newer part grows; leaves the best weights. `groups`: of the checkpoint, if there was one."""
        c = self.config
        older, newer = self.parts()
        asked = self.questions(older, newer)
        self.learner.take(older, SEARCH)
        kept = groups.get("best") or groups.get("towers", [])[: len(self._variables)] or self._weights()
        self._restore(groups)
        while progress.epoch < c.epochs and not self._late(progress, _SEARCH_SHARE):
            if progress.epoch - progress.best_at >= c.patience:
                break
            began = time.monotonic()
            loss = self.learner.epoch(progress.epoch + 1)
            found = self.recall(asked) if asked.relevant else -loss
            progress.epoch += 1
            if found > progress.best or progress.epoch == 1:
                progress.best, progress.best_at = found, progress.epoch
                kept = self._weights()
            self._passed(progress, began, kept)
            self._say(
                f"{self.fold.name}: epoch {progress.epoch}, loss {loss:.4f}, recall@100 {max(found, 0):.4f}, {progress.last:.1f} s"
            )
        for variable, value in zip(self._variables, kept, strict=True):
            variable.assign(value)
        if self.people is not None:
            progress.newcomers = self.newcomers(self.people, older, newer)
            self._say(f"{self.fold.name}: attributes alone, of people without a history: {progress.newcomers}")

    def newcomers(self, people: People, older: Interactions, newer: Interactions) -> dict[str, Any]:
        """How well the attributes of `people` alone find what those without a history chose: see `Newcomers`."""
        told = np.zeros(people.n, bool)
        told[people.content[0]] = True
        rng = generator(self.config.seed, _NEWCOMERS)
        asked = validate.newcomers(older, newer, told, length=self.config.events, rng=rng)
        if len(asked.people) < _FEWEST_NEWCOMERS:
            return asdict(Newcomers(len(asked.people), 0.0, 0.0, ask=False))
        popular = np.tile(order_of(people_gains(older))[:100], (len(asked.people), 1))
        ours, theirs = (round(validate.recall(best, asked.relevant), 4) for best in (self.ranked(asked), popular))
        return asdict(Newcomers(len(asked.people), ours, theirs, ask=ours > theirs))

    def _final(self, progress: Progress, groups: dict[str, list[Array]]) -> None:
        """The passes over everything, at a rate that falls from `learning_rate` to a tenth of it."""
        self.learner.take(self._events, FINAL)
        self._restore(groups)
        rates = list(pairwise(np.linspace(1, _LAST_RATE, self.config.final_epochs + 1).tolist()))
        while progress.epoch < len(rates) and not self._late(progress, 1.0):
            began = time.monotonic()
            self.learner.epoch(progress.epoch + 1, *rates[progress.epoch])
            progress.epoch += 1
            self._passed(progress, began, [])
            self._say(f"{self.fold.name}: final pass {progress.epoch} of {len(rates)}, {progress.last:.1f} s")

    def _weights(self) -> list[Array]:
        return [v.numpy() for v in self._variables]

    def _late(self, progress: Progress, share: float) -> bool:
        """Whether another pass like the last one would not fit into `share` of the time budget; the first is always made."""
        return progress.epoch > 0 and progress.spent + progress.last > share * self.config.seconds

    def _passed(self, progress: Progress, began: float, best: list[Array]) -> None:
        """A whole pass has been made: take the time and leave a checkpoint."""
        now = time.monotonic()
        progress.spent, progress.last = now - self._began, now - began
        state = {"towers": self.towers.state, "adam": self.learner.adam.state}
        groups = {name: [v.numpy() for v in variables] for name, variables in state.items()}
        newest = progress.phase == SEARCH and progress.best_at == progress.epoch
        self._checkpoint.save(progress, groups if newest else groups | {"best": best})

    def _restore(self, groups: dict[str, list[Array]]) -> None:
        state = {"towers": self.towers.state, "adam": self.learner.adam.state}
        for name, variables in state.items():
            for variable, value in zip(variables, groups.get(name, []), strict=name in groups):
                variable.assign(value)

    def _id(self, warm_from: Path | None) -> str:
        """Names everything that this fit's weights follow from."""
        warm = read_header(warm_from)["embedding_id"] if warm_from is not None else None
        fold = [self.fold.protocol, self.fold.below, self._events.until]
        facts = [self.prepared.manifest.id, *fold, self.config.fingerprint(), self.fresh, warm]
        return hash_json([*facts, type(self).__name__, tf.__version__, code_version("core", "retrieval")])

    def parts(self) -> tuple[Interactions, Interactions]:
        """What the search learns from, and what it is judged by."""
        return validate.hold_back(self._events, self.fold.protocol)

    def questions(self, older: Interactions, newer: Interactions) -> validate.Requests:
        """What the towers are asked after each epoch of the search."""
        return validation_requests(older, newer, self.config, fresh=self.fresh, clock=self.clock)

    def recall(self, asked: validate.Requests) -> float:
        """Recall@100 of `ranked`."""
        return validate.recall(self.ranked(asked), asked.relevant)

    def ranked(self, asked: validate.Requests) -> Array:
        """The 100 best of the items learned so far for each person, by exact search: int32 `[q, 100]`."""
        vectors = self.vectors()
        allowed = self.towers.items.id_row.numpy() < len(vectors)
        return validate.ranked(asked, vectors, allowed, self._encoder(vectors), 100)

    def vectors(self) -> Array:
        """Every item's vector float32 `[n, d]`."""
        n = self._events.n_items
        return np.concatenate([self.towers.items(tf.range(a, min(a + 65536, n))).numpy() for a in range(0, n, 65536)])

    @tf.function(reduce_retracing=True)
    def _encode(self, vectors: Any, type: Any, gap: Any, segment: Any, *told: Any) -> Any:
        return self.towers.query(vectors, type, gap, segment, *told)[:, -1]

    def _encoder(self, vectors: Array) -> validate.Encode:
        def encode(w: Window, people: Array) -> Array:
            told: tuple[Any, ...] = ()
            if self.towers.people is not None:
                heard = tf.constant(w.segment.max(axis=1)[:, None, None], tf.float32)
                told = self.towers.people(tf.constant(people[:, None]))[0], heard
            read = (vectors[w.item], w.type, w.gap, w.segment)
            out: Array = self._encode(*map(tf.constant, read), *told).numpy()
            return out

        return encode

    def _people(self) -> People | None:
        """What everybody says of themselves, in tokens of enough people; None where it is not read, or says nothing."""
        if self.config.user_attributes is not True:
            return None
        bags = person_bags(self.prepared.users)
        tokens = vocabulary(bags, np.unique(self._events.user), TOKEN_PEOPLE, _MOST_PERSON_TOKENS)
        return People.of(bags, tokens) if len(tokens) else None


def validation_requests(
    older: Interactions, newer: Interactions, config: TowersConfig, *, fresh: bool, clock: bool
) -> validate.Requests:
    """The people of `newer` that a fit on `older` is judged by; the same ones for the same seed."""
    rng = generator(config.seed, _VALIDATION)
    return validate.requests(older, newer, length=config.events, clock=clock, fresh=fresh, rng=rng)
