"""Opens a trained ranker and scores matrices with it: by the compiled kernel, or where that cannot be, by LightGBM's predict on one thread.

ranker/
  model.txt     LightGBM's text format: the oracle, and the fallback
  ranker.json   features, their schema hash, the sources it was trained with, metrics (ranking/train.py writes it)
  calibration.json  from scores to probabilities (ranking/calibration.py); optional
  trees/        the same trees as portable arrays (ranking/trees.py); rankers of before there were any lack it and are read from model.txt
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from core.columns import Array
from core.errors import ArtifactError, EnvironmentGapError
from ranking import model_text
from ranking.calibration import Calibration
from ranking.contributions import Contributions
from ranking.feature_list import NAMES, schema_hash
from ranking.kernel import NativeKernel
from ranking.native_contributions import NativeContributions, library
from ranking.trees import Forest, UnsupportedModelError

MODEL: Final = "model.txt"
HEADER: Final = "ranker.json"
TREES: Final = "trees"
FORMAT_VERSION: Final = 1

_LOG = logging.getLogger(__name__)


class Kernel(Protocol):
    """Evaluates a tree ensemble; any number of threads may call it at once."""

    @property
    def n_features(self) -> int:
        """F, the columns that the model was trained on."""

    def predict(self, rows: Array) -> Array:
        """float32 `[n, F]` -> float64 `[n]`."""


class LightGbmKernel:
    """LightGBM's own predict, one thread."""

    def __init__(self, model: Path) -> None:
        # imported here, so that a release without a ranker is served without the library
        import lightgbm

        try:
            self._booster = lightgbm.Booster(model_file=model)
        except lightgbm.basic.LightGBMError as e:
            raise ArtifactError(f"{model}: truncated or not a LightGBM model ({e})") from None

    @property
    def n_features(self) -> int:
        """See Kernel."""
        return int(self._booster.num_feature())

    def predict(self, rows: Array) -> Array:
        """See Kernel."""
        return np.asarray(self._booster.predict(rows, num_threads=1), np.float64)

    def contributions(self, rows: Array) -> Array:
        """float32 `[n, F]` -> float64 `[n, F + 1]`, as ranking.contributions.Contributions."""
        return np.asarray(self._booster.predict(rows, num_threads=1, pred_contrib=True), np.float64)


def open_kernel(folder: Path) -> Kernel:
    """The fastest kernel here for the model in `folder`; where that is LightGBM's own, the log says why.

    Raises:
        ArtifactError: if a file is missing, truncated or altered, or the trees are not those of the model.
    """
    model, trees = folder / MODEL, folder / TREES
    try:
        return NativeKernel(Forest.open(trees, model) if trees.exists() else model_text.read(model))
    except (EnvironmentGapError, UnsupportedModelError) as reason:
        _LOG.warning("%s: scored by LightGBM's predict, several times slower: %s", model, reason)
        return LightGbmKernel(model)


class Scorer:
    """A ranker that fits this code and the sources beside it."""

    def __init__(
        self, kernel: Kernel, header: dict[str, Any], model: Path, calibration: Calibration | None = None
    ) -> None:
        self._kernel, self.header, self._model = kernel, header, model
        self.calibration = calibration

    @classmethod
    def open(cls, folder: Path, sources: Iterable[str]) -> Scorer:
        """Open the ranker in `folder` for candidates of `sources`.

        Raises:
            ArtifactError: if a file is missing or damaged, or the ranker was trained on other features or other sources; both sides are shown.
        """
        header = read_header(folder)
        if header["format_version"] != FORMAT_VERSION:
            raise ArtifactError(
                f"{folder}: ranker format {header['format_version']}, this Aisle reads {FORMAT_VERSION}; "
                "rebuild it with `./aisle train-ranker`"
            )
        _same_features(folder, header)
        trained, here = sorted(header["sources"]), sorted(sources)
        if trained != here:
            raise ArtifactError(
                f"{folder}: the ranker of another release: trained with sources {', '.join(trained)}; here are {', '.join(here)}"
            )
        kernel = open_kernel(folder)
        if kernel.n_features != len(NAMES):
            raise ArtifactError(
                f"{folder / MODEL}: takes {kernel.n_features} features, {HEADER} beside it names {len(NAMES)}: "
                "parts of different releases never meet"
            )
        with contextlib.suppress(EnvironmentGapError):  # the log has it from `open_kernel`
            library()  # compiled here, so that nobody waits for it who asks for an explanation
        return cls(kernel, header, folder / MODEL, Calibration.open(folder, folder / MODEL))

    def score(self, matrix: Array) -> Array:
        """float32 `[n, F]` of ranking.features.matrix -> float64 `[n]`, higher is better; comparable within one request only."""
        return self._kernel.predict(matrix) if len(matrix) else np.empty(0, np.float64)

    def contributions(self, matrix: Array) -> Array:
        """What each feature adds to each score, float32 `[n, F]` -> float64 `[n, F + 1]`: SHAP values, and the mean score last.

        A row adds up to its score (to rounding). A page of twenty takes about a millisecond by the compiled kernel, and a hundred in numpy.
        """
        return self._explain(matrix)

    @cached_property
    def _explain(self) -> Callable[[Array], Array]:
        """Made when somebody first asks."""
        for kind in (NativeContributions, Contributions):
            try:
                return kind.open(self._model)
            except (EnvironmentGapError, UnsupportedModelError) as reason:
                _LOG.warning("%s: not explained by %s, but slower: %s", self._model, kind.__name__, reason)
        return LightGbmKernel(self._model).contributions


def read_header(folder: Path) -> dict[str, Any]:
    """`ranker.json` of a ranker folder."""
    try:
        return dict(json.loads((folder / HEADER).read_bytes()))
    except (FileNotFoundError, ValueError) as e:
        raise ArtifactError(f"{folder / HEADER}: missing or not JSON ({e})") from None


def _same_features(folder: Path, header: dict[str, Any]) -> None:
    if header["schema"] == schema_hash():
        return
    trained, here = list(header["features"]), list(NAMES)
    only_there, only_here = sorted(set(trained) - set(here)), sorted(set(here) - set(trained))
    what = (
        f"only there {only_there}, only here {only_here}"
        if only_there or only_here
        else "same names, another order or meaning"
    )
    raise ArtifactError(
        f"{folder}: the ranker of another release: feature schema {header['schema'][:12]} with {len(trained)} features, "
        f"this Aisle has {schema_hash()[:12]} with {len(here)}; {what}"
    )
