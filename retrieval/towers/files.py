"""The files of fitted towers, and the night's work where they stay as they are. numpy alone.

towers.json             format, embedding id, sizes, fold, facts
item_vectors.npy        float32 [n, d], row-aligned with the prepared item ids; zero for an item of which nothing is known
has_vector.npy          bool [n]: something is known of the item
query_tower.tflite      float32, batch 1: vectors [1, l, d], type, gap, segment int32 [1, l] -> [1, d]; where attributes of people are read (format
                        2), of person [1, d] and heard [1] too
item_tower/ids.npy      float32 [m + 1, d]: id part of each item there was in training, the last row that of an item without one
item_tower/has_id.npy   bool [m]
item_tower/tokens.npy   uint64 [v], sorted hashes; item_tower/token_vectors.npy float32 [v, d]
person_tower/           of format 2: tokens.npy uint64 [u], sorted hashes, token_vectors.npy float32 [u, d]
warm.npz                weights of the query tower and the temperature

The embedding id names what was learned, not the catalogue. Where the towers stay while the catalogue changes (`carry`), new and changed items get
vectors; what was learned, and the id with it, is linked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import atomic
from core.errors import ArtifactError
from core.prepared import Fold, Prepared
from core.tokens import Bags, item_bags
from retrieval.item_tower import ItemTower

FORMAT_VERSION: Final = 1
WITH_PEOPLE: Final = 2  # and what people say of themselves; `newcomers` in the header: whether attributes alone may ask
HEADER: Final = "towers.json"
_OF_THE_NIGHT: Final = (HEADER, "item_vectors.npy", "has_vector.npy")


def read_header(folder: Path) -> dict[str, Any]:
    """What the towers in `folder` say of themselves.

    Raises:
        ArtifactError: if there are none, or they are of another format.
    """
    try:
        header: dict[str, Any] = json.loads((folder / HEADER).read_bytes())
    except (FileNotFoundError, ValueError) as e:
        raise ArtifactError(f"{folder / HEADER}: missing or not JSON ({e})") from None
    if header["format_version"] not in (FORMAT_VERSION, WITH_PEOPLE):
        raise ArtifactError(
            f"{folder}: towers of format {header['format_version']}, this Aisle reads {FORMAT_VERSION} and {WITH_PEOPLE}; train them anew"
        )
    return header


def write_header(header: Mapping[str, Any], out: Path) -> None:
    """Leave `towers.json`."""
    (out / HEADER).write_text(json.dumps(header, indent=1, sort_keys=True) + "\n")


def write_vectors(tower: ItemTower, bags: Bags, out: Path) -> None:
    """Leave the vector of every item, by the content of the whole catalogue."""
    vectors, known = tower.vectors(bags)
    np.save(out / "item_vectors.npy", vectors)
    np.save(out / "has_vector.npy", known)


def check_window(folder: Path, fold: Fold, until: int) -> None:
    """Refuse towers that know what `fold`, which stands for the moment `until`, must not (design 5).

    Raises:
        ArtifactError: if their window ends later, or is cut by the other protocol.
    """
    old = read_header(folder)
    if (
        old["protocol"] != fold.protocol
        or old["until"] > until
        or (fold.protocol == "last" and old["below"] > fold.below)
    ):
        raise ArtifactError(
            f"{folder}: towers of fold {old['fold']!r} (until {old['until']}) know events that fold {fold.name!r} (until {until}) must not:"
            " a start or a night descends only from a window that ends no later"
        )


def carry(old: Path, prepared: Prepared, fold: Fold, out: Path) -> None:
    """Leave in the new folder `out` the towers of `old`, with the items of `prepared`, whose id map is an extension of theirs.

    Raises:
        ArtifactError: if those towers know events that `fold` must not.
    """
    check_window(old, fold, prepared.until(fold))
    atomic.link_tree(old, out, without=_OF_THE_NIGHT)
    write_vectors(ItemTower.open(out), item_bags(prepared.items), out)
    write_header(read_header(old) | {"items": len(prepared.item_ids), "prepared": prepared.manifest.id}, out)
