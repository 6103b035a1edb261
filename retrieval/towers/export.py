"""What a fit leaves (retrieval/towers/files.py says where): everything that serving maps, without TensorFlow, and the weights that a warm start reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from core.columns import Array
from core.errors import ArtifactError
from core.schema import EVENT_TYPES
from core.tokens import Bags
from retrieval import person_tower
from retrieval.item_tower import FOLDER, ItemTower
from retrieval.person_tower import PersonTower
from retrieval.towers.files import FORMAT_VERSION, WITH_PEOPLE, write_header, write_vectors
from retrieval.towers.inputs import GAP_BUCKETS
from retrieval.towers.model import Towers


@dataclass(frozen=True)
class Facts:
    """Where a fit came from and how it went."""

    fold: str
    protocol: str
    below: int
    prepared: str
    until: int  # microseconds: one past the newest event it may know
    clock: bool
    epochs: int
    validation_recall: float | None
    config: str
    newcomers: Mapping[str, Any] | None = None  # `Newcomers`, where attributes of people are read


@dataclass(frozen=True)
class Newcomers:
    """How well attributes alone ask, for people without any history."""

    people: int  # asked
    recall: float  # @100
    popularity: float  # recall@100 of what most people choose, for the same ones
    ask: bool  # whether the towers may propose for such people


def export(towers: Towers, tokens: Array, bags: Bags, facts: Facts, out: Path) -> None:
    """Write the folder; `bags`: the content of every item."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    n = towers.shape.items
    learned = {
        "ids": towers.items.ids.numpy(),
        "has_id": towers.items.id_row.numpy() < n,
        "tokens": tokens,
        "token_vectors": towers.items.token.numpy()[: len(tokens)],
    }
    for name, array in learned.items():
        np.save(out / FOLDER / f"{name}.npy", np.ascontiguousarray(array))
    told = _people(towers)
    for name, array in told.items():
        (out / person_tower.FOLDER).mkdir(exist_ok=True)
        np.save(out / person_tower.FOLDER / f"{name}.npy", np.ascontiguousarray(array))
    write_vectors(ItemTower(**learned), bags, out)
    rest = _rest(towers)
    np.savez(out / "warm.npz", **{str(i): v.numpy() for i, v in enumerate(rest)})
    (out / "query_tower.tflite").write_bytes(_litert(towers))
    header = {
        "format_version": WITH_PEOPLE if told else FORMAT_VERSION,
        "embedding_id": _embedding_id([*learned.values(), *(v.numpy() for v in rest), *told.values()], facts.config),
        "dimensions": towers.shape.dimensions,
        "events": towers.shape.events,
        "items": n,
        "event_types": [str(t) for t in EVENT_TYPES],
        "gap_buckets": GAP_BUCKETS,
        **{name: value for name, value in asdict(facts).items() if told or name != "newcomers"},
    }
    write_header(header, out)


def load_weights(towers: Towers, tokens: Array, folder: Path) -> None:
    """Begin where the towers in `folder` ended: items by row, tokens by hash; what they did not know stays as it is.

    Raises:
        ArtifactError: if those towers have other sizes.
    """
    old = ItemTower.open(folder)
    with np.load(folder / "warm.npz") as saved:
        values = [saved[str(i)] for i in range(len(saved.files))]
    rest = _rest(towers)
    shapes, found = [tuple(v.shape) for v in rest], [v.shape for v in values]
    known = len(old.has_id)
    if shapes != found or old.ids.shape[1] != towers.shape.dimensions or known > towers.shape.items:
        raise ArtifactError(
            f"{folder}: towers of other sizes ({old.ids.shape[1]} dimensions, {known} items): train them anew, without a warm start"
        )
    for variable, value in zip(rest, values, strict=True):
        variable.assign(value)
    table = towers.items.ids.numpy()
    table[:known][old.has_id] = old.ids[:-1][old.has_id]
    table[-1] = old.ids[-1]
    towers.items.ids.assign(table)
    rows = np.full(towers.shape.items, towers.shape.items)
    rows[:known][old.has_id] = np.flatnonzero(old.has_id)
    towers.items.id_row.assign(rows)
    _, at, of = np.intersect1d(tokens, old.tokens, assume_unique=True, return_indices=True)
    content = towers.items.token.numpy()
    content[at] = old.token_vectors[of]
    towers.items.token.assign(content)
    if towers.people is not None and (folder / person_tower.FOLDER).exists():
        told = PersonTower.open(folder)
        _, at, of = np.intersect1d(towers.people.tokens, told.tokens, assume_unique=True, return_indices=True)
        vectors = towers.people.token.numpy()
        vectors[at] = told.token_vectors[of]
        towers.people.token.assign(vectors)


def _people(towers: Towers) -> dict[str, Array]:
    """The arrays of retrieval.person_tower; none where attributes of people are not read."""
    if towers.people is None:
        return {}
    return {"tokens": towers.people.tokens, "token_vectors": towers.people.token.numpy()}


def _rest(towers: Towers) -> list[Any]:
    """The variables that do not grow with the catalogue."""
    return [towers.log_sharpness, *towers.query.trainable_variables]


def _litert(towers: Towers) -> bytes:
    length, d = towers.shape.events, towers.shape.dimensions
    rows = [tf.TensorSpec([1, length], tf.int32, name) for name in ("type", "gap", "segment")]

    told = [tf.TensorSpec([1, d], tf.float32, "person"), tf.TensorSpec([1], tf.float32, "heard")]

    @tf.function(
        input_signature=[tf.TensorSpec([1, length, d], tf.float32, "vectors"), *rows, *(told if towers.people else ())]
    )
    def newest(vectors: Any, type: Any, gap: Any, segment: Any, *told: Any) -> dict[str, Any]:
        of_person = (told[0][:, None], told[1][:, None, None]) if told else ()
        return {"query": towers.query(vectors, type, gap, segment, *of_person)[:, -1]}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([newest.get_concrete_function()], towers.query)
    return bytes(converter.convert())


def _embedding_id(arrays: list[Array], config: str) -> str:
    digest = hashlib.sha256(config.encode())
    for array in arrays:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
