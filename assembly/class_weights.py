# SPDX-License-Identifier: Apache-2.0
"""`--class_weights`: numbers as they were typed, or what the labels of the training set say."""

from __future__ import annotations

from assembly.dataset import cache_dir
from assembly.sets import Sets
from datasets.prepare import alone
from datasets.registry import is_black
from datasets.spec import DatasetSpec
from datasets.verify import verify_items
from loss.class_weights import weights_of
from runtime.errors import UserError
from runtime.progress import Log
from settings import Settings
from settings.catalogue import with_values
from settings.loss import AUTO, WEIGHTS

KEY = "LOSS.CLASS_WEIGHTS"


def with_class_weights(settings: Settings, spec: DatasetSpec, sets: Sets, log: Log) -> Settings:
    """`settings` with the weights of `--class_weights` in LOSS.CLASS_WEIGHTS.

    The pixels of `auto` are those of the images that every epoch draws from; they have been counted
    when the set was checked. Raises UserError for a wrong number of weights.
    """
    asked = settings.loss.class_weights
    if asked is None:
        return settings
    weights = _counted(settings, spec, sets) if asked == AUTO else WEIGHTS(asked)
    if len(weights) != spec.num_classes:
        raise UserError(
            f"--class_weights: {len(weights)} numbers, {spec.name} has {spec.num_classes} classes "
            f"({', '.join(spec.class_names[:8])}{', ...' if spec.num_classes > 8 else ''})"
        )
    shown = zip(spec.class_names, weights, strict=True)
    log("class weights: " + ", ".join(f"{name} {weight:.4g}" for name, weight in shown))
    return with_values(settings, {KEY: weights})


def _counted(settings: Settings, spec: DatasetSpec, sets: Sets) -> tuple[float, ...]:
    """Weights by the pixels of the training labels."""
    if is_black(settings.data.dataset):
        raise UserError(f"--class_weights auto: --dataset {settings.data.dataset} has no labels")
    items = sets.coarse(spec) if settings.data.only_coarse else sets.train
    cache, workers = cache_dir(settings), max(settings.data.num_workers, 1)
    with alone(cache, lambda line: None):  # the check of the set has said it
        facts = verify_items(items, spec, cache, workers, stamps=sets.stamps)
    return weights_of(facts.counts[: spec.num_classes].tolist())
