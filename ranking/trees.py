"""A tree ensemble as portable arrays: kept in a release, and checked when opened so that whoever evaluates it need not.

trees/
  trees.json      format version, features, sha256 of the arrays and of the model they were read from
  nodes.npy       int32 [T+1]     the nodes of tree t are nodes[t] to nodes[t+1]; it has one leaf more, so its leaves begin at nodes[t] + t
  feature.npy     int32 [N]       column of the input
  threshold.npy   float64 [N]     x <= threshold goes left; of a categorical node: the number of its set
  decision.npy    uint8 [N]       LightGBM's bits: 1 categorical, 2 missing goes left, 4 zero is missing, 8 NaN is missing
  left.npy        int32 [N]       a node of the same tree, counted from its first; a leaf l is ~l
  right.npy       int32 [N]
  leaf.npy        float64 [N+T]
  sets.npy        int32 [C+1]     the words of each set of categories that go left
  words.npy       uint32 [W]      bit b of word w: category 32 w + b
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.artifact import sha256
from core.columns import Array, load_array
from core.errors import ArtifactError

HEADER: Final = "trees.json"
FORMAT_VERSION: Final = 1
CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
MISSING: Final = 12
MISSING_ZERO: Final = 4
MISSING_NAN: Final = 8

_DTYPES: Final = {
    "nodes": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "decision": np.uint8,
    "left": np.int32,
    "right": np.int32,
    "leaf": np.float64,
    "sets": np.int32,
    "words": np.uint32,
}


class UnsupportedModelError(Exception):
    """A model that LightGBM evaluates and these arrays cannot express; the text is the reason."""


@dataclass(frozen=True)
class Forest:
    """T trees over `features` columns; the arrays are those of the module's table."""

    features: int
    nodes: Array
    feature: Array
    threshold: Array
    decision: Array
    left: Array
    right: Array
    leaf: Array
    sets: Array
    words: Array

    def __post_init__(self) -> None:
        if problem := next(_problems(self), None):
            raise ArtifactError(f"trees that cannot be: {problem}")

    def write(self, folder: Path, model: Path) -> None:
        """Write the arrays into `folder`, which is made if it is not there, as those of `model`. The caller provides atomicity."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _DTYPES:
            np.save(folder / f"{name}.npy", getattr(self, name))
        header = {
            "format_version": FORMAT_VERSION,
            "features": self.features,
            "sha256": self.digest(),
            "model_sha256": sha256(model),
        }
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n")

    @classmethod
    def open(cls, folder: Path, model: Path) -> Forest:
        """The arrays in `folder`, which must be those of `model`.

        Raises:
            ArtifactError: if a file is missing, truncated, altered or of another format, or the arrays are another model's.
        """
        header = _header(folder)
        arrays = {name: load_array(folder / f"{name}.npy") for name in _DTYPES}
        try:
            forest = cls(int(header["features"]), **arrays)
        except ArtifactError as e:
            raise ArtifactError(f"{folder}: {e}") from None
        if (found := forest.digest()) != header["sha256"]:
            raise ArtifactError(
                f"{folder}: altered: sha256 {found[:12]} of the arrays, {HEADER} says {header['sha256'][:12]}"
            )
        if not model.exists():
            raise ArtifactError(f"{model}: missing")
        if (found := sha256(model)) != header["model_sha256"]:
            raise ArtifactError(
                f"{model}: sha256 {found[:12]}, but the trees beside it are of {header['model_sha256'][:12]}: truncated or altered"
            )
        return forest

    def digest(self) -> str:
        """Hex sha256 of all arrays."""
        total = hashlib.sha256()
        for name in _DTYPES:
            total.update(np.ascontiguousarray(getattr(self, name)).data)
        return total.hexdigest()

    @property
    def trees(self) -> int:
        """T."""
        return len(self.nodes) - 1

    def tree_of_node(self) -> Array:
        """The tree of each node, int32 `[N]`."""
        return np.repeat(np.arange(self.trees, dtype=np.int32), np.diff(self.nodes))


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = dict(json.loads((folder / HEADER).read_bytes()))
        version = header["format_version"], header["features"], header["sha256"], header["model_sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as e:
        raise ArtifactError(f"{folder / HEADER}: missing or damaged ({e!r})") from None
    if version[0] != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: tree format {version[0]}, this Aisle reads {FORMAT_VERSION}; rebuild it with `./aisle train-ranker`"
        )
    return header


def _problems(forest: Forest) -> Iterator[str]:
    """Whatever could send an evaluator outside the arrays or round in circles."""
    for name, dtype in _DTYPES.items():
        array = getattr(forest, name)
        if array.dtype != dtype or array.ndim != 1:
            yield f"{name} is {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} [n]"
    nodes, total = forest.nodes, len(forest.feature)
    if len(nodes) < 1 or nodes[0] != 0 or nodes[-1] != total or (np.diff(nodes) < 0).any():
        yield f"the trees' nodes do not add up to {total}"
    for name in ("threshold", "decision", "left", "right"):
        if len(getattr(forest, name)) != total:
            yield f"{len(getattr(forest, name))} values of {name}, {total} of feature"
    if len(forest.leaf) != total + forest.trees:
        yield f"{len(forest.leaf)} leaves, expected {total + forest.trees}: one more than nodes in each tree"
    if total and not (forest.feature.min() >= 0 and forest.feature.max() < forest.features):
        yield f"a node asks for a feature beyond the {forest.features}"
    if np.isnan(forest.threshold).any():
        yield "a threshold is NaN"
    yield from _set_problems(forest)
    yield from _shape_problems(forest)


def _set_problems(forest: Forest) -> Iterator[str]:
    sets = forest.sets
    if len(sets) < 1 or sets[0] != 0 or sets[-1] != len(forest.words) or (np.diff(sets) < 0).any():
        yield f"the sets of categories do not add up to {len(forest.words)} words"
    asked = forest.threshold[(forest.decision & CATEGORICAL) > 0]
    if len(asked) and not ((asked >= 0) & (asked < len(sets) - 1)).all():
        yield f"a categorical node asks for a set beyond the {len(sets) - 1}"


def _shape_problems(forest: Forest) -> Iterator[str]:
    """Each node but the first, and each leaf, is the child of exactly one node, which comes before it."""
    if not len(forest.feature):
        return
    tree = forest.tree_of_node()
    first, size = forest.nodes[:-1][tree], np.diff(forest.nodes)[tree]
    own = np.arange(len(tree), dtype=np.int32) - first
    for side in (forest.left, forest.right):
        if not np.where(side >= 0, (side > own) & (side < size), ~side <= size).all():
            yield "a child is not of its tree, or comes before its parent"
            return
    child = np.concatenate([forest.left, forest.right])
    where = np.concatenate([first, first]).astype(np.int64)
    trees = np.concatenate([tree, tree])
    inner, outer = child >= 0, child < 0
    met = np.bincount((where + child)[inner], minlength=len(tree))
    ends = np.bincount((where + ~child + trees)[outer], minlength=len(forest.leaf))
    met[forest.nodes[:-1][np.diff(forest.nodes) > 0]] += 1  # the roots are nobody's children
    alone = forest.nodes[:-1][np.diff(forest.nodes) == 0] + np.flatnonzero(np.diff(forest.nodes) == 0)
    ends[alone] += 1  # nor is the leaf of a tree without nodes
    if (met != 1).any() or (ends != 1).any():
        yield "a node or leaf is the child of none or of several"
