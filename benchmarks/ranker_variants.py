"""Would the ranker order better with other settings, or with the blend's own score as a feature? Variants against the present one, in pairs.

    python -m benchmarks.ranker_variants --work WORK --variant blend --variant leaves=15,shrinkage=50 [--seeds 1,2] [--requests 2000]
        [--validate 500] [--trees 150] [--config F]

A variant is a list of words: `key=value` is a setting of `ranker` in configs/pipeline.yaml; `blend` gives the trees one more column, the score by which
the unlearned blend orders (its weights were chosen on the validation window, so this variant has an advantage there). The training set `[T1, Tv)` and the
validation set `[Tv, T2)` are those of `train-ranker` at a smaller size, made once; nothing after T2 is read. Every ranker is grown anew, once a seed, to
`--trees` trees. `lift` is NDCG@10 of the mean over the seeds less that of the present ranker, with the paired bootstrap interval over the people who
validate; `blended` is the unlearned blend. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import yaml

from core.columns import Array
from core.config import PipelineConfig, RankerConfig, checked, load_pipeline
from core.work import Work
from pipeline.paired import lift
from pipeline.tune_ranker import training_sets
from pipeline.twin import blend_weights
from ranking.feature_list import NAMES, SOURCES
from ranking.train import TrainingSet, blend_ndcg, grow, request_ndcg

BLEND: Final = "blend"


class Variant(NamedTuple):
    """One way to train."""

    name: str
    blend: bool  # whether the blend's score is a column
    settings: dict[str, Any]  # of `ranker`, instead of the present ones

    @classmethod
    def of(cls, text: str) -> Variant:
        """From words with commas between them.

        >>> Variant.of("blend,leaves=15")
        Variant(name='blend,leaves=15', blend=True, settings={'leaves': 15})
        """
        words = text.split(",")
        settings = {k: yaml.safe_load(v) for k, _, v in (w.partition("=") for w in words if w != BLEND)}
        return cls(text, BLEND in words, settings)


def main() -> None:
    """Build the two sets, then grow the present ranker and each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="with prepared data and fitted sources")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--variant", action="append", required=True, help="may be repeated")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--requests", type=int, default=2000, help="to learn from")
    parser.add_argument("--validate", type=int, help="requests at most; default: a quarter as many")
    parser.add_argument("--trees", type=int, default=150)
    arguments = parser.parse_args()
    work, config = Work(arguments.work), load_pipeline(arguments.config)
    variants, seeds = [Variant.of(v) for v in arguments.variant], [int(s) for s in arguments.seeds.split(",")]
    for variant in variants:
        changed(config.ranker, variant)  # refused here, not after the sets were made
    learn, validate = training_sets(work, config, arguments.requests, say, arguments.validate)
    weights = blend_weights(work.latest("train-retrieval"))
    print(json.dumps(compare(learn, validate, config, variants, weights, seeds, arguments.trees)))


def compare(
    learn: TrainingSet,
    validate: TrainingSet,
    config: PipelineConfig,
    variants: Sequence[Variant],
    weights: Mapping[str, float],
    seeds: Sequence[int],
    trees: int,
) -> dict[str, Any]:
    """The figures, given the sets."""
    found = len(validate) / (len(validate) + validate.dropped)  # a dropped request counts as 0 in every order
    present = judged(learn, validate, config.ranker, Variant("present", False, {}), weights, seeds, trees)
    result: dict[str, Any] = {"learn": len(learn), "validate": len(validate), "trees": trees, "seeds": list(seeds)}
    result |= {"ndcg@10": round(found * float(present.mean()), 4)}
    result |= {"blended": round(blend_ndcg(validate, weights), 4), "variants": {}}
    say(f"present {result['ndcg@10']}, the blend {result['blended']}")
    for variant in variants:
        values = judged(learn, validate, config.ranker, variant, weights, seeds, trees)
        sure = [round(v, 4) for v in lift(values.mean(axis=0), present.mean(axis=0), validate, config.evaluation)]
        by_seed = [round(found * float(d), 4) for d in (values - present).mean(axis=1)]
        result["variants"][variant.name] = {"lift": sure, "by_seed": by_seed}
        say(f"{variant.name}: {sure}, by seed {by_seed}")
    return result


def judged(
    learn: TrainingSet,
    validate: TrainingSet,
    present: RankerConfig,
    variant: Variant,
    weights: Mapping[str, float],
    seeds: Sequence[int],
    trees: int,
) -> Array:
    """NDCG@10 of each validation request after training with each seed, float64 `[seeds, q]`."""
    config = changed(present, variant)
    if variant.blend:
        learn, validate = with_blend(learn, weights), with_blend(validate, weights)
    grown = [grow([learn], trees, config.model_copy(update={"seed": seed})).booster for seed in seeds]
    return np.array([request_ndcg(validate, booster.predict(validate.matrix)) for booster in grown])


def changed(present: RankerConfig, variant: Variant) -> RankerConfig:
    """The settings of a variant.

    Raises:
        ConfigError: if there is no such setting, or no such value of it.
    """
    return checked(RankerConfig, present.model_dump() | variant.settings, f"--variant {variant.name}")


def with_blend(rows: TrainingSet, weights: Mapping[str, float]) -> TrainingSet:
    """The rows with the blend's score as their last column."""
    scores = np.zeros(len(rows.grades), np.float32)
    for source, weight in weights.items():
        if source in SOURCES:
            scores += np.float32(weight) * rows.matrix[:, NAMES.index(f"{source}.score")]
    matrix = np.concatenate([rows.matrix, scores[:, None]], axis=1)
    return replace(rows, matrix=matrix, names=(*rows.names, BLEND))


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
