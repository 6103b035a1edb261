"""The two towers as one TFRS model. On Keras 2 (tf_keras), which the package asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from core.columns import Array
from core.schema import EVENT_TYPES
from retrieval.towers.inputs import GAP_BUCKETS
from retrieval.towers.loss import sampled_softmax
from retrieval.towers.noise import Noise
from retrieval.towers.people import People, PersonTower
from retrieval.towers.sums import BagSums, embeddings

Tensor = Any
_NEVER: Final = -1e9  # added to a logit that must not count
_SHARPNESS: Final = 20.0  # one over the initial temperature; it is learned


@dataclass(frozen=True)
class Shape:
    """Sizes of the towers."""

    items: int
    tokens: int
    dimensions: int
    events: int
    blocks: int
    heads: int
    dropout: float
    id_dropout: float


class ItemTower(tf.keras.layers.Layer):
    """Item vector: id embedding + weighted sum of the embeddings of its tokens, at unit length.

    Items without an id embedding share row n of the table. `content` holds (item row, token row, weight) of every known token, in item order.
    """

    def __init__(
        self,
        shape: Shape,
        content: tuple[Array, Array, Array],
        has_id: Array,
        rng: np.random.Generator,
        noise: Noise,
    ) -> None:
        super().__init__(name="item_tower")
        self.ids = embeddings("ids", shape.items + 1, shape.dimensions, rng)
        self.token = embeddings("token", max(shape.tokens, 1), shape.dimensions, rng)
        self.id_row = tf.Variable(
            np.where(has_id, np.arange(shape.items), shape.items).astype(np.int32), trainable=False
        )
        self._sums = BagSums(content, shape.items)
        self._unknown, self._drop, self._chance = shape.items, shape.id_dropout, noise.uniform()

    def call(self, items: Tensor, training: bool = False) -> Tensor:
        """Unit vectors float32 `[n, d]` of items int32 `[n]`; training lets some items share row n, so that content learns to speak for them."""
        rows = tf.gather(self.id_row, items)
        if training and self._drop:
            rows = tf.where(self._chance(tf.shape(rows)) < self._drop, self._unknown, rows)
        return tf.math.l2_normalize(tf.gather(self.ids, rows) + self._sums(items, self.token), -1)


class QueryTower(tf.keras.layers.Layer):
    """Causal sequence encoder: position i speaks for the person after their i-th event, whatever comes later.

    It starts from an average of the events so far, weighted by how many events ago they were (one learned weighting a head), and adds what
    attention finds in them (Kang & McAuley, SASRec, ICDM 2018; the distance as a bias, as in Shaw et al., NAACL 2018). Starting from the average
    instead of the newest event is what shops with baskets need.
    """

    def __init__(self, shape: Shape, noise: Noise) -> None:
        super().__init__(name="query_tower")
        d = shape.dimensions
        self.type = tf.Variable(np.zeros((len(EVENT_TYPES), d), np.float32), name="type")
        self.gap = tf.Variable(np.zeros((GAP_BUCKETS, d), np.float32), name="gap")
        self._ago = tf.Variable(np.zeros((shape.events, shape.heads), np.float32), name="ago")
        self._blocks = [_Block(shape, noise) for _ in range(shape.blocks)]
        self._feed, self._norm = Feed(shape, noise), tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self._drop, self._heads = noise.dropout(shape.dropout), shape.heads

    def call(
        self,
        vectors: Tensor,
        type: Tensor,
        gap: Tensor,
        segment: Tensor,
        person: Tensor | None = None,
        heard: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Item vectors float32 `[b, l, d]`; type, gap bucket, segment int32 `[b, l]` -> unit query vectors float32 `[b, l, d]`.

        Where attributes are read, `person` float32 `[b, l, d]` joins what was read of the history, which counts as `heard` float32 `[b, l, 1]`: 1, or
        0 where there is none (what the events hold then does not matter).
        """
        scale = vectors.shape[2] ** 0.5
        x = vectors * scale + tf.gather(self.type, type) + tf.gather(self.gap, gap)
        x = self._drop(x, training=training)
        length = vectors.shape[1]
        later = np.triu(np.ones((length, length), bool), 1)
        other = tf.not_equal(segment[:, :, None], segment[:, None, :])
        allowed = tf.where(tf.logical_or(later, other), _NEVER, 0.0)[:, None]
        h = _mixed(_by_distance(self._ago, length)[None] + allowed, _split(x, self._heads))
        for block in self._blocks:
            h = block(h, x, allowed, training=training)
        if person is not None:
            h = h * heard + person * scale
        return tf.math.l2_normalize(self._norm(self._feed(h, training=training)), -1)


class _Block(tf.keras.layers.Layer):
    """Attention of the states `h` to the events `x`, then a feed-forward step; both residual, normalised before."""

    def __init__(self, shape: Shape, noise: Noise) -> None:
        super().__init__()
        d, self._heads = shape.dimensions, shape.heads
        self._norm_h, self._norm_x = (tf.keras.layers.LayerNormalization(epsilon=1e-6) for _ in range(2))
        self._query, self._out = (tf.keras.layers.Dense(d, use_bias=False) for _ in range(2))
        self._key_value = tf.keras.layers.Dense(2 * d, use_bias=False)
        self._ago = tf.Variable(np.zeros((shape.events, shape.heads), np.float32), name="ago")
        self._drop = noise.dropout(shape.dropout)

    def call(self, h: Tensor, x: Tensor, allowed: Tensor, training: bool = False) -> Tensor:
        """`h`, `x` float32 `[b, l, d]`, `allowed` float32 `[b, 1, l, l]` (0 or a huge negative number) -> `[b, l, d]`."""
        key, value = tf.split(self._key_value(self._norm_x(x)), 2, -1)
        query, key, value = (_split(t, self._heads) for t in (self._query(self._norm_h(h)), key, value))
        logits = tf.matmul(query, key, transpose_b=True) / query.shape[3] ** 0.5
        mixed = _mixed(logits + _by_distance(self._ago, x.shape[1])[None] + allowed, value)
        return h + self._drop(self._out(mixed), training=training)


class Feed(tf.keras.layers.Layer):
    """The feed-forward step, residual."""

    def __init__(self, shape: Shape, noise: Noise) -> None:
        super().__init__()
        self._norm = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self._up, self._down = tf.keras.layers.Dense(2 * shape.dimensions), tf.keras.layers.Dense(shape.dimensions)
        self._drop = noise.dropout(shape.dropout)

    def call(self, h: Tensor, training: bool = False) -> Tensor:
        """Float32 `[b, l, d]` -> `[b, l, d]`."""
        return h + self._drop(self._down(tf.nn.gelu(self._up(self._norm(h)))), training=training)


class Towers(tfrs.Model):
    """Both towers and the temperature, with the loss of one batch of training rows; `people`: whose attributes are read (None: nobody's)."""

    encoder: ClassVar[type[tf.keras.layers.Layer]] = QueryTower

    def __init__(
        self,
        shape: Shape,
        content: tuple[Array, Array, Array],
        has_id: Array,
        log_expected: Array,
        uniform: int,
        rng: np.random.Generator,
        people: People | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.noise = Noise()
        self.items, self.query = ItemTower(shape, content, has_id, rng, self.noise), self.encoder(shape, self.noise)
        self._negatives = self.noise.below()
        # last, so that without it everything else draws the same chance
        self.people = PersonTower(people, shape.dimensions, rng, self.noise) if people is not None else None
        self.log_sharpness = tf.Variable(np.float32(np.log(_SHARPNESS)), name="log_sharpness")
        self._log_expected, self._uniform = tf.Variable(log_expected, trainable=False), uniform
        self._known = tf.Variable(np.flatnonzero(has_id).astype(np.int32), trainable=False, shape=[None])
        none = tf.zeros([1, shape.events], tf.int32)
        self.query(
            tf.zeros([1, shape.events, shape.dimensions]), none, none, none
        )  # Keras makes the weights of a layer at its first call

    @property
    def state(self) -> list[Any]:
        """The variables that training changes: weights, and what `know` was told."""
        return [*self.trainable_variables, self.items.id_row, self._known, self._log_expected]

    def know(self, has_id: Array, log_expected: Array) -> None:
        """From now on the items `has_id` bool `[n]` have an embedding of their own; a new one begins near the one that was shared."""
        known = np.flatnonzero(has_id).astype(np.int32)
        new = known[self.items.id_row.numpy()[known] == self.shape.items]
        self.items.ids.scatter_add(tf.IndexedSlices(tf.repeat(self.items.ids[-1:], len(new), 0), new))
        self.items.id_row.assign(np.where(has_id, np.arange(self.shape.items), self.shape.items))
        self._known.assign(known)
        self._log_expected.assign(log_expected)

    def compute_loss(self, inputs: tuple[Tensor, ...], training: bool = True) -> Tensor:
        """The loss of rows (item, type, gap, segment int32 `[b, l]`, target int32 `[b, l, k]`, weight float32 `[b, l, k]`)."""
        item, type, gap, segment, target, weight = inputs
        k = target.shape[2]
        uniform = tf.gather(self._known, self._negatives(self._uniform, tf.size(self._known)))
        pool, place = tf.unique(tf.concat([tf.reshape(item, [-1]), tf.reshape(target, [-1]), uniform], 0))
        places = tf.split(place, [tf.size(item), tf.size(target), self._uniform])
        vectors = self.items(pool, training=training)
        events = tf.reshape(tf.gather(vectors, places[0]), [-1, self.shape.events, self.shape.dimensions])
        told = self.people(segment, training=training) if self.people else ()
        queries = self.query(events, type, gap, segment, *told, training=training)
        queries = tf.reshape(queries, [-1, self.shape.dimensions])
        weight, positive = tf.reshape(weight, [-1, k]), tf.reshape(places[1], [-1, k])
        kept = tf.where(tf.reduce_sum(weight, 1) > 0)[:, 0]
        queries, weight, positive = (tf.gather(t, kept) for t in (queries, weight, positive))
        return sampled_softmax(
            queries, vectors, positive, weight, tf.gather(self._log_expected, pool), tf.exp(self.log_sharpness)
        )


def _split(x: Tensor, heads: int) -> Tensor:
    """`[b, l, d]` -> `[b, heads, l, d / heads]`."""
    return tf.transpose(tf.reshape(x, [-1, x.shape[1], heads, x.shape[2] // heads]), [0, 2, 1, 3])


def _mixed(logits: Tensor, values: Tensor) -> Tensor:
    """Softmax of `[b, heads, l, l]` over the last axis, applied to `[b, heads, l, s]`, heads side by side: `[b, l, heads * s]`."""
    mixed = tf.transpose(tf.matmul(tf.nn.softmax(logits), values), [0, 2, 1, 3])
    return tf.reshape(mixed, [-1, mixed.shape[1], mixed.shape[2] * mixed.shape[3]])


def _by_distance(table: Any, length: int) -> Tensor:
    """Biases `[heads, l, l]` from a table `[events, heads]` by how many events ago."""
    return tf.transpose(tf.gather(table, np.clip(np.arange(length)[:, None] - np.arange(length), 0, None)), [2, 0, 1])
