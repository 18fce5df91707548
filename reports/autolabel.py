# SPDX-License-Identifier: Apache-2.0
"""Labels made by a network: {name}.png with raw ids, {name}_prob.png with confidences.

The confidence is the largest softmax value times 255, truncated. Sub-folders of names are
kept, which is the layout that the auto-labelled training set is read from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.headers import item_size
from datasets.spec import DatasetSpec, Item
from metrics.result import Gather, ImageResult
from reports.autolabel_page import NUM_STEPS, write_autolabel_page
from reports.files import encode_png, levels
from reports.rawids import to_raw_ids, to_size
from reports.sinks import NEW_DUMP, DumpIdentity, ResumableSink
from reports.stored_images import ImageRow
from reports.writers import Writers
from runtime.files import write_atomic

PAGE = "autolabels.html"

Picture = npt.NDArray[np.uint8]
Kept = dict[str, list[int]]  # class -> pixels by confidence, NUM_STEPS steps


@dataclass(frozen=True, kw_only=True)
class _Job:
    """The pictures of one image, and where they go."""

    out_dir: Path
    files: dict[str, str]
    pred: Picture
    ids: npt.NDArray[Any]
    prob: Picture

    def run(self) -> Kept:
        """Write both files; the ids come last and mark a finished image."""
        write_atomic(self.out_dir / self.files["prob"], encode_png(self.prob))
        write_atomic(self.out_dir / self.files["ids"], encode_png(self.ids))
        return confidence_counts(self.pred, self.prob)


def confidence_counts(pred: Picture, prob: Picture) -> Kept:
    """Pixels of every class found in `pred`, by confidence: step k holds k/20 to (k+1)/20.

    pred: (H, W) train ids; prob: (H, W) confidence times 255. The last step includes 1.
    """
    steps = np.minimum(np.arange(256) * NUM_STEPS // 255, NUM_STEPS - 1)
    both = pred.astype(np.intp) * NUM_STEPS + steps[prob]
    counts = np.bincount(both.ravel(), minlength=NUM_STEPS * 256).reshape(-1, NUM_STEPS)
    return {str(number): counts[number].tolist() for number in np.flatnonzero(counts.sum(1))}


class AutoLabelSink(ResumableSink):
    """Writes ids and confidences of every image under `out_dir`, at the size of its file.

    `items` are the images of the data set. `workers` processes encode and write while the network
    goes on; with 0 this process does. The page tells what the labels keep at `threshold`.
    """

    needs = frozenset({"prob"})

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        items: Sequence[Item],
        identity: DumpIdentity = NEW_DUMP,
        *,
        workers: int = 0,
        threshold: float | None = None,
    ) -> None:
        super().__init__(out_dir, spec, "autolabel", identity)
        self.threshold = threshold
        self.images = {item.name: item for item in items}
        spec.inverse_lut()  # fails at once if ids cannot be written
        self.writers = Writers(workers, self._note)
        if any(not self.done(item.name) for item in items):
            self.writers.start()

    def add(self, result: ImageResult) -> None:
        """Have both files of one image written, then note it as stored."""
        assert result.prob is not None
        size = item_size(self.images[result.name])
        pred = to_size(result.pred, size, result.name)
        job = _Job(
            out_dir=self.out_dir,
            files={
                "ids": self.file(result.name, after=".png"),
                "prob": self.file(result.name, after="_prob.png"),
            },
            pred=pred,
            ids=to_raw_ids(pred, self.spec),
            prob=to_size(levels(result.prob), size, result.name),
        )
        facts = {"name": result.name, "index": result.index, "size": size, "files": job.files}
        self.writers.submit(job, result.name, facts)

    def _note(self, kept: Kept, facts: dict[str, Any]) -> None:
        self.stored.add(ImageRow(**facts, facts={"kept": kept}))

    def close(self, rank: int, world: int, gather: Gather) -> list[tuple[str, Exception]]:
        """Wait for the writers and collect the rows of all ranks; returns what could not be
        written."""
        failed = self.writers.finish()
        super().close(rank, world, gather)
        return failed

    def report(self, protocol: Mapping[str, Any]) -> str:
        """Write the page; where it is."""
        return f"auto labels: {self.finish(self.threshold, dict(protocol))}"

    def finish(self, threshold: float | None, run: dict[str, Any]) -> Path:
        """Write the page about what the labels keep at `threshold`; returns its path."""
        counts = np.zeros((self.spec.num_classes, NUM_STEPS), np.int64)
        images = np.zeros(self.spec.num_classes, np.int64)
        for row in self.rows:
            for number, values in row.facts.get("kept", {}).items():
                counts[int(number)] += values
                images[int(number)] += 1
        path = self.out_dir / PAGE
        write_autolabel_page(
            path,
            spec=self.spec,
            counts=counts,
            images=images,
            num_images=len(self.rows),
            threshold=threshold,
            run=run,
        )
        return path
