"""Trained towers as Keras has them, from the files that a fit left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.config import PipelineConfig, load_pipeline
from core.prepared import Prepared
from core.tokens import item_bags, look_up
from retrieval.item_tower import ItemTower
from retrieval.query import QueryTower
from retrieval.towers.export import load_weights
from retrieval.towers.model import Shape, Towers
from retrieval.towers.people import People


def sized(towers: Mapping[str, object]) -> PipelineConfig:
    """The defaults, with other settings of the towers."""
    base = load_pipeline()
    return base.model_copy(update={"towers": base.towers.model_copy(update=dict(towers))})


def reopened(prepared: Prepared, fitted: Path, config: PipelineConfig) -> Towers:
    """The model whose weights lie in `fitted`, with the sizes of `config`."""
    tokens, c, n = ItemTower.open(fitted).tokens, config.towers, len(prepared.item_ids)
    known = QueryTower.open(fitted).people
    shape = Shape(n, len(tokens), c.dimensions, c.events, c.blocks, c.heads, c.dropout, c.id_dropout)
    people = () if known is None else (People.of(prepared.told, known.tokens),)
    content, rng = look_up(item_bags(prepared.items), tokens), np.random.default_rng(0)
    towers = Towers(shape, content, np.zeros(n, bool), np.zeros(n, np.float32), 1, rng, *people)
    load_weights(towers, tokens, fitted)
    return towers
