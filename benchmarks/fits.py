"""The sources, towers, quotas and blend weights that a night makes as of one fold, fitted once and kept in WORK/benchmarks/retrieval/<id>/<fold>/.

The order is the night's (retrieval.fit): towers are cold at the first fold of the protocol and go on warm at each later one. A night also fits the
release on everything, which no measurement may use; it is left out here, and the stages of WORK stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.union import DEPTH, Asked, Union, page_quotas, unite
from core import atomic
from core.artifact import code_version, hash_json
from core.candidates import Source
from core.config import PipelineConfig
from core.prepared import CHOOSE, LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Fold, Prepared
from evaluation.relevance import Relevance
from retrieval.defaults import adapted, decide
from retrieval.fit import WEIGHTS, fit_sources, fit_weights
from retrieval.quotas import read_quotas
from retrieval.sources import TOWERS, open_sources

Say = Callable[[str], None]

CHAINS: Final[dict[str, tuple[Fold, ...]]] = {"global": (TRAIN, CHOOSE, TWIN), "last": (LAST_TRAIN, LAST_TWIN)}


class Fit:
    """What is known as of `fold`; quotas and blend weights were chosen on the window that ends there (`last-train`: on the one after it)."""

    def __init__(self, work: Path, prepared: Prepared, fold: Fold, config: PipelineConfig, say: Say) -> None:
        config = adapted(config, decide(prepared, config))
        self.config, self.seed = config, config.towers.seed
        chain = CHAINS[fold.protocol]
        chain = chain[: chain.index(fold) + 1]
        root = work / "benchmarks" / "retrieval" / identity(prepared, config)
        for before, now in zip((None, *chain), chain, strict=False):
            fit_fold(root, prepared, before, now, config, say)
        self.sources: tuple[Source, ...] = open_sources(root / fold.name)
        quotas, self.weights = chosen_at(root, prepared, chain[-2 if len(chain) > 1 else -1], config, say)
        self.quotas = page_quotas(quotas, config.sources, DEPTH)

    def source(self, name: str) -> Source:
        """One of the sources."""
        return next(s for s in self.sources if s.name == name)

    def unite(self, asked: Asked, relevance: Relevance) -> Union:
        """The union for a page of DEPTH."""
        return unite(self.sources, self.quotas, self.weights, asked, relevance)


def identity(prepared: Prepared, config: PipelineConfig) -> str:
    """Names what a fit depends on."""
    settings = [config.towers.fingerprint(), config.sources.fingerprint(), config.evaluation.fingerprint()]
    return hash_json([prepared.manifest.id, *settings, code_version("core", "retrieval")])[:32]


def fit_fold(root: Path, prepared: Prepared, before: Fold | None, now: Fold, config: PipelineConfig, say: Say) -> None:
    """Fit one fold into `root`, unless it is there: sources, and towers that go on from those of `before`."""
    if (root / now.name).exists():
        return
    # TensorFlow takes seconds to import: only a run that trains needs it
    from retrieval.towers.train import fit_towers

    with atomic.new_directory(root / now.name) as folder:
        fit_sources(prepared, now, config, folder, say)
        warm = root / before.name / TOWERS if before else None
        fit_towers(prepared, now, config, folder / TOWERS, say, warm_from=warm)


def chosen_at(
    root: Path, prepared: Prepared, fold: Fold, config: PipelineConfig, say: Say
) -> tuple[dict[str, int], dict[str, float]]:
    """Quotas and blend weights chosen on the window after `fold`, which is fitted in `root`; kept there."""
    path = root / fold.name / WEIGHTS
    if not path.exists():
        quotas, weights, _ = fit_weights(prepared, fold, config, root / fold.name, say)
        quotas.write(path.parent)
        atomic.write_bytes(path, json.dumps(weights, indent=1, sort_keys=True).encode())
    return read_quotas(path.parent), dict(json.loads(path.read_bytes()))
