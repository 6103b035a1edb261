"""What a fit leaves: everything that serving maps, without TensorFlow, and the weights that a warm start reads.

towers.json             format, embedding id, sizes, fold, facts
item_vectors.npy        float32 [n, d], row-aligned with the prepared item ids; zero for an item of which nothing is known
query_tower.tflite      float32, batch 1: vectors [1, l, d], type, gap, segment int32 [1, l] -> [1, d]
item_tower/ids.npy      float32 [n + 1, d]: id part of each item, the last row that of an item without one
item_tower/has_id.npy   bool [n]
item_tower/tokens.npy   uint64 [v], sorted hashes; item_tower/token_vectors.npy float32 [v, d]
warm.npz                weights of the query tower and the temperature
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from core.columns import Array, load_array
from core.errors import ArtifactError
from core.prepared import Fold
from core.schema import EVENT_TYPES
from retrieval.towers.inputs import GAP_BUCKETS
from retrieval.towers.model import Towers

FORMAT_VERSION: Final = 1
_CHUNK: Final = 65536


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


def export(towers: Towers, tokens: Array, meaningful: Array, facts: Facts, out: Path) -> None:
    """Write the folder; `meaningful` bool `[n]`: items with a training event or content."""
    (out / "item_tower").mkdir(parents=True, exist_ok=True)
    n = towers.shape.items
    vectors = np.concatenate(
        [towers.items(tf.range(a, min(a + _CHUNK, n))).numpy() for a in range(0, n, _CHUNK)]
        or [np.empty((0, towers.shape.dimensions))]
    )
    vectors = np.where(meaningful[:, None], vectors, 0).astype(np.float32)
    arrays = {
        "item_vectors": vectors,
        "has_vector": meaningful,
        "item_tower/ids": towers.items.ids.numpy(),
        "item_tower/has_id": towers.items.id_row.numpy() < n,
        "item_tower/tokens": tokens,
        "item_tower/token_vectors": towers.items.token.numpy()[: len(tokens)],
    }
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", np.ascontiguousarray(array))
    rest = _rest(towers)
    np.savez(out / "warm.npz", **{str(i): v.numpy() for i, v in enumerate(rest)})
    (out / "query_tower.tflite").write_bytes(_litert(towers))
    header = {
        "format_version": FORMAT_VERSION,
        "embedding_id": _embedding_id([*arrays.values(), *(v.numpy() for v in rest)], facts.config),
        "dimensions": towers.shape.dimensions,
        "events": towers.shape.events,
        "items": n,
        "event_types": [str(t) for t in EVENT_TYPES],
        "gap_buckets": GAP_BUCKETS,
        **asdict(facts),
    }
    (out / "towers.json").write_text(json.dumps(header, indent=1, sort_keys=True) + "\n")


def check_window(folder: Path, fold: Fold, until: int) -> None:
    """Refuse a warm start from towers that know what `fold`, which stands for the moment `until`, must not (design 5).

    Raises:
        ArtifactError: if their window ends later, or is cut by the other protocol.
    """
    old = json.loads((folder / "towers.json").read_bytes())
    if (
        old["protocol"] != fold.protocol
        or old["until"] > until
        or (fold.protocol == "last" and old["below"] > fold.below)
    ):
        raise ArtifactError(
            f"{folder}: towers of fold {old['fold']!r} (until {old['until']}) know events that fold {fold.name!r} (until {until}) must not:"
            " a warm start descends only from a window that ends no later"
        )


def embedding_id(folder: Path) -> str:
    """The id of the vectors of the towers in `folder`."""
    return str(json.loads((folder / "towers.json").read_bytes())["embedding_id"])


def load_weights(towers: Towers, tokens: Array, folder: Path) -> None:
    """Begin where the towers in `folder` ended: items by row, tokens by hash; what they did not know stays as it is.

    Raises:
        ArtifactError: if those towers have other sizes.
    """
    ids, has_id = load_array(folder / "item_tower" / "ids.npy"), load_array(folder / "item_tower" / "has_id.npy")
    old_tokens, old_vectors = (
        load_array(folder / "item_tower" / "tokens.npy"),
        load_array(folder / "item_tower" / "token_vectors.npy"),
    )
    with np.load(folder / "warm.npz") as saved:
        values = [saved[str(i)] for i in range(len(saved.files))]
    rest = _rest(towers)
    shapes, found = [tuple(v.shape) for v in rest], [v.shape for v in values]
    if shapes != found or ids.shape[1] != towers.shape.dimensions or len(has_id) > towers.shape.items:
        raise ArtifactError(
            f"{folder}: towers of other sizes ({ids.shape[1]} dimensions, {len(has_id)} items): train them anew, without a warm start"
        )
    for variable, value in zip(rest, values, strict=True):
        variable.assign(value)
    table = towers.items.ids.numpy()
    table[: len(has_id)][has_id] = ids[:-1][has_id]
    table[-1] = ids[-1]
    towers.items.ids.assign(table)
    known = np.zeros(towers.shape.items, bool)
    known[: len(has_id)] = has_id
    towers.items.id_row.assign(np.where(known, np.arange(towers.shape.items), towers.shape.items))
    _, at, old = np.intersect1d(tokens, old_tokens, assume_unique=True, return_indices=True)
    content = towers.items.token.numpy()
    content[at] = old_vectors[old]
    towers.items.token.assign(content)


def _rest(towers: Towers) -> list[Any]:
    """The variables that do not grow with the catalogue."""
    return [towers.log_sharpness, *towers.query.trainable_variables]


def _litert(towers: Towers) -> bytes:
    length, d = towers.shape.events, towers.shape.dimensions
    rows = [tf.TensorSpec([1, length], tf.int32, name) for name in ("type", "gap", "segment")]

    @tf.function(input_signature=[tf.TensorSpec([1, length, d], tf.float32, "vectors"), *rows])
    def newest(vectors: Any, type: Any, gap: Any, segment: Any) -> dict[str, Any]:
        return {"query": towers.query(vectors, type, gap, segment)[:, -1]}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([newest.get_concrete_function()], towers.query)
    return bytes(converter.convert())


def _embedding_id(arrays: list[Array], config: str) -> str:
    digest = hashlib.sha256(config.encode())
    for array in arrays:
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
