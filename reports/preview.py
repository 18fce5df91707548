# SPDX-License-Identifier: Apache-2.0
"""Preview images for TensorBoard while an evaluation runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from datasets.spec import DatasetSpec
from metrics.result import Gather, ImageResult
from reports.files import colored, grey, is_ids
from reports.image_dump import composite
from reports.sinks import EveryImageSink

HEIGHT = 384  # pixels of a preview
NUM_PREVIEWS = 3  # images of an evaluation that are shown


class PreviewSink(EveryImageSink):
    """Shows blends of image and prediction of the first `count` images; only on rank 0.

    `show(title, image, step)` takes a float (3, h, w) image in 0..1. Titles are
    "{phase}/{image}", with `assets` also "{phase}/{image}/{map}" for every extra map.
    """

    def __init__(
        self,
        show: Callable[[str, torch.Tensor, int], None],
        spec: DatasetSpec,
        *,
        step: int,
        is_main: bool,
        phase: str = "val",
        count: int = NUM_PREVIEWS,
        assets: bool = False,
    ) -> None:
        self.show, self.palette, self.step, self.is_main = show, spec.flat_palette(), step, is_main
        self.phase, self.count, self.assets = phase, count, assets

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "assets"} if self.assets else {"image"})

    def wants(self, index: int) -> bool:
        return self.is_main and index < self.count

    def add(self, result: ImageResult) -> None:
        """Show one image."""
        assert result.image is not None
        self._show(result.name, composite(result.image, result.pred, self.palette))
        if not self.assets:
            return
        for kind, values in sorted(result.assets.items()):
            shown = colored(values, self.palette) if is_ids(values) else grey(values)
            self._show(f"{result.name}/{kind}", shown)

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Nothing to collect: the event file belongs to rank 0."""

    def _show(self, title: str, picture: npt.NDArray[Any]) -> None:
        height, width = picture.shape[:2]
        if height > HEIGHT:
            size = (max(round(width * HEIGHT / height), 1), HEIGHT)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
        self.show(f"{self.phase}/{title}", tensor, self.step)
