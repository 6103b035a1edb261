"""What a fit leaves after each whole pass, so that a killed one goes on from there.

    <folder>/state.npz      `about` (JSON: which fit this is, and how far it came) and arrays by group: weights, optimizer, best weights so far

A checkpoint is of one fit: same data, fold, configuration, code and warm start. Any other, or one that cannot be read, is left aside and written over.
That of a finished fit stays, so that a run killed in a later fold only exports again; whoever runs the fits removes them all at the end.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import atomic
from core.columns import Array

_FILE: Final = "state.npz"
_ABOUT: Final = "about"

Groups = Mapping[str, Sequence[Array]]


@dataclass
class Progress:
    """How far a fit has come."""

    phase: int  # of Fit: searching for the number of epochs, or the final passes
    epoch: int = 0  # whole passes of this phase
    spent: float = 0.0  # seconds since the fit began, those of killed processes included up to their last whole pass
    last: float = 0.0  # seconds of the last pass
    best: float = -np.inf  # the validation figure of the best weights
    best_at: int = 0  # the epoch of the search that made them
    newcomers: dict[str, Any] | None = None  # what the search found of attributes alone (retrieval/towers/export.py)


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of the fit `id` in `folder`, which holds nothing else; without a folder nothing is kept."""

    folder: Path | None
    id: str

    def save(self, progress: Progress, groups: Groups) -> None:
        """Replace what is there, in one step that survives a kill at any moment."""
        if self.folder is None:
            return
        about = np.array(json.dumps({"id": self.id, "progress": asdict(progress)}))
        arrays = {f"{name}/{i}": array for name, group in groups.items() for i, array in enumerate(group)}
        with atomic.new_file(self.folder / _FILE) as beside, open(beside, "wb") as f:
            np.savez(f, allow_pickle=False, **{_ABOUT: about, **arrays})

    def load(self) -> tuple[Progress, dict[str, list[Array]]] | None:
        """What this fit left; None if it left nothing, or nothing that can be read."""
        if self.folder is None or not (self.folder / _FILE).exists():
            return None
        atomic.sweep(self.folder)  # what a kill in the middle of `save` left
        try:
            with np.load(self.folder / _FILE) as saved:
                about = json.loads(str(saved[_ABOUT]))
                if about["id"] != self.id:
                    return None
                groups: dict[str, list[Array]] = {}
                for name in saved.files:
                    if name != _ABOUT:
                        groups.setdefault(name.partition("/")[0], []).append(saved[name])
            return Progress(**about["progress"]), groups
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None
