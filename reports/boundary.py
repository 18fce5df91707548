# SPDX-License-Identifier: Apache-2.0
"""Boundary F-scores of an evaluation, counted while images stream by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.spec import NUM_RAW_IDS, DatasetSpec
from metrics.boundary_scores import HMSA_THRESHOLD, BoundaryScores
from metrics.distance_crop import distance_window
from metrics.result import Gather, ImageResult
from reports.sinks import EveryImageSink
from runtime.errors import UserError

RAW_IGNORED = 255


class BoundarySink(EveryImageSink):
    """Adds up the boundary scores of every labelled image; after `close`, `scores` covers all
    ranks.

    `thresholds`, `modified` and `ignore_missing` as in `BoundaryScores`. `crop` (H, W): only the
    `distance_window` counts. `raw_labels`: predictions are compared with the ids in the label
    files, 0 ignored; this is how HILA published ADE20K, where class k has the id k + 1.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        spec: DatasetSpec,
        thresholds: Sequence[float] = (HMSA_THRESHOLD,),
        *,
        modified: bool = False,
        ignore_missing: bool = False,
        raw_labels: bool = False,
        crop: tuple[int, int] | None = None,
    ) -> None:
        self.scores = BoundaryScores(
            spec.num_classes,
            tuple(thresholds),
            modified=modified,
            ignore_missing=ignore_missing,
            ignore_label=RAW_IGNORED if raw_labels else None,
        )
        self.crop, self.table = crop, None
        if raw_labels:
            if not 0 <= min(spec.train_id_to_id) <= max(spec.train_id_to_id) < RAW_IGNORED:
                raise UserError(
                    f"--eval_f1_labels raw needs class ids 0..254, and {spec.name} has others; "
                    "leave it out"
                )
            self.table = np.full(NUM_RAW_IDS, RAW_IGNORED, np.uint8)
            self.table[: spec.num_classes] = spec.train_id_to_id

    def add(self, result: ImageResult) -> None:
        """Count one image."""
        if result.label is None:
            return
        pred, label = result.pred, result.label
        if self.crop is not None:
            window = distance_window(label.shape[0], label.shape[1], self.crop)
            pred, label = pred[window], label[window]
        self.scores.update(pred, label if self.table is None else self.table[label])

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Sum over the ranks, in their order, so that all have the same numbers."""
        own = self.scores
        parts = gather((own.num_images, own.sums, own.counted))
        own.num_images, own.sums, own.counted = 0, 0 * own.sums, 0 * own.counted
        for part in parts:
            own.add(*part)
